//! Entries of a directory on their way into the tree.

use std::sync::Arc;

use rustix::fs::Statx;

use crate::domain::identity::FileKind;
use crate::sys::file_id::kind_of;

use super::cell::{DirId, NOWHERE, Totals};
use super::codec::{self, Leaf};
use super::links::{LinkKey, Place};
use super::memory::{Fold, Memory, SMALL};
use super::names::Interner;
use super::tree::Tree;

/// A batch goes into the tree when it has this many bytes: some 2,000 entries, 4 ms of work. So the
/// first of a million entries in one directory are seen soon, and a reader never holds a segment long.
pub(super) const FULL: usize = 48 << 10;

/// `st_blocks` counts in units of 512 bytes (inode(7)).
const BLOCK: u64 = 512;

/// A file with more than one name.
struct LinkedFile {
    offset: u32,
    file: LinkKey,
    place: Place,
    totals: Totals,
}

/// Entries of one directory, packed.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The directories among them, with the offset of their entries.
    pub(super) dirs: Vec<(u32, DirId)>,
    /// Sums of what is not a directory.
    pub(super) files: Totals,
    /// Sums of the directories' own sizes.
    pub(super) directories: Totals,
    /// Those of `files` that are not listed.
    folded: Totals,
    links: Vec<LinkedFile>,
    base: i64,
    names: Interner,
    memory: Arc<Memory>,
}

impl Batch {
    /// An empty batch, for any directory of a tree.
    pub(super) fn new(tree: &Tree) -> Self {
        Self {
            bytes: Vec::new(),
            dirs: Vec::new(),
            files: Totals::default(),
            directories: Totals::default(),
            folded: Totals::default(),
            links: Vec::new(),
            base: 0,
            names: Interner::new(&tree.store.names),
            memory: Arc::clone(&tree.store.memory),
        }
    }

    /// Starts a batch of a directory that was itself last modified at `base`.
    pub(super) fn begin(&mut self, base: i64) {
        self.base = base;
        codec::begin(&mut self.bytes, base);
        self.dirs.clear();
        self.links.clear();
        self.files = Totals::default();
        self.directories = Totals::default();
        self.folded = Totals::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.entries == 0 && self.dirs.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// Adds a directory of this scan.
    pub(super) fn push_dir(&mut self, name: &[u8], dir: DirId, own: Totals) {
        self.dirs.push((self.here(), dir));
        codec::push_dir(&mut self.bytes, self.names.pack(name), dir);
        self.directories.add(own);
    }

    /// Adds anything else. `place` tells for a file with several names which of them counts.
    pub(super) fn push_leaf(&mut self, name: &[u8], stat: &Statx, place: impl FnOnce() -> Place) {
        let kind = kind_of(stat.stx_mode);
        let totals = own_totals(stat);
        let leaf =
            Leaf { apparent: totals.apparent, allocated: totals.allocated, modified: stat.stx_mtime.tv_sec };
        let linked = stat.stx_nlink > 1 && kind != FileKind::Directory;
        if !linked && self.folds(totals.allocated) {
            self.files.add(totals);
            self.folded.add(totals);
            return;
        }
        let offset = self.here();
        let flags = if linked { codec::LINKED } else { 0 };
        codec::push_leaf(&mut self.bytes, self.base, self.names.pack(name), kind, flags, leaf);
        if linked {
            self.links.push(LinkedFile { offset, file: LinkKey::of(stat), place: place(), totals });
            self.files.add(Totals { apparent: 0, allocated: 0, ..totals });
        } else {
            self.files.add(totals);
        }
    }

    /// Adds an entry of which only the name and perhaps the kind are known, or on which something else
    /// is mounted.
    pub(super) fn push_name(&mut self, name: &[u8], kind: FileKind, flags: u8) {
        let one = Totals { entries: 1, ..Totals::default() };
        self.files.add(one);
        // Mount points stay: they say why something is not counted.
        if flags == 0 && self.folds(0) {
            self.folded.add(one);
            return;
        }
        let leaf = Leaf { apparent: 0, allocated: 0, modified: self.base };
        codec::push_leaf(&mut self.bytes, self.base, self.names.pack(name), kind, flags, leaf);
    }

    fn folds(&self, allocated: u64) -> bool {
        match self.memory.fold(self.bytes.len()) {
            Fold::Nothing => false,
            Fold::Small => allocated < SMALL,
            Fold::Files => true,
        }
    }

    /// Nothing more will be added: packs what stands for the files that are not listed. Says how many those are.
    pub(super) fn end(&mut self) -> u64 {
        let Totals { apparent, allocated, entries, newest } = std::mem::take(&mut self.folded);
        if entries > 0 {
            let sum = Leaf { apparent, allocated, modified: newest };
            codec::push_folded(&mut self.bytes, self.base, entries, sum);
        }
        entries
    }

    /// Counts each file with several names here, or leaves it to the name it was counted at, now that
    /// the address of the batch is known.
    ///
    /// Says no where what is needed for that cannot be kept; then they do not count.
    pub(super) fn count_links(&mut self, tree: &Tree, address: u32) -> bool {
        if !self.links.is_empty() && self.memory.is_full() {
            for link in &self.links {
                if let Some(flags) = self.bytes.get_mut(link.offset as usize) {
                    *flags |= codec::ELSEWHERE;
                }
            }
            return false;
        }
        for link in &self.links {
            let at = if address == NOWHERE { NOWHERE } else { address + link.offset };
            if tree.links.claim(link.file, link.place, at) {
                self.files.add(Totals { entries: 0, ..link.totals });
            } else if let Some(flags) = self.bytes.get_mut(link.offset as usize) {
                *flags |= codec::ELSEWHERE;
            }
        }
        true
    }

    fn here(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

/// What a file counts by itself. A size beyond `i64` is a file system's lie: du counts it as 0.
pub(super) fn own_totals(stat: &Statx) -> Totals {
    Totals {
        apparent: if i64::try_from(stat.stx_size).is_ok() { stat.stx_size } else { 0 },
        allocated: stat.stx_blocks.saturating_mul(BLOCK),
        entries: 1,
        newest: stat.stx_mtime.tv_sec,
    }
}
