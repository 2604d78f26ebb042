//! A table that grows without moving what is in it and is read without locks.

use std::sync::OnceLock;

const LOW: u32 = 10;
const MID: u32 = 10;

/// Items that are made together.
type Chunk<T> = OnceLock<Box<[T]>>;
/// Chunks whose slots are made together.
type Group<T> = OnceLock<Box<[Chunk<T>]>>;

/// Up to 2³² items in chunks of 1,024, made when first needed.
pub(super) struct Table<T> {
    top: Box<[Group<T>]>,
}

impl<T: Default> Table<T> {
    pub(super) fn new() -> Self {
        Self { top: empty(1 << (32 - LOW - MID)) }
    }

    /// An item, where its chunk was made.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (top, mid, low) = split(index);
        self.top.get(top)?.get()?.get(mid)?.get()?.get(low)
    }

    /// An item; its chunk is made if need be.
    pub(super) fn make(&self, index: u32) -> Option<&T> {
        let (top, mid, low) = split(index);
        let middle = self.top.get(top)?.get_or_init(|| empty(1 << MID));
        middle.get(mid)?.get_or_init(|| (0..1 << LOW).map(|_| T::default()).collect()).get(low)
    }
}

fn empty<T>(count: usize) -> Box<[OnceLock<T>]> {
    (0..count).map(|_| OnceLock::new()).collect()
}

fn split(index: u32) -> (usize, usize, usize) {
    let part = |shift: u32, bits: u32| ((index >> shift) & ((1 << bits) - 1)) as usize;
    (part(LOW + MID, 32 - LOW - MID), part(LOW, MID), part(0, LOW))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn items_keep_their_place() {
        let table: Table<AtomicU32> = Table::new();
        assert!(table.get(7).is_none());
        for index in [0, 7, 1023, 1024, 1 << 20, u32::MAX] {
            table.make(index).unwrap().store(index, Ordering::Relaxed);
        }
        for index in [0, 7, 1023, 1024, 1 << 20, u32::MAX] {
            assert_eq!(table.get(index).unwrap().load(Ordering::Relaxed), index);
        }
        assert_eq!(table.get(8).unwrap().load(Ordering::Relaxed), 0);
    }
}
