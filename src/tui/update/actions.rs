//! From a key to a plan to a run. Operands are frozen when the key is pressed; nothing runs before
//! [`Basket::approve`] said yes.

use crate::actions::{Request, request_for};
use crate::domain::basket::Basket;
use crate::domain::consent::Consent;
use crate::domain::finding::{ActionId, Finding};
use crate::domain::op::Op;
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::sweep::SweepTarget;
use crate::tui::effect::{Effect, Pick, Target, Wish};
use crate::tui::event::Ticket;
use crate::tui::menu::{self, Choice};
use crate::tui::model::{Model, Pane, Run, RunTarget, Survey};
use crate::tui::overlay::{Aim, Body, Dialog, Overlay};
use crate::tui::question::About;

use super::commands::nothing_here;
use super::{results, tree};

/// Whether enough is known of the machine for a plan.
fn can_plan(model: &Model, wish: &Wish) -> bool {
    // The safest steps are chosen from what all probes and a scan that is over tell.
    let of_all = matches!(wish, Wish::Reclaim(_));
    // What is left over is known when they are done.
    let of_probes = matches!(wish, Wish::Other(Request::RepairBuilds(_)));
    !(model.snapshot.protect.is_empty()
        || (of_all || of_probes) && model.probing
        || of_all && model.survey == Survey::UnderWay)
}

/// Asks for a plan, as soon as enough is known for one.
pub fn ask(model: &mut Model, wish: Wish) -> Vec<Effect> {
    if !can_plan(model, &wish) {
        let effects = if model.probing { Vec::new() } else { results::probe(model) };
        model.overlays.push(Body::Waiting(Box::new(wish)).into());
        return effects;
    }
    let ticket = model.ticket();
    model.overlays.push(Body::Planning(ticket).into());
    vec![Effect::Plan { ticket, wish }]
}

/// Goes on with what waits for the probes, where they have said enough.
pub fn go_on(model: &mut Model) -> Vec<Effect> {
    let at = model.overlays.iter().position(|overlay| match &overlay.body {
        Body::Waiting(wish) => can_plan(model, wish),
        _ => false,
    });
    let Some(at) = at else { return Vec::new() };
    let ticket = model.ticket();
    let Some(overlay) = model.overlays.get_mut(at) else { return Vec::new() };
    match std::mem::replace(overlay, Body::Planning(ticket).into()).body {
        Body::Waiting(wish) => vec![Effect::Plan { ticket, wish: *wish }],
        other => {
            overlay.body = other;
            Vec::new()
        }
    }
}

/// The probes are over, and what must never be touched is still not known: says so instead of waiting for ever.
pub fn stop_waiting(model: &mut Model) {
    if !model.snapshot.protect.is_empty() {
        return;
    }
    for overlay in &mut model.overlays {
        if matches!(overlay.body, Body::Waiting(_)) {
            let why = "What must never be touched on this machine could not be found out, so no plan was made and nothing \
                       was changed. r in a pane looks again; unwedge --health says what can be read here.";
            *overlay = Body::Gaps(vec![why.to_owned()]).into();
        }
    }
}

fn empty(model: &mut Model, what: &str) -> Vec<Effect> {
    model.notice = Some(nothing_here(what));
    Vec::new()
}

/// The marked rows of the tree, else the one under the cursor; none while the rows are of another directory.
fn picked(model: &Model) -> Option<Vec<Pick>> {
    let marked: Vec<Pick> = model.tree.list.marks.values().cloned().collect();
    if !marked.is_empty() {
        return Some(marked);
    }
    let current = || model.tree.current().and_then(|row| model.tree.pick(row));
    model.tree.settled().then(|| current().into_iter().collect())
}

/// Plans to delete the marked rows, else the one under the cursor.
pub fn delete(model: &mut Model) -> Vec<Effect> {
    match picked(model) {
        None => Vec::new(),
        Some(picks) if picks.is_empty() => empty(model, "file or directory"),
        Some(picks) => ask(model, Wish::Delete(picks)),
    }
}

/// Asks what to do with the marked rows, else with the one under the cursor.
pub fn act_on_rows(model: &mut Model) -> Vec<Effect> {
    let Some(picks) = picked(model) else { return Vec::new() };
    let Some(dir) = model.tree.listing().map(|listing| listing.path.clone()) else { return Vec::new() };
    let Some(first) = picks.first() else { return empty(model, "file or directory") };
    let bytes: Bytes = picks.iter().map(|pick| pick.allocated).sum();
    let title = match picks.len() {
        1 => format!("{}, {bytes}", first.name),
        count => format!("{count} marked, {bytes}"),
    };
    let (choices, note) = menu::of_rows(&picks, &dir, &model.snapshot, &model.settings);
    model.overlays.push(Body::Menu { title, choices, note, index: 0 }.into());
    Vec::new()
}

/// Plans to unmount the marked mounts, else the one under the cursor.
pub fn unmount(model: &mut Model) -> Vec<Effect> {
    let list = &model.mount_list;
    let wanted =
        |key| if list.marks.is_empty() { list.key == Some(key) } else { list.marks.contains_key(&key) };
    let mounts: Vec<_> = model.mounts().iter().filter(|mount| wanted(mount.mount)).cloned().collect();
    if mounts.is_empty() {
        return empty(model, "mount");
    }
    ask(model, Wish::Other(Request::Unmount(mounts)))
}

/// Plans the repair of builds. What it can be done with is looked at when the plan is made.
pub fn repair_builds(model: &mut Model) -> Vec<Effect> {
    ask(model, Wish::Other(Request::RepairBuilds(Box::new(Reading::Pending))))
}

/// Plans to end the marked processes, else the one under the cursor.
pub fn end_process(model: &mut Model) -> Vec<Effect> {
    let list = &model.process_list;
    let wanted =
        |key| if list.marks.is_empty() { list.key == Some(key) } else { list.marks.contains_key(&key) };
    let processes: Vec<_> =
        model.processes().into_iter().filter(|process| wanted(process.id)).cloned().collect();
    if processes.is_empty() {
        return empty(model, "process");
    }
    ask(model, Wish::Other(Request::EndProcess(processes)))
}

/// Plans to free the marked deleted files, else the one under the cursor.
pub fn free_deleted(model: &mut Model) -> Vec<Effect> {
    let list = &model.deleted_list;
    let wanted =
        |key| if list.marks.is_empty() { list.key == Some(key) } else { list.marks.contains_key(&key) };
    let files: Vec<_> = model.deleted().into_iter().filter(|file| wanted(file.key)).cloned().collect();
    if files.is_empty() {
        return empty(model, "deleted file");
    }
    ask(model, Wish::Other(Request::FreeDeleted(files)))
}

/// What a finding's first action would be asked for, where its operands are known: what goes into a basket.
pub fn request(model: &Model, finding: &Finding) -> Option<Request> {
    finding.actions.iter().find_map(|&action| request_for(action, finding, &model.snapshot))
}

/// Why the finding under the cursor cannot go into the basket; none where it can.
pub fn not_markable(model: &Model) -> Option<String> {
    let finding = model.findings.get(model.finding_list.index)?;
    if request(model, finding).is_some() {
        return None;
    }
    Some(if finding.actions.is_empty() {
        "Nothing here can be done by a key; Enter shows what helps.".to_owned()
    } else {
        "What it is about must be chosen first: x goes there.".to_owned()
    })
}

/// Plans all that is marked in any pane, as one.
pub fn basket(model: &mut Model) -> Vec<Effect> {
    let picks: Vec<Pick> = model.tree.list.marks.values().cloned().collect();
    let mut requests = Vec::new();
    let marks = &model.mount_list.marks;
    let mounts = model.mounts().iter().filter(|mount| marks.contains_key(&mount.mount));
    requests.push(Request::Unmount(mounts.cloned().collect()));
    let marks = &model.process_list.marks;
    let processes = model.processes().into_iter().filter(|process| marks.contains_key(&process.id));
    requests.push(Request::EndProcess(processes.cloned().collect()));
    let marks = &model.deleted_list.marks;
    let files = model.deleted().into_iter().filter(|file| marks.contains_key(&file.key));
    requests.push(Request::FreeDeleted(files.cloned().collect()));
    let marks = &model.finding_list.marks;
    let findings = model.findings.iter().filter(|finding| marks.contains_key(&finding.id));
    requests.extend(findings.filter_map(|finding| request(model, finding)));
    requests.retain(|request| !request.is_empty());
    if picks.is_empty() && requests.is_empty() {
        model.notice = Some("The basket is empty: Space marks rows, in any pane.".to_owned());
        return Vec::new();
    }
    ask(model, Wish::Basket { picks, requests })
}

/// Asks how much space is wanted on the file system of the tree.
pub fn ask_goal(model: &mut Model) -> Vec<Effect> {
    let Some(fs) = model.file_system_of_tree() else {
        model.notice = Some("The file system of the tree is not known yet; r looks again.".to_owned());
        return Vec::new();
    };
    let mount_point = fs.mount_point.clone();
    put(model, About::Goal(mount_point))
}

/// Puts a question.
fn put(model: &mut Model, about: About) -> Vec<Effect> {
    model.overlays.push(Body::Question { about, answer: String::new(), problem: None }.into());
    Vec::new()
}

/// Plans what was typed as the answer to a question.
pub fn answered(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay { body: Body::Question { about, answer, problem }, .. }) = model.overlays.last_mut()
    else {
        return Vec::new();
    };
    match about.wish(answer) {
        Ok(wish) => {
            model.overlays.pop();
            ask(model, wish)
        }
        Err(why) => {
            *problem = Some(why);
            Vec::new()
        }
    }
}

/// Starts what can be done about the row that is shown in full, or about the finding under the cursor.
pub fn act(model: &mut Model) -> Vec<Effect> {
    let finding = match model.overlays.last().map(|overlay| &overlay.body) {
        Some(Body::Finding { finding, .. }) => (**finding).clone(),
        Some(Body::Menu { choices, index, .. }) => {
            let Some(choice) = choices.get(*index).cloned() else { return Vec::new() };
            return take(model, choice);
        }
        Some(Body::Mount(mount)) => {
            let request = Request::Unmount(vec![(**mount).clone()]);
            return ask(model, Wish::Other(request));
        }
        Some(Body::Process(process)) => {
            let request = Request::EndProcess(vec![(**process).clone()]);
            return ask(model, Wish::Other(request));
        }
        Some(Body::Deleted(file)) => {
            let request = Request::FreeDeleted(vec![(**file).clone()]);
            return ask(model, Wish::Other(request));
        }
        Some(
            Body::Help
            | Body::Info { .. }
            | Body::Ledger(_)
            | Body::Gaps(_)
            | Body::Waiting(_)
            | Body::Planning(_)
            | Body::Confirm(_)
            | Body::Running { .. }
            | Body::SweepList(_)
            | Body::Question { .. }
            | Body::Receipt(_)
            | Body::CancelQuestion
            | Body::QuitQuestion,
        ) => return Vec::new(),
        None => match model.findings.get(model.finding_list.index) {
            Some(finding) => finding.clone(),
            None => return empty(model, "finding"),
        },
    };
    if finding.actions.is_empty() {
        model.notice = Some("Nothing here can be done by a key; Enter shows what helps.".to_owned());
        return Vec::new();
    }
    let mut choices = menu::choices(&finding, &model.snapshot);
    match choices.len() {
        0 => {
            model.notice = Some("What this was about is gone; r looks again.".to_owned());
            Vec::new()
        }
        1 if !matches!(choices.first(), Some(Choice::Named { .. })) => take(model, choices.remove(0)),
        _ => {
            let title = finding.title;
            model.overlays.push(Body::Menu { title, choices, note: None, index: 0 }.into());
            Vec::new()
        }
    }
}

/// Plans what was chosen, or goes to where it is to be marked.
fn take(model: &mut Model, choice: Choice) -> Vec<Effect> {
    let (action, path) = match choice {
        Choice::Plan(_, request) => return ask(model, Wish::Other(request)),
        Choice::Named { wish, .. } => return ask(model, *wish),
        Choice::Ask { about, .. } => return put(model, about),
        Choice::Place(action, path) => (action, path),
    };
    // Its largest entries are shown, to be marked and deleted there.
    model.overlays.clear();
    model.focus = Pane::Tree;
    let effects = if model.tree.root == path && model.tree.problem.is_none() {
        model.tree.dir = model.tree.root_node;
        super::tree::sort_by_size(model)
    } else {
        tree::scan(model, path.clone())
    };
    if model.notice.is_none() {
        let key = if action == ActionId::Evacuate { "x plans to move" } else { "d plans to delete" };
        model.notice = Some(format!("{path}, largest first: Space marks, {key}."));
    }
    effects
}

/// A plan is made: shown for consent, or as the remedy of a finding, or dropped where nobody waits for it.
pub fn planned(
    model: &mut Model,
    ticket: Ticket,
    (basket, aim): (Box<Basket>, Option<Box<Aim>>),
    targets: Vec<Target>,
    sweeps: Vec<SweepTarget>,
) -> Vec<Effect> {
    let waiting = model.overlays.iter().rposition(|overlay| match &overlay.body {
        Body::Planning(expected) => *expected == ticket,
        Body::Finding { ticket: expected, remedy, .. } => *expected == ticket && remedy.is_none(),
        Body::Help
        | Body::Info { .. }
        | Body::Menu { .. }
        | Body::Mount(_)
        | Body::Process(_)
        | Body::Deleted(_)
        | Body::Ledger(_)
        | Body::Gaps(_)
        | Body::Waiting(_)
        | Body::Confirm(_)
        | Body::Running { .. }
        | Body::SweepList(_)
        | Body::Question { .. }
        | Body::Receipt(_)
        | Body::CancelQuestion
        | Body::QuitQuestion => false,
    });
    let Some(overlay) = waiting.and_then(|at| model.overlays.get_mut(at)) else { return Vec::new() };
    if let Body::Finding { remedy, .. } = &mut overlay.body {
        *remedy = Some(basket);
    } else {
        let answer = String::new();
        let dialog = Dialog { basket, aim, targets, sweeps, answer, problem: None, seen: false };
        *overlay = Body::Confirm(dialog).into();
    }
    Vec::new()
}

/// Runs the plan where the consent fits, else says what is missing.
pub fn approve(model: &mut Model, dialog: Dialog, scroll: usize, consent: &Consent) -> Vec<Effect> {
    let Dialog { basket, aim, targets, sweeps, .. } = dialog;
    match basket.approve(consent) {
        Ok(approved) => {
            let basket = approved.basket();
            let summary = basket.summary();
            let steps = basket.parts.iter().flat_map(|plan| &plan.steps);
            let by_command = steps.filter_map(|step| run_target(&step.op, &targets)).collect();
            // Every overlay was about what was true before the run.
            model.overlays.clear();
            let body =
                Body::Running { summary: summary.clone(), progress: None, cancelled: false, skipped: None };
            model.overlays.push(body.into());
            model.run = Some(Run { summary, targets: by_command, cancelled: false });
            vec![Effect::Run(Box::new(approved))]
        }
        Err((basket, error)) => {
            let problem = Some(error.to_string());
            let answer = String::new();
            let dialog = Dialog { basket, aim, targets, sweeps, answer, problem, seen: true };
            model.overlays.push(Overlay { body: Body::Confirm(dialog), scroll });
            Vec::new()
        }
    }
}

/// Which row of the tree a change is about.
fn run_target(op: &Op, targets: &[Target]) -> Option<RunTarget> {
    let (path, stays) = match op {
        Op::RemoveFile { path, .. } | Op::RemoveTree { path, .. } | Op::Evacuate { path, .. } => {
            (path, false)
        }
        Op::Sweep { path, .. } | Op::RotateLog { path, .. } => (path, true),
        Op::PutBack { .. }
        | Op::RestoreAccess { .. }
        | Op::Signal { .. }
        | Op::SignalGroup { .. }
        | Op::Run { .. }
        | Op::Unmount { .. }
        | Op::RemoveEmptyDir { .. }
        | Op::KeepName { .. }
        | Op::TruncateDeleted { .. } => return None,
    };
    let target = targets.iter().find(|target| target.path == *path)?.clone();
    Some(RunTarget { command: op.words(), target, stays })
}
