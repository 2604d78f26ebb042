//! The ledger of a file system: showing it, and asking for it when a scan has counted the files.

use crate::domain::ledger::Ledger;
use crate::domain::reading::Reading;
use crate::domain::snapshot::{FileSystem, FsClass, SnapshotPart};
use crate::domain::text::HostPath;
use crate::tui::effect::Effect;
use crate::tui::event::Ticket;
use crate::tui::model::Model;
use crate::tui::overlay::{Body, Overlay};

use super::tree;

/// Shows the ledger of the file system that the tree is on.
pub fn open(model: &mut Model) -> Vec<Effect> {
    let Some(mount_point) = model.file_system_of_tree().map(|fs| fs.mount_point.clone()) else {
        let gaps = model.snapshot.filesystems.sentences();
        model.notice = Some(match gaps.first() {
            Some(gap) => format!("The file systems are not known: {gap}"),
            None => "The directory is on no file system that is listed.".to_owned(),
        });
        return Vec::new();
    };
    model.overlays.push(Body::Ledger(mount_point).into());
    Vec::new()
}

/// Shows that of the next file system, or the one before.
pub fn turn(model: &mut Model, forward: bool) -> Vec<Effect> {
    let all: Vec<HostPath> = places(model);
    if let Some(Overlay { body: Body::Ledger(shown), scroll }) = model.overlays.last_mut()
        && !all.is_empty()
    {
        let at = all.iter().position(|place| place == shown).unwrap_or(0);
        let step = if forward { 1 } else { all.len() - 1 };
        if let Some(next) = all.get((at + step) % all.len()) {
            next.clone_into(shown);
            *scroll = 0;
        }
    }
    Vec::new()
}

fn places(model: &Model) -> Vec<HostPath> {
    model.snapshot.filesystems.value().into_iter().flatten().map(|fs| fs.mount_point.clone()).collect()
}

/// Scans the whole file system whose ledger is shown; the ledger comes when that is over.
pub fn scan(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay { body: Body::Ledger(shown), .. }) = model.overlays.last() else { return Vec::new() };
    let shown = shown.clone();
    let known = model.snapshot.filesystems.value().into_iter().flatten().find(|fs| fs.mount_point == shown);
    if known.is_none_or(|fs| fs.class != FsClass::Local)
        || (model.tree.root == shown && model.tree.scanning())
    {
        return Vec::new();
    }
    model.accounts.failed = None;
    tree::scan(model, shown)
}

/// Asks for the ledger where a scan of a whole file system is over, the probes have answered, and something changed
/// since it was asked for last.
pub fn due(model: &mut Model) -> Vec<Effect> {
    let tree = &model.tree;
    let done = tree.root_node.is_some() && tree.progress.finished && !tree.progress.cancelled;
    let whole = model
        .file_system_of_tree()
        .is_some_and(|fs: &FileSystem| fs.mount_point == tree.root && fs.class == FsClass::Local);
    let state = (tree.scan, tree.progress.allocated);
    let ready = !model.probing && !matches!(model.snapshot.deleted, Reading::Pending);
    if !done || !whole || !ready || model.accounts.busy || model.accounts.asked == Some(state) {
        return Vec::new();
    }
    model.accounts.busy = true;
    model.accounts.asked = Some(state);
    vec![Effect::Account { scan: tree.scan }]
}

/// A ledger is there, or why there is none.
pub fn accounted(
    model: &mut Model,
    scan: Ticket,
    outcome: Option<Result<Box<Ledger>, String>>,
) -> Vec<Effect> {
    model.accounts.busy = false;
    let mut effects = Vec::new();
    match outcome {
        Some(Ok(ledger)) => {
            model.accounts.failed = None;
            model.snapshot.merge(SnapshotPart::Ledger(ledger));
            effects.push(Effect::Assess);
        }
        Some(Err(why)) if scan == model.tree.scan => {
            model.accounts.failed = Some((model.tree.root.clone(), why));
        }
        // The scan was gone or had begun again: the next listing asks anew.
        Some(Err(_)) | None => {}
    }
    effects.extend(due(model));
    effects
}
