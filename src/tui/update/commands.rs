//! What each command does to the model.

use crate::domain::consent::{Consent, ConsentRequest};
use crate::domain::sweep::Class;
use crate::tui::effect::{Effect, Exit};
use crate::tui::format;
use crate::tui::keymap::Command;
use crate::tui::layout;
use crate::tui::list_state::ListState;
use crate::tui::model::{Model, Order, Pane};
use crate::tui::overlay::{Body, Overlay};

use super::{actions, ledger, results, sweep_list, tree};

impl Command {
    /// Whether it makes sense without seeing what it does.
    pub(super) fn works_blind(self) -> bool {
        matches!(
            self,
            Self::Quit
                | Self::QuitNow
                | Self::Suspend
                | Self::Redraw
                | Self::CancelRun
                | Self::Close
                | Self::SweepDone
        )
    }
}

/// Does what a command says.
#[allow(clippy::too_many_lines, reason = "one line per command: a table, not logic")]
pub fn perform(model: &mut Model, command: Command) -> Vec<Effect> {
    match command {
        Command::Up => step(model, Step::By(-1)),
        Command::Down => step(model, Step::By(1)),
        Command::PageUp => step(model, Step::Page(-1)),
        Command::PageDown => step(model, Step::Page(1)),
        Command::First => step(model, Step::First),
        Command::Last => step(model, Step::Last),
        Command::Open => tree::open(model),
        Command::Parent => tree::parent(model),
        Command::ScanParent => tree::scan_parent(model),
        Command::Explain | Command::Info => results::explain(model),
        Command::Mark => mark(model),
        Command::UnmarkAll => unmark_all(model),
        Command::Delete => actions::delete(model),
        Command::Unmount => actions::unmount(model),
        Command::RepairBuilds => actions::repair_builds(model),
        Command::EndProcess => actions::end_process(model),
        Command::FreeDeleted => actions::free_deleted(model),
        Command::Act => actions::act(model),
        Command::ActOnRows => actions::act_on_rows(model),
        Command::Basket => actions::basket(model),
        Command::Reclaim => actions::ask_goal(model),
        Command::SortSize => tree::sort(model, Order::Size),
        Command::SortName => tree::sort(model, Order::Name),
        Command::SortEntries => tree::sort(model, Order::Entries),
        Command::SortAge => tree::sort(model, Order::Age),
        Command::ToggleApparent => tree::toggle_apparent(model),
        Command::Ledger => ledger::open(model),
        Command::NextLedger => ledger::turn(model, true),
        Command::PreviousLedger => ledger::turn(model, false),
        Command::ScanLedger => ledger::scan(model),
        Command::Rescan => rescan(model),
        Command::NextPane => turn(model, 1),
        Command::PreviousPane => turn(model, Pane::ALL.len() - 1),
        Command::PaneTree => focus(model, Pane::Tree),
        Command::PaneFindings => focus(model, Pane::Findings),
        Command::PaneMounts => focus(model, Pane::Mounts),
        Command::PaneProcesses => focus(model, Pane::Processes),
        Command::PaneDeleted => focus(model, Pane::Deleted),
        Command::Zoom => {
            model.zoomed = !model.zoomed;
            Vec::new()
        }
        Command::Help => {
            model.overlays.push(Body::Help.into());
            Vec::new()
        }
        Command::Close => close(model),
        Command::Agree => agree(model, &Consent::Key),
        Command::Submit => submit(model),
        Command::Erase => erase(model),
        Command::SweepList => sweep_list::open(model),
        Command::SweepSwitch => sweep_list::switch(model),
        Command::SweepFiles => sweep_list::switch_class(model, Class::OldFile),
        Command::SweepEmpty => sweep_list::switch_class(model, Class::EmptyDir),
        Command::SweepDirs => sweep_list::switch_class(model, Class::OldDir),
        Command::SweepRoot => sweep_list::switch_root(model),
        Command::SweepKeep => sweep_list::keep(model),
        Command::SweepDone => sweep_list::done(model),
        Command::AskCancel => ask_cancel(model),
        Command::GoOn => {
            model.notice = Some("The run goes on: c cancels it, s skips the step.".to_owned());
            Vec::new()
        }
        Command::CancelRun => {
            model.overlays.retain(|overlay| !matches!(overlay.body, Body::CancelQuestion));
            cancel_run(model)
        }
        Command::SkipStep => skip_step(model),
        Command::Quit => quit(model),
        Command::QuitNow => super::leave(model, Exit::Quit),
        Command::Suspend => vec![Effect::Suspend],
        Command::Redraw => vec![Effect::Redraw],
    }
}

fn ask_cancel(model: &mut Model) -> Vec<Effect> {
    if model.run.as_ref().is_some_and(|run| !run.cancelled) {
        model.overlays.push(Body::CancelQuestion.into());
    }
    Vec::new()
}

/// Stops the run under way after its current change.
pub fn cancel_run(model: &mut Model) -> Vec<Effect> {
    let Some(run) = &mut model.run else { return Vec::new() };
    run.cancelled = true;
    for overlay in &mut model.overlays {
        if let Body::Running { cancelled, .. } = &mut overlay.body {
            *cancelled = true;
        }
    }
    vec![Effect::CancelRun]
}

/// Leaves the step that is shown as running as it is.
fn skip_step(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay { body: Body::Running { progress: Some(now), skipped, .. }, .. }) =
        model.overlays.last_mut()
    else {
        return Vec::new();
    };
    *skipped = Some(now.number);
    vec![Effect::SkipStep(now.number)]
}

fn quit(model: &mut Model) -> Vec<Effect> {
    if model.run.is_none() {
        return vec![Effect::Exit(Exit::Quit)];
    }
    model.overlays.push(Body::QuitQuestion.into());
    Vec::new()
}

fn close(model: &mut Model) -> Vec<Effect> {
    if model.overlays.pop().is_none() {
        if model.zoomed {
            model.zoomed = false;
        } else {
            model.focus = Pane::Tree;
        }
    }
    Vec::new()
}

fn rescan(model: &mut Model) -> Vec<Effect> {
    let mut effects = results::probe(model);
    if model.focus == Pane::Tree {
        effects.extend(tree::rescan(model));
    }
    effects
}

fn turn(model: &mut Model, by: usize) -> Vec<Effect> {
    let at = Pane::ALL.iter().position(|pane| *pane == model.focus).unwrap_or(0);
    let next = Pane::ALL.get((at + by) % Pane::ALL.len()).copied().unwrap_or(Pane::Tree);
    focus(model, next)
}

fn focus(model: &mut Model, pane: Pane) -> Vec<Effect> {
    model.focus = pane;
    Vec::new()
}

/// How far a cursor goes.
#[derive(Clone, Copy)]
enum Step {
    By(isize),
    Page(isize),
    First,
    Last,
}

impl Step {
    fn from(self, index: usize, len: usize, page: usize) -> usize {
        let last = len.saturating_sub(1);
        match self {
            Self::By(delta) => index.saturating_add_signed(delta).min(last),
            Self::Page(delta) => {
                let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
                index.saturating_add_signed(delta.saturating_mul(page)).min(last)
            }
            Self::First => 0,
            Self::Last => last,
        }
    }
}

fn step(model: &mut Model, step: Step) -> Vec<Effect> {
    if let Some(Overlay { body: Body::Menu { choices, index, .. }, .. }) = model.overlays.last_mut() {
        *index = step.from(*index, choices.len(), choices.len());
        return Vec::new();
    }
    let rows = layout::sweep_rows(model.size);
    if let Some(list) = sweep_list::on_top(model) {
        list.index = step.from(list.index, list.rows(), rows);
        return Vec::new();
    }
    if let Some(overlay) = model.overlays.last_mut() {
        let page = usize::from(layout::sheet(model.size, usize::MAX).height).saturating_sub(4);
        // The end is set by `settle`.
        overlay.scroll = step.from(overlay.scroll, usize::MAX, page);
        return Vec::new();
    }
    let pane = model.focus;
    let rows = layout::of(model)
        .and_then(|places| places.panes.into_iter().find(|(shown, _)| *shown == pane))
        .map_or(1, |(_, area)| layout::list_height(model, pane, area));
    let len = model.len(pane);
    match pane {
        Pane::Tree => {
            if !model.tree.settled() {
                return Vec::new();
            }
            let index = step.from(model.tree.list.index, len, rows);
            model.tree.seek = None;
            let node = model.tree.row(index).map(|row| row.node);
            model.tree.list.go(index, len, |_| node);
            return tree::follow(model);
        }
        Pane::Findings => {
            let index = step.from(model.finding_list.index, len, rows);
            let key = model.findings.get(index).map(|finding| finding.id.clone());
            model.finding_list.go(index, len, |_| key.clone());
        }
        Pane::Mounts => {
            let index = step.from(model.mount_list.index, len, rows);
            let key = model.mounts().get(index).map(|mount| mount.mount);
            model.mount_list.go(index, len, |_| key);
        }
        Pane::Processes => {
            let index = step.from(model.process_list.index, len, rows);
            let key = model.processes().get(index).map(|process| process.id);
            model.process_list.go(index, len, |_| key);
        }
        Pane::Deleted => {
            let index = step.from(model.deleted_list.index, len, rows);
            let key = model.deleted().get(index).map(|file| file.key);
            model.deleted_list.go(index, len, |_| key);
        }
    }
    Vec::new()
}

fn mark(model: &mut Model) -> Vec<Effect> {
    fn toggle<K: Ord + Clone, M: Default>(list: &mut ListState<K, M>) {
        if let Some(key) = list.key.clone()
            && list.marks.remove(&key).is_none()
        {
            list.marks.insert(key, M::default());
        }
    }
    match model.focus {
        Pane::Tree => {
            if model.tree.settled()
                && let Some(row) = model.tree.current()
                && let Some(pick) = model.tree.pick(row)
                && model.tree.list.marks.remove(&pick.node).is_none()
            {
                model.tree.list.marks.insert(pick.node, pick);
            }
        }
        Pane::Findings => {
            if let Some(why) = actions::not_markable(model) {
                model.notice = Some(why);
                return Vec::new();
            }
            toggle(&mut model.finding_list);
        }
        Pane::Mounts => toggle(&mut model.mount_list),
        Pane::Processes => toggle(&mut model.process_list),
        Pane::Deleted => toggle(&mut model.deleted_list),
    }
    step(model, Step::By(1))
}

fn unmark_all(model: &mut Model) -> Vec<Effect> {
    match model.focus {
        Pane::Tree => model.tree.list.marks.clear(),
        Pane::Findings => model.finding_list.marks.clear(),
        Pane::Mounts => model.mount_list.marks.clear(),
        Pane::Processes => model.process_list.marks.clear(),
        Pane::Deleted => model.deleted_list.marks.clear(),
    }
    Vec::new()
}

fn agree(model: &mut Model, consent: &Consent) -> Vec<Effect> {
    match model.overlays.pop() {
        Some(Overlay { body: Body::Confirm(dialog), scroll }) => {
            if dialog.seen {
                actions::approve(model, dialog, scroll, consent)
            } else {
                model.overlays.push(Overlay { body: Body::Confirm(dialog), scroll });
                Vec::new()
            }
        }
        Some(other) => {
            model.overlays.push(other);
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn submit(model: &mut Model) -> Vec<Effect> {
    if let Some(Overlay { body: Body::Question { .. }, .. }) = model.overlays.last() {
        return actions::answered(model);
    }
    let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last_mut() else {
        return Vec::new();
    };
    let expected = match dialog.basket.consent_request() {
        ConsentRequest::Key => return agree(model, &Consent::Key),
        ConsentRequest::Word(word) => word.to_owned(),
        ConsentRequest::Name(name) => name,
    };
    if dialog.answer.is_empty() {
        dialog.problem = Some(format!("type {expected} first"));
        return Vec::new();
    }
    let typed = dialog.answer.clone();
    agree(model, &Consent::Typed(typed))
}

fn erase(model: &mut Model) -> Vec<Effect> {
    if let Some((answer, problem)) = model.overlays.last_mut().and_then(super::answer_of) {
        answer.pop();
        *problem = None;
    }
    Vec::new()
}

/// What is said when something is asked of an empty place.
pub fn nothing_here(what: &str) -> String {
    format!("There is no {what} under the cursor.")
}

/// Tells how many marks a new scan dropped.
pub fn dropped_marks(count: usize) -> String {
    format!("{count} {} dropped: the tree is another one now.", format::plural(count, "mark", "marks"))
}
