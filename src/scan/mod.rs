//! The parallel directory scanner and its tree.
//!
//! Worker threads take directories from each other (`worker`), open them relative to an open parent
//! with a bounded number of descriptors (`cursor`, `open`), list them with getdents64(2) and look at
//! each entry with statx(2); what a large directory holds is looked at by several of them (`share`). Entries are packed (`codec`) in batches (`batch`), which go into an
//! append-only store (`store`); directories have a cell with their totals (`cell`), which move up once
//! per directory (`tree`). Readers look at all of it while it grows (`view`). Deletions and rescans
//! take parts out again (`prune`).
//!
//! A whole ext4 file system is read from its device instead (`ext4`, `whole`), into the same tree; what is directly in
//! the root is shown before that ends (`glance`).
//!
//! What is counted is what GNU `du -x` counts: `st_blocks` × 512 (or `st_size`) of every entry,
//! directories included, each file once however many names it has, nothing that is on another mount.
//! Two differences: a bind mount of the same file system is a boundary here, because boundaries are
//! mount ids, not device numbers; and of apparent sizes, coreutils from 9.2 on leaves out all but
//! regular files and symbolic links, while 9.1 and this scanner count directories, too.

mod batch;
mod cell;
mod codec;
mod cursor;
pub mod ext4;
mod find;
mod glance;
mod links;
mod memory;
mod meter;
pub mod method;
mod names;
mod open;
mod outline;
mod prune;
mod reason;
mod run;
mod share;
mod store;
mod table;
mod tree;
mod view;
mod watch;
mod whole;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::identity::{DevId, FileKind};
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};

pub use self::find::{Crowd, Inodes};
pub use self::method::{Method, Reading, Sample};

use self::cell::DirId;
use self::ext4::Orphan;
use self::run::Shared;
use self::tree::Tree;

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
    /// A snapshot of btrfs, or another subvolume that does not belong to the tree; it is not counted.
    pub subvolume: bool,
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

/// Files of a directory that are counted in its totals, but not listed, because the scan may not take more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// How many.
    pub files: u64,
    /// Apparent size of all.
    pub apparent: Bytes,
    /// Space that all take.
    pub allocated: Bytes,
    /// Newest modification time, in seconds since the epoch.
    pub modified: i64,
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
    /// What is in it beside these; none where all is listed.
    pub folded: Option<Folded>,
}

/// Which rows of a sorted listing are made: some before and after one of them. Much of the time of a long listing goes
/// into rows that nobody sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The entry in the middle.
    pub node: Option<NodeId>,
    /// Its name, for where the node is not there: a rescan gives entries new ones.
    pub name: Option<HostText>,
    /// The number of the row in the middle, where there is neither.
    pub index: usize,
    /// How many rows before it, and how many from it on.
    pub margin: usize,
    /// Names of entries whose rows are made wherever they are.
    pub names: Vec<HostText>,
}

impl Window {
    /// All rows.
    pub const ALL: Self = Self { node: None, name: None, index: 0, margin: usize::MAX, names: Vec::new() };
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The directory, with the rows of the window only.
    pub listing: Listing,
    /// The number of the first of these rows.
    pub first: usize,
    /// How many rows there are in all.
    pub total: usize,
    /// The most space that a row takes.
    pub most_allocated: Bytes,
    /// The largest apparent size of a row.
    pub most_apparent: Bytes,
    /// The rows of the names asked for; none where there is no such entry.
    pub named: BTreeMap<HostText, Option<Row>>,
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
    /// Files counted, but not listed: see [`Folded`].
    pub folded: u64,
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
    /// Whether to read from the device.
    pub method: Method,
    /// Memory that the tree may take; none lets the scanner choose by what the machine can spare. When it is used up,
    /// files are only counted in their directory's totals (`Listing::folded`), and at last directories are not read.
    pub max_memory: Option<Bytes>,
    /// Subvolumes that do not belong to it although they lie below, by the device numbers of their files: they were
    /// counted already.
    pub outside: Vec<DevId>,
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
    /// No thread can be started: nothing is wrong with the path.
    #[error(
        "{path} was not scanned: no thread can be started ({why}); raise the limit of processes (ulimit -u, pids.max)"
    )]
    NoThread {
        /// The path asked for.
        path: HostPath,
        /// What the system says.
        why: String,
    },
    /// It was to be read from its device and cannot be.
    #[error(
        "cannot read {path} from its device: {why}; without --method raw (scan.method) it is scanned by ordinary calls"
    )]
    Raw {
        /// The path asked for.
        path: HostPath,
        /// Why.
        why: String,
    },
}

/// A scan that runs or has run. Cheap to clone; all clones are the same scan. Dropping the last one
/// cancels it and waits for nothing.
#[derive(Clone, Debug)]
pub struct Scan {
    handle: Arc<Handle>,
}

/// Workers hold `Shared` themselves, so the end of the handles is told by this.
struct Handle(Arc<Shared>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scan").field(&self.0.tree.root).field(&self.0.progress()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Scan {
    /// Starts scanning a directory. A symbolic link to a directory is followed, here and nowhere below.
    ///
    /// # Errors
    /// Where the directory cannot be opened. With [`Method::Raw`] also where it is known by now that it cannot be read
    /// from its device; where that turns out later, ordinary calls go on, as `reading` says.
    pub fn start(root: &Path, options: &Options) -> Result<Self, ScanError> {
        Ok(Self { handle: Arc::new(Handle(Shared::start(root, options)?)) })
    }

    /// Scans an open directory that no path need lead to, by ordinary calls: one under a mount point. It is shown as
    /// `shown`. Cannot be scanned again.
    ///
    /// # Errors
    /// Where it cannot be looked at, or no thread can be started.
    pub fn start_in(directory: OwnedFd, shown: &Path, threads: Option<u16>) -> Result<Self, ScanError> {
        let options = Options { threads, method: Method::Calls, ..Options::default() };
        let shared = Shared::start_in(directory, shown, &options)?;
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// The directory the scan started at.
    pub fn root(&self) -> NodeId {
        NodeId(self.tree().dir(DirId::ROOT).map_or(0, |cell| cell.entry.load(Ordering::Acquire)))
    }

    /// How far it is. Never waits for the scan.
    pub fn progress(&self) -> Progress {
        self.shared().progress()
    }

    /// How it reads, and why so. Decided soon after the start.
    pub fn reading(&self) -> Reading {
        self.shared().reading()
    }

    /// Inodes of the file system that are in use without a name, deleted but still open for the most part, each with the
    /// space that its end will give back, as they were when the device was read. They are in no total. None where it was
    /// not read from its device, or not yet.
    pub fn orphans(&self) -> Option<Vec<Orphan>> {
        self.shared().orphans()
    }

    /// Snapshots of btrfs in the tree, which are not counted: they share their space with what they were made of. How
    /// many, and the paths of at most `count`.
    pub fn left_out(&self, count: usize) -> (u64, Vec<HostPath>) {
        self.tree().left_out(count)
    }

    /// The device numbers of the directories that were counted so far: on btrfs each subvolume has its own.
    pub fn devices(&self) -> Vec<DevId> {
        self.shared().devices()
    }

    /// A directory as it is known now, sorted. Never holds the scan up. None where the node is not a
    /// directory or was removed.
    pub fn list(&self, dir: NodeId, sort: SortKey, reverse: bool) -> Option<Listing> {
        Some(self.page(dir, sort, reverse, &Window::ALL)?.listing)
    }

    /// As `list`, but with the rows of one screen only.
    pub fn page(&self, dir: NodeId, sort: SortKey, reverse: bool, window: &Window) -> Option<Page> {
        self.tree().list(dir.0, (sort, reverse), window, self.shared().running())
    }

    /// An entry as it is known now. None where it was removed.
    pub fn row(&self, node: NodeId) -> Option<Row> {
        self.tree().row(node.0, self.shared().running())
    }

    /// The full path of an entry: absolute, without symbolic links. Empty where it was removed.
    pub fn path(&self, node: NodeId) -> HostPath {
        self.tree().path(node.0)
    }

    /// The other names, within the scan, of a file with more than one.
    pub fn other_names(&self, node: NodeId) -> Vec<HostPath> {
        let mut names: Vec<_> =
            self.tree().links.others(node.0).into_iter().map(|other| self.tree().path(other)).collect();
        names.sort_unstable();
        names
    }

    /// The `count` largest files by space taken, largest first.
    pub fn largest_files(&self, count: usize) -> Vec<(HostPath, Row)> {
        self.tree().largest_files(count)
    }

    /// The `count` directories, the root left out, that take most space in files directly in them and below, largest first.
    pub fn largest_dirs(&self, count: usize) -> Vec<(HostPath, Row)> {
        self.tree().largest_dirs(count, self.shared().running())
    }

    /// Directories that could not be read, at most `count`, each with the reason.
    pub fn unreadable(&self, count: usize) -> Vec<(HostPath, String)> {
        self.tree().unreadable(count)
    }

    /// Asks the workers to stop; the scan is over within 50 ms, unless the device is being read and keeps them waiting.
    /// Workers that wait for an answer of the kernel are left behind: what they come back with goes nowhere.
    pub fn cancel(&self) {
        self.shared().cancel();
    }

    /// Waits for the end.
    pub fn wait(&self) -> Progress {
        self.shared().wait();
        self.progress()
    }

    /// Waits for the end, but no longer than `limit`.
    pub fn wait_for(&self, limit: Duration) -> Progress {
        self.shared().wait_for(limit);
        self.progress()
    }

    /// Takes an entry out of the tree, after it was deleted from the machine, and its sizes out of all
    /// above. A file with other names left counts at one of those from then on. The root stays.
    pub fn forget(&self, node: NodeId) {
        self.tree().forget(node.0);
    }

    /// Scans a directory again, in place. Its listing shows `scanning` until that is over. What was
    /// below it gets new nodes.
    ///
    /// # Errors
    /// Where the directory cannot be opened any more.
    pub fn rescan(&self, dir: NodeId) -> Result<(), ScanError> {
        let path = self.path(dir);
        let Some(number) = self.tree().dir_at(dir.0) else {
            let known = self.row(dir).is_some();
            let why = if known { reason::not_a_directory() } else { reason::forgotten() };
            return Err(ScanError::Open { path, why });
        };
        self.shared().rescan(number, &path)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }

    fn tree(&self) -> &Tree {
        &self.handle.0.tree
    }
}
