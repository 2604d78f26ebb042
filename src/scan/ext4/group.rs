//! Group descriptors: `Documentation/filesystems/ext4/group_descr.rst`, `struct ext4_group_desc`.

use super::bytes::{index, join, u16_at, u32_at};
use super::checksum::{crc16, crc32c};
use super::superblock::Superblock;
use super::why::Why;
use crate::sys::block_device::ReadAt;

/// `EXT4_BG_INODE_UNINIT`: neither bitmap nor table were ever written.
const INODE_UNINIT: u16 = 1;
/// Where `bg_checksum` is.
const CHECKSUM: usize = 0x1e;
/// How often a descriptor block is read again where a checksum does not match.
const TRIES: u32 = 5;

/// What the reader needs of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// The block of the inode bitmap.
    pub bitmap: u64,
    /// The first block of the inode table.
    pub table: u64,
    /// How many inodes from the first on can be in use.
    pub usable: u32,
    /// The checksum of the bitmap, under `metadata_csum`.
    pub bitmap_csum: u32,
}

/// Reads all descriptors.
///
/// # Errors
/// See [`Why`].
pub(super) fn read_all(device: &impl ReadAt, sb: &Superblock) -> Result<Vec<Group>, Why> {
    let per_block = sb.block_size / u32::from(sb.desc_size);
    let mut groups = Vec::with_capacity(index(sb.groups));
    let mut raw = vec![0_u8; index(sb.block_size)];
    for number in 0..sb.groups.div_ceil(per_block) {
        let block = descriptor_block(sb, number, per_block);
        let first = number.saturating_mul(per_block);
        let last = first.saturating_add(per_block).min(sb.groups);
        let mut result: Result<(), Why> = Ok(());
        for _ in 0..TRIES {
            device.read_at(&mut raw, sb.offset_of(block))?;
            groups.truncate(index(first));
            result =
                raw.chunks_exact(usize::from(sb.desc_size)).zip(first..last).try_for_each(|(raw, number)| {
                    groups.push(parse(sb, number, raw)?);
                    Ok(())
                });
            if result.is_ok() {
                break;
            }
        }
        result?;
    }
    Ok(groups)
}

/// The block with the descriptors number `number * per_block` on (`descriptor_loc` in fs/ext4/super.c).
fn descriptor_block(sb: &Superblock, number: u32, per_block: u32) -> u64 {
    if !sb.features.meta_bg() || number < sb.first_meta_bg {
        // The superblock is in block 1 where blocks have 1 KiB, also under bigalloc, where group 0 starts at 0.
        let superblock = u64::from(sb.block_size == 1024);
        return superblock + u64::from(number) + 1;
    }
    let group = number.saturating_mul(per_block);
    let first = u64::from(group) * u64::from(sb.blocks_per_group) + u64::from(sb.first_data_block);
    let boot_block = sb.block_size == 1024 && number == 0 && sb.first_data_block == 0;
    first + u64::from(sb.group_has_super(group)) + u64::from(boot_block)
}

fn parse(sb: &Superblock, number: u32, raw: &[u8]) -> Result<Group, Why> {
    let cut = || Why::damaged("the group descriptors are cut off");
    let wide = sb.desc_size >= 64;
    let half = |at| u16_at(raw, at).map(u32::from).ok_or_else(cut);
    let word = |at| u32_at(raw, at).ok_or_else(cut);
    let high_half = |at| if wide { half(at) } else { Ok(0) };
    let high_word = |at| if wide { word(at) } else { Ok(0) };
    check(sb, number, raw).ok_or(Why::damaged("the checksum of a group descriptor is wrong"))?;
    let bitmap = join(high_word(0x24)?, word(0x4)?);
    let table = join(high_word(0x28)?, word(0x8)?);
    let bytes = u64::from(sb.inodes_per_group) * u64::from(sb.inode_size);
    let blocks = bytes.div_ceil(u64::from(sb.block_size));
    if !sb.holds(bitmap, 1) || !sb.holds(table, blocks) {
        return Err(Why::damaged("an inode table is outside of the file system"));
    }
    let usable = if !sb.features.group_csum() {
        sb.inodes_per_group
    } else if half(0x12)? & u32::from(INODE_UNINIT) != 0 {
        0
    } else {
        let unused = half(0x1c)? | (high_half(0x32)? << 16);
        sb.inodes_per_group
            .checked_sub(unused)
            .ok_or(Why::damaged("a group has more unused inodes than inodes"))?
    };
    Ok(Group { bitmap, table, usable, bitmap_csum: half(0x1a)? | (high_half(0x3a)? << 16) })
}

/// Whether the checksum of a descriptor is right (`ext4_group_desc_csum`).
fn check(sb: &Superblock, number: u32, raw: &[u8]) -> Option<()> {
    if !sb.features.group_csum() {
        return Some(());
    }
    let stored = u16_at(raw, CHECKSUM)?;
    let (before, after) = (raw.get(..CHECKSUM)?, raw.get(CHECKSUM.checked_add(2)?..)?);
    let number = number.to_le_bytes();
    let computed = if sb.features.metadata_csum() {
        let start = crc32c(crc32c(sb.seed, &number), before);
        let whole = crc32c(crc32c(start, &[0, 0]), after);
        u16::try_from(whole & 0xffff).ok()?
    } else {
        crc16(crc16(crc16(crc16(!0, &sb.uuid), &number), before), after)
    };
    (computed == stored).then_some(())
}

/// Whether the checksum of an inode bitmap is right (`ext4_inode_bitmap_csum_verify`).
pub(super) fn bitmap_matches(sb: &Superblock, group: &Group, bitmap: &[u8]) -> bool {
    if !sb.features.metadata_csum() {
        return true;
    }
    let Some(covered) = bitmap.get(..index(sb.inodes_per_group / 8)) else { return false };
    let mask = if sb.desc_size >= 64 { u32::MAX } else { 0xffff };
    crc32c(sb.seed, covered) & mask == group.bitmap_csum & mask
}
