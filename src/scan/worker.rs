//! What a worker thread does: take a directory, read it, hand out the directories in it.

use std::ffi::{CStr, CString};
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_deque::{Steal, Stealer, Worker as Queue};
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use crate::domain::identity::FileKind;
use crate::sys::file_id::kind_of;

use super::batch::{Batch, own_totals};
use super::cell::{self, DirId, Totals};
use super::codec;
use super::cursor::Cursor;
use super::links::{PathHash, Place};
use super::open::{self, Mount};
use super::run::Shared;
use super::store::{Writer, lock};
use super::tree::Trouble;

/// For getdents64(2): some 1,000 entries a call. Bigger ones were not faster.
const BUFFER: usize = 32 << 10;

/// What the workers of one run have in common.
pub(super) struct Crew {
    pub(super) shared: Arc<Shared>,
    pub(super) root: Arc<OwnedFd>,
    pub(super) mount: Arc<Mount>,
    pub(super) stealers: Arc<[Stealer<DirId>]>,
}

/// One worker.
pub(super) struct Worker {
    crew: Crew,
    queue: Queue<DirId>,
    /// The next directory, kept back from the others: whoever would take the only child of a
    /// directory had to open the whole way to it again.
    next: Option<DirId>,
    cursor: Cursor,
    writer: Writer,
    batch: Batch,
    buffer: Vec<u8>,
}

impl Worker {
    pub(super) fn new(crew: Crew, queue: Queue<DirId>, descriptors: usize) -> Self {
        Self {
            crew,
            queue,
            next: None,
            cursor: Cursor::new(descriptors),
            writer: Writer::default(),
            batch: Batch::default(),
            buffer: Vec::with_capacity(BUFFER),
        }
    }

    /// Works until there is nothing left or the scan is cancelled.
    pub(super) fn work(&mut self) {
        let shared = Arc::clone(&self.crew.shared);
        while !shared.is_cancelled() {
            match self.take() {
                Some(dir) => {
                    self.read(dir);
                    shared.done_one();
                }
                None if shared.nothing_left() => break,
                None => shared.sleep(),
            }
        }
    }

    fn take(&mut self) -> Option<DirId> {
        let own = self.next.take().or_else(|| self.queue.pop());
        own.or_else(|| {
            iter::repeat_with(|| {
                self.crew.shared.injector.steal().or_else(|| {
                    self.crew
                        .stealers
                        .iter()
                        .map(|other| other.steal_batch_and_pop(&self.queue))
                        .collect::<Steal<_>>()
                })
            })
            .find(|steal| !steal.is_retry())
            .and_then(Steal::success)
        })
    }

    fn read(&mut self, dir: DirId) {
        let Self { crew, queue, next, cursor, writer, batch, buffer } = self;
        let shared = &*crew.shared;
        let tree = &shared.tree;
        let Some(cell) = tree.dir(dir) else { return };
        if cell.has(cell::REMOVED) {
            tree.read_to_end(dir);
            return;
        }
        let opened = cursor.enter(tree, &crew.mount, crew.root.as_fd(), dir);
        let here = opened.and_then(|()| cursor.here().ok_or(Errno::BADF));
        let (fd, depth, hash) = match here {
            Ok(here) => here,
            Err(error) => {
                match error {
                    // Removed, or replaced by something that is not a directory.
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => tree.vanished(cell),
                    Errno::XDEV => cell.mark(cell::MOUNTED),
                    other => tree.trouble(dir, cell, Trouble::Kernel(other)),
                }
                tree.read_to_end(dir);
                return;
            }
        };
        let left = lock(&shared.left_names).remove(&dir);
        // Its own time: of what was read from the device already, the newest may be newer.
        let read_before = left.is_some().then(|| tree.base(cell)).flatten();
        let base = read_before.unwrap_or_else(|| cell.totals().newest);
        let mut visit = Visit { crew, fd, dir, depth, hash, base, batch };
        visit.batch.begin(visit.base);
        if let Some(names) = left {
            // The rest of it was read from the device.
            let cut_short = !visit.see_names(&names, |batch| hand_out(shared, writer, queue, dir, batch));
            hand_out(shared, writer, queue, dir, visit.batch);
            if !cut_short {
                tree.read_to_end(dir);
            }
            return;
        }
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut cut_short = false;
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => visit.see(entry.file_name(), entry.file_type()),
                Err(Errno::INTR) => {}
                // The directory was removed while it was read: what it held has gone before it.
                Err(Errno::NOENT) => break,
                Err(error) => {
                    tree.trouble(dir, cell, Trouble::Kernel(error));
                    break;
                }
            }
            // Looked at for each entry: with a cold cache on a slow disk each takes 10 ms.
            if shared.is_cancelled() {
                cut_short = true;
                break;
            }
            if visit.batch.is_full() {
                hand_out(shared, writer, queue, dir, visit.batch);
                visit.batch.begin(visit.base);
            }
        }
        let batch = visit.batch;
        if !batch.is_empty() {
            tree.publish(writer, dir, batch);
            shared.more(batch.dirs.len());
            *next = batch.dirs.pop().map(|(_, child)| child);
            for &(_, child) in &batch.dirs {
                queue.push(child);
            }
        }
        if !cut_short {
            tree.read_to_end(dir);
        }
    }
}

/// Puts a batch into the tree and its directories into the queue.
fn hand_out(shared: &Shared, writer: &mut Writer, queue: &Queue<DirId>, dir: DirId, batch: &mut Batch) {
    if batch.is_empty() {
        return;
    }
    shared.tree.publish(writer, dir, batch);
    shared.more(batch.dirs.len());
    for &(_, child) in &batch.dirs {
        queue.push(child);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.crew.shared.tree.store.give_back(&mut self.writer);
    }
}

/// One directory being read.
struct Visit<'a> {
    crew: &'a Crew,
    fd: std::os::fd::BorrowedFd<'a>,
    dir: DirId,
    depth: usize,
    hash: PathHash,
    base: i64,
    batch: &'a mut Batch,
}

impl Visit<'_> {
    /// Looks at names that are known already. Says no where it was cancelled.
    fn see_names(&mut self, names: &[Box<[u8]>], mut hand_out: impl FnMut(&mut Batch)) -> bool {
        for name in names {
            match CString::new(&name[..]) {
                // Whatever is wrong with it, statx(2) says so.
                Ok(name) => self.see(&name, FileType::Unknown),
                Err(_) => self.trouble(Errno::IO),
            }
            if self.crew.shared.is_cancelled() {
                return false;
            }
            if self.batch.is_full() {
                hand_out(self.batch);
                self.batch.begin(self.base);
            }
        }
        true
    }

    fn see(&mut self, name: &CStr, listed_as: FileType) {
        let bytes = name.to_bytes();
        if bytes == b"." || bytes == b".." {
            return;
        }
        let tree = &self.crew.shared.tree;
        if bytes.is_empty() || bytes.contains(&b'/') {
            // The kernel checks names from FUSE and network servers (fs/readdir.c,
            // verify_dirent_name). Should one get through, it would be a path, not a name.
            self.trouble(Errno::IO);
            return;
        }
        match open::stat_entry(self.fd, name) {
            Ok(stat) if self.crew.mount.leaves(&stat) => {
                self.batch.push_name(bytes, kind_of(stat.stx_mode), codec::BOUNDARY);
            }
            Ok(stat) if kind_of(stat.stx_mode) == FileKind::Directory => {
                self.see_dir(bytes, own_totals(&stat));
            }
            Ok(stat) => {
                let (depth, hash) = (self.depth, self.hash);
                self.batch.push_leaf(bytes, &stat, || Place::new(depth, hash, bytes));
            }
            Err(Errno::NOENT) => {
                tree.counters.vanished.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                // A directory that may be listed but not searched: names are known, sizes are not.
                self.trouble(error);
                match kind_listed(listed_as) {
                    FileKind::Directory => {
                        self.see_dir(bytes, Totals { entries: 1, newest: self.base, ..Totals::default() });
                    }
                    kind => self.batch.push_name(bytes, kind, 0),
                }
            }
        }
    }

    fn see_dir(&mut self, name: &[u8], own: Totals) {
        match self.crew.shared.tree.new_dir(self.dir, own) {
            Some(child) => self.batch.push_dir(name, child, own),
            None => {
                if let Some(cell) = self.crew.shared.tree.dir(self.dir) {
                    self.crew.shared.tree.trouble(self.dir, cell, Trouble::TreeFull);
                }
            }
        }
    }

    fn trouble(&self, error: Errno) {
        if let Some(cell) = self.crew.shared.tree.dir(self.dir) {
            self.crew.shared.tree.trouble(self.dir, cell, Trouble::Kernel(error));
        }
    }
}

fn kind_listed(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
        FileType::Unknown => FileKind::Other,
    }
}
