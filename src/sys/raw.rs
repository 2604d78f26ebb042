//! The only file with unsafe code: system calls that rustix and nix do not wrap safely.
#![expect(unsafe_code, reason = "fork, and what a forked child may do, have no safe wrapper (DESIGN.md)")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io;
use rustix::process::{Pid, Signal};

use super::child::{Answer, Question};

/// Forks a child that answers one question into a pipe and exits. Returns the child's pid.
///
/// # Errors
/// What fork(2) says: `EAGAIN` at a process limit, `ENOMEM`.
pub(super) fn fork_to_answer(question: &Question, pipe: BorrowedFd<'_>) -> io::Result<Pid> {
    // SAFETY: fork(2) in a program with several threads leaves the child with this thread only, and locks of
    // the others held for ever; the child may therefore only do what is async-signal-safe (fork(2) NOTES, signal-safety(7)).
    // `answer_and_exit` never returns and upholds that: see there.
    match unsafe { libc::fork() } {
        0 => answer_and_exit(question, pipe),
        pid if pid > 0 => Pid::from_raw(pid).ok_or(io::Errno::INVAL),
        _ => Err(last_error()),
    }
}

/// Forks a child that goes on as a copy of the program; returns its pid, or none in the child.
///
/// # Errors
/// What fork(2) says: `EAGAIN` at a process limit, `ENOMEM`.
pub(super) fn fork_alone() -> io::Result<Option<Pid>> {
    // SAFETY: fork(2) itself has no requirement. What makes a copy unsafe to go on with is a second thread, whose locks
    // it would find held for ever; `fork::fork` makes sure that there is none.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Pid::from_raw(pid).map(Some).ok_or(io::Errno::INVAL),
        _ => Err(last_error()),
    }
}

fn last_error() -> io::Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(io::Errno::IO, io::Errno::from_raw_os_error)
}

/// What the forked child does. Allocates nothing, takes no lock, does not unwind: `child::answer` consists of
/// system calls on memory prepared before the fork and arithmetic that cannot overflow.
fn answer_and_exit(question: &Question, pipe: BorrowedFd<'_>) -> ! {
    // The child must not outlive us, and must not keep open what we have open: a reader of our standard output
    // would wait for a child that hangs on a dead server, and a lock of ours would stay held.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    close_all_but(pipe);
    let answer: Answer = super::child::answer(question);
    let _ = io::write(pipe.as_fd(), &answer.to_bytes());
    // SAFETY: _exit(2) ends the child at once, without running destructors or exit handlers of the parent's
    // copy of the program. It is async-signal-safe.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor but one, in a forked child.
fn close_all_but(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().unsigned_abs();
    let close_range = |first: u32, last: u32| {
        if first > last {
            return 0;
        }
        // SAFETY: close_range(2) (Linux 5.9) takes three integers and touches no memory. The descriptors that it closes
        // belong to the child alone, where no Rust value owns them: the child exits without running destructors.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }
    };
    let below = if keep == 0 { 0 } else { close_range(0, keep - 1) };
    if below != 0 || close_range(keep.saturating_add(1), u32::MAX) != 0 {
        // Older kernels: one by one, up to the usual soft limit.
        for fd in (0..1024).filter(|&fd| fd != libc::c_int::try_from(keep).unwrap_or(-1)) {
            // SAFETY: close(2) is async-signal-safe and touches no memory; see above for ownership.
            unsafe { libc::close(fd) };
        }
    }
}
