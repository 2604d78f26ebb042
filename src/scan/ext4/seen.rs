//! How far a reading is, for those who watch it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::inode::Inode;
use crate::domain::identity::FileKind;

/// Sums over the inodes read so far, without reserved and deleted ones. Sizes in bytes.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many.
    pub inodes: AtomicU64,
    /// Directories among them.
    pub directories: AtomicU64,
    /// Space they take.
    pub allocated: AtomicU64,
    /// Their apparent size.
    pub apparent: AtomicU64,
}

impl Seen {
    /// Back to nothing.
    pub fn clear(&self) {
        for counter in [&self.inodes, &self.directories, &self.allocated, &self.apparent] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn add(&self, sums: &Sums) {
        self.inodes.fetch_add(sums.inodes, Ordering::Relaxed);
        self.directories.fetch_add(sums.directories, Ordering::Relaxed);
        self.allocated.fetch_add(sums.sectors.saturating_mul(512), Ordering::Relaxed);
        self.apparent.fetch_add(sums.apparent, Ordering::Relaxed);
    }
}

/// The same of one thread's last piece.
#[derive(Default)]
pub(super) struct Sums {
    inodes: u64,
    directories: u64,
    sectors: u64,
    apparent: u64,
}

impl Sums {
    pub fn count(&mut self, inode: &Inode) {
        self.inodes = self.inodes.saturating_add(1);
        self.directories = self.directories.saturating_add(u64::from(inode.kind == FileKind::Directory));
        self.sectors = self.sectors.saturating_add(inode.sectors);
        self.apparent = self.apparent.saturating_add(inode.size);
    }
}
