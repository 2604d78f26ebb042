//! A quarantine for very many things of one directory (see [`super::quarantine`]), for one thread.
//!
//! Directories are set aside in it under their own names. Files have one place in it between them: the rename that sets the
//! next one aside removes the one before, which was compared already, so that a file costs one change of directories and
//! not two. A run that is killed leaves one file there at most; the journal has the inode of each name of a sweep.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::{self, retry_on_intr};

use super::quarantine::{keep_beside, make_quarantine, remove_emptied, rename_away, rename_back};
use crate::domain::identity::FileKind;
use crate::sys::file_id::{self, Aged};

/// The quarantine.
pub struct SharedQuarantine<'d> {
    parent: &'d OwnedFd,
    dir: OwnedFd,
    /// Its name, and that of the place for files in it: nothing else of the directory can have that name.
    name: CString,
}

impl<'d> SharedQuarantine<'d> {
    /// Makes it in the directory; none if none can be made there.
    pub fn make(parent: &'d OwnedFd, name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        let dir = make_quarantine(parent, &name).ok()?;
        Some(Self { parent, dir, name })
    }

    /// The quarantine, opened.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Sets a directory aside under its own name.
    ///
    /// # Errors
    /// What renameat2(2) says.
    pub fn take_dir(&self, name: &CStr) -> io::Result<()> {
        rename_away(self.parent, name, &self.dir, name)
    }

    /// Sets a file aside in the place for files, which must be empty.
    ///
    /// # Errors
    /// What renameat2(2) says: `EXIST` if something is there.
    pub fn take_file(&self, name: &CStr) -> io::Result<()> {
        rename_away(self.parent, name, &self.dir, &self.name)
    }

    /// Sets a file aside in the place of the one before, which is gone then, unless both are names of one file: rename(2)
    /// does nothing then.
    ///
    /// # Errors
    /// What renameat(2) says: `NOTDIR` if it is a directory by now.
    pub fn take_file_instead(&self, name: &CStr) -> io::Result<()> {
        retry_on_intr(|| renameat(self.parent, name, &self.dir, &self.name))
    }

    /// What is in the place for files.
    ///
    /// # Errors
    /// What statx(2) says.
    pub fn file(&self) -> io::Result<Aged> {
        file_id::aged(&self.dir, &self.name)
    }

    /// Removes what is in the place for files.
    ///
    /// # Errors
    /// What unlinkat(2) says.
    pub fn remove_file(&self) -> io::Result<()> {
        retry_on_intr(|| unlinkat(&self.dir, &self.name, AtFlags::empty()))
    }

    /// Removes an emptied directory.
    ///
    /// # Errors
    /// What unlinkat(2) says: `NOTEMPTY` if something came into it.
    pub fn remove_dir(&self, name: &CStr) -> io::Result<()> {
        retry_on_intr(|| unlinkat(&self.dir, name, AtFlags::REMOVEDIR))
    }

    /// Puts a directory back under its name.
    ///
    /// # Errors
    /// `Ok(Some)` if the name was taken and it is kept under another one, `Err` if it stays where it was set aside: a
    /// sentence that says where.
    pub fn give_back_dir(&self, name: &CStr) -> Result<Option<String>, String> {
        self.give_back(name, name, FileKind::Directory)
    }

    /// Gives what is in the place for files this name back.
    ///
    /// # Errors
    /// As for a directory.
    pub fn give_back_file(&self, name: &CStr, kind: FileKind) -> Result<Option<String>, String> {
        self.give_back(&self.name, name, kind)
    }

    fn give_back(&self, old: &CStr, name: &CStr, kind: FileKind) -> Result<Option<String>, String> {
        let from = self.dir.as_fd();
        match rename_back(from, old, self.parent, name, kind) {
            Ok(()) => Ok(None),
            Err(errno) => {
                let shown = self.name.to_string_lossy();
                keep_beside((from, old), (self.parent, name), kind, (&shown, errno)).map(Some)
            }
        }
    }

    /// Removes it.
    ///
    /// # Errors
    /// A sentence that says what is left.
    pub fn close(self) -> Result<(), String> {
        remove_emptied(self.parent, &self.dir, &self.name)
    }
}
