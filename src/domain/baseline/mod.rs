//! A compact record of what took space below a directory, to be compared with later ones: directories with all below
//! them and files, as far as they take at least a certain size, the *floor*. What is smaller is in the size of its
//! directory.

mod codec;
pub mod diff;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use jiff::Timestamp;

use super::size::Bytes;
use super::text::HostPath;

pub use codec::{Damage, MAX_BYTES, root_of};

/// What took space below a directory at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// When it was scanned, in whole seconds.
    pub taken_at: Timestamp,
    /// The directory.
    pub root: HostPath,
    /// What takes less is not named.
    pub floor: Bytes,
    /// Directories that could not be read: what they hold is missing.
    pub unreadable: u64,
    /// Names, one after the other.
    names: Vec<u8>,
    /// A directory comes before what is in it; what is in one directory is sorted by name. The first is the root.
    nodes: Vec<Node>,
}

/// A directory, or anything else, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    /// Where its name begins in `names`, and how long it is.
    name: (u32, u16),
    directory: bool,
    /// Bytes on disk, of a directory with all below it.
    allocated: u64,
    /// Entries, itself included.
    entries: u64,
    /// The number of the first node that is not in it.
    end: u32,
}

/// The size on disk that a baseline must not exceed: 8 bytes for each entry that was scanned, and something for small
/// trees.
pub fn budget(entries: u64) -> u64 {
    entries.saturating_mul(8).max(64 << 10)
}

impl Baseline {
    /// Entries that were scanned.
    pub fn entries(&self) -> u64 {
        self.nodes.first().map_or(0, |root| root.entries)
    }

    /// Bytes on disk of all that was scanned.
    pub fn allocated(&self) -> Bytes {
        Bytes(self.nodes.first().map_or(0, |root| root.allocated))
    }

    /// Entries that are named, the root included.
    pub fn named(&self) -> usize {
        self.nodes.len()
    }

    /// The same with a higher floor.
    #[must_use]
    pub fn coarser(&self, floor: Bytes) -> Self {
        let mut builder = Builder::new(self.taken_at, self.root.clone(), floor, self.unreadable);
        // Ends of the directories that are open.
        let mut open: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            while open.pop_if(|end| *end <= at).is_some() {
                builder.close();
            }
            if node.allocated < floor.0 && at > 0 {
                at = node.end as usize;
                continue;
            }
            if node.directory {
                builder.open(self.name(at), node.allocated, node.entries);
                open.push(node.end as usize);
            } else {
                builder.file(self.name(at), node.allocated);
            }
            at += 1;
        }
        builder.finish()
    }

    /// As bytes for a file, within the budget: the floor is raised until they are.
    pub fn packed(self) -> (Self, Vec<u8>) {
        let budget = budget(self.entries());
        let mut fitting = self;
        let mut bytes = fitting.to_bytes();
        while bytes.len() as u64 > budget && fitting.named() > 1 {
            fitting = fitting.coarser(Bytes(fitting.floor.0.max(512).saturating_mul(2)));
            bytes = fitting.to_bytes();
        }
        (fitting, bytes)
    }

    fn name(&self, at: usize) -> &[u8] {
        let Some(node) = self.nodes.get(at) else { return &[] };
        let start = node.name.0 as usize;
        self.names.get(start..start.saturating_add(usize::from(node.name.1))).unwrap_or_default()
    }

    /// The node of a path that is named here.
    fn at(&self, path: &Path) -> Option<usize> {
        let mut at = 0;
        for component in path.strip_prefix(&self.root).ok()?.components() {
            let Component::Normal(name) = component else { return None };
            let end = self.nodes.get(at)?.end as usize;
            let mut child = at + 1;
            while child < end && (self.name(child) != name.as_bytes() || !self.nodes.get(child)?.directory) {
                child = self.nodes.get(child)?.end as usize;
            }
            at = Some(child).filter(|&child| child < end)?;
        }
        Some(at)
    }
}

/// Makes a baseline, a directory before what is in it.
pub struct Builder {
    made: Baseline,
    open: Vec<usize>,
}

impl Builder {
    /// Begins.
    pub fn new(taken_at: Timestamp, root: HostPath, floor: Bytes, unreadable: u64) -> Self {
        let taken_at = Timestamp::from_second(taken_at.as_second()).unwrap_or(taken_at);
        let made = Baseline { taken_at, root, floor, unreadable, names: Vec::new(), nodes: Vec::new() };
        Self { made, open: Vec::new() }
    }

    /// A directory; what is added until it is closed is in it. The first is the root, whose name does not matter.
    pub fn open(&mut self, name: &[u8], allocated: u64, entries: u64) {
        self.open.push(self.made.nodes.len());
        self.push(name, true, allocated, entries);
    }

    /// Anything else.
    pub fn file(&mut self, name: &[u8], allocated: u64) {
        self.push(name, false, allocated, 1);
    }

    /// Ends the directory that was opened last.
    pub fn close(&mut self) {
        let end = self.made.nodes.len();
        if let Some(node) = self.open.pop().and_then(|at| self.made.nodes.get_mut(at)) {
            node.end = clamp(end);
        }
    }

    /// Ends all of it.
    pub fn finish(mut self) -> Baseline {
        while !self.open.is_empty() {
            self.close();
        }
        self.made
    }

    fn push(&mut self, name: &[u8], directory: bool, allocated: u64, entries: u64) {
        let root = self.made.nodes.is_empty();
        let name = if root { &[][..] } else { name };
        let place = (clamp(self.made.names.len()), u16::try_from(name.len()).unwrap_or(u16::MAX));
        self.made.names.extend_from_slice(name);
        let end = clamp(self.made.nodes.len() + 1);
        self.made.nodes.push(Node { name: place, directory, allocated, entries, end });
    }
}

/// More than four thousand million of anything do not fit into `MAX_BYTES`.
fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
