//! Directory blocks: Documentation/filesystems/ext4/directory.rst, `struct ext4_dir_entry_2`.
//!
//! The index blocks of a hashed directory look like blocks of unused entries to a reader that does not know
//! the index, on purpose (`struct dx_root`, `struct dx_node` in fs/ext4/namei.c): no code is needed to read past them,
//! only their checksum is elsewhere.

use super::FIRST_INO;
use super::ROOT;
use super::bytes::{index, u16_at, u32_at};
use super::checksum::crc32c;
use super::superblock::Superblock;
use crate::domain::identity::FileKind;

/// A name in a directory. `.` and `..` are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The inode it names.
    pub ino: u32,
    /// The name: 1 to 255 bytes, without `/` and NUL.
    pub name: &'a [u8],
    /// The kind as the directory has it, where it does; the inode's record is the authority.
    pub kind: Option<FileKind>,
}

/// Bytes before the name.
const HEADER: usize = 8;
/// `EXT4_DIR_REC_LEN(1)`: the shortest entry.
const SHORTEST: usize = 12;
/// The length of the checksum entry at the end of a block, and its marker (`EXT4_FT_DIR_CSUM`).
const TAIL: usize = 12;
const TAIL_MARK: u8 = 0xde;

/// Reads one directory block.
///
/// # Errors
/// What is wrong with it; then `out` is as it was before.
pub(super) fn block<'a>(
    sb: &Superblock,
    seed: u32,
    raw: &'a [u8],
    out: &mut Vec<Entry<'a>>,
) -> Result<(), &'static str> {
    if sb.features.metadata_csum()
        && leaf_matches(raw, seed) != Some(true)
        && index_matches(raw, seed) != Some(true)
    {
        return Err("the checksum of a directory block is wrong");
    }
    entries(sb, raw, out)
}

/// Reads entries that fill `raw` completely, after the checks of `__ext4_check_dir_entry` in fs/ext4/dir.c.
///
/// # Errors
/// What is wrong with them; then `out` is as it was before.
pub(super) fn entries<'a>(
    sb: &Superblock,
    raw: &'a [u8],
    out: &mut Vec<Entry<'a>>,
) -> Result<(), &'static str> {
    let before = out.len();
    let result = walk(sb, raw, out).unwrap_or(Err("a directory entry is cut off"));
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn walk<'a>(sb: &Superblock, raw: &'a [u8], out: &mut Vec<Entry<'a>>) -> Option<Result<(), &'static str>> {
    let mut rest = raw;
    while !rest.is_empty() {
        let ino = u32_at(rest, 0)?;
        let length = usize::from(u16_at(rest, 4)?);
        let [name_len, type_byte] = *rest.get(6..)?.first_chunk()?;
        let name_len = usize::from(name_len);
        if length < SHORTEST
            || length % 4 != 0
            || length < HEADER.checked_add(name_len)?
            || length > rest.len()
        {
            return Some(Err("the length of a directory entry is wrong"));
        }
        let (entry, tail) = rest.split_at_checked(length)?;
        if !tail.is_empty() && tail.len() < SHORTEST {
            return Some(Err("a directory entry ends too close to the end of its block"));
        }
        rest = tail;
        if ino == 0 {
            continue;
        }
        let name = entry.get(HEADER..HEADER.checked_add(name_len)?)?;
        if name == b"." || name == b".." {
            continue;
        }
        if ino > sb.inodes || (ino < FIRST_INO && ino != ROOT) {
            return Some(Err("a directory entry has an impossible inode number"));
        }
        if name.is_empty() || name.iter().any(|&b| b == b'/' || b == 0) {
            return Some(Err("a directory entry has an impossible name"));
        }
        let kind = if sb.features.filetype() {
            kind(type_byte)
        } else if type_byte == 0 {
            None
        } else {
            return Some(Err("the length of a name is impossible"));
        };
        out.push(Entry { ino, name, kind });
    }
    Some(Ok(()))
}

/// `EXT4_FT_*`.
fn kind(byte: u8) -> Option<FileKind> {
    match byte {
        1 => Some(FileKind::File),
        2 => Some(FileKind::Directory),
        3 | 4 => Some(FileKind::Device),
        5 => Some(FileKind::Fifo),
        6 => Some(FileKind::Socket),
        7 => Some(FileKind::Symlink),
        _ => None,
    }
}

/// `ext4_dirblock_csum_verify`.
fn leaf_matches(raw: &[u8], seed: u32) -> Option<bool> {
    let (covered, tail) = raw.split_at_checked(raw.len().checked_sub(TAIL)?)?;
    let marked = u32_at(tail, 0)? == 0
        && usize::from(u16_at(tail, 4)?) == TAIL
        && tail.get(6) == Some(&0)
        && tail.get(7) == Some(&TAIL_MARK);
    Some(marked && crc32c(seed, covered) == u32_at(tail, 8)?)
}

/// `ext4_dx_csum_verify`, and that it is a block of the index by its unused entries (`get_dx_countlimit`).
fn index_matches(raw: &[u8], seed: u32) -> Option<bool> {
    let size = u16::try_from(raw.len()).ok()?;
    let length = u16_at(raw, 4)?;
    let counts = if length == size && u32_at(raw, 0)? == 0 {
        8_usize
    } else if length == 12 && u16_at(raw, 16)? == size.checked_sub(12)? && raw.get(29) == Some(&8) {
        32
    } else {
        return Some(false);
    };
    let limit = usize::from(u16_at(raw, counts)?);
    let count = usize::from(u16_at(raw, counts.checked_add(2)?)?);
    let covered = counts.checked_add(count.checked_mul(8)?)?;
    let tail = counts.checked_add(limit.checked_mul(8)?)?;
    if count > limit {
        return Some(false);
    }
    let start = crc32c(seed, raw.get(..covered)?);
    let whole = crc32c(crc32c(start, raw.get(tail..tail.checked_add(4)?)?), &[0; 4]);
    Some(whole == u32_at(raw, tail.checked_add(4)?)?)
}

/// Whether a block is the root of a directory's index (`struct dx_root`, `ext4_dx_add_entry`).
pub(super) fn is_index_root(raw: &[u8]) -> bool {
    let rest = raw.len().checked_sub(12).and_then(|rest| u16::try_from(rest).ok());
    u16_at(raw, 4) == Some(12)
        && rest.is_some()
        && u16_at(raw, 16) == rest
        && u32_at(raw, 24) == Some(0)
        && raw.get(29) == Some(&8)
        && u16_at(raw, 34).is_some_and(|count| count > 0)
}

/// How many entries of the shortest kind a block can hold, to reserve for.
pub(super) fn likely_entries(block_size: u32) -> usize {
    index(block_size) / 32
}
