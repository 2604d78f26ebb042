//! Build mounts that look left over.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::snapshot::{BuildMount, Verdict};
use crate::tui::format;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::{self, Role};

use super::pane::{self, span};

/// The word for a mount's verdict, seven columns wide at most.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Orphan => "leaked",
        Verdict::InUse => "in use",
        Verdict::Service => "service",
        Verdict::Unknown => "unknown",
    }
}

/// Draws the mounts.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let leaked = model.mounts().iter().filter(|mount| mount.verdict == Verdict::Orphan).count();
    let all = model.mounts().len();
    let facts = if all == 0 { String::new() } else { format!("{leaked} leaked of {all}") };
    let none = model.snapshot.mounts.value().map_or_else(String::new, |census| {
        format!(
            "No leftover build mounts among {} mounts in {} mount {}.",
            format::count(census.total),
            census.namespaces,
            format::plural(census.namespaces as usize, "namespace", "namespaces")
        )
    });
    let list = &model.mount_list;
    pane::list(
        model,
        Pane::Mounts,
        ("Leaked mounts", &facts, &none),
        area,
        (list.index, list.offset),
        |at| model.mounts().get(at).map(|mount| line(model, mount, usize::from(area.width))),
        buffer,
    );
}

fn line(model: &Model, mount: &BuildMount, width: usize) -> Line<'static> {
    let look = &model.look;
    let elsewhere = match mount.via {
        Some(process) if width >= 44 => format!("  via {process}"),
        Some(_) | None => String::new(),
    };
    let room = width.saturating_sub(10 + format::width(&elsewhere));
    let path = format::cut_middle(&mount.mount_point.to_string(), room, look.glyphs.ellipsis);
    Line::from(vec![
        pane::mark(look, model.mount_list.marks.contains_key(&mount.mount)),
        span(look, theme::verdict(mount.verdict), format!("{:<7}", word(mount.verdict))),
        Span::raw(" "),
        span(look, Role::Text, format::fill(&path, room, look.glyphs.ellipsis)),
        span(look, Role::Dim, elsewhere),
    ])
}
