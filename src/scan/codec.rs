//! How the entries of a directory are packed: some 22 bytes each, names included, no allocation.
//!
//! A *run* is what one batch of a directory's entries looks like in memory:
//!
//! ```text
//! run   = zigzag(base time) entry*
//! entry = flags:u8 length:varint name body
//! body  = directory: its DirId, 4 bytes little-endian
//!         all else:  size:varint [blocks:varint] zigzag(time - base time):varint
//! ```
//!
//! Integers are LEB128 varints. The number of 512-byte blocks is left out where it is what a file
//! without holes takes in 4 KiB clusters, which nearly all files do. The base time is the directory's
//! own modification time, close to its files' in most trees.

use crate::domain::identity::FileKind;

use super::cell::DirId;

/// The entry is gone: deleted, vanished or replaced by a newer scan.
pub(super) const DEAD: u8 = 0x08;
/// The file has more than one name.
pub(super) const LINKED: u8 = 0x10;
/// Its size is counted at another of its names.
pub(super) const ELSEWHERE: u8 = 0x20;
/// Something else is mounted there.
pub(super) const BOUNDARY: u8 = 0x80;
const KIND: u8 = 0x07;
const BLOCKS: u8 = 0x40;

/// `st_blocks` counts in units of 512 bytes whatever the file system's own block is (inode(7)).
const BLOCK: u64 = 512;

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
    varint(out, zigzag(base));
}

/// Packs an entry that is not a directory of this scan.
pub(super) fn push_leaf(out: &mut Vec<u8>, base: i64, name: &[u8], kind: FileKind, flags: u8, leaf: Leaf) {
    let blocks = leaf.allocated / BLOCK;
    let dense = blocks == dense_blocks(leaf.apparent);
    out.push((flags & !(KIND | BLOCKS)) | kind_bits(kind) | if dense { 0 } else { BLOCKS });
    push_name(out, name);
    varint(out, leaf.apparent);
    if !dense {
        varint(out, blocks);
    }
    varint(out, zigzag(leaf.modified.wrapping_sub(base)));
}

/// Packs a directory of this scan.
pub(super) fn push_dir(out: &mut Vec<u8>, name: &[u8], dir: DirId) {
    out.push(kind_bits(FileKind::Directory));
    push_name(out, name);
    out.extend_from_slice(&dir.0.to_le_bytes());
}

/// Gives a directory at an offset in a run its number: it was packed when that was not known.
pub(super) fn set_dir(run: &mut [u8], offset: usize, dir: DirId) {
    let Some(tail) = run.get(offset..) else { return };
    let mut reader = Reader { bytes: tail };
    let Some(length) = reader.byte().and_then(|_| reader.varint()).and_then(|n| usize::try_from(n).ok())
    else {
        return;
    };
    let header = tail.len().saturating_sub(reader.bytes.len());
    let place = offset.saturating_add(header).saturating_add(length);
    if let Some(number) = run.get_mut(place..place.saturating_add(4)) {
        number.copy_from_slice(&dir.0.to_le_bytes());
    }
}

/// The entries of a run, each with its offset in it.
pub(super) struct Entries<'a> {
    run: &'a [u8],
    base: i64,
    at: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(run: &'a [u8]) -> Self {
        let mut reader = Reader { bytes: run };
        let base = unzigzag(reader.varint().unwrap_or(0));
        Self { run, base, at: run.len() - reader.bytes.len() }
    }

    /// The directory's own modification time when it was read.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// The entry that starts at an offset.
    pub(super) fn at(&self, offset: usize) -> Option<Entry<'a>> {
        Reader { bytes: self.run.get(offset..)? }.entry(self.base)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (usize, Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader { bytes: self.run.get(self.at..)? };
        let entry = reader.entry(self.base)?;
        let at = self.at;
        self.at = self.run.len() - reader.bytes.len();
        Some((at, entry))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn entry(&mut self, base: i64) -> Option<Entry<'a>> {
        let flags = self.byte()?;
        let length = usize::try_from(self.varint()?).ok()?;
        let name = self.take(length)?;
        let kind = kind_of_bits(flags & KIND);
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

fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    varint(out, name.len() as u64);
    out.extend_from_slice(name);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_out(
            base in any::<i64>(),
            entries in proptest::collection::vec(
                (proptest::collection::vec(1u8..=255, 1..1024), any::<u64>(), 0..u64::MAX / 1024, any::<i64>(), any::<bool>(), 0u8..7),
                0..20,
            ),
        ) {
            let mut run = Vec::new();
            begin(&mut run, base);
            let mut expected = Vec::new();
            for (number, (name, apparent, blocks, modified, linked, kind)) in entries.iter().enumerate() {
                let offset = run.len();
                let kind = kind_of_bits(*kind);
                if kind == FileKind::Directory {
                    let dir = DirId(u32::try_from(number).unwrap());
                    push_dir(&mut run, name, DirId(77));
                    set_dir(&mut run, offset, dir);
                    expected.push((offset, name.clone(), kind, Body::Dir(dir)));
                } else {
                    let leaf = Leaf { apparent: *apparent, allocated: blocks * BLOCK, modified: *modified };
                    push_leaf(&mut run, base, name, kind, if *linked { LINKED } else { 0 }, leaf);
                    expected.push((offset, name.clone(), kind, Body::Leaf(leaf)));
                }
            }
            let read = Entries::new(&run);
            prop_assert_eq!(read.base(), base);
            for (offset, name, kind, body) in &expected {
                let entry = read.at(*offset).unwrap();
                prop_assert_eq!((entry.name, entry.kind, entry.body), (&name[..], *kind, *body));
            }
            prop_assert_eq!(read.map(|(at, _)| at).collect::<Vec<_>>(), expected.iter().map(|e| e.0).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_neither_panics_nor_loops(run in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..500) {
            let entries = Entries::new(&run);
            let _ = entries.at(at);
            set_dir(&mut run.clone(), at, DirId(1));
            prop_assert!(entries.count() <= run.len());
        }
    }

    #[test]
    fn a_plain_file_takes_few_bytes_beside_its_name() {
        let mut run = Vec::new();
        begin(&mut run, 1_700_000_000);
        let before = run.len();
        let leaf = Leaf { apparent: 3000, allocated: 4096, modified: 1_700_000_003 };
        push_leaf(&mut run, 1_700_000_000, b"mod.rs", FileKind::File, 0, leaf);
        assert_eq!(run.len() - before, 6 + 5);
    }
}
