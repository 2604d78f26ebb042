//! What will be done, before anybody agreed to it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::{ActionId, Reclaim};
use super::identity::DevId;
use super::op::Op;
use super::own_command::OwnCommand;
use super::text::HostPath;

/// What can be lost. Ordered: later is worse. Decides what consent a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Nothing: it regenerates itself.
    Routine,
    /// Work in progress is interrupted, or something must be built again.
    Disruptive,
    /// Data is gone for good.
    Destructive,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Routine => "routine",
            Self::Disruptive => "disruptive",
            Self::Destructive => "destructive",
        })
    }
}

/// A check made just before a step, on the machine as it is then. One that fails skips the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// The file is still the one that was shown: mount, inode, birth time, size and modification time.
    SameFile,
    /// A file that somebody is writing is still the same where it only grew; [`Guard::SameFile`] gives way that far.
    MayHaveGrown,
    /// Neither it nor anything it contains or is contained in is protected.
    NotProtected,
    /// No mount, of any mount namespace, is on it or below it.
    NoMountsBelow,
    /// The file system can be written.
    Writable,
    /// Nothing has the name.
    NameFree,
    /// Nobody has the file open or mapped.
    NotInUse,
    /// Only what is old is removed: by the newest of its times, and never what the keep list names.
    Old,
    /// A run takes so many files, so much of the file system and so long at most.
    Bounded,
    /// The process is still the one that was shown: start time, executable, cgroup, user.
    SameProcess,
    /// The process is not this program, an ancestor of it, pid 1 or a kernel thread.
    NotOurselves,
    /// The mount on top of the mount point is still the one that was shown.
    TopMount,
    /// The log is still the same file, whatever was written to it, and has one name; its directory is one that only the
    /// system's accounts may change.
    SameLog,
    /// Only root and this person may write to the configuration file and to the directories it is in, and it is no link.
    OwnConfig,
    /// No build and no pull of a container engine runs.
    NothingBuilds,
    /// The image, container or volume is listed again: it is still there, has the same names, and nothing uses it.
    StillUnused,
    /// Nothing that speaks against cleaning it holds: its program does not run, its lock is free, its service is idle.
    NotBusy,
    /// The deleted file is still the one that was shown, still has no name, and is not mapped by anybody.
    StillDeleted,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameFile => "skipped if the file changed since it was shown",
            Self::MayHaveGrown => "taken also if it only grew and somebody still has it open",
            Self::NotProtected => "refused if it is, holds or is inside something protected",
            Self::NoMountsBelow => "refused if a mount or the kernel uses it, in any namespace",
            Self::NameFree => "never in the place of anything else",
            Self::Writable => "refused on a read-only file system",
            Self::NotInUse => "skipped while anybody has it open or mapped",
            Self::Old => "only what the plan names, still the same, called young by none of its time stamps and named by no keep list",
            Self::Bounded => "stops at 20 % of the file system, 100,000 entries or 10 minutes, whichever comes first",
            Self::SameProcess => "skipped unless start time, executable, cgroup and user are still the same",
            Self::NotOurselves => "never this program, its parents, pid 1 or a kernel thread",
            Self::TopMount => "skipped unless this very mount is still on top of its mount point",
            Self::SameLog => {
                "skipped unless it is the same log, with one name, where only the system's accounts may rename"
            }
            Self::OwnConfig => {
                "refused if it is a link or others may write to it; replaced as a whole, or not at all"
            }
            Self::NothingBuilds => "refused while a build or a pull of a container engine runs",
            Self::StillUnused => "listed again; skipped if it is gone, renamed or in use",
            Self::NotBusy => "refused while its program runs, its lock is held or its service is active",
            Self::StillDeleted => "skipped unless it is the same file, still without a name, and not mapped",
        })
    }
}

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// In its turn.
    Always,
    /// Only where the step before it (of the same group) did not do the job: the process is still alive, the
    /// mount still there.
    IfPreviousFailed,
    /// Only where the last executed step before it of the same group worked.
    IfPreviousWorked,
    /// Takes back what a step before it of the same group did for the time of the run (stops a service): wherever that
    /// one has begun, also after a cancel or a failure.
    Restores,
}

/// What a failed step means for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Go on with the next step.
    Continue,
    /// Stop here.
    Stop,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// The change.
    pub op: Op,
    /// What it is for, as a short sentence.
    pub why: String,
    /// Steps about the same operand share a number; [`When`] looks at these only.
    pub group: u32,
    /// When it runs.
    pub when: When,
    /// What is checked just before.
    pub guards: Vec<Guard>,
    /// What a failure means.
    pub on_error: OnError,
    /// What it gives back where it does its work. Counted for steps that run in their turn only: a step that stands in
    /// for another one ([`When`]) gives back what that one would have.
    pub frees: Reclaim,
    /// The device of the file system that gets it back; none where that is not known or nothing comes back.
    pub on: Option<DevId>,
}

impl Step {
    /// What the step is for, if its change has only an id for what that names; else nothing.
    pub fn named(&self) -> &str {
        match &self.op {
            Op::Run { .. } | Op::TruncateDeleted { .. } => &self.why,
            Op::RemoveFile { .. }
            | Op::RemoveTree { .. }
            | Op::PutBack { .. }
            | Op::RestoreAccess { .. }
            | Op::Signal { .. }
            | Op::SignalGroup { .. }
            | Op::Unmount { .. }
            | Op::RemoveEmptyDir { .. }
            | Op::Evacuate { .. }
            | Op::Sweep { .. }
            | Op::RotateLog { .. }
            | Op::KeepName { .. } => "",
        }
    }
}

/// Something asked for that is not in the plan, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusal {
    /// What was asked for.
    pub what: String,
    /// Why it is not done.
    pub why: String,
}

/// Whether what a plan did can be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Undo {
    /// No.
    Impossible,
    /// It comes back by itself or by running this.
    Regenerates {
        /// How.
        how: String,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible => f.write_str("cannot be undone"),
            Self::Regenerates { how } => f.write_str(how),
        }
    }
}

/// What must be true afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "check", rename_all = "snake_case")]
pub enum Verify {
    /// Free space on this file system, before and after.
    Space {
        /// Any path on it.
        path: HostPath,
    },
    /// No build mount is left over.
    NoBuildMounts,
}

/// What will be done: shown as it is, run as it is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Plan {
    /// The action that made it.
    pub action: ActionId,
    /// One line: what and how much.
    pub summary: String,
    /// What can be lost.
    pub risk: Risk,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What was asked for and is not done.
    pub refused: Vec<Refusal>,
    /// What could not be looked at and may keep something from going, as sentences.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What it is expected to give back.
    pub reclaim: Reclaim,
    /// Whether it can be taken back.
    pub undo: Undo,
    /// What is checked afterwards.
    pub verify: Vec<Verify>,
    /// What a person types to agree to a destructive plan: printable ASCII, short.
    pub name: String,
    /// The command of this program that makes and runs it again, with every guard; none if no line says exactly this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<OwnCommand>,
}

impl Plan {
    /// The guards of all steps, each once, in order.
    pub fn guards(&self) -> Vec<Guard> {
        let mut all: Vec<Guard> = self.steps.iter().flat_map(|step| step.guards.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
