//! Starting, stopping and ending the workers.

use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_deque::{Injector, Steal, Stealer, Worker as Queue};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::domain::identity::DevId;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::boundary::Passages;
use crate::sys::memory;

use super::batch::own_totals;
use super::cell::DirId;
use super::cursor::Cursor;
use super::ext4::Orphan;
use super::memory::Memory;
use super::meter::Ledger;
use super::open::{self, Mount};
use super::reason;
use super::share::{Large, Names, Pieces};
use super::store::lock;
use super::tree::{Steady, Tree};
use super::watch::{Roll, Verdict, Watch};
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

/// Threads of the ordinary calls, at most, where nobody said how many and they mostly wait for the disk.
const MOST_THREADS: usize = 16;

/// Threads that read a device with a cold cache, at least, where nobody said how many: they wait for the disk most of the time.
const RAW_THREADS: usize = 4;

/// What the handles and the workers of a scan share.
pub(super) struct Shared {
    pub(super) tree: Tree,
    threads: usize,
    /// How many there may be if they wait for the disk.
    most_threads: usize,
    raw_threads: usize,
    /// The present or last run.
    run: Mutex<Arc<Run>>,
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
}

/// One run of the workers: from the start, or the rescan of a directory, until the last has left or those who are
/// left will not come back.
pub(super) struct Run {
    pub(super) injector: Injector<DirId>,
    /// Of large directories, for whoever has nothing else to do.
    pub(super) pieces: Pieces,
    cancelled: AtomicBool,
    /// Nothing that a worker of this run still has may go into the tree.
    over: AtomicBool,
    /// The workers were seen to wait for the disk.
    waits_for_disk: AtomicBool,
    /// Directories to be read or being read.
    outstanding: AtomicUsize,
    threads: AtomicUsize,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    roll: Roll,
    pub(super) ledger: Ledger,
    stealers: Box<[Stealer<DirId>]>,
    /// Of workers that have not been needed so far.
    queues: Mutex<Vec<Queue<DirId>>>,
    /// Names of directories that were read from the device but for these.
    left_names: whole::LeftNames,
    /// Whether there may be any, for looking without the lock.
    names_left: AtomicBool,
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

fn no_thread(path: &Path, error: &std::io::Error) -> ScanError {
    ScanError::NoThread { path: path.into(), why: error.to_string() }
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
        let stat = open::stat_fd(fd.as_fd()).map_err(|error| cannot(reason::start(&error.into())))?;
        let passages = whole::passages(&root, open::mount_of(&stat), &options.outside);
        Self::start_open(path, root, (fd, Mount::of(&stat, passages, &options.outside)), options)
    }

    /// Starts the workers on an open directory that no path need lead to. It is shown as `shown`.
    pub(super) fn start_in(fd: OwnedFd, shown: &Path, options: &Options) -> Result<Arc<Self>, ScanError> {
        let cannot = |why| ScanError::Open { path: shown.into(), why };
        let stat = open::stat_fd(fd.as_fd()).map_err(|error| cannot(reason::start(&error.into())))?;
        let mount = Mount::of(&stat, Passages::default(), &options.outside);
        Self::start_open(shown, shown.to_path_buf(), (fd, mount), options)
    }

    /// Starts the workers on an open directory. `path` is what was asked for, for errors; `root` its real path.
    fn start_open(
        path: &Path,
        root: PathBuf,
        (fd, mount): (OwnedFd, Mount),
        options: &Options,
    ) -> Result<Arc<Self>, ScanError> {
        let cannot = |why| ScanError::Open { path: path.into(), why };
        let stat = open::stat_fd(fd.as_fd()).map_err(|error| cannot(reason::start(&error.into())))?;
        let mount = Arc::new(mount);
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
            threads,
            most_threads: if options.threads.is_some() { threads } else { threads.max(MOST_THREADS) },
            raw_threads: if options.threads.is_some() { threads } else { threads.max(RAW_THREADS) },
            run: Mutex::new(Arc::new(Run::new(0))),
            finished: AtomicBool::new(false),
            born: Instant::now(),
            began: AtomicU64::new(0),
            took: AtomicU64::new(0),
            job: Mutex::new(Job { active: 0, root: None, identity: Arc::clone(&mount) }),
            over: Condvar::new(),
            reading: Mutex::new(reading),
            orphans: Mutex::new(None),
            first: Mutex::new(first),
        });
        let mut job = lock(&shared.job);
        shared.hire(&mut job, begin, (Arc::new(fd), mount)).map_err(|error| no_thread(path, &error))?;
        drop(job);
        Ok(shared)
    }

    /// Starts workers on a directory. None may be running.
    fn hire(
        self: &Arc<Self>,
        job: &mut Job,
        begin: Begin,
        root: (Arc<OwnedFd>, Arc<Mount>),
    ) -> Result<(), std::io::Error> {
        self.began.store(nanos(self.born.elapsed()), Ordering::Relaxed);
        let run = Arc::new(Run::new(self.most_threads));
        *lock(&self.run) = Arc::clone(&run);
        self.finished.store(false, Ordering::Release);
        run.outstanding.store(1, Ordering::Release);
        if let Begin::With(first) = begin {
            run.injector.push(first);
        }
        let crew =
            Crew { shared: Arc::clone(self), run, root: Arc::clone(&root.0), mount: Arc::clone(&root.1) };
        match self.employ(job, &crew, self.threads) {
            Some(error) if job.active == 0 => {
                self.tree.abandon();
                self.finished.store(true, Ordering::Release);
                Err(error)
            }
            _ => {
                job.root = Some(root);
                let watch = thread::Builder::new().name("unwedge-watch".to_owned());
                // Without it the scan goes on, with the workers that it has.
                let (shared, run) = (Arc::clone(self), Arc::clone(&crew.run));
                drop(watch.spawn(move || shared.watch(&run)));
                Ok(())
            }
        }
    }

    /// Starts some more workers, as far as there are queues for them. Returns why one could not be started.
    fn employ(&self, job: &mut Job, crew: &Crew, count: usize) -> Option<std::io::Error> {
        let mut failure = None;
        for _ in 0..count {
            let Some(queue) = lock(&crew.run.queues).pop() else { break };
            let descriptors = self.descriptors_each(crew.run.threads());
            let crew = crew.clone();
            let run = Arc::clone(&crew.run);
            let work = move || {
                // Dropped last, also when a worker panics: so the end of the scan is always reached.
                let _shift = Shift::begin(&crew);
                let first = lock(&crew.shared.first).take();
                if let Some(first) = first {
                    crew.shared.begin(&crew, first);
                }
                // Not before: what reads the device puts it into the tree whatever became of the run, so it is waited for.
                crew.run.roll.sign_on();
                Worker::new(crew, queue, descriptors).work();
            };
            match thread::Builder::new().name("unwedge-scan".to_owned()).spawn(work) {
                Ok(_) => {
                    job.active += 1;
                    run.threads.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure
    }

    /// Looks at the workers of a run until it is over: gives them help where they wait for the disk, and ends a
    /// cancelled run without those that are stuck.
    fn watch(self: &Arc<Self>, run: &Arc<Run>) {
        let mut watch = Watch::default();
        let mut job = lock(&self.job);
        while !run.is_over() {
            let pause = watch.pause(run.is_cancelled());
            job = self.over.wait_timeout(job, pause).unwrap_or_else(PoisonError::into_inner).0;
            if run.is_over() {
                break;
            }
            if run.ledger.take_wanted() {
                self.help(&mut job, run);
                continue;
            }
            match watch.look(&run.roll, job.active, run.is_cancelled()) {
                Verdict::Fine => {}
                Verdict::WaitsForDisk => self.help(&mut job, run),
                Verdict::Stuck => self.end(&mut job, run),
            }
        }
    }

    /// Has more workers started, soon.
    pub(super) fn call_for_help(&self) {
        self.over.notify_all();
    }

    /// Starts as many workers again as there are, if there may be more: they wait for the disk.
    fn help(self: &Arc<Self>, job: &mut Job, run: &Arc<Run>) {
        run.waits_for_disk.store(true, Ordering::Relaxed);
        if let (Some((root, mount)), false) = (&job.root, run.is_cancelled()) {
            let (shared, run) = (Arc::clone(self), Arc::clone(run));
            let threads = run.threads();
            let crew = Crew { shared, run, root: Arc::clone(root), mount: Arc::clone(mount) };
            // One that cannot be started is one less.
            let _ = self.employ(job, &crew, threads);
        }
        if lock(&run.queues).is_empty() {
            run.ledger.close();
        }
    }

    /// Reads the device, or leaves all to ordinary calls.
    fn begin(&self, crew: &Crew, first: First) {
        let run = &*crew.run;
        let source = match first {
            First::Prepare => whole::prepare(&self.tree.root, &crew.mount).map(Box::new),
            First::Read(source) => Ok(source),
        };
        let threads = whole::Threads { working: self.threads, waiting: self.raw_threads };
        let read = source.and_then(|source| {
            *lock(&self.reading) = source.reading(0, Sample::default());
            whole::read(&source, crew, threads, &run.cancelled)
        });
        let dirs = match read {
            Ok(whole) => {
                *lock(&self.reading) = whole.reading;
                run.names_left.store(!whole.later.names.is_empty(), Ordering::Release);
                *lock(&run.left_names) = whole.later.names;
                *lock(&self.orphans) = Some(whole.orphans);
                whole.later.dirs
            }
            Err(why) => {
                *lock(&self.reading) = Reading::Fallback { why };
                vec![DirId::ROOT]
            }
        };
        run.outstanding.fetch_add(dirs.len(), Ordering::AcqRel);
        for dir in dirs {
            run.injector.push(dir);
        }
        run.done_one();
        run.wake.notify_all();
    }

    pub(super) fn reading(&self) -> Reading {
        lock(&self.reading).clone()
    }

    /// The device numbers of the directories in the tree.
    pub(super) fn devices(&self) -> Vec<DevId> {
        lock(&self.job).identity.devices()
    }

    pub(super) fn orphans(&self) -> Option<Vec<Orphan>> {
        lock(&self.orphans).clone()
    }

    pub(super) fn cancel(&self) {
        if self.running() {
            self.run().cancel();
            self.over.notify_all();
        }
    }

    fn run(&self) -> Arc<Run> {
        Arc::clone(&lock(&self.run))
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
            cancelled: self.run().is_cancelled(),
        }
    }

    fn run_time(&self) -> u64 {
        nanos(self.born.elapsed()).saturating_sub(self.began.load(Ordering::Relaxed))
    }

    /// Ends a run: all its workers have left, or will not come back soon.
    fn end(&self, job: &mut Job, run: &Run) {
        {
            let _still = self.tree.still();
            run.over.store(true, Ordering::Release);
        }
        job.active = 0;
        if self.tree.dir(DirId::ROOT).is_some_and(|dir| dir.complete()) {
            // Cancelled too late, if at all.
            run.cancelled.store(false, Ordering::Release);
            self.tree.settle();
        } else {
            self.tree.abandon();
        }
        job.root = None;
        run.pieces.clear();
        self.took.store(self.run_time(), Ordering::Relaxed);
        self.finished.store(true, Ordering::Release);
        self.over.notify_all();
    }

    /// How many descriptors a worker may hold on its way down, where so many others have been started. Half of what the
    /// process may open is for the workers, the other half for the rest of the program. A quarter of the workers' is kept
    /// for those who come to help.
    fn descriptors_each(&self, started: usize) -> usize {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(4096).min(4096);
        let all = usize::try_from(limit).unwrap_or(4096) / 2;
        let helpers = self.most_threads - self.threads;
        let kept = if helpers > 0 { all / 4 } else { 0 };
        let each = if started < self.threads { (all - kept) / self.threads } else { kept / helpers.max(1) };
        each.saturating_sub(SHARING).clamp(4, 512)
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

    /// Waits for workers that are about to stop: they cannot be given more.
    fn until_it_takes_more<'a>(&self, mut job: MutexGuard<'a, Job>) -> MutexGuard<'a, Job> {
        while job.active > 0 && (self.run().is_cancelled() || self.run().nothing_left()) {
            job = self.over.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        job
    }

    /// Reads a directory of the tree again.
    pub(super) fn rescan(self: &Arc<Self>, dir: DirId, path: &HostPath) -> Result<(), ScanError> {
        let cannot = |why| ScanError::Open { path: path.clone(), why };
        let job = self.until_it_takes_more(lock(&self.job));
        if job.active > 0 && !self.tree.dir(dir).is_some_and(|dir| dir.complete()) {
            return Ok(());
        }
        let (opened, identity) = (job.root.clone(), Arc::clone(&job.identity));
        // The kernel may never answer what follows; nobody else is to wait for that.
        drop(job);
        let (root, mount) = if let Some(opened) = opened {
            opened
        } else {
            let fd = open::open_root(&self.tree.root).map_err(|e| cannot(reason::start(&e.into())))?;
            let stat = open::stat_fd(fd.as_fd()).map_err(|e| cannot(reason::start(&e.into())))?;
            if !identity.is_root(&stat) {
                return Err(cannot(reason::replaced()));
            }
            (Arc::new(fd), identity)
        };
        let mut cursor = Cursor::new(self.descriptors_each(0));
        let stat = cursor
            .enter(&self.tree, &mount, root.as_fd(), dir)
            .and_then(|()| open::stat_fd(cursor.here().ok_or(Errno::BADF)?.0))
            .map_err(|error| cannot(reason::start(&error.into())))?;
        drop(cursor);
        let mut job = self.until_it_takes_more(lock(&self.job));
        if job.active > 0 {
            let run = self.run();
            if !self.tree.dir(dir).is_some_and(|dir| dir.complete()) {
                return Ok(());
            }
            // It counts as outstanding before it can be found, so no worker ends in between.
            let joined = run
                .outstanding
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count > 0).then_some(count + 1));
            if joined.is_ok() {
                self.tree.store.memory.make_room();
                if self.tree.empty(dir, own_totals(&stat)) {
                    run.injector.push(dir);
                    run.wake.notify_one();
                } else {
                    run.done_one();
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
        self.hire(&mut job, Begin::With(dir), (root, mount))
            .map_err(|error| no_thread(path.as_path(), &error))
    }
}

impl Run {
    fn new(most_threads: usize) -> Self {
        let queues: Vec<_> = (0..most_threads).map(|_| Queue::new_lifo()).collect();
        Self {
            injector: Injector::new(),
            pieces: Pieces::default(),
            cancelled: AtomicBool::new(false),
            over: AtomicBool::new(false),
            waits_for_disk: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            roll: Roll::default(),
            ledger: Ledger::new(processors()),
            stealers: queues.iter().map(Queue::stealer).collect(),
            queues: Mutex::new(queues),
            left_names: whole::LeftNames::default(),
            names_left: AtomicBool::new(false),
        }
    }

    /// How many workers have been started.
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether names are looked at in the order of their inodes, because the disk is what the workers wait for.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.waits_for_disk.load(Ordering::Relaxed)
    }

    /// For a worker that changes the tree. None where the run has ended without it: then it must not.
    pub(super) fn steady<'a>(&self, tree: &'a Tree) -> Option<Steady<'a>> {
        let steady = tree.steady();
        // `over` is only set while nobody is steady.
        (!self.is_over()).then_some(steady)
    }

    /// Takes the names that were left of a directory which was read from the device.
    pub(super) fn take_names(&self, dir: DirId) -> Option<whole::Names> {
        if self.names_left.load(Ordering::Acquire) { lock(&self.left_names).remove(&dir) } else { None }
    }

    pub(super) fn steal(&self, into: &Queue<DirId>) -> Option<DirId> {
        iter::repeat_with(|| {
            self.injector.steal().or_else(|| {
                self.stealers.iter().map(|other| other.steal_batch_and_pop(into)).collect::<Steal<_>>()
            })
        })
        .find(|steal| !steal.is_retry())
        .and_then(Steal::success)
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
        let threads = self.threads();
        threads > 1 && self.pieces.waiting() < threads.saturating_mul(PIECES_EACH)
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
}

/// A worker's time at work. The last to leave ends the run.
struct Shift {
    shared: Arc<Shared>,
    run: Arc<Run>,
}

impl Shift {
    fn begin(crew: &Crew) -> Self {
        Self { shared: Arc::clone(&crew.shared), run: Arc::clone(&crew.run) }
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        let Self { shared, run } = self;
        run.roll.sign_off();
        if thread::panicking() {
            run.cancel();
        }
        let mut job = lock(&shared.job);
        // Over: it was given up as stuck, and the others may be at another run by now.
        if !run.is_over() {
            job.active = job.active.saturating_sub(1);
            if job.active == 0 {
                shared.end(&mut job, run);
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn default_threads() -> usize {
    // With one processor a second thread still helps: it works while the first waits for the disk.
    processors().max(2)
}

/// How many processors this process may use.
fn processors() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}
