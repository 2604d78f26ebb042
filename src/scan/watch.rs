//! Watching the workers of a run: whether they wait for the disk, and whether one is stuck.

use std::sync::Mutex;
use std::time::Duration;

use rustix::thread::Pid;

use crate::sys::procfs;

use super::store::lock;

/// How often the workers are looked at in the first moments, when it matters most how many there are, and afterwards.
const EARLY: Duration = Duration::from_millis(4);
const LATER: Duration = Duration::from_millis(20);

/// Looks that are early ones.
const EARLY_LOOKS: u32 = 16;

/// After so many looks it is decided whether the workers wait for the disk.
const WINDOW: u32 = 5;

/// Workers that have not left so many looks after a cancellation, and were asleep in the kernel each time, are stuck:
/// 24 ms. They look at the cancel flag between any two calls of the kernel.
const PATIENCE: u32 = 6;

/// Threads of one run, most of them at work.
#[derive(Default)]
pub(super) struct Roll(Mutex<Vec<Pid>>);

impl Roll {
    /// The calling thread begins.
    pub(super) fn sign_on(&self) {
        lock(&self.0).push(rustix::thread::gettid());
    }

    /// The calling thread ends.
    pub(super) fn sign_off(&self) {
        let own = rustix::thread::gettid();
        lock(&self.0).retain(|&thread| thread != own);
    }

    /// How many threads there are, and of them those in an uninterruptible sleep, and those in any.
    fn look(&self) -> Look {
        let threads = lock(&self.0).clone();
        let mut look = Look { threads: u32::try_from(threads.len()).unwrap_or(u32::MAX), ..Look::default() };
        for thread in threads {
            let path = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
            // Without /proc all are taken to be busy.
            match std::fs::read(path).ok().and_then(|bytes| procfs::parse_stat(&bytes)).map(|stat| stat.state)
            {
                Some(b'D') => look.on_disk += 1,
                Some(b'S') => look.asleep += 1,
                _ => {}
            }
        }
        look
    }
}

#[derive(Clone, Copy, Default)]
struct Look {
    threads: u32,
    on_disk: u32,
    asleep: u32,
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Fine,
    /// The workers mostly wait for the disk (or a server): it could answer more of them at a time.
    WaitsForDisk,
    /// Cancelled, and those who are left will not come back soon.
    Stuck,
}

/// Looks at the workers now and then.
#[derive(Default)]
pub(super) struct Watch {
    looks: u32,
    window: Window,
    still: u32,
}

#[derive(Clone, Copy, Default)]
struct Window {
    looks: u32,
    threads: u32,
    on_disk: u32,
}

impl Watch {
    /// How long until the next look.
    pub(super) fn pause(&self, cancelled: bool) -> Duration {
        if cancelled || self.looks < EARLY_LOOKS { EARLY } else { LATER }
    }

    /// Looks at the workers, of whom `active` have not left yet.
    pub(super) fn look(&mut self, roll: &Roll, active: usize, cancelled: bool) -> Verdict {
        self.judge(roll.look(), active, cancelled)
    }

    fn judge(&mut self, look: Look, active: usize, cancelled: bool) -> Verdict {
        self.looks = self.looks.saturating_add(1);
        if cancelled {
            // One that has not signed on is at something that cannot go on without its run.
            let all_still = look.threads > 0
                && usize::try_from(look.on_disk + look.asleep).is_ok_and(|still| still >= active);
            self.still = if all_still { self.still + 1 } else { 0 };
            return if self.still >= PATIENCE { Verdict::Stuck } else { Verdict::Fine };
        }
        let window = &mut self.window;
        window.looks += 1;
        window.threads += look.threads;
        window.on_disk += look.on_disk;
        if window.looks < WINDOW {
            return Verdict::Fine;
        }
        let waits = window.on_disk > 0 && window.on_disk * 2 >= window.threads;
        *window = Window::default();
        if waits { Verdict::WaitsForDisk } else { Verdict::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(threads: u32, on_disk: u32, asleep: u32) -> Look {
        Look { threads, on_disk, asleep }
    }

    #[test]
    fn only_workers_that_mostly_wait_for_the_disk_get_help() {
        let judge = |looks: &[Look]| {
            let mut watch = Watch::default();
            looks.iter().map(|&look| watch.judge(look, 2, false)).collect::<Vec<_>>()
        };
        let fine = |count| vec![Verdict::Fine; count];
        assert_eq!(judge(&[look(2, 0, 0); 10]), fine(10));
        assert_eq!(judge(&[look(2, 0, 2); 10]), fine(10), "nothing to do is not waiting for the disk");
        assert_eq!(judge(&[look(0, 0, 0); 10]), fine(10));
        let mut waiting = fine(4);
        waiting.push(Verdict::WaitsForDisk);
        assert_eq!(judge(&[look(2, 1, 0); 5]), waiting);
        assert_eq!(
            judge(&[look(2, 2, 0), look(2, 0, 0), look(2, 0, 0), look(2, 0, 0), look(2, 1, 0)]),
            fine(5)
        );
    }

    #[test]
    fn a_worker_is_stuck_when_it_sleeps_on_after_the_cancellation_and_not_when_it_is_slow() {
        let mut watch = Watch::default();
        for _ in 1..PATIENCE {
            assert_eq!(watch.judge(look(1, 1, 0), 1, true), Verdict::Fine);
        }
        assert_eq!(
            watch.judge(look(1, 0, 0), 1, true),
            Verdict::Fine,
            "it runs, or would if there were a processor"
        );
        for _ in 1..PATIENCE {
            assert_eq!(watch.judge(look(2, 1, 1), 2, true), Verdict::Fine);
        }
        assert_eq!(watch.judge(look(2, 1, 1), 3, true), Verdict::Fine, "a third is at the device");
        for _ in 1..PATIENCE {
            assert_eq!(watch.judge(look(2, 1, 1), 2, true), Verdict::Fine);
        }
        assert_eq!(watch.judge(look(2, 1, 1), 2, true), Verdict::Stuck);
    }

    #[test]
    fn who_has_signed_on_is_seen_until_it_signs_off() {
        let roll = Roll::default();
        roll.sign_on();
        assert_eq!(roll.look().threads, 1);
        assert_eq!(roll.look().on_disk, 0);
        roll.sign_off();
        assert_eq!(roll.look().threads, 0);
    }
}
