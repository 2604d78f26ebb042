//! The figures of an XFS file system (xfsctl(3)).

use std::os::fd::AsFd;

use rustix::io;

use super::raw;
use crate::domain::size::Bytes;

/// `XFS_FSOP_GEOM_FLAGS_FINOBT`, `_RMAPBT` and `_REFLINK`.
const FINOBT: u32 = 1 << 17;
const RMAPBT: u32 = 1 << 19;
const REFLINK: u32 = 1 << 20;

/// What its metadata takes, as far as the shape of the file system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Size of the log on the main device.
    pub log: Bytes,
    /// Size of the data section, the log in it.
    pub data: Bytes,
    /// Space for inodes, in use or not.
    pub inodes: Bytes,
    /// The least that headers, free lists and tree roots of all allocation groups take.
    pub groups: Bytes,
    /// Whether it keeps a map from space to owners.
    pub reverse_map: bool,
}

/// Asks the file system that a file is on.
///
/// # Errors
/// `ENOTTY` where it is not XFS.
pub fn figures(fs: impl AsFd) -> io::Result<Figures> {
    let shape = raw::xfs_geometry(fs.as_fd())?;
    let counts = raw::xfs_counts(fs.as_fd())?;
    let block = u64::from(shape.block_size);
    let has = |flag| u64::from(shape.flags & flag != 0);
    // Four sectors: superblock, AGF, AGI, AGFL. Then the roots of the trees of free space by place and by size and of
    // inodes, those that a feature adds, and the four blocks that the free list keeps at least.
    let headers = (u64::from(shape.sector_size) * 4).div_ceil(block.max(1));
    let per_group = headers + 3 + has(FINOBT) + has(RMAPBT) + has(REFLINK) + 4;
    let blocks = |count: u64| Bytes(count.saturating_mul(block));
    Ok(Figures {
        log: if shape.log_start == 0 { Bytes::ZERO } else { blocks(shape.log_blocks.into()) },
        data: blocks(shape.data_blocks),
        inodes: Bytes(counts.allocated_inodes.saturating_mul(shape.inode_size.into())),
        groups: blocks(per_group.saturating_mul(shape.ag_count.into())),
        reverse_map: shape.flags & RMAPBT != 0,
    })
}
