//! The kernel calls of the scanner, and the rule that they never leave the tree ([`crate::sys::boundary`]).

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{self, Errno};

use crate::domain::identity::{DevId, FileKind};
use crate::sys::boundary::{self, Passages};
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

/// Where a scan stays.
pub(super) struct Mount {
    /// The root's mount id; none before Linux 5.8.
    id: Option<u64>,
    device: (u32, u32),
    root: u64,
    /// Other mounts that belong to the tree.
    passages: Passages,
    /// Whether directories with another device number belong to the tree, as far as any were met.
    devices: RwLock<HashMap<(u32, u32), bool>>,
    /// openat2(2) works: Linux 5.6, and no seccomp filter in the way.
    openat2: AtomicBool,
}

/// Why an entry is not part of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// It is on another mount.
    Mount,
    /// It has a device number of its own on the same mount, and is no subvolume that is counted: a snapshot of btrfs.
    Subvolume,
}

impl Mount {
    /// For a scan that starts at a directory, with the mounts below that belong to it, and the device numbers of
    /// subvolumes below that do not.
    pub(super) fn of(root: &Statx, passages: Passages, outside: &[DevId]) -> Self {
        let device = (root.stx_dev_major, root.stx_dev_minor);
        let inside = passages.devices().iter().map(|dev| ((dev.major, dev.minor), true));
        let devices = inside.chain(outside.iter().map(|dev| ((dev.major, dev.minor), false))).collect();
        Self {
            id: mount_id(root),
            device,
            root: root.stx_ino,
            passages,
            devices: RwLock::new(devices),
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

    /// Mounts below that belong to the tree.
    pub(super) fn passages(&self) -> &Passages {
        &self.passages
    }

    /// The device numbers of all directories that belonged to the tree so far.
    pub(super) fn devices(&self) -> Vec<DevId> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let inside = devices.iter().filter_map(|(device, inside)| inside.then_some(*device));
        let own = std::iter::once(self.device);
        own.chain(inside).map(|(major, minor)| DevId { major, minor }).collect()
    }

    /// Whether an entry of an open directory is not part of the tree, and why. Of files that are no directories the
    /// device says nothing: on overlayfs it is that of the layer they come from.
    pub(super) fn leaves(&self, dir: BorrowedFd<'_>, name: &CStr, stat: &Statx) -> Option<Leaves> {
        let other_device = self.device != (stat.stx_dev_major, stat.stx_dev_minor);
        match (self.id, mount_id(stat)) {
            (Some(root), Some(entry)) if root != entry && !self.passages.has(entry) => Some(Leaves::Mount),
            (Some(_), Some(_)) => {
                let is_outside = other_device
                    && kind_of(stat.stx_mode) == FileKind::Directory
                    && !self.is_inside(stat, || rustix::fs::openat(dir, name, OPEN, Mode::empty()));
                is_outside.then_some(Leaves::Subvolume)
            }
            _ => other_device.then_some(Leaves::Mount),
        }
    }

    /// Whether a directory with another device number belongs to the tree. It is opened where its number was not met
    /// before.
    fn is_inside(&self, stat: &Statx, open: impl FnOnce() -> io::Result<OwnedFd>) -> bool {
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        let known = self.devices.read().unwrap_or_else(PoisonError::into_inner).get(&device).copied();
        known.unwrap_or_else(|| {
            let inside = open().is_ok_and(boundary::is_inside);
            self.devices.write().unwrap_or_else(PoisonError::into_inner).insert(device, inside);
            inside
        })
    }

    /// Whether this is the directory the scan started at.
    pub(super) fn is_root(&self, stat: &Statx) -> bool {
        let same_mount = self.id.is_none() || mount_id(stat).is_none() || self.id == mount_id(stat);
        same_mount && self.device == (stat.stx_dev_major, stat.stx_dev_minor) && stat.stx_ino == self.root
    }

    /// Whether an open directory belongs to the tree.
    fn holds(&self, fd: &OwnedFd) -> io::Result<bool> {
        Ok(self.leaves(fd.as_fd(), c".", &stat_fd(fd.as_fd())?).is_none())
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
            let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let resolve = no_links | ResolveFlags::NO_XDEV;
            match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
                // Older container runtimes answer EPERM for calls they do not know.
                Err(Errno::NOSYS | Errno::PERM) => {}
                Err(Errno::XDEV) if !self.passages.is_empty() => {
                    let fd = rustix::fs::openat2(dir, name, flags, Mode::empty(), no_links)?;
                    return if self.holds(&fd)? { Ok(fd) } else { Err(Errno::XDEV) };
                }
                other => return other,
            }
        }
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        // It was not openat2 that lacked the permission: do not ask it again.
        self.openat2.store(false, Ordering::Relaxed);
        if self.holds(&fd)? { Ok(fd) } else { Err(Errno::XDEV) }
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

/// The mount that a file is on, as mountinfo has it; none before Linux 5.8.
pub(super) fn mount_of(stat: &Statx) -> Option<u32> {
    mount_id(stat).and_then(|id| u32::try_from(id).ok())
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
            let mount = Mount::of(&stat_fd(fd.as_fd()).unwrap(), Passages::default(), &[]);
            mount.openat2.store(openat2, Ordering::Relaxed);
            (fd, mount)
        })
    }

    #[test]
    fn a_mount_point_is_not_entered() {
        for (fd, mount) in both_ways(Path::new("/")) {
            // /proc is mounted on every Linux machine that runs tests.
            assert_eq!(mount.open(fd.as_fd(), c"proc", &mut true).unwrap_err(), Errno::XDEV);
            let leaves = |name| mount.leaves(fd.as_fd(), name, &stat_entry(fd.as_fd(), name).unwrap());
            assert_eq!((leaves(c"proc"), leaves(c"usr")), (Some(Leaves::Mount), None));
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
