//! Little-endian fields at checked offsets: every number on an ext4 disk is little-endian, except in the
//! journal (Documentation/filesystems/ext4/overview.rst).

/// The 16-bit field at `at`, where it is inside.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// The 32-bit field at `at`, where it is inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// A 64-bit number from its two halves.
pub(super) fn join(high: u32, low: u32) -> u64 {
    (u64::from(high) << 32) | u64::from(low)
}

/// A 32-bit number as an index; every target of this program has at least 32-bit addresses.
pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
