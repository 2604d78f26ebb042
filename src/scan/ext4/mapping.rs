//! Where the blocks of a directory are on the disk.

use super::inode::{EXTENTS, I_BLOCK, I_BLOCK_LEN, Inode};
use super::superblock::Superblock;
use super::why::Fault;
use super::{block_map, checksum, extent};
use crate::sys::block_device::ReadAt;

/// Blocks that follow each other on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub block: u64,
    pub count: u32,
}

/// What is needed to find the blocks of one directory (or the orphan file).
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub ino: u32,
    /// What the checksums of its blocks start from.
    pub seed: u32,
    extents: bool,
    /// How many blocks it has.
    pub blocks: u32,
    root: [u8; I_BLOCK_LEN],
}

impl Source {
    /// Takes it out of an inode.
    ///
    /// # Errors
    /// What is wrong with its size.
    pub fn new(sb: &Superblock, ino: u32, inode: &Inode, raw: &[u8]) -> Result<Self, &'static str> {
        let size = u64::from(sb.block_size);
        if inode.size == 0 || !inode.size.is_multiple_of(size) || inode.size / size > sb.blocks {
            return Err("the size of a directory is impossible");
        }
        let root =
            raw.get(I_BLOCK..).and_then(|tail| tail.first_chunk().copied()).ok_or("an inode is cut off")?;
        Ok(Self {
            ino,
            seed: checksum::inode_seed(sb.seed, ino, inode.generation),
            extents: inode.flags & EXTENTS != 0,
            blocks: u32::try_from(inode.size / size).map_err(|_| "a directory has too many blocks")?,
            root,
        })
    }

    /// Whether the inode itself says where all blocks are, so that nothing else has to be read.
    pub fn shallow(&self) -> bool {
        if self.extents { extent::depth(&self.root) == Some(0) } else { self.blocks <= block_map::DIRECT }
    }

    /// The blocks in logical order.
    ///
    /// # Errors
    /// A fault: a hole, a block outside, a tree that does not fit together, or a failing device.
    pub fn runs(&self, device: &impl ReadAt, sb: &Superblock) -> Result<Vec<Run>, Fault> {
        let mut runs = Runs { sb, left: self.blocks, found: Vec::new() };
        if self.extents {
            extent::walk(device, &self.root, self.seed, &mut runs)?;
        } else {
            block_map::walk(device, &self.root, &mut runs)?;
        }
        if runs.left > 0 {
            return Err(Fault::Torn("a directory has a hole"));
        }
        Ok(runs.found)
    }
}

/// Runs being collected.
pub(super) struct Runs<'a> {
    pub sb: &'a Superblock,
    /// Blocks of the directory still to be found.
    pub left: u32,
    found: Vec<Run>,
}

impl Runs<'_> {
    /// Adds the next blocks; what is beyond the end of the directory is left out.
    ///
    /// # Errors
    /// Where they are outside of the file system.
    pub fn push(&mut self, block: u64, count: u32) -> Result<(), Fault> {
        let count = count.min(self.left);
        if count == 0 {
            return Ok(());
        }
        if !self.sb.holds(block, count.into()) {
            return Err(Fault::Torn("a directory has blocks outside of the file system"));
        }
        self.left = self.left.saturating_sub(count);
        match self.found.last_mut() {
            Some(last) if last.block.saturating_add(last.count.into()) == block => {
                last.count = last.count.saturating_add(count);
            }
            _ => self.found.push(Run { block, count }),
        }
        Ok(())
    }
}
