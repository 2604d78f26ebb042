//! What workers measure of themselves: how much of their time they work, and whether they read from a disk. So that
//! it is known within a millisecond that they wait for it, and more of them would be done sooner.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rustix::time::{ClockId, clock_gettime};

use super::store::lock;

/// Names between two looks at the clock. With warm caches that is 20 µs of work, and a look takes 0.03 µs.
const NAMES: u32 = 16;

/// Between two entries of one worker, at least: an entry costs two calls of the kernel.
const SOON: Duration = Duration::from_micros(250);

/// And while it reads from no disk: each entry that says so is followed by one twice as late, up to this.
const LATE: Duration = Duration::from_millis(4);

/// Time of each worker that a decision takes. Sixteen are at work after some 10 ms.
const WINDOW: Duration = Duration::from_micros(500);

/// Of the processors' time, in percent: workers that use so much of it are kept from working by nothing else.
const BUSY: u128 = 85;

/// What a worker did with some of its time, or several with theirs.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// Time on the clock, of each.
    wall: Duration,
    /// Time on a processor.
    cpu: Duration,
    /// Whether it had something read from a disk.
    reads: bool,
}

/// What the workers of a run have entered since more of them were called for, or not.
pub(super) struct Ledger {
    spent: Mutex<Spent>,
    processors: usize,
    /// Nobody can be called for any more.
    closed: AtomicBool,
    /// More were called for.
    wanted: AtomicBool,
}

impl Ledger {
    /// For workers that may use so many processors.
    pub(super) fn new(processors: usize) -> Self {
        let (closed, wanted) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { spent: Mutex::default(), processors, closed, wanted }
    }

    /// Ends the measuring.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether more workers were called for since this was last asked.
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Notes what one of so many workers did. Says whether it is time to call for more.
    fn enter(&self, one: Spent, workers: usize) -> bool {
        let mut all = lock(&self.spent);
        all.wall += one.wall;
        all.cpu += one.cpu;
        all.reads |= one.reads;
        if all.wall < WINDOW * u32::try_from(workers).unwrap_or(u32::MAX) {
            return false;
        }
        let all = std::mem::take(&mut *all);
        let wanted = all.waits(workers, self.processors);
        if wanted {
            self.wanted.store(true, Ordering::Relaxed);
        }
        wanted
    }
}

impl Spent {
    /// Whether the workers wait for a disk while there are processors to spare. What the clock says alone would not
    /// tell: on a machine with much to do they wait for a processor.
    fn waits(&self, workers: usize, processors: usize) -> bool {
        let whole = |count: usize| u128::try_from(count.max(1)).unwrap_or(u128::MAX);
        let used = self.cpu.as_nanos().saturating_mul(whole(workers)).saturating_mul(100);
        let had = self.wall.as_nanos().saturating_mul(whole(processors)).saturating_mul(BUSY);
        self.reads && used < had
    }
}

/// One worker's own clock.
pub(super) struct Meter {
    names: u32,
    /// When the next entry is due.
    pause: Duration,
    since: Instant,
    cpu: Duration,
    blocks: i64,
}

impl Meter {
    /// Begins now. Of the calling thread.
    pub(super) fn new() -> Self {
        Self { names: 0, pause: SOON, since: Instant::now(), cpu: cpu_time(), blocks: blocks_read() }
    }

    /// Begins again: the time since the last entry was not spent on work.
    pub(super) fn restart(&mut self) {
        *self = Self { pause: self.pause, ..Self::new() };
    }

    /// Notes that a name was looked at, and now and then enters what was done with the time. Says whether it is time
    /// to call for more workers.
    pub(super) fn tick(&mut self, ledger: &Ledger, workers: impl FnOnce() -> usize) -> bool {
        self.names += 1;
        if self.names < NAMES || ledger.closed.load(Ordering::Relaxed) {
            return false;
        }
        self.names = 0;
        if self.since.elapsed() < self.pause {
            return false;
        }
        let now = Self::new();
        let spent = Spent {
            wall: now.since.duration_since(self.since),
            cpu: now.cpu.saturating_sub(self.cpu),
            reads: now.blocks > self.blocks,
        };
        let pause = if spent.reads { SOON } else { (self.pause * 2).min(LATE) };
        *self = Self { pause, ..now };
        ledger.enter(spent, workers())
    }
}

/// Processor time of the calling thread.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Blocks that the calling thread had read from a disk: `ru_inblock` of getrusage(2), which counts metadata, too
/// (`task_io_account_read` in `block/blk-core.c`). 0 in a kernel that does not count.
fn blocks_read() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.block_reads())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn spent(wall: u32, cpu: u32, reads: bool) -> Spent {
        Spent { wall: MS * wall, cpu: MS * cpu, reads }
    }

    #[test]
    fn workers_wait_for_a_disk_if_they_read_from_one_and_leave_processors_idle() {
        assert!(spent(10, 2, true).waits(2, 2));
        assert!(!spent(10, 9, true).waits(2, 2), "the processors are busy");
        assert!(!spent(10, 2, false).waits(2, 2), "nothing was read: others have the processors");
        assert!(!spent(10, 5, true).waits(4, 2), "two of four work at a time, and there are two processors");
        assert!(spent(10, 4, true).waits(4, 2));
        assert!(spent(10, 9, true).waits(2, 4));
    }

    #[test]
    fn a_decision_takes_its_time_of_each_worker_and_begins_anew() {
        let ledger = Ledger::new(2);
        let part = Spent { wall: WINDOW / 2, cpu: Duration::ZERO, reads: true };
        let said: Vec<_> = (0..8).map(|_| ledger.enter(part, 2)).collect();
        assert_eq!(said, [false, false, false, true, false, false, false, true]);
        assert!(ledger.take_wanted());
        assert!(!ledger.take_wanted(), "it was taken");
        assert!(!ledger.enter(spent(2, 2, true), 2));
        assert!(!ledger.take_wanted());
    }

    #[test]
    fn a_closed_ledger_is_not_written_to() {
        let ledger = Ledger::new(1);
        let mut meter = Meter { since: Instant::now().checked_sub(MS * 10).unwrap(), ..Meter::new() };
        meter.blocks = -1;
        meter.cpu = Duration::MAX;
        ledger.close();
        assert!((0..100).all(|_| !meter.tick(&ledger, || 1)));
        let ledger = Ledger::new(1);
        assert!((0..100).any(|_| meter.tick(&ledger, || 1)), "the same worker waits");
    }
}
