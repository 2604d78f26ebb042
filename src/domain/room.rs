//! Where there is room for what has to go from a full file system.

use super::size::{Bytes, Percent};
use super::snapshot::{FileSystem, FsClass};
use super::text::HostPath;

/// The file system that a path without symbolic links is on, by all mounts of all of them.
pub fn holds<'f>(all: &'f [FileSystem], path: &HostPath) -> Option<&'f FileSystem> {
    let above = |point: &&HostPath| path.as_path().starts_with(point.as_path());
    let nearest = |fs: &FileSystem| fs.mount_points().filter(above).map(|point| point.as_bytes().len()).max();
    all.iter().filter_map(|fs| Some((nearest(fs)?, fs))).max_by_key(|(length, _)| *length).map(|(_, fs)| fs)
}

/// Types that cannot keep a file as it is (owner, mode), or keep it in memory only.
const NO_TARGETS: &[&[u8]] = &[
    b"devtmpfs",
    b"exfat",
    b"iso9660",
    b"msdos",
    b"ntfs",
    b"ntfs3",
    b"overlay",
    b"overlayfs",
    b"ramfs",
    b"squashfs",
    b"tmpfs",
    b"udf",
    b"vfat",
];

/// A file system that something can be moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where it is mounted.
    pub mount_point: HostPath,
    /// What is available there.
    pub available: Bytes,
}

/// File systems that so much can be moved to from where a path is, the one with most room first. None becomes so full by it
/// that it would be a finding itself (`warn_percent`).
pub fn rooms(all: &[FileSystem], from: &HostPath, bytes: Bytes, warn_percent: u8) -> Vec<Room> {
    let Some(here) = holds(all, from) else { return Vec::new() };
    let fits = |fs: &&FileSystem| {
        fs.class == FsClass::Local
            && !fs.read_only
            && fs.seen.mounts.iter().all(|at| at.mount_point != fs.mount_point || !at.read_only)
            && fs.dev != here.dev
            && !NO_TARGETS.contains(&fs.fs_type.as_bytes())
            && !fs.mount_point.as_path().starts_with("/boot")
    };
    let room = |fs: &FileSystem| {
        let usage = fs.usage.value()?;
        let after = Percent::of((usage.used() + bytes).0, (usage.used() + usage.available).0);
        let well = bytes <= usage.available && after.0 < f64::from(warn_percent);
        well.then(|| Room { mount_point: fs.mount_point.clone(), available: usage.available })
    };
    let mut rooms: Vec<Room> = all.iter().filter(fits).filter_map(room).collect();
    rooms.sort_by_key(|room| std::cmp::Reverse(room.available));
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevId, MountId};
    use crate::domain::reading::Reading;
    use crate::domain::snapshot::{SeenAt, Usage};

    fn fs(mount_point: &str, fs_type: &str, minor: u32, available: u64) -> FileSystem {
        let available = Bytes(available);
        let usage = Usage { total: Bytes(1000), free: available, available, ..Usage::default() };
        FileSystem {
            mount_point: mount_point.into(),
            source: "/dev/sda".into(),
            fs_type: fs_type.into(),
            mount: MountId::default(),
            dev: DevId { major: 8, minor },
            class: FsClass::Local,
            read_only: false,
            usage: Reading::ready(usage),
            seen: crate::domain::snapshot::Seen::default(),
        }
    }

    #[test]
    fn only_what_keeps_files_as_they_are_and_stays_well_below_full_is_offered() {
        // Nothing can be written through the mount that it is called by.
        let mut shut = fs("/shut", "ext4", 9, 900);
        let at = |mount_point: &str, read_only| SeenAt {
            mount_point: mount_point.into(),
            mount: MountId::default(),
            read_only,
        };
        shut.seen.mounts = vec![at("/shut", true), at("/shut-part", false)];
        let all = [
            shut,
            fs("/", "ext4", 1, 10),
            fs("/tmp", "tmpfs", 2, 900),
            fs("/boot/efi", "vfat", 3, 900),
            fs("/boot", "ext4", 4, 900),
            fs("/data", "ext4", 5, 500),
            fs("/big", "xfs", 6, 800),
            fs("/bind", "ext4", 1, 900),
            FileSystem { read_only: true, ..fs("/ro", "ext4", 7, 900) },
            FileSystem { class: FsClass::Remote, ..fs("/nfs", "nfs4", 8, 900) },
        ];
        let offered = |bytes| -> Vec<String> {
            let rooms = rooms(&all, &"/var/big".into(), Bytes(bytes), 85);
            rooms.iter().map(|room| room.mount_point.to_string()).collect()
        };
        assert_eq!(offered(100), ["/big", "/data"]);
        assert_eq!(offered(400), ["/big"], "/data would be 90 % full");
        assert_eq!(offered(700), Vec::<String>::new());
    }
}
