//! What the rules conclude from a snapshot.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::engines::EngineKind;
use super::identity::{DevIno, MountId, ProcId};
use super::limits::LimitKind;
use super::size::Bytes;
use super::snapshot::Evidence;
use super::text::{HostPath, HostText};

/// How bad it is. Ordered: later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; nobody has to act on it. It never decides how an audit ends.
    Info,
    /// Something could not be looked at, so nobody can say that it is well.
    Unknown,
    /// Worth a look soon.
    Warning,
    /// Breaks things now or within hours.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A mounted file system.
    FileSystem {
        /// Which mount.
        mount: MountId,
        /// Where it is mounted.
        mount_point: HostPath,
    },
    /// Leftover build mounts.
    BuildMounts {
        /// Which.
        mounts: Vec<MountId>,
    },
    /// Processes.
    Processes {
        /// Which.
        processes: Vec<ProcId>,
    },
    /// Deleted files that are still open.
    DeletedFiles {
        /// Which.
        files: Vec<DevIno>,
    },
    /// A container engine.
    Engine {
        /// Which.
        engine: EngineKind,
    },
    /// A limit, by its name and whose it is.
    Limit {
        /// What it is on.
        limit: LimitKind,
        /// Whose it is; empty for the machine's own.
        of: HostText,
    },
    /// Logs of one kind: files or directories.
    Logs {
        /// The largest.
        paths: Vec<HostPath>,
    },
    /// A directory for temporary files.
    TempDir {
        /// Which.
        path: HostPath,
    },
    /// A directory.
    Directory {
        /// Which.
        path: HostPath,
    },
    /// What one entry of the catalogue describes.
    Caches {
        /// The entry's id.
        entry: String,
        /// The largest places.
        paths: Vec<HostPath>,
    },
    /// A probe that could not look.
    Probe {
        /// Which.
        name: &'static str,
    },
}

/// How much acting on a finding gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reclaim {
    /// This much.
    Exact {
        /// How much.
        bytes: Bytes,
    },
    /// Between these.
    Range {
        /// At least.
        low: Bytes,
        /// At most.
        high: Bytes,
    },
    /// Some, but nobody can say how much.
    #[default]
    Unknown,
    /// It frees no space; it unblocks something.
    Nothing,
}

impl Reclaim {
    /// Exactly this much.
    pub fn exact(bytes: Bytes) -> Self {
        Self::Exact { bytes }
    }

    /// Between these, or exactly this where they are the same.
    pub fn between(low: Bytes, high: Bytes) -> Self {
        if low == high { Self::Exact { bytes: low } } else { Self::Range { low, high } }
    }

    /// At least and at most, as far as it is known.
    pub fn bounds(self) -> (Bytes, Bytes) {
        match self {
            Self::Exact { bytes } => (bytes, bytes),
            Self::Range { low, high } => (low, high),
            Self::Unknown | Self::Nothing => (Bytes::ZERO, Bytes::ZERO),
        }
    }

    /// Both together. Not knowing one means knowing a lower bound at most.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            (Self::Exact { bytes: a }, Self::Exact { bytes: b }) => Self::Exact { bytes: a + b },
            (Self::Exact { bytes }, Self::Range { low, high })
            | (Self::Range { low, high }, Self::Exact { bytes }) => {
                Self::Range { low: low + bytes, high: high + bytes }
            }
            (Self::Range { low: a, high: b }, Self::Range { low: c, high: d }) => {
                Self::Range { low: a + c, high: b + d }
            }
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }
}

impl fmt::Display for Reclaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Exact { bytes } => bytes.to_string(),
            Self::Range { low, high } if low.is_zero() => format!("up to {high}"),
            Self::Range { low, high } => format!("{low} to {high}"),
            Self::Unknown => "unknown".to_owned(),
            Self::Nothing => "no space".to_owned(),
        };
        f.pad(&text)
    }
}

/// Names one of the program's actions (a maker of plans).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActionId {
    /// Delete files and directory trees.
    Delete,
    /// End processes.
    EndProcess,
    /// Put back what a run that broke off had set aside.
    PutBack,
    /// End processes with everything in their process groups.
    EndGroup,
    /// Unmount leftover mounts.
    Unmount,
    /// Move files to another file system.
    Evacuate,
    /// Drop all but the last lines of live logs.
    RotateLog,
    /// Remove rotated logs.
    RemoveRotated,
    /// Remove what is old from an over-full directory.
    Sweep,
    /// Keep a name out of every sweep from now on.
    KeepName,
    /// Give back the space of deleted files that are still open.
    FreeDeleted,
    /// Remove the oldest part of systemd's journal.
    VacuumJournal,
    /// Repair a wedged `BuildKit`.
    RepairBuilds,
    /// Clean a kind of cache the way its owner means it to be.
    CleanCache,
    /// Prune a container engine of dangling images and old build cache.
    PruneConservative,
    /// Also of containers that ended and images that nothing uses, past an age.
    PruneStandard,
    /// Of as much as can be had again.
    PruneEmergency,
    /// Remove one volume of a container engine, named by a person.
    RemoveVolume,
}

impl ActionId {
    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::EndProcess => "end-process",
            Self::PutBack => "put-back",
            Self::EndGroup => "end-group",
            Self::Unmount => "unmount",
            Self::Evacuate => "evacuate",
            Self::RotateLog => "rotate-log",
            Self::RemoveRotated => "remove-rotated",
            Self::Sweep => "sweep",
            Self::KeepName => "keep-name",
            Self::FreeDeleted => "free-deleted",
            Self::VacuumJournal => "vacuum-journal",
            Self::RepairBuilds => "repair-builds",
            Self::CleanCache => "clean-cache",
            Self::PruneConservative => "prune-conservative",
            Self::PruneStandard => "prune-standard",
            Self::PruneEmergency => "prune-emergency",
            Self::RemoveVolume => "remove-volume",
        }
    }
}

/// Something found wrong, or something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// Stable over runs while the same thing is wrong: `rule` or `rule:subject`.
    pub id: String,
    /// The rule that found it.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// One line that says what is wrong.
    pub title: String,
    /// One paragraph that says why that matters.
    pub why: &'static str,
    /// The facts behind it.
    pub evidence: Vec<Evidence>,
    /// How much acting on it gives back.
    pub reclaim: Reclaim,
    /// What can be done about it here.
    pub actions: Vec<ActionId>,
    /// What to do where no action of this program applies, or beside it.
    pub advice: String,
}
