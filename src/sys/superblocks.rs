//! File systems as superblocks, each with all its mounts: from the mount table of one namespace.
//!
//! A file system is known by its device. What it is called by, and how much of it is seen, follows from which of its
//! directories are mounted (the root field of mountinfo), never from the length of a path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::boundary::is_subvolume;
use super::fs_types;
use super::mount_table::MountTable;
use super::mountinfo::MountEntry;
use crate::domain::identity::DevId;
use crate::domain::snapshot::Extent;

/// A file system of one namespace.
#[derive(Debug)]
pub struct Superblock<'t> {
    /// The mount that it is called by.
    pub named: &'t MountEntry,
    /// How much of it is seen.
    pub extent: Extent,
    /// Mounts beside `named` that show what that does not.
    pub parts: Vec<&'t MountEntry>,
    /// All its mounts at which it is seen, `named` among them.
    pub mounts: Vec<&'t MountEntry>,
    /// Overlays whose upper directory is on it: what is written there takes space here.
    pub overlays: Vec<DevId>,
}

/// What has to be asked of the machine.
pub trait Look {
    /// Whether a mount is of a directory, and not of a file.
    fn is_directory(&self, entry: &MountEntry) -> bool;
    /// How much lies below a mount, in any unit: asked only to tell which of several parts is the largest.
    fn weight(&self, entry: &MountEntry) -> u64;
}

/// All file systems that hold files and are seen at a directory, in the order of their devices.
///
/// An overlay only repeats the figures of the file system of its upper directory: if that is in the table itself, the
/// overlay is none of its own (the root of every running container is one). Ours at `/` is: it may be all there is.
pub fn all<'t>(table: &'t MountTable, look: &dyn Look) -> Vec<Superblock<'t>> {
    let mut mounts: BTreeMap<DevId, Vec<&MountEntry>> = BTreeMap::new();
    let mut overlays: BTreeMap<DevId, Vec<DevId>> = BTreeMap::new();
    for entry in table.entries() {
        if !fs_types::holds_files(entry.fs_type.as_bytes()) {
            continue;
        }
        if let Some(below) = holds_upper_of(table, entry) {
            overlays.entry(below).or_default().push(entry.dev);
            if entry.mount_point.as_bytes() != b"/" {
                continue;
            }
        }
        // A file can be mounted on a file. The root of a file system is a directory always.
        let is_file = || entry.root.as_bytes() != b"/" && !look.is_directory(entry);
        if table.is_visible(entry) && !is_file() {
            mounts.entry(entry.dev).or_default().push(entry);
        }
    }
    let one = |(dev, mounts): (DevId, Vec<&'t MountEntry>)| {
        let mut overlays = overlays.remove(&dev).unwrap_or_default();
        overlays.sort_unstable();
        overlays.dedup();
        superblock(mounts, overlays, look)
    };
    mounts.into_iter().filter_map(one).collect()
}

/// The file system that holds the upper directory of an overlay, if that is in the table.
fn holds_upper_of(table: &MountTable, entry: &MountEntry) -> Option<DevId> {
    if entry.fs_type.as_bytes() != b"overlay" {
        return None;
    }
    let upper = PathBuf::from(OsString::from_vec(entry.super_option(b"upperdir")?));
    let below = table.at(&upper).filter(|_| upper.is_absolute())?;
    let holds = below.dev != entry.dev && fs_types::holds_files(below.fs_type.as_bytes());
    // In a container the path is that of the host and says nothing about the mounts here.
    (holds && !is_inside_itself(table, entry, &upper)).then_some(below.dev)
}

/// Whether a path of an overlay's options ends up on that overlay itself: then it is a path of another namespace.
fn is_inside_itself(table: &MountTable, entry: &MountEntry, upper: &Path) -> bool {
    table.at(upper).is_some_and(|below| below.id == entry.id)
}

fn superblock<'t>(
    mounts: Vec<&'t MountEntry>,
    overlays: Vec<DevId>,
    look: &dyn Look,
) -> Option<Superblock<'t>> {
    let parts = parts(&mounts);
    let named = *match parts.as_slice() {
        [] => return None,
        [one] => one,
        many if many.iter().any(|part| is_subvolume(part)) => {
            many.iter().min_by_key(|part| top_first(part))?
        }
        many => many.iter().max_by_key(|part| (look.weight(part), std::cmp::Reverse(part.id)))?,
    };
    let is_overlay = named.fs_type.as_bytes() == b"overlay";
    let extent = if named.root.as_bytes() == b"/" && !is_overlay {
        Extent::Whole
    } else if is_subvolume(named) {
        Extent::Subvolumes
    } else {
        Extent::Part
    };
    let parts = parts.into_iter().filter(|part| part.id != named.id).collect();
    Some(Superblock { named, extent, parts, mounts, overlays })
}

/// A subvolume that is mounted at `/` first, then the one that is least deep in the pool.
fn top_first(entry: &MountEntry) -> (bool, bool, usize, usize) {
    let depth = MountTable::root_of(entry).components().count();
    let at = entry.mount_point.as_bytes();
    (!is_subvolume(entry), at != b"/", depth, at.len())
}

/// Of the mounts of a file system those that together show all that can be seen, none of them a part of another. Of
/// several mounts of the same directory the one with the shortest path.
fn parts<'t>(mounts: &[&'t MountEntry]) -> Vec<&'t MountEntry> {
    let mut all = mounts.to_vec();
    all.sort_by_key(|entry| {
        (MountTable::root_of(entry).components().count(), entry.mount_point.as_bytes().len(), entry.id)
    });
    let mut parts: Vec<&MountEntry> = Vec::new();
    for entry in all {
        let root = MountTable::root_of(entry);
        // From outside a subvolume is seen in the one it lies in, unless it is a snapshot: so it is a part of its own,
        // and whoever counts leaves out what was counted already.
        let shows = |part: &&MountEntry| {
            root.starts_with(MountTable::root_of(part))
                && (part.root.as_bytes() == b"/" || subvolume(entry) == subvolume(part))
        };
        if !parts.iter().any(shows) {
            parts.push(entry);
        }
    }
    parts
}

/// The subvolume of btrfs that a mount shows a part of.
fn subvolume(entry: &MountEntry) -> Option<Vec<u8>> {
    (entry.fs_type.as_bytes() == b"btrfs").then(|| entry.super_option(b"subvol")).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    /// Files are mounted on paths that end in `.f`; the weight is in the path.
    struct Fixture;

    impl Look for Fixture {
        fn is_directory(&self, entry: &MountEntry) -> bool {
            !entry.mount_point.as_bytes().ends_with(b".f")
        }

        fn weight(&self, entry: &MountEntry) -> u64 {
            entry.mount_point.to_string().rsplit('-').next().and_then(|end| end.parse().ok()).unwrap_or(0)
        }
    }

    fn found(lines: &str) -> Vec<(String, Extent, Vec<String>, usize)> {
        let table = MountTable::new(mountinfo::parse(lines.as_bytes()));
        let one = |fs: Superblock<'_>| {
            let parts = fs.parts.iter().map(|part| part.mount_point.to_string()).collect();
            (fs.named.mount_point.to_string(), fs.extent, parts, fs.mounts.len())
        };
        let mut all: Vec<_> = all(&table, &Fixture).into_iter().map(one).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn named(lines: &str) -> Vec<String> {
        found(lines).into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn each_device_once_and_no_pseudo_file_systems() {
        assert_eq!(
            named(
                "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                 2 1 0:4 / /proc rw - proc proc rw\n\
                 3 1 8:2 /sub /very/long/place rw - xfs /dev/b rw\n\
                 4 1 8:2 /sub /srv rw - xfs /dev/b rw\n\
                 5 1 0:9 / /mnt/auto rw - autofs systemd-1 rw\n\
                 6 1 0:10 / /tmp rw - tmpfs tmpfs rw\n\
                 7 1 0:11 / /tmp/x rw - tmpfs under rw\n\
                 8 6 0:12 / /tmp rw - tmpfs over rw\n\
                 9 1 0:13 / /net rw - nfs4 s:/ rw\n"
            ),
            ["/", "/net", "/srv", "/tmp"]
        );
    }

    #[test]
    fn a_disk_is_called_by_the_mount_of_its_root_however_short_the_path_of_a_bind_is() {
        // Container-Optimised OS, and an fstab with a bind.
        let lines = "1 0 254:0 / / ro - ext2 /dev/dm-0 ro\n\
             2 1 8:1 / /mnt/stateful_partition rw - ext4 /dev/a rw\n\
             3 1 8:1 /var /var rw - ext4 /dev/a rw\n\
             4 1 8:1 /home /home rw - ext4 /dev/a rw\n\
             5 1 8:1 /etc/machine-id /etc/machine-id.f rw - ext4 /dev/a rw\n";
        let whole = |name: &str, mounts| (name.to_owned(), Extent::Whole, Vec::new(), mounts);
        assert_eq!(found(lines), [whole("/", 1), whole("/mnt/stateful_partition", 3)]);
        // ostree with composefs: / is a view, the disk is at /sysroot.
        let lines = "1 0 0:40 / / ro - overlay composefs ro,lowerdir=/run/.c/cfs,datadir+=/sysroot/ostree/repo/objects\n\
             2 1 8:3 / /sysroot ro - xfs /dev/a rw\n\
             3 1 8:3 /ostree/deploy/f/deploy/1/etc /etc rw - xfs /dev/a rw\n\
             4 1 8:3 /ostree/deploy/f/var /var rw - xfs /dev/a rw\n";
        let part = ("/".to_owned(), Extent::Part, Vec::new(), 1);
        assert_eq!(found(lines), [part, whole("/sysroot", 3)]);
    }

    #[test]
    fn a_pool_is_called_by_its_top_subvolume_and_has_the_others_as_parts() {
        let lines = "1 0 0:30 /root / rw - btrfs /dev/a rw,subvolid=256,subvol=/root\n\
             2 1 0:30 /home /home rw - btrfs /dev/a rw,subvolid=257,subvol=/home\n\
             3 1 0:30 /root/srv/x /x rw - btrfs /dev/a rw,subvolid=256,subvol=/root\n";
        assert_eq!(found(lines), [("/".to_owned(), Extent::Subvolumes, vec!["/home".to_owned()], 3)]);
        // openSUSE: / is a snapshot below the subvolume of all snapshots.
        let lines = "1 0 0:30 /@/.snapshots/1/snapshot / rw - btrfs /dev/a rw,subvol=/@/.snapshots/1/snapshot\n\
             2 1 0:30 /@/.snapshots /.snapshots rw - btrfs /dev/a rw,subvol=/@/.snapshots\n\
             3 1 0:30 /@/opt /opt rw - btrfs /dev/a rw,subvol=/@/opt\n";
        let parts = vec!["/.snapshots".to_owned(), "/opt".to_owned()];
        let (name, extent, mut seen, _) = found(lines).remove(0);
        seen.sort();
        assert_eq!((name.as_str(), extent, seen), ("/", Extent::Subvolumes, parts));
        let lines = "1 0 8:1 / / rw - ext4 a rw\n\
             2 1 0:30 / /mnt/pool rw - btrfs /dev/a rw,subvolid=5,subvol=/\n\
             3 1 0:30 /home /home rw - btrfs /dev/a rw,subvolid=257,subvol=/home\n";
        assert_eq!(found(lines)[1], ("/mnt/pool".to_owned(), Extent::Whole, Vec::new(), 2));
    }

    #[test]
    fn in_a_container_the_largest_part_gives_the_name_and_a_mounted_file_is_no_file_system() {
        let lines = "1 0 0:40 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/u\n\
             2 1 8:1 /var/lib/docker/containers/x/hosts /etc/hosts.f rw - ext4 /dev/a rw\n\
             3 1 8:2 /small /s-1 rw - ext4 /dev/b rw\n\
             4 1 8:2 /volumes/large /data/long/path-9 rw - ext4 /dev/b rw\n\
             5 1 8:2 /volumes/large/in /i rw - ext4 /dev/b rw\n";
        assert_eq!(
            found(lines),
            [
                ("/".to_owned(), Extent::Part, Vec::new(), 1),
                ("/data/long/path-9".to_owned(), Extent::Part, vec!["/s-1".to_owned()], 3)
            ]
        );
    }

    #[test]
    fn roots_of_containers_belong_to_the_disk_that_their_upper_directory_is_on() {
        let lines = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
             2 1 0:40 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/var/u\n\
             3 1 0:41 / /run/v rw - overlay overlay ro,lowerdir=/a:/b\n";
        let table = MountTable::new(mountinfo::parse(lines.as_bytes()));
        let found = all(&table, &Fixture);
        let told: Vec<_> = found.iter().map(|fs| (fs.named.id, fs.overlays.clone())).collect();
        let overlay = |minor| DevId { major: 0, minor };
        assert_eq!(told, [(3, Vec::new()), (1, vec![overlay(40)])]);
    }
}
