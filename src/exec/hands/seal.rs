//! Shuts other users off from a tree that could not be moved into a quarantine.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::os::fd::OwnedFd;

use rustix::fs::Mode;

use super::own;
use crate::domain::past::Access;
use crate::exec::words::could_not;

/// Makes the top of a tree ours alone, where it could not be moved into a quarantine. Needs no space.
pub struct Seal {
    before: Access,
}

impl Seal {
    /// Seals the directory: owner us, mode 0700. `note` is told before what it had and what it gets. Nothing where that is not
    /// allowed.
    pub fn put_on(top: &OwnedFd, note: impl FnOnce(Access, Access)) -> Option<Self> {
        let before = own::access(top).ok()?;
        let us = rustix::process::geteuid();
        note(before, Access { uid: us.as_raw(), mode: Mode::RWXU.as_raw_mode(), ..before });
        if before.uid != us.as_raw() {
            // Its owner could open it up again.
            rustix::fs::fchown(top, Some(us), None).ok()?;
        }
        let seal = Self { before };
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
        own::give_access(top, self.before)
            .map_err(|errno| could_not("give the rest of it back its owner and mode", errno))
    }
}
