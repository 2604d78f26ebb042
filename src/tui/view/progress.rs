//! What is shown while a plan is made, while it runs, and when somebody wants to leave meanwhile.

use ratatui::text::Line;

use crate::exec;
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::Role;

use super::pane::span;
use super::sheet::Sheet;
use super::text::Text;

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
    cancelled: bool,
    width: usize,
) -> Sheet {
    let look = &model.look;
    let mut text = Text::new(*look, width);
    text.para(summary, Role::Title).blank();
    if let Some(now) = progress {
        text.field("Step", &format!("{} of {}", (now.step + 1).min(now.steps), now.steps), Role::Text);
        text.field("Runs", &now.op, Role::Command);
        let done = match now.expected {
            Some(expected) => {
                format!("{} of {} entries", format::count(now.done), format::count(expected.max(now.done)))
            }
            None => format!("{} entries", format::count(now.done)),
        };
        text.field("Done", &done, Role::Text);
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
    if cancelled {
        text.blank().para("Cancelling: it stops after the change under way.", Role::Warning);
    }
    Sheet { title: "Running".to_owned(), role: Role::Focus, lines: text.into_lines(), prompt: Vec::new() }
}

/// Somebody wants to leave while a run is under way.
pub fn quit_question(model: &Model, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let summary = model.run.as_ref().map_or("", |run| &run.summary);
    text.para(summary, Role::Title);
    text.blank();
    text.para("This is still running. What is done stays done; the rest would not be.", Role::Text);
    Sheet { title: "Quit?".to_owned(), role: Role::Warning, lines: text.into_lines(), prompt: Vec::new() }
}
