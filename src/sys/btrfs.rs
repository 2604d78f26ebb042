//! The figures of a btrfs file system: `/sys/fs/btrfs/UUID/allocation` (fs/btrfs/sysfs.c).

use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::raw;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;

/// What is in use, as statvfs(3) counts it: disk space divided by how often data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Data of files.
    pub data: Bytes,
    /// Trees, and small files that are kept in them.
    pub metadata: Bytes,
    /// The tree of chunks.
    pub system: Bytes,
    /// The global reserve, which counts as used.
    pub reserve: Bytes,
}

/// Asks the file system that a file is on.
///
/// # Errors
/// A sentence that says what cannot be read.
pub fn figures(fs: impl AsFd, sysfs: &Path) -> Result<Figures, String> {
    let id = raw::btrfs_fsid(fs.as_fd()).map_err(|why| format!("btrfs does not tell its id: {why}"))?;
    read(&sysfs.join("fs/btrfs").join(uuid(id)).join("allocation"))
}

/// A subvolume of btrfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Its number in the pool.
    pub id: u64,
    /// It was made as a snapshot of another subvolume, and shares with that what neither has changed since.
    pub snapshot: bool,
    /// Nothing in it can be changed.
    pub read_only: bool,
}

/// The subvolume that an open file or directory is in; none on other file systems and before Linux 4.18.
pub fn subvolume(file: impl AsFd) -> Option<Subvolume> {
    let info = raw::btrfs_subvolume(file.as_fd()).ok()?;
    Some(Subvolume {
        id: info.id,
        snapshot: info.parent_uuid != [0; 16],
        read_only: info.flags & READ_ONLY != 0,
    })
}

/// `BTRFS_ROOT_SUBVOL_RDONLY` (`linux/btrfs_tree.h`).
const READ_ONLY: u64 = 1;

/// The text form of RFC 9562.
fn uuid(id: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in id.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn read(dir: &Path) -> Result<Figures, String> {
    let number = |path: PathBuf| -> Result<u64, String> {
        let text = fs::read_to_string(&path)
            .map_err(|why| format!("{} cannot be read: {why}", HostPath::from(path.as_path())))?;
        text.trim().parse().map_err(|_| format!("{} holds no number", HostPath::from(path.as_path())))
    };
    let factor = copies(&dir.join("data"));
    let space = |kind: &str| number(dir.join(kind).join("disk_used")).map(|used| Bytes(used / factor));
    // With mixed block groups there is one kind for data and metadata.
    let mixed = !dir.join("data").exists();
    Ok(Figures {
        data: if mixed { Bytes::ZERO } else { space("data")? },
        metadata: space(if mixed { "mixed" } else { "metadata" })?,
        system: space("system")?,
        reserve: Bytes(number(dir.join("global_rsv_size"))?),
    })
}

/// How often data is kept: by this the kernel divides all figures (`btrfs_statfs` in fs/btrfs/super.c).
fn copies(data: &Path) -> u64 {
    let has = |name: &str| data.join(name).exists();
    if has("raid1c4") {
        4
    } else if has("raid1c3") {
        3
    } else if has("raid1") || has("raid10") || has("dup") {
        2
    } else {
        1
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test's own temporary directory")]
mod tests {
    use super::*;

    #[test]
    fn figures_are_divided_by_the_copies_of_data() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, value: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        put("data/disk_used", "8192\n");
        put("data/raid1/used_bytes", "4096\n");
        put("metadata/disk_used", "4096\n");
        put("system/disk_used", "2048\n");
        put("global_rsv_size", "512\n");
        let figures = read(dir.path()).unwrap();
        let expected =
            Figures { data: Bytes(4096), metadata: Bytes(2048), system: Bytes(1024), reserve: Bytes(512) };
        assert_eq!(figures, expected);
        put("global_rsv_size", "nonsense");
        assert!(read(dir.path()).unwrap_err().contains("global_rsv_size holds no number"));
    }

    #[test]
    fn the_id_is_written_as_sysfs_does() {
        assert_eq!(uuid(*b"0123456789abcdef"), "30313233-3435-3637-3839-616263646566");
    }
}
