//! One inode as it is on disk: Documentation/filesystems/ext4/inodes.rst, `struct ext4_inode`.

use super::bytes::{join, u16_at, u32_at};
use super::checksum::crc32c;
use super::superblock::{OLD_INODE_SIZE, Superblock};
use crate::domain::identity::FileKind;
use crate::sys::file_id::kind_of;

/// `i_flags`: fs/ext4/ext4.h, `EXT4_*_FL`.
pub(super) const ENCRYPTED: u32 = 0x800;
pub(super) const HUGE_FILE: u32 = 0x4_0000;
pub(super) const EXTENTS: u32 = 0x8_0000;
pub(super) const INLINE_DATA: u32 = 0x1000_0000;

/// Where `i_block` is, and its length: the root of the block mapping, a short link's target, or inline data.
pub(super) const I_BLOCK: usize = 0x28;
pub(super) const I_BLOCK_LEN: usize = 60;
/// The fields behind the first 128 bytes that the kernel fills where an inode says that it uses none
/// (`__ext4_iget`: "The extra space is currently unused. Use it."): `sizeof(struct ext4_inode)` less 128.
const ALL_EXTRA: u16 = 32;

/// The parts of an inode that the reader uses, as stat(2) shows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub kind: FileKind,
    pub size: u64,
    /// Space taken, in units of 512 bytes, equal to `st_blocks`.
    pub sectors: u64,
    /// Seconds since the epoch.
    pub modified: i64,
    pub links: u16,
    pub flags: u32,
    pub generation: u32,
    /// Bytes used behind the first 128; extended attributes follow.
    pub extra: u16,
}

/// Decodes an inode; `raw` has the inode size of the file system.
///
/// # Errors
/// What is wrong with it. [`blank`] inodes are to be left out before.
pub(super) fn decode(sb: &Superblock, ino: u32, raw: &[u8]) -> Result<Inode, &'static str> {
    fields(sb, ino, raw).unwrap_or(Err("an inode is cut off"))
}

/// Whether an inode changed at or after a moment, given as the low 32 bits of seconds since the epoch, by `i_ctime`: every
/// change of a directory's entries or a link count sets it, and no program can.
pub(super) fn changed_since(raw: &[u8], since: u32) -> bool {
    // The last 2^31 seconds before `since` wrap to large numbers: ctime has 32 bits and more elsewhere.
    u32_at(raw, CTIME).is_none_or(|time| time.wrapping_sub(since) < 1 << 31)
}

const CTIME: usize = 0xc;

/// Whether the inode never was in use or was cleared: no mode and no links.
pub(super) fn blank(raw: &[u8]) -> bool {
    u16_at(raw, 0) == Some(0) && u16_at(raw, 0x1a) == Some(0)
}

fn fields(sb: &Superblock, ino: u32, raw: &[u8]) -> Option<Result<Inode, &'static str>> {
    let large = sb.inode_size > OLD_INODE_SIZE;
    let stored_extra = if large { u16_at(raw, 0x80)? } else { 0 };
    if large && (stored_extra % 4 != 0 || stored_extra > sb.inode_size.checked_sub(OLD_INODE_SIZE)?) {
        return Some(Err("the extra size of an inode is impossible"));
    }
    if sb.features.metadata_csum() && !matches(sb, ino, raw, stored_extra)? {
        return Some(Err("the checksum of an inode is wrong"));
    }
    let extra = match stored_extra {
        0 if large => ALL_EXTRA,
        other => other,
    };
    let kind = kind_of(u16_at(raw, 0)?);
    if kind == FileKind::Other {
        return Some(Err("an inode has no known kind"));
    }
    let flags = u32_at(raw, 0x20)?;
    // ext4_isize: the high half was i_dir_acl for directories once.
    let high = if kind == FileKind::File || sb.features.largedir() { u32_at(raw, 0x6c)? } else { 0 };
    let size = join(high, u32_at(raw, 0x4)?);
    if i64::try_from(size).is_err() {
        return Some(Err("the size of an inode is negative"));
    }
    let mut sectors = stored_sectors(sb, raw, flags)?;
    let sectors_per_block = u64::from(sb.block_size / 512);
    if sectors > sb.blocks.saturating_mul(sectors_per_block) {
        return Some(Err("an inode takes more space than there is"));
    }
    // ext4_file_getattr: the inode itself holds the data, and tar must not take the file for a hole.
    if flags & INLINE_DATA != 0 && kind == FileKind::File {
        sectors = sectors.checked_add(size.div_ceil(512))?;
    }
    // i_mtime is signed; i_mtime_extra, where it fits, adds two bits of epoch (EXT4_DECODE_EXTRA_TIME).
    let epoch = if extra >= 12 { u32_at(raw, 0x88)? & 3 } else { 0 };
    let modified = i64::from(u32_at(raw, 0x10)?.cast_signed()) + (i64::from(epoch) << 32);
    Some(Ok(Inode {
        kind,
        size,
        sectors,
        modified,
        links: u16_at(raw, 0x1a)?,
        flags,
        generation: u32_at(raw, 0x64)?,
        extra,
    }))
}

/// `ext4_inode_blocks`: 32 bits once, 48 with `huge_file`, and in blocks where the inode says so.
fn stored_sectors(sb: &Superblock, raw: &[u8], flags: u32) -> Option<u64> {
    let low = u32_at(raw, 0x1c)?;
    if !sb.features.huge_file() {
        return Some(low.into());
    }
    let count = join(u16_at(raw, 0x74)?.into(), low);
    Some(if flags & HUGE_FILE == 0 { count } else { count.saturating_mul(u64::from(sb.block_size / 512)) })
}

/// The checksum of an inode (`ext4_inode_csum`): over its number, generation and itself, with the checksum
/// fields taken as zero.
fn matches(sb: &Superblock, ino: u32, raw: &[u8], extra: u16) -> Option<bool> {
    const LOW: usize = 0x7c;
    const HIGH: usize = 0x82;
    let has_high = extra >= 4;
    let mut stored = u32::from(u16_at(raw, LOW)?);
    let mut head = [0_u8; 8 + 0x84];
    let (number, rest) = head.split_at_mut(4);
    let (generation, copy) = rest.split_at_mut(4);
    number.copy_from_slice(&ino.to_le_bytes());
    generation.copy_from_slice(raw.get(0x64..0x68)?);
    let inside = raw.len().min(copy.len());
    copy.get_mut(..inside)?.copy_from_slice(raw.get(..inside)?);
    copy.get_mut(LOW..LOW + 2)?.fill(0);
    if has_high {
        stored |= u32::from(u16_at(raw, HIGH)?) << 16;
        copy.get_mut(HIGH..HIGH + 2)?.fill(0);
    }
    let start = crc32c(sb.seed, head.get(..inside.checked_add(8)?)?);
    let whole = crc32c(start, raw.get(inside..)?);
    Some(if has_high { whole == stored } else { whole & 0xffff == stored })
}
