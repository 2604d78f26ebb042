//! The block maps of ext2 and ext3: twelve blocks, then one, two and three levels of indirection
//! (Documentation/filesystems/ext4/ifork.rst, "Direct/Indirect Block Addressing").

use super::bytes::{index, u32_at};
use super::mapping::Runs;
use super::why::Fault;
use crate::sys::block_device::ReadAt;

/// `EXT4_NDIR_BLOCKS`.
pub(super) const DIRECT: u32 = 12;

/// Adds all blocks of a map in logical order. It ends whatever the map looks like: the levels are counted down, and each
/// pointer followed uses up at least one block of the directory or ends the walk.
///
/// # Errors
/// A fault.
pub(super) fn walk(device: &impl ReadAt, root: &[u8], runs: &mut Runs<'_>) -> Result<(), Fault> {
    for (at, pointer) in pointers(root).enumerate() {
        if runs.left == 0 {
            break;
        }
        let levels = at.saturating_sub(index(DIRECT).saturating_sub(1));
        follow(device, pointer, levels, runs)?;
    }
    Ok(())
}

fn follow(device: &impl ReadAt, pointer: u32, levels: usize, runs: &mut Runs<'_>) -> Result<(), Fault> {
    if pointer == 0 {
        return Err(Fault::Torn("a directory has a hole"));
    }
    let Some(below) = levels.checked_sub(1) else { return runs.push(pointer.into(), 1) };
    if !runs.sb.holds(pointer.into(), 1) {
        return Err(Fault::Torn("an indirect block is outside of the file system"));
    }
    let mut raw = vec![0; index(runs.sb.block_size)];
    device.read_at(&mut raw, runs.sb.offset_of(pointer.into()))?;
    for pointer in pointers(&raw) {
        if runs.left == 0 {
            break;
        }
        follow(device, pointer, below, runs)?;
    }
    Ok(())
}

fn pointers(raw: &[u8]) -> impl Iterator<Item = u32> + '_ {
    raw.chunks_exact(4).filter_map(|chunk| u32_at(chunk, 0))
}
