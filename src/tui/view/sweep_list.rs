//! The whole list of a sweep, to switch single names on and off. Only the rows on the screen are made.

use ratatui::text::Line;

use crate::domain::sweep::{Candidate, Class, LeftOut};
use crate::tui::format;
use crate::tui::layout;
use crate::tui::model::Model;
use crate::tui::sweep_list::SweepList;
use crate::tui::theme::Role;

use super::pane::span;
use super::sheet::Sheet;
use super::sweep::{age_of, shown_name};

/// Columns below which size and age are not shown.
const NARROW: usize = 60;

/// The key of each class, its name, and its name if there is little room.
const KEYS: [(&str, &str, &str); 3] =
    [("1", "files", "files"), ("2", "empty directories", "empty"), ("3", "directories", "dirs")];

/// The list.
pub fn sheet(model: &Model, list: &SweepList, width: usize) -> Sheet {
    let look = &model.look;
    let wide = width >= NARROW;
    let head = if wide {
        format!("  {:<9}{:<6}{:>11}{:>8}{:>9}  {}", "", "kind", "size", "age", "entries", "name")
    } else {
        format!("  {:<9}{:<6}{}", "", "kind", "name")
    };
    let mut lines = vec![Line::from(span(look, Role::Dim, head))];
    let height = layout::sweep_rows(model.size);
    let now = model.snapshot.taken_at.as_second();
    for at in list.offset..(list.offset + height).min(list.rows()) {
        let here = at == list.index;
        let (role, line) = match (list.sweep().candidates.get(at), list.stays(at)) {
            (Some(one), _) => row(one, now, wide),
            (None, stays) => (Role::Dim, format!("stays    {}", stays.unwrap_or_default())),
        };
        let sign = if here { look.glyphs.cursor } else { " " };
        let role = if here { Role::Cursor } else { role };
        let line = format::cut(&line, width.saturating_sub(2), look.glyphs.ellipsis);
        lines.push(Line::from(vec![span(look, Role::Focus, format!("{sign} ")), span(look, role, line)]));
    }
    // As high as it can be, so that nothing jumps.
    lines.resize_with(height + 1, Line::default);
    let row = (list.index + 1).min(list.rows()) as u64;
    let title = format!(
        "What is old in {} ({} of {})",
        list.dir().path,
        format::count(row),
        format::count(list.rows() as u64)
    );
    Sheet { title, role: Role::Focus, lines, prompt: prompt(model, list, width) }
}

/// What becomes of a name: a word that fits in its column.
fn mark(one: &Candidate) -> (Role, &'static str) {
    match &one.left_out {
        None if one.precious.is_some() => (Role::Critical, "GOES"),
        None => (Role::Text, "goes"),
        Some(LeftOut::OfRoot) => (Role::Dim, "of root"),
        Some(LeftOut::Precious { .. }) => (Role::Warning, "precious"),
        Some(LeftOut::SwitchedOff) => (Role::Dim, "off"),
    }
}

fn row(one: &Candidate, now: i64, wide: bool) -> (Role, String) {
    let (role, mark) = mark(one);
    let kind = match one.class {
        Class::OldFile => "file",
        Class::EmptyDir => "empty",
        Class::OldDir => "dir",
    };
    let name = shown_name(one);
    let line = if wide {
        let (size, age) = (one.bytes.to_string(), age_of(one, now));
        format!("{mark:<9}{kind:<6}{size:>11}{age:>8}{:>9}  {name}", format::count_short(one.entries))
    } else {
        format!("{mark:<9}{kind:<6}{name}")
    };
    (role, line)
}

/// Which classes are on, and what goes.
fn prompt(model: &Model, list: &SweepList, width: usize) -> Vec<Line<'static>> {
    let look = &model.look;
    let sweep = list.sweep();
    let mut classes = Vec::new();
    for ((key, long, short), state) in KEYS.into_iter().zip(list.classes()) {
        classes.push(span(look, Role::Key, key));
        let name = if width < NARROW { short } else { long };
        classes.push(span(look, Role::Text, format!(": {name} {}  ", state.word())));
    }
    // The line for it on the screen is below this box.
    if let Some(notice) = &model.notice {
        let notice = format::cut(notice, width, look.glyphs.ellipsis);
        return vec![Line::from(classes), Line::from(span(look, Role::Warning, notice))];
    }
    let goes = list.goes();
    let count = format::count(goes.count);
    let all = format!("{count} of {} go, {}", format::count(sweep.candidates.len() as u64), goes.bytes);
    let of_root = format!(": those of root {}  ", if sweep.own_root { "on" } else { "off" });
    let room = width.saturating_sub(of_root.len() + 1);
    vec![
        Line::from(classes),
        Line::from(vec![
            span(look, Role::Key, "0"),
            span(look, Role::Text, of_root),
            span(look, Role::Title, format::right(&format::cut(&all, room, look.glyphs.ellipsis), room)),
        ]),
    ]
}
