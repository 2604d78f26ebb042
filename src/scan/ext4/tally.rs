//! Counting names against link counts, where no checksum tells damage from sound metadata.
//!
//! A file has as many names as its inode says. A directory has one name, `.`, and the `..` of each directory in it; more
//! than `EXT4_LINK_MAX` are not counted (`ext4_update_dx_flag`, `EXT4_DIR_LINK_MAX` in fs/ext4/namei.c: the count is 1 then).

use std::sync::atomic::{AtomicU16, Ordering};

use super::ROOT;
use super::budget::Budget;
use super::bytes::index;
use super::directory::Entry;
use super::inode_pass::is_visible;
use super::table::{Inodes, UNIT};
use super::why::Why;
use crate::domain::identity::FileKind;

/// A count per inode: names, and for directories also the directories in them.
pub(super) struct Tally {
    /// Of the units that the table has.
    units: Vec<Option<Box<[AtomicU16]>>>,
}

impl Tally {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// [`Why::Memory`].
    pub fn new(inodes: &Inodes, budget: &Budget) -> Result<Self, Why> {
        let mut units = Vec::with_capacity(inodes.units.len());
        for unit in &inodes.units {
            let counts = if unit.is_some() {
                budget.spend(index(UNIT), size_of::<AtomicU16>())?;
                Some((0..UNIT).map(|_| AtomicU16::new(0)).collect())
            } else {
                None
            };
            units.push(counts);
        }
        Ok(Self { units })
    }

    /// Counts the entries of a directory.
    pub fn count(&self, inodes: &Inodes, directory: u32, entries: &[Entry<'_>]) {
        let mut directories = 0_u16;
        for entry in entries {
            self.add(inodes, entry.ino, 1);
            let is_directory =
                || inodes.get(entry.ino).is_some_and(|record| record.kind == FileKind::Directory);
            // Where the entry says another kind, it is not trusted anyway.
            if entry.kind.map_or_else(is_directory, |kind| kind == FileKind::Directory) {
                directories = directories.wrapping_add(1);
            }
        }
        self.add(inodes, directory, directories);
    }

    fn add(&self, inodes: &Inodes, ino: u32, count: u16) {
        let counter =
            inodes.place(ino).and_then(|(unit, within)| self.units.get(unit)?.as_ref()?.get(within));
        if let Some(counter) = counter {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The inodes whose link count is not what was counted.
    pub fn wrong<'a>(&'a self, inodes: &'a Inodes) -> impl Iterator<Item = u32> + 'a {
        inodes.iter().filter_map(move |(ino, record)| {
            if !is_visible(ino) || record.links == 0 {
                return None;
            }
            let (unit, within) = inodes.place(ino)?;
            let counted = self.units.get(unit)?.as_ref()?.get(within)?.load(Ordering::Relaxed);
            let right = match record.kind {
                FileKind::Directory if record.links == 1 => true,
                FileKind::Directory => counted.wrapping_add(if ino == ROOT { 2 } else { 1 }) == record.links,
                _ => counted == record.links,
            };
            (!right).then_some(ino)
        })
    }
}
