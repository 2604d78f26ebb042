//! Directories whose entries are in their inode: Documentation/filesystems/ext4/inlinedata.rst.
//!
//! The first 60 bytes are in `i_block`: the parent's inode number in place of `.` and `..`, then entries. What does not
//! fit is the value of the extended attribute `system.data` in the same inode (never elsewhere).

use super::bytes::{u16_at, u32_at};
use super::inode::{I_BLOCK, I_BLOCK_LEN, Inode};
use super::superblock::OLD_INODE_SIZE;

/// `EXT4_XATTR_MAGIC`.
const XATTR_MAGIC: u32 = 0xea02_0000;
/// Length of `struct ext4_xattr_entry` without its name.
const XATTR_ENTRY: usize = 16;
/// `EXT4_XATTR_INDEX_SYSTEM`.
const SYSTEM: u8 = 7;
/// `EXT4_INLINE_DOTDOT_SIZE`.
const PARENT: usize = 4;

/// The two pieces of an inline directory, each filled by entries.
///
/// # Errors
/// What is wrong with it.
pub(super) fn pieces<'a>(raw: &'a [u8], inode: &Inode) -> Result<[&'a [u8]; 2], &'static str> {
    find(raw, inode).unwrap_or(Err("an inline directory is cut off"))
}

fn find<'a>(raw: &'a [u8], inode: &Inode) -> Option<Result<[&'a [u8]; 2], &'static str>> {
    let first = raw.get(I_BLOCK + PARENT..I_BLOCK + I_BLOCK_LEN)?;
    let attributes = raw.get(usize::from(OLD_INODE_SIZE.checked_add(inode.extra)?)..)?;
    if u32_at(attributes, 0) != Some(XATTR_MAGIC) {
        return Some(Err("an inline directory has no system.data"));
    }
    let all = attributes.get(4..)?;
    let mut rest = all;
    // The list ends with four zero bytes, or where there is no room for them.
    while u32_at(rest, 0).is_some_and(|word| word != 0) {
        let [name_len, name_index] = *rest.first_chunk()?;
        let name_len = usize::from(name_len);
        let name = rest.get(XATTR_ENTRY..XATTR_ENTRY.checked_add(name_len)?)?;
        if name_index == SYSTEM && name == b"data" {
            let start = usize::from(u16_at(rest, 2)?);
            let size = usize::try_from(u32_at(rest, 8)?).ok()?;
            let value = if size == 0 { &[][..] } else { all.get(start..start.checked_add(size)?)? };
            let whole = u64::try_from(I_BLOCK_LEN.checked_add(size)?).ok()?;
            if u32_at(rest, 4)? != 0 || whole != inode.size {
                return Some(Err("the size of an inline directory does not fit its data"));
            }
            return Some(Ok([first, value]));
        }
        rest = rest.get(XATTR_ENTRY.checked_add(name_len.checked_next_multiple_of(4)?)?..)?;
    }
    Some(Err("an inline directory has no system.data"))
}
