//! A directory that holds nothing but a few regular files, as most of those in a directory for temporary files.
//!
//! Each file stays open with its lease from the first look on, so nobody uses it meanwhile and one look is enough. Once the
//! directory is set aside, its time of modification says whether anything came in or went since.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::{self, Errno, retry_on_intr};

use super::swept::Users;
use super::unused;
use crate::domain::identity::DevIno;
use crate::probe::sweep::{Blocked, Uses};

/// Files that are held at most: descriptors are few (1,024 by default, getrlimit(2)), and each thread holds as many.
const MOST: usize = 64;

/// Asks about each file of a directory, and holds it.
pub struct FlatDir<'u, 'w> {
    users: &'u Users<'w>,
    files: Vec<(CString, OwnedFd)>,
    /// There is more in it than can be held.
    more: bool,
}

impl<'u, 'w> FlatDir<'u, 'w> {
    /// Nothing is held yet.
    pub fn new(users: &'u Users<'w>) -> Self {
        Self { users, files: Vec::new(), more: false }
    }

    /// Whether these files are all that is in a directory with so many entries, itself included.
    pub fn is_all_of(&self, entries: u64) -> bool {
        !self.more && self.files.len() as u64 + 1 == entries
    }

    /// Removes the files from their directory. Returns how many went, and what the kernel said of the first that did not.
    pub fn remove_from(&self, dir: &OwnedFd) -> (u64, io::Result<()>) {
        let mut gone = 0;
        for (name, _) in &self.files {
            match retry_on_intr(|| unlinkat(dir, name, AtFlags::empty())) {
                Ok(()) => gone += 1,
                Err(Errno::NOENT) => {}
                Err(errno) => return (gone, Err(errno)),
            }
        }
        (gone, Ok(()))
    }
}

impl Uses for FlatDir<'_, '_> {
    fn file(&mut self, dir: &OwnedFd, name: &CStr, key: DevIno) -> Result<(), Blocked> {
        if !self.more && self.files.len() < MOST {
            match unused::open_plain(dir, name) {
                Ok(file) => {
                    self.users.of_file(&file, key)?;
                    self.files.push((name.to_owned(), file));
                    return Ok(());
                }
                // Too many descriptors, or it may not be opened.
                Err(_) => self.more = true,
            }
        }
        // It is looked at once more after it is set aside; until then, what was known a moment ago is enough.
        self.more = true;
        self.files.clear();
        match self.users.of_anything(key) {
            Err(Blocked::InUse) => Err(Blocked::InUse),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn directory(&mut self, key: DevIno) -> Result<(), Blocked> {
        self.users.of_anything(key)
    }
}
