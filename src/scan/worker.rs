//! What a worker thread does: take a directory, read it, hand out the directories in it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_deque::Worker as Queue;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use crate::domain::identity::FileKind;
use crate::sys::file_id::kind_of;

use super::batch::{Batch, own_totals};
use super::cell::{self, Dir, DirId, Totals};
use super::codec;
use super::cursor::Cursor;
use super::links::{PathHash, Place};
use super::meter::Meter;
use super::open::{self, Leaves, Mount};
use super::run::{Run, Shared};
use super::share::{Large, Names, Piece, SHARED_FROM};
use super::store::Writer;
use super::tree::{Steady, Trouble};

/// For getdents64(2): some 1,000 entries a call. Bigger ones were not faster.
pub(super) const BUFFER: usize = 32 << 10;

/// What the workers of one run have in common.
#[derive(Clone)]
pub(super) struct Crew {
    pub(super) shared: Arc<Shared>,
    pub(super) run: Arc<Run>,
    pub(super) root: Arc<OwnedFd>,
    pub(super) mount: Arc<Mount>,
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
    meter: Meter,
}

impl Worker {
    pub(super) fn new(crew: Crew, queue: Queue<DirId>, descriptors: usize) -> Self {
        let batch = Batch::new(&crew.shared.tree);
        Self {
            crew,
            queue,
            next: None,
            cursor: Cursor::new(descriptors),
            writer: Writer::default(),
            batch,
            buffer: Vec::with_capacity(BUFFER),
            meter: Meter::new(),
        }
    }

    /// Works until there is nothing left or the scan is cancelled.
    pub(super) fn work(&mut self) {
        let run = Arc::clone(&self.crew.run);
        while !run.is_cancelled() {
            if let Some(dir) = self.next.take().or_else(|| self.queue.pop()) {
                self.read(dir);
            } else if let Some(piece) = run.pieces.pop() {
                self.look_at(piece);
            } else if let Some(dir) = run.steal(&self.queue) {
                self.read(dir);
            } else if run.nothing_left() {
                break;
            } else {
                run.sleep();
                self.meter.restart();
            }
        }
    }

    /// Reads a directory and, unless it was cut short or others are still at it, notes that it has been read.
    fn read(&mut self, dir: DirId) {
        match self.list(dir) {
            Listed::ToTheEnd => {
                if let Some(steady) = self.crew.steady() {
                    self.crew.shared.tree.read_to_end(&steady, dir);
                }
            }
            Listed::Noted | Listed::CutShort => {}
            Listed::Shared(large, cut_short) => {
                end_part(&self.crew, &large, cut_short);
                return;
            }
        }
        self.crew.run.done_one();
    }

    /// Looks at some names of a directory that another worker reads.
    fn look_at(&mut self, piece: Piece) {
        let Self { crew, queue, writer, batch, meter, .. } = self;
        let Piece { large, mut names } = piece;
        let own = large.own_fd();
        let fd = own.as_ref().map_or_else(|| large.fd(), AsFd::as_fd);
        let Large { dir, depth, hash, base, .. } = *large;
        let mut visit = Visit { crew, fd, dir, depth, hash, base, batch };
        visit.batch.begin(base);
        let whole = visit.see_all(&mut names, meter, |batch| hand_out(crew, writer, queue, dir, batch));
        end_part(crew, &large, !whole);
    }

    fn list(&mut self, dir: DirId) -> Listed {
        let Self { crew, queue, next, cursor, writer, batch, buffer, meter } = self;
        let (shared, run) = (&*crew.shared, &*crew.run);
        let tree = &shared.tree;
        let Some(cell) = tree.dir(dir) else { return Listed::ToTheEnd };
        if cell.has(cell::REMOVED) {
            return Listed::ToTheEnd;
        }
        let opened = cursor.enter(tree, &crew.mount, crew.root.as_fd(), dir);
        let here = opened.and_then(|()| cursor.here().ok_or(Errno::BADF));
        let (fd, depth, hash) = match here {
            Ok(here) => here,
            Err(error) => {
                crew.not_entered(dir, cell, error);
                return Listed::Noted;
            }
        };
        let left = run.take_names(dir);
        // Its own time: of what was read from the device already, the newest may be newer.
        let read_before = left.is_some().then(|| tree.base(cell)).flatten();
        let base = read_before.unwrap_or_else(|| cell.totals().newest);
        let mut visit = Visit { crew, fd, dir, depth, hash, base, batch };
        visit.batch.begin(base);
        if let Some(left) = left {
            // The rest of it was read from the device. Whatever is wrong with a name, statx(2) says so.
            let mut names = visit.known(left);
            let whole = visit.see_all(&mut names, meter, |batch| hand_out(crew, writer, queue, dir, batch));
            return if whole { Listed::ToTheEnd } else { Listed::CutShort };
        }
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut cut_short = false;
        let mut seen = 0;
        let mut large: Option<Arc<Large>> = None;
        let sorted = run.waits_for_disk();
        // Kept to be sorted, or for others.
        let mut names = sorted.then(Names::default);
        while let Some(entry) = entries.next() {
            match (entry, &mut names) {
                (Ok(entry), None) => visit.see(entry.file_name(), kind_listed(entry.file_type())),
                (Ok(entry), Some(names)) => {
                    names.push(entry.file_name(), entry.ino(), kind_listed(entry.file_type()));
                }
                (Err(Errno::INTR), _) => {}
                // The directory was removed while it was read: what it held has gone before it.
                (Err(Errno::NOENT), _) => break,
                (Err(error), _) => {
                    visit.trouble(error);
                    break;
                }
            }
            crew.measure(meter);
            // Looked at for each entry: with a cold cache on a slow disk each takes 10 ms.
            if run.is_cancelled() {
                cut_short = true;
                break;
            }
            if visit.batch.is_full() {
                hand_out(crew, writer, queue, dir, visit.batch);
                visit.batch.begin(base);
            }
            seen += 1;
            if (seen >= SHARED_FROM || sorted) && entries.is_buffer_empty() {
                let share = seen >= SHARED_FROM && run.wants_pieces();
                if share && large.is_none() {
                    large = Large::new(fd, (dir, depth, hash), base).ok().map(Arc::new);
                }
                let share = large.as_ref().filter(|_| share);
                match (names.take(), share) {
                    (Some(names), Some(large)) => run.share(large, names),
                    (Some(mut names), None) => {
                        cut_short = !visit
                            .see_all(&mut names, meter, |batch| hand_out(crew, writer, queue, dir, batch));
                        visit.batch.begin(base);
                    }
                    (None, _) => {}
                }
                if cut_short {
                    break;
                }
                names = (sorted || share.is_some()).then(Names::default);
            }
        }
        if let (Some(mut names), false) = (names, cut_short) {
            cut_short = !visit.see_all(&mut names, meter, |batch| hand_out(crew, writer, queue, dir, batch));
        } else if let Some(steady) = crew.steady() {
            let batch = visit.batch;
            if !batch.is_empty() {
                tree.publish(&steady, writer, dir, batch);
                run.more(batch.dirs.len());
                *next = batch.dirs.pop().map(|(_, child)| child);
                for &(_, child) in &batch.dirs {
                    queue.push(child);
                }
            }
            if large.is_none() && !cut_short {
                tree.read_to_end(&steady, dir);
                return Listed::Noted;
            }
        }
        match large {
            Some(large) => Listed::Shared(large, cut_short),
            None if cut_short => Listed::CutShort,
            None => Listed::ToTheEnd,
        }
    }
}

/// How far a worker came with a directory.
enum Listed {
    /// All that could be read is in the tree.
    ToTheEnd,
    /// And that is noted already.
    Noted,
    /// The scan was cancelled.
    CutShort,
    /// Others look at parts of it. Whether this one's was cut short.
    Shared(Arc<Large>, bool),
}

impl Crew {
    /// See `Run::steady`.
    pub(super) fn steady(&self) -> Option<Steady<'_>> {
        self.run.steady(&self.shared.tree)
    }

    /// Notes on a worker's meter that it looked at a name, and calls for help if it is time.
    fn measure(&self, meter: &mut Meter) {
        if meter.tick(&self.run.ledger, || self.run.threads()) {
            self.shared.call_for_help();
        }
    }

    /// Notes that a directory could not be opened.
    fn not_entered(&self, dir: DirId, cell: Dir<'_>, error: Errno) {
        let tree = &self.shared.tree;
        let Some(steady) = self.steady() else { return };
        match error {
            // Removed, or replaced by something that is not a directory.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => {
                tree.vanished(steady, cell, || !self.run.is_over());
            }
            Errno::XDEV => {
                cell.mark(cell::MOUNTED);
                drop(steady);
            }
            other => {
                tree.trouble(dir, cell, Trouble::Kernel(other));
                drop(steady);
            }
        }
        if let Some(steady) = self.steady() {
            tree.read_to_end(&steady, dir);
        }
    }
}

/// Notes that a part of a large directory is done; with the last one, that the directory has been read.
fn end_part(crew: &Crew, large: &Large, cut_short: bool) {
    if let Some(whole) = large.part_done(cut_short) {
        if let Some(steady) = crew.steady().filter(|_| whole) {
            crew.shared.tree.read_to_end(&steady, large.dir);
        }
        crew.run.done_one();
    }
}

/// Puts a batch into the tree and its directories into the queue.
fn hand_out(crew: &Crew, writer: &mut Writer, queue: &Queue<DirId>, dir: DirId, batch: &mut Batch) {
    if batch.is_empty() {
        return;
    }
    let Some(steady) = crew.steady() else { return };
    crew.shared.tree.publish(&steady, writer, dir, batch);
    drop(steady);
    crew.run.more(batch.dirs.len());
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
pub(super) struct Visit<'a> {
    pub(super) crew: &'a Crew,
    pub(super) fd: std::os::fd::BorrowedFd<'a>,
    pub(super) dir: DirId,
    pub(super) depth: usize,
    pub(super) hash: PathHash,
    pub(super) base: i64,
    pub(super) batch: &'a mut Batch,
}

impl Visit<'_> {
    /// Names that were left of a directory which was read from the device.
    fn known(&self, left: impl IntoIterator<Item = Box<[u8]>>) -> Names {
        let mut names = Names::default();
        for name in left {
            match CString::new(name) {
                Ok(name) => names.push(&name, 0, FileKind::Other),
                Err(_) => self.trouble(Errno::IO),
            }
        }
        names
    }

    /// Looks at names that are known already, and hands them out. Says no where it was cancelled.
    fn see_all(
        &mut self,
        names: &mut Names,
        meter: &mut Meter,
        mut hand_out: impl FnMut(&mut Batch),
    ) -> bool {
        if self.crew.run.waits_for_disk() {
            names.sort();
        }
        let mut whole = true;
        for (name, _, kind) in names.iter() {
            self.see(name, kind);
            self.crew.measure(meter);
            if self.crew.run.is_cancelled() {
                whole = false;
                break;
            }
            if self.batch.is_full() {
                hand_out(self.batch);
                self.batch.begin(self.base);
            }
        }
        hand_out(self.batch);
        whole
    }

    /// Looks at a name and adds it to the batch.
    pub(super) fn see(&mut self, name: &CStr, listed_as: FileKind) {
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
        let stat = open::stat_entry(self.fd, name);
        match stat.map(|stat| (self.crew.mount.leaves(self.fd, name, &stat), stat)) {
            Ok((Some(why), stat)) => {
                let flags = match why {
                    Leaves::Mount => codec::BOUNDARY,
                    Leaves::Subvolume => {
                        tree.counters.left_out.store(true, Ordering::Relaxed);
                        codec::SUBVOLUME
                    }
                };
                self.batch.push_name(bytes, kind_of(stat.stx_mode), flags);
            }
            Ok((None, stat)) if kind_of(stat.stx_mode) == FileKind::Directory => {
                self.see_dir(bytes, own_totals(&stat));
            }
            Ok((None, stat)) => {
                let (depth, hash) = (self.depth, self.hash);
                self.batch.push_leaf(bytes, &stat, || Place::new(depth, hash, bytes));
            }
            Err(Errno::NOENT) => {
                if let Some(_steady) = self.crew.steady() {
                    tree.counters.vanished.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                // A directory that may be listed but not searched: names are known, sizes are not.
                self.trouble(error);
                match listed_as {
                    FileKind::Directory => {
                        self.see_dir(bytes, Totals { entries: 1, newest: self.base, ..Totals::default() });
                    }
                    kind => self.batch.push_name(bytes, kind, 0),
                }
            }
        }
    }

    fn see_dir(&mut self, name: &[u8], own: Totals) {
        let tree = &self.crew.shared.tree;
        let Some(_steady) = self.crew.steady() else { return };
        match tree.new_dir(self.dir, own) {
            Some(child) => self.batch.push_dir(name, child, own),
            None => {
                if let Some(cell) = tree.dir(self.dir) {
                    tree.trouble(self.dir, cell, Trouble::TreeFull);
                }
            }
        }
    }

    fn trouble(&self, error: Errno) {
        let tree = &self.crew.shared.tree;
        if let (Some(_steady), Some(cell)) = (self.crew.steady(), tree.dir(self.dir)) {
            tree.trouble(self.dir, cell, Trouble::Kernel(error));
        }
    }
}

pub(super) fn kind_listed(kind: FileType) -> FileKind {
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
