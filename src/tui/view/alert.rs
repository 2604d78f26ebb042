//! The worst finding in one line, for screens on which the findings are out of sight: what is wrong must be on
//! the first screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::{self, Role};

use super::findings::tag;
use super::pane::span;

/// Draws the line.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let look = &model.look;
    let Some(worst) = model.findings.first() else { return };
    let more = match model.findings.len() - 1 {
        0 => " press 2".to_owned(),
        more => format!(" +{more} more, press 2"),
    };
    let room = usize::from(area.width).saturating_sub(7 + format::width(&more));
    let line = Line::from(vec![
        Span::raw(" "),
        span(look, theme::severity(worst.severity), tag(worst.severity)),
        Span::raw(" "),
        span(look, Role::Text, format::fill(&worst.title, room, look.glyphs.ellipsis)),
        span(look, Role::Dim, more),
    ]);
    buffer.set_line(area.x, area.y, &line, area.width);
}
