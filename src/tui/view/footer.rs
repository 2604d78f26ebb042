//! The keys that apply now, from the command table.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::keymap::{self, Command, Context};
use crate::tui::model::Model;
use crate::tui::theme::{Look, Role};

use super::pane::span;

/// Draws the keys of the pane that has them.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let line = hints(&model.look, model.focus.context(), usize::from(area.width));
    buffer.set_line(area.x, area.y, &line, area.width);
}

/// As many hints as fit, in table order; help and quit always.
pub fn hints(look: &Look, context: Context, width: usize) -> Line<'static> {
    let always = |command| matches!(command, Command::Help | Command::Quit | Command::Close);
    let all: Vec<_> = keymap::in_context(context)
        .filter_map(|binding| Some((binding.command, binding.keys.first()?.to_string(), binding.hint?)))
        .collect();
    let size = |key: &str, hint: &str| key.chars().count() + hint.chars().count() + 3;
    let mut room = width.saturating_sub(1);
    for (command, key, hint) in &all {
        if always(*command) {
            room = room.saturating_sub(size(key, hint));
        }
    }
    let mut full = false;
    let mut spans: Vec<Span<'static>> = vec![Span::raw(" ")];
    for (command, key, hint) in all {
        let wide = size(&key, hint);
        if !always(command) {
            if full || wide > room {
                full = true;
                continue;
            }
            room -= wide;
        }
        spans.push(span(look, Role::Key, key));
        spans.push(span(look, Role::Dim, format!(" {hint}  ")));
    }
    Line::from(spans)
}
