//! Questions to a tree other than how large: where a path is in it, which directories have a name, which hold very
//! many entries. Each is one pass over what is in memory; nothing is read from the machine.

use std::cmp::Reverse;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};
use std::sync::atomic::Ordering;

use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;

use super::cell;
use super::codec::{self, Body};
use super::{NodeId, Row, Scan};

/// A directory with many entries, as `Scan::crowded` found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Which.
    pub path: HostPath,
    /// Entries directly in it.
    pub entries: u64,
    /// Its own apparent size.
    pub own_size: Bytes,
}

/// A directory with many inodes below it, as `Scan::most_inodes` found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inodes {
    /// Which.
    pub path: HostPath,
    /// Inodes in it and below, itself included, each once however many names it has.
    pub inodes: u64,
    /// Space they take.
    pub allocated: Bytes,
}

impl Scan {
    /// An entry by its path: absolute, without symbolic links. None where it is not in the tree.
    pub fn find(&self, path: &Path) -> Option<Row> {
        let tree = self.tree();
        let below = path.strip_prefix(&tree.root).ok()?;
        let NodeId(mut at) = self.root();
        for component in below.components() {
            let Component::Normal(name) = component else { return None };
            let mut found = None;
            tree.each_entry(tree.dir_at(at)?, |address, entry| {
                if entry.name == name.as_bytes() {
                    found = Some(address);
                }
            });
            at = found?;
        }
        self.row(NodeId(at))
    }

    /// Every directory that has one of these names, with its path. Mount points are left out.
    pub fn each_named(&self, names: &[&[u8]], mut found: impl FnMut(HostPath, Row)) {
        let tree = self.tree();
        let mut addresses = Vec::new();
        for (_, cell) in tree.dirs_upwards() {
            if cell.has(cell::REMOVED | cell::MOUNTED) {
                continue;
            }
            let address = cell.entry.load(Ordering::Acquire);
            if tree.entry(address, |entry, _| names.contains(&entry.name)) == Some(true) {
                addresses.push(address);
            }
        }
        for address in addresses {
            if let Some(row) = self.row(NodeId(address)).filter(|row| row.kind == FileKind::Directory) {
                found(tree.path(address), row);
            }
        }
    }

    /// The `count` most crowded directories that hold at least so many entries directly, or are themselves at least so
    /// large: a directory does not shrink with its entries everywhere. Most entries first. Exact when the scan is over.
    pub fn crowded(&self, entries: u64, own_size: Bytes, count: usize) -> Vec<Crowd> {
        let tree = self.tree();
        let mut seen: Vec<(u64, u64)> = vec![(0, 0); tree.dir_count() as usize];
        // What is left of a directory's total when all that is in it is taken away is its own size.
        let own = |seen: &mut Vec<(u64, u64)>, dir: u32, size: u64, direct: u64| {
            if let Some(slot) = seen.get_mut(dir as usize) {
                slot.0 = slot.0.saturating_add(direct);
                slot.1 = slot.1.saturating_add(size);
            }
        };
        tree.store.each_run(|run| {
            let (mut direct, mut size) = (0u64, 0u64);
            for (_, entry) in run.entries() {
                if entry.has(codec::DEAD) {
                    continue;
                }
                direct = direct.saturating_add(match entry.body {
                    Body::Folded(files, _) => files,
                    Body::Leaf(_) | Body::Dir(_) => 1,
                });
                size = size.saturating_add(match entry.body {
                    Body::Leaf(_) if entry.has(codec::ELSEWHERE) => 0,
                    Body::Leaf(leaf) | Body::Folded(_, leaf) => leaf.apparent,
                    Body::Dir(child) => tree
                        .dir(child)
                        .filter(|cell| !cell.has(cell::REMOVED) && cell.complete())
                        .map_or(0, |cell| cell.totals().apparent),
                });
            }
            own(&mut seen, run.dir.0, size, direct);
        });
        let mut crowds: Vec<(u64, u64, u32)> = Vec::new();
        for (dir, cell) in tree.dirs_upwards() {
            let (direct, inside) = seen.get(dir.0 as usize).copied().unwrap_or_default();
            let size = cell.totals().apparent.saturating_sub(inside);
            if !cell.has(cell::REMOVED) && (direct >= entries || size >= own_size.0) {
                crowds.push((direct, size, cell.entry.load(Ordering::Acquire)));
            }
        }
        crowds.sort_unstable_by_key(|&crowd| Reverse(crowd));
        let found = crowds.into_iter().take(count).map(|(direct, size, address)| Crowd {
            path: tree.path(address),
            entries: direct,
            own_size: Bytes(size),
        });
        found.filter(|crowd| !crowd.path.as_bytes().is_empty()).collect()
    }

    /// The `count` directories with most inodes in them and below, as `du --inodes` counts, most first. A directory
    /// nearly all of whose inodes are in one directory of its own is passed over for that one.
    pub fn most_inodes(&self, count: usize) -> Vec<Inodes> {
        let tree = self.tree();
        // Names that are not the first of their file, by directory; then with all below.
        let mut again: Vec<u64> = vec![0; tree.dir_count() as usize];
        tree.store.each_run(|run| {
            let more = run
                .entries()
                .filter(|(_, entry)| entry.has(codec::ELSEWHERE) && !entry.has(codec::DEAD))
                .count();
            if let Some(slot) = again.get_mut(run.dir.0 as usize) {
                *slot = slot.saturating_add(more as u64);
            }
        });
        // The largest number of inodes in any one directory of each directory.
        let mut heaviest: Vec<u64> = vec![0; again.len()];
        let mut all: Vec<(u64, u64, u32)> = Vec::new();
        for (dir, cell) in tree.dirs_upwards() {
            if cell.has(cell::REMOVED) {
                continue;
            }
            let totals = cell.totals();
            let names = again.get(dir.0 as usize).copied().unwrap_or(0);
            let inodes = totals.entries.saturating_sub(names);
            if let Some(parent) = cell.parent() {
                if let Some(slot) = again.get_mut(parent.0 as usize) {
                    *slot = slot.saturating_add(names);
                }
                if let Some(slot) = heaviest.get_mut(parent.0 as usize) {
                    *slot = (*slot).max(inodes);
                }
            }
            let inside = heaviest.get(dir.0 as usize).copied().unwrap_or(0);
            if inside.saturating_mul(10) < inodes.saturating_mul(9) {
                all.push((inodes, totals.allocated, cell.entry.load(Ordering::Acquire)));
            }
        }
        let keep = count.min(all.len());
        if keep < all.len() {
            all.select_nth_unstable_by_key(keep, |&one| Reverse(one));
            all.truncate(keep);
        }
        all.sort_unstable_by_key(|&one| Reverse(one));
        let found = all.into_iter().map(|(inodes, allocated, address)| Inodes {
            path: tree.path(address),
            inodes,
            allocated: Bytes(allocated),
        });
        found.filter(|one| !one.path.as_bytes().is_empty()).collect()
    }
}
