//! Signals a process through a pidfd (SAFETY.md T16): the pidfd is opened first, then the process is compared
//! with the plan, then it is signalled. A pid that was reused in between cannot be hit.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::{NotDone, Session};
use crate::domain::identity::ProcId;
use crate::domain::op::{ProcessTarget, Signal};
use crate::domain::receipt::Outcome;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::sys::procfs::Proc;

/// Longest time between two looks at the cancel flag.
pub const TICK: Duration = Duration::from_millis(100);

/// Sends a signal and waits for the process to end.
pub fn signal(
    session: &mut Session<'_>,
    target: &ProcessTarget,
    signal: Signal,
    wait_secs: u64,
    group: u32,
) -> Result<Outcome, NotDone> {
    guards::not_ourselves(&session.proc, target.id.pid).map_err(NotDone::Skip)?;
    let pidfd = match session.pidfds.remove(&group) {
        // It pins the process that was compared when TERM was sent.
        Some((id, pidfd)) if id == target.id => {
            if has_ended(&pidfd) {
                return Err(NotDone::Skip(format!("{} has ended already", target.id)));
            }
            pidfd
        }
        _ => open(&session.proc, target.id)?,
    };
    guards::same_process(&session.proc, target).map_err(NotDone::Skip)?;
    let number = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    match pidfd_send_signal(&pidfd, number) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Err(NotDone::Skip(format!("{} has ended already", target.id))),
        Err(errno) => {
            return Err(NotDone::Fail(could_not(&format!("send {signal} to {}", target.id), errno)));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(wait_secs);
    loop {
        if has_ended(&pidfd) {
            return Ok(Outcome::Done { count: 1 });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if session.stop().wanted() {
            return Ok(Outcome::Cancelled { count: 0 });
        }
        wait(&pidfd, left.min(TICK));
    }
    session.pidfds.insert(group, (target.id, pidfd));
    Err(NotDone::Fail(match signal {
        Signal::Term => format!("{signal} was sent, but {} is still alive after {wait_secs} s", target.id),
        Signal::Kill => format!(
            "{signal} was sent, but {} is still there after {wait_secs} s: it waits in the kernel, most likely for a \
             disk or server that does not answer (look at /proc/{}/stack)",
            target.id, target.id.pid
        ),
    }))
}

/// Opens a pidfd of what `/proc` shows under that number; whether it is the right process is to be asked after that.
pub fn open(proc: &Proc, id: ProcId) -> Result<OwnedFd, NotDone> {
    let pid = Pid::from_raw(id.pid.0).ok_or_else(|| NotDone::Skip(format!("{id} is no process id")))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH => NotDone::Skip(format!("{id} has ended already")),
        Errno::NOSYS => NotDone::Fail(
            "this kernel has no pidfd_open (Linux 5.3); without it another process could be hit".to_owned(),
        ),
        errno => NotDone::Fail(could_not(&format!("open {id}"), errno)),
    })?;
    guards::same_numbers(proc, id, &pidfd).map_err(NotDone::Skip)?;
    Ok(pidfd)
}

/// A pidfd becomes readable when the process ends (`pidfd_open(2)`).
pub fn has_ended(pidfd: &OwnedFd) -> bool {
    wait(pidfd, Duration::ZERO)
}

/// Waits so long at most for a process to end. Says whether it has.
pub fn wait(pidfd: &OwnedFd, time: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    // An interruption counts as "not yet"; the caller comes back.
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
