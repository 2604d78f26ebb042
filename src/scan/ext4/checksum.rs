//! The two checksums of ext4 metadata (Documentation/filesystems/ext4/checksums.rst).

/// crc32c continued from `seed`, without the final inversion, as the kernel's `ext4_chksum` does it.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// The seed of everything that belongs to one inode: `i_csum_seed` in fs/ext4/ext4.h.
pub(super) fn inode_seed(seed: u32, ino: u32, generation: u32) -> u32 {
    crc32c(crc32c(seed, &ino.to_le_bytes()), &generation.to_le_bytes())
}

/// CRC-16 with the polynomial 0x8005 reflected (lib/crc/crc16.c), which guards group descriptors under
/// `gdt_csum` (`ext4_group_desc_csum` in fs/ext4/super.c).
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agree_with_the_published_check_values() {
        // The "check" values of CRC-32/ISCSI and CRC-16/ARC in the catalogue of parametrised CRC algorithms.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
