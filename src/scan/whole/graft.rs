//! Making a tree of what was read, from the root down, as the workers would have.

use std::sync::atomic::{AtomicBool, Ordering};

use super::feed::{Harvest, own_totals};
use super::mount_points::{MountPoints, Way};
use super::{Later, Names};
use crate::scan::cell::{self, DirId, Totals};
use crate::scan::codec::{self, Body, Entries};
use crate::scan::ext4::ROOT;
use crate::scan::links::{LinkKey, PathHash, Place};
use crate::scan::tree::{Run, Tree, Trouble};

/// A directory that is in the tree, its entries not yet.
struct Waiting {
    dir: DirId,
    ino: u32,
    depth: usize,
    hash: PathHash,
    way: Option<Way>,
}

/// What is to be changed in a run before it becomes part of the tree.
enum Change {
    /// The directory at an offset gets this number.
    Number(u32, DirId),
    /// The entry at an offset gets this flag.
    Flag(u32, u8),
}

/// Makes a tree of a harvest. `file` is any file of the file system. Stops where it is cancelled.
pub(super) fn graft(
    tree: &Tree,
    harvest: &Harvest,
    mount_points: &MountPoints,
    file: LinkKey,
    cancelled: &AtomicBool,
) -> Later {
    let mut grafter = Grafter {
        tree,
        harvest,
        mount_points,
        file,
        later: Later::default(),
        waiting: Vec::new(),
        bytes: Vec::new(),
        dirs: Vec::new(),
        changes: Vec::new(),
    };
    grafter.waiting.push(Waiting {
        dir: DirId::ROOT,
        ino: ROOT,
        depth: 0,
        hash: PathHash::ROOT,
        way: mount_points.start(),
    });
    while let Some(next) = grafter.waiting.pop()
        && !cancelled.load(Ordering::Relaxed)
    {
        grafter.directory(&next);
    }
    grafter.later
}

struct Grafter<'a> {
    tree: &'a Tree,
    harvest: &'a Harvest,
    mount_points: &'a MountPoints,
    file: LinkKey,
    later: Later,
    waiting: Vec<Waiting>,
    // Kept for their memory.
    bytes: Vec<u8>,
    dirs: Vec<(u32, DirId)>,
    changes: Vec<Change>,
}

impl Grafter<'_> {
    fn directory(&mut self, at: &Waiting) {
        if self.harvest.distrusted.binary_search(&at.ino).is_ok() {
            self.later.dirs.push(at.dir);
            return;
        }
        let mut names: Names = of(&self.harvest.unsure, at.ino).map(|(_, name)| name.clone()).collect();
        for &(_, address) in of(&self.harvest.runs, at.ino) {
            self.run(at, address, &mut names);
        }
        if names.is_empty() {
            self.tree.read_to_end(at.dir);
        } else {
            self.later.names.insert(at.dir, names);
            self.later.dirs.push(at.dir);
        }
    }

    fn run(&mut self, at: &Waiting, address: u32, names: &mut Names) {
        let (tree, harvest) = (self.tree, self.harvest);
        let mut bytes = std::mem::take(&mut self.bytes);
        let steady = tree.steady();
        if let Some(cell) = tree.dir(at.dir)
            && !cell.has(cell::REMOVED)
            && tree.store.copy_stray(address, &mut bytes).is_some()
        {
            self.dirs.clear();
            self.changes.clear();
            let (mut files, mut directories) = (Totals::default(), Totals::default());
            for (offset, entry) in Entries::new(&bytes) {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                let way = at.way.and_then(|way| self.mount_points.step(way, entry.name));
                if way.is_some_and(|way| self.mount_points.is_mounted(way)) {
                    names.push(entry.name.into());
                    self.changes.push(Change::Flag(offset, codec::DEAD));
                    continue;
                }
                match entry.body {
                    Body::Leaf(leaf) => {
                        let mut own = Totals {
                            apparent: leaf.apparent,
                            allocated: leaf.allocated,
                            entries: 1,
                            newest: leaf.modified,
                        };
                        if entry.has(codec::LINKED) && !self.claim(at, address + offset, entry.name) {
                            own = Totals { apparent: 0, allocated: 0, ..own };
                            self.changes.push(Change::Flag(offset, codec::ELSEWHERE));
                        }
                        files.add(own);
                    }
                    Body::Dir(DirId(ino)) => {
                        let record = harvest.inodes.get(ino);
                        let sure = ino != ROOT && harvest.named_twice.binary_search(&ino).is_err();
                        let Some(own) = record.filter(|_| sure).map(|record| own_totals(&record)) else {
                            names.push(entry.name.into());
                            self.changes.push(Change::Flag(offset, codec::DEAD));
                            continue;
                        };
                        let Some(child) = tree.new_dir(at.dir, own) else {
                            tree.trouble(at.dir, cell, Trouble::TreeFull);
                            self.changes.push(Change::Flag(offset, codec::DEAD));
                            continue;
                        };
                        directories.add(own);
                        self.dirs.push((offset, child));
                        self.changes.push(Change::Number(offset, child));
                        let hash = at.hash.child(entry.name);
                        self.waiting.push(Waiting { dir: child, ino, depth: at.depth + 1, hash, way });
                    }
                }
            }
            for change in &self.changes {
                match *change {
                    Change::Number(offset, dir) => codec::set_dir(&mut bytes, offset as usize, dir),
                    Change::Flag(offset, flag) => {
                        if let Some(flags) = bytes.get_mut(offset as usize) {
                            *flags |= flag;
                        }
                    }
                }
            }
            let run = Run { bytes: &bytes, dirs: &self.dirs, files, directories };
            tree.adopt(&steady, (at.dir, cell), address, &run);
        }
        drop(steady);
        self.bytes = bytes;
    }

    /// Notes a name of a file with several; says whether it counts there.
    fn claim(&self, at: &Waiting, address: u32, name: &[u8]) -> bool {
        let links = &self.harvest.links;
        let Ok(found) = links.binary_search_by_key(&address, |link| link.0) else { return true };
        let Some(&(_, ino)) = links.get(found) else { return true };
        let place = Place::new(at.depth, at.hash, name);
        self.tree.links.claim(self.file.with_inode(ino), place, address)
    }
}

/// Those of a sorted list that have this inode.
fn of<T>(all: &[(u32, T)], ino: u32) -> std::slice::Iter<'_, (u32, T)> {
    let start = all.partition_point(|one| one.0 < ino);
    let rest = all.get(start..).unwrap_or_default();
    // Few belong to one directory, so no second search.
    let count = rest.iter().take_while(|one| one.0 == ino).count();
    rest.get(..count).unwrap_or_default().iter()
}
