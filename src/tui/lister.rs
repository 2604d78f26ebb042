//! Keeps the rows of the directory on the screen coming, in a thread of its own: sorting a huge directory
//! never keeps a key waiting. Latest wins on both sides.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::scan::{NodeId, Page, Scan, SortKey, Window};

use super::event::{Listed, Ticket};

/// From one look at a scan under way to the next: more than five a second.
const PACE: Duration = Duration::from_millis(180);
/// The same when the scan has just begun: the first sizes should be there at once, and looking is cheap while there
/// is little to see.
const FIRST_PACE: Duration = Duration::from_millis(12);

/// What is to be shown.
#[derive(Clone)]
struct Wanted {
    ticket: Ticket,
    scan: Scan,
    dir: NodeId,
    sort: SortKey,
    reverse: bool,
    window: Window,
}

/// A change to the tree, made in this thread because it may have to wait for the scanner.
enum Chore {
    Forget(Scan, Vec<NodeId>),
    Rescan(Scan, NodeId, Option<NodeId>),
}

#[derive(Default)]
struct Desk {
    wanted: Option<Wanted>,
    chores: VecDeque<Chore>,
    /// Whether there is something new on the desk.
    new: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    bell: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread and what it is told. It ends when this is dropped.
pub struct Lister {
    shared: Arc<Shared>,
}

impl Drop for Lister {
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.bell.notify_one();
    }
}

impl Lister {
    /// Starts the thread. `tell` is told, in one line, what could not be done.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        tell: impl Fn(String) + Send + 'static,
    ) -> io::Result<(Self, watch::Receiver<Option<Listed>>)> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = watch::channel(None);
        let desk = Arc::clone(&shared);
        std::thread::Builder::new().name("lister".to_owned()).spawn(move || work(&desk, &sender, &tell))?;
        Ok((Self { shared }, receiver))
    }

    /// Shows these rows of a directory from now on: at once, or with the next look where the scan is under way.
    pub fn show(
        &self,
        (ticket, scan): (Ticket, &Scan),
        dir: NodeId,
        (sort, reverse): (SortKey, bool),
        window: Window,
        now: bool,
    ) {
        let wanted = Wanted { ticket, scan: scan.clone(), dir, sort, reverse, window };
        if now {
            self.put(|desk| desk.wanted = Some(wanted));
        } else {
            self.shared.desk().wanted = Some(wanted);
        }
    }

    /// Shows nothing; the scan can go.
    pub fn drop_scan(&self) {
        self.put(|desk| {
            desk.wanted = None;
            desk.chores.clear();
        });
    }

    /// Takes deleted entries out of the tree.
    pub fn forget(&self, scan: &Scan, nodes: Vec<NodeId>) {
        self.put(|desk| desk.chores.push_back(Chore::Forget(scan.clone(), nodes)));
    }

    /// Scans a directory again, or another one where it is gone.
    pub fn rescan(&self, scan: &Scan, dir: NodeId, or_else: Option<NodeId>) {
        self.put(|desk| desk.chores.push_back(Chore::Rescan(scan.clone(), dir, or_else)));
    }

    fn put(&self, change: impl FnOnce(&mut Desk)) {
        let mut desk = self.shared.desk();
        change(&mut desk);
        desk.new = true;
        drop(desk);
        self.shared.bell.notify_one();
    }
}

fn work(shared: &Shared, sender: &watch::Sender<Option<Listed>>, tell: &dyn Fn(String)) {
    // How long to wait before looking again, or none where nothing can change by itself.
    let mut pause: Option<Duration> = None;
    let mut rescans: u64 = 0;
    loop {
        let (wanted, chores) = {
            let mut desk = shared.desk();
            while !desk.new && !desk.closed {
                match pause {
                    Some(pause) => {
                        desk =
                            shared.bell.wait_timeout(desk, pause).unwrap_or_else(PoisonError::into_inner).0;
                        break;
                    }
                    None => desk = shared.bell.wait(desk).unwrap_or_else(PoisonError::into_inner),
                }
            }
            if desk.closed {
                return;
            }
            desk.new = false;
            (desk.wanted.clone(), std::mem::take(&mut desk.chores))
        };
        for chore in chores {
            rescans += u64::from(matches!(chore, Chore::Rescan(..)));
            perform(chore, tell);
        }
        let Some(wanted) = wanted else {
            pause = None;
            continue;
        };
        let began = Instant::now();
        // The progress first: rows listed after "finished" are final.
        let progress = wanted.scan.progress();
        let reading = wanted.scan.reading();
        let page = wanted.scan.page(wanted.dir, wanted.sort, wanted.reverse, &wanted.window).map(Arc::new);
        let busy =
            !progress.finished || (!progress.cancelled && page.as_ref().is_some_and(|page| is_growing(page)));
        let took = began.elapsed();
        let rhythm = (progress.elapsed / 4).clamp(FIRST_PACE, PACE);
        // Looking must not become what the machine is busy with.
        pause = busy.then(|| rhythm.saturating_sub(took).max(took));
        let now = Timestamp::now().as_second();
        let listed = Listed { scan: wanted.ticket, dir: wanted.dir, page, progress, reading, rescans, now };
        if sender.send(Some(listed)).is_err() {
            return;
        }
    }
}

fn is_growing(page: &Page) -> bool {
    page.listing.dir.flags.scanning || page.listing.rows.iter().any(|row| row.flags.scanning)
}

fn perform(chore: Chore, tell: &dyn Fn(String)) {
    match chore {
        Chore::Forget(scan, nodes) => {
            for node in nodes {
                scan.forget(node);
            }
        }
        Chore::Rescan(scan, dir, or_else) => {
            let outcome = match (scan.rescan(dir), or_else) {
                (Err(_), Some(other)) => scan.rescan(other),
                (outcome, _) => outcome,
            };
            if let Err(error) = outcome {
                tell(error.to_string());
            }
        }
    }
}
