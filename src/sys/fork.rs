//! Forking a program that goes on in both halves.

use rustix::io::{self, Errno};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::raw;

/// The exit code of a child whose parent was gone before it could be told so: as after SIGTERM.
const ORPHANED: i32 = 128 + 15;

/// Which half of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was there before, with the pid of the other.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Forks while the program has no second thread. The child gets SIGTERM when its parent ends, however that ends
/// (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// # Errors
/// `EBUSY` where there is a second thread, or where that cannot be told; else what fork(2) says.
pub fn fork() -> io::Result<Side> {
    let parent = getpid();
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(Errno::BUSY);
    }
    if let Some(child) = raw::fork_alone()? {
        return Ok(Side::Parent(child));
    }
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    // It may have ended before that.
    if getppid() == Some(parent) { Ok(Side::Child) } else { std::process::exit(ORPHANED) }
}
