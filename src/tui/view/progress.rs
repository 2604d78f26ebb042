//! What is shown while a plan is made, while it runs, and when somebody wants to leave meanwhile.

use ratatui::text::Line;

use crate::domain::reading::Millis;
use crate::domain::size::Bytes;
use crate::exec;
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::Role;

use super::pane::span;
use super::sheet::Sheet;
use super::text::Text;

/// What was asked for waits for the probes.
pub fn waiting(model: &Model, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let known = if model.snapshot.protect.is_empty() {
        "It is being found out what must never be touched on this machine. No plan is made before that is known."
    } else {
        "The machine is still being looked at. What is chosen depends on all that is seen."
    };
    text.para(known, Role::Text).blank();
    text.para("The plan opens by itself; Esc cancels. Nothing has been changed.", Role::Text);
    Sheet { title: "Waiting".to_owned(), role: Role::Title, lines: text.into_lines(), prompt: Vec::new() }
}

/// A plan is being made.
pub fn planning(model: &Model, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    text.para("Looking at what was chosen. Nothing has been changed.", Role::Text);
    Sheet {
        title: "Making the plan".to_owned(),
        role: Role::Title,
        lines: text.into_lines(),
        prompt: Vec::new(),
    }
}

/// A run is under way.
pub fn running(
    model: &Model,
    summary: &str,
    progress: Option<&exec::Progress>,
    (cancelled, skipped): (bool, Option<u64>),
    width: usize,
) -> Sheet {
    let look = &model.look;
    let mut text = Text::new(*look, width);
    text.para(summary, Role::Title).blank();
    if let Some(now) = progress {
        text.field("Step", &format!("{} of {}", (now.step + 1).min(now.steps), now.steps), Role::Text);
        text.field("Runs", &now.op, Role::Command);
        let done = match now.expected {
            Some(expected) if now.unit == exec::Unit::Mebibytes => copied(now.done, expected),
            Some(expected) => {
                format!("{} of {} entries", format::count(now.done), format::count(expected.max(now.done)))
            }
            None => format!("{} entries", format::count(now.done)),
        };
        text.field("Done", &done, Role::Text);
        let seconds = |millis: Millis| format::age(millis.0.div_ceil(1000));
        text.field("Time", &format!("{} so far", seconds(now.elapsed)), Role::Text);
        if let Some(left) = now.left {
            text.field("Left", &format!("about {}", seconds(left)), Role::Text);
        }
        if let Some(expected) = now.expected.filter(|&expected| expected > 0) {
            let cells = width.saturating_sub(2).min(60);
            let done = u128::from(now.done.min(expected));
            let used =
                usize::try_from(done * cells as u128 / u128::from(expected)).unwrap_or(cells).min(cells);
            text.blank();
            text.line(Line::from(vec![
                span(look, Role::Bar, look.glyphs.used.repeat(used)),
                span(look, Role::Dim, look.glyphs.free.repeat(cells - used)),
            ]));
        }
    } else {
        text.para("Starting.", Role::Dim);
    }
    if progress.is_some_and(|now| skipped == Some(now.number)) {
        text.blank().para(
            "Skipping this step: a program at work is ended; what is not done yet stays.",
            Role::Warning,
        );
    }
    if cancelled {
        text.blank().para("Cancelling: it stops after the change under way; a program at work is ended. What was stopped for the run is started again.", Role::Warning);
    }
    Sheet { title: "Running".to_owned(), role: Role::Focus, lines: text.into_lines(), prompt: Vec::new() }
}

/// How far a copy is: all of it is copied first, then compared.
fn copied(done: u64, expected: u64) -> String {
    let size = expected / 2;
    let mib = |count: u64| Bytes(count << 20);
    match done.checked_sub(size) {
        None | Some(0) => format!("{} of {} copied", mib(done), mib(size)),
        Some(compared) => format!("copied; {} of {} compared", mib(compared), mib(size)),
    }
}

/// Somebody wants to cancel the run under way, or to leave.
pub fn question(model: &Model, title: &str, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let summary = model.run.as_ref().map_or("", |run| &run.summary);
    text.para(summary, Role::Title);
    text.blank();
    text.para("This is still running. What is done stays done; the rest would not be.", Role::Text);
    Sheet { title: title.to_owned(), role: Role::Warning, lines: text.into_lines(), prompt: Vec::new() }
}
