//! The top of the screen: the machine, who is looking, and how full its file systems are.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::reading::Reading;
use crate::domain::size::Percent;
use crate::domain::snapshot::{FileSystem, Usage};
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::{self, Look, Role};
use crate::tui::watched;

use super::pane::span;

/// Draws the header.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let shown = usize::from(area.height.saturating_sub(1));
    let all = watched::ranked(model);
    buffer.set_line(area.x, area.y, &host(model, area.width, all.len().saturating_sub(shown)), area.width);
    let first = area.y + 1;
    let look = &model.look;
    if all.is_empty() {
        let gaps = model.snapshot.filesystems.sentences();
        let text = gaps.first().map_or("no file systems found", String::as_str);
        let text = format!(" file systems: {text}");
        buffer.set_stringn(area.x, first, text, usize::from(area.width), look.style(Role::Unknown));
        return;
    }
    let widest =
        all.iter().take(shown).map(|fs| format::width(&fs.mount_point.to_string())).max().unwrap_or(1);
    let name = widest.clamp(1, (usize::from(area.width) / 5).max(8));
    for (fs, y) in all.iter().take(shown).zip(first..) {
        buffer.set_line(area.x, y, &gauge(model, fs, name, usize::from(area.width)), area.width);
    }
}

fn host(model: &Model, width: u16, hidden: usize) -> Line<'static> {
    let look = &model.look;
    let host = &model.snapshot.host;
    let mut left = vec![span(look, Role::Title, " unwedge")];
    if !host.name.is_empty() {
        let user = host.user.to_string();
        left.push(span(look, Role::Text, format!("  {} {} {user}", host.name, look.glyphs.dot)));
        if host.uid != 0 {
            left.push(span(look, Role::Warning, "  not root: some things cannot be seen or done"));
        }
    }
    let mut right = Vec::new();
    if hidden > 0 {
        right.push(format!("+{hidden} more file {}", format::plural(hidden, "system", "systems")));
    }
    // What a gauge cannot say: in what.
    if width >= 60 && model.snapshot.filesystems.value().is_some() {
        right.push("L: where it went".to_owned());
    }
    if model.probing {
        right.push("looking".to_owned() + look.glyphs.ellipsis);
    }
    let right = right.join("  ") + " ";
    let used: usize = left.iter().map(Span::width).sum();
    let gap = usize::from(width).saturating_sub(used + format::width(&right));
    if gap >= 2 {
        left.push(span(look, Role::Dim, format!("{}{right}", " ".repeat(gap))));
    }
    Line::from(left)
}

fn gauge(model: &Model, fs: &FileSystem, name: usize, width: usize) -> Line<'static> {
    let look = &model.look;
    let path = format::cut_middle(&fs.mount_point.to_string(), name, look.glyphs.ellipsis);
    let mut spans =
        vec![span(look, Role::Text, format!(" {}  ", format::fill(&path, name, look.glyphs.ellipsis)))];
    let usage = match &fs.usage {
        Reading::Ready { value } | Reading::Partial { value, .. } => value,
        Reading::Pending
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => {
            let why = fs.usage.unknown();
            spans.push(span(look, Role::Unknown, format!("{why} ({})", fs.fs_type)));
            return Line::from(spans);
        }
    };
    let cells = match width {
        0..60 => 8,
        60..100 => 14,
        _ => 24,
    };
    let blocks = if fs.read_only { Role::Dim } else { theme::blocks(usage.used_share(), &model.settings) };
    let inodes = if fs.read_only { Role::Dim } else { theme::inodes(usage.inodes_share(), &model.settings) };
    spans.extend(bar(look, usage, cells, blocks));
    spans.push(span(look, blocks, format!(" {:>4}", usage.used_share())));
    let worry = !matches!(inodes, Role::Good | Role::Dim);
    let inode_text = |wide: bool| {
        if usage.inodes == 0 {
            if wide { "inodes on demand".to_owned() } else { String::new() }
        } else {
            format!("inodes {:>4}", usage.inodes_share())
        }
    };
    if width < 60 {
        if worry {
            spans.push(span(look, inodes, format!("  {}", inode_text(false))));
        } else {
            spans.push(span(look, Role::Text, format!("  {} free", usage.available)));
        }
        return Line::from(spans);
    }
    let room = format!("{} free", format::right(&usage.available.to_string(), 10));
    spans.push(span(look, Role::Text, format!(" {room}")));
    if width >= 100 {
        spans.push(span(look, Role::Dim, format!(" of {}", format::fill(&usage.total.to_string(), 10, ""))));
    }
    spans.push(span(look, Role::Text, "   "));
    if width >= 100 && usage.inodes > 0 {
        spans.push(span(look, inodes, format!("inodes {:>4} ", usage.inodes_share())));
        spans.extend(share(look, usage.inodes_share(), 8, inodes));
    } else {
        spans.push(span(look, if worry { inodes } else { Role::Dim }, inode_text(true)));
    }
    // Only whole: half a figure is a wrong figure.
    let mut extra = |text: String| {
        let used: usize = spans.iter().map(Span::width).sum();
        if used + format::width(&text) < width {
            spans.push(span(look, Role::Dim, text));
        }
    };
    if fs.read_only {
        extra("   read-only".to_owned());
    } else if width >= 100 && !usage.reserved().is_zero() {
        extra(format!("   {} kept for root", usage.reserved()));
    }
    Line::from(spans)
}

/// How many of `cells` stand for `part` of `whole`, rounded, but at least one for anything at all.
fn cells_of(part: u64, whole: u64, cells: usize) -> usize {
    if part == 0 || whole == 0 {
        return 0;
    }
    let wide = u128::from(part) * cells as u128 * 2 + u128::from(whole);
    usize::try_from(wide / (u128::from(whole) * 2)).unwrap_or(cells).clamp(1, cells)
}

/// In use, kept for root, free: three fills, so that they can be told apart without colour.
fn bar(look: &Look, usage: &Usage, cells: usize, role: Role) -> Vec<Span<'static>> {
    let mut reserved = cells_of(usage.reserved().0, usage.total.0, cells);
    let mut used = cells_of(usage.used().0, usage.total.0, cells).min(cells - reserved);
    // Something free is never drawn as nothing.
    if !usage.available.is_zero() && used + reserved >= cells {
        if used > 1 {
            used -= 1;
        } else {
            reserved = reserved.saturating_sub(1);
        }
    }
    let free = cells.saturating_sub(used + reserved);
    vec![
        span(look, role, look.glyphs.used.repeat(used)),
        span(look, Role::Dim, look.glyphs.reserved.repeat(reserved)),
        span(look, Role::Dim, look.glyphs.free.repeat(free)),
    ]
}

fn share(look: &Look, share: Percent, cells: usize, role: Role) -> Vec<Span<'static>> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    let percent = share.0.clamp(0.0, 100.0).round() as u64;
    let used = cells_of(percent, 100, cells);
    vec![
        span(look, role, look.glyphs.used.repeat(used)),
        span(look, Role::Dim, look.glyphs.free.repeat(cells - used)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TerminalTraits;
    use crate::domain::size::Bytes;

    #[test]
    fn a_gauge_is_as_wide_as_it_should_be_and_shows_every_part_there_is() {
        let look = Look::new(TerminalTraits { colour: false, unicode: false });
        for free in 0..=20 {
            for reserved in 0..=free {
                let usage = Usage {
                    total: Bytes(20),
                    free: Bytes(free),
                    available: Bytes(free - reserved),
                    ..Usage::default()
                };
                let text: String =
                    bar(&look, &usage, 8, Role::Good).iter().map(|span| span.content.to_string()).collect();
                assert_eq!(text.len(), 8);
                assert_eq!(text.contains('%'), reserved > 0, "{free} {reserved} {text}");
                assert_eq!(text.contains('.'), free > reserved, "{free} {reserved} {text}");
            }
        }
    }
}
