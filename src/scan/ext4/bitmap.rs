//! The first pass: inode bitmaps say which inodes are in use.

use std::sync::atomic::AtomicBool;

use super::budget::Budget;
use super::bytes::index;
use super::coalesce::reads;
use super::group::{self, Group};
use super::superblock::Superblock;
use super::table::UNIT;
use super::why::Why;
use super::work::share;
use crate::sys::block_device::ReadAt;

/// The inodes in use in a stretch of a group's table, before they are read.
pub(super) struct Stretch {
    /// The number of its unit in [`super::table::Inodes`].
    pub unit: usize,
    /// The first inode.
    pub first: u32,
    /// Where the first inode is on the device, in bytes.
    pub offset: u64,
    /// One bit per inode in use.
    pub used: Box<[u64]>,
    /// Whether the bitmap was right. Where not, every inode that could be in use counts as used.
    pub trusted: bool,
}

/// Reads the bitmaps of all groups; the stretches come in the order of the disk, those without used inodes left out.
///
/// # Errors
/// See [`Why`].
pub(super) fn read_all(
    device: &impl ReadAt,
    sb: &Superblock,
    groups: &[Group],
    threads: usize,
    cancel: &AtomicBool,
    budget: &Budget,
) -> Result<Vec<Stretch>, Why> {
    let mut wanted: Vec<(u64, u32)> = (0_u32..)
        .zip(groups)
        .filter(|(_, group)| group.usable > 0)
        .map(|(number, group)| (group.bitmap, number))
        .collect();
    wanted.sort_unstable();
    let jobs = reads(&wanted, sb.block_size, |&(block, _)| (block, 1));
    let states = share(
        threads,
        jobs.len(),
        cancel,
        || (Vec::new(), Vec::new()),
        |(stretches, buffer): &mut (Vec<Stretch>, Vec<u8>), job| {
            let wanted = jobs.get(job).and_then(|range| wanted.get(range.clone())).unwrap_or_default();
            let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(()) };
            let blocks = last.0.saturating_sub(first.0).saturating_add(1);
            let bytes = usize::try_from(sb.offset_of(blocks)).unwrap_or(usize::MAX);
            buffer.resize(bytes, 0);
            device.read_at(buffer, sb.offset_of(first.0))?;
            for &(block, number) in wanted {
                let start =
                    usize::try_from(sb.offset_of(block.saturating_sub(first.0))).unwrap_or(usize::MAX);
                let bitmap = buffer.get(start..).and_then(|tail| tail.get(..index(sb.block_size)));
                if let (Some(bitmap), Some(group)) = (bitmap, groups.get(index(number))) {
                    split(sb, number, group, bitmap, budget, stretches)?;
                }
            }
            Ok(())
        },
    )?;
    let mut all: Vec<Stretch> = states.into_iter().flat_map(|(stretches, _)| stretches).collect();
    all.sort_unstable_by_key(|stretch| stretch.offset);
    Ok(all)
}

fn split(
    sb: &Superblock,
    number: u32,
    group: &Group,
    bitmap: &[u8],
    budget: &Budget,
    out: &mut Vec<Stretch>,
) -> Result<(), Why> {
    // The descriptor was read before the bitmap, so a busy group does not match: then look at every inode.
    let trusted = group::bitmap_matches(sb, group, bitmap);
    let units_per_group = sb.inodes_per_group.div_ceil(UNIT);
    for part in 0..group.usable.div_ceil(UNIT) {
        let from = part.saturating_mul(UNIT);
        let count = group.usable.saturating_sub(from).min(UNIT);
        let bytes = bitmap.get(index(from / 8)..).unwrap_or_default();
        let mut used: Vec<u64> = (0..count.div_ceil(64))
            .map(|word| {
                let left = count.saturating_sub(word.saturating_mul(64));
                let mask = if left >= 64 { u64::MAX } else { (1_u64 << left) - 1 };
                let raw = bytes.get(index(word) * 8..).and_then(|tail| tail.first_chunk().copied());
                mask & if trusted { raw.map_or(0, u64::from_le_bytes) } else { u64::MAX }
            })
            .collect();
        while used.pop_if(|word| *word == 0).is_some() {}
        if used.is_empty() {
            continue;
        }
        let inodes = used.iter().map(|word| index(word.count_ones())).sum::<usize>();
        budget.spend(1, 256 + used.len() * 10)?;
        budget.spend(inodes, 9)?;
        let zero_based = number.saturating_mul(sb.inodes_per_group).saturating_add(from);
        out.push(Stretch {
            unit: index(number).saturating_mul(index(units_per_group)).saturating_add(index(part)),
            first: zero_based.saturating_add(1),
            offset: sb.offset_of(group.table).saturating_add(u64::from(from) * u64::from(sb.inode_size)),
            used: used.into_boxed_slice(),
            trusted,
        });
    }
    Ok(())
}
