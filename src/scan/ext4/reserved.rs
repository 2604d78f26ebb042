//! Files of the file system's own: reserved inodes (`Documentation/filesystems/ext4/special_inodes.rst`) and the orphan
//! file.

use super::inode;
use super::read::Pass;
use super::why::Why;
use crate::domain::size::Bytes;
use crate::sys::block_device::ReadAt;

/// A file of the file system's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// What it is for.
    pub name: &'static str,
    /// Space it takes.
    pub allocated: Bytes,
    /// Whether it is the journal, which the kernel takes off the size of the file system as it does with the tables
    /// (`ext4_calculate_overhead` in fs/ext4/super.c).
    pub journal: bool,
}

/// `EXT4_RESIZE_INO` and `EXT4_JOURNAL_INO`.
const RESIZE: u32 = 7;
const JOURNAL: u32 = 8;
/// These, `EXT4_USR_QUOTA_INO` and `EXT4_GRP_QUOTA_INO`.
const FIXED: [(u32, &str); 4] = [
    (3, "quotas of users"),
    (4, "quotas of groups"),
    (RESIZE, "map of the space kept for growing"),
    (JOURNAL, "journal"),
];

/// Those that are in use.
///
/// # Errors
/// See [`Why`].
pub(super) fn find<D: ReadAt>(pass: &Pass<'_, D>) -> Result<Vec<Reserved>, Why> {
    let mut raw = vec![0; usize::from(pass.sb.inode_size)];
    let mut found = Vec::new();
    let orphan_file = (pass.sb.orphan_file, "list of deleted files that are still open");
    for (ino, name) in FIXED.into_iter().chain(Some(orphan_file).filter(|&(ino, _)| ino != 0)) {
        let Ok(decoded) = pass.inode(ino, &mut raw)? else { continue };
        // The blocks that the resize inode keeps for growing are part of the fixed tables: only the one that maps them
        // is not.
        let map = u64::from(pass.sb.block_size) / 512;
        let sectors = if ino == RESIZE { decoded.sectors.min(map) } else { decoded.sectors };
        if !inode::blank(&raw) && sectors > 0 {
            let allocated = Bytes(sectors.saturating_mul(512));
            found.push(Reserved { name, allocated, journal: ino == JOURNAL });
        }
    }
    Ok(found)
}
