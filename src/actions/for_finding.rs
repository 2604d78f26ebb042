//! What an action would be asked to do about a finding.

use super::Request;
use crate::domain::finding::{ActionId, Finding, Subject};
use crate::domain::snapshot::Snapshot;

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
        (ActionId::FreeDeleted, Subject::DeletedFiles { files }) => {
            let all = snapshot.deleted.value().map(Vec::as_slice).unwrap_or_default();
            Request::FreeDeleted(all.iter().filter(|one| files.contains(&one.key)).cloned().collect())
        }
        // Deleting needs files that a person chose; the other pairs do not fit.
        (
            ActionId::Delete
            | ActionId::Unmount
            | ActionId::EndProcess
            | ActionId::PutBack
            | ActionId::FreeDeleted,
            _,
        ) => {
            return None;
        }
    };
    (!request.is_empty()).then_some(request)
}

impl Request {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Delete(items) => items.is_empty(),
            Self::EndProcess(items) => items.is_empty(),
            Self::PutBack(items) => items.is_empty(),
            Self::Unmount(items) => items.is_empty(),
            Self::FreeDeleted(items) => items.is_empty(),
        }
    }
}
