//! What all panes have in common: the title line, rows, the sentence instead of rows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::reading::PENDING;
use crate::tui::format;
use crate::tui::layout;
use crate::tui::model::PaneGap;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::{Look, Role};

/// A span in a role.
pub fn span(look: &Look, role: Role, text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), look.style(role))
}

/// Draws the title line: name left, figures right, a rule between.
pub fn title(model: &Model, pane: Pane, name: &str, facts: &str, area: Rect, buffer: &mut Buffer) {
    let look = &model.look;
    let focused = model.focus == pane;
    let room = usize::from(area.width);
    let facts = if format::width(facts) + 12 > room { "" } else { facts };
    let facts_width = if facts.is_empty() { 0 } else { format::width(facts) + 2 };
    let name = format::cut_middle(name, room.saturating_sub(facts_width + 4), look.glyphs.ellipsis);
    let rule = room.saturating_sub(format::width(&name) + facts_width + 3);
    let mut spans = vec![
        span(look, Role::Focus, if focused { look.glyphs.cursor } else { " " }),
        span(look, if focused { Role::Focus } else { Role::Title }, name),
        span(look, Role::Dim, format!(" {}", look.glyphs.horizontal.repeat(rule))),
    ];
    if !facts.is_empty() {
        spans.push(span(look, Role::Text, format!(" {facts} ")));
    }
    buffer.set_line(area.x, area.y, &Line::from(spans), area.width);
}

/// Draws the rows on the screen: `line(index)` makes the row of an index. The row under the cursor of the
/// pane that has the keys is drawn in reverse.
pub fn rows(
    model: &Model,
    pane: Pane,
    area: Rect,
    (index, offset): (usize, usize),
    line: impl Fn(usize) -> Option<Line<'static>>,
    buffer: &mut Buffer,
) {
    for (at, y) in (offset..).zip(area.top()..area.bottom()) {
        let Some(line) = line(at) else { break };
        buffer.set_line(area.x, y, &line, area.width);
        if at == index && model.focus == pane {
            buffer.set_style(Rect { y, height: 1, ..area }, model.look.style(Role::Cursor));
        }
    }
}

/// Draws a right-hand pane: title, rows or the sentence that stands for none, and what is not known.
pub fn list(
    model: &Model,
    pane: Pane,
    (name, facts, none): (&str, &str, &str),
    area: Rect,
    cursor: (usize, usize),
    line: impl Fn(usize) -> Option<Line<'static>>,
    buffer: &mut Buffer,
) {
    title(model, pane, name, facts, area, buffer);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let gaps = model.gaps(pane);
    if model.len(pane) == 0 {
        empty(model, none, &gaps, body, buffer);
        return;
    }
    let height = u16::try_from(layout::list_height(model, pane, area)).unwrap_or(body.height);
    rows(model, pane, Rect { height: height.min(body.height), ..body }, cursor, line, buffer);
    if let Some(first) = gaps.first()
        && height < body.height
    {
        let more = if gaps.len() > 1 { format!(" (+{} more)", gaps.len() - 1) } else { String::new() };
        let text =
            format::cut(&format!(" ! {first}{more}"), usize::from(area.width), model.look.glyphs.ellipsis);
        buffer.set_string(body.x, body.y + height, text, model.look.style(Role::Unknown));
    }
}

/// Says that there is nothing, which is only true where nothing is missing, or what is not known.
fn empty(model: &Model, none: &str, gaps: &[PaneGap], body: Rect, buffer: &mut Buffer) {
    let room = usize::from(body.width).saturating_sub(2);
    let mut lines = Vec::new();
    if gaps.is_empty() {
        lines.extend(format::wrap(none, room).into_iter().map(|line| (Role::Good, line)));
    } else {
        for gap in gaps.iter().filter(|known| !known.gap.is_pending()) {
            let text = format!("not known: {gap}");
            lines.extend(format::wrap(&text, room).into_iter().map(|line| (Role::Unknown, line)));
        }
        if gaps.iter().any(|known| known.gap.is_pending()) {
            lines.push((Role::Dim, PENDING.to_owned()));
        }
    }
    for ((role, line), y) in lines.into_iter().zip(body.top()..body.bottom()) {
        buffer.set_stringn(body.x + 1, y, line, room, model.look.style(role));
    }
}

/// The mark in front of a row.
pub fn mark(look: &Look, marked: bool) -> Span<'static> {
    span(look, Role::Marked, if marked { look.glyphs.mark } else { " " })
}
