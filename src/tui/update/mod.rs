//! `update(&mut Model, Event) -> Vec<Effect>`: all of the console's behaviour. Pure: it waits for nothing,
//! reads nothing and changes nothing but the model.

mod actions;
mod commands;
mod ledger;
mod results;
mod sweep_list;
#[cfg(test)]
mod tests;
mod tree;

use super::effect::{Effect, Exit};
use super::event::Event;
use super::key::Key;
use super::keymap::{self, Context};
use super::layout;
use super::model::{Model, Pane};
use super::overlay::{Body, Overlay};
use super::view::sheet;

/// The longest answer that can be typed into a dialog.
const LONGEST_ANSWER: usize = 64;

/// What the console does before anything happened.
pub fn start(model: &mut Model) -> Vec<Effect> {
    let mut effects = tree::scan(model, model.tree.root.clone());
    effects.extend(results::probe(model));
    effects
}

/// Takes in what happened and says what should be done about it.
pub fn update(model: &mut Model, event: Event) -> Vec<Effect> {
    let mut effects = match event {
        Event::Key(key) => press(model, key),
        Event::Paste(text) => {
            for c in text.chars() {
                type_character(model, c);
            }
            Vec::new()
        }
        Event::Resize(columns, rows) => {
            model.size = (columns, rows);
            Vec::new()
        }
        Event::Signal(signal) => leave(model, Exit::Signal(signal)),
        Event::TerminalLost => leave(model, Exit::TerminalLost),
        Event::Crashed => vec![Effect::Exit(Exit::Crashed)],
        Event::Stop => vec![Effect::Suspend],
        Event::Continue => vec![Effect::Resume],
        Event::Drawn => {
            if let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last_mut() {
                dialog.seen = true;
            }
            return Vec::new();
        }
        Event::Probed(part) => results::probed(model, *part),
        Event::ProbesEnded => then_account(model, results::probes_ended),
        Event::Found(findings) => results::found(model, findings),
        Event::ScanStarted { scan, root } => tree::scan_started(model, scan, root),
        Event::ScanFailed { scan, why } => tree::scan_failed(model, scan, why),
        Event::Listed(listed) => then_account(model, |model| tree::listed(model, listed)),
        Event::Changed { scan, dir } => tree::changed(model, scan, dir),
        Event::Accounted { scan, outcome } => ledger::accounted(model, scan, outcome),
        Event::Notice(text) => {
            model.notice = Some(text);
            Vec::new()
        }
        Event::Inspected { ticket, outcome, names } => results::inspected(model, ticket, outcome, names),
        Event::Planned { ticket, basket, aim, targets, sweeps } => {
            actions::planned(model, ticket, (basket, aim), targets, sweeps)
        }
        Event::Running(progress) => results::running(model, progress),
        Event::Ran(receipt) => results::ran(model, receipt),
    };
    settle(model);
    effects.extend(tree::missing(model));
    effects
}

/// Takes something in, and asks for the ledger where that was the last thing missing.
fn then_account(model: &mut Model, take_in: impl FnOnce(&mut Model) -> Vec<Effect>) -> Vec<Effect> {
    let mut effects = take_in(model);
    effects.extend(ledger::due(model));
    effects
}

/// Ends the program; a run under way is cancelled first and waited for.
fn leave(model: &mut Model, exit: Exit) -> Vec<Effect> {
    if model.run.is_none() {
        return vec![Effect::Exit(exit)];
    }
    model.leaving = Some(exit);
    commands::cancel_run(model)
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    model.notice = None;
    // What is not on the screen cannot be meant. Leaving still can.
    let context = model.context();
    if layout::of(model).is_none() {
        return match keymap::lookup(context, key) {
            Some(command) if command.works_blind() => commands::perform(model, command),
            _ => Vec::new(),
        };
    }
    // Ctrl-\ (a terminal sends it as Ctrl-4): proves in the tests that the terminal survives a panic.
    if cfg!(debug_assertions) && key == Key::Ctrl('4') {
        return vec![Effect::Panic];
    }
    if let Some(command) = keymap::lookup(context, key) {
        return commands::perform(model, command);
    }
    if let Key::Char(c) = key {
        type_character(model, c);
    }
    Vec::new()
}

/// Adds a character to the answer of a dialog that asks for one.
fn type_character(model: &mut Model, c: char) {
    if matches!(model.context(), Context::ConfirmTyped | Context::ConfirmSweep | Context::Goal)
        && let Some((answer, problem)) = model.overlays.last_mut().and_then(answer_of)
        && !c.is_control()
        && answer.chars().count() < LONGEST_ANSWER
    {
        answer.push(c);
        *problem = None;
    }
}

/// Where what is typed goes, and what was wrong with it; none where nothing is asked for, or the question was not on
/// the screen yet.
fn answer_of(overlay: &mut Overlay) -> Option<(&mut String, &mut Option<String>)> {
    match &mut overlay.body {
        Body::Confirm(dialog) if dialog.seen => Some((&mut dialog.answer, &mut dialog.problem)),
        Body::Question { answer, problem, .. } => Some((answer, problem)),
        _ => None,
    }
}

/// Brings cursors and scroll positions into the range of what is there.
fn settle(model: &mut Model) {
    if let Some(places) = layout::of(model) {
        for (pane, area) in places.panes {
            let height = layout::list_height(model, pane, area);
            let len = model.len(pane);
            match pane {
                Pane::Tree => model.tree.list.reveal(height, len),
                Pane::Findings => model.finding_list.reveal(height, len),
                Pane::Mounts => model.mount_list.reveal(height, len),
                Pane::Processes => model.process_list.reveal(height, len),
                Pane::Deleted => model.deleted_list.reveal(height, len),
            }
        }
    }
    sweep_list::settle(model);
    let most = sheet::most_scroll(model);
    if let Some(overlay) = model.overlays.last_mut() {
        overlay.scroll = overlay.scroll.min(most);
    }
}
