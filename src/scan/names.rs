//! Names that are seen often, kept once. Trees repeat themselves (`mod.rs`, `package.json`, `LICENSE`): in the runs
//! such a name is a code of one or two bytes.
//!
//! Codes are given out once and hold for the life of the scan. A worker notes in a small cache of its own which names
//! it met of late, so that most names cost one look at one cache line and no lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::codec::{CODES, Name};
use super::memory::Memory;
use super::store::lock;
use super::table::Table;

/// How often a worker must have met a name before it gets a code: what a code costs is earned back by then soon.
const OFTEN: u16 = 4;
/// Shorter names gain nothing.
const SHORTEST: usize = 2;
/// Sets of two slots in a worker's cache: 64 KiB.
const SETS: usize = 4096;
/// Bytes that a code takes besides its name: in the tables below, and the allocator's own.
const OVERHEAD: u64 = 72;

/// The names that have codes.
pub(super) struct Names {
    by_code: Table<OnceLock<Box<[u8]>>>,
    codes: Mutex<HashMap<u64, u16>>,
    memory: Arc<Memory>,
}

impl Names {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self { by_code: Table::new(), codes: Mutex::default(), memory }
    }

    /// The name with a code.
    pub(super) fn get(&self, code: u16) -> Option<&[u8]> {
        self.by_code.get(u32::from(code))?.get().map(|name| &**name)
    }

    /// The code of a name, given out now if need be. None where all are given out, or another name has the same hash.
    fn code(&self, hash: u64, name: &[u8]) -> Option<u16> {
        let mut codes = lock(&self.codes);
        if let Some(&code) = codes.get(&hash) {
            return Some(code).filter(|&code| self.get(code) == Some(name));
        }
        let code = u16::try_from(codes.len()).ok().filter(|&code| code < CODES)?;
        self.by_code.make(u32::from(code))?.get_or_init(|| name.into());
        codes.insert(hash, code);
        self.memory.spend(OVERHEAD + name.len() as u64);
        Some(code)
    }
}

/// A name met of late.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// Part of its hash.
    tag: u32,
    /// How often it was met, while that is less than `OFTEN`; then `OFTEN`, and it has a code or never will.
    met: u16,
    /// Its code; `CODES` where it has none.
    code: u16,
}

/// A worker's way from names to codes.
pub(super) struct Interner {
    names: Arc<Names>,
    sets: Box<[[Slot; 2]]>,
}

impl Interner {
    pub(super) fn new(names: &Arc<Names>) -> Self {
        Self { names: Arc::clone(names), sets: vec![[Slot::default(); 2]; SETS].into_boxed_slice() }
    }

    /// How a name is to be packed.
    pub(super) fn pack<'a>(&mut self, name: &'a [u8]) -> Name<'a> {
        let literal = Name::Literal(name);
        if name.len() < SHORTEST {
            return literal;
        }
        let hash = hash(name);
        let high = u32::try_from(hash >> 32).unwrap_or(0);
        let set = usize::try_from(hash % SETS as u64).ok().and_then(|low| self.sets.get_mut(low));
        let Some(set) = set else { return literal };
        let [first, second] = set;
        let slot = if first.met > 0 && first.tag == high {
            first
        } else if second.met > 0 && second.tag == high {
            second
        } else {
            // What has a code stays, for as long as the other slot serves for those that come and go.
            let slot = if first.met < OFTEN || second.met >= OFTEN { first } else { second };
            *slot = Slot { tag: high, met: 1, code: CODES };
            return literal;
        };
        if slot.met < OFTEN {
            slot.met += 1;
            if slot.met == OFTEN {
                slot.code = self.names.code(hash, name).unwrap_or(CODES);
            }
        }
        // Another name may have the same tag.
        if slot.code < CODES && self.names.get(slot.code) == Some(name) {
            Name::Code(slot.code)
        } else {
            literal
        }
    }
}

/// Eight bytes at a time; the constant is the golden ratio's, as in Knuth's multiplicative hashing.
fn hash(name: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let hash = step(hash, u64::from_le_bytes(last));
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::memory::Memory;

    fn names() -> Arc<Names> {
        Arc::new(Names::new(Arc::new(Memory::unbounded())))
    }

    #[test]
    fn a_name_that_is_met_often_gets_one_code_for_all_workers() {
        let names = names();
        let (mut one, mut other) = (Interner::new(&names), Interner::new(&names));
        for _ in 1..OFTEN {
            assert_eq!(one.pack(b"mod.rs"), Name::Literal(b"mod.rs"));
            assert_eq!(other.pack(b"mod.rs"), Name::Literal(b"mod.rs"));
        }
        assert_eq!(one.pack(b"mod.rs"), Name::Code(0));
        assert_eq!(other.pack(b"mod.rs"), Name::Code(0));
        assert_eq!(names.get(0), Some(&b"mod.rs"[..]));
        assert_eq!(names.get(1), None);
    }

    #[test]
    fn when_all_codes_are_given_out_names_are_spelt() {
        let names = names();
        let mut interner = Interner::new(&names);
        let name_of = |number: u32| format!("name {number}").into_bytes();
        for number in 0..u32::from(CODES) + 500 {
            for _ in 0..OFTEN {
                interner.pack(&name_of(number));
            }
        }
        assert_eq!(lock(&names.codes).len(), usize::from(CODES));
        let mut fresh = Interner::new(&names);
        for _ in 0..8 {
            assert_eq!(fresh.pack(b"one too many"), Name::Literal(b"one too many"));
        }
        for code in 0..CODES {
            assert!(names.get(code).is_some());
        }
    }

    #[test]
    fn names_of_one_hash_are_kept_apart() {
        let names = names();
        assert_eq!(names.code(7, b"first"), Some(0));
        assert_eq!(names.code(7, b"second"), None);
        assert_eq!(names.code(7, b"first"), Some(0));
    }

    #[test]
    fn lengths_and_tails_matter_to_the_hash() {
        let all: [&[u8]; 7] =
            [b"ab", b"ab\0", b"abcdefgh", b"abcdefgh\0", b"abcdefghi", b"\xff\xfe", b"\xff\xfe\xff"];
        let mut hashes: Vec<u64> = all.iter().map(|name| hash(name)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all.len());
    }
}
