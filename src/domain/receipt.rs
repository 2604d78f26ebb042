//! What was done, and what came of it.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::basket::Goal;
use super::finding::{ActionId, Finding, Reclaim};
use super::reading::Reading;
use super::size::Bytes;
use super::snapshot::Usage;
use super::sweep::Class;
use super::text::{HostPath, HostText};

/// Reasons that are told one by one.
const TOLD: usize = 3;

/// How the reason begins of a step that was left out because another one did its work, or there was nothing to take back.
pub const NOT_NEEDED: &str = "not needed";

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
    /// What it was for, as it was shown, if the change itself has only an id for what that names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it ran although the run had been cancelled or a step had failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What went of a directory that was swept, each by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<HostText>,
}

/// What became of a run as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every step was done, or was not needed.
    Done,
    /// Some of it was done.
    Partly,
    /// Nothing was done.
    Nothing,
    /// It was cancelled, before it was complete.
    Cancelled,
}

impl Standing {
    fn of(steps: &[&StepReceipt]) -> Self {
        let is_cancelled = |step: &StepReceipt| {
            matches!(step.outcome, Outcome::Cancelled { .. } | Outcome::Interrupted { cancelled: true, .. })
        };
        let is_done = |step: &StepReceipt| matches!(step.outcome, Outcome::Done { .. });
        if steps.iter().any(|step| is_cancelled(step)) {
            Self::Cancelled
        } else if !steps.iter().any(|step| is_done(step) || step.outcome.count() > 0) {
            Self::Nothing
        } else if steps.iter().all(|step| is_done(step) || step.outcome.is_not_needed()) {
            Self::Done
        } else {
            Self::Partly
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::Partly => "not all was done",
            Self::Nothing => "nothing was done",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Steps of which the same is to be told, put together: those with one outcome and one note. In the order of the first of
/// each.
pub fn alike<'s>(steps: impl IntoIterator<Item = &'s StepReceipt>) -> Vec<Vec<&'s StepReceipt>> {
    let mut groups: Vec<Vec<&StepReceipt>> = Vec::new();
    for step in steps {
        let same = |group: &&mut Vec<&StepReceipt>| {
            group.first().is_some_and(|first| first.outcome == step.outcome && first.note == step.note)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(step),
            None => groups.push(vec![step]),
        }
    }
    groups
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

/// Mounts before and after.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct MountsDelta {
    /// Before the first step.
    pub before: Reading<u64>,
    /// After the last.
    pub after: Reading<u64>,
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
    /// Of the mounts that it set out to unmount, those that were there and those that are; none if there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmounted: Option<MountsDelta>,
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
    /// What it was chosen to reach, if a goal was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Summaries of the parts that were not needed any more: the goal was reached before them.
    pub not_needed: Vec<String>,
    /// The file systems before the first part and after the last.
    pub space: Vec<SpaceDelta>,
    /// Mounts in all namespaces that can be seen; none if nothing was to be unmounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<MountsDelta>,
}

impl BasketReceipt {
    /// Space given back on all file systems together.
    pub fn freed(&self) -> Bytes {
        self.space.iter().map(SpaceDelta::freed).sum()
    }

    /// Space given back where it was wanted; none if there was no goal, or that file system does not tell.
    pub fn towards_goal(&self) -> Option<Bytes> {
        let goal = self.goal.as_ref()?;
        let delta = self.space.iter().find(|delta| delta.path == goal.mount_point)?;
        delta.before.value().and(delta.after.value())?;
        Some(delta.freed())
    }

    /// Why the goal was not reached, as sentences; empty if it was, or there was none.
    pub fn why_not_more(&self) -> Vec<String> {
        let Some(goal) = &self.goal else { return Vec::new() };
        let Some(freed) = self.towards_goal() else {
            return vec![format!(
                "{} does not tell its free space, so nobody can say what came back",
                goal.mount_point
            )];
        };
        if freed >= goal.bytes {
            return Vec::new();
        }
        let mut why = Vec::new();
        if self.standing() == Standing::Cancelled {
            why.push("it was cancelled".to_owned());
        }
        let most = self.promised().bounds().1;
        if most < goal.bytes && self.promised() != Reclaim::Unknown {
            why.push(format!("all that was chosen promised no more than {most}"));
        }
        let steps = self.parts.iter().flat_map(|part| &part.steps);
        let (mut not_done, mut count) = (Vec::new(), 0_u64);
        for step in steps {
            let reason = match &step.outcome {
                Outcome::Partly { problems, .. } => problems.first().cloned().unwrap_or_default(),
                outcome if outcome.is_not_needed() => continue,
                Outcome::Skipped { why } | Outcome::Failed { why } | Outcome::Interrupted { why, .. } => {
                    why.clone()
                }
                Outcome::Done { .. } | Outcome::Cancelled { .. } => continue,
            };
            count += 1;
            if not_done.len() < TOLD && !not_done.contains(&reason) {
                not_done.push(reason);
            }
        }
        if count > 0 {
            let steps = if count == 1 { "1 step was".to_owned() } else { format!("{count} steps were") };
            why.push(format!("{steps} not done, or not wholly: {}", not_done.join("; ")));
        }
        for finding in self.parts.iter().flat_map(|part| &part.findings) {
            why.push(finding.title.clone());
        }
        if why.is_empty() {
            why.push(format!(
                "the file system gave back {freed} of what was promised ({}): others write to it meanwhile, or its space comes \
                 back later",
                self.promised()
            ));
        }
        why
    }

    /// What the parts that ran had promised together.
    pub fn promised(&self) -> Reclaim {
        self.parts.iter().map(|part| part.promised).fold(Reclaim::Nothing, Reclaim::plus)
    }

    /// What became of it as a whole.
    pub fn standing(&self) -> Standing {
        Standing::of(&self.parts.iter().flat_map(|part| &part.steps).collect::<Vec<_>>())
    }

    /// Whether every step of every part was done or not needed.
    pub fn is_clean(&self) -> bool {
        self.parts.iter().all(Receipt::is_clean)
    }

    /// Entries removed, processes ended, mounts unmounted.
    pub fn count(&self) -> u64 {
        self.parts.iter().flat_map(|part| &part.steps).map(|step| step.outcome.count()).sum()
    }
}

impl Outcome {
    /// Whether the step was left out because nothing was left for it to do.
    pub fn is_not_needed(&self) -> bool {
        matches!(self, Self::Skipped { why } if why.starts_with(NOT_NEEDED))
    }

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
            why: step.why.clone(),
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
            unmounted: self.unmounted.clone(),
            findings: self.findings.clone(),
            journal: self.journal.clone(),
        }
    }

    /// What became of it as a whole.
    pub fn standing(&self) -> Standing {
        Standing::of(&self.steps.iter().collect::<Vec<_>>())
    }

    /// Whether every step was done or not needed.
    pub fn is_clean(&self) -> bool {
        let is_well =
            |step: &StepReceipt| matches!(step.outcome, Outcome::Done { .. }) || step.outcome.is_not_needed();
        self.steps.iter().all(is_well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(free: u64) -> Reading<Usage> {
        let (total, free) = (Bytes(1 << 30), Bytes(free));
        Reading::ready(Usage { total, free, available: free, inodes: 10, inodes_free: 5 })
    }

    fn receipt(outcome: Outcome, promised: u64, freed: u64) -> BasketReceipt {
        let now = Timestamp::UNIX_EPOCH;
        let step =
            StepReceipt { op: "x".to_owned(), why: String::new(), outcome, note: None, gone: Vec::new() };
        let part = Receipt {
            action: ActionId::Delete,
            summary: "x".to_owned(),
            started: now,
            ended: now,
            steps: vec![step],
            promised: Reclaim::exact(Bytes(promised)),
            space: Vec::new(),
            swept: Vec::new(),
            unmounted: None,
            findings: Vec::new(),
            journal: String::new(),
        };
        BasketReceipt {
            started: now,
            ended: now,
            parts: vec![part],
            goal: Some(Goal { mount_point: "/".into(), bytes: Bytes(100) }),
            not_needed: Vec::new(),
            space: vec![SpaceDelta { path: "/".into(), before: usage(0), after: usage(freed) }],
            mounts: None,
        }
    }

    #[test]
    fn a_goal_that_was_missed_says_why() {
        let done = || Outcome::Done { count: 1 };
        assert_eq!(receipt(done(), 100, 100).why_not_more(), Vec::<String>::new());
        let little = receipt(done(), 60, 60).why_not_more();
        assert!(little[0].contains("no more than 60 B"), "{little:?}");
        let skipped = receipt(Outcome::Skipped { why: "in use".to_owned() }, 100, 0).why_not_more();
        assert_eq!(skipped, ["1 step was not done, or not wholly: in use"]);
        let late = receipt(done(), 100, 40).why_not_more();
        assert!(late[0].contains("gave back 40 B"), "{late:?}");
        let mut silent = receipt(done(), 100, 100);
        silent.space.clear();
        assert!(silent.why_not_more()[0].contains("does not tell"));
    }

    #[test]
    fn the_title_says_what_was_done() {
        let step = |op: &str, outcome| StepReceipt {
            op: op.to_owned(),
            why: String::new(),
            outcome,
            note: None,
            gone: Vec::new(),
        };
        let skipped = |why: &str| Outcome::Skipped { why: why.to_owned() };
        let done = || step("a", Outcome::Done { count: 1 });
        let not_needed = || step("b", skipped(&format!("{NOT_NEEDED}: the step before did it")));
        let in_use = || step("c", skipped("in use"));
        let cancelled = || step("d", Outcome::Cancelled { count: 0 });
        for (steps, expected) in [
            (vec![done(), not_needed()], Standing::Done),
            (vec![done(), in_use()], Standing::Partly),
            (vec![in_use(), in_use()], Standing::Nothing),
            (vec![done(), cancelled()], Standing::Cancelled),
        ] {
            assert_eq!(Standing::of(&steps.iter().collect::<Vec<_>>()), expected, "{steps:?}");
        }
        let steps = [in_use(), cancelled(), in_use()];
        let groups = alike(&steps);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }
}
