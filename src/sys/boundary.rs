//! Where one tree ends and another begins: the one answer for the scanner, the ledger and whatever deletes.
//!
//! A tree is what belongs to the directory it starts at. It ends
//! - at another mount, unless that mount shows what the tree would hold there without it (see [`Passages`]);
//! - at a directory that is on the same mount and has another device number, unless that is a subvolume of btrfs that
//!   is no snapshot. A snapshot shares its space with the subvolume that it was made of, so that its size adds nothing
//!   that anybody could count by looking at files, and it is not removed with a directory that it lies in.
//!
//! What a scan does not count is never entered by a delete.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};

use super::btrfs;
use super::mount_table::MountTable;
use super::mountinfo::MountEntry;
use crate::domain::identity::DevId;

/// Whether a directory belongs to the tree of the one it lies in, although it has another device number than that.
/// Both are on one mount.
pub fn is_inside(directory: impl AsFd) -> bool {
    btrfs::subvolume(directory).is_some_and(|subvolume| !subvolume.snapshot)
}

/// Mounts inside a tree that do not end it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passages {
    mounts: HashSet<u64>,
    devices: Vec<DevId>,
}

impl Passages {
    /// The passages below a directory on a mount, by the mounts of our namespace.
    ///
    /// - A directory that is mounted on itself (podman and docker do that with their stores) shows what is there anyway.
    /// - Another subvolume of the same btrfs pool is a part of the same file system, and is seen through its mount only.
    ///   A read-only snapshot is not: it is mounted to be looked at.
    ///
    /// Subvolumes whose files have one of the device numbers in `outside` were counted elsewhere and are none.
    pub fn below(table: &MountTable, root: &Path, mount: u32, outside: &[DevId]) -> Self {
        let mut found = Self::default();
        let Some(start) = table.by_id(mount) else { return found };
        let Some(place) = MountTable::inside(start, root) else { return found };
        // The places of the pool that are counted already, each with all below it.
        let mut counted: Vec<PathBuf> = vec![place];
        let mut seen = vec![mount];
        while let Some(on) = seen.pop() {
            let Some(on) = table.by_id(on) else { continue };
            for entry in table.mounted_on(on.id) {
                if entry.dev != on.dev
                    || !entry.mount_point.as_path().starts_with(root)
                    || !table.is_visible(entry)
                {
                    continue;
                }
                let inside = MountTable::root_of(entry).to_path_buf();
                if table.shows_its_seat(entry) {
                    found.mounts.insert(u64::from(entry.id));
                    seen.push(entry.id);
                } else if is_subvolume(entry)
                    && !counted.iter().any(|one| inside.starts_with(one) || one.starts_with(&inside))
                    && let Some(device) =
                        device_of_subvolume(entry).filter(|device| !outside.contains(device))
                {
                    counted.push(inside);
                    found.mounts.insert(u64::from(entry.id));
                    found.devices.push(device);
                    seen.push(entry.id);
                }
            }
        }
        found
    }

    /// Whether a mount is one of them.
    pub fn has(&self, mount: u64) -> bool {
        self.mounts.contains(&mount)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// Device numbers of the subvolumes that they lead to.
    pub fn devices(&self) -> &[DevId] {
        &self.devices
    }
}

/// Whether the top of a subvolume of btrfs is mounted, and not a directory in one.
pub fn is_subvolume(entry: &MountEntry) -> bool {
    entry.fs_type.as_bytes() == b"btrfs"
        && entry.super_option(b"subvol").is_some_and(|subvolume| subvolume == entry.root.as_bytes())
}

/// The device number of files in the subvolume that is mounted there; none for a read-only snapshot, and where
/// something else is seen there.
fn device_of_subvolume(entry: &MountEntry) -> Option<DevId> {
    let fd = look(entry.mount_point.as_path())?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&fd, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID).ok()?;
    let subvolume = btrfs::subvolume(&fd)?;
    let shown = stat.stx_mnt_id == u64::from(entry.id) && !(subvolume.snapshot && subvolume.read_only);
    shown.then_some(DevId { major: stat.stx_dev_major, minor: stat.stx_dev_minor })
}

fn look(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, directory, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    #[test]
    fn a_directory_mounted_on_itself_is_a_passage_and_what_is_mounted_elsewhere_is_none() {
        let table = MountTable::new(mountinfo::parse(
            b"1 0 8:1 / / rw - ext4 a rw\n\
              2 1 8:1 /var/c /var/c rw - ext4 a rw\n\
              3 2 0:9 / /var/c/merged rw - overlay o rw\n\
              4 2 8:1 /var/c/self /var/c/self rw - ext4 a rw\n\
              5 1 8:1 /src /mnt rw - ext4 a rw\n\
              6 1 8:1 /over /over rw - ext4 a rw\n\
              7 6 0:10 / /over rw - tmpfs t rw\n",
        ));
        let passages = Passages::below(&table, Path::new("/"), 1, &[]);
        let ids: Vec<u64> = (1..8).filter(|id| passages.has(*id)).collect();
        assert_eq!(ids, [2, 4], "6 is covered, and 5 shows another directory than its own");
        assert!(Passages::below(&table, Path::new("/srv"), 1, &[]).is_empty());
        assert!(Passages::below(&table, Path::new("/"), 99, &[]).is_empty());
    }
}
