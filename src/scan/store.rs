//! Where the runs live: segments of 1 MiB, appended to by one worker each, read by anyone.
//!
//! An address is a segment's number and an offset in it, so an entry is found without any index but
//! the list of runs in its segment. Addresses are never given out twice within a scan.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cell::DirId;
use super::codec::{Entries, Entry};
use super::memory::Memory;
use super::names::Names;
use super::table::Table;

/// Bytes in a segment, as a power of two.
const SEGMENT_BITS: u32 = 20;
const SEGMENT_BYTES: usize = 1 << SEGMENT_BITS;
/// The last segment is not used, so that no address equals `NOWHERE`.
const SEGMENTS: u32 = (1 << (32 - SEGMENT_BITS)) - 1;

/// Whose run it is while that is not known: it is not part of the tree yet. Never a directory's number.
const STRAY: DirId = DirId(u32::MAX - 2);

/// A lock whose holder cannot leave half a change behind: a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Bytes in runs that are still part of the tree.
    live: usize,
    /// No more will be appended.
    closed: bool,
}

#[derive(Clone, Copy)]
struct Run {
    start: u32,
    /// Whose entries; none where they are no longer part of the tree.
    dir: DirId,
}

const RUN_BYTES: usize = size_of::<Run>();

impl Segment {
    /// Number, start and end of the run around an offset.
    fn run_at(&self, offset: u32) -> Option<(usize, usize, usize)> {
        let number = self.runs.partition_point(|run| run.start <= offset).checked_sub(1)?;
        let start = self.runs.get(number)?.start as usize;
        let end = self.runs.get(number + 1).map_or(self.bytes.len(), |next| next.start as usize);
        Some((number, start, end))
    }

    fn free_if_dead(&mut self, memory: &Memory) {
        if self.closed && self.live == 0 {
            memory.give_back((self.bytes.len() + self.runs.len() * RUN_BYTES) as u64);
            self.bytes = Vec::new();
            self.runs = Vec::new();
        }
    }
}

/// A run as it is lent to a reader.
pub(super) struct RunView<'a> {
    /// Whose entries.
    pub(super) dir: DirId,
    /// Address of the run's first byte.
    pub(super) address: u32,
    /// The packed entries.
    pub(super) bytes: &'a [u8],
    names: &'a Names,
}

impl<'a> RunView<'a> {
    /// Its entries.
    pub(super) fn entries(&self) -> Entries<'a> {
        Entries::new(self.bytes, self.names)
    }

    /// The entry at an address in this run.
    pub(super) fn entry(&self, address: u32) -> Option<Entry<'a>> {
        self.entries().at(address.checked_sub(self.address)? as usize)
    }
}

/// A worker's place to append.
#[derive(Default)]
pub(super) struct Writer {
    segment: Option<u32>,
}

/// All runs of a scan.
pub(super) struct Store {
    segments: Table<Mutex<Segment>>,
    used: AtomicU32,
    /// Segments with room left by workers that have ended.
    spare: Mutex<Vec<u32>>,
    /// Names that the runs have codes of.
    pub(super) names: Arc<Names>,
    pub(super) memory: Arc<Memory>,
}

impl Store {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        let names = Arc::new(Names::new(Arc::clone(&memory)));
        Self { segments: Table::new(), used: AtomicU32::new(0), spare: Mutex::default(), names, memory }
    }

    /// The entries of a run that was copied.
    pub(super) fn entries<'a>(&'a self, run: &'a [u8]) -> Entries<'a> {
        Entries::new(run, &self.names)
    }

    /// The address that the next run of `length` bytes will have; none where all addresses are used.
    pub(super) fn reserve(&self, writer: &mut Writer, length: usize) -> Option<u32> {
        if length > SEGMENT_BYTES {
            return None;
        }
        if writer.segment.is_none() {
            writer.segment = lock(&self.spare).pop();
        }
        loop {
            if let Some(number) = writer.segment {
                let mut segment = lock(self.segments.get(number)?);
                let used = segment.bytes.len();
                if used + length <= SEGMENT_BYTES {
                    return Some(number << SEGMENT_BITS | u32::try_from(used).ok()?);
                }
                segment.closed = true;
                segment.runs.shrink_to_fit();
                segment.free_if_dead(&self.memory);
            }
            let number = self.used.fetch_add(1, Ordering::Relaxed);
            if number >= SEGMENTS {
                self.used.store(SEGMENTS, Ordering::Relaxed);
                writer.segment = None;
                return None;
            }
            // The memory behind the capacity is the kernel's until it is written to.
            lock(self.segments.make(number)?).bytes.reserve_exact(SEGMENT_BYTES);
            writer.segment = Some(number);
        }
    }

    /// Appends a run at the address that was just reserved.
    pub(super) fn append(&self, writer: &Writer, dir: DirId, run: &[u8]) {
        let Some(segment) = writer.segment.and_then(|number| self.segments.get(number)) else { return };
        let mut segment = lock(segment);
        let Ok(start) = u32::try_from(segment.bytes.len()) else { return };
        segment.bytes.extend_from_slice(run);
        segment.runs.push(Run { start, dir });
        segment.live += run.len();
        self.memory.spend((run.len() + RUN_BYTES) as u64);
    }

    /// Appends a run whose directory has no number yet. No reader sees it before it is adopted. None where all
    /// addresses or the memory that the scan may take are used.
    pub(super) fn append_stray(&self, writer: &mut Writer, run: &[u8]) -> Option<u32> {
        if self.memory.is_full() {
            return None;
        }
        let address = self.reserve(writer, run.len())?;
        self.append(writer, STRAY, run);
        Some(address)
    }

    /// Copies a run that is not part of the tree yet.
    pub(super) fn copy_stray(&self, address: u32, into: &mut Vec<u8>) -> Option<()> {
        into.clear();
        let segment = lock(self.segments.get(address >> SEGMENT_BITS)?);
        let (number, start, end) = segment.run_at(offset_of(address))?;
        segment.runs.get(number).filter(|run| run.dir == STRAY)?;
        into.extend_from_slice(segment.bytes.get(start..end)?);
        Some(())
    }

    /// Makes a run part of the tree, with its bytes as they are in `run`: of the same length as before.
    pub(super) fn adopt(&self, address: u32, dir: DirId, run: &[u8]) {
        let Some(segment) = self.segments.get(address >> SEGMENT_BITS) else { return };
        let segment = &mut *lock(segment);
        let Some((number, start, end)) = segment.run_at(offset_of(address)) else { return };
        if let Some(bytes) = segment.bytes.get_mut(start..end).filter(|bytes| bytes.len() == run.len())
            && let Some(place) = segment.runs.get_mut(number).filter(|place| place.dir == STRAY)
        {
            bytes.copy_from_slice(run);
            place.dir = dir;
        }
    }

    /// Takes out all runs that were never adopted.
    pub(super) fn discard_strays(&self) {
        // Nobody appends to those any more that were given back: so their memory can be freed.
        for number in lock(&self.spare).drain(..) {
            if let Some(segment) = self.segments.get(number) {
                lock(segment).closed = true;
            }
        }
        for number in 0..self.used.load(Ordering::Relaxed).min(SEGMENTS) {
            let Some(segment) = self.segments.get(number) else { continue };
            let segment = &mut *lock(segment);
            let ends = segment.runs.iter().skip(1).map(|run| run.start as usize).chain([segment.bytes.len()]);
            let ends: Vec<usize> = ends.collect();
            for (run, end) in segment.runs.iter_mut().zip(ends) {
                if run.dir == STRAY {
                    run.dir = DirId::NONE;
                    segment.live = segment.live.saturating_sub(end.saturating_sub(run.start as usize));
                }
            }
            segment.free_if_dead(&self.memory);
        }
    }

    /// Gives a worker's segment back, for the next worker.
    pub(super) fn give_back(&self, writer: &mut Writer) {
        lock(&self.spare).extend(writer.segment.take());
    }

    /// Lends the run around an address; none where it is no longer part of the tree. What holds
    /// workers up is the time spent in `read`: copy and go.
    pub(super) fn read<R>(&self, address: u32, read: impl FnOnce(RunView<'_>) -> R) -> Option<R> {
        let segment = lock(self.segments.get(address >> SEGMENT_BITS)?);
        let (number, start, end) = segment.run_at(offset_of(address))?;
        let dir = segment.runs.get(number).map(|run| run.dir).filter(|&dir| is_in_tree(dir))?;
        let address = (address & !OFFSET) | u32::try_from(start).ok()?;
        Some(read(RunView { dir, address, bytes: segment.bytes.get(start..end)?, names: &self.names }))
    }

    /// Sets and clears flags of the entry at an address.
    pub(super) fn set_flags(&self, address: u32, set: u8, clear: u8) {
        let Some(segment) = self.segments.get(address >> SEGMENT_BITS) else { return };
        if let Some(flags) = lock(segment).bytes.get_mut(offset_of(address) as usize) {
            *flags = (*flags & !clear) | set;
        }
    }

    /// Takes a run out of the tree. A segment's memory is freed with the last of its runs.
    pub(super) fn remove(&self, address: u32) {
        let Some(segment) = self.segments.get(address >> SEGMENT_BITS) else { return };
        let mut segment = lock(segment);
        let Some((number, start, end)) = segment.run_at(offset_of(address)) else { return };
        if let Some(run) = segment.runs.get_mut(number)
            && run.dir != DirId::NONE
        {
            run.dir = DirId::NONE;
            segment.live = segment.live.saturating_sub(end - start);
            segment.free_if_dead(&self.memory);
        }
    }

    /// Lends every run of the tree, segment by segment, each copied first so that no worker waits.
    pub(super) fn each_run(&self, mut read: impl FnMut(RunView<'_>)) {
        let mut copy = Vec::new();
        for number in 0..self.used.load(Ordering::Relaxed).min(SEGMENTS) {
            let Some(segment) = self.segments.get(number) else { continue };
            let mut next = 0;
            loop {
                // A part at a time: a copy of a whole segment would be a good part of a small scan's memory.
                let (runs, from) = {
                    let segment = lock(segment);
                    let rest = segment.runs.get(next..).unwrap_or_default();
                    let Some(from) = rest.first().map(|run| run.start as usize) else { break };
                    let many = rest.iter().take_while(|run| run.start as usize <= from + PART).count();
                    let end = rest.get(many).map_or(segment.bytes.len(), |run| run.start as usize);
                    copy.clear();
                    copy.extend_from_slice(segment.bytes.get(from..end).unwrap_or_default());
                    (rest.get(..many).unwrap_or_default().to_vec(), from)
                };
                next += runs.len();
                let ends = runs.iter().skip(1).map(|run| run.start as usize - from).chain([copy.len()]);
                for (run, end) in runs.iter().zip(ends) {
                    if let Some(bytes) = copy.get(run.start as usize - from..end)
                        && is_in_tree(run.dir)
                    {
                        let address = number << SEGMENT_BITS | run.start;
                        read(RunView { dir: run.dir, address, bytes, names: &self.names });
                    }
                }
            }
        }
    }
}

/// Bytes that are copied at a time, with the run that is there.
const PART: usize = 64 << 10;

const OFFSET: u32 = (1 << SEGMENT_BITS) - 1;

fn is_in_tree(dir: DirId) -> bool {
    dir != DirId::NONE && dir != STRAY
}

fn offset_of(address: u32) -> u32 {
    address & OFFSET
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::FileKind;
    use crate::scan::codec::{self, Leaf};

    fn run_of(name: &[u8]) -> Vec<u8> {
        let mut run = Vec::new();
        codec::begin(&mut run, 0);
        codec::push_leaf(&mut run, 0, codec::Name::Literal(name), FileKind::File, 0, Leaf::default());
        run
    }

    #[test]
    fn a_run_is_found_by_any_address_in_it_until_it_is_removed() {
        let store = Store::new(Arc::new(Memory::unbounded()));
        let mut writer = Writer::default();
        let mut places = Vec::new();
        for number in 0..50_000u32 {
            let run = run_of(format!("a name of some length, number {number}").as_bytes());
            let address = store.reserve(&mut writer, run.len()).unwrap();
            store.append(&writer, DirId(number), &run);
            places.push((number, address, run));
        }
        for (number, address, run) in &places {
            let last = address + u32::try_from(run.len()).unwrap() - 1;
            let found = store.read(last, |view| (view.dir, view.address, view.bytes.to_vec())).unwrap();
            assert_eq!(found, (DirId(*number), *address, run.clone()));
        }
        for (_, address, _) in &places {
            store.remove(*address);
            assert!(store.read(*address, |_| ()).is_none());
        }
        let mut left = 0;
        store.each_run(|_| left += 1);
        assert_eq!(left, 0);
        assert_eq!(
            lock(store.segments.get(0).unwrap()).bytes.capacity(),
            0,
            "memory of a dead segment is freed"
        );
    }

    #[test]
    fn a_stray_run_is_seen_by_nobody_until_it_is_adopted() {
        let store = Store::new(Arc::new(Memory::unbounded()));
        let mut writer = Writer::default();
        let run = run_of(b"a name");
        let (kept, lost) =
            (store.append_stray(&mut writer, &run).unwrap(), store.append_stray(&mut writer, &run).unwrap());
        let seen = |store: &Store| {
            let mut seen = Vec::new();
            store.each_run(|view| seen.push((view.dir, view.address)));
            seen
        };
        assert_eq!(seen(&store), []);
        assert!(store.read(kept, |_| ()).is_none());
        let mut copy = Vec::new();
        store.copy_stray(kept, &mut copy).unwrap();
        assert_eq!(copy, run);
        store.adopt(kept, DirId(7), &copy);
        store.discard_strays();
        assert_eq!(seen(&store), [(DirId(7), kept)]);
        assert!(store.copy_stray(lost, &mut copy).is_none());
        store.remove(kept);
        store.reserve(&mut writer, SEGMENT_BYTES).unwrap();
        assert_eq!(lock(store.segments.get(0).unwrap()).bytes.capacity(), 0, "nothing keeps its memory");
    }

    #[test]
    fn room_left_by_one_worker_is_used_by_the_next() {
        let store = Store::new(Arc::new(Memory::unbounded()));
        for _ in 0..10_000 {
            let mut writer = Writer::default();
            store.reserve(&mut writer, 40).unwrap();
            store.append(&writer, DirId(1), &run_of(b"x"));
            store.give_back(&mut writer);
        }
        assert_eq!(store.used.load(Ordering::Relaxed), 1);
    }
}
