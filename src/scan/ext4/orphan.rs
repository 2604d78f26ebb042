//! Inodes without a name that are still in use: deleted but open files, and `O_TMPFILE`.
//!
//! The inode tables show all of them. The file system's own list (Documentation/filesystems/ext4/orphan.rst), a
//! chain from `s_last_orphan` through `i_dtime` or an orphan file, tells which of them a crash would not leak.

use std::collections::HashSet;

use super::bytes::{index, u32_at};
use super::mapping::Source;
use super::read::Pass;
use super::table::{Inodes, Record};
use super::why::{Fault, Why};
use crate::sys::block_device::ReadAt;

/// An inode that is in use but has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its number.
    pub ino: u32,
    /// What is known of it.
    pub record: Record,
    /// Whether the file system's own list of orphans has it. A file system without a journal keeps none.
    pub listed: bool,
}

/// `i_dtime`: the next orphan, while the inode is one.
const NEXT: usize = 0x14;
/// `EXT4_ORPHAN_BLOCK_MAGIC`, and the length of `struct ext4_orphan_block_tail`.
const MAGIC: u32 = 0x0b10_ca04;
const TAIL: usize = 8;

/// The orphans among the inodes without a name.
///
/// # Errors
/// See [`Why`]. A list that does not fit together is followed as far as it does: it only marks.
pub(super) fn find<D: ReadAt>(
    pass: &Pass<'_, D>,
    inodes: &Inodes,
    mut unlinked: Vec<u32>,
    last_orphan: u32,
) -> Result<Vec<Orphan>, Why> {
    unlinked.sort_unstable();
    let mut listed = HashSet::new();
    if !unlinked.is_empty() {
        chain(pass, inodes, last_orphan, &mut listed)?;
        file(pass, &mut listed)?;
    }
    Ok(unlinked
        .into_iter()
        .filter_map(|ino| Some(Orphan { ino, record: inodes.get(ino)?, listed: listed.contains(&ino) }))
        .collect())
}

fn chain<D: ReadAt>(
    pass: &Pass<'_, D>,
    inodes: &Inodes,
    last_orphan: u32,
    listed: &mut HashSet<u32>,
) -> Result<(), Why> {
    let mut raw = vec![0; usize::from(pass.sb.inode_size)];
    let mut next = last_orphan;
    // Each step takes a new inode that is in use, so it ends.
    while inodes.get(next).is_some() && listed.insert(next) {
        if pass.inode(next, &mut raw)?.is_err() {
            break;
        }
        next = u32_at(&raw, NEXT).unwrap_or(0);
    }
    Ok(())
}

fn file<D: ReadAt>(pass: &Pass<'_, D>, listed: &mut HashSet<u32>) -> Result<(), Why> {
    let mut raw = vec![0; usize::from(pass.sb.inode_size)];
    if pass.sb.orphan_file == 0 || pass.inode_offset(pass.sb.orphan_file).is_none() {
        return Ok(());
    }
    let Ok(inode) = pass.inode(pass.sb.orphan_file, &mut raw)? else { return Ok(()) };
    let Ok(source) = Source::new(pass.sb, pass.sb.orphan_file, &inode, &raw) else { return Ok(()) };
    let runs = match source.runs(pass.device, pass.sb) {
        Ok(runs) => runs,
        Err(Fault::Torn(_)) => return Ok(()),
        Err(Fault::Fatal(why)) => return Err(why),
    };
    let mut block = vec![0; index(pass.sb.block_size)];
    for run in runs {
        for at in 0..u64::from(run.count) {
            pass.device.read_at(&mut block, pass.sb.offset_of(run.block.saturating_add(at)))?;
            let (numbers, tail) = block.split_at(block.len().saturating_sub(TAIL));
            // Its checksum is set when the journal commits, so it need not match what the page cache holds.
            if u32_at(tail, 0) == Some(MAGIC) {
                listed
                    .extend(numbers.chunks_exact(4).filter_map(|raw| u32_at(raw, 0)).filter(|&ino| ino != 0));
            }
        }
    }
    Ok(())
}
