//! What was found in the scanned trees, as text: caches, crowded directories, where the inodes are.

use std::io::{self, Write};

use super::table::{Align, Table};
use crate::domain::caches::CacheKind;
use crate::domain::reading::Reading;
use crate::domain::scanned::{CreateCost, CrowdedDir};
use crate::domain::size::Percent;
use crate::domain::snapshot::{Extent, Snapshot};

/// Rows of each table; the JSON has all.
const ROWS: usize = 15;

/// Writes the three tables.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let Some(scanned) = snapshot.scanned.value() else { return Ok(()) };
    writeln!(out, "\nCaches and build trees")?;
    let sized: Vec<&CacheKind> =
        scanned.caches.iter().filter(|kind| kind.found > kind.unsized_places).collect();
    caches(out, &sized)?;
    let elsewhere: Vec<&str> = scanned
        .caches
        .iter()
        .filter(|kind| kind.unsized_places > 0)
        .map(|kind| kind.entry.as_str())
        .collect();
    if !elsewhere.is_empty() {
        writeln!(out, "  also there, outside of what was scanned: {}", elsewhere.join(", "))?;
    }
    super::text::gaps(out, &snapshot.scanned)?;
    writeln!(out, "\nDirectories with most inodes (with all below them)")?;
    inodes(out, snapshot)?;
    if !scanned.crowded.is_empty() {
        writeln!(out, "\nDirectories with very many entries")?;
        crowded(out, &scanned.crowded)?;
    }
    Ok(())
}

fn caches(out: &mut dyn Write, kinds: &[&CacheKind]) -> io::Result<()> {
    if kinds.is_empty() {
        return writeln!(out, "  none in what was scanned");
    }
    let mut table = Table::new([
        ("allocated", Align::Right),
        ("entries", Align::Right),
        ("directories", Align::Right),
        ("what", Align::Left),
        ("largest", Align::Left),
    ]);
    for kind in kinds.iter().take(ROWS) {
        table.row([
            kind.size.allocated.to_string(),
            kind.size.entries.to_string(),
            kind.found.to_string(),
            format!("{} ({})", kind.title, kind.entry),
            kind.places.first().map(|place| place.path.to_string()).unwrap_or_default(),
        ]);
    }
    table.write(out)?;
    more(out, kinds.len())
}

fn inodes(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let hogs = snapshot.scanned.value().map(|scanned| scanned.most_entries.as_slice()).unwrap_or_default();
    let mut table = Table::new([
        ("inodes", Align::Right),
        ("of used", Align::Right),
        ("allocated", Align::Right),
        ("file system (used, free, use%)", Align::Left),
        ("path", Align::Left),
    ]);
    for hog in hogs.iter().take(ROWS) {
        let all = snapshot.filesystems.value().into_iter().flatten();
        let on = all.filter(|fs| fs.mount_point == hog.mount_point);
        let known = on.filter_map(|fs| Some((fs, fs.usage.value()?))).find(|(_, usage)| usage.inodes > 0);
        let (share, figures) = known.map_or_else(
            || ("-".to_owned(), hog.mount_point.to_string()),
            |(fs, usage)| {
                // A part cannot be held against the figures of the whole.
                let share = match fs.seen.extent {
                    Extent::Whole | Extent::Subvolumes => {
                        Percent::of(hog.inodes, usage.inodes_used()).to_string()
                    }
                    Extent::Part => "-".to_owned(),
                };
                let (used, free, percent) = (usage.inodes_used(), usage.inodes_free, usage.inodes_share());
                (share, format!("{} ({used}, {free}, {percent})", hog.mount_point))
            },
        );
        table.row([hog.inodes.to_string(), share, hog.allocated.to_string(), figures, hog.path.to_string()]);
    }
    table.write(out)?;
    more(out, hogs.len())
}

fn crowded(out: &mut dyn Write, dirs: &[CrowdedDir]) -> io::Result<()> {
    let mut table = Table::new([
        ("entries", Align::Right),
        ("itself", Align::Right),
        ("create here", Align::Right),
        ("in a fresh one", Align::Right),
        ("path", Align::Left),
    ]);
    for dir in dirs.iter().take(ROWS) {
        let (here, fresh) = match &dir.create {
            Reading::Ready { value: CreateCost::Works { here_micros, fresh_micros } } => {
                (format!("{here_micros} µs"), format!("{fresh_micros} µs"))
            }
            Reading::Ready { value: CreateCost::Fails { .. } } => ("fails".to_owned(), "-".to_owned()),
            _ => ("not tried".to_owned(), "-".to_owned()),
        };
        table.row([
            dir.entries.to_string(),
            dir.directory_size.to_string(),
            here,
            fresh,
            dir.path.to_string(),
        ]);
    }
    table.write(out)?;
    more(out, dirs.len())
}

fn more(out: &mut dyn Write, count: usize) -> io::Result<()> {
    match count.saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "  … and {more} more (all are in --format json)"),
    }
}
