//! The features a file system may have, and which of them are proven to be read exactly.
//!
//! The list is strict in all three words. An unknown compatible feature cannot hurt the kernel, but it could
//! mean something for sizes, so it is refused too. Names are those of e2fsprogs (lib/e2p/feature.c), values
//! those of fs/ext4/ext4.h; what proves each is a test in `tests/ext4_features.rs`.

use super::why::Why;

/// The three feature words of the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    pub compat: u32,
    pub incompat: u32,
    pub ro_compat: u32,
}

type Known = (u32, &'static str, bool);

/// `EXT4_FEATURE_COMPAT_*`: bit, name, proven.
const COMPAT: [Known; 13] = [
    (0x1, "dir_prealloc", false),
    (0x2, "imagic_inodes", false),
    (0x4, "has_journal", true),
    (0x8, "ext_attr", true),
    (0x10, "resize_inode", true),
    (0x20, "dir_index", true),
    (0x40, "lazy_bg", false),
    (0x80, "snapshot_bitmap", false),
    (0x100, "exclude_bitmap", false),
    (0x200, "sparse_super2", true),
    (0x400, "fast_commit", true),
    (0x800, "stable_inodes", true),
    (0x1000, "orphan_file", true),
];

const RECOVER: u32 = 0x4;
const META_BG: u32 = 0x10;
const EA_INODE: u32 = 0x400;
const FILETYPE: u32 = 0x2;
const BITS64: u32 = 0x80;
const CSUM_SEED: u32 = 0x2000;
const LARGEDIR: u32 = 0x4000;

/// `EXT4_FEATURE_INCOMPAT_*`: bit, name, proven.
const INCOMPAT: [Known; 17] = [
    (0x1, "compression", false),
    (FILETYPE, "filetype", true),
    (RECOVER, "needs_recovery", true),
    (0x8, "journal_dev", false),
    (META_BG, "meta_bg", true),
    (0x40, "extent", true),
    (BITS64, "64bit", true),
    (0x100, "mmp", true),
    (0x200, "flex_bg", true),
    (EA_INODE, "ea_inode", true),
    (0x1000, "dirdata", false),
    (CSUM_SEED, "metadata_csum_seed", true),
    (LARGEDIR, "large_dir", true),
    (0x8000, "inline_data", true),
    // Encrypted directories are never interpreted: they are handed back to be read by ordinary calls.
    (0x1_0000, "encrypt", true),
    (0x2_0000, "casefold", false),
    (0x4_0000, "FEATURE_I18", false),
];

const SPARSE_SUPER: u32 = 0x1;
const HUGE_FILE: u32 = 0x8;
const GDT_CSUM: u32 = 0x10;
const QUOTA: u32 = 0x100;
const BIGALLOC: u32 = 0x200;
const PROJECT: u32 = 0x2000;
const METADATA_CSUM: u32 = 0x400;

/// `EXT4_FEATURE_RO_COMPAT_*`: bit, name, proven.
const RO_COMPAT: [Known; 17] = [
    (SPARSE_SUPER, "sparse_super", true),
    (0x2, "large_file", true),
    (0x4, "btree_dir", false),
    (HUGE_FILE, "huge_file", true),
    (GDT_CSUM, "uninit_bg", true),
    (0x20, "dir_nlink", true),
    (0x40, "extra_isize", true),
    (0x80, "snapshot", false),
    (QUOTA, "quota", true),
    (BIGALLOC, "bigalloc", true),
    (METADATA_CSUM, "metadata_csum", true),
    (0x800, "replica", false),
    (0x1000, "read-only", false),
    (PROJECT, "project", true),
    (0x4000, "shared_blocks", false),
    (0x8000, "verity", false),
    (0x1_0000, "orphan_present", true),
];

/// `EXT4_FEATURE_COMPAT_SPARSE_SUPER2` and `EXT4_FEATURE_COMPAT_ORPHAN_FILE`.
const SPARSE_SUPER2: u32 = 0x200;
const ORPHAN_FILE: u32 = 0x1000;

impl Features {
    /// Whether every feature is proven.
    ///
    /// # Errors
    /// The first that is not, by name.
    pub fn check(self) -> Result<(), Why> {
        let words = [
            ("compat", self.compat, &COMPAT[..]),
            ("incompat", self.incompat, &INCOMPAT[..]),
            ("ro_compat", self.ro_compat, &RO_COMPAT[..]),
        ];
        for (word, bits, known) in words {
            for shift in 0..u32::BITS {
                let bit = 1_u32 << shift;
                if bits & bit == 0 {
                    continue;
                }
                match known.iter().find(|(value, _, _)| *value == bit) {
                    Some((_, _, true)) => {}
                    Some((_, name, false)) => {
                        return Err(Why::Feature { name: format!("the feature {name}") });
                    }
                    None => {
                        return Err(Why::Feature { name: format!("an unknown feature ({word} {bit:#x})") });
                    }
                }
            }
        }
        // The kernel refuses both together (ext4_check_feature_compatibility in fs/ext4/super.c).
        if self.metadata_csum() && self.ro_compat & GDT_CSUM != 0 {
            return Err(Why::damaged("metadata_csum and uninit_bg exclude each other"));
        }
        Ok(())
    }

    /// Whether inodes can be in use and have no name although their link count says so: large extended attributes, the
    /// orphan file, and quota files that tune2fs(8) added.
    pub fn has_nameless_inodes(self) -> bool {
        self.incompat & EA_INODE != 0
            || self.compat & ORPHAN_FILE != 0
            || self.ro_compat & (QUOTA | PROJECT) != 0
    }

    pub fn needs_recovery(self) -> bool {
        self.incompat & RECOVER != 0
    }

    pub fn meta_bg(self) -> bool {
        self.incompat & META_BG != 0
    }

    pub fn filetype(self) -> bool {
        self.incompat & FILETYPE != 0
    }

    pub fn bits64(self) -> bool {
        self.incompat & BITS64 != 0
    }

    pub fn csum_seed(self) -> bool {
        self.incompat & CSUM_SEED != 0
    }

    pub fn largedir(self) -> bool {
        self.incompat & LARGEDIR != 0
    }

    pub fn sparse_super(self) -> bool {
        self.ro_compat & SPARSE_SUPER != 0
    }

    pub fn sparse_super2(self) -> bool {
        self.compat & SPARSE_SUPER2 != 0
    }

    pub fn huge_file(self) -> bool {
        self.ro_compat & HUGE_FILE != 0
    }

    pub fn bigalloc(self) -> bool {
        self.ro_compat & BIGALLOC != 0
    }

    pub fn metadata_csum(self) -> bool {
        self.ro_compat & METADATA_CSUM != 0
    }

    /// Whether group descriptors carry a checksum, which is what makes their flags and `bg_itable_unused` valid
    /// (`ext4_has_group_desc_csum`).
    pub fn group_csum(self) -> bool {
        self.ro_compat & (GDT_CSUM | METADATA_CSUM) != 0
    }

    pub fn orphan_file(self) -> bool {
        self.compat & ORPHAN_FILE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_proven_is_refused_by_name() {
        let none = Features { compat: 0, incompat: 0, ro_compat: 0 };
        assert!(none.check().is_ok());
        let refused = |features: Features| features.check().unwrap_err().to_string();
        assert!(refused(Features { incompat: 0x2_0000, ..none }).contains("casefold"));
        assert!(refused(Features { ro_compat: 0x8000, ..none }).contains("verity"));
        assert!(refused(Features { incompat: 0x1000, ..none }).contains("dirdata"));
        assert!(refused(Features { incompat: 0x8000_0000, ..none }).contains("0x80000000"));
        assert!(refused(Features { compat: 0x4000, ..none }).contains("compat 0x4000"));
    }

    #[test]
    fn every_bit_is_named_once() {
        for known in [&COMPAT[..], &INCOMPAT[..], &RO_COMPAT[..]] {
            let mut all = 0;
            for (bit, name, _) in known {
                assert_eq!(bit.count_ones(), 1, "{name}");
                assert_eq!(all & bit, 0, "{name}");
                all |= bit;
            }
        }
    }
}
