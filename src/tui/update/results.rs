//! Answers: of the probes, of the rules, of a run.

use crate::domain::finding::{ActionId, Finding};
use crate::domain::receipt::{BasketReceipt, Outcome};
use crate::domain::snapshot::{ChosenFile, SnapshotPart};
use crate::domain::text::HostPath;
use crate::exec;
use crate::tui::effect::{Effect, Wish};
use crate::tui::event::Ticket;
use crate::tui::model::{Model, Pane, Survey};
use crate::tui::overlay::Body;

use super::actions;
use super::commands::nothing_here;

/// Runs the probes, or once more when those under way are done.
pub fn probe(model: &mut Model) -> Vec<Effect> {
    if model.probing {
        model.probe_again = true;
        return Vec::new();
    }
    model.probing = true;
    vec![Effect::Probe]
}

/// A probe answered.
pub fn probed(model: &mut Model, part: SnapshotPart) -> Vec<Effect> {
    if matches!(part, SnapshotPart::Scanned(_)) {
        model.survey = Survey::Over;
    }
    model.snapshot.merge(part);
    sync_lists(model);
    let mut effects = vec![Effect::Assess];
    effects.extend(actions::go_on(model));
    effects
}

/// All probes have answered.
pub fn probes_ended(model: &mut Model) -> Vec<Effect> {
    model.probing = false;
    if std::mem::take(&mut model.probe_again) {
        return probe(model);
    }
    let mut effects = survey(model);
    effects.extend(actions::go_on(model));
    actions::stop_waiting(model);
    effects
}

/// Looks through the scan for what is known to take space, once both it and the probes are over: the probes say what
/// is protected.
pub fn survey(model: &mut Model) -> Vec<Effect> {
    let scanned = model.tree.progress.finished && !model.tree.progress.cancelled;
    if scanned && !model.probing {
        model.survey = Survey::UnderWay;
        vec![Effect::Survey]
    } else {
        Vec::new()
    }
}

/// What the rules find.
pub fn found(model: &mut Model, findings: Vec<Finding>) -> Vec<Effect> {
    model.findings = findings;
    let ids: Vec<String> = model.findings.iter().map(|finding| finding.id.clone()).collect();
    model.finding_list.sync(ids.len(), ids.iter().cloned(), |at| ids.get(at).cloned());
    model.finding_list.marks.retain(|id, ()| ids.contains(id));
    Vec::new()
}

/// Finds the cursors and marks of the right-hand panes again.
fn sync_lists(model: &mut Model) {
    let mounts: Vec<_> = model.mounts().iter().map(|mount| mount.mount).collect();
    let processes: Vec<_> = model.processes().iter().map(|process| process.id).collect();
    let deleted: Vec<_> = model.deleted().iter().map(|file| file.key).collect();
    model.mount_list.sync(mounts.len(), mounts.iter().copied(), |at| mounts.get(at).copied());
    model.mount_list.marks.retain(|key, ()| mounts.contains(key));
    model.process_list.sync(processes.len(), processes.iter().copied(), |at| processes.get(at).copied());
    model.process_list.marks.retain(|key, ()| processes.contains(key));
    model.deleted_list.sync(deleted.len(), deleted.iter().copied(), |at| deleted.get(at).copied());
    model.deleted_list.marks.retain(|key, ()| deleted.contains(key));
}

/// Shows everything known about the row under the cursor.
pub fn explain(model: &mut Model) -> Vec<Effect> {
    let (body, effects) = match model.focus {
        Pane::Tree => {
            let tree = &model.tree;
            let found = tree.current().and_then(|row| Some((row.clone(), tree.pick(row)?)));
            let Some((row, pick)) = found else { return nothing(model, "file or directory") };
            let dir = tree.listing().map(|listing| listing.path.clone()).unwrap_or_default();
            let ticket = model.ticket();
            let body = Body::Info { ticket, row: Box::new(row), dir, identity: None, names: Vec::new() };
            (body, vec![Effect::Inspect { ticket, pick }])
        }
        Pane::Findings => {
            let Some(finding) = model.findings.get(model.finding_list.index).cloned() else {
                return nothing(model, "finding");
            };
            let ticket = model.ticket();
            let effects = actions::request(model, &finding)
                .map(|request| Effect::Plan { ticket, wish: Wish::Other(request) })
                .into_iter()
                .collect();
            (Body::Finding { ticket, finding: Box::new(finding), remedy: None }, effects)
        }
        Pane::Mounts => match model.mounts().get(model.mount_list.index) {
            Some(mount) => (Body::Mount(Box::new(mount.clone())), Vec::new()),
            None => return nothing(model, "mount"),
        },
        Pane::Processes => match model.processes().get(model.process_list.index) {
            Some(process) => (Body::Process(Box::new((*process).clone())), Vec::new()),
            None => return nothing(model, "process"),
        },
        Pane::Deleted => match model.deleted().get(model.deleted_list.index) {
            Some(file) => (Body::Deleted(Box::new((*file).clone())), Vec::new()),
            None => return nothing(model, "deleted file"),
        },
    };
    model.overlays.push(body.into());
    effects
}

/// Nothing under the cursor: shows what is not known in the pane, where something is not.
fn nothing(model: &mut Model, what: &str) -> Vec<Effect> {
    let gaps = model.gaps(model.focus);
    if gaps.is_empty() {
        model.notice = Some(nothing_here(what));
    } else {
        model.overlays.push(Body::Gaps(gaps.iter().map(ToString::to_string).collect()).into());
    }
    Vec::new()
}

/// The identity of a row is read.
pub fn inspected(
    model: &mut Model,
    ticket: Ticket,
    outcome: Box<Result<ChosenFile, String>>,
    others: Vec<HostPath>,
) -> Vec<Effect> {
    for overlay in &mut model.overlays {
        if let Body::Info { ticket: expected, identity, names, .. } = &mut overlay.body
            && *expected == ticket
        {
            *identity = Some(outcome);
            *names = others;
            break;
        }
    }
    Vec::new()
}

/// How far the run is.
pub fn running(model: &mut Model, now: exec::Progress) -> Vec<Effect> {
    for overlay in &mut model.overlays {
        if let Body::Running { progress, .. } = &mut overlay.body {
            *progress = Some(now);
            break;
        }
    }
    Vec::new()
}

/// The run is over: shows the receipt, takes what is gone out of the tree, looks again at the rest.
pub fn ran(model: &mut Model, receipt: Box<BasketReceipt>) -> Vec<Effect> {
    let Some(run) = model.run.take() else { return Vec::new() };
    let mut effects = Vec::new();
    let mut gone = Vec::new();
    for step in receipt.parts.iter().flat_map(|part| &part.steps) {
        let Some(about) = run.targets.iter().find(|about| about.command == step.op) else { continue };
        let pick = &about.target.pick;
        match &step.outcome {
            Outcome::Done { .. } if !about.stays => {
                model.tree.list.marks.remove(&pick.node);
                gone.push(pick.node);
            }
            Outcome::Done { .. }
            | Outcome::Partly { .. }
            | Outcome::Interrupted { .. }
            | Outcome::Cancelled { .. } => {
                let directory = pick.kind == crate::domain::identity::FileKind::Directory;
                let (dir, or_else) =
                    if directory { (pick.node, Some(pick.parent)) } else { (pick.parent, None) };
                effects.push(Effect::Rescan { dir, or_else });
            }
            Outcome::Skipped { .. } | Outcome::Failed { .. } => {}
        }
    }
    if !gone.is_empty() {
        effects.push(Effect::Forget(gone));
    }
    // What is left of them is found anew.
    model.finding_list.marks.clear();
    if let Some(exit) = model.leaving {
        effects.push(Effect::Exit(exit));
        return effects;
    }
    let is_of_run =
        |body: &Body| matches!(body, Body::Running { .. } | Body::CancelQuestion | Body::QuitQuestion);
    model.overlays.retain(|overlay| !is_of_run(&overlay.body));
    model.notice = kept(&receipt);
    model.overlays.push(Body::Receipt(receipt).into());
    effects.extend(probe(model));
    effects
}

/// What is told when a name was kept for good: the sweep that it was seen in did not run.
fn kept(receipt: &BasketReceipt) -> Option<String> {
    let [only] = receipt.parts.as_slice() else { return None };
    (only.action == ActionId::KeepName && only.is_clean())
        .then(|| "The name is kept from now on. Nothing was swept: plan the sweep again.".to_owned())
}
