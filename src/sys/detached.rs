//! A mount without what is mounted on it, seen by nobody but us.
//!
//! `open_tree(2)` with `OPEN_TREE_CLONE` and without `AT_RECURSIVE` makes a copy of one mount that is attached nowhere.
//! Through its descriptor one sees what lies under the mount points on it. Nothing changes for anybody: no path leads to
//! the copy, only `move_mount(2)` could give it one, and it goes with the descriptor. While that is open the file system
//! stays in use, as with any open file: keep it no longer than needed.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{self, Errno};
use rustix::mount::OpenTreeFlags;

/// A copy of a mount, attached nowhere.
#[derive(Debug)]
pub struct Detached {
    root: OwnedFd,
}

impl Detached {
    /// Copies the mount at a mount point, without what is mounted on it.
    ///
    /// # Errors
    /// `EPERM` without the privilege to mount (`CAP_SYS_ADMIN`); `ENOSYS` before Linux 5.2; `EINVAL` where mounts of a
    /// less privileged user namespace must stay together.
    pub fn of(mount_point: &Path) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
            | OpenTreeFlags::AT_NO_AUTOMOUNT;
        #[expect(clippy::disallowed_methods, reason = "this copy is never attached; see the module")]
        let root = rustix::mount::open_tree(CWD, mount_point, flags)?;
        Ok(Self { root })
    }

    /// Its root directory; opened only to look from (`O_PATH`).
    pub fn root(&self) -> impl AsFd {
        self.root.as_fd()
    }

    /// Opens what is at a relative path in it, to look at only. No link is followed and no mount is crossed.
    ///
    /// # Errors
    /// What openat2(2) says.
    pub fn look_at(&self, inside: &Path) -> io::Result<OwnedFd> {
        self.open(inside, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    /// Opens the directory at a relative path in it for reading. No link is followed and no mount is crossed.
    ///
    /// # Errors
    /// What openat2(2) says: `ENOTDIR` where it is no directory.
    pub fn directory(&self, inside: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
        match self.open(inside, flags) {
            Err(Errno::PERM) => self.open(inside, flags - OFlags::NOATIME),
            other => other,
        }
    }

    fn open(&self, inside: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = CString::new(inside.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_XDEV
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }
}
