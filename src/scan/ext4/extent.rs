//! Extent trees: Documentation/filesystems/ext4/ifork.rst, `fs/ext4/ext4_extents.h`.

use super::bytes::{index, join, u16_at, u32_at};
use super::checksum::crc32c;
use super::mapping::Runs;
use super::why::Fault;
use crate::sys::block_device::ReadAt;

/// `EXT4_EXT_MAGIC`.
const MAGIC: u16 = 0xf30a;
/// `EXT4_MAX_EXTENT_DEPTH`.
const DEEPEST: u16 = 5;
/// Length of the header and of each entry.
const ENTRY: usize = 12;
/// `EXT_INIT_MAX_LEN`: longer means allocated but never written.
const LONGEST: u16 = 1 << 15;

/// The depth in the header of a root, where it is one.
pub(super) fn depth(root: &[u8]) -> Option<u16> {
    (u16_at(root, 0)? == MAGIC).then(|| u16_at(root, 6)).flatten()
}

/// Walks a tree from its root in the inode and adds all extents in logical order.
///
/// It ends whatever the tree looks like: the depth goes down by one at each step, and no more index and leaf blocks are
/// read than the directory has blocks, since each leaf must hold at least one.
///
/// # Errors
/// A fault.
pub(super) fn walk(device: &impl ReadAt, root: &[u8], seed: u32, runs: &mut Runs<'_>) -> Result<(), Fault> {
    let depth =
        depth(root).filter(|&depth| depth <= DEEPEST).ok_or(Fault::Torn("an extent tree has no root"))?;
    let budget = u64::from(runs.left).saturating_mul(u64::from(DEEPEST));
    let mut walk = Walk { device, seed, runs, next: 0, budget };
    walk.node(root, depth)
}

struct Walk<'a, 'b, D> {
    device: &'a D,
    seed: u32,
    runs: &'a mut Runs<'b>,
    /// The logical block that must come next.
    next: u32,
    /// Index and leaf blocks that may still be read.
    budget: u64,
}

impl<D: ReadAt> Walk<'_, '_, D> {
    fn node(&mut self, raw: &[u8], depth: u16) -> Result<(), Fault> {
        let cut = Fault::Torn("an extent tree is cut off");
        let (Some(magic), Some(entries), Some(most), Some(stored)) =
            (u16_at(raw, 0), u16_at(raw, 2), u16_at(raw, 4), u16_at(raw, 6))
        else {
            return Err(cut);
        };
        let fits = usize::from(most).saturating_mul(ENTRY).saturating_add(ENTRY) <= raw.len();
        if magic != MAGIC || stored != depth || entries > most || entries == 0 || !fits {
            return Err(Fault::Torn("the header of an extent block is wrong"));
        }
        for at in 1..=usize::from(entries) {
            if self.runs.left == 0 {
                break;
            }
            let entry = raw.get(at.saturating_mul(ENTRY)..).and_then(|tail| tail.get(..ENTRY));
            let parsed = entry.and_then(|entry| if depth == 0 { leaf(entry) } else { inner(entry) });
            let Some((logical, count, block)) = parsed else { return Err(cut) };
            // A directory has no holes, so both an extent and what an index points at start right here.
            if logical != self.next {
                return Err(Fault::Torn("a directory has a hole"));
            }
            if depth > 0 {
                self.child(block, depth.saturating_sub(1))?;
                continue;
            }
            if count == 0 || count > LONGEST {
                return Err(Fault::Torn("a directory has blocks that were never written"));
            }
            self.next = self
                .next
                .checked_add(count.into())
                .ok_or(Fault::Torn("an extent reaches beyond the last block"))?;
            self.runs.push(block, count.into())?;
        }
        Ok(())
    }

    fn child(&mut self, block: u64, depth: u16) -> Result<(), Fault> {
        self.budget = self
            .budget
            .checked_sub(1)
            .ok_or(Fault::Torn("an extent tree has more blocks than it can need"))?;
        let sb = self.runs.sb;
        if !sb.holds(block, 1) {
            return Err(Fault::Torn("an extent block is outside of the file system"));
        }
        let mut raw = vec![0; index(sb.block_size)];
        self.device.read_at(&mut raw, sb.offset_of(block))?;
        if sb.features.metadata_csum() && checksum_ok(&raw, self.seed) != Some(true) {
            return Err(Fault::Torn("the checksum of an extent block is wrong"));
        }
        self.node(&raw, depth)
    }
}

/// Logical block, count and block of `struct ext4_extent`.
fn leaf(entry: &[u8]) -> Option<(u32, u16, u64)> {
    Some((u32_at(entry, 0)?, u16_at(entry, 4)?, join(u16_at(entry, 6)?.into(), u32_at(entry, 8)?)))
}

/// Logical block, nothing, and block of `struct ext4_extent_idx`.
fn inner(entry: &[u8]) -> Option<(u32, u16, u64)> {
    Some((u32_at(entry, 0)?, 0, join(u16_at(entry, 8)?.into(), u32_at(entry, 4)?)))
}

/// `ext4_extent_block_csum_verify`: the tail follows the last possible entry.
fn checksum_ok(raw: &[u8], seed: u32) -> Option<bool> {
    let tail = usize::from(u16_at(raw, 4)?).checked_mul(ENTRY)?.checked_add(ENTRY)?;
    Some(crc32c(seed, raw.get(..tail)?) == u32_at(raw, tail)?)
}
