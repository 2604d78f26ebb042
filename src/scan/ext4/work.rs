//! Sharing numbered jobs out among threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::why::Why;

/// More threads than this never helped.
const MOST_THREADS: usize = 64;

/// Does the jobs `0..count`, each once, in about ascending order, on up to `threads` threads, each with a state of
/// its own, and hands the states back. The first error, or `cancel`, stops all.
///
/// # Errors
/// The first error of a job, or [`Why::Cancelled`].
pub(super) fn share<S: Send>(
    threads: usize,
    count: usize,
    cancel: &AtomicBool,
    start: impl Fn() -> S + Sync,
    job: impl Fn(&mut S, usize) -> Result<(), Why> + Sync,
) -> Result<Vec<S>, Why> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let run = || {
        let mut state = start();
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(Why::Cancelled);
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || failed.load(Ordering::Relaxed) {
                return Ok(state);
            }
            if let Err(why) = job(&mut state, number) {
                failed.store(true, Ordering::Relaxed);
                return Err(why);
            }
        }
    };
    let helpers = threads.clamp(1, MOST_THREADS).min(count.max(1)).saturating_sub(1);
    thread::scope(|scope| {
        // A thread that cannot be started is done without: this thread does all that is left.
        let spawned: Vec<_> =
            (0..helpers).map_while(|_| thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        let own = run();
        let mut states = Vec::with_capacity(spawned.len().saturating_add(1));
        let mut first_error = None;
        let all = std::iter::once(own).chain(
            spawned.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic))),
        );
        for result in all {
            match result {
                Ok(state) => states.push(state),
                Err(why) => first_error = first_error.or(Some(why)),
            }
        }
        first_error.map_or(Ok(states), Err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_an_error_stops_all() {
        let cancel = AtomicBool::new(false);
        let push = |done: &mut Vec<usize>, number| {
            done.push(number);
            Ok(())
        };
        let mut done = share(4, 1000, &cancel, Vec::new, push).unwrap().concat();
        done.sort_unstable();
        assert_eq!(done, (0..1000).collect::<Vec<_>>());

        let fail = |(): &mut (), number| if number == 7 { Err(Why::NotExt4) } else { Ok(()) };
        assert!(matches!(share(3, usize::MAX, &cancel, || (), fail), Err(Why::NotExt4)));

        cancel.store(true, Ordering::Relaxed);
        assert!(matches!(share(2, 5, &cancel, Vec::new, push), Err(Why::Cancelled)));
    }
}
