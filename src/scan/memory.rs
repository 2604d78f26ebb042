//! What a scan's tree may take, and what is left out when that is not enough.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::size::Bytes;

/// Files that take less than this are the first to be folded: nearly all files, and little of the space.
pub(super) const SMALL: u64 = 1 << 20;

/// What is no longer listed but only counted in its directory's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fold {
    /// Everything is listed.
    Nothing,
    /// Files that take less than `SMALL`.
    Small,
    /// All but directories and files with several names.
    Files,
}

/// Memory of a scan's tree: an account, since the allocator does not tell.
#[derive(Debug)]
pub(super) struct Memory {
    allowed: u64,
    used: AtomicU64,
    /// Where files begin to be folded, and where all are.
    fold: [AtomicU64; 2],
}

impl Memory {
    /// Three quarters are for whatever comes first, the rest for directories and large files.
    pub(super) fn new(allowed: Bytes) -> Self {
        let allowed = allowed.0;
        let fold = [allowed / 4 * 3, allowed / 8 * 7].map(AtomicU64::new);
        Self { allowed, used: AtomicU64::new(0), fold }
    }

    #[cfg(test)]
    pub(super) fn unbounded() -> Self {
        Self::new(Bytes(u64::MAX))
    }

    pub(super) fn spend(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    pub(super) fn allowed(&self) -> Bytes {
        Bytes(self.allowed)
    }

    /// Nothing more can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.allowed
    }

    /// What is to be folded, when so many bytes are about to be spent.
    pub(super) fn fold(&self, coming: usize) -> Fold {
        let used = self.used.load(Ordering::Relaxed).saturating_add(coming as u64);
        let [small, files] = &self.fold;
        if used < small.load(Ordering::Relaxed) {
            Fold::Nothing
        } else if used < files.load(Ordering::Relaxed) {
            Fold::Small
        } else {
            Fold::Files
        }
    }

    /// Makes room for a directory that somebody asked to see: half of what is left.
    pub(super) fn make_room(&self) {
        let used = self.used.load(Ordering::Relaxed);
        let until = used.saturating_add(self.allowed.saturating_sub(used) / 2);
        for limit in &self.fold {
            limit.fetch_max(until, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_goes_first() {
        let memory = Memory::new(Bytes(800));
        assert_eq!((memory.fold(0), memory.is_full()), (Fold::Nothing, false));
        assert_eq!(memory.fold(600), Fold::Small);
        memory.spend(600);
        assert_eq!(memory.fold(0), Fold::Small);
        memory.spend(100);
        assert_eq!((memory.fold(0), memory.is_full()), (Fold::Files, false));
        memory.make_room();
        assert_eq!(memory.fold(0), Fold::Nothing);
        memory.spend(50);
        assert_eq!(memory.fold(0), Fold::Files);
        memory.spend(50);
        assert!(memory.is_full());
        memory.make_room();
        assert!(memory.is_full() && memory.fold(0) == Fold::Files);
        memory.give_back(u64::MAX);
        assert_eq!((memory.fold(0), memory.is_full()), (Fold::Nothing, false));
    }
}
