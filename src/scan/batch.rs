//! Entries of a directory on their way into the tree.

use rustix::fs::Statx;

use crate::domain::identity::FileKind;
use crate::sys::file_id::kind_of;

use super::cell::{DirId, NOWHERE, Totals};
use super::codec::{self, Leaf};
use super::links::{LinkKey, Place};
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
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The directories among them, with the offset of their entries.
    pub(super) dirs: Vec<(u32, DirId)>,
    /// Sums of what is not a directory.
    pub(super) files: Totals,
    /// Sums of the directories' own sizes.
    pub(super) directories: Totals,
    links: Vec<LinkedFile>,
    base: i64,
}

impl Batch {
    /// Starts a batch of a directory that was itself last modified at `base`.
    pub(super) fn begin(&mut self, base: i64) {
        self.base = base;
        codec::begin(&mut self.bytes, base);
        self.dirs.clear();
        self.links.clear();
        self.files = Totals::default();
        self.directories = Totals::default();
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
        codec::push_dir(&mut self.bytes, name, dir);
        self.directories.add(own);
    }

    /// Adds anything else. `place` tells for a file with several names which of them counts.
    pub(super) fn push_leaf(&mut self, name: &[u8], stat: &Statx, place: impl FnOnce() -> Place) {
        let kind = kind_of(stat.stx_mode);
        let totals = own_totals(stat);
        let leaf =
            Leaf { apparent: totals.apparent, allocated: totals.allocated, modified: stat.stx_mtime.tv_sec };
        let linked = stat.stx_nlink > 1 && kind != FileKind::Directory;
        let offset = self.here();
        let flags = if linked { codec::LINKED } else { 0 };
        codec::push_leaf(&mut self.bytes, self.base, name, kind, flags, leaf);
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
        let leaf = Leaf { apparent: 0, allocated: 0, modified: self.base };
        codec::push_leaf(&mut self.bytes, self.base, name, kind, flags, leaf);
        self.files.add(Totals { entries: 1, ..Totals::default() });
    }

    /// Counts each file with several names here, or leaves it to the name it was counted at, now that
    /// the address of the batch is known.
    pub(super) fn count_links(&mut self, tree: &Tree, address: u32) {
        for link in &self.links {
            let at = if address == NOWHERE { NOWHERE } else { address + link.offset };
            if tree.links.claim(link.file, link.place, at) {
                self.files.add(Totals { entries: 0, ..link.totals });
            } else if let Some(flags) = self.bytes.get_mut(link.offset as usize) {
                *flags |= codec::ELSEWHERE;
            }
        }
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
