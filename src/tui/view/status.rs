//! The line above the keys: a notice, or how far the scan is, and what is marked.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::domain::size::Bytes;
use crate::scan::Reading;
use crate::tui::format;
use crate::tui::model::{Model, Pane};
use crate::tui::theme::Role;

use super::pane::span;

/// Draws the line.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let look = &model.look;
    let room = usize::from(area.width);
    let marks = marks(model);
    let left = room.saturating_sub(format::width(&marks) + 2);
    let (role, text) = match &model.notice {
        Some(notice) => (Role::Warning, format!(" {notice}")),
        None => (Role::Dim, progress(model, left)),
    };
    let text = format::fill(&text, left, look.glyphs.ellipsis);
    let line = Line::from(vec![span(look, role, text), span(look, Role::Marked, format!("{marks} "))]);
    buffer.set_line(area.x, area.y, &line, area.width);
}

fn marks(model: &Model) -> String {
    let (count, bytes) = match model.focus {
        Pane::Tree => {
            let marks = &model.tree.list.marks;
            let size = |pick: &crate::tui::effect::Pick| {
                if model.tree.apparent { pick.apparent } else { pick.allocated }
            };
            (marks.len(), Some(marks.values().map(size).sum::<Bytes>()))
        }
        Pane::Findings => (model.finding_list.marks.len(), None),
        Pane::Mounts => (model.mount_list.marks.len(), None),
        Pane::Processes => (model.process_list.marks.len(), None),
        Pane::Deleted => {
            let marks = &model.deleted_list.marks;
            let all = model.deleted().into_iter();
            let total = all.filter(|file| marks.contains_key(&file.key)).map(|file| file.allocated).sum();
            (marks.len(), Some(total))
        }
    };
    let here = match (count, bytes) {
        (0, _) => String::new(),
        (count, Some(bytes)) => format!("{count} marked, {bytes}"),
        (count, None) => format!("{count} marked"),
    };
    // What was marked in other panes goes into the same basket.
    match (here.is_empty(), all_marks(model)) {
        (_, all) if all == count => here,
        (true, all) => format!("b: {all} in the basket"),
        (false, all) => format!("{here} {} b: {all} in the basket", model.look.glyphs.dot),
    }
}

/// How many rows are marked in all panes.
fn all_marks(model: &Model) -> usize {
    model.tree.list.marks.len()
        + model.finding_list.marks.len()
        + model.mount_list.marks.len()
        + model.process_list.marks.len()
        + model.deleted_list.marks.len()
}

fn progress(model: &Model, room: usize) -> String {
    let tree = &model.tree;
    let now = &tree.progress;
    if tree.problem.is_some() || tree.root_node.is_none() {
        return String::new();
    }
    let millis = u64::try_from(now.elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let narrow = room < 50;
    let number = if narrow { format::count_short(now.entries) } else { format::count(now.entries) };
    let entries = format!("{number} entries");
    let seconds = format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    let mut facts = Vec::new();
    if now.finished {
        let done = if now.cancelled { "scan cancelled at" } else { "scanned" };
        facts.push(if narrow { format!(" {entries}") } else { format!(" {done} {entries} in {seconds}") });
    } else {
        facts.push(format!(" scanning: {entries}"));
        let size = if tree.apparent { now.apparent } else { now.allocated };
        facts.push(format!("{size} so far"));
        facts.extend(share(model).map(|percent| format!("about {percent} %")));
        facts.push(seconds);
        facts.push(format!("{}/s", format::count_short(now.entries.saturating_mul(1000) / millis)));
    }
    if now.folded > 0 {
        facts.insert(1.min(facts.len()), format!("{} files not listed", format::count_short(now.folded)));
    }
    let mut how = how(&tree.reading);
    if now.unreadable > 0 {
        // The one fact that must not be cut off: the sizes are too small by what is behind it.
        facts.insert(1.min(facts.len()), format!("{} unreadable (!)", format::count(now.unreadable)));
    }
    let dot = format!(" {} ", model.look.glyphs.dot);
    while facts.len() > 1 && format::width(&facts.join(&dot)) > room {
        facts.pop();
    }
    // The longest words for it that fit.
    let facts = facts.join(&dot);
    how.retain(|how| format::width(&facts) + format::width(&dot) + format::width(how) <= room);
    how.first().map_or(facts.clone(), |how| format!("{facts}{dot}{how}"))
}

/// How much of a whole file system was seen: entries, of its inodes in use. Not known for a part of one, nor where
/// inodes are made on demand.
fn share(model: &Model) -> Option<u64> {
    let all = model.snapshot.filesystems.value()?;
    let usage = all.iter().find(|fs| fs.mount_point == model.tree.root)?.usage.value()?;
    let used = usage.inodes.saturating_sub(usage.inodes_free);
    // Never done before it is: names can be more than inodes.
    Some(model.tree.progress.entries.saturating_mul(100).checked_div(used)?.min(99))
}

/// How the scan reads, in ever fewer words.
fn how(reading: &Reading) -> Vec<String> {
    match reading {
        Reading::Pending => Vec::new(),
        Reading::Calls => vec!["by ordinary calls".to_owned()],
        Reading::Fallback { .. } => vec![reading.to_string(), "by ordinary calls".to_owned()],
        Reading::Raw { device, .. } => {
            vec![reading.to_string(), format!("read from {device}"), "from the device".to_owned()]
        }
    }
}
