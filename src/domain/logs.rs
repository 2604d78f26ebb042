//! Logs: systemd's journal, files below the log directories, and logrotate.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::{FileId, ProcId};
use super::size::Bytes;
use super::text::{HostPath, HostText};

/// What was seen of logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logs {
    /// systemd's journal.
    pub journal: Journal,
    /// The directories of the settings that are there.
    pub dirs: Vec<LogDir>,
    /// logrotate; none where it has no configuration here.
    pub logrotate: Option<Logrotate>,
}

/// The files of systemd's journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Journal {
    /// Directories with journal files, largest first.
    pub dirs: Vec<JournalDir>,
}

impl Journal {
    /// Space of all files together.
    pub fn size(&self) -> Bytes {
        self.dirs.iter().fold(Bytes::ZERO, |sum, dir| sum + dir.size())
    }
}

/// Whose journal files a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JournalOwner {
    /// This machine's: the name is that of `/etc/machine-id`.
    Own,
    /// Another machine's: a container whose journal is linked here, or what this disk was cloned from. This machine's
    /// journald never removes any of it.
    Other,
    /// Received from others by systemd-journal-remote, which has limits of its own.
    Remote,
}

/// A journald of this machine. Each namespace (`LogNamespace=` of a unit, systemd.exec(5)) has one of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Journald {
    /// Its namespace; none for the one that everybody else logs to.
    pub namespace: Option<HostText>,
    /// Whether it runs, or is started as soon as somebody calls it: only then can it be told to rotate.
    pub running: bool,
}

/// A directory with journal files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalDir {
    /// Where.
    pub path: HostPath,
    /// Whose.
    pub owner: JournalOwner,
    /// The journald that writes here; none if it is none of this machine's.
    pub journald: Option<Journald>,
    /// Space of closed files, which can be vacuumed.
    pub archived: Bytes,
    /// How many these are.
    pub archived_files: u64,
    /// Space of files that are written to, which cannot.
    pub active: Bytes,
    /// When the newest of them was written to.
    #[schemars(with = "Option<String>")]
    pub modified: Option<Timestamp>,
}

impl JournalDir {
    /// Space of all its files together.
    pub fn size(&self) -> Bytes {
        self.archived + self.active
    }

    /// Space of the files that can be vacuumed, after whoever can has closed the active ones.
    pub fn vacuumable(&self) -> Bytes {
        if self.rotates() { self.size() } else { self.archived }
    }

    /// Whether somebody can be told to close the active files.
    pub fn rotates(&self) -> bool {
        self.journald.as_ref().is_some_and(|journald| journald.running)
    }
}

/// What a directory for logs holds, with all below it on the same file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogDir {
    /// Which directory.
    pub path: HostPath,
    /// Space of all files, those of the journal included.
    pub size: Bytes,
    /// How many files.
    pub files: u64,
    /// The largest that are not rotated, or that somebody still writes to; journal files are not among them.
    pub largest: Vec<LogFile>,
    /// Rotated siblings by the log they belong to, largest first.
    pub rotated: Vec<Rotated>,
    /// All rotated files together.
    pub rotated_size: Bytes,
    /// The largest rotated files that nobody writes to, one by one.
    #[serde(skip)]
    pub rotated_files: Vec<RotatedFile>,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogFile {
    /// Where.
    pub path: HostPath,
    /// Which file; none where it was gone before that could be asked.
    pub id: Option<FileId>,
    /// Space it takes.
    pub allocated: Bytes,
    /// Apparent size: more, where it has holes.
    pub apparent: Bytes,
    /// When it was written to.
    #[schemars(with = "Option<String>")]
    pub modified: Option<Timestamp>,
    /// Who has it open for writing. Looked for only where it is large.
    pub writers: Vec<Writer>,
    /// Where logrotate's configuration names it; none where it does not.
    pub stanza: Option<Stanza>,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogOwner {
    /// A program's, in a directory for logs.
    Program,
    /// A container's: the engine writes what it prints to a file in its own store.
    Container,
}

/// How the head of a log goes away while somebody has it open. Both leave its inode, so that a descriptor of it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InPlace {
    /// It becomes a hole: for any writer. The apparent size stays, and `tail -F` goes on.
    #[default]
    Punch,
    /// It is taken out, in whole blocks: ext4 and XFS, and only where every writer appends. The file gets shorter.
    /// Where that cannot be, a hole is made.
    Collapse,
}

impl InPlace {
    /// The flag of fallocate(1).
    pub fn flag(self) -> &'static str {
        match self {
            Self::Punch => "--punch-hole",
            Self::Collapse => "--collapse-range",
        }
    }
}

/// A log that is to be rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTarget {
    /// Where.
    pub path: HostPath,
    /// Which file.
    pub id: FileId,
    /// Space it takes.
    pub allocated: Bytes,
    /// Who writes to it, as words.
    pub writers: Vec<String>,
    /// Whose it is.
    pub owner: LogOwner,
    /// Lines that stay; none for what the settings say.
    pub keep_lines: Option<u64>,
}

/// A process that has a file open for writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Writer {
    /// Which process.
    pub process: ProcId,
    /// Its name (`comm`).
    pub name: HostText,
    /// The descriptor.
    pub fd: i32,
    /// Whether it appends (`O_APPEND`). One that does not goes on at its old offset after the file was cut, and leaves
    /// a hole before it.
    pub appends: bool,
}

/// Rotated siblings of one log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rotated {
    /// The log they were.
    pub live: HostPath,
    /// How many.
    pub files: u64,
    /// Space they take.
    pub size: Bytes,
}

/// A rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatedFile {
    /// The log it was.
    pub live: HostPath,
    /// Where it is.
    pub path: HostPath,
    /// Which file.
    pub id: FileId,
    /// Space it takes.
    pub allocated: Bytes,
}

/// Rotated files that may be removed: of each log all but the newest `keep`, each once.
pub fn removable<'f>(files: impl IntoIterator<Item = &'f RotatedFile>, keep: u32) -> Vec<&'f RotatedFile> {
    let mut by_log: BTreeMap<&HostPath, Vec<&RotatedFile>> = BTreeMap::new();
    for file in files {
        let of_log = by_log.entry(&file.live).or_default();
        // Directories of the settings may be inside one another.
        if of_log.iter().all(|other| other.path != file.path) {
            of_log.push(file);
        }
    }
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let but_newest = |mut files: Vec<&'f RotatedFile>| {
        files.sort_by(|a, b| b.id.modified.cmp(&a.id.modified).then_with(|| a.path.cmp(&b.path)));
        files.into_iter().skip(keep)
    };
    by_log.into_values().flat_map(but_newest).collect()
}

/// What is known of logrotate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logrotate {
    /// Its configuration.
    pub config: HostPath,
    /// Its state file, which every run writes anew; none where it never ran.
    pub state: Option<HostPath>,
    /// When it ran last.
    #[schemars(with = "Option<String>")]
    pub last_run: Option<Timestamp>,
    /// What starts it: files that are there. None means that nothing was found.
    pub started_by: Vec<HostPath>,
    /// What it complains about (`logrotate --debug`). Asked only where there is something to explain.
    pub complaints: Vec<HostText>,
}

impl Logrotate {
    /// Whether it ran once, but not for so many days. One that never ran is another matter: images of containers have
    /// its configuration and nothing that starts it.
    pub fn has_stopped(&self, now: Timestamp, days: u32) -> bool {
        self.last_run
            .is_some_and(|last| now.duration_since(last) > SignedDuration::from_hours(i64::from(days) * 24))
    }
}

/// Where a configuration of logrotate names a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stanza {
    /// The file.
    pub file: HostPath,
    /// The line in it.
    pub line: u64,
    /// The pattern.
    pub pattern: HostText,
}
