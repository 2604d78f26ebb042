//! Runs approved plans: guards, hands, verification. The only room that changes the machine.

use std::sync::atomic::AtomicBool;

use crate::config::{Environment, Settings};
use crate::domain::consent::Approved;
use crate::domain::protect::ProtectSet;
use crate::domain::receipt::Receipt;
use crate::journal::Journal;

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The step that runs, counted from 0.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The change, as it was shown.
    pub op: String,
    /// Entries done in this step.
    pub done: u64,
    /// Entries expected in this step, where known.
    pub expected: Option<u64>,
}

/// What a run is given.
pub struct Context<'a> {
    /// The surroundings of the run.
    pub environment: &'a Environment,
    /// The settings.
    pub settings: &'a Settings,
    /// What must never be touched.
    pub protect: &'a ProtectSet,
    /// Where it is written down.
    pub journal: &'a Journal,
    /// Set to stop after the change under way.
    pub cancel: &'a AtomicBool,
    /// Called as the run goes on.
    pub progress: &'a dyn Fn(Progress),
}

/// Runs an approved plan, step by step, and says what came of it. Failures are in the receipt.
pub fn run(approved: Approved, context: &Context<'_>) -> Receipt {
    let _ = (approved, context);
    unreachable!("replaced by the exec room")
}
