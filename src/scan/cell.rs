//! What is kept of a directory beside its entries: 48 bytes of atomics.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

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
pub(super) struct DirCell {
    apparent: AtomicU64,
    allocated: AtomicU64,
    newest: AtomicI64,
    entries: AtomicU32,
    /// Its parent's number.
    pub(super) parent: AtomicU32,
    /// Address of its own entry.
    pub(super) entry: AtomicU32,
    /// Address of its first run.
    pub(super) first_run: AtomicU32,
    pub(super) pending: AtomicU32,
    flags: AtomicU32,
}

impl Default for DirCell {
    fn default() -> Self {
        Self {
            apparent: AtomicU64::new(0),
            allocated: AtomicU64::new(0),
            newest: AtomicI64::new(i64::MIN),
            entries: AtomicU32::new(0),
            parent: AtomicU32::new(DirId::NONE.0),
            entry: AtomicU32::new(NOWHERE),
            first_run: AtomicU32::new(NOWHERE),
            pending: AtomicU32::new(0),
            flags: AtomicU32::new(0),
        }
    }
}

impl DirCell {
    pub(super) fn parent(&self) -> Option<DirId> {
        Some(DirId(self.parent.load(Ordering::Relaxed))).filter(|&dir| dir != DirId::NONE)
    }

    pub(super) fn complete(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            apparent: self.apparent.load(Ordering::Relaxed),
            allocated: self.allocated.load(Ordering::Relaxed),
            entries: u64::from(self.entries.load(Ordering::Relaxed)),
            newest: self.newest.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set(&self, totals: Totals) {
        self.apparent.store(totals.apparent, Ordering::Relaxed);
        self.allocated.store(totals.allocated, Ordering::Relaxed);
        self.entries.store(clamp(totals.entries), Ordering::Relaxed);
        self.newest.store(totals.newest, Ordering::Relaxed);
    }

    pub(super) fn add(&self, totals: Totals) {
        change(&self.apparent, |now| now.saturating_add(totals.apparent));
        change(&self.allocated, |now| now.saturating_add(totals.allocated));
        let _ = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            Some(now.saturating_add(clamp(totals.entries)))
        });
        self.newest.fetch_max(totals.newest, Ordering::Relaxed);
    }

    /// Takes sizes and counts out. The newest time cannot be taken out of a maximum: see
    /// `Tree::renew_newest`.
    pub(super) fn subtract(&self, totals: Totals) {
        change(&self.apparent, |now| now.saturating_sub(totals.apparent));
        change(&self.allocated, |now| now.saturating_sub(totals.allocated));
        let _ = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            Some(now.saturating_sub(clamp(totals.entries)))
        });
    }

    pub(super) fn set_newest(&self, newest: i64) {
        self.newest.store(newest, Ordering::Relaxed);
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    pub(super) fn mark(&self, flag: u32) {
        self.mark_new(flag);
    }

    /// Marks it, and says whether it was not before: to one of those who do so at once only.
    pub(super) fn mark_new(&self, flag: u32) -> bool {
        !self.has(flag) && self.flags.fetch_or(flag, Ordering::AcqRel) & flag == 0
    }

    pub(super) fn unmark(&self, flag: u32) {
        self.flags.fetch_and(!flag, Ordering::AcqRel);
    }
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn change(number: &AtomicU64, to: impl Fn(u64) -> u64) {
    let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(to(now)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_kept_in_48_bytes() {
        assert_eq!(size_of::<DirCell>(), 48);
    }

    #[test]
    fn hostile_sizes_saturate() {
        let cell = DirCell::default();
        let huge = Totals { apparent: u64::MAX, allocated: u64::MAX, entries: u64::MAX, newest: 5 };
        cell.add(huge);
        cell.add(huge);
        assert_eq!(cell.totals().apparent, u64::MAX);
        assert_eq!(cell.totals().entries, u64::from(u32::MAX));
        cell.subtract(huge);
        cell.subtract(huge);
        assert_eq!(cell.totals().allocated, 0);
    }
}
