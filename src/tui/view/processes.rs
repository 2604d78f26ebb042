//! Build and package processes, those left over first.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::snapshot::{BuildProcess, Verdict};
use crate::tui::format;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::{self, Role};

use super::pane::{self, span};

/// The word for a process's verdict, seven columns wide at most.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Orphan => "orphan",
        Verdict::InUse => "in use",
        Verdict::Service => "service",
        Verdict::Unknown => "unknown",
    }
}

/// Draws the processes.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let all = model.processes();
    let orphans = all.iter().filter(|process| process.verdict == Verdict::Orphan).count();
    let facts = if all.is_empty() {
        String::new()
    } else {
        format!("{orphans} {} of {}", format::plural(orphans, "orphan", "orphans"), all.len())
    };
    let list = &model.process_list;
    pane::list(
        model,
        Pane::Processes,
        ("Build processes", &facts, "No build or package processes run."),
        area,
        (list.index, list.offset),
        |at| all.get(at).map(|process| line(model, process, usize::from(area.width))),
        buffer,
    );
}

fn line(model: &Model, process: &BuildProcess, width: usize) -> Line<'static> {
    let look = &model.look;
    let mut spans = vec![
        pane::mark(look, model.process_list.marks.contains_key(&process.id)),
        span(look, theme::verdict(process.verdict), format!("{:<7}", word(process.verdict))),
        span(look, Role::Text, format!(" {:>7}", process.id.pid)),
        span(look, Role::Dim, format!(" {:>6}", format::age(process.age_secs))),
    ];
    if width >= 60 {
        spans.push(span(look, Role::Dim, format!(" {:>4} {:>9}", process.cpu, process.memory)));
    }
    spans.push(Span::raw("  "));
    let used: usize = spans.iter().map(Span::width).sum();
    let room = width.saturating_sub(used + 1);
    spans.push(span(look, Role::Text, format::cut(&command(process), room, look.glyphs.ellipsis)));
    Line::from(spans)
}

/// The command line without the directory of its program, which in a narrow row is all one would see.
fn command(process: &BuildProcess) -> String {
    if process.command.is_empty() {
        return process.tool.to_string();
    }
    let command = process.command.to_string();
    let program = command.split(' ').next().unwrap_or_default();
    match program.rfind('/') {
        Some(slash) => command.split_at(slash + 1).1.to_owned(),
        None => command,
    }
}
