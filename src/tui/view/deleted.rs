//! Deleted files that still take space because somebody keeps them open.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::size::Bytes;
use crate::domain::snapshot::DeletedFile;
use crate::tui::format;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::Role;

use super::pane::{self, span};

/// Draws the deleted files.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let all = model.deleted();
    let total: Bytes = all.iter().map(|file| file.allocated).sum();
    let facts = if all.is_empty() { String::new() } else { format!("{} held, {total}", all.len()) };
    let list = &model.deleted_list;
    pane::list(
        model,
        Pane::Deleted,
        ("Deleted but open", &facts, "No deleted file takes space."),
        area,
        (list.index, list.offset),
        |at| all.get(at).map(|file| line(model, file, usize::from(area.width))),
        buffer,
    );
}

fn line(model: &Model, file: &DeletedFile, width: usize) -> Line<'static> {
    let look = &model.look;
    let holder = file.holders.first().map_or_else(String::new, |first| {
        let more =
            if file.holders.len() > 1 { format!(" +{}", file.holders.len() - 1) } else { String::new() };
        format!("{} {}{more}", first.name, first.process.pid)
    });
    let holder = format::fill(&holder, (width / 3).clamp(10, 24), look.glyphs.ellipsis);
    let room = width.saturating_sub(15 + format::width(&holder));
    let path = format::cut_middle(&file.last_path.to_string(), room, look.glyphs.ellipsis);
    Line::from(vec![
        pane::mark(look, model.deleted_list.marks.contains_key(&file.key)),
        span(look, Role::Text, format!("{:>10}", file.allocated)),
        Span::raw("  "),
        span(look, Role::Dim, holder),
        Span::raw(" "),
        span(look, Role::Text, path),
    ])
}
