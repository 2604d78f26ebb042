//! How a person stops a run, or one step of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The step that a person wants left out. It names one step of one run, so that a key that comes too late hits
/// nothing.
#[derive(Debug, Default)]
pub struct Skip(AtomicU64);

impl Skip {
    /// Asks for the step with this number ([`crate::exec::Progress::number`]) to be left as it is.
    pub fn ask(&self, number: u64) {
        self.0.store(number.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether that was asked for a step.
    pub fn wants(&self, number: u64) -> bool {
        self.0.load(Ordering::Relaxed) == number.saturating_add(1)
    }
}

/// What a step under way looks at again and again.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    pub(super) cancel: &'a AtomicBool,
    pub(super) skip: &'a Skip,
    pub(super) number: u64,
}

impl Stop<'_> {
    /// Whether the step shall stop: the run was cancelled, or this step skipped.
    pub fn wanted(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.skip.wants(self.number)
    }
}
