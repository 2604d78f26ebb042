//! Identities that do not change meaning between the moment something is shown and the moment it is
//! acted on. Names, pids and mount points are reused; these are compared again before each change.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A device number, `st_dev` as `makedev(major, minor)` gives it (makedev(3)).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct DevId {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl fmt::Display for DevId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// An inode number, unique within one file system at one time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Inode(pub u64);

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file as the kernel tells it from all others at one moment: device and inode.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct DevIno {
    /// The device.
    pub dev: DevId,
    /// The inode.
    pub ino: Inode,
}

/// A mount. The number is the kernel's reusable 32-bit id (the first field of mountinfo, proc(5)); `unique` is
/// the id that is never used again before a reboot (`STATX_MNT_ID_UNIQUE`, Linux 6.8), where the
/// kernel has it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct MountId {
    /// The id in mountinfo. May be reused after an unmount.
    pub id: u32,
    /// The id that is never reused, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<u64>,
}

impl MountId {
    /// Whether both mean the same mount, judged by the best id that both have.
    pub fn same_mount(self, other: Self) -> bool {
        match (self.unique, other.unique) {
            (Some(a), Some(b)) => a == b,
            _ => self.id == other.id,
        }
    }
}

impl fmt::Display for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount {}", self.id)
    }
}

/// A namespace, by the inode of its file under `/proc/PID/ns` (namespaces(7)).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct NamespaceId(pub u64);

/// What kind of file it is (the `S_IFMT` part of the mode, inode(7)).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block or character device.
    Device,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Anything else.
    Other,
}

/// A point in time of a file system, as statx(2) gives it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct FileTime {
    /// Seconds since the epoch, negative before it.
    pub secs: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

/// The identity of a file: what is frozen when a plan is made and compared again just before the file
/// is touched. The change time is left out because a rename changes it; the birth time is in because
/// ext4 gives a freed inode number out again at once (SAFETY.md T2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct FileId {
    /// The mount it was reached through.
    pub mount: MountId,
    /// Device and inode.
    pub key: DevIno,
    /// Birth time, where the file system keeps one.
    pub born: Option<FileTime>,
    /// What kind of file.
    pub kind: FileKind,
    /// Apparent size in bytes (`stx_size`).
    pub size: u64,
    /// Last change of the contents.
    pub modified: FileTime,
    /// Number of names (hard links).
    pub links: u32,
    /// Last change of anything about it, where known. A rename changes it, so it counts only before one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<FileTime>,
    /// A digest of its file handle, which another file with the same inode number does not have
    /// (`name_to_handle_at(2)`), where the file system has one that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

impl FileId {
    /// Whether `now` is the same file as the one this identity was taken of, and why not otherwise.
    ///
    /// A directory's size and modification time change whenever an entry comes or goes, so they count
    /// for other kinds only.
    ///
    /// # Errors
    /// The first difference, as a sentence.
    pub fn matches(&self, now: &Self) -> Result<(), String> {
        self.matches_inode(now)?;
        if self.kind != FileKind::Directory {
            if self.size != now.size {
                return Err(format!("its size changed from {} to {} bytes", self.size, now.size));
            }
            if self.modified != now.modified {
                return Err("it was modified since".to_owned());
            }
        }
        Ok(())
    }

    /// The same, before anything of ours was done to it: where neither birth time nor file handle can tell it from another
    /// file with its inode number, nothing about it may have changed.
    ///
    /// # Errors
    /// The first difference, as a sentence.
    pub fn matches_untouched(&self, now: &Self) -> Result<(), String> {
        self.matches(now)?;
        if self.is_told_from_others_by(now) {
            return Ok(());
        }
        Err("it was changed since, and this file system keeps neither birth times nor file handles, so nobody can say that \
             it is the same file"
            .to_owned())
    }

    /// The same, where more was written to a regular file since: its birth time or its file handle says that it is the
    /// same file, and it only grew. What was written over, cut or changed in place is another matter.
    ///
    /// # Errors
    /// The first difference, as a sentence.
    pub fn matches_grown(&self, now: &Self) -> Result<(), String> {
        self.matches_inode(now)?;
        let told = both(self.born, now.born) || both(self.generation, now.generation);
        if told && self.kind == FileKind::File && now.size > self.size {
            return Ok(());
        }
        self.matches(now)
    }

    /// Whether something tells the file from another one that was given its inode number: a birth time, a file handle, or
    /// that nothing about it changed.
    pub fn is_told_from_others_by(&self, now: &Self) -> bool {
        both(self.born, now.born)
            || both(self.generation, now.generation)
            || (both(self.changed, now.changed)
                && self.changed == now.changed
                && self.modified == now.modified)
    }

    /// The same, whatever was written to it since: a log grows all the time.
    ///
    /// # Errors
    /// The first difference, as a sentence.
    pub fn matches_inode(&self, now: &Self) -> Result<(), String> {
        if !self.mount.same_mount(now.mount) {
            return Err(format!("it is on another mount now ({}, was {})", now.mount, self.mount));
        }
        if self.key != now.key {
            return Err(format!(
                "another file has that name now (inode {}, was {})",
                now.key.ino, self.key.ino
            ));
        }
        if differ(self.born, now.born) || differ(self.generation, now.generation) {
            return Err(format!("inode {} was reused for a newer file", now.key.ino));
        }
        if self.kind != now.kind {
            return Err(format!("it is a {:?} now, was a {:?}", now.kind, self.kind));
        }
        Ok(())
    }
}

fn both<T: Copy>(a: Option<T>, b: Option<T>) -> bool {
    a.is_some() && b.is_some()
}

fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

/// A process id. Reused by the kernel: never an identity on its own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a process: its pid and when it started, in clock ticks since boot (field 22 of
/// `/proc/PID/stat`, proc(5)).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct ProcId {
    /// The pid, as seen from our pid namespace.
    pub pid: Pid,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

/// The whole command line of a process as `/proc/PID/cmdline` gives it: what tells one script of an interpreter from the
/// next that the same process runs. It may hold secrets, so it is only ever compared: not shown, not written.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CommandLine(Vec<u8>);

impl CommandLine {
    /// Takes the bytes as the kernel gives them.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandLine({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileId {
        FileId {
            mount: MountId { id: 3, unique: Some(77) },
            key: DevIno { dev: DevId { major: 8, minor: 1 }, ino: Inode(12) },
            born: Some(FileTime { secs: 5, nanos: 1 }),
            kind: FileKind::File,
            size: 9,
            modified: FileTime { secs: 6, nanos: 0 },
            links: 1,
            changed: Some(FileTime { secs: 6, nanos: 0 }),
            generation: Some(99),
        }
    }

    #[test]
    fn without_birth_time_the_file_handle_decides_and_without_both_any_change_refuses() {
        for kind in [FileKind::File, FileKind::Directory] {
            let old = FileId { born: None, kind, ..file() };
            assert!(old.matches_untouched(&old).is_ok());
            let other = FileId { generation: Some(100), ..old };
            assert!(old.matches(&other).unwrap_err().contains("reused"));
            let later = Some(FileTime { secs: 7, nanos: 0 });
            assert!(old.matches_untouched(&FileId { changed: later, ..old }).is_ok(), "the handle tells");
            let none = FileId { generation: None, ..old };
            assert!(none.matches_untouched(&none).is_ok());
            for now in [FileId { changed: later, ..none }, FileId { changed: None, ..none }] {
                assert!(none.matches(&now).is_ok());
                assert!(none.matches_untouched(&now).unwrap_err().contains("nobody can say"));
            }
        }
    }

    #[test]
    fn a_file_that_only_grew_is_told_from_one_that_was_changed_or_replaced() {
        let was = file();
        let later = FileTime { secs: 7, nanos: 0 };
        let grown = FileId { size: 10, modified: later, changed: Some(later), ..was };
        assert!(was.matches_grown(&was).is_ok() && was.matches_grown(&grown).is_ok());
        assert!(was.matches(&grown).is_err());
        for (what, now) in [
            ("written over", FileId { size: 9, ..grown }),
            ("cut", FileId { size: 8, ..grown }),
            ("replaced", FileId { born: Some(later), ..grown }),
            ("replaced, by its handle", FileId { generation: Some(1), ..grown }),
            ("nothing tells", FileId { born: None, generation: None, ..grown }),
        ] {
            assert!(was.matches_grown(&now).is_err(), "{what}");
        }
        let link = FileId { kind: FileKind::Symlink, ..was };
        assert!(link.matches_grown(&FileId { kind: FileKind::Symlink, ..grown }).is_err());
    }

    #[test]
    fn a_reused_inode_is_another_file() {
        let was = file();
        let now = FileId { born: Some(FileTime { secs: 7, nanos: 0 }), ..was };
        assert!(was.matches(&now).unwrap_err().contains("reused"));
        assert!(was.matches(&was).is_ok());
    }

    #[test]
    fn a_reused_mount_number_is_another_mount() {
        let was = file();
        let now = FileId { mount: MountId { id: 3, unique: Some(78) }, ..was };
        assert!(was.matches(&now).is_err());
    }

    #[test]
    fn a_directory_may_grow_but_a_file_may_not() {
        let was = FileId { kind: FileKind::Directory, ..file() };
        assert!(was.matches(&FileId { size: 10, ..was }).is_ok());
        assert!(file().matches(&FileId { size: 10, ..file() }).is_err());
    }
}
