//! Sharing out a large directory: while one worker lists it, the others look at what it has listed.
//!
//! Directories that fit in few buffers of getdents64(2) are never shared: their names are looked at where the kernel
//! put them. Of a larger one, the reader copies a buffer of names at a time for the others, as long as few are
//! waiting, and looks at the rest itself.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io;

use crate::domain::identity::FileKind;

use super::cell::DirId;
use super::links::PathHash;
use super::open;
use super::store::lock;

/// A directory is shared once this many of its entries were seen. Fewer take less than a millisecond, and waking
/// another worker would cost as much as it saves.
pub(super) const SHARED_FROM: usize = 512;

/// Names of one directory, with the inode number and the kind that the directory says each has.
#[derive(Default)]
pub(super) struct Names {
    /// Each with its NUL.
    bytes: Vec<u8>,
    /// Inode number, where in `bytes` the name starts, kind.
    entries: Vec<(u64, usize, FileKind)>,
}

impl Names {
    pub(super) fn push(&mut self, name: &CStr, inode: u64, kind: FileKind) {
        self.entries.push((inode, self.bytes.len(), kind));
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    /// Puts them in the order of their inode numbers: that in which most file systems have them on the disk.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    /// Each with its inode number and kind.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&CStr, u64, FileKind)> {
        let name = |start| CStr::from_bytes_until_nul(self.bytes.get(start..)?).ok();
        self.entries.iter().filter_map(move |&(inode, start, kind)| Some((name(start)?, inode, kind)))
    }
}

/// A directory that several workers look at. It has been read when its reader and all pieces are done.
pub(super) struct Large {
    fd: OwnedFd,
    pub(super) dir: DirId,
    pub(super) depth: usize,
    pub(super) hash: PathHash,
    /// When it was last modified itself.
    pub(super) base: i64,
    parts: AtomicUsize,
    cut_short: AtomicBool,
}

impl Large {
    /// Shares a directory that is open as `fd` out; the caller is its reader.
    ///
    /// # Errors
    /// No descriptor is to be had: then it is better not shared.
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        (dir, depth, hash): (DirId, usize, PathHash),
        base: i64,
    ) -> io::Result<Self> {
        let (parts, cut_short) = (AtomicUsize::new(1), AtomicBool::new(false));
        Ok(Self { fd: open::again(fd)?, dir, depth, hash, base, parts, cut_short })
    }

    /// A descriptor for one worker. The kernel counts users in the open file itself, so one that two processors use
    /// at once makes every call slower.
    pub(super) fn own_fd(&self) -> Option<OwnedFd> {
        open::again(self.fd.as_fd()).ok()
    }

    /// The descriptor for whoever got none of its own.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Notes that the reader or one piece is done, or was cut short. Says how it went once all are done: whether
    /// nothing was cut short.
    pub(super) fn part_done(&self, cut_short: bool) -> Option<bool> {
        if cut_short {
            self.cut_short.store(true, Ordering::Relaxed);
        }
        // Released by each and acquired by the last, so it sees what they stored.
        let last = self.parts.fetch_sub(1, Ordering::AcqRel) == 1;
        last.then(|| !self.cut_short.load(Ordering::Relaxed))
    }
}

/// Some names of a large directory.
pub(super) struct Piece {
    pub(super) large: Arc<Large>,
    pub(super) names: Names,
}

/// Pieces that nobody has taken yet.
#[derive(Default)]
pub(super) struct Pieces {
    queue: Mutex<VecDeque<Piece>>,
    /// How many there are, for looking without the lock.
    count: AtomicUsize,
}

impl Pieces {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, large: &Arc<Large>, names: Names) {
        large.parts.fetch_add(1, Ordering::Relaxed);
        let mut queue = lock(&self.queue);
        queue.push_back(Piece { large: Arc::clone(large), names });
        self.count.store(queue.len(), Ordering::Relaxed);
    }

    pub(super) fn pop(&self) -> Option<Piece> {
        if self.waiting() == 0 {
            return None;
        }
        let mut queue = lock(&self.queue);
        let piece = queue.pop_front();
        self.count.store(queue.len(), Ordering::Relaxed);
        piece
    }

    /// Drops what a cancelled run left, and closes its directories.
    pub(super) fn clear(&self) {
        let mut queue = lock(&self.queue);
        queue.clear();
        self.count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn large(dir: &Path) -> Arc<Large> {
        let fd = open::open_root(dir).unwrap();
        Arc::new(Large::new(fd.as_fd(), (DirId::ROOT, 0, PathHash::ROOT), 0).unwrap())
    }

    #[test]
    fn names_come_out_as_they_went_in() {
        let mut names = Names::default();
        let mut all =
            [(c"a", 9, FileKind::File), (c"\xff\n", 8, FileKind::Other), (c"", 7, FileKind::Directory)];
        for (name, inode, kind) in all {
            names.push(name, inode, kind);
        }
        assert_eq!(names.iter().collect::<Vec<_>>(), all);
        names.sort();
        all.reverse();
        assert_eq!(names.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn the_last_part_ends_the_directory_and_knows_whether_one_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        for cut in [None, Some(0), Some(1), Some(2)] {
            let (large, pieces) = (large(dir.path()), Pieces::default());
            pieces.push(&large, Names::default());
            pieces.push(&large, Names::default());
            assert_eq!(pieces.waiting(), 2);
            let ends: Vec<_> = (0..3).map(|part| large.part_done(cut == Some(part))).collect();
            assert_eq!(ends, [None, None, Some(cut.is_none())]);
        }
    }

    #[test]
    fn what_is_cleared_keeps_nothing_open() {
        let dir = tempfile::tempdir().unwrap();
        let (large, pieces) = (large(dir.path()), Pieces::default());
        pieces.push(&large, Names::default());
        pieces.clear();
        assert!(pieces.pop().is_none());
        assert_eq!(Arc::strong_count(&large), 1);
    }
}
