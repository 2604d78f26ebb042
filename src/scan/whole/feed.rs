//! Entries from the device on their way into the store, in the order of the disk.
//!
//! A directory among them is packed with its inode number in place of its own, which is not known yet.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::known::Known;
use super::{Source, Threads};
use crate::domain::identity::FileKind;
use crate::scan::batch::FULL;
use crate::scan::cell::{DirId, Totals};
use crate::scan::codec::{self, Leaf};
use crate::scan::ext4::{self, Entry, Inodes, Orphan, Record};
use crate::scan::names::Interner;
use crate::scan::store::{Store, Writer};
use crate::scan::tree::Tree;
use crate::sys::memory;

/// How many names are worth looking at by ordinary calls. A sound file system that nobody changes has none.
const UNSURE_LIMIT: usize = 65_536;

/// Everything the reading found, ready to become a tree.
pub(super) struct Harvest {
    pub(super) directories: Known,
    /// Inode of a directory and address of one of its runs, sorted.
    pub(super) runs: Vec<(u32, u32)>,
    /// Address of a name of a file with several, and its inode, sorted.
    pub(super) links: Vec<(u32, u32)>,
    /// Names that cannot be trusted, by inode of their directory, sorted.
    pub(super) unsure: Vec<(u32, Box<[u8]>)>,
    /// Directories that more than one name leads to, sorted.
    pub(super) named_twice: Vec<u32>,
    /// Directories whose entries cannot be trusted, sorted.
    pub(super) distrusted: Vec<u32>,
    /// Inodes in use without a name.
    pub(super) orphans: Vec<Orphan>,
    /// What changed at this moment or later may differ. Seconds since the epoch, the low 32 bits.
    pub(super) since: u32,
}

impl Harvest {
    /// Whether a directory has one place in the tree, as far as the device tells.
    pub(super) fn is_sure(&self, ino: u32) -> bool {
        ino != ext4::ROOT && self.named_twice.binary_search(&ino).is_err()
    }
}

/// Reads everything into the store.
///
/// # Errors
/// Why that cannot be.
pub(super) fn harvest(
    source: &Source,
    tree: &Tree,
    threads: Threads,
    cancelled: &AtomicBool,
) -> Result<Harvest, String> {
    let feed = Feed { store: &tree.store, unsure: AtomicUsize::new(0), full: AtomicBool::new(false) };
    let since = seconds_now().wrapping_sub(CLOCK_SLACK);
    let options = ext4::Options {
        threads: threads.working,
        cold_threads: threads.waiting,
        cancel: cancelled,
        // Beside the tree, for as long as it is read. Of the tree's own share, little is used yet.
        memory: memory::share().min(tree.store.memory.allowed()),
        changed_since: Some(since),
        seen: Some(&tree.counters.ahead),
    };
    let census = source.ext4.read(&options, &feed).map_err(|why| format!("{}: {why}", source.device))?;
    if feed.full.load(Ordering::Relaxed) {
        let allowed = tree.store.memory.allowed();
        return Err(format!(
            "its entries do not fit into {allowed}: ordinary calls list what fits, and count the rest"
        ));
    }
    if feed.unsure.load(Ordering::Relaxed) > UNSURE_LIMIT {
        return Err(format!("{}: too much changed or is damaged", source.device));
    }
    let workers = census.workers;
    let count = |of: fn(&Packed<'_>) -> usize| workers.iter().map(of).sum();
    let mut runs = Vec::with_capacity(count(|worker| worker.runs.len()));
    let mut links = Vec::with_capacity(count(|worker| worker.links.len()));
    let mut named = Vec::with_capacity(count(|worker| worker.directories.len()));
    let mut unsure = Vec::new();
    for mut worker in workers {
        runs.append(&mut worker.runs);
        links.append(&mut worker.links);
        unsure.append(&mut worker.unsure);
        named.append(&mut worker.directories);
    }
    runs.sort_unstable();
    links.sort_unstable();
    unsure.sort_unstable();
    // A name can be in two blocks while an index is rebuilt: once is enough.
    unsure.dedup();
    named.sort_unstable();
    let mut named_twice: Vec<u32> =
        named.array_windows().filter(|[one, next]| one == next).map(|[one, _]| *one).collect();
    named_twice.dedup();
    let mut distrusted: Vec<u32> = census.troubles.iter().map(|trouble| trouble.ino).collect();
    named.dedup();
    // All that is needed of the inodes from here on: their memory is the tree's next.
    let directories = Known::new(&named, &census.inodes);
    drop(census.inodes);
    let unnamed =
        |&(directory, _): &(u32, u32)| directory != ext4::ROOT && named.binary_search(&directory).is_err();
    if runs.iter().any(unnamed) {
        // Gone, or moved: then its new place is in a directory that changed just now.
        named.push(ext4::ROOT);
        let changed = source.ext4.changed(&options, &named, since);
        distrusted.extend(changed.map_err(|why| format!("{}: {why}", source.device))?);
        distrusted.sort_unstable();
    }
    let orphans = census.orphans;
    Ok(Harvest { directories, runs, links, unsure, named_twice, distrusted, orphans, since })
}

/// The kernel stamps changes with a clock that lags behind by up to a tick, in whole seconds here.
const CLOCK_SLACK: u32 = 2;

/// The low 32 bits of the seconds since the epoch.
fn seconds_now() -> u32 {
    let [.., a, b, c, d] = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// What a file counts by itself.
pub(super) fn own_totals(record: &Record) -> Totals {
    Totals { apparent: record.apparent.0, allocated: record.allocated.0, entries: 1, newest: record.modified }
}

/// Packs entries.
struct Feed<'a> {
    store: &'a Store,
    unsure: AtomicUsize,
    /// The store takes no more.
    full: AtomicBool,
}

/// What one thread packed.
struct Packed<'a> {
    store: &'a Store,
    writer: Writer,
    run: Vec<u8>,
    names: Interner,
    /// Offset in `run` and inode of files with several names.
    run_links: Vec<(u32, u32)>,
    runs: Vec<(u32, u32)>,
    links: Vec<(u32, u32)>,
    directories: Vec<u32>,
    unsure: Vec<(u32, Box<[u8]>)>,
}

impl Drop for Packed<'_> {
    fn drop(&mut self) {
        self.store.give_back(&mut self.writer);
    }
}

impl Feed<'_> {
    fn put_away(&self, packed: &mut Packed<'_>, directory: u32) {
        match self.store.append_stray(&mut packed.writer, &packed.run) {
            Some(address) => {
                packed.runs.push((directory, address));
                packed.links.extend(packed.run_links.iter().map(|&(offset, ino)| (address + offset, ino)));
            }
            None => self.full.store(true, Ordering::Relaxed),
        }
        packed.run_links.clear();
    }
}

impl<'a> ext4::Sink for Feed<'a> {
    type Worker = Packed<'a>;

    fn start(&self, _: &Inodes) -> Packed<'a> {
        Packed {
            store: self.store,
            writer: Writer::default(),
            run: Vec::new(),
            names: Interner::new(&self.store.names),
            run_links: Vec::new(),
            runs: Vec::new(),
            links: Vec::new(),
            directories: Vec::new(),
            unsure: Vec::new(),
        }
    }

    fn entries(&self, packed: &mut Packed<'a>, inodes: &Inodes, directory: u32, entries: &[Entry<'_>]) {
        // Of a directory that is not known, its name is not to be trusted either: it is looked at by its parent.
        let Some(own) = inodes.get(directory) else { return };
        let base = own.modified;
        let mut in_run = 0_u32;
        codec::begin(&mut packed.run, base);
        for entry in entries {
            let record = inodes.get(entry.ino).filter(|record| {
                // The inode was freed and used again, or was not in use yet, when the inodes were read.
                record.links > 0 && entry.kind.is_none_or(|kind| kind == record.kind)
            });
            let Some(record) = record else {
                if self.unsure.fetch_add(1, Ordering::Relaxed) < UNSURE_LIMIT {
                    packed.unsure.push((directory, entry.name.into()));
                }
                continue;
            };
            let own = own_totals(&record);
            if record.kind == FileKind::Directory {
                codec::push_dir(&mut packed.run, packed.names.pack(entry.name), DirId(entry.ino));
                packed.directories.push(entry.ino);
            } else {
                let flags = if record.links > 1 { codec::LINKED } else { 0 };
                let leaf =
                    Leaf { apparent: own.apparent, allocated: own.allocated, modified: record.modified };
                if record.links > 1 {
                    packed.run_links.push((u32::try_from(packed.run.len()).unwrap_or(u32::MAX), entry.ino));
                }
                let name = packed.names.pack(entry.name);
                codec::push_leaf(&mut packed.run, base, name, record.kind, flags, leaf);
            }
            in_run += 1;
            if packed.run.len() >= FULL {
                self.put_away(packed, directory);
                codec::begin(&mut packed.run, base);
                in_run = 0;
            }
        }
        if in_run > 0 {
            self.put_away(packed, directory);
        }
    }
}
