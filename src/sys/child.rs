//! The questions that are answered in a forked child, because the answer may never come: a server that is
//! gone leaves the asker in an uninterruptible sleep, and a *thread* in that state keeps the whole program from ending
//! (SAFETY.md T20).
//!
//! Everything that `answer` calls runs between fork(2) and _exit(2) and must be async-signal-safe:
//! no allocation, no lock, no panic. rustix makes the system calls directly and allocates nothing for these.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::{self, Errno};
use rustix::time::{ClockId, clock_gettime};

use super::file_id;
use crate::domain::identity::{DevId, DevIno, FileId, FileKind, FileTime, Inode, MountId};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Usage;

/// A question to a file system. Everything it needs is allocated before the fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The figures of the file system at a path (statvfs(3)).
    Usage {
        /// Any path on it.
        path: CString,
    },
    /// The identity of a file.
    Identity {
        /// Which.
        path: CString,
        /// Whether a symbolic link at the end is followed.
        follow: bool,
    },
    /// What a directory for temporary files holds.
    Census {
        /// The directory; a symbolic link is followed once.
        path: CString,
        /// Entries with no time stamp after this are old (seconds since the epoch).
        old_before: i64,
        /// How long to look at each entry's times, in milliseconds; then they are counted only.
        stat_millis: u64,
        /// How long to count, in milliseconds.
        count_millis: u64,
    },
    /// Whether a directory can be created and removed there.
    Create {
        /// The directory; a symbolic link is followed once.
        path: CString,
        /// A name that nothing in it has.
        name: CString,
    },
    /// What creating and removing a directory there costs, and in a fresh directory of the same file system.
    Compare {
        /// The directory; a symbolic link is followed once.
        path: CString,
        /// A name that nothing in it has.
        name: CString,
    },
    /// Writes what the file system of a directory holds in memory only to its disk (syncfs(2)).
    Flush {
        /// The directory.
        path: CString,
    },
}

/// What a directory for temporary files holds, as far as it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Entries, without `.` and `..`.
    pub entries: u64,
    /// Of these, those whose newest time stamp is old.
    pub old: u64,
    /// Entries whose times were not looked at: time ran out, or they vanished.
    pub unaged: u64,
    /// Whether counting stopped early.
    pub cut_short: bool,
    /// `st_size` of the directory.
    pub directory_size: u64,
    /// Inodes of its file system.
    pub inodes: u64,
    /// Of these, free.
    pub inodes_free: u64,
}

/// What became of the live test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// Created and removed, in this many microseconds.
    Works(u64),
    /// It could not be created.
    NotCreated(Errno),
    /// It was created and could not be removed again.
    NotRemoved(Errno),
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Usage`].
    Usage(Usage),
    /// To [`Question::Identity`].
    Identity(FileId),
    /// To [`Question::Census`].
    Census(Census),
    /// To [`Question::Create`].
    Create(Created),
    /// To [`Question::Compare`] where both worked, in microseconds; else [`Answer::Create`] says what failed.
    Compared {
        /// In the directory: the best of several tries, which on a busy machine is nearest to the truth.
        here: u64,
        /// In a fresh directory, likewise.
        fresh: u64,
    },
    /// To [`Question::Flush`]: done.
    Flushed,
    /// The system refused.
    Failed(Errno),
}

/// Length of an answer in the pipe: 15 words. Below `PIPE_BUF`, so that it arrives whole (pipe(7)).
pub(super) const WIRE_LEN: usize = 144;

/// Answers a question. Runs in the forked child; see the module for what it must not do.
pub(super) fn answer(question: &Question) -> Answer {
    let outcome = match question {
        Question::Usage { path } => usage(path).map(Answer::Usage),
        Question::Identity { path, follow } => file_id::of_path(path, *follow).map(Answer::Identity),
        Question::Census { path, old_before, stat_millis, count_millis } => {
            census(path, *old_before, *stat_millis, *count_millis).map(Answer::Census)
        }
        Question::Create { path, name } => open_dir(path).map(|dir| Answer::Create(create(&dir, name))),
        Question::Compare { path, name } => open_dir(path).map(|dir| compare(&dir, name)),
        Question::Flush { path } => open_dir(path).and_then(rustix::fs::syncfs).map(|()| Answer::Flushed),
    };
    outcome.unwrap_or_else(Answer::Failed)
}

/// The figures of a file system (statvfs(3): counts are in units of `f_frsize`).
pub(super) fn usage(path: &CStr) -> io::Result<Usage> {
    Ok(usage_from(&rustix::fs::statvfs(path)?))
}

fn usage_from(figures: &rustix::fs::StatVfs) -> Usage {
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(figures.f_frsize));
    Usage {
        total: bytes(figures.f_blocks),
        free: bytes(figures.f_bfree),
        available: bytes(figures.f_bavail),
        inodes: figures.f_files,
        inodes_free: figures.f_ffree,
    }
}

/// Opens a directory; a symbolic link in its place is followed once, to something that is not a link.
fn open_dir(path: &CStr) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        // With O_DIRECTORY a link is ENOTDIR, without it ELOOP (open(2)).
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let mut buffer = [0u8; 4096];
            let len = rustix::fs::readlinkat_raw(CWD, path, &mut buffer[..]).map_err(|error| {
                // EINVAL: not a link at all, so it is not a directory either.
                if error == Errno::INVAL { Errno::NOTDIR } else { error }
            })?;
            follow_once(path, buffer.get(..len).unwrap_or_default())
        }
        opened => opened,
    }
}

/// Opens the target of a link; a relative one starts at the link's parent.
fn follow_once(link: &CStr, target: &[u8]) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut joined = [0u8; 8192];
    let parent = if target.first() == Some(&b'/') {
        &[]
    } else {
        let bytes = link.to_bytes();
        let end = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at.saturating_add(1));
        bytes.get(..end).unwrap_or(&[])
    };
    let room = joined.len().saturating_sub(1);
    if parent.len().saturating_add(target.len()) > room {
        return Err(Errno::NAMETOOLONG);
    }
    for (slot, byte) in joined.iter_mut().zip(parent.iter().chain(target)) {
        *slot = *byte;
    }
    let path = CStr::from_bytes_until_nul(&joined).map_err(|_| Errno::INVAL)?;
    openat(CWD, path, OFlags::RDONLY | flags, Mode::empty())
}

fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec.wrapping_mul(1_000_000).wrapping_add(now.tv_nsec / 1000);
    u64::try_from(micros).unwrap_or(0)
}

fn census(path: &CStr, old_before: i64, stat_millis: u64, count_millis: u64) -> io::Result<Census> {
    let started = monotonic_micros();
    let dir = open_dir(path)?;
    let own = statx(&dir, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS)?;
    let mut census = Census { directory_size: own.stx_size, ..Census::default() };
    if let Ok(figures) = rustix::fs::fstatvfs(&dir) {
        census.inodes = figures.f_files;
        census.inodes_free = figures.f_ffree;
    }
    let times = StatxFlags::ATIME | StatxFlags::MTIME | StatxFlags::CTIME | StatxFlags::BTIME;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    let mut elapsed = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        // The directory that is made and removed at the same moment to test that it can be is none of the entries.
        if name == c"." || name == c".." || name.to_bytes().starts_with(OWN_PREFIX.as_bytes()) {
            continue;
        }
        if census.entries.is_multiple_of(256) {
            elapsed = monotonic_micros().saturating_sub(started) / 1000;
            if elapsed >= count_millis {
                census.cut_short = true;
                break;
            }
        }
        census.entries = census.entries.saturating_add(1);
        let stat = if elapsed < stat_millis { statx(dir.as_fd(), name, flags, times).ok() } else { None };
        match stat {
            Some(stat) => {
                let newest = [stat.stx_atime, stat.stx_mtime, stat.stx_ctime, stat.stx_btime]
                    .iter()
                    .map(|stamp| stamp.tv_sec)
                    .max();
                if newest.is_some_and(|newest| newest <= old_before) {
                    census.old = census.old.saturating_add(1);
                }
            }
            None => census.unaged = census.unaged.saturating_add(1),
        }
    }
    Ok(census)
}

/// How the names of the directories begin that are made to test that one can be.
pub const OWN_PREFIX: &str = ".unwedge-probe-";

#[expect(
    clippy::disallowed_methods,
    reason = "the one change a probe makes, asked for by issue 2: create and remove one directory of its own"
)]
fn create(dir: impl AsFd, name: &CStr) -> Created {
    let started = monotonic_micros();
    if let Err(error) = rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
        return Created::NotCreated(error);
    }
    match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Created::Works(monotonic_micros().saturating_sub(started)),
        Err(error) => Created::NotRemoved(error),
    }
}

/// Tries of [`compare`] in each directory.
const TRIES: usize = 7;

#[expect(
    clippy::disallowed_methods,
    reason = "as `create`: a probe makes and removes one directory of its own, and one in that"
)]
fn compare(dir: impl AsFd, name: &CStr) -> Answer {
    let mut here = [0; TRIES];
    for slot in &mut here {
        match create(&dir, name) {
            Created::Works(micros) => *slot = micros,
            failed => return Answer::Create(failed),
        }
    }
    if let Err(error) = rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
        return Answer::Create(Created::NotCreated(error));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fresh = [0; TRIES];
    let mut trouble = None;
    match openat(&dir, name, flags, Mode::empty()) {
        Ok(inner) => {
            for slot in &mut fresh {
                match create(&inner, name) {
                    Created::Works(micros) => *slot = micros,
                    failed => {
                        trouble = Some(failed);
                        break;
                    }
                }
            }
        }
        Err(error) => trouble = Some(Created::NotCreated(error)),
    }
    if let Err(error) = rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
        return Answer::Create(Created::NotRemoved(error));
    }
    trouble.map_or_else(|| Answer::Compared { here: best(here), fresh: best(fresh) }, Answer::Create)
}

fn best(times: [u64; TRIES]) -> u64 {
    times.into_iter().min().unwrap_or(0)
}

impl Answer {
    /// The answer as it goes through the pipe, in the machine's byte order: a tag and 14 numbers.
    pub(super) fn to_bytes(self) -> [u8; WIRE_LEN] {
        let words: [u64; WIRE_LEN / 8] = match self {
            Self::Failed(error) => pad([0, errno_word(error)]),
            Self::Usage(usage) => {
                pad([1, usage.total.0, usage.free.0, usage.available.0, usage.inodes, usage.inodes_free])
            }
            Self::Identity(id) => pad([
                2,
                u64::from(id.mount.id),
                u64::from(id.mount.unique.is_some()),
                id.mount.unique.unwrap_or(0),
                u64::from(id.key.dev.major),
                u64::from(id.key.dev.minor),
                id.key.ino.0,
                u64::from(id.born.is_some()),
                id.born.unwrap_or_default().secs.cast_unsigned(),
                u64::from(id.born.unwrap_or_default().nanos) << 32 | u64::from(id.modified.nanos),
                kind_word(id.kind),
                id.size,
                id.modified.secs.cast_unsigned(),
                u64::from(id.links),
                u64::from(id.changed.is_some()) | u64::from(id.generation.is_some()) << 1,
                id.changed.unwrap_or_default().secs.cast_unsigned(),
                u64::from(id.changed.unwrap_or_default().nanos),
                id.generation.unwrap_or(0),
            ]),
            Self::Census(census) => pad([
                3,
                census.entries,
                census.old,
                census.unaged,
                u64::from(census.cut_short),
                census.directory_size,
                census.inodes,
                census.inodes_free,
            ]),
            Self::Create(Created::Works(micros)) => pad([4, micros]),
            Self::Create(Created::NotCreated(error)) => pad([5, errno_word(error)]),
            Self::Create(Created::NotRemoved(error)) => pad([6, errno_word(error)]),
            Self::Flushed => pad([7]),
            Self::Compared { here, fresh } => pad([8, here, fresh]),
        };
        let mut bytes = [0; WIRE_LEN];
        for (slot, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *slot = word.to_ne_bytes();
        }
        bytes
    }

    /// Reads an answer from the pipe.
    pub(super) fn from_bytes(bytes: &[u8; WIRE_LEN]) -> Option<Self> {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        let mut next = || words.next().unwrap_or(0);
        Some(match next() {
            0 => Self::Failed(errno_of(next())),
            1 => Self::Usage(Usage {
                total: Bytes(next()),
                free: Bytes(next()),
                available: Bytes(next()),
                inodes: next(),
                inodes_free: next(),
            }),
            2 => {
                let mount_id = low(next());
                let has_unique = next() != 0;
                let unique = next();
                let dev = DevId { major: low(next()), minor: low(next()) };
                let ino = Inode(next());
                let has_born = next() != 0;
                let born_secs = next().cast_signed();
                let nanos = next();
                let kind = kind_of(next());
                let size = next();
                let modified = FileTime { secs: next().cast_signed(), nanos: low(nanos & 0xffff_ffff) };
                let links = low(next());
                let there = next();
                let changed = FileTime { secs: next().cast_signed(), nanos: low(next()) };
                let generation = next();
                Self::Identity(FileId {
                    mount: MountId { id: mount_id, unique: has_unique.then_some(unique) },
                    key: DevIno { dev, ino },
                    born: has_born.then_some(FileTime { secs: born_secs, nanos: low(nanos >> 32) }),
                    kind,
                    size,
                    modified,
                    links,
                    changed: (there & 1 != 0).then_some(changed),
                    generation: (there & 2 != 0).then_some(generation),
                })
            }
            3 => Self::Census(Census {
                entries: next(),
                old: next(),
                unaged: next(),
                cut_short: next() != 0,
                directory_size: next(),
                inodes: next(),
                inodes_free: next(),
            }),
            4 => Self::Create(Created::Works(next())),
            5 => Self::Create(Created::NotCreated(errno_of(next()))),
            6 => Self::Create(Created::NotRemoved(errno_of(next()))),
            7 => Self::Flushed,
            8 => Self::Compared { here: next(), fresh: next() },
            _ => return None,
        })
    }
}

fn pad<const N: usize>(numbers: [u64; N]) -> [u64; WIRE_LEN / 8] {
    let mut words = [0; WIRE_LEN / 8];
    for (slot, number) in words.iter_mut().zip(numbers) {
        *slot = number;
    }
    words
}

fn low(word: u64) -> u32 {
    u32::try_from(word).unwrap_or(u32::MAX)
}

fn errno_word(error: Errno) -> u64 {
    u64::from(error.raw_os_error().unsigned_abs())
}

fn errno_of(word: u64) -> Errno {
    // Error numbers are 1 to 4095 (include/linux/err.h).
    i32::try_from(word).ok().filter(|raw| (1..4096).contains(raw)).map_or(Errno::IO, Errno::from_raw_os_error)
}

const KINDS: [FileKind; 7] = [
    FileKind::File,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Device,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::Other,
];

fn kind_word(kind: FileKind) -> u64 {
    KINDS.iter().zip(0..).find(|(known, _)| **known == kind).map_or(6, |(_, word)| word)
}

fn kind_of(word: u64) -> FileKind {
    usize::try_from(word).ok().and_then(|index| KINDS.get(index)).copied().unwrap_or(FileKind::Other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_answer_survives_the_pipe() {
        let id = FileId {
            mount: MountId { id: 7, unique: Some(1 << 40) },
            key: DevIno { dev: DevId { major: 8, minor: 3 }, ino: Inode(u64::MAX) },
            born: Some(FileTime { secs: -5, nanos: 999_999_999 }),
            kind: FileKind::Socket,
            size: 12,
            modified: FileTime { secs: -1, nanos: 3 },
            links: 4,
            changed: Some(FileTime { secs: -7, nanos: 5 }),
            generation: Some(u64::MAX),
        };
        let bare = FileId {
            mount: MountId { id: 1, unique: None },
            born: None,
            generation: None,
            changed: None,
            kind: FileKind::Directory,
            ..id
        };
        let usage = Usage { total: Bytes(5), free: Bytes(4), available: Bytes(3), inodes: 2, inodes_free: 1 };
        let census = Census {
            entries: 1,
            old: 2,
            unaged: 3,
            cut_short: true,
            directory_size: 4,
            inodes: 5,
            inodes_free: 6,
        };
        for answer in [
            Answer::Identity(id),
            Answer::Identity(bare),
            Answer::Usage(usage),
            Answer::Census(census),
            Answer::Compared { here: 12, fresh: 11 },
            Answer::Create(Created::Works(9)),
            Answer::Create(Created::NotCreated(Errno::NOSPC)),
            Answer::Create(Created::NotRemoved(Errno::PERM)),
            Answer::Failed(Errno::STALE),
            Answer::Flushed,
        ] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_from_the_pipe_are_taken(bytes in proptest::array::uniform32(any::<u8>())) {
            let mut wire = [0; WIRE_LEN];
            wire[..32].copy_from_slice(&bytes);
            Answer::from_bytes(&wire);
        }
    }

    #[test]
    fn a_link_to_a_directory_is_followed_once_and_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cstring = |name: &str| CString::new(dir.path().join(name).to_str().unwrap().to_owned()).unwrap();
        #[allow(clippy::disallowed_methods)]
        {
            std::fs::create_dir(dir.path().join("real")).unwrap();
            std::fs::write(dir.path().join("file"), b"").unwrap();
        }
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("link"), dir.path().join("twice")).unwrap();
        assert!(open_dir(&cstring("real")).is_ok());
        let key = |fd| file_id::of_fd(fd).unwrap().key;
        assert_eq!(key(open_dir(&cstring("link")).unwrap()), key(open_dir(&cstring("real")).unwrap()));
        assert!(open_dir(&cstring("twice")).is_err());
        assert_eq!(open_dir(&cstring("file")).unwrap_err(), Errno::NOTDIR);
        assert_eq!(open_dir(&cstring("none")).unwrap_err(), Errno::NOENT);
    }
}
