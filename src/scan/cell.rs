//! What is kept of a directory beside its entries: 32 bytes of atomics.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::store::lock;

/// A directory of a scan, in the order of discovery: a directory's number is larger than its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DirId(pub(super) u32);

impl DirId {
    pub(super) const ROOT: Self = Self(0);
    /// No directory.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// No address.
pub(super) const NOWHERE: u32 = u32::MAX;

/// It could not be read, or not completely.
pub(super) const UNREADABLE: u32 = 1;
/// Something below it could not be read.
pub(super) const UNREADABLE_BELOW: u32 = 2;
/// Something was mounted there after its parent was read.
pub(super) const MOUNTED: u32 = 4;
/// It is no longer part of the tree.
pub(super) const REMOVED: u32 = 8;
/// It has more runs than the first.
pub(super) const MORE_RUNS: u32 = 16;
/// All its entries are in the tree; what is below may not be.
pub(super) const READ: u32 = 32;
/// The scan was cancelled before all its entries were in the tree.
pub(super) const CUT_SHORT: u32 = 64;
/// Its totals are in `Wides`.
const WIDE: u32 = 128;
/// Any reason why it or something below it is not all there.
pub(super) const INCOMPLETE: u32 = UNREADABLE | UNREADABLE_BELOW | CUT_SHORT;

/// Sums over a set of entries. Sizes in bytes, time in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) apparent: u64,
    pub(super) allocated: u64,
    pub(super) entries: u64,
    pub(super) newest: i64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { apparent: 0, allocated: 0, entries: 0, newest: i64::MIN }
    }
}

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.apparent = self.apparent.saturating_add(other.apparent);
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.entries = self.entries.saturating_add(other.entries);
        self.newest = self.newest.max(other.newest);
    }
}

/// A directory.
///
/// The totals are of the directory itself, its files and those of its directories that are complete.
/// `pending` counts what is still missing: itself until it is read, and each directory in it that is
/// not complete. So every directory adds its totals to its parent exactly once, whatever the depth.
///
/// Totals that fit are kept in four times 32 bits; those of the few directories with more are in [`Wides`].
pub(super) struct DirCell {
    apparent: AtomicU32,
    /// In blocks of 512 bytes.
    allocated: AtomicU32,
    /// `NEVER` stands for `i64::MIN`.
    newest: AtomicU32,
    entries: AtomicU32,
    /// Its parent's number.
    pub(super) parent: AtomicU32,
    /// Address of its own entry.
    pub(super) entry: AtomicU32,
    /// Address of its first run.
    pub(super) first_run: AtomicU32,
    /// Flags in the low 8 bits, `pending` above.
    state: AtomicU32,
}

const NEVER: u32 = u32::MAX;
const BLOCK: u64 = 512;
/// One directory that is pending, in `state`.
const ONE: u32 = 1 << 8;
const FLAGS: u32 = ONE - 1;
/// How many directories that are not complete one may have: as many as can be counted, but for what the workers have
/// in their hands.
pub(super) const MOST_PENDING: u32 = u32::MAX / ONE - (1 << 21);

impl Default for DirCell {
    fn default() -> Self {
        Self {
            apparent: AtomicU32::new(0),
            allocated: AtomicU32::new(0),
            newest: AtomicU32::new(NEVER),
            entries: AtomicU32::new(0),
            parent: AtomicU32::new(DirId::NONE.0),
            entry: AtomicU32::new(NOWHERE),
            first_run: AtomicU32::new(NOWHERE),
            state: AtomicU32::new(0),
        }
    }
}

impl DirCell {
    pub(super) fn parent(&self) -> Option<DirId> {
        Some(DirId(self.parent.load(Ordering::Relaxed))).filter(|&dir| dir != DirId::NONE)
    }

    pub(super) fn pending(&self) -> u32 {
        self.state.load(Ordering::Acquire) / ONE
    }

    pub(super) fn complete(&self) -> bool {
        self.pending() == 0
    }

    /// More must come before it is complete. Says how many there were before.
    pub(super) fn expect(&self, count: usize) -> u32 {
        // Its parent's `MOST_PENDING` is checked before a directory is made.
        let more = u32::try_from(count).unwrap_or(0).saturating_mul(ONE);
        self.state.fetch_add(more, Ordering::AcqRel) / ONE
    }

    /// One less is missing. Says whether that completes it.
    pub(super) fn came(&self) -> bool {
        let before =
            self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| state.checked_sub(ONE));
        before.is_ok_and(|before| before / ONE == 1)
    }

    /// Nothing more will come.
    pub(super) fn give_up(&self) {
        self.state.fetch_and(FLAGS, Ordering::AcqRel);
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.state.load(Ordering::Acquire) & flag != 0
    }

    pub(super) fn mark(&self, flag: u32) {
        self.mark_new(flag);
    }

    /// Marks it, and says whether it was not before: to one of those who do so at once only.
    pub(super) fn mark_new(&self, flag: u32) -> bool {
        !self.has(flag) && self.state.fetch_or(flag, Ordering::AcqRel) & flag == 0
    }

    pub(super) fn unmark(&self, flag: u32) {
        self.state.fetch_and(!flag, Ordering::AcqRel);
    }

    fn narrow(&self) -> Totals {
        let newest = self.newest.load(Ordering::Relaxed);
        Totals {
            apparent: self.apparent.load(Ordering::Relaxed).into(),
            allocated: u64::from(self.allocated.load(Ordering::Relaxed)) * BLOCK,
            entries: self.entries.load(Ordering::Relaxed).into(),
            newest: if newest == NEVER { i64::MIN } else { newest.into() },
        }
    }

    /// Says no where they do not fit.
    fn set_narrow(&self, totals: Totals) -> bool {
        let newest = match totals.newest {
            i64::MIN => Some(NEVER),
            newest => u32::try_from(newest).ok().filter(|&newest| newest != NEVER),
        };
        if let (Ok(apparent), Ok(allocated), Ok(entries), Some(newest), 0) = (
            u32::try_from(totals.apparent),
            u32::try_from(totals.allocated / BLOCK),
            u32::try_from(totals.entries),
            newest,
            totals.allocated % BLOCK,
        ) {
            self.apparent.store(apparent, Ordering::Relaxed);
            self.allocated.store(allocated, Ordering::Relaxed);
            self.entries.store(entries, Ordering::Relaxed);
            self.newest.store(newest, Ordering::Relaxed);
            return true;
        }
        false
    }
}

const STRIPES: usize = 64;

/// Totals that do not fit into a cell, and what keeps changes of totals apart: some locks, each for every 64th cell.
pub(super) struct Wides([Mutex<HashMap<DirId, Totals>>; STRIPES]);

impl Wides {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

/// A directory with its number.
#[derive(Clone, Copy)]
pub(super) struct Dir<'a> {
    id: DirId,
    cell: &'a DirCell,
    wides: &'a Wides,
}

impl Deref for Dir<'_> {
    type Target = DirCell;

    fn deref(&self) -> &DirCell {
        self.cell
    }
}

impl<'a> Dir<'a> {
    pub(super) fn new(id: DirId, cell: &'a DirCell, wides: &'a Wides) -> Self {
        Self { id, cell, wides }
    }

    fn stripe(&self) -> Option<MutexGuard<'a, HashMap<DirId, Totals>>> {
        self.wides.0.get(self.id.0 as usize % STRIPES).map(lock)
    }

    pub(super) fn totals(&self) -> Totals {
        // What it was before it was wide is still in the cell, so a look without the lock sees that at worst.
        let wide = if self.has(WIDE) { self.stripe() } else { None };
        wide.and_then(|wide| wide.get(&self.id).copied()).unwrap_or_else(|| self.narrow())
    }

    fn change(&self, to: impl FnOnce(&mut Totals)) {
        let Some(mut wide) = self.stripe() else { return };
        if let Some(totals) = wide.get_mut(&self.id) {
            to(totals);
            return;
        }
        let mut totals = self.narrow();
        to(&mut totals);
        if !self.set_narrow(totals) {
            wide.insert(self.id, totals);
            self.mark(WIDE);
        }
    }

    pub(super) fn set(&self, totals: Totals) {
        self.change(|now| *now = totals);
    }

    pub(super) fn add(&self, totals: Totals) {
        self.change(|now| now.add(totals));
    }

    /// Takes sizes and counts out. The newest time cannot be taken out of a maximum: see
    /// `Tree::renew`.
    pub(super) fn subtract(&self, totals: Totals) {
        self.change(|now| {
            now.apparent = now.apparent.saturating_sub(totals.apparent);
            now.allocated = now.allocated.saturating_sub(totals.allocated);
            now.entries = now.entries.saturating_sub(totals.entries);
        });
    }

    pub(super) fn set_newest(&self, newest: i64) {
        self.change(|now| now.newest = newest);
    }

    /// As it was before it was read.
    pub(super) fn reset(&self, own: Totals) {
        self.set(own);
        self.first_run.store(NOWHERE, Ordering::Release);
        self.state.fetch_and(WIDE, Ordering::AcqRel);
        self.expect(1);
    }
}

pub(super) fn change(number: &AtomicU64, to: impl Fn(u64) -> u64) {
    let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(to(now)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_kept_in_32_bytes() {
        assert_eq!(size_of::<DirCell>(), 32);
    }

    #[test]
    fn totals_that_do_not_fit_are_kept_as_well() {
        let base = Totals { apparent: 5, allocated: 1024, entries: 2, newest: 7 };
        for more in [
            Totals { apparent: 1 << 40, ..Totals::default() },
            Totals { allocated: 1 << 50, ..Totals::default() },
            Totals { allocated: 1, ..Totals::default() },
            Totals { entries: 1 << 33, ..Totals::default() },
            Totals { newest: 1 << 32, ..Totals::default() },
            Totals { newest: u32::MAX.into(), ..Totals::default() },
        ] {
            let (cell, wides) = (DirCell::default(), Wides::new());
            let dir = Dir::new(DirId(70), &cell, &wides);
            assert_eq!(dir.totals(), Totals::default());
            dir.set(base);
            assert!(!dir.has(WIDE));
            dir.add(more);
            let mut sum = base;
            sum.add(more);
            assert_eq!(dir.totals(), sum);
            assert!(dir.has(WIDE));
            dir.subtract(more);
            assert_eq!(Totals { newest: 7, ..dir.totals() }, base);
            dir.set_newest(-1);
            assert_eq!(dir.totals().newest, -1);
            dir.reset(base);
            assert_eq!((dir.totals(), dir.pending()), (base, 1));
        }
    }

    #[test]
    fn what_is_pending_and_what_is_marked_do_not_mix() {
        let cell = DirCell::default();
        cell.mark(UNREADABLE | WIDE);
        assert_eq!(cell.expect(2), 0);
        assert!(!cell.came() && cell.came() && cell.complete());
        assert!(!cell.came(), "nothing below zero");
        assert_eq!(cell.expect(MOST_PENDING as usize + (1 << 20)), 0);
        assert!(cell.has(UNREADABLE) && cell.has(WIDE) && !cell.has(READ));
        cell.give_up();
        assert!(cell.complete() && cell.has(UNREADABLE));
    }

    #[test]
    fn many_threads_lose_nothing_on_the_way_to_wide() {
        let (cell, wides) = (DirCell::default(), Wides::new());
        let one = Totals { apparent: 3 << 20, allocated: 4 << 20, entries: 1, newest: 1 };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let dir = Dir::new(DirId(0), &cell, &wides);
                    (0..1000).for_each(|_| dir.add(one));
                });
            }
        });
        let sum = Totals { apparent: 12_000 << 20, allocated: 16_000 << 20, entries: 4000, newest: 1 };
        assert_eq!(Dir::new(DirId(0), &cell, &wides).totals(), sum);
    }

    #[test]
    fn hostile_sizes_saturate() {
        let (cell, wides) = (DirCell::default(), Wides::new());
        let dir = Dir::new(DirId(0), &cell, &wides);
        let huge = Totals { apparent: u64::MAX, allocated: u64::MAX, entries: u64::MAX, newest: 5 };
        dir.add(huge);
        dir.add(huge);
        assert_eq!(dir.totals(), huge);
        dir.subtract(huge);
        dir.subtract(huge);
        assert_eq!(dir.totals().allocated, 0);
    }
}
