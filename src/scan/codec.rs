//! How the entries of a directory are packed: names included, without an allocation for each.
//!
//! A *run* is what one batch of a directory's entries looks like in memory:
//!
//! ```text
//! run   = zigzag(base time) entry*
//! entry = flags:u8 name body
//! name  = 0..=95 byte*            spelt, so many bytes
//!         96 length:varint byte*  spelt, longer
//!         97..=127                one of the first 31 names that have a code (`names`)
//!         128..=255 u8            one of the other 32,737
//! body  = directory: its DirId, 4 bytes little-endian
//!         folded:    count:varint size:varint blocks:varint zigzag(time - base time):varint
//!         all else:  size:varint [blocks:varint] zigzag(time - base time):varint
//! ```
//!
//! A folded entry stands for many files that are not listed, and has no name. Integers are LEB128 varints. The number
//! of 512-byte blocks is left out where it is what a file without holes takes in 4 KiB clusters, which nearly all files
//! do. The base time is the directory's own modification time, close to its files' in most trees.

use crate::domain::identity::FileKind;
use crate::domain::leb128;

use super::cell::DirId;
use super::names::Names;

/// The entry is gone: deleted, vanished or replaced by a newer scan.
pub(super) const DEAD: u8 = 0x08;
/// The file has more than one name.
pub(super) const LINKED: u8 = 0x10;
/// Its size is counted at another of its names.
pub(super) const ELSEWHERE: u8 = 0x20;
/// It is not part of the tree.
pub(super) const BOUNDARY: u8 = 0x80;
/// A subvolume that is not counted. No directory has several names, so that flag is free for it.
pub(super) const SUBVOLUME: u8 = BOUNDARY | LINKED;
const KIND: u8 = 0x07;
const BLOCKS: u8 = 0x40;

/// In place of a kind: stands for files that are not listed.
const FOLDED: u8 = 7;

/// The longest name that is spelt with its length in one byte.
const SHORT: usize = 95;
const LONG: u8 = 96;
/// The first code of one byte.
const ONE_BYTE: u8 = 97;
/// How many codes have one byte.
const ONE_BYTE_CODES: u16 = 31;
/// How many codes there are.
pub(super) const CODES: u16 = 0x8000;

/// `st_blocks` counts in units of 512 bytes whatever the file system's own block is (inode(7)).
const BLOCK: u64 = 512;

/// A name, as it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// Spelt.
    Literal(&'a [u8]),
    /// Less than `CODES`.
    Code(u16),
}

/// One entry, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: FileKind,
    pub(super) flags: u8,
    pub(super) body: Body,
}

impl Entry<'_> {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What an entry is besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A directory of this scan; its sizes are in its cell.
    Dir(DirId),
    /// Anything else.
    Leaf(Leaf),
    /// Files that are not listed: how many, and their sizes and newest time.
    Folded(u64, Leaf),
}

/// Sizes in bytes, time in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) apparent: u64,
    pub(super) allocated: u64,
    pub(super) modified: i64,
}

/// Starts a run.
pub(super) fn begin(out: &mut Vec<u8>, base: i64) {
    out.clear();
    leb128::put(out, zigzag(base));
}

/// Packs an entry that is not a directory of this scan.
pub(super) fn push_leaf(out: &mut Vec<u8>, base: i64, name: Name<'_>, kind: FileKind, flags: u8, leaf: Leaf) {
    let blocks = leaf.allocated / BLOCK;
    let dense = blocks == dense_blocks(leaf.apparent);
    out.push((flags & !(KIND | BLOCKS)) | kind_bits(kind) | if dense { 0 } else { BLOCKS });
    push_name(out, name);
    leb128::put(out, leaf.apparent);
    if !dense {
        leb128::put(out, blocks);
    }
    leb128::put(out, zigzag(leaf.modified.wrapping_sub(base)));
}

/// Packs a directory of this scan.
pub(super) fn push_dir(out: &mut Vec<u8>, name: Name<'_>, dir: DirId) {
    out.push(kind_bits(FileKind::Directory));
    push_name(out, name);
    out.extend_from_slice(&dir.0.to_le_bytes());
}

/// Packs what stands for `count` files that are not listed.
pub(super) fn push_folded(out: &mut Vec<u8>, base: i64, count: u64, sum: Leaf) {
    out.push(FOLDED);
    push_name(out, Name::Literal(&[]));
    leb128::put(out, count);
    leb128::put(out, sum.apparent);
    leb128::put(out, sum.allocated / BLOCK);
    leb128::put(out, zigzag(sum.modified.wrapping_sub(base)));
}

/// Gives a directory at an offset in a run its number: it was packed when that was not known.
pub(super) fn set_dir(run: &mut [u8], offset: usize, dir: DirId) {
    let Some(tail) = run.get(offset..) else { return };
    let mut reader = Reader { bytes: tail };
    if reader.byte().and_then(|_| reader.name()).is_none() {
        return;
    }
    let place = offset.saturating_add(tail.len().saturating_sub(reader.bytes.len()));
    if let Some(number) = run.get_mut(place..place.saturating_add(4)) {
        number.copy_from_slice(&dir.0.to_le_bytes());
    }
}

/// The entries of a run, each with its offset in it.
pub(super) struct Entries<'a> {
    run: &'a [u8],
    names: &'a Names,
    base: i64,
    at: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(run: &'a [u8], names: &'a Names) -> Self {
        let mut reader = Reader { bytes: run };
        let base = unzigzag(reader.varint().unwrap_or(0));
        Self { run, names, base, at: run.len() - reader.bytes.len() }
    }

    /// The directory's own modification time when it was read.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// The entry that starts at an offset.
    pub(super) fn at(&self, offset: usize) -> Option<Entry<'a>> {
        Reader { bytes: self.run.get(offset..)? }.entry(self.base, self.names)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (usize, Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader { bytes: self.run.get(self.at..)? };
        let entry = reader.entry(self.base, self.names)?;
        let at = self.at;
        self.at = self.run.len() - reader.bytes.len();
        Some((at, entry))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn entry(&mut self, base: i64, names: &'a Names) -> Option<Entry<'a>> {
        let flags = self.byte()?;
        let name = match self.name()? {
            Name::Literal(name) => name,
            Name::Code(code) => names.get(code)?,
        };
        let kind = kind_of_bits(flags & KIND);
        if flags & KIND == FOLDED {
            let (count, apparent, blocks) = (self.varint()?, self.varint()?, self.varint()?);
            let modified = unzigzag(self.varint()?).wrapping_add(base);
            let sum = Leaf { apparent, allocated: blocks.saturating_mul(BLOCK), modified };
            return Some(Entry { name, kind, flags, body: Body::Folded(count, sum) });
        }
        let body = if kind == FileKind::Directory && flags & BOUNDARY == 0 {
            Body::Dir(DirId(u32::from_le_bytes(self.take(4)?.try_into().ok()?)))
        } else {
            let apparent = self.varint()?;
            let blocks = if flags & BLOCKS == 0 { dense_blocks(apparent) } else { self.varint()? };
            let modified = unzigzag(self.varint()?).wrapping_add(base);
            Body::Leaf(Leaf { apparent, allocated: blocks.saturating_mul(BLOCK), modified })
        };
        Some(Entry { name, kind, flags, body })
    }

    fn name(&mut self) -> Option<Name<'a>> {
        Some(match self.byte()? {
            long @ 0x80.. => Name::Code(u16::from(long & 0x7f) << 8 | u16::from(self.byte()?)),
            short @ ONE_BYTE.. => Name::Code(u16::from(short - ONE_BYTE)),
            LONG => {
                let length = usize::try_from(self.varint()?).ok()?;
                Name::Literal(self.take(length)?)
            }
            length => Name::Literal(self.take(usize::from(length))?),
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

fn push_name(out: &mut Vec<u8>, name: Name<'_>) {
    match name {
        Name::Literal(name) => {
            match u8::try_from(name.len()) {
                Ok(length) if name.len() <= SHORT => out.push(length),
                _ => {
                    out.push(LONG);
                    leb128::put(out, name.len() as u64);
                }
            }
            out.extend_from_slice(name);
        }
        Name::Code(code) => {
            let [high, low] = code.to_be_bytes();
            if code < ONE_BYTE_CODES {
                out.push(ONE_BYTE + low);
            } else {
                out.extend_from_slice(&[0x80 | high, low]);
            }
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Blocks of 512 bytes of a file without holes in 4 KiB clusters.
fn dense_blocks(apparent: u64) -> u64 {
    apparent.div_ceil(4096).saturating_mul(4096 / BLOCK)
}

fn kind_bits(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::Device => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::Other => 6,
    }
}

fn kind_of_bits(bits: u8) -> FileKind {
    match bits {
        0 => FileKind::File,
        1 => FileKind::Directory,
        2 => FileKind::Symlink,
        3 => FileKind::Device,
        4 => FileKind::Fifo,
        5 => FileKind::Socket,
        _ => FileKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::scan::memory::Memory;
    use crate::scan::names::Interner;

    fn names() -> Arc<Names> {
        Arc::new(Names::new(Arc::new(Memory::unbounded())))
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(
            base in any::<i64>(),
            entries in proptest::collection::vec(
                (name(), any::<u64>(), 0..u64::MAX / 1024, any::<i64>(), any::<bool>(), 0u8..=7),
                0..60,
            ),
        ) {
            let names = names();
            let mut interner = Interner::new(&names);
            let mut run = Vec::new();
            begin(&mut run, base);
            let mut expected = Vec::new();
            for (number, (name, apparent, blocks, modified, linked, kind)) in entries.iter().enumerate() {
                let offset = run.len();
                let spelt = name;
                let name = interner.pack(name);
                let leaf = Leaf { apparent: *apparent, allocated: blocks * BLOCK, modified: *modified };
                if *kind == FOLDED {
                    push_folded(&mut run, base, *blocks, leaf);
                    expected.push((offset, Vec::new(), FileKind::Other, Body::Folded(*blocks, leaf)));
                    continue;
                }
                let kind = kind_of_bits(*kind);
                if kind == FileKind::Directory {
                    let dir = DirId(u32::try_from(number).unwrap());
                    push_dir(&mut run, name, DirId(77));
                    set_dir(&mut run, offset, dir);
                    expected.push((offset, spelt.clone(), kind, Body::Dir(dir)));
                } else {
                    push_leaf(&mut run, base, name, kind, if *linked { LINKED } else { 0 }, leaf);
                    expected.push((offset, spelt.clone(), kind, Body::Leaf(leaf)));
                }
            }
            let read = Entries::new(&run, &names);
            prop_assert_eq!(read.base(), base);
            for (offset, name, kind, body) in &expected {
                let entry = read.at(*offset).unwrap();
                prop_assert_eq!((entry.name, entry.kind, entry.body), (&name[..], *kind, *body));
            }
            prop_assert_eq!(read.map(|(at, _)| at).collect::<Vec<_>>(), expected.iter().map(|e| e.0).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_neither_panics_nor_loops(run in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..500) {
            let names = names();
            let entries = Entries::new(&run, &names);
            let _ = entries.at(at);
            set_dir(&mut run.clone(), at, DirId(1));
            prop_assert!(entries.count() <= run.len());
        }
    }

    /// Mostly ones that come often, so that they get codes; else hostile ones, around all limits of lengths.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (0u8..4).prop_map(|which| vec![255 - which; 1 + usize::from(which) * 84]),
            1 => proptest::collection::vec(1u8..=255, 0..1024),
            1 => (90usize..132, 1u8..=255).prop_map(|(length, byte)| vec![byte; length]),
        ]
    }

    #[test]
    fn every_code_comes_out() {
        for code in 0..CODES {
            let mut run = Vec::new();
            push_name(&mut run, Name::Code(code));
            assert_eq!(run.len(), if code < ONE_BYTE_CODES { 1 } else { 2 });
            assert_eq!(Reader { bytes: &run }.name(), Some(Name::Code(code)));
        }
        assert_eq!(u32::from(ONE_BYTE) + u32::from(ONE_BYTE_CODES), 0x80);
        assert_eq!((usize::from(LONG), LONG + 1), (SHORT + 1, ONE_BYTE));
    }

    #[test]
    fn a_plain_file_takes_few_bytes_beside_its_name() {
        let mut run = Vec::new();
        begin(&mut run, 1_700_000_000);
        let before = run.len();
        let leaf = Leaf { apparent: 3000, allocated: 4096, modified: 1_700_000_003 };
        push_leaf(&mut run, 1_700_000_000, Name::Literal(b"mod.rs"), FileKind::File, 0, leaf);
        assert_eq!(run.len() - before, 6 + 5);
    }
}
