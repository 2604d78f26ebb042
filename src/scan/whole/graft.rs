//! Making a tree of what was read, from the root down, as the workers would have.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::panic::resume_unwind;
use std::sync::RwLockReadGuard;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_deque::{Steal, Stealer, Worker as Queue};

use super::feed::Harvest;
use super::mount_points::{MountPoints, Way};
use super::{Later, Names};
use crate::scan::cell::{self, DirId, Totals};
use crate::scan::codec::{self, Body};
use crate::scan::ext4::ROOT;
use crate::scan::glance::Seen;
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

/// Makes a tree of a harvest, on this many threads. Where ordinary calls listed the root already, `seen` has the
/// directories in it. `file` is any file of the file system. Stops where it is cancelled.
pub(super) fn graft(
    tree: &Tree,
    harvest: &Harvest,
    mount_points: &MountPoints,
    (seen, file): (Option<&[Seen]>, LinkKey),
    threads: usize,
    cancelled: &AtomicBool,
) -> Later {
    let queues: Vec<Queue<Waiting>> = (0..threads.max(1)).map(|_| Queue::new_lifo()).collect();
    let mut later = Later::default();
    let root =
        Waiting { dir: DirId::ROOT, ino: ROOT, depth: 0, hash: PathHash::ROOT, way: mount_points.start() };
    let start = match seen {
        None => vec![root],
        Some(seen) => below_root(tree, harvest, mount_points, seen, &mut later),
    };
    if let Some(queue) = queues.first() {
        for waiting in start {
            queue.push(waiting);
        }
    }
    let stealers: Vec<Stealer<Waiting>> = queues.iter().map(Queue::stealer).collect();
    // Those without work. A thread that could not be started never has any.
    let idle = AtomicUsize::new(0);
    let work = |queue| {
        let mut grafter = Grafter {
            tree,
            harvest,
            mount_points,
            file,
            later: Later::default(),
            waiting: queue,
            seen: Totals::default(),
            directories: 0,
            bytes: Vec::new(),
            dirs: Vec::new(),
            changes: Vec::new(),
            found: Vec::new(),
        };
        grafter.work(&stealers, &idle, cancelled);
        grafter.later
    };
    thread::scope(|scope| {
        let mut queues = queues.into_iter();
        let own = queues.next();
        let mut spawned = Vec::new();
        for queue in queues {
            match thread::Builder::new().spawn_scoped(scope, || work(queue)) {
                Ok(helper) => spawned.push(helper),
                Err(_) => {
                    idle.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        let own = own.map(&work).unwrap_or_default();
        let spawned =
            spawned.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        for more in iter::once(own).chain(spawned) {
            later.dirs.extend(more.dirs);
            later.names.extend(more.names);
        }
        later
    })
}

/// What to begin with where the root was listed by ordinary calls. A directory in it is grafted where the device has
/// just that one in its root, too. Any other is left for ordinary calls, and so is a name that came in between.
fn below_root(
    tree: &Tree,
    harvest: &Harvest,
    mount_points: &MountPoints,
    seen: &[Seen],
    later: &mut Later,
) -> Vec<Waiting> {
    let seen: HashMap<&[u8], &Seen> = seen.iter().map(|seen| (&*seen.name, seen)).collect();
    let mut names: Names = of(&harvest.unsure, ROOT)
        .map(|(_, name)| name.clone())
        .filter(|name| !seen.contains_key(&**name))
        .collect();
    let mut both = HashSet::new();
    let mut bytes = Vec::new();
    for &(_, address) in of(&harvest.runs, ROOT) {
        if tree.store.copy_stray(address, &mut bytes).is_none() {
            continue;
        }
        for (_, entry) in tree.store.entries(&bytes) {
            match (seen.get(entry.name), entry.body) {
                (Some(Seen { ino, dir: Some(dir), .. }), Body::Dir(DirId(number)))
                    if *ino == u64::from(number) =>
                {
                    both.insert(*dir);
                }
                (Some(_), _) => {}
                (None, _) => names.push(entry.name.into()),
            }
        }
    }
    let mut start = Vec::new();
    for Seen { name, ino, dir } in seen.into_values() {
        let Some(dir) = *dir else { continue };
        let way = mount_points.start().and_then(|way| mount_points.step(way, name));
        let is_mounted = way.is_some_and(|way| mount_points.is_mounted(way));
        let ino = u32::try_from(*ino).ok().filter(|&ino| {
            both.contains(&dir)
                && !is_mounted
                && harvest.is_sure(ino)
                && harvest.directories.get(ino).is_some()
        });
        match ino {
            Some(ino) => start.push(Waiting { dir, ino, depth: 1, hash: PathHash::ROOT.child(name), way }),
            None => later.dirs.push(dir),
        }
    }
    if names.is_empty() {
        tree.read_to_end(&tree.steady(), DirId::ROOT);
    } else {
        later.names.insert(DirId::ROOT, names);
        later.dirs.push(DirId::ROOT);
    }
    start
}

struct Grafter<'a> {
    tree: &'a Tree,
    harvest: &'a Harvest,
    mount_points: &'a MountPoints,
    file: LinkKey,
    later: Later,
    waiting: Queue<Waiting>,
    /// Not counted yet, because the threads would wait for each other's counting.
    seen: Totals,
    directories: usize,
    // Kept for their memory.
    bytes: Vec<u8>,
    dirs: Vec<(u32, DirId)>,
    changes: Vec<Change>,
    found: Vec<Waiting>,
}

/// How many directories are grafted while the shape of the tree is held: some 50 µs.
const AT_A_TIME: usize = 32;
/// How long a thread without work waits before it looks again.
const NAP: Duration = Duration::from_micros(50);

impl Grafter<'_> {
    /// Grafts until no thread has anything left.
    fn work(&mut self, stealers: &[Stealer<Waiting>], idle: &AtomicUsize, cancelled: &AtomicBool) {
        while !cancelled.load(Ordering::Relaxed) {
            let mut next = self.waiting.pop();
            if next.is_none() {
                next = self.steal(stealers);
            }
            if next.is_none() {
                idle.fetch_add(1, Ordering::AcqRel);
                while next.is_none() {
                    // Only who is not idle has work that others could take.
                    if idle.load(Ordering::Acquire) >= stealers.len() || cancelled.load(Ordering::Relaxed) {
                        self.count();
                        return;
                    }
                    thread::sleep(NAP);
                    idle.fetch_sub(1, Ordering::AcqRel);
                    next = self.steal(stealers);
                    if next.is_none() {
                        idle.fetch_add(1, Ordering::AcqRel);
                    }
                }
            }
            let steady = self.tree.steady();
            for _ in 0..AT_A_TIME {
                let Some(at) = next else { break };
                self.directory(&steady, &at);
                next = self.waiting.pop();
            }
            drop(steady);
            if let Some(at) = next {
                self.waiting.push(at);
            }
            self.count();
        }
    }

    fn steal(&self, stealers: &[Stealer<Waiting>]) -> Option<Waiting> {
        iter::repeat_with(|| {
            stealers.iter().map(|other| other.steal_batch_and_pop(&self.waiting)).collect::<Steal<_>>()
        })
        .find(|steal| !steal.is_retry())
        .and_then(Steal::success)
    }

    fn count(&mut self) {
        self.tree.count(std::mem::take(&mut self.seen), std::mem::take(&mut self.directories));
    }

    fn directory(&mut self, steady: &RwLockReadGuard<'_, ()>, at: &Waiting) {
        if self.harvest.distrusted.binary_search(&at.ino).is_ok() {
            self.later.dirs.push(at.dir);
            return;
        }
        let mut names: Names = of(&self.harvest.unsure, at.ino).map(|(_, name)| name.clone()).collect();
        for &(_, address) in of(&self.harvest.runs, at.ino) {
            self.run(steady, at, address, &mut names);
        }
        if names.is_empty() {
            self.tree.read_to_end(steady, at.dir);
        } else {
            self.later.names.insert(at.dir, names);
            self.later.dirs.push(at.dir);
        }
    }

    fn run(&mut self, steady: &RwLockReadGuard<'_, ()>, at: &Waiting, address: u32, names: &mut Names) {
        let (tree, harvest) = (self.tree, self.harvest);
        let mut bytes = std::mem::take(&mut self.bytes);
        if let Some(cell) = tree.dir(at.dir)
            && !cell.has(cell::REMOVED)
            && tree.store.copy_stray(address, &mut bytes).is_some()
        {
            self.dirs.clear();
            self.changes.clear();
            let (mut files, mut directories) = (Totals::default(), Totals::default());
            for (offset, entry) in tree.store.entries(&bytes) {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                let way = at.way.and_then(|way| self.mount_points.step(way, entry.name));
                if way.is_some_and(|way| self.mount_points.is_mounted(way)) {
                    names.push(entry.name.into());
                    self.changes.push(Change::Flag(offset, codec::DEAD));
                    continue;
                }
                match entry.body {
                    // Only ordinary calls fold.
                    Body::Folded(..) => {}
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
                        let Some(own) = harvest.directories.get(ino).filter(|_| harvest.is_sure(ino)) else {
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
                        self.found.push(Waiting { dir: child, ino, depth: at.depth + 1, hash, way });
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
            let run = Run { bytes: &bytes, dirs: &self.dirs, files };
            tree.adopt(steady, (at.dir, cell), address, &run);
            // Only now: whoever takes them completes them, and this directory has to expect that.
            self.found.drain(..).for_each(|found| self.waiting.push(found));
            self.seen.add(files);
            self.seen.add(directories);
            self.directories += self.dirs.len();
        }
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
