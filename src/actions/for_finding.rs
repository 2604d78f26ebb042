//! What an action would be asked to do about a finding.

use super::Request;
use crate::domain::caches::CacheToClean;
use crate::domain::engines::{EngineKind, PruneLevel, Volume};
use crate::domain::finding::{ActionId, Finding, Subject};
use crate::domain::logs::{LogOwner, LogTarget};
use crate::domain::reading::Reading;
use crate::domain::snapshot::Snapshot;
use crate::domain::sweep::SweepTarget;
use crate::domain::text::HostPath;

/// The request that an action answers for a finding: exactly the things that the finding names. None where
/// the action does not fit the subject or the things are gone from the snapshot.
pub fn request_for(action: ActionId, finding: &Finding, snapshot: &Snapshot) -> Option<Request> {
    let request = match (action, &finding.subject) {
        (ActionId::Unmount, Subject::BuildMounts { mounts }) => {
            let all =
                snapshot.mounts.value().map(|census| census.build_mounts.as_slice()).unwrap_or_default();
            Request::Unmount(
                all.iter().filter(|one| mounts.iter().any(|id| one.mount.same_mount(*id))).cloned().collect(),
            )
        }
        (ActionId::EndProcess, Subject::Processes { processes }) => {
            let all = snapshot.processes.value().map(Vec::as_slice).unwrap_or_default();
            Request::EndProcess(all.iter().filter(|one| processes.contains(&one.id)).cloned().collect())
        }
        (ActionId::EndGroup, Subject::Processes { processes }) => {
            let all = snapshot.processes.value().map(Vec::as_slice).unwrap_or_default();
            Request::EndGroup(all.iter().filter(|one| processes.contains(&one.id)).cloned().collect())
        }
        (ActionId::FreeDeleted, Subject::DeletedFiles { files }) => {
            let all = snapshot.deleted.value().map(Vec::as_slice).unwrap_or_default();
            Request::FreeDeleted(all.iter().filter(|one| files.contains(&one.key)).cloned().collect())
        }
        (ActionId::RotateLog, Subject::Logs { paths }) => {
            Request::RotateLog(paths.iter().filter_map(|path| log_target(path, snapshot)).collect())
        }
        // The finding is about all of them together.
        (ActionId::RemoveRotated, Subject::Logs { .. }) => {
            let logs = snapshot.logs.value()?;
            Request::RemoveRotated(logs.dirs.iter().flat_map(|dir| &dir.rotated_files).cloned().collect())
        }
        (ActionId::Sweep, Subject::TempDir { path } | Subject::Directory { path }) => {
            Request::Sweep(sweep_target(path, snapshot).into_iter().collect())
        }
        (ActionId::PruneConservative, Subject::Engine { engine }) => {
            prune(*engine, PruneLevel::Conservative, snapshot)?
        }
        (ActionId::PruneStandard, Subject::Engine { engine }) => {
            prune(*engine, PruneLevel::Standard, snapshot)?
        }
        (ActionId::PruneEmergency, Subject::Engine { engine }) => {
            prune(*engine, PruneLevel::Emergency, snapshot)?
        }
        (ActionId::RepairBuilds, Subject::BuildMounts { .. } | Subject::Directory { .. }) => {
            Request::RepairBuilds(Box::new(Reading::Pending))
        }
        (ActionId::CleanCache, Subject::Caches { entry, .. }) => {
            let scanned = snapshot.scanned.value()?;
            let kind = scanned.caches.iter().find(|kind| kind.entry == *entry)?.clone();
            Request::CleanCache(Box::new(CacheToClean { kind, means: Reading::Pending }))
        }
        (ActionId::VacuumJournal, Subject::Logs { .. }) => {
            let journal = snapshot.logs.value().map(|logs| logs.journal.clone()).unwrap_or_default();
            Request::VacuumJournal(journal)
        }
        // Deleting needs files that a person chose, and a volume is named by one; the other pairs do not fit.
        (
            ActionId::Delete
            | ActionId::Unmount
            | ActionId::EndProcess
            | ActionId::PutBack
            | ActionId::EndGroup
            | ActionId::Evacuate
            | ActionId::RotateLog
            | ActionId::RemoveRotated
            | ActionId::Sweep
            | ActionId::KeepName
            | ActionId::FreeDeleted
            | ActionId::VacuumJournal
            | ActionId::CleanCache
            | ActionId::RepairBuilds
            | ActionId::PruneConservative
            | ActionId::PruneStandard
            | ActionId::PruneEmergency
            | ActionId::RemoveVolume,
            _,
        ) => return None,
    };
    (!request.is_empty()).then_some(request)
}

/// A log that a finding names: a program's, or a container's.
fn log_target(path: &HostPath, snapshot: &Snapshot) -> Option<LogTarget> {
    let dirs = snapshot.logs.value().map(|logs| logs.dirs.as_slice()).unwrap_or_default();
    let of_program = dirs.iter().flat_map(|dir| &dir.largest).find(|log| log.path == *path);
    if let Some(log) = of_program {
        let writers = log.writers.iter().map(|writer| format!("{} ({})", writer.name, writer.process));
        return Some(LogTarget {
            path: log.path.clone(),
            id: log.id?,
            allocated: log.allocated,
            writers: writers.collect(),
            owner: LogOwner::Program,
            keep_lines: None,
        });
    }
    let contents = snapshot.engines.value().into_iter().flatten().filter_map(|engine| engine.content.value());
    let mut containers = contents.flat_map(|content| &content.containers);
    containers.find_map(|container| {
        let log = container.log.as_ref().filter(|log| log.path == *path)?;
        Some(LogTarget {
            path: log.path.clone(),
            id: log.id?,
            allocated: log.allocated,
            writers: vec![format!("what container {} prints", container.shown())],
            owner: LogOwner::Container,
            keep_lines: None,
        })
    })
}

/// A directory that a finding names: one for temporary files, or one with very many entries.
fn sweep_target(path: &HostPath, snapshot: &Snapshot) -> Option<SweepTarget> {
    let temp = snapshot.temp_dirs.iter().find(|dir| dir.path == *path).map(|dir| dir.id);
    let crowded = || {
        let scanned = snapshot.scanned.value()?;
        scanned.crowded.iter().find(|dir| dir.path == *path).map(|dir| dir.id)
    };
    let id = temp.or_else(crowded)??;
    Some(SweepTarget { path: path.clone(), id, rule: None, list: Reading::Pending })
}

/// The volumes of an engine that no container uses, as requests for one each, largest first.
pub fn volumes(kind: EngineKind, snapshot: &Snapshot) -> Vec<(Volume, Request)> {
    let known = snapshot.engines.value().map(Vec::as_slice).unwrap_or_default();
    let Some(engine) = known.iter().find(|one| one.kind == kind) else { return Vec::new() };
    let mut unused: Vec<Volume> = engine
        .content
        .value()
        .map(|content| content.volumes.iter().filter(|volume| volume.is_unused()).cloned().collect())
        .unwrap_or_default();
    unused.sort_by_key(|volume| std::cmp::Reverse(volume.size));
    let request = |volume: Volume| {
        let request = Request::RemoveVolume(Box::new(engine.clone()), volume.clone());
        (volume, request)
    };
    unused.into_iter().map(request).collect()
}

/// The same request without that part of it by which data is lost; none where the rest is nothing, or all of it.
pub fn without_loss(request: &Request) -> Option<Request> {
    match request {
        Request::Prune(engine, level) => {
            super::prune::without_loss(engine).map(|engine| Request::Prune(Box::new(engine), *level))
        }
        _ => None,
    }
}

fn prune(kind: EngineKind, level: PruneLevel, snapshot: &Snapshot) -> Option<Request> {
    let known = snapshot.engines.value().map(Vec::as_slice).unwrap_or_default();
    Some(Request::Prune(Box::new(known.iter().find(|one| one.kind == kind)?.clone()), level))
}

impl Request {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Delete(items) => items.is_empty(),
            Self::EndProcess(items) | Self::EndGroup(items) => items.is_empty(),
            Self::PutBack(items) => items.is_empty(),
            Self::Unmount(items) => items.is_empty(),
            Self::Evacuate { files, .. } => files.is_empty(),
            Self::RotateLog(items) => items.is_empty(),
            Self::RemoveRotated(items) => items.is_empty(),
            Self::Sweep(items) => items.is_empty(),
            Self::FreeDeleted(items) => items.is_empty(),
            Self::Prune(engine, _) => engine.content.value().is_none(),
            Self::RepairBuilds(_) | Self::RemoveVolume(..) | Self::KeepName(_) => false,
            Self::CleanCache(clean) => clean.kind.places.is_empty(),
            Self::VacuumJournal(journal) => journal.dirs.is_empty(),
        }
    }
}
