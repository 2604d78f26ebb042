//! What can be done about a finding, where that is several things.

use crate::actions::{Request, request_for};
use crate::domain::finding::{ActionId, Finding, Subject};
use crate::domain::snapshot::Snapshot;
use crate::domain::text::HostPath;

/// One thing that can be done.
#[derive(Clone, Debug)]
pub enum Choice {
    /// An action, and what it would be asked for.
    Plan(ActionId, Request),
    /// The operands are to be marked first: the tree goes there.
    Place(HostPath),
}

impl Choice {
    /// Which action it is.
    pub fn action(&self) -> ActionId {
        match self {
            Self::Plan(action, _) => *action,
            Self::Place(_) => ActionId::Delete,
        }
    }
}

/// What can be done about a finding here, in its order.
pub fn choices(finding: &Finding, snapshot: &Snapshot) -> Vec<Choice> {
    let choice = |&action: &ActionId| match request_for(action, finding, snapshot) {
        Some(request) => Some(Choice::Plan(action, request)),
        None if action == ActionId::Delete => place(finding).cloned().map(Choice::Place),
        None => None,
    };
    finding.actions.iter().filter_map(choice).collect()
}

/// Where a finding's operands are to be chosen, where it is about a place.
fn place(finding: &Finding) -> Option<&HostPath> {
    match &finding.subject {
        Subject::FileSystem { mount_point, .. } => Some(mount_point),
        Subject::TempDir { path } | Subject::Directory { path } => Some(path),
        // The directory above, where the largest can be marked.
        Subject::Caches { paths, .. } | Subject::Logs { paths } => paths.first(),
        Subject::BuildMounts { .. }
        | Subject::Processes { .. }
        | Subject::DeletedFiles { .. }
        | Subject::Engine { .. }
        | Subject::Limit { .. }
        | Subject::Probe { .. } => None,
    }
}
