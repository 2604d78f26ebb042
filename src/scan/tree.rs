//! The tree of a scan: directories as cells, entries as runs, and how totals get from one to the other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::batch::Batch;
use super::cell::{self, Dir, DirCell, DirId, MOST_PENDING, NOWHERE, Totals, Wides};
use super::codec::{self, Body, Entry, Name};
use super::ext4::Seen;
use super::links::Links;
use super::memory::Memory;
use super::store::{Store, Writer, lock};
use super::table::Table;

/// What has been seen so far. Only sums, so that looking costs nothing.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) apparent: AtomicU64,
    pub(super) allocated: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) vanished: AtomicU64,
    /// Whether there were subvolumes that are not part of the tree.
    pub(super) left_out: AtomicBool,
    /// Files that are counted, but not listed.
    pub(super) folded: AtomicU64,
    /// What was read from the device and is not in the tree yet: for those who watch.
    pub(super) ahead: Seen,
}

impl Counters {
    pub(super) fn add(&self, totals: Totals) {
        cell::change(&self.apparent, |now| now.saturating_add(totals.apparent));
        cell::change(&self.allocated, |now| now.saturating_add(totals.allocated));
        cell::change(&self.entries, |now| now.saturating_add(totals.entries));
    }

    pub(super) fn subtract(&self, totals: Totals) {
        cell::change(&self.apparent, |now| now.saturating_sub(totals.apparent));
        cell::change(&self.allocated, |now| now.saturating_sub(totals.allocated));
        cell::change(&self.entries, |now| now.saturating_sub(totals.entries));
    }
}

/// Why a directory is not, or not completely, in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What the kernel said.
    Kernel(rustix::io::Errno),
    /// All addresses of the tree are used, or the memory that it may take.
    TreeFull,
}

/// A run that is already stored, and what it adds up to.
pub(super) struct Run<'a> {
    pub(super) bytes: &'a [u8],
    /// The directories in it, with the offset of their entries.
    pub(super) dirs: &'a [(u32, DirId)],
    /// Sums of what is not a directory.
    pub(super) files: Totals,
}

/// Keeps entries from being taken out of the tree for as long as it is held.
pub(super) type Steady<'a> = RwLockReadGuard<'a, ()>;

/// A scan's tree.
pub(super) struct Tree {
    /// The directory the scan started at: absolute, no symbolic links.
    pub(super) root: PathBuf,
    pub(super) store: Store,
    pub(super) links: Links,
    pub(super) counters: Counters,
    pub(super) troubles: Mutex<Vec<(DirId, Trouble)>>,
    pub(super) more_runs: Mutex<HashMap<DirId, Vec<u32>>>,
    dirs: Table<DirCell>,
    wides: Wides,
    dir_count: AtomicU32,
    /// Held to read while totals move up or runs come in, to write while entries are taken out: so
    /// that whether a directory's totals are in its parent's is certain for as long as it matters.
    shape: RwLock<()>,
}

impl Tree {
    /// A tree of one directory, not read yet. `name` is what the root is called in listings.
    pub(super) fn new(root: PathBuf, name: &[u8], own: Totals, memory: Memory) -> Self {
        let memory = Arc::new(memory);
        let tree = Self {
            root,
            links: Links::new(Arc::clone(&memory)),
            store: Store::new(memory),
            counters: Counters::default(),
            troubles: Mutex::new(Vec::new()),
            more_runs: Mutex::new(HashMap::new()),
            dirs: Table::new(),
            wides: Wides::new(),
            dir_count: AtomicU32::new(0),
            shape: RwLock::new(()),
        };
        let dir = tree.new_dir(DirId::NONE, own).unwrap_or(DirId::ROOT);
        let mut run = Vec::new();
        codec::begin(&mut run, own.newest);
        let offset = u32::try_from(run.len()).unwrap_or(0);
        codec::push_dir(&mut run, Name::Literal(name), dir);
        let mut writer = Writer::default();
        if let (Some(address), Some(cell)) = (tree.store.reserve(&mut writer, run.len()), tree.dir(dir)) {
            tree.store.append(&writer, NO_PARENT, &run);
            cell.entry.store(address + offset, Ordering::Release);
        }
        tree.store.give_back(&mut writer);
        tree.counters.add(own);
        tree.counters.directories.store(1, Ordering::Relaxed);
        tree
    }

    pub(super) fn steady(&self) -> Steady<'_> {
        self.shape.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn still(&self) -> RwLockWriteGuard<'_, ()> {
        self.shape.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nothing but the root.
    pub(super) fn is_bare(&self) -> bool {
        self.dir(DirId::ROOT).is_none_or(|root| root.first_run.load(Ordering::Acquire) == NOWHERE)
    }

    /// A new directory with its own sizes, to be read; none where all numbers are used, or the memory.
    pub(super) fn new_dir(&self, parent: DirId, own: Totals) -> Option<DirId> {
        let memory = &self.store.memory;
        // The root is always kept.
        if let Some(above) = self.dir(parent)
            && (memory.is_full() || above.pending() >= MOST_PENDING)
        {
            return None;
        }
        memory.spend(size_of::<DirCell>() as u64);
        let number = self.dir_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            Some(count + 1).filter(|&next| next < NO_PARENT.0)
        });
        let number = number.ok()?;
        let cell = Dir::new(DirId(number), self.dirs.make(number)?, &self.wides);
        cell.parent.store(parent.0, Ordering::Relaxed);
        cell.reset(own);
        Some(DirId(number))
    }

    pub(super) fn dir(&self, dir: DirId) -> Option<Dir<'_>> {
        Some(Dir::new(dir, self.dirs.get(dir.0)?, &self.wides))
    }

    /// All directories ever made, the newest first: children come before their parents.
    pub(super) fn dirs_upwards(&self) -> impl Iterator<Item = (DirId, Dir<'_>)> {
        (0..self.dir_count.load(Ordering::Acquire))
            .rev()
            .filter_map(|number| Some((DirId(number), self.dir(DirId(number))?)))
    }

    pub(super) fn dir_count(&self) -> u32 {
        self.dir_count.load(Ordering::Acquire)
    }

    /// Lends the entry at an address and the directory it is in (none for the root's). None where it
    /// is no longer part of the tree.
    pub(super) fn entry<R>(
        &self,
        address: u32,
        read: impl FnOnce(Entry<'_>, Option<DirId>) -> R,
    ) -> Option<R> {
        self.store.read(address, |run| {
            let entry = run.entry(address).filter(|entry| !entry.has(codec::DEAD))?;
            Some(read(entry, Some(run.dir).filter(|&dir| dir != NO_PARENT)))
        })?
    }

    /// Copies the name of a directory.
    pub(super) fn dir_name(&self, dir: DirId, into: &mut Vec<u8>) -> bool {
        into.clear();
        let Some(address) = self.dir(dir).map(|cell| cell.entry.load(Ordering::Acquire)) else {
            return false;
        };
        self.entry(address, |entry, _| into.extend_from_slice(entry.name)).is_some()
    }

    /// Addresses of a directory's runs, in the order they were read.
    pub(super) fn runs(&self, dir: DirId) -> Vec<u32> {
        let Some(cell) = self.dir(dir) else { return Vec::new() };
        let first = cell.first_run.load(Ordering::Acquire);
        let mut runs: Vec<u32> = Some(first).filter(|&run| run != NOWHERE).into_iter().collect();
        if cell.has(cell::MORE_RUNS)
            && let Some(more) = lock(&self.more_runs).get(&dir)
        {
            runs.extend(more);
        }
        runs
    }

    /// Lends each entry of a directory that is still there, with its address. The runs are copied, so
    /// `read` may look at other entries.
    pub(super) fn each_entry(&self, dir: DirId, mut read: impl FnMut(u32, Entry<'_>)) {
        let mut copy = Vec::new();
        for address in self.runs(dir) {
            copy.clear();
            if self.store.read(address, |run| copy.extend_from_slice(run.bytes)).is_none() {
                continue;
            }
            for (offset, entry) in self.store.entries(&copy) {
                if !entry.has(codec::DEAD) {
                    read(address + u32::try_from(offset).unwrap_or(0), entry);
                }
            }
        }
    }

    /// Lends each directory in a directory.
    pub(super) fn each_child(&self, dir: DirId, mut read: impl FnMut(DirId, Dir<'_>)) {
        self.each_entry(dir, |_, entry| {
            if let Body::Dir(child) = entry.body
                && let Some(cell) = self.dir(child)
            {
                read(child, cell);
            }
        });
    }

    /// Puts a batch of entries into the tree. The directories in it are left in `batch.dirs` for the
    /// caller to have read, unless their parent was removed meanwhile.
    pub(super) fn publish(&self, _steady: &Steady<'_>, writer: &mut Writer, dir: DirId, batch: &mut Batch) {
        let Some(cell) = self.dir(dir) else { return };
        if cell.has(cell::REMOVED) {
            batch.dirs.clear();
            return;
        }
        let folded = batch.end();
        let Some(address) = self.store.reserve(writer, batch.bytes.len()) else {
            // The sizes of the files count; what the directories among them hold cannot be kept.
            for &(_, child) in &batch.dirs {
                self.dir(child).into_iter().for_each(|child| child.mark(cell::REMOVED));
            }
            batch.dirs.clear();
            batch.count_links(self, NOWHERE);
            cell.add(batch.files);
            self.counters.add(batch.files);
            self.trouble(dir, cell, Trouble::TreeFull);
            return;
        };
        if !batch.count_links(self, address) {
            self.trouble(dir, cell, Trouble::TreeFull);
        }
        self.counters.folded.fetch_add(folded, Ordering::Relaxed);
        self.expect(cell, address, &batch.dirs);
        self.store.append(writer, dir, &batch.bytes);
        self.add_run((dir, cell), address, batch.files);
        let mut seen = batch.files;
        seen.add(batch.directories);
        self.count(seen, batch.dirs.len());
    }

    /// Makes a run that was stored before it was known whose it is part of the tree. For as long as `_steady` is
    /// held; the directory must not have been removed. What it adds to the counters is the caller's to `count`.
    pub(super) fn adopt(
        &self,
        _steady: &Steady<'_>,
        (dir, cell): (DirId, Dir<'_>),
        address: u32,
        run: &Run<'_>,
    ) {
        self.expect(cell, address, run.dirs);
        self.store.adopt(address, dir, run.bytes);
        self.add_run((dir, cell), address, run.files);
    }

    /// Counts entries, and how many of them are directories, as seen.
    pub(super) fn count(&self, seen: Totals, directories: usize) {
        self.counters.add(seen);
        self.counters.directories.fetch_add(directories as u64, Ordering::Relaxed);
    }

    /// Notes that directories whose entries are in a run at `address` are to be read.
    fn expect(&self, cell: Dir<'_>, address: u32, dirs: &[(u32, DirId)]) {
        for &(offset, child) in dirs {
            if let Some(child) = self.dir(child) {
                child.entry.store(address + offset, Ordering::Release);
            }
        }
        cell.expect(dirs.len());
    }

    fn add_run(&self, (dir, cell): (DirId, Dir<'_>), address: u32, files: Totals) {
        if cell.first_run.compare_exchange(NOWHERE, address, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            lock(&self.more_runs).entry(dir).or_default().push(address);
            cell.mark(cell::MORE_RUNS);
        }
        cell.add(files);
    }

    /// Notes that a directory is not, or not completely, in the tree.
    pub(super) fn trouble(&self, dir: DirId, cell: Dir<'_>, trouble: Trouble) {
        if !cell.has(cell::REMOVED) && cell.mark_new(cell::UNREADABLE) {
            self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
            lock(&self.troubles).push((dir, trouble));
        }
    }

    /// Notes that a directory was gone when it should have been read.
    /// `may` says no where the caller's run has ended without it meanwhile.
    pub(super) fn vanished(&self, steady: Steady<'_>, cell: Dir<'_>, may: impl Fn() -> bool) {
        let entry = cell.entry.load(Ordering::Acquire);
        if cell.first_run.load(Ordering::Acquire) != NOWHERE {
            // Most of it was read from the device, and with it what is below.
            drop(steady);
            let still = self.still();
            if may() {
                self.counters.vanished.fetch_add(1, Ordering::Relaxed);
                self.take_out(&still, entry);
            }
            return;
        }
        self.counters.vanished.fetch_add(1, Ordering::Relaxed);
        if !cell.has(cell::REMOVED) {
            cell.mark(cell::REMOVED);
            self.store.set_flags(entry, codec::DEAD, 0);
            self.counters.subtract(cell.totals());
            cell::change(&self.counters.directories, |now| now.saturating_sub(1));
        }
    }

    /// Notes that a directory has been read. Where that completes it, its totals go into its parent's,
    /// and so on upwards.
    pub(super) fn read_to_end(&self, _steady: &Steady<'_>, dir: DirId) {
        let mut cell = self.dir(dir);
        if let Some(cell) = cell {
            cell.mark(cell::READ);
        }
        while let Some(done) = cell
            && done.came()
        {
            cell = done.parent().and_then(|parent| self.dir(parent));
            if let Some(parent) = cell {
                hand_up(done, parent);
            }
        }
    }

    /// Totals of a directory as they are known now, and whether something in it could not be read.
    ///
    /// Directories that are not complete have not handed their totals up yet; there are few of them at
    /// a time, on the way to where the workers are.
    pub(super) fn live(&self, dir: DirId) -> (Totals, u32) {
        let mut sum = Totals::default();
        let mut flags = 0;
        let mut open = vec![dir];
        while let Some(dir) = open.pop() {
            let Some(cell) = self.dir(dir) else { continue };
            let before = open.len();
            let mut totals = cell.totals();
            // A directory that completes between the two looks would be missed: look again.
            for _ in 0..4 {
                let pending = cell.pending();
                totals = cell.totals();
                open.truncate(before);
                if pending > 0 {
                    self.each_child(dir, |child, cell| {
                        if !cell.complete() {
                            open.push(child);
                        }
                    });
                }
                if pending == cell.pending() {
                    break;
                }
            }
            sum.add(totals);
            if cell.has(cell::INCOMPLETE) {
                flags |= cell::UNREADABLE_BELOW;
            }
        }
        (sum, flags)
    }
}

/// Whose entry the root is.
const NO_PARENT: DirId = DirId(u32::MAX - 1);

/// Adds a complete directory to its parent.
pub(super) fn hand_up(done: Dir<'_>, parent: Dir<'_>) {
    if done.has(cell::REMOVED) {
        return;
    }
    parent.add(done.totals());
    if done.has(cell::INCOMPLETE) {
        parent.mark(cell::UNREADABLE_BELOW);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use crate::domain::identity::FileKind;
    use crate::domain::size::Bytes;
    use crate::scan::batch::own_totals;
    use crate::scan::links::{PathHash, Place};
    use crate::scan::open;

    use super::*;

    const OWN: Totals = Totals { apparent: 100, allocated: 512, entries: 1, newest: 7 };

    /// Puts a directory and a file, whose names begin with `name`, into a directory.
    fn fill(tree: &Tree, writer: &mut Writer, dir: DirId, name: &[u8]) -> DirId {
        let mut batch = Batch::new(tree);
        batch.begin(OWN.newest);
        let child = tree.new_dir(dir, OWN).unwrap();
        batch.push_dir(&[name, b".d"].concat(), child, OWN);
        batch.push_name(&[name, b".f"].concat(), FileKind::File, 0);
        tree.publish(&tree.steady(), writer, dir, &mut batch);
        child
    }

    #[test]
    fn what_vanishes_takes_everything_below_with_it() {
        let tree = Tree::new("/".into(), b"/", OWN, Memory::unbounded());
        let mut writer = Writer::default();
        let gone = fill(&tree, &mut writer, DirId::ROOT, b"gone");
        let complete = fill(&tree, &mut writer, gone, b"complete");
        let pending = fill(&tree, &mut writer, gone, b"pending");
        let below = fill(&tree, &mut writer, pending, b"below");
        tree.read_to_end(&tree.steady(), complete);
        tree.read_to_end(&tree.steady(), DirId::ROOT);

        tree.vanished(tree.steady(), tree.dir(gone).unwrap(), || true);
        // Those that were queued already are noted, too, whatever became of them.
        tree.vanished(tree.steady(), tree.dir(pending).unwrap(), || true);
        let mut batch = Batch::new(&tree);
        batch.begin(OWN.newest);
        batch.push_name(b"late", FileKind::File, 0);
        tree.publish(&tree.steady(), &mut writer, below, &mut batch);
        for dir in [below, pending, gone] {
            tree.read_to_end(&tree.steady(), dir);
        }

        let root = tree.dir(DirId::ROOT).unwrap();
        assert!(root.complete());
        let file = Totals { entries: 1, ..Totals::default() };
        let mut left = OWN;
        left.add(file);
        assert_eq!(root.totals(), left);
        let counters = &tree.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(read(&counters.entries), left.entries);
        assert_eq!(read(&counters.apparent), left.apparent);
        assert_eq!(read(&counters.allocated), left.allocated);
        assert_eq!(read(&counters.directories), 1);
        assert_eq!(read(&counters.vanished), 2);
        tree.store.give_back(&mut writer);
    }

    /// Run it alone: `cargo test --release --lib ten_million -- --ignored --nocapture`.
    #[test]
    #[ignore = "takes 320 MB and a while"]
    fn ten_million_entries_take_at_most_320_mb() {
        let file = std::fs::File::open("/").unwrap();
        let mut stat = open::stat_fd(file.as_fd()).unwrap();
        (stat.stx_nlink, stat.stx_mode) = (1, 0o100_644);
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
        };
        let before = peak();
        let tree = Tree::new("/".into(), b"/", own_totals(&stat), Memory::new(Bytes(1 << 40)));
        let (mut writer, mut batch) = (Writer::default(), Batch::new(&tree));
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let place = || Place::new(0, PathHash::ROOT, b"");
        let mut open = std::collections::VecDeque::from([DirId::ROOT]);
        let mut entries = 1;
        // As in source trees: a directory for every six entries, every other name is one that comes often, the others
        // are of 17 bytes, the average of all; sizes and times differ.
        while entries < 10_000_000 {
            let dir = open.pop_front().unwrap();
            batch.begin(1_700_000_000);
            for number in 0..13 {
                let name = match next(2) {
                    0 => format!("often{}.rs", next(4000)),
                    _ => format!("{:017x}", next(u64::MAX)),
                };
                stat.stx_mtime.tv_sec = 1_700_000_000 + i64::try_from(next(100_000)).unwrap();
                stat.stx_size = next(60_000);
                stat.stx_blocks = stat.stx_size.div_ceil(4096) * 8;
                if number < 2 {
                    let own = own_totals(&stat);
                    let child = tree.new_dir(dir, own).unwrap();
                    batch.push_dir(name.as_bytes(), child, own);
                    open.push_back(child);
                } else {
                    batch.push_leaf(name.as_bytes(), &stat, place);
                }
                entries += 1;
            }
            tree.publish(&tree.steady(), &mut writer, dir, &mut batch);
            tree.read_to_end(&tree.steady(), dir);
        }
        let grown = peak() - before;
        println!("{entries} entries, {} directories: {grown} bytes", tree.dir_count());
        assert_eq!(tree.counters.entries.load(Ordering::Relaxed), entries);
        assert!(grown <= 320_000_000, "{grown}");
    }
}
