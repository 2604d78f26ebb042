//! Children that were started to ask something, and their end. One that hangs in the kernel is sent KILL and reaped
//! later without waiting for it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_open, waitid, waitpid,
};

/// A child of ours that has not been reaped yet.
pub(super) struct Child {
    pid: Pid,
    /// Missing on kernels before 5.3.
    pidfd: Option<OwnedFd>,
}

impl Child {
    /// A child that was just started and that nobody else reaps, so that the pid is still its own.
    pub(super) fn of(pid: Pid) -> Self {
        Self { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).ok() }
    }

    /// Readable once the child has ended (`pidfd_open(2)`); none on kernels before 5.3.
    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "ends a child of our own, started to ask a question, nothing else"
    )]
    pub(super) fn kill(&self) {
        match &self.pidfd {
            Some(pidfd) => {
                let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
            // Not reaped yet, so that the pid cannot mean another process.
            None => {
                let _ = rustix::process::kill_process(self.pid, Signal::KILL);
            }
        }
    }

    /// Gives a child that has said what it had to say a moment to end, so that a program that asks once and ends
    /// leaves nothing behind.
    pub(super) fn let_end(&self) {
        if let Some(pidfd) = &self.pidfd {
            let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&moment));
        }
    }

    /// Reaps it now if it has ended, else some time later.
    pub(super) fn bury(self) {
        if !self.reap()
            && let Ok(mut unburied) = UNBURIED.lock()
        {
            unburied.push(self);
        }
    }

    /// Reaps it if it has ended; never waits.
    fn reap(&self) -> bool {
        let ended = match &self.pidfd {
            Some(pidfd) => {
                waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
                    .map(|status| status.is_some())
            }
            None => waitpid(Some(self.pid), WaitOptions::NOHANG).map(|status| status.is_some()),
        };
        match ended {
            Ok(ended) => ended,
            // Reaped by somebody else, or SIGCHLD is ignored.
            Err(error) => error != Errno::INTR,
        }
    }
}

/// Children that had not ended when they were last looked at.
static UNBURIED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps the children of earlier questions that have ended since. Called by itself before each question; a program
/// that asks rarely can call it now and then.
pub fn bury_the_dead() {
    if let Ok(mut unburied) = UNBURIED.lock() {
        unburied.retain(|child| !child.reap());
    }
}
