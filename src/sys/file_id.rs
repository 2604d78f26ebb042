//! The identity of a file, from statx(2).

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io;

use super::raw;
use crate::domain::identity::{DevId, DevIno, FileId, FileKind, FileTime, Inode, MountId};

/// `STATX_MNT_ID_UNIQUE` (include/uapi/linux/stat.h, Linux 6.8): `stx_mnt_id` is an id that is never used again.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Device and inode in a statx answer.
pub fn dev_ino(stat: &Statx) -> DevIno {
    DevIno { dev: DevId { major: stat.stx_dev_major, minor: stat.stx_dev_minor }, ino: Inode(stat.stx_ino) }
}

/// Device and inode in what the standard library says of a file.
pub fn of_metadata(meta: &std::fs::Metadata) -> DevIno {
    use std::os::unix::fs::MetadataExt as _;
    let dev = meta.dev();
    DevIno {
        dev: DevId { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) },
        ino: Inode(meta.ino()),
    }
}

/// The kind of file in the mode of a statx answer.
pub fn kind_of(mode: u16) -> FileKind {
    match u32::from(mode) & libc::S_IFMT {
        libc::S_IFREG => FileKind::File,
        libc::S_IFDIR => FileKind::Directory,
        libc::S_IFLNK => FileKind::Symlink,
        libc::S_IFBLK | libc::S_IFCHR => FileKind::Device,
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        _ => FileKind::Other,
    }
}

/// The identity of an open file (an `O_PATH` descriptor will do).
///
/// # Errors
/// What statx(2) says.
pub fn of_fd(fd: impl AsFd) -> io::Result<FileId> {
    at(fd, c"", AtFlags::EMPTY_PATH)
}

/// The identity of the entry `name` of an open directory; a symbolic link is not followed and a network
/// file system is not asked (`AT_STATX_DONT_SYNC`).
///
/// # Errors
/// What statx(2) says.
pub fn of_entry(dir: impl AsFd, name: &CStr) -> io::Result<FileId> {
    at(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The identity of what a path leads to. Nothing is mounted and no server is asked, but a path through a dead
/// server's mount can still hang: ask through [`super::deadline`] where that may be.
///
/// # Errors
/// What statx(2) says.
pub fn of_path(path: &CStr, follow: bool) -> io::Result<FileId> {
    at(rustix::fs::CWD, path, if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW })
}

/// The identity of what an entry of an open directory leads to, links followed: for those of `/proc/PID`, which are asked
/// of no server.
///
/// # Errors
/// What statx(2) says.
pub fn of_target(dir: impl AsFd, name: &CStr) -> io::Result<FileId> {
    at(dir, name, AtFlags::empty())
}

/// Device and inode of what has a path, a symbolic link not followed. What [`of_path`] says of hanging holds here too.
///
/// # Errors
/// What statx(2) says.
pub fn key_of_path(path: &CStr) -> io::Result<DevIno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(rustix::fs::CWD, path, flags, StatxFlags::INO).map(|stat| dev_ino(&stat))
}

/// What there is to say of the age and the size of an entry, with its identity.
#[derive(Clone, Copy, Debug)]
pub struct Aged {
    /// Which file. Its mount is known by the reusable id only, and its file handle only if it has no birth time: for very
    /// many entries of one directory.
    pub id: FileId,
    /// The newest of its times, in seconds since the epoch, rounded up.
    pub newest: i64,
    /// The user it belongs to.
    pub uid: u32,
    /// Space it takes, in bytes.
    pub allocated: u64,
}

/// Identity, age and size of the entry `name` of an open directory, or of what is open itself if the name is empty, in one
/// call.
///
/// # Errors
/// What statx(2) says.
pub fn aged(dir: impl AsFd, name: &CStr) -> io::Result<Aged> {
    let which = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let flags = which | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = statx(&dir, name, flags, WANTED)?;
    let born = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
    let times = [Some(stat.stx_atime), Some(stat.stx_mtime), Some(stat.stx_ctime), born];
    // Any part of a second makes it younger.
    let newest = times.iter().flatten().map(|stamp| stamp.tv_sec.saturating_add(1)).max().unwrap_or(i64::MAX);
    let generation = if born.is_none() { generation(&dir, name, flags, stat.stx_ino) } else { None };
    Ok(Aged {
        id: identity(&stat, None, generation),
        newest,
        uid: stat.stx_uid,
        allocated: stat.stx_blocks.saturating_mul(512),
    })
}

/// What is asked of statx(2) for an identity.
pub(super) const WANTED: StatxFlags =
    StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

fn at(dir: impl AsFd, name: &CStr, flags: AtFlags) -> io::Result<FileId> {
    let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = statx(&dir, name, flags, WANTED)?;
    let unique = statx(&dir, name, flags, MNT_ID_UNIQUE)
        .ok()
        .filter(|answer| answer.stx_mask & MNT_ID_UNIQUE.bits() != 0)
        .map(|answer| answer.stx_mnt_id);
    Ok(identity(&stat, unique, generation(&dir, name, flags, stat.stx_ino)))
}

fn identity(stat: &Statx, unique: Option<u64>, generation: Option<u64>) -> FileId {
    let time = |stamp: rustix::fs::StatxTimestamp| FileTime { secs: stamp.tv_sec, nanos: stamp.tv_nsec };
    FileId {
        // The reusable id is 32 bits wide in the kernel (struct mount, mnt_id).
        mount: MountId { id: u32::try_from(stat.stx_mnt_id).unwrap_or(u32::MAX), unique },
        key: dev_ino(stat),
        born: (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(stat.stx_btime)),
        kind: kind_of(stat.stx_mode),
        size: stat.stx_size,
        modified: time(stat.stx_mtime),
        links: stat.stx_nlink,
        changed: Some(time(stat.stx_ctime)),
        generation,
    }
}

/// What tells a file from another one that had its inode number before: a digest of its file handle, where that holds
/// the inode number and so means this file and no other. What FUSE programs and servers give out for a while does not.
fn generation(dir: impl AsFd, name: &CStr, flags: AtFlags, ino: u64) -> Option<u64> {
    let follow = !flags.intersects(AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH);
    let how = if follow { libc::AT_SYMLINK_FOLLOW } else { 0 }
        | if flags.contains(AtFlags::EMPTY_PATH) { libc::AT_EMPTY_PATH } else { 0 };
    let handle = raw::file_handle(dir.as_fd(), name, how).ok()?;
    let (long, short) = (ino.to_ne_bytes(), u32::try_from(ino).ok().map(u32::to_ne_bytes));
    let bytes = handle.bytes();
    let holds = bytes.windows(8).any(|part| part == long)
        || short.is_some_and(|short| bytes.windows(4).any(|part| part == short));
    // FNV-1a: the same in every version of this program, because the journal keeps it.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    holds.then(|| handle.kind.to_ne_bytes().iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_a_file_are_the_same_file_and_another_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        #[allow(clippy::disallowed_methods)]
        {
            std::fs::write(path("a"), b"x").unwrap();
            std::fs::write(path("c"), b"x").unwrap();
            std::fs::hard_link(path("a"), path("b")).unwrap();
        }
        let fd = std::fs::File::open(dir.path()).unwrap();
        let a = of_entry(&fd, c"a").unwrap();
        assert!(a.matches(&of_entry(&fd, c"b").unwrap()).is_ok());
        assert!(a.matches(&of_entry(&fd, c"c").unwrap()).is_err());
        assert_eq!(a, of_fd(std::fs::File::open(path("a")).unwrap()).unwrap());
    }
}
