//! What the threads that empty one tree share: the directories that are still to be entered, what was removed,
//! what stays and why.
//!
//! Each worker goes down first, along its own list, and takes what another has had longest when its own is empty: big
//! pieces near the top. So every open directory is on the way from the top to where some worker is, and the
//! number of open directories can be bounded for all together ([`Crew::may_open`]).

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::own::{self, Before};
use crate::domain::text::HostText;
use crate::exec::Stop;
use crate::exec::words::could_not;

/// Most threads for one tree: they share one file system's journal. Measured with two; a guess beyond.
pub const MAX_WORKERS: usize = 4;
/// Directories open at the same time below the top; with the top (twice), its parent and the quarantine 64.
const MAX_OPEN: usize = 60;
/// Of these, what a worker may open below the first level. The others are for what there is no other way for: of each worker
/// one at the first level, or two where it is deeper than that.
const MAX_DEEPER: usize = MAX_OPEN - 2 * MAX_WORKERS;
/// Problems that are kept; more are counted.
const MAX_PROBLEMS: usize = 10;

/// A directory that is open.
pub struct Node<'a> {
    /// It.
    pub dir: OwnedFd,
    /// Its name in the one above; empty for the top.
    pub name: CString,
    /// The one above; none for the top.
    pub above: Option<Arc<Node<'a>>>,
    /// What is still to be done in it: its subdirectories, and one for reading it.
    pub left: AtomicUsize,
    /// Something in it stays, and it was said why.
    pub stays: AtomicBool,
    /// How often it was read.
    pub rounds: AtomicU32,
    /// It was removed.
    pub gone: AtomicBool,
    /// The mode that it had, where it had to be made one that its owner can empty.
    before: Mutex<Option<Before>>,
    open: &'a OpenDirs,
}

impl Node<'_> {
    /// Makes a directory of our own one that we can empty. Says whether what its mode refused is worth another try.
    pub fn open_up(&self) -> bool {
        let mut before = lock(&self.before);
        if before.is_none() {
            *before = own::open_up(&self.dir).unwrap_or(None);
        }
        before.is_some()
    }
}

impl Drop for Node<'_> {
    /// Nobody works in it any more: it is gone, or it stays and gets its mode back.
    fn drop(&mut self) {
        self.open.count.fetch_sub(1, Ordering::Relaxed);
        let before = self.before.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before.take()
            && !*self.gone.get_mut()
            && let Err(errno) = own::give_back(&self.dir, before)
        {
            let why = could_not("give it back its mode", errno);
            let name = HostText::new(self.name.as_bytes());
            lock(&self.open.unlike_before).push(format!("{name}: {why}"));
        }
    }
}

/// The directories that are open.
pub struct OpenDirs {
    count: AtomicUsize,
    /// What is said of those that stay and could not get their mode back.
    unlike_before: Mutex<Vec<String>>,
}

impl OpenDirs {
    /// The top is open.
    pub fn new() -> Self {
        Self { count: AtomicUsize::new(1), unlike_before: Mutex::default() }
    }
}

/// A directory that is to be entered.
pub struct Item<'a> {
    /// Where it is.
    pub above: Arc<Node<'a>>,
    /// Its name there.
    pub name: CString,
}

/// The directories to be entered, by the worker who found them, and whether there is nothing more to do.
#[derive(Default)]
struct Work<'a> {
    lists: Vec<VecDeque<Item<'a>>>,
    over: bool,
}

#[derive(Default)]
struct Problems {
    kept: Vec<String>,
    more: u64,
}

/// What the workers share.
pub struct Crew<'a> {
    work: Mutex<Work<'a>>,
    news: Condvar,
    problems: Mutex<Problems>,
    /// Entries removed.
    pub removed: AtomicU64,
    stop: Stop<'a>,
    cancelled: AtomicBool,
    open: &'a OpenDirs,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked has left nothing half-done under a lock: each holder makes one change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Crew<'a> {
    /// A crew with nothing to do yet. `open` counts the open directories.
    pub fn new(workers: usize, stop: Stop<'a>, open: &'a OpenDirs) -> Self {
        let lists = (0..workers).map(|_| VecDeque::new()).collect();
        Self {
            work: Mutex::new(Work { lists, over: false }),
            news: Condvar::new(),
            problems: Mutex::default(),
            removed: AtomicU64::new(0),
            stop,
            cancelled: AtomicBool::new(false),
            open,
        }
    }

    /// An opened directory that is about to be read; one that [`Crew::may_open`] allowed, or the top.
    pub fn node(&self, dir: OwnedFd, name: CString, above: Option<Arc<Node<'a>>>) -> Arc<Node<'a>> {
        self.node_opened_up(dir, name, above, None)
    }

    /// The same of one that had to be made readable first.
    pub fn node_opened_up(
        &self,
        dir: OwnedFd,
        name: CString,
        above: Option<Arc<Node<'a>>>,
        before: Option<Before>,
    ) -> Arc<Node<'a>> {
        Arc::new(Node {
            dir,
            name,
            above,
            left: AtomicUsize::new(1),
            stays: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            before: Mutex::new(before),
            open: self.open,
        })
    }

    /// Counts one more open directory, unless there are too many. The caller makes a [`Node`] of it or calls
    /// [`Crew::not_opened`].
    pub fn may_open(&self, first_level: bool) -> bool {
        let before = self.open.count.fetch_add(1, Ordering::Relaxed);
        if first_level || before < MAX_DEEPER {
            return true;
        }
        self.not_opened();
        false
    }

    /// Takes back what [`Crew::may_open`] counted.
    pub fn not_opened(&self) {
        self.open.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// The next directory for this worker; waits where others may still find some. None at the end.
    pub fn take(&self, own: usize) -> Option<Item<'a>> {
        let mut work = lock(&self.work);
        loop {
            if work.over {
                return None;
            }
            let mine = work.lists.get_mut(own).and_then(VecDeque::pop_back);
            let item = mine.or_else(|| work.lists.iter_mut().find_map(VecDeque::pop_front));
            if item.is_some() {
                return item;
            }
            work = self.news.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds directories to the list of a worker, who takes the last one first.
    pub fn add(&self, own: usize, items: impl Iterator<Item = Item<'a>>) {
        if let Some(list) = lock(&self.work).lists.get_mut(own) {
            list.extend(items);
        }
        self.news.notify_all();
    }

    /// There is nothing more to do.
    pub fn end(&self) {
        lock(&self.work).over = true;
        self.news.notify_all();
    }

    /// Whether everybody shall stop.
    pub fn is_cancelled(&self) -> bool {
        if self.cancelled.load(Ordering::Relaxed) {
            return true;
        }
        let now = self.stop.wanted();
        if now {
            self.cancelled.store(true, Ordering::Relaxed);
            self.end();
        }
        now
    }

    /// Writes down what stays and why.
    pub fn problem(&self, text: String) {
        let mut problems = lock(&self.problems);
        if problems.kept.len() < MAX_PROBLEMS {
            problems.kept.push(text);
        } else {
            problems.more += 1;
        }
    }

    /// Whether it was cancelled, how many entries were removed, and what stays and why.
    pub fn finish(self) -> (bool, u64, Vec<String>) {
        // What nobody got to keeps the directories above it open, until here.
        drop(self.work);
        let Problems { mut kept, more } = self.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        if more > 0 {
            kept.push(format!("and {more} more"));
        }
        kept.append(&mut lock(&self.open.unlike_before));
        (self.cancelled.into_inner(), self.removed.into_inner(), kept)
    }
}
