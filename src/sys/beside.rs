//! Two things at once, if a thread can be had. On a machine at its limit of processes none can: then they are done one
//! after the other, and both are done all the same.

use std::panic::resume_unwind;
use std::thread;

/// Does `other` in a thread of its own while this one does `own`; before `own` if no thread can be started. A panic goes
/// on in this thread.
pub fn beside<A: Send, B>(other: impl Fn() -> A + Sync, own: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, &other) {
        Ok(started) => {
            let own = own();
            (started.join().unwrap_or_else(|panic| resume_unwind(panic)), own)
        }
        Err(_) => (other(), own()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done() {
        assert_eq!(beside(|| 1, || 2), (1, 2));
    }
}
