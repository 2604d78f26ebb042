//! The directories' own sizes and times, which is all that is needed of the inodes once the names are packed.

use std::collections::HashMap;

use super::feed::own_totals;
use crate::scan::cell::Totals;
use crate::scan::ext4::Inodes;

/// One directory in 16 bytes.
struct Packed {
    ino: u32,
    apparent: u32,
    /// Units of 512 bytes; `WIDE` where something does not fit.
    sectors: u32,
    modified: i32,
}

const WIDE: u32 = u32::MAX;
/// `st_blocks` counts in units of 512 bytes (inode(7)).
const SECTOR: u64 = 512;

/// Directories by inode.
pub(super) struct Known {
    /// Sorted by inode.
    packed: Vec<Packed>,
    wide: HashMap<u32, Totals>,
}

impl Known {
    /// Takes these directories, whose numbers are sorted, out of all inodes.
    pub(super) fn new(inos: &[u32], inodes: &Inodes) -> Self {
        let mut known = Self { packed: Vec::with_capacity(inos.len()), wide: HashMap::new() };
        for &ino in inos {
            let Some(own) = inodes.get(ino).as_ref().map(own_totals) else { continue };
            let narrow = (
                u32::try_from(own.apparent),
                u32::try_from(own.allocated / SECTOR),
                i32::try_from(own.newest),
            );
            let packed = match narrow {
                (Ok(apparent), Ok(sectors), Ok(modified)) if sectors != WIDE => {
                    Packed { ino, apparent, sectors, modified }
                }
                _ => {
                    known.wide.insert(ino, own);
                    Packed { ino, apparent: 0, sectors: WIDE, modified: 0 }
                }
            };
            known.packed.push(packed);
        }
        known
    }

    /// What a directory counts by itself. None where it is not known.
    pub(super) fn get(&self, ino: u32) -> Option<Totals> {
        let at = self.packed.binary_search_by_key(&ino, |packed| packed.ino).ok()?;
        let packed = self.packed.get(at)?;
        if packed.sectors == WIDE {
            return self.wide.get(&ino).copied();
        }
        Some(Totals {
            apparent: packed.apparent.into(),
            allocated: u64::from(packed.sectors) * SECTOR,
            entries: 1,
            newest: packed.modified.into(),
        })
    }
}
