//! What can be done about a finding, or about rows of the tree, where that is several things.

use crate::actions::{Request, about_volume, request_for, volumes};
use crate::config::Settings;
use crate::domain::engines::Volume;
use crate::domain::finding::{ActionId, Finding, Subject};
use crate::domain::identity::FileKind;
use crate::domain::room::rooms;
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::text::HostPath;

use super::effect::{Pick, Wish};
use super::question::About;

/// File systems that are offered as targets.
const MOST_ROOMS: usize = 8;
/// Volumes that are offered, the largest.
const MOST_VOLUMES: usize = 12;

/// One thing that can be done.
#[derive(Clone, Debug)]
pub enum Choice {
    /// An action, and what it would be asked for.
    Plan(ActionId, Request),
    /// The operands are to be marked first, for this action: the tree goes there.
    Place(ActionId, HostPath),
    /// An action on what it names: rows of the tree, a volume.
    Named {
        /// What it does, as the rest of "x plans to".
        what: String,
        /// What is planned.
        wish: Box<Wish>,
    },
    /// Something has to be asked first.
    Ask {
        /// What it does, as the rest of "x plans to".
        what: String,
        /// What is asked.
        about: About,
    },
}

/// What can be done about a finding here, in its order.
pub fn choices(finding: &Finding, snapshot: &Snapshot) -> Vec<Choice> {
    let choice = |&action: &ActionId| match request_for(action, finding, snapshot) {
        Some(request) => Some(Choice::Plan(action, request)),
        None if matches!(action, ActionId::Delete | ActionId::Evacuate) => {
            place(finding).cloned().map(|path| Choice::Place(action, path))
        }
        None => None,
    };
    let volumes = finding.actions.contains(&ActionId::RemoveVolume).then(|| of_volumes(finding, snapshot));
    finding.actions.iter().filter_map(choice).chain(volumes.into_iter().flatten()).collect()
}

/// Each volume that can be removed.
fn of_volumes(finding: &Finding, snapshot: &Snapshot) -> Vec<Choice> {
    let Subject::Engine { engine } = finding.subject else { return Vec::new() };
    let named = |(volume, request): (Volume, Request)| Choice::Named {
        what: format!("remove volume {} ({})", volume.name, about_volume(&volume, snapshot)),
        wish: Box::new(Wish::Other(request)),
    };
    volumes(engine, snapshot).into_iter().take(MOST_VOLUMES).map(named).collect()
}

/// What can be done about rows of the tree in a directory, and what cannot, as a sentence.
pub fn of_rows(
    picks: &[Pick],
    dir: &HostPath,
    snapshot: &Snapshot,
    settings: &Settings,
) -> (Vec<Choice>, Option<String>) {
    let these = if picks.len() == 1 { "it".to_owned() } else { format!("these {}", picks.len()) };
    let mut choices =
        vec![Choice::Named { what: format!("delete {these}"), wish: Box::new(Wish::Delete(picks.to_vec())) }];
    let row = if let [only] = picks { of_row(only, settings) } else { None };
    if picks.iter().any(|pick| pick.kind != FileKind::File) {
        choices.extend(row);
        return (choices, Some("Only files can be moved to another file system.".to_owned()));
    }
    // A copy may have no holes.
    let bytes: Bytes = picks.iter().map(|pick| pick.apparent.max(pick.allocated)).sum();
    let all = snapshot.filesystems.value().map_or(&[][..], Vec::as_slice);
    let rooms = rooms(all, dir, bytes, settings.filesystem.warn_percent);
    if rooms.is_empty() {
        choices.extend(row);
        return (
            choices,
            Some(format!("No other local file system has room for {bytes}, so it cannot be moved.")),
        );
    }
    choices.extend(rooms.into_iter().take(MOST_ROOMS).map(|room| Choice::Named {
        what: format!("move {these} to {} ({} available)", room.mount_point, room.available),
        wish: Box::new(Wish::Evacuate { picks: picks.to_vec(), to: room.mount_point }),
    }));
    // What loses nothing comes before what does.
    choices.extend(row);
    (choices, None)
}

/// What can be done about a single row, once something was asked.
fn of_row(pick: &Pick, settings: &Settings) -> Option<Choice> {
    match pick.kind {
        FileKind::Directory => Some(Choice::Ask {
            what: "remove what is old in it; you say how old".to_owned(),
            about: About::Older(pick.clone()),
        }),
        FileKind::File => Some(Choice::Ask {
            what: "keep only its last lines, as of a log; you say how many".to_owned(),
            about: About::LastLines { pick: pick.clone(), usual: settings.logs.keep_lines },
        }),
        FileKind::Symlink | FileKind::Socket | FileKind::Fifo | FileKind::Device | FileKind::Other => None,
    }
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
