//! What is kept of every inode in use, 9 bytes each.

use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;

use super::bytes::index;
use super::inode::Inode;

/// What is known of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What kind of file it is.
    pub kind: FileKind,
    /// Apparent size (`st_size`).
    pub apparent: Bytes,
    /// Space taken (`st_blocks` times 512).
    pub allocated: Bytes,
    /// Last change of the contents, in seconds since the epoch.
    pub modified: i64,
    /// Number of names (`st_nlink`).
    pub links: u16,
}

/// A record in 9 bytes, without alignment. Where something does not fit, `size` is an index into the unit's `wide`.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// Little-endian, as `modified`, which is signed.
    size: [u8; 4],
    modified: [u8; 4],
    /// From the highest bit on: links (3 bits), whether it takes no space, whether it is wide, kind (3).
    tag: u8,
}

const KIND: u8 = 7;
const WIDE: u8 = 8;
/// It takes no space: a hole, or kept in the inode. Otherwise it takes what a file without holes does in 4 KiB blocks.
const EMPTY: u8 = 16;
const LINKS_SHIFT: u32 = 5;
const LINKS: u8 = 7;
/// In place of a kind: the record cannot be trusted.
const UNKNOWN: u8 = 7;

/// Units of 512 bytes of a file without holes in blocks of 4 KiB.
fn dense_sectors(size: u32) -> u64 {
    u64::from(size.div_ceil(4096)) * 8
}

fn bits_of(kind: FileKind) -> u8 {
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

fn kind_of_bits(bits: u8) -> Option<FileKind> {
    Some(match bits & KIND {
        0 => FileKind::File,
        1 => FileKind::Directory,
        2 => FileKind::Symlink,
        3 => FileKind::Device,
        4 => FileKind::Fifo,
        5 => FileKind::Socket,
        6 => FileKind::Other,
        _ => return None,
    })
}

#[derive(Clone, Copy, Debug)]
struct Wide {
    size: u64,
    sectors: u64,
    modified: i64,
    links: u16,
}

/// The inodes of a stretch of one group's table.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// One bit per inode: in use.
    used: Box<[u64]>,
    /// For each word of `used`, how many records come before it.
    ranks: Box<[u16]>,
    records: Vec<Packed>,
    wide: Vec<Wide>,
}

impl Unit {
    /// A unit for the inodes whose bit is set, still without records.
    pub fn new(used: Box<[u64]>) -> Self {
        let mut before = 0_u16;
        let ranks = used
            .iter()
            .map(|word| {
                let rank = before;
                before = before.saturating_add(ones(*word));
                rank
            })
            .collect();
        Self { used, ranks, records: Vec::with_capacity(before.into()), wide: Vec::new() }
    }

    /// Adds the record of the next inode in use, none where it cannot be trusted.
    pub fn push(&mut self, inode: Option<&Inode>) {
        let Some(inode) = inode else {
            self.records.push(Packed { size: [0; 4], modified: [0; 4], tag: UNKNOWN });
            return;
        };
        let kind = bits_of(inode.kind);
        let narrow = (u32::try_from(inode.size), i32::try_from(inode.modified), u8::try_from(inode.links));
        let packed = match narrow {
            (Ok(size), Ok(modified), Ok(links))
                if links <= LINKS && (inode.sectors == 0 || inode.sectors == dense_sectors(size)) =>
            {
                let space = if inode.sectors == 0 { EMPTY } else { 0 };
                let tag = links << LINKS_SHIFT | space | kind;
                Packed { size: size.to_le_bytes(), modified: modified.to_le_bytes(), tag }
            }
            _ => {
                let at = u32::try_from(self.wide.len()).unwrap_or(u32::MAX);
                let Inode { size, sectors, modified, links, .. } = *inode;
                self.wide.push(Wide { size, sectors, modified, links });
                Packed { size: at.to_le_bytes(), modified: [0; 4], tag: WIDE | kind }
            }
        };
        self.records.push(packed);
    }

    fn get(&self, within: usize) -> Option<Record> {
        let (word_at, bit) = (within / 64, within % 64);
        let word = *self.used.get(word_at)?;
        if word & (1_u64 << bit) == 0 {
            return None;
        }
        let below = ones(word & ((1_u64 << bit) - 1));
        let packed = self.records.get(usize::from(*self.ranks.get(word_at)?) + usize::from(below))?;
        let kind = kind_of_bits(packed.tag)?;
        let narrow = u32::from_le_bytes(packed.size);
        let Wide { size, sectors, modified, links } = if packed.tag & WIDE == 0 {
            Wide {
                size: narrow.into(),
                sectors: if packed.tag & EMPTY == 0 { dense_sectors(narrow) } else { 0 },
                modified: i32::from_le_bytes(packed.modified).into(),
                links: (packed.tag >> LINKS_SHIFT).into(),
            }
        } else {
            *self.wide.get(index(narrow))?
        };
        let allocated = Bytes(sectors.saturating_mul(512));
        Some(Record { kind, apparent: Bytes(size), allocated, modified, links })
    }

    fn memory(&self) -> usize {
        self.used.len() * 10
            + self.records.capacity() * size_of::<Packed>()
            + self.wide.capacity() * size_of::<Wide>()
            + size_of::<Self>()
    }
}

/// The number of set bits, at most 64.
fn ones(word: u64) -> u16 {
    u16::try_from(word.count_ones()).unwrap_or(u16::MAX)
}

/// Every inode in use, by its number.
#[derive(Debug)]
pub struct Inodes {
    pub(super) per_group: u32,
    pub(super) units_per_group: u32,
    /// By group and place in the group; none where no inode is in use.
    pub(super) units: Vec<Option<Box<Unit>>>,
}

/// How many inodes a unit has at most: one read of 256 KiB where inodes have 256 bytes.
pub(super) const UNIT: u32 = 1024;

impl Inodes {
    /// What is known of an inode. None where it is not in use or its record could not be trusted.
    pub fn get(&self, ino: u32) -> Option<Record> {
        let (unit, within) = self.place(ino)?;
        self.units.get(unit)?.as_ref()?.get(within)
    }

    /// The unit of an inode and its place in it.
    pub(super) fn place(&self, ino: u32) -> Option<(usize, usize)> {
        let zero_based = ino.checked_sub(1)?;
        if self.per_group == UNIT.saturating_mul(self.units_per_group) {
            // As mke2fs makes nearly all: without a division.
            return Some((index(zero_based / UNIT), index(zero_based % UNIT)));
        }
        let group = zero_based.checked_div(self.per_group)?;
        let within = zero_based.checked_rem(self.per_group)?;
        let unit =
            index(group).checked_mul(index(self.units_per_group))?.checked_add(index(within / UNIT))?;
        Some((unit, index(within % UNIT)))
    }

    /// Every inode that is in use and can be trusted, with its number, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Record)> + '_ {
        let units = index(self.units_per_group).max(1);
        self.units.iter().enumerate().filter_map(|(at, unit)| Some((at, unit.as_ref()?))).flat_map(
            move |(at, unit)| {
                let group = u32::try_from(at / units).unwrap_or(u32::MAX);
                let part = u32::try_from(at % units).unwrap_or(u32::MAX);
                let first = group
                    .saturating_mul(self.per_group)
                    .saturating_add(part.saturating_mul(UNIT))
                    .saturating_add(1);
                (first..)
                    .zip(0..unit.used.len().saturating_mul(64))
                    .filter_map(|(ino, within)| Some((ino, unit.get(within)?)))
            },
        )
    }

    /// How many inodes are in use.
    pub fn len(&self) -> usize {
        self.units.iter().flatten().map(|unit| unit.records.len()).sum()
    }

    /// Whether no inode is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.units.capacity() * size_of::<Option<Box<Unit>>>()
            + self.units.iter().flatten().map(|unit| unit.memory()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_9_bytes_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Packed>(), 9);
        let mut unit = Unit::new(vec![0b1111_1011, 1 << 63].into_boxed_slice());
        let inode = |size, sectors, modified, links| Inode {
            kind: FileKind::Symlink,
            size,
            sectors,
            modified,
            links,
            flags: 0,
            generation: 0,
            extra: 0,
        };
        let all = [
            inode(5, 8, -1, 7),
            inode(4097, 16, -1, 0),
            inode(4097, 8, -1, 2),
            inode(4097, 0, -1, 8),
            inode(1 << 40, 8, 0, 1),
            inode(0, 1 << 20, 0, 1),
            inode(7, 7, 1 << 33, 1),
            inode(u64::from(u32::MAX), 1 << 23, i64::from(i32::MIN), 65000),
        ];
        for inode in &all {
            unit.push(Some(inode));
        }
        for (within, inode) in [0, 1, 3, 4, 5, 6, 7, 127].into_iter().zip(&all) {
            let record = unit.get(within).unwrap();
            assert_eq!(record.apparent.0, inode.size);
            assert_eq!(record.allocated.0, inode.sectors * 512);
            assert_eq!(record.modified, inode.modified);
            assert_eq!((record.kind, record.links), (FileKind::Symlink, inode.links));
        }
        assert!(unit.get(2).is_none() && unit.get(126).is_none() && unit.get(128).is_none());
    }
}
