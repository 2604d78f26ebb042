//! What was done, and what came of it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::{ActionId, Finding, Reclaim};
use super::reading::Reading;
use super::size::Bytes;
use super::snapshot::Usage;
use super::sweep::Class;
use super::text::{HostPath, HostText};

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
    /// A program was ended in the middle of its work: the run was cancelled, or the step skipped.
    Interrupted {
        /// How it ended and what state that leaves, as a sentence.
        why: String,
        /// Whether the run was cancelled.
        cancelled: bool,
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
    /// Why it ran although the run had been cancelled or a step had failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What went of a directory that was swept, each by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<HostText>,
}

/// A file system before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// What is in a directory that is swept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SweepCount {
    /// Entries.
    pub entries: u64,
    /// Old and unused files among them, those that were left out included.
    pub old_files: u64,
    /// Old and unused directories among them, likewise.
    pub old_dirs: u64,
}

impl SweepCount {
    /// Counts something old.
    pub fn add(&mut self, class: Class) {
        match class {
            Class::OldFile => self.old_files += 1,
            Class::EmptyDir | Class::OldDir => self.old_dirs += 1,
        }
    }
}

/// A directory before and after it was swept.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SweepDelta {
    /// The directory.
    pub path: HostPath,
    /// When the plan was made.
    pub before: SweepCount,
    /// After the run, of what was old before.
    pub after: Reading<SweepCount>,
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
    /// What is left in directories that were swept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swept: Vec<SweepDelta>,
    /// What the run itself found wrong ("space not returned").
    pub findings: Vec<Finding>,
    /// Where it was written down, and anything that kept it from being written where it should be.
    pub journal: String,
}

/// What became of a basket.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BasketReceipt {
    /// When the first part began.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When the last part ended.
    #[schemars(with = "String")]
    pub ended: Timestamp,
    /// Each part that ran, in order.
    pub parts: Vec<Receipt>,
    /// Summaries of the parts that were not needed any more: the goal was reached before them.
    pub not_needed: Vec<String>,
    /// The file systems before the first part and after the last.
    pub space: Vec<SpaceDelta>,
    /// Mounts in all namespaces that can be seen, before.
    pub mounts_before: Reading<u64>,
    /// And after.
    pub mounts_after: Reading<u64>,
}

impl BasketReceipt {
    /// Space given back on all file systems together.
    pub fn freed(&self) -> Bytes {
        self.space.iter().map(SpaceDelta::freed).sum()
    }

    /// What the parts that ran had promised together.
    pub fn promised(&self) -> Reclaim {
        self.parts.iter().map(|part| part.promised).fold(Reclaim::Nothing, Reclaim::plus)
    }

    /// Whether every step of every part was done or not needed.
    pub fn is_clean(&self) -> bool {
        self.parts.iter().all(Receipt::is_clean)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        let mut steps = self.parts.iter().flat_map(|part| &part.steps);
        steps.any(|step| {
            matches!(step.outcome, Outcome::Cancelled { .. } | Outcome::Interrupted { cancelled: true, .. })
        })
    }

    /// Entries removed, processes ended, mounts unmounted.
    pub fn count(&self) -> u64 {
        self.parts.iter().flat_map(|part| &part.steps).map(|step| step.outcome.count()).sum()
    }
}

impl Outcome {
    /// What was done: entries removed, processes ended, mounts unmounted.
    pub fn count(&self) -> u64 {
        match self {
            Self::Done { count } | Self::Partly { count, .. } | Self::Cancelled { count } => *count,
            Self::Skipped { .. } | Self::Failed { .. } | Self::Interrupted { .. } => 0,
        }
    }
}

impl Receipt {
    /// Space given back on all file systems together.
    pub fn freed(&self) -> Bytes {
        self.space.iter().map(SpaceDelta::freed).sum()
    }

    /// The same without the names of what went.
    #[must_use]
    pub fn without_names(&self) -> Self {
        let step = |step: &StepReceipt| StepReceipt {
            op: step.op.clone(),
            outcome: step.outcome.clone(),
            note: step.note.clone(),
            gone: Vec::new(),
        };
        Self {
            action: self.action,
            summary: self.summary.clone(),
            started: self.started,
            ended: self.ended,
            steps: self.steps.iter().map(step).collect(),
            promised: self.promised,
            space: self.space.clone(),
            swept: self.swept.clone(),
            findings: self.findings.clone(),
            journal: self.journal.clone(),
        }
    }

    /// Whether every step was done or not needed.
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.outcome, Outcome::Done { .. } | Outcome::Skipped { .. }))
    }
}
