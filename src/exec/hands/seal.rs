//! Shuts other users off from a tree that could not be moved into a quarantine.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, Uid};

use crate::exec::words::could_not;

/// Makes the top of a tree ours alone, where it could not be moved into a quarantine. Needs no space.
pub struct Seal {
    uid: Uid,
    gid: Gid,
    mode: Mode,
}

impl Seal {
    /// Seals the directory: owner us, mode 0700. Nothing where that is not allowed.
    pub fn put_on(top: &OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(top).ok()?;
        let us = rustix::process::geteuid();
        let seal = Self {
            uid: Uid::from_raw(stat.st_uid),
            gid: Gid::from_raw(stat.st_gid),
            mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
        };
        if seal.uid != us {
            // Its owner could open it up again.
            rustix::fs::fchown(top, Some(us), None).ok()?;
        }
        if rustix::fs::fchmod(top, Mode::RWXU).is_err() {
            let _ = seal.take_off(top);
            return None;
        }
        Some(seal)
    }

    /// Gives the directory back to its owner.
    ///
    /// # Errors
    /// A sentence.
    pub fn take_off(&self, top: &OwnedFd) -> Result<(), String> {
        let say = |errno| could_not("give the rest of it back its owner and mode", errno);
        rustix::fs::fchown(top, Some(self.uid), Some(self.gid)).map_err(say)?;
        rustix::fs::fchmod(top, self.mode).map_err(say)
    }
}
