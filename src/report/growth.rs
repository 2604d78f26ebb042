//! Growth for people.

use std::io::{self, Write};

use super::table::{Align, Table};
use super::text::gaps;
use crate::domain::growth::{Growth, about};
use crate::domain::snapshot::Snapshot;

/// File systems, writers, and files of one writer that are named; the JSON has all.
const ROWS: usize = 10;
const FILES: usize = 3;

/// Writes what grows and who writes.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let Some(growth) = snapshot.growth.value() else {
        writeln!(out, "\nGrowth")?;
        return gaps(out, &snapshot.growth);
    };
    match growth.over {
        Some(over) => writeln!(out, "\nGrowth over {over}")?,
        None => return writeln!(out, "\nGrowth\n  not measured: growth.interval_ms is 0"),
    }
    file_systems(out, growth)?;
    for writer in growth.writers.iter().take(ROWS) {
        writeln!(out, "  {} ({}) writes {}/s to devices", writer.name, writer.process, writer.per_second)?;
        for file in writer.files.iter().take(FILES) {
            writeln!(out, "    {} grows by {}/s, {} now", file.path, file.per_second, file.size)?;
        }
        more(out, writer.files.len(), FILES, "growing files")?;
    }
    more(out, growth.writers.len(), ROWS, "writing processes")?;
    gaps(out, &snapshot.growth)
}

fn file_systems(out: &mut dyn Write, growth: &Growth) -> io::Result<()> {
    let changed = growth.filesystems.iter().filter(|fs| fs.change != 0);
    let mut table = Table::new([
        ("change", Align::Right),
        ("per second", Align::Right),
        ("full in", Align::Right),
        ("mounted on", Align::Left),
    ]);
    let mut any = false;
    for fs in changed.take(ROWS) {
        any = true;
        table.row([
            super::signed(fs.change),
            fs.per_second.to_string(),
            fs.full_in_secs.map_or_else(|| "-".to_owned(), about),
            fs.mount_point.to_string(),
        ]);
    }
    if any { table.write(out) } else { writeln!(out, "  no file system changed") }
}

fn more(out: &mut dyn Write, all: usize, shown: usize, what: &str) -> io::Result<()> {
    match all.saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(out, "    and {more} more {what} (all are in --format json)"),
    }
}
