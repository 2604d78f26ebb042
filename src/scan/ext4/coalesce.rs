//! Joining blocks that are close on the disk into one large read.

use std::ops::Range;

/// The longest read, in bytes: large enough for a disk, small enough to stay in the processor's cache.
pub(super) const LONGEST: u64 = 256 * 1024;
/// Reading over a gap of up to this many bytes is cheaper than another read.
const GAP: u64 = 32 * 1024;

/// Splits stretches `(first block, count)`, sorted by block, into groups that are read at once.
/// Each group holds whole stretches: none of them may be longer than [`LONGEST`].
pub(super) fn reads<T>(stretches: &[T], block_size: u32, of: impl Fn(&T) -> (u64, u64)) -> Vec<Range<usize>> {
    let size = u64::from(block_size).max(1);
    let mut groups = Vec::new();
    let mut begin = 0;
    let (mut first, mut end) = (0_u64, 0_u64);
    for (at, stretch) in stretches.iter().enumerate() {
        let (block, count) = of(stretch);
        let stretch_end = block.saturating_add(count);
        let joined = at > begin
            && block.saturating_sub(end) <= GAP / size
            && stretch_end.saturating_sub(first) <= LONGEST / size;
        if joined {
            end = end.max(stretch_end);
            continue;
        }
        if at > begin {
            groups.push(begin..at);
        }
        (begin, first, end) = (at, block, stretch_end);
    }
    if begin < stretches.len() {
        groups.push(begin..stretches.len());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_blocks_are_read_at_once_and_far_ones_are_not() {
        let of = |&(block, count): &(u64, u64)| (block, count);
        let all = [(10, 1), (11, 4), (20, 1), (300, 60), (361, 4), (1000, 1)];
        assert_eq!(reads(&all, 4096, of), [0..3, 3..4, 4..5, 5..6]);
        assert!(reads(&[] as &[(u64, u64)], 4096, of).is_empty());
    }
}
