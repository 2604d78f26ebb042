//! What was done, and what came of it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::finding::{ActionId, Finding, Reclaim};
use super::reading::Reading;
use super::size::Bytes;
use super::snapshot::Usage;
use super::text::HostPath;

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It worked.
    Done {
        /// Entries removed, processes ended, mounts unmounted.
        count: u64,
    },
    /// Part of it worked.
    Partly {
        /// What worked.
        count: u64,
        /// What did not, each a sentence; the first few of many.
        problems: Vec<String>,
    },
    /// A guard said no, or it was not needed.
    Skipped {
        /// Why.
        why: String,
    },
    /// It failed.
    Failed {
        /// Why.
        why: String,
    },
    /// It was cancelled before it was complete.
    Cancelled {
        /// What was done until then.
        count: u64,
    },
}

/// A step and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepReceipt {
    /// The change, as it was shown.
    pub op: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// A file system before and after.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SpaceDelta {
    /// A path on it.
    pub path: HostPath,
    /// Before the first step.
    pub before: Reading<Usage>,
    /// After the last.
    pub after: Reading<Usage>,
}

impl SpaceDelta {
    /// Space given back, as the file system saw it. Zero where it shrank or could not be read.
    pub fn freed(&self) -> Bytes {
        match (self.before.value(), self.after.value()) {
            (Some(before), Some(after)) => after.free.saturating_sub(before.free),
            _ => Bytes::ZERO,
        }
    }
}

/// What was done, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Receipt {
    /// The action.
    pub action: ActionId,
    /// The plan's summary.
    pub summary: String,
    /// When the first step began.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When the last step ended.
    #[schemars(with = "String")]
    pub ended: Timestamp,
    /// Each step.
    pub steps: Vec<StepReceipt>,
    /// What was promised.
    pub promised: Reclaim,
    /// What the file systems saw.
    pub space: Vec<SpaceDelta>,
    /// What the run itself found wrong ("space not returned").
    pub findings: Vec<Finding>,
    /// Where it was written down, and anything that kept it from being written where it should be.
    pub journal: String,
}

impl Receipt {
    /// Space given back on all file systems together.
    pub fn freed(&self) -> Bytes {
        self.space.iter().map(SpaceDelta::freed).sum()
    }

    /// Whether every step was done or not needed.
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.outcome, Outcome::Done { .. } | Outcome::Skipped { .. }))
    }
}
