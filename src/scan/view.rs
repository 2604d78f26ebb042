//! Looking at the tree, also while it grows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic;

use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};

use super::cell::{self, Dir, DirId, Totals};
use super::codec::{self, Body, Entry, Leaf};
use super::store::lock;
use super::tree::Tree;
use super::{Folded, Listing, NodeId, Page, Row, RowFlags, SortKey, Window, reason};

/// More entries than most runs have: for guessing how much memory a listing takes.
const RUN_ENTRIES: usize = 4096;

/// A row before its name is copied: what sorting needs, and no more.
#[derive(Clone, Copy)]
struct Light {
    address: u32,
    kind: FileKind,
    flags: RowFlags,
    totals: Totals,
    name: (usize, usize),
}

impl Tree {
    /// Those of a directory's sorted entries that are in the window. None where it is no directory of the tree.
    pub(super) fn list(
        &self,
        address: u32,
        (sort, reverse): (SortKey, bool),
        window: &Window,
        running: bool,
    ) -> Option<Page> {
        let (dir, name, parent) = self.entry(address, |entry, parent| match entry.body {
            Body::Dir(dir) => Some((dir, entry.name.to_vec(), parent)),
            Body::Leaf(_) | Body::Folded(..) => None,
        })??;
        let cell = self.dir(dir)?;
        let complete = cell.complete();
        let mut sum = cell.totals();
        let mut names = Vec::new();
        let guess = self.runs(dir).len().saturating_mul(RUN_ENTRIES);
        let guess = guess.min(usize::try_from(sum.entries).unwrap_or(0));
        let mut lights: Vec<Light> = Vec::with_capacity(guess);
        let mut below = 0;
        let (mut by_node, mut by_name) = (None, None);
        let mut most = (0, 0);
        let mut folded = None;
        let mut sought: HashMap<&[u8], Option<usize>> =
            window.names.iter().map(|name| (name.as_bytes(), None)).collect();
        self.each_entry(dir, |address, entry| {
            if let Body::Folded(files, leaf) = entry.body {
                folded = Some(Folded::and(folded, files, leaf));
            }
            let Some((totals, flags)) = self.measure(&entry, running) else { return };
            if let Body::Dir(child) = entry.body
                && !self.dir(child).is_some_and(|child| child.complete())
            {
                sum.add(totals);
                below |= u8::from(flags.unreadable | flags.unreadable_below);
            }
            if window.node == Some(NodeId(address)) {
                by_node = Some(lights.len());
            }
            if window.name.as_ref().is_some_and(|name| name.as_bytes() == entry.name) {
                by_name = Some(lights.len());
            }
            if !sought.is_empty()
                && let Some(number) = sought.get_mut(entry.name)
            {
                *number = Some(lights.len());
            }
            most = (totals.allocated.max(most.0), totals.apparent.max(most.1));
            let start = names.len();
            names.extend_from_slice(entry.name);
            lights.push(Light { address, kind: entry.kind, flags, totals, name: (start, names.len()) });
        });
        let name_of = |light: &Light| names.get(light.name.0..light.name.1).unwrap_or_default();
        let row_of = |number: usize| {
            let light = lights.get(number)?;
            Some(row(light.address, name_of(light), light.kind, light.totals, light.flags))
        };
        let middle = by_node.or(by_name).ok_or(window.index);
        let (first, order) = order(&lights, sort, reverse, (middle, window.margin), name_of);
        let rows = order.into_iter().filter_map(row_of).collect();
        let sought: BTreeMap<HostText, Option<Row>> =
            sought.into_iter().map(|(name, number)| (HostText::new(name), number.and_then(row_of))).collect();
        if complete {
            // It may have completed while its entries were added up.
            sum = cell.totals();
        }
        // What came while they were listed is not among them.
        let mut flags = RowFlags { scanning: running && !complete, ..dir_flags(cell, running) };
        flags.unreadable_below |= below != 0;
        let listing = Listing {
            dir: row(address, &name, FileKind::Directory, sum, flags),
            path: self.path(address),
            parent: parent
                .and_then(|parent| self.dir(parent))
                .map(|parent| NodeId(parent.entry.load(atomic::Ordering::Acquire))),
            rows,
            folded,
        };
        Some(Page {
            listing,
            first,
            total: lights.len(),
            most_allocated: Bytes(most.0),
            most_apparent: Bytes(most.1),
            named: sought,
        })
    }

    /// One entry as it is known now.
    pub(super) fn row(&self, address: u32, running: bool) -> Option<Row> {
        let copy =
            self.entry(address, |entry, _| (entry.name.to_vec(), entry.kind, entry.flags, entry.body))?;
        let entry = Entry { name: &copy.0, kind: copy.1, flags: copy.2, body: copy.3 };
        let (totals, flags) = self.measure(&entry, running)?;
        Some(row(address, entry.name, entry.kind, totals, flags))
    }

    /// The full path of an entry; empty where it is not part of the tree.
    pub(super) fn path(&self, address: u32) -> HostPath {
        self.names_above(address).map(|names| path_of(&self.root, &names)).unwrap_or_default()
    }

    /// Subvolumes that are not part of the tree: how many, and the paths of some.
    pub(super) fn left_out(&self, count: usize) -> (u64, Vec<HostPath>) {
        if !self.counters.left_out.load(atomic::Ordering::Relaxed) {
            return (0, Vec::new());
        }
        let (mut all, mut some) = (0, Vec::new());
        self.store.each_run(|run| {
            for (offset, entry) in run.entries() {
                if entry.flags & codec::SUBVOLUME == codec::SUBVOLUME && !entry.has(codec::DEAD) {
                    all += 1;
                    if some.len() < count {
                        some.push(run.address + u32::try_from(offset).unwrap_or(0));
                    }
                }
            }
        });
        let mut paths: Vec<HostPath> = some.into_iter().map(|address| self.path(address)).collect();
        paths.sort();
        (all, paths)
    }

    /// The largest entries that are not directories, each file with several names once.
    pub(super) fn largest_files(&self, count: usize) -> Vec<(HostPath, Row)> {
        let mut largest = Largest::new(count);
        self.store.each_run(|run| {
            for (offset, entry) in run.entries() {
                if let Body::Leaf(leaf) = entry.body
                    && !entry.has(codec::DEAD | codec::ELSEWHERE | codec::BOUNDARY)
                {
                    let address = run.address + u32::try_from(offset).unwrap_or(0);
                    largest.offer(leaf.allocated, leaf.apparent, address);
                }
            }
        });
        self.with_paths(largest, false)
    }

    /// The largest directories below the root.
    pub(super) fn largest_dirs(&self, count: usize, running: bool) -> Vec<(HostPath, Row)> {
        // What is not complete has not been handed up yet. Children come before parents, so one pass
        // does it.
        let mut late = vec![(0u64, 0u64); if running { self.dir_count() as usize } else { 0 }];
        let mut largest = Largest::new(count);
        for (dir, cell) in self.dirs_upwards() {
            if cell.has(cell::REMOVED) {
                continue;
            }
            let totals = cell.totals();
            let below = late.get(dir.0 as usize).copied().unwrap_or_default();
            let allocated = totals.allocated.saturating_add(below.0);
            let apparent = totals.apparent.saturating_add(below.1);
            let Some(parent) = cell.parent() else { continue };
            if !cell.complete()
                && let Some(above) = late.get_mut(parent.0 as usize)
            {
                above.0 = above.0.saturating_add(allocated);
                above.1 = above.1.saturating_add(apparent);
            }
            largest.offer(allocated, apparent, cell.entry.load(atomic::Ordering::Acquire));
        }
        self.with_paths(largest, running)
    }

    /// Directories that could not be read.
    pub(super) fn unreadable(&self, count: usize) -> Vec<(HostPath, String)> {
        let mut troubles = lock(&self.troubles).clone();
        troubles.sort_unstable_by_key(|&(dir, _)| dir);
        let known = troubles.into_iter().filter_map(|(dir, trouble)| {
            let names = self.names_above(self.dir(dir)?.entry.load(atomic::Ordering::Acquire))?;
            Some((path_of(&self.root, &names), reason::trouble(trouble)))
        });
        known.take(count).collect()
    }

    fn with_paths(&self, largest: Largest, running: bool) -> Vec<(HostPath, Row)> {
        let mut found: Vec<_> = largest
            .addresses()
            .filter_map(|address| Some((self.path(address), self.row(address, running)?)))
            .collect();
        // Equals in the order of their paths, so that two scans agree.
        found.sort_by(|(path, row), (other, than)| {
            (Reverse((row.allocated, row.apparent)), path)
                .cmp(&(Reverse((than.allocated, than.apparent)), other))
        });
        found
    }

    fn measure(&self, entry: &Entry<'_>, running: bool) -> Option<(Totals, RowFlags)> {
        match entry.body {
            Body::Folded(..) => None,
            Body::Leaf(leaf) => {
                let totals = Totals {
                    apparent: leaf.apparent,
                    allocated: leaf.allocated,
                    entries: 1,
                    newest: leaf.modified,
                };
                let is_left_out = entry.flags & codec::SUBVOLUME == codec::SUBVOLUME;
                let flags = RowFlags {
                    mount_point: entry.has(codec::BOUNDARY) && !is_left_out,
                    subvolume: is_left_out,
                    hard_link: entry.has(codec::LINKED) && !is_left_out,
                    counted_elsewhere: entry.has(codec::ELSEWHERE),
                    ..RowFlags::default()
                };
                Some((totals, flags))
            }
            Body::Dir(dir) => {
                let cell = self.dir(dir).filter(|cell| !cell.has(cell::REMOVED))?;
                let (totals, below) = if cell.complete() { (cell.totals(), 0) } else { self.live(dir) };
                let mut flags = dir_flags(cell, running);
                flags.unreadable_below |= below != 0 && !flags.unreadable;
                Some((totals, flags))
            }
        }
    }

    /// The number of a directory of the tree.
    pub(super) fn dir_at(&self, address: u32) -> Option<DirId> {
        self.entry(address, |entry, _| match entry.body {
            Body::Dir(dir) => Some(dir),
            Body::Leaf(_) | Body::Folded(..) => None,
        })?
    }
}

fn dir_flags(cell: Dir<'_>, running: bool) -> RowFlags {
    RowFlags {
        unreadable: cell.has(cell::UNREADABLE | cell::CUT_SHORT),
        unreadable_below: cell.has(cell::UNREADABLE_BELOW),
        mount_point: cell.has(cell::MOUNTED),
        scanning: running && !cell.complete(),
        ..RowFlags::default()
    }
}

fn row(address: u32, name: &[u8], kind: FileKind, totals: Totals, flags: RowFlags) -> Row {
    Row {
        node: NodeId(address),
        name: HostText::new(name),
        kind,
        apparent: Bytes(totals.apparent),
        allocated: Bytes(totals.allocated),
        entries: totals.entries,
        modified: totals.newest,
        flags,
    }
}

impl Folded {
    fn and(before: Option<Self>, files: u64, leaf: Leaf) -> Self {
        let none = Self { files: 0, apparent: Bytes(0), allocated: Bytes(0), modified: i64::MIN };
        let before = before.unwrap_or(none);
        Self {
            files: before.files.saturating_add(files),
            apparent: Bytes(before.apparent.0.saturating_add(leaf.apparent)),
            allocated: Bytes(before.allocated.0.saturating_add(leaf.allocated)),
            modified: before.modified.max(leaf.modified),
        }
    }
}

/// The order of rows by the key, and by name where keys are equal, so that rows do not jump between two
/// looks. What is moved about is small: the key, the eight bytes of the name that follow what all names
/// have in common, and the row's number. Names themselves are looked at only where those are equal.
///
/// Only those around the middle are sorted and returned, with the place of the first of them. The middle is a row
/// by its number in `lights`, or else a place in the order.
fn order<'a>(
    lights: &[Light],
    sort: SortKey,
    reverse: bool,
    (middle, margin): (Result<usize, usize>, usize),
    name_of: impl Fn(&Light) -> &'a [u8],
) -> (usize, Vec<usize>) {
    let first = lights.first().map(&name_of).unwrap_or_default();
    let common = lights.iter().fold(first.len(), |common, light| {
        first.iter().zip(name_of(light)).take(common).take_while(|(a, b)| a == b).count()
    });
    let mut keys: Vec<(u64, u64, usize)> = lights
        .iter()
        .enumerate()
        .map(|(number, light)| {
            let totals = &light.totals;
            let key = match sort {
                SortKey::Allocated => !totals.allocated,
                SortKey::Apparent => !totals.apparent,
                SortKey::Entries => !totals.entries,
                // Flipping the sign bit makes the order of i64 that of u64.
                SortKey::Age => (totals.newest ^ i64::MIN).cast_unsigned(),
                SortKey::Name => 0,
            };
            let mut start = [0; 8];
            for (to, from) in start.iter_mut().zip(name_of(light).iter().skip(common)) {
                *to = *from;
            }
            (key, u64::from_be_bytes(start), number)
        })
        .collect();
    let name = |number: usize| lights.get(number).map(&name_of).unwrap_or_default();
    let compare = |a: &(u64, u64, usize), b: &(u64, u64, usize)| {
        let order = (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| name(a.2).cmp(name(b.2)));
        if reverse { order.reverse() } else { order }
    };
    let place = match middle {
        Ok(number) => keys
            .get(number)
            .copied()
            .map_or(0, |row| keys.iter().filter(|&key| compare(key, &row).is_lt()).count()),
        Err(place) => place.min(keys.len().saturating_sub(1)),
    };
    let (start, end) = (place.saturating_sub(margin), place.saturating_add(margin));
    if end < keys.len() {
        keys.select_nth_unstable_by(end, compare);
        keys.truncate(end);
    }
    if start > 0 && start < keys.len() {
        keys.select_nth_unstable_by(start, compare);
        keys.drain(..start);
    }
    keys.sort_unstable_by(compare);
    (start, keys.into_iter().map(|(_, _, number)| number).collect())
}

/// The absolute path of an entry.
fn path_of(root: &Path, names: &[Vec<u8>]) -> HostPath {
    let mut bytes = root.as_os_str().as_bytes().to_vec();
    for name in names {
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
    }
    HostPath::from(PathBuf::from(OsString::from_vec(bytes)))
}

/// The few largest of many.
struct Largest {
    count: usize,
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
}

impl Largest {
    fn new(count: usize) -> Self {
        Self { count, heap: BinaryHeap::new() }
    }

    fn offer(&mut self, allocated: u64, apparent: u64, address: u32) {
        if self.heap.len() < self.count {
            self.heap.push(Reverse((allocated, apparent, address)));
        } else if let Some(mut least) = self.heap.peek_mut()
            && least.0 < (allocated, apparent, address)
        {
            *least = Reverse((allocated, apparent, address));
        }
    }

    fn addresses(self) -> impl Iterator<Item = u32> {
        self.heap.into_iter().map(|Reverse((_, _, address))| address)
    }
}
