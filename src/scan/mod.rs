//! The parallel directory scanner and its tree.

pub mod ext4;

use std::path::Path;
use std::time::Duration;

use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};

/// An entry of a scan's tree. Valid for the life of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// How a directory's entries are ordered. Largest, newest or first name first; `Listing` can be reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// By space taken.
    Allocated,
    /// By apparent size.
    Apparent,
    /// By number of entries.
    Entries,
    /// By newest modification time in it: oldest first.
    Age,
    /// By name, bytewise.
    Name,
}

/// What is special about an entry.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each shown by its own mark")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowFlags {
    /// A directory that could not be read, or not completely.
    pub unreadable: bool,
    /// Something below it could not be read.
    pub unreadable_below: bool,
    /// A mount point; what is mounted there is not counted.
    pub mount_point: bool,
    /// A file with more than one name.
    pub hard_link: bool,
    /// A file with more than one name whose size was counted at another name.
    pub counted_elsewhere: bool,
    /// Still being scanned.
    pub scanning: bool,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which entry.
    pub node: NodeId,
    /// Its name.
    pub name: HostText,
    /// What kind of file.
    pub kind: FileKind,
    /// Apparent size of it and all below.
    pub apparent: Bytes,
    /// Space that it and all below take.
    pub allocated: Bytes,
    /// Entries in it and below, itself included.
    pub entries: u64,
    /// Newest modification time of it and all below, in seconds since the epoch.
    pub modified: i64,
    /// What is special about it.
    pub flags: RowFlags,
}

/// A directory as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The directory itself, with its totals.
    pub dir: Row,
    /// Its path.
    pub path: HostPath,
    /// Its parent within the scan; none for the root.
    pub parent: Option<NodeId>,
    /// Its entries, sorted.
    pub rows: Vec<Row>,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries seen.
    pub entries: u64,
    /// Directories seen.
    pub directories: u64,
    /// Directories that could not be read.
    pub unreadable: u64,
    /// Entries that vanished between being listed and being looked at.
    pub vanished: u64,
    /// Space taken by all seen.
    pub allocated: Bytes,
    /// Apparent size of all seen.
    pub apparent: Bytes,
    /// Time since the start, or until the end.
    pub elapsed: Duration,
    /// Whether it is over.
    pub finished: bool,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// How to scan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Worker threads; none lets the scanner choose.
    pub threads: Option<u16>,
}

/// Why a scan cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The path cannot be opened.
    #[error("cannot scan {path}: {why}")]
    Open {
        /// The path asked for.
        path: HostPath,
        /// Why, and what to do.
        why: String,
    },
}

/// A scan that runs or has run. Cheap to clone; all clones are the same scan. Dropping the last one cancels it.
#[derive(Clone, Debug)]
pub struct Scan {}

impl Scan {
    /// Starts scanning a directory.
    ///
    /// # Errors
    /// Where the directory cannot be opened.
    pub fn start(root: &Path, options: &Options) -> Result<Self, ScanError> {
        let _ = options;
        Err(ScanError::Open { path: root.into(), why: "not built".to_owned() })
    }

    /// The directory the scan started at.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// How far it is. Never waits for the scan.
    pub fn progress(&self) -> Progress {
        Progress::default()
    }

    /// A directory as it is known now, sorted. Never holds the scan up. None where the node is not a
    /// directory or was removed.
    pub fn list(&self, dir: NodeId, sort: SortKey, reverse: bool) -> Option<Listing> {
        let _ = (dir, sort, reverse);
        None
    }

    /// The full path of an entry.
    pub fn path(&self, node: NodeId) -> HostPath {
        let _ = node;
        HostPath::default()
    }

    /// The `count` largest files by space taken, largest first.
    pub fn largest_files(&self, count: usize) -> Vec<(HostPath, Row)> {
        let _ = count;
        Vec::new()
    }

    /// The `count` directories, the root left out, that take most space in files directly in them and below, largest first.
    pub fn largest_dirs(&self, count: usize) -> Vec<(HostPath, Row)> {
        let _ = count;
        Vec::new()
    }

    /// Directories that could not be read, at most `count`, each with the reason.
    pub fn unreadable(&self, count: usize) -> Vec<(HostPath, String)> {
        let _ = count;
        Vec::new()
    }

    /// Asks the workers to stop; they do within 50 ms.
    pub fn cancel(&self) {}

    /// Waits for the end.
    pub fn wait(&self) -> Progress {
        self.progress()
    }

    /// Waits for the end, but no longer than `limit`.
    pub fn wait_for(&self, limit: Duration) -> Progress {
        let _ = limit;
        self.progress()
    }

    /// Takes an entry out of the tree, after it was deleted from the machine, and its sizes out of all above.
    pub fn forget(&self, node: NodeId) {
        let _ = node;
    }

    /// Scans a directory again, in place. Its listing shows `scanning` until that is over.
    ///
    /// # Errors
    /// Where the directory cannot be opened any more.
    pub fn rescan(&self, dir: NodeId) -> Result<(), ScanError> {
        let _ = dir;
        Ok(())
    }
}
