//! Makers of plans: subjects and a snapshot go in, a plan comes out. Nothing here touches the machine.

mod for_finding;

pub use for_finding::request_for;

use crate::config::Settings;
use crate::domain::plan::Plan;
use crate::domain::snapshot::{BuildMount, BuildProcess, ChosenFile, DeletedFile, Snapshot};

/// What a person asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Delete these files and directories.
    Delete(Vec<ChosenFile>),
    /// End these processes.
    EndProcess(Vec<BuildProcess>),
    /// Unmount these.
    Unmount(Vec<BuildMount>),
    /// Give back the space of these deleted files.
    FreeDeleted(Vec<DeletedFile>),
}

/// Makes the plan for a request.
pub fn plan(request: &Request, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let _ = (request, snapshot, settings);
    unreachable!("replaced by the actions room")
}
