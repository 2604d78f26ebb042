//! A worker's way down the tree: the open directories between the root and where it is.
//!
//! Descriptors are bounded whatever the depth. When too many are open, every second one in the middle
//! is closed; a directory without one is opened again from the nearest open one above, name by name,
//! so no path ever has to fit in `PATH_MAX`.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{self, Errno};

use super::cell::DirId;
use super::links::PathHash;
use super::open::Mount;
use super::tree::Tree;

struct Level {
    dir: DirId,
    fd: Option<OwnedFd>,
    hash: PathHash,
    /// Whether `O_NOATIME` is worth trying below.
    no_atime: bool,
}

/// A worker's way down. See the module.
pub(super) struct Cursor {
    levels: Vec<Level>,
    open: usize,
    limit: usize,
    /// The name of `named`.
    name: Vec<u8>,
    named: DirId,
}

/// Fewer descriptors than this would make no progress worth the name.
const LEAST: usize = 4;

impl Cursor {
    /// A cursor that keeps at most `limit` descriptors open.
    pub(super) fn new(limit: usize) -> Self {
        Self { levels: Vec::new(), open: 0, limit: limit.max(LEAST), name: Vec::new(), named: DirId::NONE }
    }

    /// Where the cursor is: the open directory, how far below the root, and the hash of its path.
    pub(super) fn here(&self) -> Option<(BorrowedFd<'_>, usize, PathHash)> {
        let level = self.levels.last()?;
        Some((level.fd.as_ref()?.as_fd(), self.levels.len() - 1, level.hash))
    }

    /// Opens a directory of the tree.
    ///
    /// # Errors
    /// What the kernel says to opening it, or one above it that had to be opened again.
    pub(super) fn enter(
        &mut self,
        tree: &Tree,
        mount: &Mount,
        root: BorrowedFd<'_>,
        dir: DirId,
    ) -> io::Result<()> {
        let parent = tree.dir(dir).ok_or(Errno::NOENT)?.parent();
        let keep = match parent {
            None => 0,
            Some(parent) => match self.levels.iter().rposition(|level| level.dir == parent) {
                Some(at) => at + 1,
                None => self.meet(tree, parent)?,
            },
        };
        self.cut(keep);
        self.add(tree, dir)?;
        self.open_last(tree, mount, root)
    }

    /// Puts the way to a directory on the levels, unopened below the part that is there already.
    fn meet(&mut self, tree: &Tree, target: DirId) -> io::Result<usize> {
        let mut way = Vec::new();
        let mut next = Some(target);
        while let Some(dir) = next {
            way.push(dir);
            next = tree.dir(dir).ok_or(Errno::NOENT)?.parent();
        }
        way.reverse();
        let common = self.levels.iter().zip(&way).take_while(|(level, dir)| level.dir == **dir).count();
        self.cut(common);
        for &dir in way.iter().skip(common) {
            self.add(tree, dir)?;
        }
        Ok(self.levels.len())
    }

    fn cut(&mut self, keep: usize) {
        while self.levels.len() > keep {
            if self.levels.pop().is_some_and(|level| level.fd.is_some()) {
                self.open -= 1;
            }
        }
    }

    fn add(&mut self, tree: &Tree, dir: DirId) -> io::Result<()> {
        let (hash, no_atime) = match self.levels.last() {
            None => (PathHash::ROOT, true),
            Some(above) => {
                self.named = DirId::NONE;
                if !tree.dir_name(dir, &mut self.name) {
                    return Err(Errno::NOENT);
                }
                self.named = dir;
                (above.hash.child(&self.name), above.no_atime)
            }
        };
        self.levels.push(Level { dir, fd: None, hash, no_atime });
        Ok(())
    }

    /// Opens the last level, and what is needed above it.
    fn open_last(&mut self, tree: &Tree, mount: &Mount, root: BorrowedFd<'_>) -> io::Result<()> {
        let last = self.levels.len().saturating_sub(1);
        let from = self.levels.iter().rposition(|level| level.fd.is_some()).map_or(0, |open| open + 1);
        for at in from..=last {
            let fd = self.open_level(tree, mount, root, at);
            let fd = match fd {
                Err(Errno::MFILE | Errno::NFILE) => {
                    // Others in this process or on this machine use them up: live on fewer.
                    self.limit = (self.open / 2).max(LEAST);
                    self.make_room(at);
                    self.open_level(tree, mount, root, at)?
                }
                other => other?,
            };
            if let Some(level) = self.levels.get_mut(at) {
                level.fd = Some(fd);
                self.open += 1;
            }
            // On a long way down only the end is worth keeping: that is where the next ones are.
            if last - at > self.limit / 4 && at > from {
                self.close(at - 1);
            }
            if self.open > self.limit {
                self.make_room(at);
            }
        }
        Ok(())
    }

    fn open_level(
        &mut self,
        tree: &Tree,
        mount: &Mount,
        root: BorrowedFd<'_>,
        at: usize,
    ) -> io::Result<OwnedFd> {
        let (above, level) = self.levels.split_at_mut_checked(at).ok_or(Errno::NOENT)?;
        let level = level.first_mut().ok_or(Errno::NOENT)?;
        let Some(above) = above.last() else {
            // A descriptor of its own: reading a directory moves the position in it.
            return mount.open(root, c".", &mut level.no_atime);
        };
        // Nearly always it was just added.
        let known = self.named == level.dir;
        self.named = DirId::NONE;
        if !known && !tree.dir_name(level.dir, &mut self.name) {
            return Err(Errno::NOENT);
        }
        self.name.push(0);
        let name = CStr::from_bytes_with_nul(&self.name).map_err(|_| Errno::INVAL)?;
        mount.open(above.fd.as_ref().ok_or(Errno::NOENT)?.as_fd(), name, &mut level.no_atime)
    }

    fn close(&mut self, at: usize) {
        if self.levels.get_mut(at).is_some_and(|level| level.fd.take().is_some()) {
            self.open -= 1;
        }
    }

    /// Closes every second descriptor above level `at`, so that what stays open is dense where the
    /// cursor is and thins out towards the root.
    fn make_room(&mut self, at: usize) {
        let mut odd = false;
        let mut closed = 0;
        for level in self.levels.iter_mut().take(at.saturating_sub(1)) {
            if level.fd.is_some() {
                odd = !odd;
                if odd {
                    level.fd = None;
                    closed += 1;
                }
            }
        }
        self.open -= closed;
    }
}
