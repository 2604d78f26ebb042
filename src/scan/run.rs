//! Starting, stopping and ending the workers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_deque::{Injector, Worker as Queue};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::memory;

use super::batch::own_totals;
use super::cell::DirId;
use super::cursor::Cursor;
use super::ext4::Orphan;
use super::memory::Memory;
use super::open::{self, Mount};
use super::reason;
use super::share::{Large, Names, Pieces};
use super::store::lock;
use super::tree::Tree;
use super::whole::{self, Source};
use super::worker::{Crew, Worker};
use super::{Method, Options, Progress, Reading, Sample, ScanError};

/// A sleeping worker looks for work and for the cancel flag this often, should nobody wake it.
const NAP: Duration = Duration::from_millis(5);

/// Parts of large directories that wait for a worker, for each of them. More would not keep anyone busier.
const PIECES_EACH: usize = 2;

/// Descriptors that each worker needs beside those on its way down: for a large directory that it shares out, for one
/// that it helps with, and for those of which only waiting parts are left.
const SHARING: usize = 4;

/// Threads that read a device with a cold cache, at least, where nobody said how many: they wait for the disk most of the time.
const RAW_THREADS: usize = 4;

/// What the handles and the workers of a scan share.
pub(super) struct Shared {
    pub(super) tree: Tree,
    pub(super) injector: Injector<DirId>,
    /// Of large directories, for whoever has nothing else to do.
    pub(super) pieces: Pieces,
    threads: usize,
    raw_threads: usize,
    cancelled: AtomicBool,
    /// Directories to be read or being read.
    outstanding: AtomicUsize,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    finished: AtomicBool,
    born: Instant,
    /// When the present or last run began, in nanoseconds after `born`.
    began: AtomicU64,
    /// How many nanoseconds it took, valid once finished.
    took: AtomicU64,
    job: Mutex<Job>,
    over: Condvar,
    reading: Mutex<Reading>,
    /// Inodes without a name; none where the device was not read.
    orphans: Mutex<Option<Vec<Orphan>>>,
    /// Taken by the first worker of the first run, which reads the device before it works as the others do.
    first: Mutex<Option<First>>,
    /// Names of directories that were read from the device but for these.
    pub(super) left_names: whole::LeftNames,
}

/// What comes before the ordinary calls.
enum First {
    /// Look whether the device can be read.
    Prepare,
    /// Read it.
    Read(Box<Source>),
}

/// What workers begin with.
#[derive(Clone, Copy)]
enum Begin {
    /// With `Shared::first`, which decides.
    First,
    /// With a directory.
    With(DirId),
}

/// The workers that run now.
struct Job {
    active: usize,
    /// Open only while workers run: an open directory would keep its file system from being unmounted.
    root: Option<(Arc<OwnedFd>, Arc<Mount>)>,
    identity: Arc<Mount>,
}

impl Shared {
    /// Opens the root and starts the workers.
    pub(super) fn start(path: &Path, options: &Options) -> Result<Arc<Self>, ScanError> {
        let cannot = |why| ScanError::Open { path: path.into(), why };
        // Followed once, here: the workers never follow a link.
        let root = std::fs::canonicalize(path).map_err(|error| cannot(reason::start(&error)))?;
        let fd = open::open_root(&root).map_err(|error| cannot(reason::start(&error.into())))?;
        Self::start_open(path, root, fd, options)
    }

    /// Starts the workers on an open directory. `path` is what was asked for, for errors; `root` its real path.
    pub(super) fn start_open(
        path: &Path,
        root: PathBuf,
        fd: OwnedFd,
        options: &Options,
    ) -> Result<Arc<Self>, ScanError> {
        let cannot = |why| ScanError::Open { path: path.into(), why };
        let stat = open::stat_fd(fd.as_fd()).map_err(|error| cannot(reason::start(&error.into())))?;
        let mount = Arc::new(Mount::of(&stat));
        let (first, reading) = match options.method {
            Method::Auto => (Some(First::Prepare), Reading::Pending),
            Method::Calls => (None, Reading::Calls),
            Method::Raw => {
                let source =
                    whole::prepare(&root, &mount).map_err(|why| ScanError::Raw { path: path.into(), why })?;
                (Some(First::Read(Box::new(source))), Reading::Pending)
            }
        };
        let begin = if first.is_some() { Begin::First } else { Begin::With(DirId::ROOT) };
        let name = root.file_name().unwrap_or(root.as_os_str()).to_owned();
        let threads = options.threads.map_or_else(default_threads, usize::from).clamp(1, 256);
        let memory = Memory::new(options.max_memory.unwrap_or_else(memory::share));
        let shared = Arc::new(Self {
            tree: Tree::new(root, name.as_bytes(), own_totals(&stat), memory),
            injector: Injector::new(),
            pieces: Pieces::default(),
            threads,
            raw_threads: if options.threads.is_some() { threads } else { threads.max(RAW_THREADS) },
            cancelled: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            finished: AtomicBool::new(false),
            born: Instant::now(),
            began: AtomicU64::new(0),
            took: AtomicU64::new(0),
            job: Mutex::new(Job { active: 0, root: None, identity: Arc::clone(&mount) }),
            over: Condvar::new(),
            reading: Mutex::new(reading),
            orphans: Mutex::new(None),
            first: Mutex::new(first),
            left_names: whole::LeftNames::default(),
        });
        let mut job = lock(&shared.job);
        shared.hire(&mut job, begin, (Arc::new(fd), mount)).map_err(cannot)?;
        drop(job);
        Ok(shared)
    }

    /// Starts workers on a directory. None may be running.
    fn hire(
        self: &Arc<Self>,
        job: &mut Job,
        begin: Begin,
        root: (Arc<OwnedFd>, Arc<Mount>),
    ) -> Result<(), String> {
        self.began.store(nanos(self.born.elapsed()), Ordering::Relaxed);
        self.finished.store(false, Ordering::Release);
        self.cancelled.store(false, Ordering::Release);
        // What a cancelled run left behind.
        while !self.injector.is_empty() {
            let _ = self.injector.steal();
        }
        self.pieces.clear();
        self.outstanding.store(1, Ordering::Release);
        if let Begin::With(first) = begin {
            self.injector.push(first);
        }
        let queues: Vec<_> = (0..self.threads).map(|_| Queue::new_lifo()).collect();
        let stealers: Arc<[_]> = queues.iter().map(Queue::stealer).collect();
        let descriptors = descriptors_each(self.threads);
        let mut failure = None;
        for queue in queues {
            let crew = Crew {
                shared: Arc::clone(self),
                root: Arc::clone(&root.0),
                mount: Arc::clone(&root.1),
                stealers: Arc::clone(&stealers),
            };
            let work = move || {
                // Dropped last, also when a worker panics: so the end of the scan is always reached.
                let _shift = Shift(Arc::clone(&crew.shared));
                let first = lock(&crew.shared.first).take();
                if let Some(first) = first {
                    crew.shared.begin((&crew.mount, crew.root.as_fd()), first);
                }
                Worker::new(crew, queue, descriptors).work();
            };
            match thread::Builder::new().name("unwedge-scan".to_owned()).spawn(work) {
                Ok(_) => job.active += 1,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if job.active == 0 => {
                self.outstanding.store(0, Ordering::Release);
                self.tree.abandon();
                self.finished.store(true, Ordering::Release);
                Err(format!("no thread can be started ({error}): raise the limit of processes (ulimit -u)"))
            }
            _ => {
                job.root = Some(root);
                Ok(())
            }
        }
    }

    /// Reads the device, or leaves all to ordinary calls.
    fn begin(&self, root: (&Mount, BorrowedFd<'_>), first: First) {
        let source = match first {
            First::Prepare => whole::prepare(&self.tree.root, root.0).map(Box::new),
            First::Read(source) => Ok(source),
        };
        let threads = whole::Threads { working: self.threads, waiting: self.raw_threads };
        let read = source.and_then(|source| {
            *lock(&self.reading) = source.reading(0, Sample::default());
            whole::read(&source, &self.tree, root, threads, &self.cancelled)
        });
        let dirs = match read {
            Ok(whole) => {
                *lock(&self.reading) = whole.reading;
                *lock(&self.left_names) = whole.later.names;
                *lock(&self.orphans) = Some(whole.orphans);
                whole.later.dirs
            }
            Err(why) => {
                *lock(&self.reading) = Reading::Fallback { why };
                vec![DirId::ROOT]
            }
        };
        self.outstanding.fetch_add(dirs.len(), Ordering::AcqRel);
        for dir in dirs {
            self.injector.push(dir);
        }
        self.done_one();
        self.wake.notify_all();
    }

    pub(super) fn reading(&self) -> Reading {
        lock(&self.reading).clone()
    }

    pub(super) fn orphans(&self) -> Option<Vec<Orphan>> {
        lock(&self.orphans).clone()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn nothing_left(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }

    /// Notes that directories are about to be queued.
    pub(super) fn more(&self, count: usize) {
        if count > 0 {
            self.outstanding.fetch_add(count, Ordering::AcqRel);
            // One keeps the last for itself.
            if count > 1 && self.sleepers.load(Ordering::Relaxed) > 0 {
                self.wake.notify_one();
            }
        }
    }

    /// Whether parts of a large directory should be put aside for other workers.
    pub(super) fn wants_pieces(&self) -> bool {
        self.threads > 1 && self.pieces.waiting() < self.threads.saturating_mul(PIECES_EACH)
    }

    /// Puts a part of a large directory aside for others.
    pub(super) fn share(&self, large: &Arc<Large>, names: Names) {
        self.pieces.push(large, names);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            self.wake.notify_one();
        }
    }

    /// Notes that a directory was read.
    pub(super) fn done_one(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake.notify_all();
        }
    }

    /// Waits a moment for work.
    pub(super) fn sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        drop(self.wake.wait_timeout(lock(&self.bed), NAP));
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn cancel(&self) {
        if self.running() {
            self.cancelled.store(true, Ordering::Release);
            self.wake.notify_all();
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let finished = self.finished.load(Ordering::Acquire);
        let counters = &self.tree.counters;
        let ahead = &counters.ahead;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let most = |counter: &AtomicU64, ahead: &AtomicU64| read(counter).max(read(ahead));
        Progress {
            entries: most(&counters.entries, &ahead.inodes),
            directories: most(&counters.directories, &ahead.directories),
            unreadable: read(&counters.unreadable),
            vanished: read(&counters.vanished),
            folded: read(&counters.folded),
            allocated: Bytes(most(&counters.allocated, &ahead.allocated)),
            apparent: Bytes(most(&counters.apparent, &ahead.apparent)),
            elapsed: Duration::from_nanos(if finished { read(&self.took) } else { self.run_time() }),
            finished,
            cancelled: self.is_cancelled(),
        }
    }

    fn run_time(&self) -> u64 {
        nanos(self.born.elapsed()).saturating_sub(self.began.load(Ordering::Relaxed))
    }

    pub(super) fn wait(&self) {
        let mut job = lock(&self.job);
        while job.active > 0 {
            job = self.over.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until no worker runs, or the limit is over.
    pub(super) fn wait_for(&self, limit: Duration) {
        let job = lock(&self.job);
        let _ = self.over.wait_timeout_while(job, limit, |job| job.active > 0);
    }

    /// Whether workers run.
    pub(super) fn running(&self) -> bool {
        !self.finished.load(Ordering::Acquire)
    }

    /// Reads a directory of the tree again.
    pub(super) fn rescan(self: &Arc<Self>, dir: DirId, path: &HostPath) -> Result<(), ScanError> {
        let cannot = |why| ScanError::Open { path: path.clone(), why };
        let mut job = lock(&self.job);
        // Workers that are about to stop cannot be given more.
        while job.active > 0 && (self.is_cancelled() || self.nothing_left()) {
            job = self.over.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        if job.active > 0 && !self.tree.dir(dir).is_some_and(|dir| dir.complete()) {
            return Ok(());
        }
        let (root, mount) = if let Some((root, mount)) = &job.root {
            (Arc::clone(root), Arc::clone(mount))
        } else {
            let fd = open::open_root(&self.tree.root).map_err(|e| cannot(reason::start(&e.into())))?;
            let stat = open::stat_fd(fd.as_fd()).map_err(|e| cannot(reason::start(&e.into())))?;
            if !job.identity.is_root(&stat) {
                return Err(cannot(reason::replaced()));
            }
            (Arc::new(fd), Arc::clone(&job.identity))
        };
        let mut cursor = Cursor::new(descriptors_each(self.threads));
        let stat = cursor
            .enter(&self.tree, &mount, root.as_fd(), dir)
            .and_then(|()| open::stat_fd(cursor.here().ok_or(Errno::BADF)?.0))
            .map_err(|error| cannot(reason::start(&error.into())))?;
        drop(cursor);
        if job.active > 0 {
            // It counts as outstanding before it can be found, so no worker ends in between.
            let joined = self
                .outstanding
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count > 0).then_some(count + 1));
            if joined.is_ok() {
                self.tree.store.memory.make_room();
                if self.tree.empty(dir, own_totals(&stat)) {
                    self.injector.push(dir);
                    self.wake.notify_one();
                } else {
                    self.done_one();
                }
                return Ok(());
            }
            while job.active > 0 {
                job = self.over.wait(job).unwrap_or_else(PoisonError::into_inner);
            }
        }
        self.tree.store.memory.make_room();
        if !self.tree.empty(dir, own_totals(&stat)) {
            return Err(cannot(reason::forgotten()));
        }
        self.hire(&mut job, Begin::With(dir), (root, mount)).map_err(cannot)
    }
}

/// A worker's time at work. The last to leave ends the scan.
struct Shift(Arc<Shared>);

impl Drop for Shift {
    fn drop(&mut self) {
        let shared = &*self.0;
        if thread::panicking() {
            shared.cancel();
        }
        let mut job = lock(&shared.job);
        job.active = job.active.saturating_sub(1);
        if job.active > 0 {
            return;
        }
        if shared.tree.dir(DirId::ROOT).is_some_and(|dir| dir.complete()) {
            // Cancelled too late, if at all.
            shared.cancelled.store(false, Ordering::Release);
            shared.tree.settle();
        } else {
            shared.tree.abandon();
        }
        job.root = None;
        shared.pieces.clear();
        shared.took.store(shared.run_time(), Ordering::Relaxed);
        shared.finished.store(true, Ordering::Release);
        shared.over.notify_all();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn default_threads() -> usize {
    // With one processor a second thread still helps: it works while the first waits for the disk.
    thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// How many descriptors each worker may hold: half of what the process may open, shared out. The other
/// half is for the rest of the program.
fn descriptors_each(threads: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(4096).min(4096);
    (usize::try_from(limit).unwrap_or(4096) / 2 / threads).saturating_sub(SHARING).clamp(4, 512)
}
