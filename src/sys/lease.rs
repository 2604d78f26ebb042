//! Leases (`fcntl(2)`, `F_SETLEASE`): whether anybody has a file open, from the kernel itself (SAFETY.md T8).
//!
//! A write lease is given only where nobody else has the file open or mapped, for reading or writing. While it is held,
//! whoever opens the file waits until it is given back, for `/proc/sys/fs/lease-break-time` (45 s) at most; so it is held for
//! moments only. Unlinking or renaming does not break it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, Result};

use super::raw;

/// What a broken lease sends instead of SIGIO, which would end the program: a signal that does nothing unless somebody
/// wants it (signal(7)).
const SIGNAL: libc::c_int = libc::SIGURG;

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
}
