//! Leases (`fcntl(2)`, `F_SETLEASE`): whether anybody has a file open, from the kernel itself (SAFETY.md T8).
//!
//! A write lease is given only where nobody else has the file open or mapped, for reading or writing. While it is held,
//! whoever opens the file waits until it is given back, for `/proc/sys/fs/lease-break-time` (45 s) at most; so it is held for
//! moments only. Unlinking or renaming does not break it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::{Errno, Result};

use super::raw;

/// What a broken lease sends instead of SIGIO, which would end the program: a signal that does nothing unless somebody
/// wants it (signal(7)).
const SIGNAL: libc::c_int = libc::SIGURG;

/// How often a lease is looked at that is held for longer.
const LOOK: Duration = Duration::from_millis(10);

/// A write lease: nobody else has the file open.
#[derive(Debug)]
pub struct Lease<'f> {
    file: BorrowedFd<'f>,
}

/// What became of asking for one.
#[derive(Debug)]
pub enum Asked<'f> {
    /// Nobody else has it open.
    Held(Lease<'f>),
    /// Somebody has it open or mapped, or opens it right now.
    InUse,
    /// The kernel cannot say here: the file system has no leases, or the file is another user's.
    Unknown(Errno),
}

impl<'f> Lease<'f> {
    /// Asks for a lease on an open regular file. The descriptor must be the only one we have of it.
    pub fn ask(file: &'f impl AsFd) -> Asked<'f> {
        let file = file.as_fd();
        let asked = raw::set_lease_signal(file, SIGNAL).and_then(|()| raw::set_lease(file, libc::F_WRLCK));
        match asked {
            Ok(()) => Asked::Held(Self { file }),
            Err(Errno::AGAIN) => Asked::InUse,
            Err(errno) => Asked::Unknown(errno),
        }
    }

    /// Whether it is still whole: nobody waits for the file.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn is_whole(&self) -> Result<bool> {
        Ok(raw::lease(self.file)? == libc::F_WRLCK)
    }

    /// Does what takes long, and gives the lease back in the moment in which somebody opens the file: he does not wait for
    /// a slow disk. The work is told whether that has happened. None afterwards if it has.
    pub fn giving_way<T>(self, work: impl FnOnce(&dyn Fn() -> bool) -> T) -> (T, Option<Self>) {
        let (gone, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let look = || {
            while !over.load(Ordering::Acquire) {
                if !self.is_whole().unwrap_or(false) {
                    gone.store(true, Ordering::Release);
                    let _ = raw::set_lease(self.file, libc::F_UNLCK);
                    return;
                }
                thread::park_timeout(LOOK);
            }
        };
        let done = thread::scope(|scope| {
            // If no thread can be started, the work looks for itself.
            let watch = thread::Builder::new().spawn_scoped(scope, look).ok();
            let done = work(&|| gone.load(Ordering::Acquire) || !self.is_whole().unwrap_or(false));
            over.store(true, Ordering::Release);
            if let Some(watch) = watch {
                watch.thread().unpark();
            }
            done
        });
        let whole = !gone.into_inner() && self.is_whole().unwrap_or(false);
        (done, whole.then_some(self))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Closing the file does it too.
        let _ = raw::set_lease(self.file, libc::F_UNLCK);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures in a temporary directory")]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_that_is_open_elsewhere_is_in_use_and_opening_it_breaks_the_lease() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"x").unwrap();
        let ours = File::open(&path).unwrap();
        for other in [File::open(&path).unwrap(), File::options().append(true).open(&path).unwrap()] {
            assert!(matches!(Lease::ask(&ours), Asked::InUse));
            drop(other);
        }
        let Asked::Held(lease) = Lease::ask(&ours) else { panic!("it is not open elsewhere") };
        assert!(lease.is_whole().unwrap());
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| File::open(&path).unwrap());
            while lease.is_whole().unwrap() {
                std::thread::yield_now();
            }
            drop(lease);
            opener.join().unwrap();
        });
    }

    #[test]
    fn who_opens_it_does_not_wait_for_the_end_of_what_takes_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"x").unwrap();
        let ours = File::open(&path).unwrap();
        let held = || {
            let Asked::Held(lease) = Lease::ask(&ours) else { panic!("it is not open elsewhere") };
            lease
        };
        let (said, lease) = held().giving_way(|gone| {
            assert!(!gone());
            File::open(&path).unwrap();
            gone()
        });
        assert!(said && lease.is_none());
        let (said, lease) = held().giving_way(|gone| gone());
        assert!(!said && lease.is_some_and(|lease| lease.is_whole().unwrap()));
    }
}
