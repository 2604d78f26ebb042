//! What is kept of every inode in use, 16 bytes each.

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

/// A record in 16 bytes. Where size, space or time do not fit, `size` is an index into the unit's `wide`.
#[derive(Clone, Copy, Debug)]
struct Packed {
    size: u32,
    sectors: u32,
    modified: i32,
    links: u16,
    kind: PackedKind,
    wide: bool,
}

/// A kind of file, or why there is none.
#[derive(Clone, Copy, Debug)]
enum PackedKind {
    Known(FileKind),
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Wide {
    size: u64,
    sectors: u64,
    modified: i64,
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
            let kind = PackedKind::Unknown;
            self.records.push(Packed { size: 0, sectors: 0, modified: 0, links: 0, kind, wide: false });
            return;
        };
        let narrow = (u32::try_from(inode.size), u32::try_from(inode.sectors), i32::try_from(inode.modified));
        let (links, kind) = (inode.links, PackedKind::Known(inode.kind));
        let packed = if let (Ok(size), Ok(sectors), Ok(modified)) = narrow {
            Packed { size, sectors, modified, links, kind, wide: false }
        } else {
            let at = u32::try_from(self.wide.len()).unwrap_or(u32::MAX);
            self.wide.push(Wide { size: inode.size, sectors: inode.sectors, modified: inode.modified });
            Packed { size: at, sectors: 0, modified: 0, links, kind, wide: true }
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
        let PackedKind::Known(kind) = packed.kind else { return None };
        let (size, sectors, modified) = if packed.wide {
            let wide = self.wide.get(index(packed.size))?;
            (wide.size, wide.sectors, wide.modified)
        } else {
            (packed.size.into(), packed.sectors.into(), packed.modified.into())
        };
        Some(Record {
            kind,
            apparent: Bytes(size),
            allocated: Bytes(sectors.saturating_mul(512)),
            modified,
            links: packed.links,
        })
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
    fn a_record_is_16_bytes_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Packed>(), 16);
        let mut unit = Unit::new(vec![0b1011, 1 << 63].into_boxed_slice());
        let inode = |size, sectors, modified| Inode {
            kind: FileKind::Symlink,
            size,
            sectors,
            modified,
            links: 65000,
            flags: 0,
            generation: 0,
            extra: 0,
        };
        let all = [inode(5, 8, -1), inode(1 << 40, 8, 0), inode(0, 1 << 33, 0), inode(7, 7, 1 << 33)];
        for inode in &all {
            unit.push(Some(inode));
        }
        for (within, inode) in [0, 1, 3, 127].into_iter().zip(&all) {
            let record = unit.get(within).unwrap();
            assert_eq!(record.apparent.0, inode.size);
            assert_eq!(record.allocated.0, inode.sectors * 512);
            assert_eq!(record.modified, inode.modified);
            assert_eq!((record.kind, record.links), (FileKind::Symlink, 65000));
        }
        assert!(unit.get(2).is_none() && unit.get(126).is_none() && unit.get(128).is_none());
    }
}
