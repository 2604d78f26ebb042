//! What is wrong, worst first.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::finding::{Finding, Reclaim, Severity};
use crate::tui::format;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::{self, Role};

use super::pane::{self, span};

/// The role of the worst finding.
pub fn worst(model: &Model) -> Role {
    model.findings.iter().map(|finding| finding.severity).max().map_or(Role::Text, theme::severity)
}

/// The word for a severity, four columns wide.
pub fn tag(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "CRIT",
        Severity::Warning => "WARN",
        Severity::Unknown => " ?? ",
        Severity::Info => "info",
    }
}

/// Draws the findings.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let facts = [Severity::Critical, Severity::Warning, Severity::Unknown, Severity::Info]
        .into_iter()
        .filter_map(|severity| {
            let count = model.findings.iter().filter(|finding| finding.severity == severity).count();
            (count > 0).then(|| format!("{count} {severity}"))
        })
        .collect::<Vec<_>>()
        .join(", ");
    let list = &model.finding_list;
    pane::list(
        model,
        Pane::Findings,
        ("Findings", &facts, "Nothing found: all that was looked at is well."),
        area,
        (list.index, list.offset),
        |at| {
            let finding = model.findings.get(at)?;
            let marked = list.marks.contains_key(&finding.id);
            Some(line(model, finding, marked, usize::from(area.width)))
        },
        buffer,
    );
}

fn line(model: &Model, finding: &Finding, marked: bool, width: usize) -> Line<'static> {
    let look = &model.look;
    let gain = match finding.reclaim {
        Reclaim::Exact { .. } | Reclaim::Range { .. } if width >= 50 => format!("frees {}", finding.reclaim),
        Reclaim::Exact { .. } | Reclaim::Range { .. } | Reclaim::Unknown | Reclaim::Nothing => String::new(),
    };
    let room = width.saturating_sub(7 + if gain.is_empty() { 0 } else { format::width(&gain) + 2 });
    Line::from(vec![
        pane::mark(look, marked),
        span(look, theme::severity(finding.severity), tag(finding.severity)),
        Span::raw(" "),
        span(look, Role::Text, format::fill(&finding.title, room, look.glyphs.ellipsis)),
        span(look, Role::Dim, if gain.is_empty() { gain } else { format!("  {gain}") }),
    ])
}
