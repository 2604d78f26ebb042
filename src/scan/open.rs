//! The kernel calls of the scanner, and the rule that they never leave the mount.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{self, Errno};

use crate::domain::identity::{DevId, FileKind};
use crate::sys::file_id::kind_of;

use super::links::LinkKey;

/// The least that sizes, times, hard links and mounts need. What a smaller mask would save is below
/// what can be measured.
const MASK: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::BLOCKS)
    .union(StatxFlags::MNT_ID);

/// A symbolic link is looked at, not followed; a network file system answers from what it has cached;
/// an automount point is not triggered (statx(2)).
const STAT: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::STATX_DONT_SYNC).union(AtFlags::NO_AUTOMOUNT);

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// The mount a scan stays on.
pub(super) struct Mount {
    /// The root's mount id; none before Linux 5.8.
    id: Option<u64>,
    device: (u32, u32),
    root: u64,
    /// openat2(2) works: Linux 5.6, and no seccomp filter in the way.
    openat2: AtomicBool,
}

impl Mount {
    pub(super) fn of(root: &Statx) -> Self {
        Self {
            id: mount_id(root),
            device: (root.stx_dev_major, root.stx_dev_minor),
            root: root.stx_ino,
            openat2: AtomicBool::new(true),
        }
    }

    /// The root's mount id as mountinfo has it; none before Linux 5.8.
    pub(super) fn id(&self) -> Option<u32> {
        self.id.and_then(|id| u32::try_from(id).ok())
    }

    /// Number of the root's device, and of the root's inode.
    pub(super) fn root(&self) -> (DevId, u64) {
        (DevId { major: self.device.0, minor: self.device.1 }, self.root)
    }

    /// The root as one of the files of its device.
    pub(super) fn root_file(&self) -> LinkKey {
        LinkKey::new(self.device, self.root)
    }

    /// Whether an entry is on another mount than the root. A directory on another device is a boundary
    /// too: a btrfs subvolume, which du -x leaves out as well. For other files the device says nothing
    /// on overlayfs, where it is that of the layer they come from.
    pub(super) fn leaves(&self, stat: &Statx) -> bool {
        let other_device = self.device != (stat.stx_dev_major, stat.stx_dev_minor);
        match (self.id, mount_id(stat)) {
            (Some(root), Some(entry)) => {
                root != entry || (other_device && kind_of(stat.stx_mode) == FileKind::Directory)
            }
            _ => other_device,
        }
    }

    /// Whether this is the directory the scan started at.
    pub(super) fn is_root(&self, stat: &Statx) -> bool {
        !self.leaves(stat) && stat.stx_ino == self.root
    }

    /// Opens a directory in an open directory. The name may have become a symbolic link or a mount
    /// point since it was listed: then it is an error, never a way out. `no_atime` is cleared where
    /// the file system refuses it (`O_NOATIME` is for owners, open(2)).
    ///
    /// # Errors
    /// `EXDEV` where it is a mount point; what openat2(2) says.
    pub(super) fn open(&self, dir: BorrowedFd<'_>, name: &CStr, no_atime: &mut bool) -> io::Result<OwnedFd> {
        let flags = if *no_atime { OPEN | OFlags::NOATIME } else { OPEN };
        match self.open_with(dir, name, flags) {
            Err(Errno::PERM) if *no_atime => {
                *no_atime = false;
                self.open_with(dir, name, OPEN)
            }
            other => other,
        }
    }

    fn open_with(&self, dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
        if self.openat2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
                // Older container runtimes answer EPERM for calls they do not know.
                Err(Errno::NOSYS | Errno::PERM) => {}
                other => return other,
            }
        }
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        // It was not openat2 that lacked the permission: do not ask it again.
        self.openat2.store(false, Ordering::Relaxed);
        if self.leaves(&stat_fd(fd.as_fd())?) { Err(Errno::XDEV) } else { Ok(fd) }
    }
}

/// Looks at an entry of an open directory.
pub(super) fn stat_entry(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Statx> {
    rustix::fs::statx(dir, name, STAT, MASK)
}

/// Looks at an entry of an open directory, or with an empty name at that itself, and at when it last changed.
pub(super) fn stat_with_change(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Statx> {
    rustix::fs::statx(dir, name, STAT | AtFlags::EMPTY_PATH, MASK | StatxFlags::CTIME)
}

/// Looks at an open directory.
pub(super) fn stat_fd(dir: BorrowedFd<'_>) -> io::Result<Statx> {
    rustix::fs::statx(dir, c"", STAT | AtFlags::EMPTY_PATH, MASK)
}

/// Opens an open directory once more, to look at what is in it. Not to list it, which takes a permission that may
/// have been withdrawn.
pub(super) fn again(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    rustix::fs::openat(dir, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory a scan starts at.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::openat(CWD, path, OPEN | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(CWD, path, OPEN, Mode::empty()),
        other => other,
    }
}

fn mount_id(stat: &Statx) -> Option<u64> {
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With openat2 and as on a kernel without it.
    fn both_ways(root: &Path) -> [(OwnedFd, Mount); 2] {
        [true, false].map(|openat2| {
            let fd = open_root(root).unwrap();
            let mount = Mount::of(&stat_fd(fd.as_fd()).unwrap());
            mount.openat2.store(openat2, Ordering::Relaxed);
            (fd, mount)
        })
    }

    #[test]
    fn a_mount_point_is_not_entered() {
        for (fd, mount) in both_ways(Path::new("/")) {
            // /proc is mounted on every Linux machine that runs tests.
            assert_eq!(mount.open(fd.as_fd(), c"proc", &mut true).unwrap_err(), Errno::XDEV);
            assert!(mount.leaves(&stat_entry(fd.as_fd(), c"proc").unwrap()));
            assert!(!mount.leaves(&stat_entry(fd.as_fd(), c"usr").unwrap()));
            assert!(mount.is_root(&stat_entry(fd.as_fd(), c".").unwrap()));
        }
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("here")).unwrap();
        for (fd, mount) in both_ways(dir.path()) {
            for name in [c"link", c"here"] {
                let error = mount.open(fd.as_fd(), name, &mut false).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{error}");
            }
            assert!(mount.open(fd.as_fd(), c".", &mut true).is_ok());
        }
    }
}
