//! Makers of plans: subjects and a snapshot go in, a plan comes out. Nothing here touches the machine.
//!
//! One file per action. Several subjects make one plan with one total; what is not done is in the plan too,
//! with the reason.

mod clean_cache;
mod delete;
mod end_group;
mod end_process;
mod evacuate;
mod free_deleted;
mod keep_name;
mod not_now;
mod prune;
mod put_back;
mod remove_rotated;
mod remove_volume;
mod repair_builds;
mod rotate_log;
mod sweep;
mod unmount;
mod vacuum_journal;
mod without_root;

mod for_finding;

pub use for_finding::{request_for, volumes, without_loss};
pub use not_now::refuse_while_building;
pub use remove_volume::about as about_volume;
pub use without_root::{for_root, refuse, refuse_where};

use crate::config::Settings;
use crate::domain::builds::RepairMeans;
use crate::domain::caches::CacheToClean;
use crate::domain::engines::{Engine, PruneLevel, Volume};
use crate::domain::finding::Reclaim;
use crate::domain::identity::{DevId, MountId};
use crate::domain::logs::{Journal, LogTarget, RotatedFile};
use crate::domain::own_command::OwnCommand;
use crate::domain::past::Leftover;
use crate::domain::plan::{Plan, Verify};
use crate::domain::reading::Reading;
use crate::domain::room;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{
    BuildMount, BuildProcess, ChosenFile, DeletedFile, Evidence, FileSystem, Layer, Snapshot,
};
use crate::domain::sweep::{NameToKeep, SweepTarget};
use crate::domain::text::HostPath;

/// What a person asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Delete these files and directories.
    Delete(Vec<ChosenFile>),
    /// End these processes.
    EndProcess(Vec<BuildProcess>),
    /// Put these back.
    PutBack(Vec<Leftover>),
    /// End these processes with everything in their process groups.
    EndGroup(Vec<BuildProcess>),
    /// Unmount these.
    Unmount(Vec<BuildMount>),
    /// Move these files into a directory on another file system.
    Evacuate {
        /// Which files.
        files: Vec<ChosenFile>,
        /// The directory.
        to: HostPath,
        /// Why nothing can be put there; none where nothing speaks against it, or it was not looked at.
        unfit: Option<String>,
        /// Those that `undo` could not move back, each with the reason.
        one_way: Vec<(HostPath, String)>,
    },
    /// Drop all but the last lines of these logs.
    RotateLog(Vec<LogTarget>),
    /// Remove these rotated logs.
    RemoveRotated(Vec<RotatedFile>),
    /// Remove what is old from these directories.
    Sweep(Vec<SweepTarget>),
    /// Keep this name out of every sweep from now on.
    KeepName(NameToKeep),
    /// Repair a wedged `BuildKit`.
    RepairBuilds(Box<Reading<RepairMeans>>),
    /// Clean a kind of cache.
    CleanCache(Box<CacheToClean>),
    /// Prune this engine so far.
    Prune(Box<Engine>, PruneLevel),
    /// Remove this volume of this engine.
    RemoveVolume(Box<Engine>, Volume),
    /// Remove the oldest part of systemd's journal.
    VacuumJournal(Journal),
    /// Give back the space of these deleted files.
    FreeDeleted(Vec<DeletedFile>),
}

/// Makes the plan for a request. What the one who looks may not do is refused in it, with the line to run instead.
pub fn plan(request: &Request, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let mut plan = draft(request, snapshot, settings);
    refuse(&mut plan, snapshot.host.uid);
    plan
}

/// The plan as root could run it.
pub fn draft(request: &Request, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let mut plan = match request {
        Request::Delete(chosen) => delete::plan(chosen, snapshot),
        Request::EndProcess(processes) => end_process::plan(processes, settings),
        Request::PutBack(leftovers) => put_back::plan(leftovers, snapshot),
        Request::EndGroup(processes) => end_group::plan(processes, settings),
        Request::Unmount(mounts) => unmount::plan(mounts),
        Request::Evacuate { files, to, unfit, one_way } => {
            evacuate::plan(files, (to, unfit.as_deref()), one_way, snapshot)
        }
        Request::RotateLog(logs) => rotate_log::plan(logs, snapshot, settings),
        Request::RemoveRotated(files) => remove_rotated::plan(files, snapshot, settings),
        Request::Sweep(dirs) => sweep::plan(dirs, snapshot, settings),
        Request::KeepName(wanted) => keep_name::plan(wanted),
        Request::RepairBuilds(means) => repair_builds::plan(means, snapshot, settings),
        Request::CleanCache(clean) => clean_cache::plan(clean, snapshot),
        Request::Prune(engine, level) => prune::plan(engine, *level, snapshot, settings),
        Request::RemoveVolume(engine, volume) => remove_volume::plan(engine, volume, snapshot),
        Request::VacuumJournal(journal) => vacuum_journal::plan(journal, snapshot, settings),
        Request::FreeDeleted(files) => free_deleted::plan(files, snapshot),
    };
    plan.unknown = unknown(request, snapshot);
    if let Request::Delete(chosen) = request
        && plan.refused.is_empty()
    {
        plan.again = OwnCommand::delete(chosen.iter().map(|one| one.path.clone()).collect());
    }
    plan
}

/// What was not seen of those who may use what a request takes away.
fn unknown(request: &Request, snapshot: &Snapshot) -> Vec<String> {
    let (mounts, open) = match request {
        Request::Delete(_)
        | Request::RemoveRotated(_)
        | Request::Sweep(_)
        | Request::CleanCache(_)
        | Request::Evacuate { .. } => (true, true),
        Request::Unmount(_) => (true, false),
        Request::RotateLog(_) | Request::FreeDeleted(_) => (false, true),
        // Their owners look for themselves, or nothing is taken away.
        Request::EndProcess(_)
        | Request::PutBack(_)
        | Request::KeepName(_)
        | Request::EndGroup(_)
        | Request::RepairBuilds(_)
        | Request::Prune(..)
        | Request::RemoveVolume(..)
        | Request::VacuumJournal(_) => (false, false),
    };
    let mut all = Vec::new();
    all.extend(mounts.then(|| snapshot.mounts.sentences()).into_iter().flatten());
    all.extend(open.then(|| snapshot.deleted.sentences()).into_iter().flatten());
    all.sort();
    all.dedup();
    all
}

/// Longest name that a person is asked to type.
const LONGEST_NAME: usize = 40;

/// What a person types to agree: the name of the only item where that can be typed, else `verb count`.
fn typed_name(verb: &str, names: &[&[u8]]) -> String {
    if let [only] = names
        && let Ok(text) = std::str::from_utf8(only)
        && (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && text.trim() == text
    {
        return text.to_owned();
    }
    format!("{verb} {}", names.len())
}

/// The last component of a path.
fn file_name(path: &HostPath) -> &[u8] {
    path.as_path().file_name().map_or(b"", |name| name.as_encoded_bytes())
}

/// "1 file", "3 files".
fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// What comes back of so much that is of this layer.
fn gives_back(layer: Layer, allocated: Bytes) -> Reclaim {
    match layer {
        Layer::Own => Reclaim::exact(allocated),
        Layer::Lower => Reclaim::exact(Bytes::ZERO),
        Layer::Unknown => Reclaim::Range { low: Bytes::ZERO, high: allocated },
    }
}

/// The facts behind a verdict, as the end of a sentence.
fn because(evidence: &[Evidence]) -> String {
    let facts: Vec<&str> = evidence.iter().map(|evidence| evidence.fact.as_str()).collect();
    if facts.is_empty() { "no evidence was recorded".to_owned() } else { facts.join("; ") }
}

fn filesystems(snapshot: &Snapshot) -> &[FileSystem] {
    snapshot.filesystems.value().map_or(&[], Vec::as_slice)
}

/// The check of free space for the file system of a file: at its mount point where that is known, else at
/// the path given.
fn space_check(snapshot: &Snapshot, dev: DevId, mount: Option<MountId>, path: &HostPath) -> Verify {
    let known = filesystems(snapshot);
    let found = known
        .iter()
        .find(|fs| mount.is_some_and(|mount| fs.has_mount(mount)))
        .or_else(|| known.iter().find(|fs| fs.has_device(dev)));
    let fallback = || HostPath::new(path.as_path().parent().unwrap_or(path.as_path()));
    Verify::Space { path: found.map_or_else(fallback, |fs| fs.mount_point.clone()) }
}

/// The check of free space for the file system that a path is on.
fn space_at(snapshot: &Snapshot, path: &HostPath) -> Verify {
    let found = room::holds(filesystems(snapshot), path);
    Verify::Space { path: found.map_or_else(|| path.clone(), |fs| fs.mount_point.clone()) }
}

/// The device of the file system that a path is on.
fn device_at(snapshot: &Snapshot, path: &HostPath) -> Option<DevId> {
    room::holds(filesystems(snapshot), path).map(|fs| fs.dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_typed_is_replaced_by_a_count() {
        assert_eq!(typed_name("delete", &[b"target"]), "target");
        assert_eq!(typed_name("delete", &[b"my file.iso"]), "my file.iso");
        for bad in [&b"a\nb"[..], b"\xff", "é".as_bytes(), b" x", b"", &[b'x'; 41]] {
            assert_eq!(typed_name("delete", &[bad]), "delete 1");
        }
        assert_eq!(typed_name("delete", &[b"a", b"b"]), "delete 2");
    }
}
