//! Why a file system cannot be read as a whole, so that the ordinary scan runs instead.

use crate::domain::size::Bytes;
use crate::sys::block_device;

/// Why the whole-file-system reading did not happen or was given up. One line each, for the screen.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The device cannot be opened or failed while being read.
    #[error(transparent)]
    Device(#[from] block_device::Why),
    /// There is no ext2, ext3 or ext4 superblock.
    #[error("the device does not hold an ext2, ext3 or ext4 file system")]
    NotExt4,
    /// It uses something that this program's tests have not proven to be read exactly.
    #[error("the file system uses {name}, which is not proven to be read exactly")]
    Feature {
        /// The feature, as tune2fs(8) names it, or a sentence part.
        name: String,
    },
    /// The kernel has noted errors in it (`EXT4_ERROR_FS` in `s_state`).
    #[error("the file system is marked as having errors; e2fsck should look at it")]
    HasErrors,
    /// It is not mounted, and its journal holds changes that are not in place yet.
    #[error("the file system is not mounted and its journal was not replayed")]
    NeedsRecovery,
    /// Something does not fit together.
    #[error("the file system looks damaged: {what}")]
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
    /// More inodes and directories are damaged than are worth reading again one by one.
    #[error("more than {limit} inodes or directories look damaged or changed meanwhile")]
    TooManyTroubles {
        /// The limit.
        limit: usize,
    },
    /// What must be kept would not fit in the memory that the caller allows.
    #[error("the file system needs {need} of memory to be read as a whole, and {allowed} are allowed")]
    Memory {
        /// What it needs at least.
        need: Bytes,
        /// What is allowed.
        allowed: Bytes,
    },
    /// It was resized, made anew or got other features meanwhile.
    #[error("the file system was resized or remade while it was read")]
    Changed,
    /// Its root directory got or lost an entry a moment ago, so what is on the disk of it is of before or of after.
    #[error("its root directory is changing right now")]
    Changing,
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Why {
    /// Damage of the file system as a whole.
    pub(super) fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }
}

/// What is wrong with one inode or directory: damage that stays there, or a read in the middle of a change.
pub(super) enum Fault {
    /// Something in it does not fit together.
    Torn(&'static str),
    /// The reading as a whole cannot go on.
    Fatal(Why),
}

impl From<Why> for Fault {
    fn from(why: Why) -> Self {
        Self::Fatal(why)
    }
}

impl From<block_device::Why> for Fault {
    fn from(why: block_device::Why) -> Self {
        Self::Fatal(why.into())
    }
}
