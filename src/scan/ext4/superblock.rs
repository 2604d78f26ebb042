//! The superblock: Documentation/filesystems/ext4/super.rst, `struct ext4_super_block` in fs/ext4/ext4.h.

use super::bytes::{join, u16_at, u32_at};
use super::checksum::crc32c;
use super::features::Features;
use super::why::Why;
use crate::sys::block_device::ReadAt;

/// Where the first superblock is, and how long it is, in bytes.
const OFFSET: u64 = 1024;
const LENGTH: usize = 1024;
/// `EXT4_SUPER_MAGIC`.
const MAGIC: u16 = 0xef53;
/// `EXT4_ERROR_FS` in `s_state`.
const ERROR_FS: u16 = 2;
/// Where `s_checksum` is; it covers all before it.
const CHECKSUM: usize = 0x3fc;
/// `EXT4_GOOD_OLD_INODE_SIZE`, the inode size of revision 0.
pub(super) const OLD_INODE_SIZE: u16 = 128;
/// `EXT4_MIN_DESC_SIZE` and `EXT4_MIN_DESC_SIZE_64BIT`.
const OLD_DESC_SIZE: u16 = 32;
const DESC_SIZE_64: u16 = 64;
/// How often the superblock is read again where its checksum does not match: the kernel may be writing it.
const TRIES: u32 = 5;

/// What the reader needs of the superblock, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub features: Features,
    /// Bytes per block: 1024, 2048 or 4096.
    pub block_size: u32,
    pub blocks: u64,
    pub inodes: u32,
    pub first_data_block: u32,
    pub blocks_per_group: u32,
    pub inodes_per_group: u32,
    pub groups: u32,
    pub inode_size: u16,
    pub desc_size: u16,
    /// `s_first_meta_bg`: descriptor blocks from this one on are in their own groups.
    pub first_meta_bg: u32,
    /// `s_backup_bgs`: the groups with a copy of the superblock under `sparse_super2`.
    pub backup_groups: [u32; 2],
    /// What every metadata checksum starts from.
    pub seed: u32,
    pub uuid: [u8; 16],
    /// The inode of the orphan file, 0 for none.
    pub orphan_file: u32,
}

/// Parts of the superblock that change all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Volatile {
    /// `s_last_orphan`: head of the list of orphan inodes, 0 for none.
    pub last_orphan: u32,
}

impl Superblock {
    /// Reads and checks it.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn read(device: &impl ReadAt) -> Result<(Self, Volatile), Why> {
        if device.size() < OFFSET + LENGTH as u64 {
            return Err(Why::NotExt4);
        }
        let mut raw = [0_u8; LENGTH];
        let mut result = Err(Why::NotExt4);
        for _ in 0..TRIES {
            device.read_at(&mut raw, OFFSET)?;
            result = Self::parse(&raw, device.size());
            if !matches!(result, Err(Why::Damaged { .. })) {
                break;
            }
        }
        result
    }

    fn parse(raw: &[u8], device_size: u64) -> Result<(Self, Volatile), Why> {
        let cut = || Why::damaged("the superblock is cut off");
        let half = |at| u16_at(raw, at).ok_or_else(cut);
        let word = |at| u32_at(raw, at).ok_or_else(cut);
        if half(0x38)? != MAGIC {
            return Err(Why::NotExt4);
        }
        let features = Features { compat: word(0x5c)?, incompat: word(0x60)?, ro_compat: word(0x64)? };
        features.check()?;
        let refuse = |name: String| Err(Why::Feature { name });
        let revision = word(0x4c)?;
        let no_features = Features { compat: 0, incompat: 0, ro_compat: 0 };
        if revision > 1 || (revision == 0 && features != no_features) {
            return refuse(format!("revision {revision} with features of another"));
        }
        if word(0x48)? != 0 {
            return refuse(format!("the inode layout of operating system {}", word(0x48)?));
        }
        let uuid: [u8; 16] = raw.get(0x68..).and_then(|tail| tail.first_chunk().copied()).ok_or_else(cut)?;
        if features.metadata_csum() {
            if raw.get(0x175) != Some(&1) {
                return refuse("a checksum other than crc32c".to_owned());
            }
            let covered = raw.get(..CHECKSUM).ok_or_else(cut)?;
            if crc32c(!0, covered) != word(CHECKSUM)? {
                return Err(Why::damaged("the checksum of the superblock is wrong"));
            }
        } else if raw.get(0x175) != Some(&0) {
            // tune2fs clears the type with the feature. Else a damaged feature word would switch every check off.
            return Err(Why::damaged("it has a checksum type but no metadata checksums"));
        }
        if half(0x3a)? & ERROR_FS != 0 {
            return Err(Why::HasErrors);
        }
        let block_size = match word(0x18)? {
            shift @ 0..=2 => 1024_u32 << shift,
            shift => return refuse(format!("blocks of 2^{} bytes", shift.saturating_add(10))),
        };
        let old = revision == 0;
        let (inode_size, desc_size) = (
            if old { OLD_INODE_SIZE } else { half(0x58)? },
            if features.bits64() { half(0xfe)? } else { OLD_DESC_SIZE },
        );
        if !inode_size.is_power_of_two()
            || !(u32::from(OLD_INODE_SIZE)..=block_size).contains(&inode_size.into())
        {
            return Err(Why::damaged("the inode size is impossible"));
        }
        // The kernel takes up to one block (ext4_block_group_meta_init in fs/ext4/super.c).
        let desc_ok = !features.bits64()
            || (desc_size >= DESC_SIZE_64
                && desc_size.is_power_of_two()
                && u32::from(desc_size) <= block_size);
        if !desc_ok {
            return Err(Why::damaged("the size of group descriptors is impossible"));
        }
        let seed = if features.csum_seed() { word(0x270)? } else { crc32c(!0, &uuid) };
        let mut this = Self {
            features,
            block_size,
            blocks: join(if features.bits64() { word(0x150)? } else { 0 }, word(0x4)?),
            inodes: word(0)?,
            first_data_block: word(0x14)?,
            blocks_per_group: word(0x20)?,
            inodes_per_group: word(0x28)?,
            groups: 0,
            inode_size,
            desc_size,
            first_meta_bg: word(0x104)?,
            backup_groups: [word(0x24c)?, word(0x250)?],
            seed,
            uuid,
            orphan_file: if features.orphan_file() { word(0x280)? } else { 0 },
        };
        this.groups = this.check_geometry(device_size, word(0x1c)?)?;
        Ok((this, Volatile { last_orphan: word(0xe8)? }))
    }

    /// Whether the numbers fit each other and the device, as `ext4_block_group_meta_init` and
    /// `ext4_geometry_check` ask. Answers the number of groups.
    fn check_geometry(&self, device_size: u64, log_cluster: u32) -> Result<u32, Why> {
        let bad = |what| Err(Why::damaged(what));
        let bits_per_block = self.block_size.saturating_mul(8);
        let clusters = if self.features.bigalloc() {
            let log_block = self.block_size.trailing_zeros().saturating_sub(10);
            match log_cluster.checked_sub(log_block) {
                Some(ratio) if ratio <= 16 => 1_u32 << ratio,
                _ => return bad("the cluster size is impossible"),
            }
        } else {
            1
        };
        if self.blocks == 0
            || self.blocks.checked_mul(u64::from(self.block_size)).is_none_or(|bytes| bytes > device_size)
        {
            return bad("it claims to be larger than its device");
        }
        // 1 only where block 0 is the boot block and too small to hold the superblock as well.
        let boot_block = u32::from(self.block_size == 1024 && !self.features.bigalloc());
        if self.first_data_block != boot_block || u64::from(self.first_data_block) >= self.blocks {
            return bad("the first data block is impossible");
        }
        // mke2fs makes no group of fewer than 256 blocks; the upper bound is what one bitmap block can hold.
        if self.blocks_per_group < 256 || self.blocks_per_group / clusters > bits_per_block {
            return bad("the number of blocks per group is impossible");
        }
        let per_block = self.block_size / u32::from(self.inode_size);
        if self.inodes_per_group < per_block || self.inodes_per_group > bits_per_block {
            return bad("the number of inodes per group is impossible");
        }
        let data = self.blocks.saturating_sub(self.first_data_block.into());
        let Ok(groups) = u32::try_from(data.div_ceil(self.blocks_per_group.into())) else {
            return bad("it has too many groups");
        };
        if groups.checked_mul(self.inodes_per_group) != Some(self.inodes) {
            return bad("the number of inodes does not fit the number of groups");
        }
        Ok(groups)
    }

    /// Where a block starts, in bytes.
    pub fn offset_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.block_size.into())
    }

    /// Whether `count` blocks from `first` on are inside and can belong to a file or table.
    pub fn holds(&self, first: u64, count: u64) -> bool {
        first > u64::from(self.first_data_block)
            && first.checked_add(count).is_some_and(|end| end <= self.blocks)
    }

    /// Whether a group starts with a copy of the superblock (`ext4_bg_has_super`).
    pub fn group_has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.features.sparse_super2() {
            return self.backup_groups.contains(&group);
        }
        if group <= 1 || !self.features.sparse_super() {
            return true;
        }
        [3_u32, 5, 7].iter().any(|&base| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        })
    }

    /// Whether this is still the same file system with the same shape.
    pub fn same_shape(&self, now: &Self) -> bool {
        let mask = |features: Features| Features {
            // Set and cleared while mounted: needs_recovery, orphan_present.
            incompat: features.incompat & !0x4,
            ro_compat: features.ro_compat & !0x1_0000,
            ..features
        };
        Self { features: mask(self.features), ..self.clone() }
            == Self { features: mask(now.features), ..now.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_where_the_kernel_puts_them() {
        let mut sb = Superblock {
            features: Features { compat: 0, incompat: 0, ro_compat: 1 },
            block_size: 4096,
            blocks: 1 << 30,
            inodes: 1 << 20,
            first_data_block: 0,
            blocks_per_group: 32768,
            inodes_per_group: 8192,
            groups: 128,
            inode_size: 256,
            desc_size: 32,
            first_meta_bg: 0,
            backup_groups: [1, 99],
            seed: 0,
            uuid: [0; 16],
            orphan_file: 0,
        };
        let with = |sb: &Superblock| (0..130).filter(|&g| sb.group_has_super(g)).collect::<Vec<_>>();
        assert_eq!(with(&sb), [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
        sb.features.compat = 0x200;
        assert_eq!(with(&sb), [0, 1, 99]);
        sb.features = Features { compat: 0, incompat: 0, ro_compat: 0 };
        assert_eq!(with(&sb).len(), 130);
    }
}
