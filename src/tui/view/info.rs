//! Everything known about a row of the tree.

use std::os::unix::ffi::OsStrExt as _;

use jiff::Timestamp;

use crate::domain::identity::FileKind;
use crate::domain::reading::PENDING;
use crate::domain::snapshot::ChosenFile;
use crate::domain::text::HostPath;
use crate::scan::Row;
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::Role;

use super::sheet::Sheet;
use super::text::Text;

/// How many names of a file are shown.
const MOST_NAMES: usize = 100;

/// The overlay.
pub fn sheet(
    model: &Model,
    row: &Row,
    dir: &HostPath,
    (identity, names): (Option<&Result<ChosenFile, String>>, &[HostPath]),
    width: usize,
) -> Sheet {
    let mut text = Text::new(model.look, width);
    let path = HostPath::new(dir.as_path().join(std::ffi::OsStr::from_bytes(row.name.as_bytes())));
    text.para(&path.to_string(), Role::Title);
    text.blank();
    text.field("Kind", kind(row.kind), Role::Text);
    let exact = |bytes: crate::domain::size::Bytes| format!("{bytes} ({} bytes)", format::count(bytes.0));
    text.field("On disk", &exact(row.allocated), Role::Text);
    text.field("Apparent", &exact(row.apparent), Role::Text);
    if row.kind == FileKind::Directory {
        text.field("Entries", &format::count(row.entries.saturating_sub(1)), Role::Text);
    }
    let age = u64::try_from(model.tree.now.saturating_sub(row.modified)).unwrap_or(0);
    let what = if row.kind == FileKind::Directory { "Newest" } else { "Changed" };
    text.field(what, &format!("{}, {} ago", moment(row.modified), format::age(age)), Role::Text);
    identity_of(&mut text, identity);
    other_names(&mut text, identity, names, model.tree.scanning());
    let remarks = remarks(row);
    if !remarks.is_empty() {
        text.heading("Remarks");
        for remark in remarks {
            text.bullet(remark, Role::Text);
        }
    }
    Sheet { title: "Info".to_owned(), role: Role::Title, lines: text.into_lines(), prompt: Vec::new() }
}

/// A moment in UTC, to the second.
fn moment(secs: i64) -> String {
    Timestamp::from_second(secs).map_or_else(|_| format!("{secs} s after 1970"), |time| time.to_string())
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Device => "device",
        FileKind::Fifo => "named pipe",
        FileKind::Socket => "socket",
        FileKind::Other => "unknown kind of file",
    }
}

fn identity_of(text: &mut Text, identity: Option<&Result<ChosenFile, String>>) {
    text.heading("Identity");
    match identity {
        None => {
            text.para(PENDING, Role::Dim);
        }
        Some(Err(why)) => {
            text.para(&format!("not known: {why}"), Role::Unknown);
        }
        Some(Ok(chosen)) => {
            let id = &chosen.id;
            text.field("Inode", &format!("{} on device {}", id.key.ino, id.key.dev), Role::Text);
            text.field("Mount", &id.mount.to_string(), Role::Text);
            let born =
                id.born.map_or_else(|| "not kept by this file system".to_owned(), |born| moment(born.secs));
            text.field("Born", &born, Role::Text);
            // A directory's count of names says how many directories are in it, which helps nobody here.
            if id.kind != FileKind::Directory {
                text.field("Names", &id.links.to_string(), Role::Text);
            }
            for why in &chosen.held {
                text.field("Kept", why, Role::Warning);
            }
            for who in &chosen.open_by {
                text.field("Open by", who, Role::Text);
            }
        }
    }
}

/// Where else the file is, as far as the scan saw: deleting one name frees nothing.
fn other_names(
    text: &mut Text,
    identity: Option<&Result<ChosenFile, String>>,
    names: &[HostPath],
    scanning: bool,
) {
    let Some(Ok(chosen)) = identity else { return };
    let others = u64::from(chosen.id.links).saturating_sub(1);
    if chosen.id.kind == FileKind::Directory || others == 0 {
        return;
    }
    text.heading("Its other names");
    for name in names.iter().take(MOST_NAMES) {
        text.bullet(&name.to_string(), Role::Text);
    }
    let untold = names.len().saturating_sub(MOST_NAMES);
    if untold > 0 {
        text.bullet(&format!("and {} more in this scan", format::count(untold as u64)), Role::Dim);
    }
    let outside = others.saturating_sub(names.len() as u64);
    if outside > 0 {
        let place = if scanning { "not seen yet, or outside this scan" } else { "outside this scan" };
        text.bullet(&format!("{} {place}", format::count(outside)), Role::Dim);
    }
}

/// What each of the signs in front of it means.
fn remarks(row: &Row) -> Vec<&'static str> {
    let flags = &row.flags;
    let all = [
        (
            flags.unreadable,
            "! It could not be read, or not completely: its size is too small. As root it may be.",
        ),
        (flags.unreadable_below, ". Something below it could not be read: its size is too small."),
        (flags.mount_point, "> Another file system is mounted here; what is on it is not counted."),
        (
            flags.subvolume,
            "> A btrfs snapshot. It shares space with the subvolume it was made of, so it is not counted.",
        ),
        (flags.hard_link, "H It has more than one name; deleting one of them frees nothing."),
        (flags.counted_elsewhere, "H Its size is counted at another of its names."),
        (flags.scanning, "It is still being scanned: its figures grow."),
    ];
    all.into_iter().filter_map(|(holds, remark)| holds.then_some(remark)).collect()
}
