//! Where everything goes on a screen of a given size. Pure, and shared by `update` (for scrolling) and `view`.

use ratatui::layout::Rect;

use super::model::{Model, Pane};
use super::watched;

/// Columns and rows below which nothing useful can be drawn.
pub const SMALLEST: (u16, u16) = (40, 12);
/// Columns from which the tree and the other panes fit side by side.
pub const WIDE: u16 = 100;

/// The places of a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Host and file systems.
    pub header: Rect,
    /// The worst finding, where its pane is out of sight.
    pub alert: Option<Rect>,
    /// Which panes there are, where only one is shown.
    pub tabs: Option<Rect>,
    /// The line between the tree and the other panes.
    pub divider: Option<Rect>,
    /// The panes shown.
    pub panes: Vec<(Pane, Rect)>,
    /// Progress, totals, marks, notices.
    pub status: Rect,
    /// Keys.
    pub footer: Rect,
}

/// The places for a model, or none where the screen is too small.
pub fn of(model: &Model) -> Option<Layout> {
    let (columns, rows) = model.size;
    if columns < SMALLEST.0 || rows < SMALLEST.1 {
        return None;
    }
    let wide = columns >= WIDE && !model.zoomed;
    let header_rows = 1 + gauges(model, rows);
    let header = Rect::new(0, 0, columns, header_rows);
    let footer = Rect::new(0, rows - 1, columns, 1);
    let status = Rect::new(0, rows - 2, columns, 1);
    let mut top = header_rows;
    let mut alert = None;
    // A line of air where there is room for it, and for what is wrong where nothing else would say so.
    if rows >= 20 {
        if !wide && model.focus != Pane::Findings && !model.findings.is_empty() {
            alert = Some(Rect::new(0, top, columns, 1));
        }
        top += 1;
    }
    let tabs = (!wide).then(|| {
        let line = Rect::new(0, top, columns, 1);
        top += 1;
        line
    });
    let body = Rect::new(0, top, columns, (rows - 2).saturating_sub(top));
    let mut panes = Vec::new();
    let mut divider = None;
    if wide {
        let left = columns * 54 / 100;
        panes.push((Pane::Tree, Rect { width: left, ..body }));
        divider = Some(Rect { x: left, width: 1, ..body });
        let right = Rect { x: left + 1, width: columns - left - 1, ..body };
        stack(model, right, &mut panes);
    } else {
        panes.push((model.focus, body));
    }
    Some(Layout { header, alert, tabs, divider, panes, status, footer })
}

/// Rows of the gauges: one each, fewer on a low screen.
fn gauges(model: &Model, rows: u16) -> u16 {
    let most: u16 = match rows {
        0..16 => 1,
        16..20 => 2,
        20..30 => 3,
        30..44 => 5,
        _ => 7,
    };
    let there = watched::ranked(model).len().max(1);
    most.min(u16::try_from(there).unwrap_or(u16::MAX))
}

/// Stacks the right-hand panes: each gets what it needs, and where that is too much, at least a title and
/// two lines, and the one that has the keys first.
fn stack(model: &Model, area: Rect, panes: &mut Vec<(Pane, Rect)>) {
    const PANES: [Pane; 4] = [Pane::Findings, Pane::Mounts, Pane::Processes, Pane::Deleted];
    // The most that a pane can use: title, rows or the sentence instead of them, gaps, one line of air.
    let needs = PANES.map(|pane| {
        let rows = model.len(pane).max(1);
        u16::try_from(rows + 2 + usize::from(!model.gaps(pane).is_empty()) * 2).unwrap_or(u16::MAX)
    });
    let mut heights = [3_u16.min(area.height / 4); 4];
    let mut spare = area.height.saturating_sub(heights.iter().sum());
    let mut turn: Vec<usize> = (0..PANES.len()).collect();
    turn.sort_by_key(|&at| PANES.get(at) != Some(&model.focus));
    // What is wrong is what everybody came for: two for it.
    turn.push(0);
    // One row at a time, in turn: fair, and nobody gets more than they need.
    while spare > 0 {
        let before = spare;
        for &at in &turn {
            if let (Some(height), Some(need)) = (heights.get_mut(at), needs.get(at))
                && *height < *need
                && spare > 0
            {
                *height += 1;
                spare -= 1;
            }
        }
        if spare == before {
            break;
        }
    }
    // What nobody needs goes to the last pane.
    if let Some(last) = heights.last_mut() {
        *last += spare;
    }
    let mut y = area.y;
    for (pane, height) in PANES.into_iter().zip(heights) {
        panes.push((pane, Rect { y, height, ..area }));
        y += height;
    }
}

/// Rows that a pane has for its list: all but the title, the column heads and what is said about gaps.
pub fn list_height(model: &Model, pane: Pane, area: Rect) -> usize {
    let mut used = 1;
    if pane == Pane::Tree {
        // The column heads, where there is room for them.
        used += u16::from(area.height >= 9 && model.tree.problem.is_none());
        // What is not listed.
        used += u16::from(model.tree.listing().is_some_and(|listing| listing.folded.is_some()));
        return usize::from(area.height.saturating_sub(used));
    }
    if !model.gaps(pane).is_empty() && model.len(pane) > 0 {
        used += 1;
    }
    // A line of air below, where the panes are stacked.
    if model.size.0 >= WIDE && !model.zoomed && area.height > used + 2 {
        used += 1;
    }
    usize::from(area.height.saturating_sub(used))
}

/// Rows for the names in the list of a sweep: without its edges, its heading, what is below it and the rule above that.
pub fn sweep_rows(size: (u16, u16)) -> usize {
    usize::from(sheet(size, usize::MAX).height).saturating_sub(6).max(1)
}

/// The area of an overlay with this much text.
pub fn sheet(size: (u16, u16), lines: usize) -> Rect {
    let (columns, rows) = size;
    let width = if columns < 50 { columns } else { (columns - 4).min(104) };
    let height =
        u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2).min(rows.saturating_sub(2)).max(3);
    Rect::new((columns.saturating_sub(width)) / 2, rows.saturating_sub(height) / 2, width, height.min(rows))
}
