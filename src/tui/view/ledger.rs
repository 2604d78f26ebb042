//! Where the space of a file system went: a stacked bar, its lines, and in words why df and du differ.

use ratatui::text::{Line, Span};

use crate::domain::ledger::{Ledger, PartKind, Segment};
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::{FileSystem, FsClass};
use crate::domain::text::HostPath;
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::{Look, Role};

use super::pane::span;
use super::sheet::Sheet;
use super::text::Text;

/// Columns of sign, size and share in front of a line's name.
const SIZE: usize = 10;
const SHARE: usize = 6;

/// The overlay.
pub fn sheet(model: &Model, mount_point: &HostPath, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    match model.snapshot.ledgers.iter().find(|ledger| ledger.mount_point == *mount_point) {
        Some(ledger) => known(&mut text, &model.look, ledger, width),
        None => unknown(&mut text, model, mount_point),
    }
    Sheet {
        title: format!("Where the space of {mount_point} went"),
        role: Role::Title,
        lines: text.into_lines(),
        prompt: Vec::new(),
    }
}

fn sign(look: &Look, segment: Segment) -> (&'static str, Role) {
    match segment {
        Segment::Part(PartKind::Files) => (look.glyphs.used, Role::Bar),
        Segment::Part(PartKind::Deleted) => ("d", Role::Critical),
        Segment::Part(PartKind::Hidden) => ("h", Role::Warning),
        Segment::Part(PartKind::Metadata) => ("m", Role::Text),
        Segment::Part(PartKind::Unreadable) => ("!", Role::Unknown),
        Segment::Unexplained => ("?", Role::Unknown),
        Segment::Reserved => (look.glyphs.reserved, Role::Dim),
        Segment::Free => (look.glyphs.free, Role::Dim),
    }
}

fn known(text: &mut Text, look: &Look, ledger: &Ledger, width: usize) {
    text.para(&ledger.story(), Role::Text).blank();
    let bar: Vec<Span<'static>> = ledger
        .segments(width)
        .into_iter()
        .map(|(segment, cells)| {
            let (sign, role) = sign(look, segment);
            span(look, role, sign.repeat(cells))
        })
        .collect();
    text.line(Line::from(bar)).blank();
    let used = ledger.used();
    for part in &ledger.parts {
        let amount = part.bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let share = part.bytes.map(|bytes| share(bytes, used)).unwrap_or_default();
        row(text, look, Some(Segment::Part(part.kind)), (&amount, &share), &part.name);
    }
    let (minus, name) =
        if ledger.overcounted() { ("-", "counted more than is in use") } else { ("", "not explained") };
    let amount = format!("{minus}{}", ledger.unexplained());
    row(text, look, Some(Segment::Unexplained), (&amount, &share(ledger.unexplained(), used)), name);
    row(text, look, None, (&used.to_string(), "100%"), "= used, as df says");
    if !ledger.usage.reserved().is_zero() {
        row(
            text,
            look,
            Some(Segment::Reserved),
            (&ledger.usage.reserved().to_string(), ""),
            ledger.reserved_name(),
        );
    }
    row(text, look, Some(Segment::Free), (&ledger.usage.available.to_string(), ""), "available");
    row(text, look, None, (&ledger.usage.total.to_string(), ""), "= size, as df says");
    details(text, ledger);
}

fn row(text: &mut Text, look: &Look, segment: Option<Segment>, (size, share): (&str, &str), name: &str) {
    let (sign, role) = segment.map_or((" ", Role::Text), |segment| sign(look, segment));
    let front = format!("{sign} {} {}  ", format::right(size, SIZE), format::right(share, SHARE));
    let sum = segment.is_none();
    text.hang(&front, if sum { Role::Title } else { role }, name, if sum { Role::Title } else { Role::Text });
}

fn share(part: Bytes, whole: Bytes) -> String {
    Percent::of(part.0, whole.0).fine()
}

fn details(text: &mut Text, ledger: &Ledger) {
    let todo = [
        (PartKind::Deleted, "Deleted files: pane 5 says who keeps them open; x frees them."),
        (PartKind::Hidden, "Hidden data: pane 2 says how to look at it without unmounting anything."),
    ];
    for (_, what) in todo.into_iter().filter(|&(kind, _)| ledger.sum(kind).0 >= 1 << 20) {
        text.blank().para(what, Role::Key);
    }
    if !ledger.hidden.is_empty() {
        text.heading("Hidden under mount points");
        for one in &ledger.hidden {
            let least = if one.incomplete.is_some() { "at least " } else { "" };
            let fact = format!(
                "{least}{} under {} ({} is mounted there)",
                one.allocated, one.mount_point, one.covered_by
            );
            text.bullet(&fact, Role::Text);
        }
    }
    if !ledger.swap_files.is_empty() {
        text.heading("Of the files");
        for swap in &ledger.swap_files {
            text.bullet(&format!("{} is the swap file {}", swap.size, swap.path), Role::Text);
        }
    }
    if let Some(outside) = ledger.outside {
        text.heading("What df counts nowhere");
        text.bullet(
            &format!("{outside} of the device, for the journal and tables of fixed size"),
            Role::Text,
        );
    }
    if ledger.residual.bytes != 0 && !ledger.residual.explanations.is_empty() {
        text.heading("What can be in “not explained”");
        for why in &ledger.residual.explanations {
            text.bullet(why, Role::Text);
        }
    }
}

fn unknown(text: &mut Text, model: &Model, mount_point: &HostPath) {
    let fs =
        model.snapshot.filesystems.value().into_iter().flatten().find(|fs| fs.mount_point == *mount_point);
    let Some(fs) = fs else {
        text.para("It is not mounted any more.", Role::Warning);
        return;
    };
    if let Some(usage) = fs.usage.value() {
        let all = format!("df says that {} of {} are used.", usage.used(), usage.total);
        text.para(&all, Role::Text).blank();
    }
    let (sentence, role) = state(model, fs);
    text.para(&sentence, role);
}

fn state(model: &Model, fs: &FileSystem) -> (String, Role) {
    if fs.class != FsClass::Local {
        let why = "It is not on this machine: its server knows where its space went.";
        return (why.to_owned(), Role::Unknown);
    }
    let tree = &model.tree;
    if tree.root == fs.mount_point {
        if let Some(why) = &tree.problem {
            return (why.clone(), Role::Unknown);
        }
        if tree.scanning() {
            let seen = format!(
                "Counting its files: {} entries, {} so far. The ledger comes when that is over.",
                format::count(tree.progress.entries),
                tree.progress.allocated
            );
            return (seen, Role::Dim);
        }
        if let Some((_, why)) = model.accounts.failed.as_ref().filter(|(place, _)| *place == fs.mount_point) {
            return (why.clone(), Role::Unknown);
        }
        if model.accounts.busy || model.probing {
            return ("Its files are counted; now the rest.".to_owned(), Role::Dim);
        }
    }
    let ask = format!(
        "What is in it is known when all files are counted. The tree shows {} only: Enter scans all of {}.",
        tree.root, fs.mount_point
    );
    (ask, Role::Key)
}
