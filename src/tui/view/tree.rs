//! The directory tree: bar, size, entries, age, name, marks.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;
use crate::scan::Row;
use crate::tui::format;
use crate::tui::layout;
use crate::tui::model::{Model, Order, Pane, Tree};
use crate::tui::theme::Role;

use super::pane::{self, span};

/// Which columns fit.
struct Columns {
    bar: usize,
    entries: bool,
    age: bool,
}

impl Columns {
    fn of(model: &Model, width: u16) -> Self {
        let by = model.tree.order;
        match width {
            0..46 => Self { bar: 0, entries: by == Order::Entries, age: by == Order::Age },
            46..58 => Self { bar: 6, entries: by == Order::Entries, age: by == Order::Age },
            58..84 => Self {
                bar: 10,
                entries: by != Order::Age || width >= 62,
                age: by == Order::Age || width >= 62,
            },
            _ => Self { bar: 20, entries: true, age: true },
        }
    }
}

/// Draws the tree.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let tree = &model.tree;
    let look = &model.look;
    let path = tree.listing().map_or_else(|| tree.root.to_string(), |listing| listing.path.to_string());
    let facts = tree.listing().map_or_else(String::new, |listing| {
        let (entries, size) = seen(tree, &listing.dir);
        let entries = format::count(entries.saturating_sub(1));
        let what = if tree.apparent { "apparent" } else { "on disk" };
        format!("{size} {what} {} {entries} entries", look.glyphs.dot)
    });
    pane::title(model, Pane::Tree, &path, &facts, area, buffer);
    let mut body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if let Some(problem) = &tree.problem {
        paragraph(model, problem, Role::Critical, body, buffer);
        return;
    }
    let folded = tree.listing().and_then(|listing| listing.folded);
    if let Some((role, note)) = note(tree).filter(|_| body.height > 0) {
        body.height -= 1;
        let room = usize::from(area.width).saturating_sub(4);
        let note = format::cut(&note, room, look.glyphs.ellipsis);
        buffer.set_stringn(body.x + 3, body.bottom(), note, room, look.style(role));
    }
    let columns = Columns::of(model, area.width);
    if layout::list_height(model, Pane::Tree, area) < usize::from(body.height) {
        buffer.set_line(body.x, body.y, &heads(model, &columns), body.width);
        body = Rect { y: body.y + 1, height: body.height - 1, ..body };
    }
    if tree.len() == 0 {
        if folded.is_some() {
            return;
        }
        let text = if tree.scanning() && tree.reading.is_raw() {
            "All of the file system is read at once, from its device. What is in here comes at the end of that."
        } else if tree.page.is_none() || tree.scanning() {
            "still looking"
        } else {
            "empty directory"
        };
        paragraph(model, text, Role::Dim, body, buffer);
        return;
    }
    pane::rows(
        model,
        Pane::Tree,
        body,
        (tree.list.index, tree.list.offset),
        |at| match tree.row(at) {
            Some(row) => Some(line(model, row, &columns, usize::from(area.width))),
            // It is being made.
            None => (at < tree.len()).then(|| Line::from(span(look, Role::Dim, "   "))),
        },
        buffer,
    );
}

/// What is to be said of the rows, in one line.
fn note(tree: &Tree) -> Option<(Role, String)> {
    if let Some(folded) = tree.listing()?.folded {
        let size = if tree.apparent { folded.apparent } else { folded.allocated };
        let files = format::count(folded.files);
        let note = "not listed: memory bound; scan this directory again to see more";
        return Some((Role::Warning, format!("{files} files, {size}, {note}")));
    }
    let at_once = tree.len() > 0 && tree.scanning() && tree.reading.is_raw();
    at_once.then(|| {
        (Role::Dim, "read at once from its device: directories get their sizes at the end".to_owned())
    })
}

/// Entries and size of the directory on the screen. Where the scan started, what was seen and has no place in the tree
/// yet counts, too.
fn seen(tree: &Tree, dir: &Row) -> (u64, Bytes) {
    let size = tree.size(dir);
    if !tree.scanning() || tree.root_node != Some(dir.node) {
        return (dir.entries, size);
    }
    let all = if tree.apparent { tree.progress.apparent } else { tree.progress.allocated };
    (dir.entries.max(tree.progress.entries), size.max(all))
}

fn paragraph(model: &Model, text: &str, role: Role, body: Rect, buffer: &mut Buffer) {
    let room = usize::from(body.width).saturating_sub(4);
    for (line, y) in format::wrap(text, room).into_iter().zip(body.top()..body.bottom()) {
        buffer.set_stringn(body.x + 3, y, line, room, model.look.style(role));
    }
}

/// The column heads; the one that is sorted by carries the direction.
fn heads(model: &Model, columns: &Columns) -> Line<'static> {
    let look = &model.look;
    let tree = &model.tree;
    let head = |order: Order, name: &str| {
        if tree.order == order {
            let arrow = if tree.reverse { look.glyphs.more_above } else { look.glyphs.more_below };
            (Role::Title, format!("{arrow} {name}"))
        } else {
            (Role::Dim, name.to_owned())
        }
    };
    let mut spans = vec![Span::raw("   ")];
    let (role, text) = head(Order::Size, "size");
    spans.push(span(look, role, format::right(&text, 10)));
    if columns.bar > 0 {
        spans.push(Span::raw(" ".repeat(columns.bar + 2)));
    } else {
        spans.push(Span::raw(" "));
    }
    if columns.entries {
        let (role, text) = head(Order::Entries, "entries");
        spans.push(span(look, role, format::right(&text, 9) + "  "));
    }
    if columns.age {
        let (role, text) = head(Order::Age, "age");
        spans.push(span(look, role, format::right(&text, 6) + "  "));
    }
    let (role, text) = head(Order::Name, "name");
    spans.push(span(look, role, text));
    Line::from(spans)
}

/// The sign of what is special about a row, as in ncdu where it has one.
pub fn flag(row: &Row) -> &'static str {
    let flags = &row.flags;
    if flags.unreadable {
        "!"
    } else if flags.unreadable_below {
        "."
    } else if flags.mount_point || flags.subvolume {
        ">"
    } else if flags.hard_link || flags.counted_elsewhere {
        "H"
    } else {
        match row.kind {
            FileKind::File | FileKind::Directory => " ",
            FileKind::Symlink | FileKind::Device | FileKind::Fifo | FileKind::Socket | FileKind::Other => "@",
        }
    }
}

fn line(model: &Model, row: &Row, columns: &Columns, width: usize) -> Line<'static> {
    let look = &model.look;
    let tree = &model.tree;
    let marked = tree.list.marks.contains_key(&row.node);
    let flag_role = if row.flags.unreadable { Role::Critical } else { Role::Dim };
    let mut spans = vec![
        pane::mark(look, marked),
        span(look, flag_role, flag(row)),
        Span::raw(" "),
        span(look, Role::Text, format::right(&tree.size(row).to_string(), 10)),
    ];
    let mut used = 13;
    if columns.bar > 0 {
        let filled = share(tree.size(row).0, tree.largest().0, columns.bar);
        spans.push(Span::raw(" "));
        spans.push(span(look, Role::Bar, look.glyphs.used.repeat(filled)));
        spans.push(Span::raw(" ".repeat(columns.bar - filled + 1)));
        used += columns.bar + 2;
    } else {
        spans.push(Span::raw(" "));
        used += 1;
    }
    if columns.entries {
        let text = if row.kind == FileKind::Directory {
            format::count_short(row.entries.saturating_sub(1))
        } else {
            String::new()
        };
        spans.push(span(look, Role::Dim, format::right(&text, 9) + "  "));
        used += 11;
    }
    if columns.age {
        let age = u64::try_from(tree.now.saturating_sub(row.modified)).unwrap_or(0);
        spans.push(span(look, Role::Dim, format::right(&format::age(age), 6) + "  "));
        used += 8;
    }
    let mut name = row.name.to_string();
    if row.kind == FileKind::Directory {
        name.push('/');
    }
    let scanning = row.flags.scanning;
    let tail = if scanning { look.glyphs.ellipsis } else { "" };
    let room = width.saturating_sub(used + usize::from(scanning) + 1);
    let role = if marked {
        Role::Marked
    } else if row.kind == FileKind::Directory {
        Role::Directory
    } else {
        Role::Text
    };
    spans.push(span(look, role, format::cut_middle(&name, room, look.glyphs.ellipsis)));
    spans.push(span(look, Role::Dim, tail));
    Line::from(spans)
}

/// Cells of a bar; an entry that takes anything at all and is among the larger ones shows at least one.
fn share(part: u64, whole: u64, cells: usize) -> usize {
    if whole == 0 {
        return 0;
    }
    let wide = u128::from(part) * cells as u128 * 2 + u128::from(whole);
    usize::try_from(wide / (u128::from(whole) * 2)).unwrap_or(cells).min(cells)
}
