//! Opens up directories of our own whose mode keeps us from emptying them: go makes its modules read-only, bazel its
//! output trees. They get their mode back where they stay after all (SAFETY.md T38).
//!
//! Asked for only after the kernel has said no, and so never by root, whom no mode keeps out.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fchmod, fstat, openat};
use rustix::io::{self, Errno, retry_on_intr};

use crate::domain::identity::FileId;
use crate::domain::past::Access;
use crate::sys::beneath::{Located, find_child_dir, open_child_dir};
use crate::sys::file_id;

/// The mode that a directory had before it was opened up.
#[derive(Clone, Copy)]
pub struct Before(Mode);

/// Lets the owner read, search and change a directory, which may be open with `O_PATH`. None where that needs no
/// change, or is not ours to change.
///
/// # Errors
/// What the kernel says, and `EPERM` where the mode could not be given back afterwards.
pub fn open_up(dir: impl AsFd) -> io::Result<Option<Before>> {
    let stat = fstat(&dir)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if stat.st_uid != rustix::process::geteuid().as_raw() || mode.contains(Mode::RWXU) {
        return Ok(None);
    }
    if mode.contains(Mode::SGID) && !is_member(&stat)? {
        // The kernel would take the bit away for good (chmod(2)).
        return Err(Errno::PERM);
    }
    set_mode(dir, mode | Mode::RWXU)?;
    Ok(Some(Before(mode)))
}

/// Whether we are in the group of a file.
fn is_member(stat: &Stat) -> io::Result<bool> {
    let group = stat.st_gid;
    let others = rustix::process::getgroups()?;
    Ok(rustix::process::getegid().as_raw() == group || others.iter().any(|other| other.as_raw() == group))
}

/// Gives a directory back its mode.
///
/// # Errors
/// What the kernel says.
pub fn give_back(dir: impl AsFd, before: Before) -> io::Result<()> {
    let Before(mode) = before;
    set_mode(dir, mode)
}

/// The owner and mode of a directory.
///
/// # Errors
/// What fstat(2) says.
pub fn access(dir: impl AsFd) -> io::Result<Access> {
    let stat = fstat(dir)?;
    Ok(Access { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 })
}

/// Gives a directory an owner and mode. It may be open with `O_PATH`.
///
/// # Errors
/// What the kernel says.
pub fn give_access(dir: impl AsFd, access: Access) -> io::Result<()> {
    let now = self::access(&dir)?;
    if (now.uid, now.gid) != (access.uid, access.gid) {
        let (uid, gid) = (Uid::from_raw(access.uid), Gid::from_raw(access.gid));
        retry_on_intr(|| chownat(&dir, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH))?;
    }
    // A change of the owner may take bits of the mode away (chown(2)).
    set_mode(dir, Mode::from_raw_mode(access.mode))
}

fn set_mode(dir: impl AsFd, mode: Mode) -> io::Result<()> {
    match retry_on_intr(|| fchmod(&dir, mode)) {
        // A descriptor that only names it (`O_PATH`): the kernel's link leads to that very directory (proc(5)).
        Err(Errno::BADF) => {
            let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
            retry_on_intr(|| chmodat(CWD, link.as_str(), mode, AtFlags::empty()))
        }
        other => other,
    }
}

/// Opens a subdirectory of our own that cannot be read.
///
/// # Errors
/// `EACCES` where that is not ours to change, and what the kernel says.
pub fn open_child(dir: impl AsFd, name: &CStr) -> io::Result<(OwnedFd, Before)> {
    let found = find_child_dir(&dir, name)?;
    let before = open_up(&found)?.ok_or(Errno::ACCESS)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match retry_on_intr(|| openat(&found, c".", flags, Mode::empty())) {
        Ok(opened) => Ok((opened, before)),
        Err(errno) => {
            give_back(&found, before)?;
            Err(errno)
        }
    }
}

/// The top of a tree that was opened up, so that it can be set aside.
pub struct Top {
    dir: OwnedFd,
    before: Before,
}

impl Top {
    /// Opens up the planned directory; `note` is told before what it had and what it gets. None where that is not needed or
    /// cannot be done: whoever goes on is told why.
    pub fn open_up(located: &Located, planned: &FileId, note: impl FnOnce(Access, Access)) -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return None;
        }
        let dir = open_child_dir(&located.parent, &located.name)
            .or_else(|_| find_child_dir(&located.parent, &located.name))
            .ok()?;
        if file_id::of_fd(&dir).ok()?.key != planned.key {
            return None;
        }
        let had = access(&dir).ok()?;
        note(had, Access { mode: had.mode | Mode::RWXU.as_raw_mode(), ..had });
        let before = open_up(&dir).ok()??;
        Some(Self { dir, before })
    }

    /// Gives it back its mode.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn give_back(self) -> io::Result<()> {
        give_back(&self.dir, self.before)
    }
}
