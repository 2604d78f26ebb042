//! What of this program works on this machine: each probe, each layer of protection, each program it asks.

use std::sync::Mutex;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use crate::domain::reading::{Millis, Reading};
use crate::domain::snapshot::SnapshotPart;
use crate::domain::text::HostPath;
use crate::sys::kernel::{self, Layer};
use crate::sys::tool;

/// How a probe fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// It saw everything.
    Available,
    /// It saw a part.
    Partial,
    /// Permission was refused.
    Denied,
    /// There was no answer in time.
    TimedOut,
    /// What it looks at is not there.
    Missing,
}

/// A probe and how it fared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProbeHealth {
    /// Its name.
    pub name: &'static str,
    /// How it fared.
    pub state: ProbeState,
    /// How long after the start of all probes it answered.
    pub took: Millis,
    /// What it could not see and what to do about that, as sentences.
    pub notes: Vec<String>,
}

/// A program that is asked where it is installed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ToolHealth {
    /// Its name.
    pub name: &'static str,
    /// What it is asked for.
    pub what_for: &'static str,
    /// Where it is; none where it is not installed.
    pub path: Option<HostPath>,
    /// Why it is not run although it is there.
    pub refused: Option<String>,
}

/// Everything.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Health {
    /// The version of the program.
    pub program_version: &'static str,
    /// Every probe.
    pub probes: Vec<ProbeHealth>,
    /// What the kernel offers.
    pub kernel: Vec<Layer>,
    /// Programs of the machine.
    pub tools: Vec<ToolHealth>,
    /// The directory that actions are written down in, and the one for when that is full.
    pub journal: [HostPath; 2],
}

/// Programs that probes ask.
const TOOLS: [(&str, &str); 4] = [
    ("docker", "what docker keeps"),
    ("podman", "what podman and buildah keep"),
    ("ctr", "what containerd keeps"),
    ("dmsetup", "thin pools"),
];

impl Engine {
    /// Runs every probe once and looks what the machine offers.
    pub fn health(&self) -> Health {
        let began = Instant::now();
        let answered = Mutex::new(Vec::new());
        self.probe(&|part| {
            let took = began.elapsed().into();
            answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(health_of(&part, took));
        });
        let mut probes = answered.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        probes.sort_by_key(|probe| probe.name);
        Health {
            program_version: env!("CARGO_PKG_VERSION"),
            probes,
            kernel: kernel::layers(),
            tools: TOOLS.into_iter().map(|(name, what_for)| tool_health(name, what_for)).collect(),
            journal: self.journal.places(),
        }
    }
}

fn tool_health(name: &'static str, what_for: &'static str) -> ToolHealth {
    let (path, refused) = match tool::find(name) {
        Ok(path) => (path.map(|path| HostPath::from(path.as_path())), None),
        Err(why) => (None, Some(why)),
    };
    ToolHealth { name, what_for, path, refused }
}

/// How the probe behind a part fared. None for what cannot fail, and for what comes from scans.
fn health_of(part: &SnapshotPart, took: Millis) -> Option<ProbeHealth> {
    let (name, state, notes) = match part {
        SnapshotPart::Host(_) | SnapshotPart::Scanned(_) | SnapshotPart::Ledger(_) => return None,
        SnapshotPart::FileSystems(reading) => {
            let silent = reading.value().into_iter().flatten().flat_map(|fs| {
                fs.usage.gaps().into_iter().map(move |gap| format!("{}: {gap}", fs.mount_point))
            });
            partly("file systems", reading, silent.collect())
        }
        SnapshotPart::Mounts(reading) => named("mounts", judge(reading)),
        SnapshotPart::Processes(reading) => named("build processes", judge(reading)),
        SnapshotPart::TempDirs(dirs) => {
            let gaps: Vec<String> = dirs
                .iter()
                .flat_map(|dir| {
                    let gaps = dir.census.gaps().into_iter().chain(dir.create_test.gaps());
                    gaps.map(move |gap| format!("{}: {gap}", dir.path))
                })
                .collect();
            let state = if gaps.is_empty() { ProbeState::Available } else { ProbeState::Partial };
            ("temporary directories", state, gaps)
        }
        SnapshotPart::Deleted(reading) => named("deleted files still open", judge(reading)),
        SnapshotPart::Engines(reading) => {
            let silent = reading.value().into_iter().flatten().flat_map(|engine| {
                engine.content.gaps().into_iter().map(move |gap| format!("{}: {gap}", engine.kind))
            });
            partly("container engines", reading, silent.collect())
        }
        SnapshotPart::Growth(reading) => named("growth", judge(reading)),
        SnapshotPart::Builds(reading) => named("builds and their locks", judge(reading)),
        SnapshotPart::Limits(reading) => named("limits", judge(reading)),
        SnapshotPart::Logs(reading) => named("logs", judge(reading)),
        SnapshotPart::Caches(reading) => named("caches", judge(reading)),
        SnapshotPart::Hidden(reading) => named("data under mount points", judge(reading)),
        SnapshotPart::Protect(set) if set.is_empty() => {
            let note = "what must be protected is not known, so no action will run".to_owned();
            ("protected paths", ProbeState::Missing, vec![note])
        }
        SnapshotPart::Protect(_) => ("protected paths", ProbeState::Available, Vec::new()),
    };
    Some(ProbeHealth { name, state, took, notes })
}

/// How a probe fared whose things can each have gaps of their own.
fn partly<T>(
    name: &'static str,
    reading: &Reading<T>,
    gaps: Vec<String>,
) -> (&'static str, ProbeState, Vec<String>) {
    let (state, notes) = judge(reading);
    let state = if gaps.is_empty() { state } else { ProbeState::Partial };
    (name, state, [notes, gaps].concat())
}

fn named(
    name: &'static str,
    (state, notes): (ProbeState, Vec<String>),
) -> (&'static str, ProbeState, Vec<String>) {
    (name, state, notes)
}

fn judge<T>(reading: &Reading<T>) -> (ProbeState, Vec<String>) {
    let state = match reading {
        Reading::Ready { .. } => ProbeState::Available,
        Reading::Partial { .. } => ProbeState::Partial,
        Reading::Denied { .. } => ProbeState::Denied,
        Reading::Pending | Reading::TimedOut { .. } => ProbeState::TimedOut,
        Reading::Refused { .. } | Reading::NotHere { .. } | Reading::Unavailable { .. } => {
            ProbeState::Missing
        }
    };
    (state, reading.sentences())
}
