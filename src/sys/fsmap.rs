//! Who owns the space of a file system, as it says itself: `FS_IOC_GETFSMAP` (`ioctl_getfsmap(2)`), which XFS and
//! ext4 have. XFS with a reverse map (`rmapbt`), asked by root, names every owner; else only what is free is told from
//! what is not.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::io::Errno;

use super::raw;
use crate::domain::size::Bytes;

/// `FMR_OF_SPECIAL_OWNER` and `FMR_OF_LAST` in `fmr_flags`.
const SPECIAL: u32 = 0x10;
const LAST: u32 = 0x20;

/// Sums over the main device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Free (`FMR_OWN_FREE`).
    pub free: Bytes,
    /// In use, by whom is not told (`FMR_OWN_UNKNOWN`).
    pub unknown: Bytes,
    /// Files: their data, extended attributes and block maps.
    pub files: Bytes,
    /// Tables at fixed places (`*_FMR_OWN_FS`).
    pub fixed: Bytes,
    /// The log or journal (`*_FMR_OWN_LOG`).
    pub log: Bytes,
    /// Metadata that changes its place: trees of free space, inodes, reference counts, bitmaps.
    pub trees: Bytes,
    /// Space of inodes (`*_FMR_OWN_INODES`).
    pub inodes: Bytes,
    /// Space staged for copy-on-write (`XFS_FMR_OWN_COW`).
    pub cow: Bytes,
    /// Anything else.
    pub other: Bytes,
}

/// Why there are no sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file system cannot tell.
    Unsupported(Errno),
    /// There is more of it than could be read in time.
    TooMuch,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsupported(error) => {
                write!(f, "this file system does not tell who owns its space ({error})")
            }
            Self::TooMuch => {
                write!(f, "it is too fragmented to be asked who owns its space in the time there is")
            }
        }
    }
}

/// Asks the file system that a file is on.
///
/// # Errors
/// See [`Why`].
pub fn owners(fs: impl AsFd, until: Instant) -> Result<Owners, Why> {
    let mut owners = Owners::default();
    let mut from = raw::FsmapRecord::default();
    let mut main = None;
    loop {
        let records = raw::fsmap(fs.as_fd(), from).map_err(Why::Unsupported)?;
        for record in &records {
            // The main device comes first; a log or a realtime device of its own is not part of what df counts.
            if *main.get_or_insert(record.device) == record.device {
                owners.add(record);
            }
        }
        match records.last() {
            None => return Ok(owners),
            Some(last) if last.flags & LAST != 0 => return Ok(owners),
            Some(last) => from = *last,
        }
        if Instant::now() >= until {
            return Err(Why::TooMuch);
        }
    }
}

impl Owners {
    fn add(&mut self, record: &raw::FsmapRecord) {
        let space = if record.flags & SPECIAL == 0 {
            &mut self.files
        } else {
            // FMR_OWNER(type, code): the type is a letter, 0 for what all file systems have.
            let letter = u8::try_from(record.owner >> 32).unwrap_or(u8::MAX);
            match (letter, record.owner & u64::from(u32::MAX)) {
                (0, 1) => &mut self.free,
                (0, 2) => &mut self.unknown,
                (b'X', 1) => &mut self.fixed,
                (b'X', 2) => &mut self.log,
                (b'X', 3 | 4 | 6) => &mut self.trees,
                (b'X', 5) => &mut self.inodes,
                (b'X', 7) => &mut self.cow,
                _ => &mut self.other,
            }
        };
        *space += Bytes(record.length);
    }
}
