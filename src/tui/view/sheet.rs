//! The box that every overlay is drawn in: a title, text that scrolls, what is asked, and the keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Clear, Widget as _};

use crate::tui::format;
use crate::tui::layout;
use crate::tui::model::Model;
use crate::tui::overlay::{Body, Overlay};
use crate::tui::theme::{Look, Role};

use super::pane::span;
use super::{dialog, explain, footer, help, info, ledger, menu, progress, question, receipt, sweep_list};

/// What is in the box.
pub struct Sheet {
    /// On the upper edge.
    pub title: String,
    /// The role of title and edges.
    pub role: Role,
    /// The text; scrolls.
    pub lines: Vec<Line<'static>>,
    /// Stays at the bottom.
    pub prompt: Vec<Line<'static>>,
}

/// The columns that a sheet has for text: without the edges and a column of air on either side.
fn room(size: (u16, u16)) -> usize {
    usize::from(layout::sheet(size, 1).width).saturating_sub(4)
}

fn make(model: &Model, overlay: &Overlay) -> Sheet {
    let width = room(model.size);
    match &overlay.body {
        Body::Help => help::sheet(model, width),
        Body::Info { row, dir, identity, names, .. } => {
            info::sheet(model, row, dir, (identity.as_deref(), names), width)
        }
        Body::Finding { finding, remedy, .. } => explain::finding(model, finding, remedy.as_deref(), width),
        Body::Menu { title, choices, note, index } => {
            menu::sheet(model, (title, note.as_deref()), (choices, *index), width)
        }
        Body::Mount(mount) => explain::mount(model, mount, width),
        Body::Process(process) => explain::process(model, process, width),
        Body::Deleted(file) => explain::deleted(model, file, width),
        Body::Ledger(mount_point) => ledger::sheet(model, mount_point, width),
        Body::Gaps(gaps) => explain::gaps(model, gaps, width),
        Body::Waiting(_) => progress::waiting(model, width),
        Body::Planning(_) => progress::planning(model, width),
        Body::Confirm(dialog) => dialog::sheet(model, dialog, width),
        Body::Running { summary, progress, cancelled, skipped } => {
            progress::running(model, summary, progress.as_ref(), (*cancelled, *skipped), width)
        }
        Body::SweepList(list) => sweep_list::sheet(model, list, width),
        Body::Question { about, answer, problem } => {
            question::sheet(model, about, (answer, problem.as_deref()), width)
        }
        Body::Receipt(receipt) => receipt::sheet(model, receipt, width),
        Body::CancelQuestion => progress::question(model, "Cancel the run?", width),
        Body::QuitQuestion => progress::question(model, "Quit?", width),
    }
}

/// Rows for the text, in a sheet of this content.
fn text_rows(area: Rect, sheet: &Sheet) -> usize {
    usize::from(area.height).saturating_sub(2 + prompt_rows(sheet))
}

/// Rows of the prompt, with the rule above it.
fn prompt_rows(sheet: &Sheet) -> usize {
    if sheet.prompt.is_empty() { 0 } else { sheet.prompt.len() + 1 }
}

fn place(model: &Model, sheet: &Sheet) -> Rect {
    layout::sheet(model.size, sheet.lines.len() + prompt_rows(sheet))
}

/// How far the overlay on top can be scrolled.
pub fn most_scroll(model: &Model) -> usize {
    let Some(overlay) = model.overlays.last() else { return 0 };
    // It scrolls by its cursor.
    if matches!(overlay.body, Body::SweepList(_)) {
        return 0;
    }
    let sheet = make(model, overlay);
    sheet.lines.len().saturating_sub(text_rows(place(model, &sheet), &sheet))
}

/// Draws an overlay.
pub fn draw(model: &Model, overlay: &Overlay, buffer: &mut Buffer) {
    let look = &model.look;
    let sheet = make(model, overlay);
    let area = place(model, &sheet).intersection(buffer.area);
    if area.width < 8 || area.height < 3 {
        return;
    }
    Clear.render(area, buffer);
    edges(look, &sheet, area, buffer);
    let rows = text_rows(area, &sheet);
    let inner = Rect::new(area.x + 2, area.y + 1, area.width - 4, area.height - 2);
    for (line, y) in sheet.lines.iter().skip(overlay.scroll).take(rows).zip(inner.top()..inner.bottom()) {
        buffer.set_line(inner.x, y, line, inner.width);
    }
    let prompt_top = inner.bottom().saturating_sub(u16::try_from(sheet.prompt.len()).unwrap_or(0));
    for (line, y) in sheet.prompt.iter().zip(prompt_top..inner.bottom()) {
        buffer.set_line(inner.x, y, line, inner.width);
    }
    if !sheet.prompt.is_empty() && prompt_top > inner.y {
        let rule = look.glyphs.horizontal.repeat(usize::from(inner.width));
        buffer.set_string(inner.x, prompt_top - 1, rule, look.style(Role::Dim));
    }
    let bottom = area.bottom() - 1;
    let hints = footer::hints(look, overlay.context(), usize::from(inner.width));
    buffer.set_line(area.x + 1, bottom, &hints, inner.width);
    if sheet.lines.len() > rows {
        let position = format!(
            " {}-{} of {} {}{} ",
            overlay.scroll + 1,
            (overlay.scroll + rows).min(sheet.lines.len()),
            sheet.lines.len(),
            if overlay.scroll > 0 { look.glyphs.more_above } else { " " },
            if overlay.scroll + rows < sheet.lines.len() { look.glyphs.more_below } else { " " },
        );
        let wide = u16::try_from(format::width(&position)).unwrap_or(0);
        if usize::from(wide) + hints.width() + 2 <= usize::from(area.width) {
            buffer.set_string(area.right() - wide - 1, bottom, position, look.style(Role::Text));
        }
    }
}

fn edges(look: &Look, sheet: &Sheet, area: Rect, buffer: &mut Buffer) {
    let style = look.style(sheet.role);
    let [top_left, top_right, bottom_left, bottom_right] = look.glyphs.corners;
    let across = look.glyphs.horizontal.repeat(usize::from(area.width) - 2);
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    buffer.set_string(area.x, area.y, format!("{top_left}{across}{top_right}"), style);
    buffer.set_string(area.x, bottom, format!("{bottom_left}{across}{bottom_right}"), style);
    for y in area.y + 1..bottom {
        buffer.set_string(area.x, y, look.glyphs.vertical, style);
        buffer.set_string(right, y, look.glyphs.vertical, style);
    }
    let title =
        format::cut_middle(&sheet.title, usize::from(area.width).saturating_sub(6), look.glyphs.ellipsis);
    let line = Line::from(span(look, sheet.role, format!(" {title} ")));
    buffer.set_line(area.x + 2, area.y, &line, area.width - 4);
}
