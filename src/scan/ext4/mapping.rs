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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::ext4::features::Features;
    use crate::sys::block_device;

    const SIZE: usize = 1024;

    /// A device of 1 KiB blocks in memory.
    struct Memory(Vec<u8>);

    impl Memory {
        fn new(blocks: usize) -> Self {
            Self(vec![0; blocks * SIZE])
        }

        fn put(&mut self, block: usize, at: usize, bytes: &[u8]) {
            self.0[block * SIZE + at..][..bytes.len()].copy_from_slice(bytes);
        }
    }

    impl ReadAt for Memory {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), block_device::Why> {
            let from = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
            Ok(())
        }
    }

    fn superblock(blocks: u64) -> Superblock {
        Superblock {
            features: Features { compat: 0, incompat: 0, ro_compat: 0 },
            block_size: 1024,
            blocks,
            inodes: 1024,
            first_data_block: 1,
            blocks_per_group: 8192,
            inodes_per_group: 1024,
            groups: 1,
            inode_size: 128,
            desc_size: 32,
            first_meta_bg: 0,
            backup_groups: [0; 2],
            seed: 0,
            uuid: [0; 16],
            orphan_file: 0,
        }
    }

    fn source(extents: bool, blocks: u32, root: &[u8]) -> Source {
        let mut whole = [0; I_BLOCK_LEN];
        whole[..root.len()].copy_from_slice(root);
        Source { ino: 20, seed: 0, extents, blocks, root: whole }
    }

    fn torn(result: Result<Vec<Run>, Fault>) -> &'static str {
        match result {
            Err(Fault::Torn(what)) => what,
            Err(Fault::Fatal(why)) => panic!("{why}"),
            Ok(runs) => panic!("{runs:?}"),
        }
    }

    fn header(entries: u16, most: u16, depth: u16) -> Vec<u8> {
        [0xf30a, entries, most, depth, 0, 0].iter().flat_map(|half: &u16| half.to_le_bytes()).collect()
    }

    fn pointing(logical: u32, block: u32) -> Vec<u8> {
        [logical, block, 0].iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_block_map_is_followed_through_three_levels() {
        // 12 direct, 256 single, 65536 double, and 3 triple indirect blocks; data blocks count up from 2000.
        let mut device = Memory::new(70_000);
        let mut next = 2000_u32;
        let mut data = || {
            next += 1;
            next - 1
        };
        let mut root: Vec<u8> = (0..12).flat_map(|_| data().to_le_bytes()).collect();
        for at in 0..256 {
            device.put(100, at * 4, &data().to_le_bytes());
        }
        for middle in 0..256_u32 {
            device.put(101, middle as usize * 4, &(200 + middle).to_le_bytes());
            for at in 0..256 {
                device.put(200 + middle as usize, at * 4, &data().to_le_bytes());
            }
        }
        device.put(102, 0, &103_u32.to_le_bytes());
        device.put(103, 0, &104_u32.to_le_bytes());
        for at in 0..3 {
            device.put(104, at * 4, &data().to_le_bytes());
        }
        root.extend([100_u32, 101, 102].iter().flat_map(|block| block.to_le_bytes()));
        let blocks = 12 + 256 + 65_536 + 3;
        let found = source(false, blocks, &root).runs(&device, &superblock(70_000)).ok().unwrap();
        assert_eq!(found, [Run { block: 2000, count: blocks }]);
        assert!(source(false, 12, &root).shallow() && !source(false, 13, &root).shallow());
        // One block more than the map has, and a map that points at itself.
        assert_eq!(
            torn(source(false, blocks + 1, &root).runs(&device, &superblock(70_000))),
            "a directory has a hole"
        );
        for at in 0..256 {
            device.put(104, at * 4, &104_u32.to_le_bytes());
        }
        let looped = source(false, blocks + 200, &root).runs(&device, &superblock(70_000)).ok().unwrap();
        assert_eq!(looped.iter().map(|run| run.count).sum::<u32>(), blocks + 200);
        root[52..56].copy_from_slice(&70_000_u32.to_le_bytes());
        assert!(torn(source(false, blocks, &root).runs(&device, &superblock(70_000))).contains("outside"));
    }

    #[test]
    fn an_extent_tree_that_loops_or_lies_ends() {
        let sb = superblock(1000);
        let mut device = Memory::new(1000);
        // Sound: two levels, a leaf with two extents.
        let root = [header(1, 4, 1), pointing(0, 50)].concat();
        let leaf = |count: u16, block: u32, logical: u32| {
            [&logical.to_le_bytes()[..], &count.to_le_bytes(), &[0, 0], &block.to_le_bytes()].concat()
        };
        device.put(50, 0, &[header(2, 84, 0), leaf(3, 100, 0), leaf(5, 200, 3)].concat());
        let runs = source(true, 8, &root).runs(&device, &sb).ok().unwrap();
        assert_eq!(runs, [Run { block: 100, count: 3 }, Run { block: 200, count: 5 }]);
        assert_eq!(source(true, 7, &root).runs(&device, &sb).ok().unwrap()[1].count, 4);
        // An index block that points at itself has the wrong depth; with a right depth the walk is 5 deep at most.
        device.put(50, 0, &[header(1, 84, 1), pointing(0, 50)].concat());
        assert!(torn(source(true, 8, &root).runs(&device, &sb)).contains("header"));
        let cases: [(&str, Vec<u8>); 7] = [
            ("no root", header(1, 4, 6)),
            ("no root", vec![0; 60]),
            ("header", header(5, 4, 0)),
            ("header", [header(1, 400, 0), leaf(3, 100, 0)].concat()),
            ("never written", [header(1, 4, 0), leaf(0x8001, 100, 0)].concat()),
            ("hole", [header(2, 4, 0), leaf(3, 100, 0), leaf(3, 200, 2)].concat()),
            ("outside", [header(1, 4, 0), leaf(9, 995, 0)].concat()),
        ];
        for (expected, root) in cases {
            let what = torn(source(true, 9, &root).runs(&device, &sb));
            assert!(what.contains(expected), "{what}, not {expected}");
        }
    }
}
