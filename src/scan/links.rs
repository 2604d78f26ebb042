//! Files with several names: each is counted once, at a name that does not depend on which worker
//! came first.
//!
//! While the scan runs the first name found counts. At the end the size moves to the name that is
//! nearest to the root, and among those to the one whose path hashes lowest: the same name every time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustix::fs::Statx;

use super::cell::NOWHERE;
use super::memory::Memory;
use super::store::lock;

/// A file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LinkKey {
    device: u64,
    inode: u64,
}

impl LinkKey {
    pub(super) fn of(stat: &Statx) -> Self {
        Self::new((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
    }

    /// The file with an inode number on a device.
    pub(super) fn new(device: (u32, u32), inode: u64) -> Self {
        Self { device: u64::from(device.0) << 32 | u64::from(device.1), inode }
    }

    /// The file with another inode number on the device of this one.
    pub(super) fn with_inode(self, inode: u32) -> Self {
        Self { inode: inode.into(), ..self }
    }
}

/// Where a name is, as far as it matters for which of several counts: the lowest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    depth: u32,
    path: PathHash,
}

/// A hash of a path below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathHash(u64);

impl PathHash {
    /// The root's. The constants are those of 64-bit FNV-1a (draft-eastlake-fnv).
    pub(super) const ROOT: Self = Self(0xcbf2_9ce4_8422_2325);

    /// The hash of `name` in the directory with this hash.
    pub(super) fn child(self, name: &[u8]) -> Self {
        // A slash cannot be in a name: it keeps "ab/c" and "a/bc" apart.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.iter().fold(step(self.0, b'/'), |hash, &byte| step(hash, byte)))
    }
}

impl Place {
    /// The place of a name in a directory `depth` levels below the root.
    pub(super) fn new(depth: usize, directory: PathHash, name: &[u8]) -> Self {
        Self { depth: u32::try_from(depth).unwrap_or(u32::MAX), path: directory.child(name) }
    }
}

/// A file's names found so far.
struct Names {
    /// The name that should count.
    best: (Place, u32),
    /// The name that does count now.
    counted: u32,
    /// The last found: a chain through `Shard::names`.
    last: u32,
}

#[derive(Default)]
struct Shard {
    files: HashMap<LinkKey, Names>,
    /// Address of a name, and the number of the one found before.
    names: Vec<(u32, u32)>,
}

impl Shard {
    fn chain(&self, last: u32) -> impl Iterator<Item = u32> {
        let mut next = last;
        std::iter::from_fn(move || {
            let &(address, before) = self.names.get(next as usize)?;
            next = before;
            Some(address)
        })
    }

    fn cost(&self) -> u64 {
        self.files.len() as u64 * FILE_BYTES + self.names.len() as u64 * NAME_BYTES
    }

    fn link(&mut self, address: u32, before: u32) -> u32 {
        let number = u32::try_from(self.names.len()).unwrap_or(NOWHERE);
        self.names.push((address, before));
        number
    }
}

const SHARDS: usize = 16;

/// Bytes that a file and a name take, at most and with what the tables leave free.
const FILE_BYTES: u64 = 104;
const NAME_BYTES: u64 = 12;

/// All files with several names.
pub(super) struct Links {
    shards: [Mutex<Shard>; SHARDS],
    memory: Arc<Memory>,
}

/// A size that counts at another name from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// The name it counted at; none where that is gone.
    pub(super) from: Option<u32>,
    /// The name it counts at now.
    pub(super) to: u32,
}

impl Links {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Shard::default())), memory }
    }

    /// Notes a name, and says whether the file counts there.
    pub(super) fn claim(&self, file: LinkKey, place: Place, address: u32) -> bool {
        let Some(shard) = self.shards.get(usize::from(file.inode.to_le_bytes()[0]) % SHARDS) else {
            return true;
        };
        let mut shard = lock(shard);
        let Some(before) = shard.files.get(&file).map(|names| names.last) else {
            let last = shard.link(address, NOWHERE);
            self.memory.spend(FILE_BYTES + NAME_BYTES);
            shard.files.insert(file, Names { best: (place, address), counted: address, last });
            return true;
        };
        let last = shard.link(address, before);
        self.memory.spend(NAME_BYTES);
        if let Some(names) = shard.files.get_mut(&file) {
            names.last = last;
            if place < names.best.0 {
                names.best = (place, address);
            }
        }
        false
    }

    /// Decides where each file counts, for good. What must move is for the caller to move.
    pub(super) fn settle(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for shard in &self.shards {
            for names in lock(shard).files.values_mut() {
                if names.counted != names.best.1 {
                    moves.push(Move { from: Some(names.counted), to: names.best.1 });
                    names.counted = names.best.1;
                }
            }
        }
        moves
    }

    /// Forgets names that are no longer part of the tree. A file whose counted name is among them
    /// counts at another from now on, if there is one.
    pub(super) fn forget_dead(
        &self,
        alive: impl Fn(u32) -> bool,
        place: impl Fn(u32) -> Option<Place>,
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let old = std::mem::take(&mut *shard);
            self.memory.give_back(old.cost());
            for (&file, names) in &old.files {
                let left: Vec<u32> = old.chain(names.last).filter(|&address| alive(address)).collect();
                let best = if left.contains(&names.best.1) {
                    Some(names.best)
                } else {
                    left.iter().filter_map(|&address| Some((place(address)?, address))).min()
                };
                let Some(best) = best else { continue };
                let mut counted = names.counted;
                if !left.contains(&counted) {
                    moves.push(Move { from: None, to: best.1 });
                    counted = best.1;
                }
                let last = left.iter().rev().fold(NOWHERE, |before, &address| shard.link(address, before));
                shard.files.insert(file, Names { best, counted, last });
            }
            self.memory.spend(shard.cost());
        }
        moves
    }

    /// The other names of the file with a name at `address`, as far as they are in the tree.
    pub(super) fn others(&self, address: u32) -> Vec<u32> {
        for shard in &self.shards {
            let shard = lock(shard);
            for names in shard.files.values() {
                if shard.chain(names.last).any(|name| name == address) {
                    return shard.chain(names.last).filter(|&name| name != address).collect();
                }
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_nearest_to_the_root_counts_whoever_came_first() {
        let file = LinkKey { device: 1, inode: 2 };
        let near = Place::new(1, PathHash::ROOT, b"near");
        let far = Place::new(2, PathHash::ROOT.child(b"d"), b"far");
        let links = Links::new(Arc::new(Memory::unbounded()));
        assert!(links.claim(file, far, 100));
        assert!(!links.claim(file, near, 200));
        assert_eq!(links.settle(), [Move { from: Some(100), to: 200 }]);
        assert_eq!(links.settle(), []);
        assert_eq!(links.others(100), [200]);
    }

    #[test]
    fn a_file_counts_at_another_name_when_its_own_is_gone() {
        let file = LinkKey { device: 1, inode: 2 };
        let places = [(10, 3), (20, 2), (30, 2)].map(|(address, depth)| {
            (address, Place::new(depth, PathHash::ROOT, format!("{address}").as_bytes()))
        });
        let links = Links::new(Arc::new(Memory::unbounded()));
        for (address, place) in places {
            links.claim(file, place, address);
        }
        let place = |address| places.iter().find(|p| p.0 == address).map(|p| p.1);
        let moved = links.forget_dead(|address| address == 30 || address == 20, place);
        assert_eq!(moved.len(), 1);
        assert_eq!(moved[0].from, None);
        assert!(links.forget_dead(|address| address != moved[0].to, place).len() == 1);
        assert_eq!(links.forget_dead(|_| false, place), []);
        assert!(links.claim(file, places[0].1, 40), "all names gone: the next one counts");
    }

    #[test]
    fn where_a_name_ends_matters() {
        let root = PathHash::ROOT;
        assert_ne!(root.child(b"ab").child(b"c"), root.child(b"a").child(b"bc"));
    }
}
