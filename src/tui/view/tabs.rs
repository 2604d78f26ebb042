//! The tab bar, where only one pane is shown.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::format;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::Role;

use super::pane::span;

fn label(pane: Pane, length: usize) -> &'static str {
    let [long, short] = match pane {
        Pane::Tree => ["Tree", "Tree"],
        Pane::Findings => ["Findings", "Find"],
        Pane::Mounts => ["Mounts", "Mnt"],
        Pane::Processes => ["Processes", "Proc"],
        Pane::Deleted => ["Deleted open", "Del"],
    };
    if length == 0 { long } else { short }
}

/// Draws the tabs: number, name, count. The one shown is reversed.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let line = (0..3)
        .map(|length| line(model, length))
        .find(|line| line.width() <= usize::from(area.width))
        .unwrap_or_default();
    buffer.set_line(area.x, area.y, &line, area.width);
}

fn line(model: &Model, length: usize) -> Line<'static> {
    let look = &model.look;
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (number, pane) in (1..).zip(Pane::ALL) {
        let name = label(pane, length);
        let count = if pane == Pane::Tree {
            String::new()
        } else if model.len(pane) > 0 {
            format!(" {}", format::count_short(model.len(pane) as u64))
        } else if model.gaps(pane).is_empty() {
            String::new()
        } else {
            " ?".to_owned()
        };
        let gap = if length == 0 { " " } else { "" };
        let role = if pane == model.focus {
            Role::Cursor
        } else if pane == Pane::Findings {
            super::findings::worst(model)
        } else {
            Role::Text
        };
        let number = if length < 2 { format!("{number} ") } else { String::new() };
        let text = format!("{gap}{number}{name}{count}{gap}");
        spans.push(span(look, role, text));
        spans.push(Span::raw(" "));
    }
    spans.pop();
    Line::from(spans)
}
