//! The ledger of a file system for people: a stacked bar, a table, and the difference between df and du in words.

use std::io::{self, Write};

use super::table::{Align, Table};
use crate::domain::ledger::{Ledger, PartKind};
use crate::domain::size::{Bytes, Percent};

/// Columns of the bar.
const BAR: usize = 72;
/// More places of hidden data than this are counted, not listed; the JSON has all.
const PLACES: usize = 10;

/// The sign of a kind of space in a bar and in front of its line. ASCII, so that it can be read everywhere.
fn sign(kind: PartKind) -> char {
    match kind {
        PartKind::Files => '#',
        PartKind::Deleted => 'd',
        PartKind::Hidden => 'h',
        PartKind::Metadata => 'm',
        PartKind::Unreadable => '!',
    }
}

/// Writes a ledger.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, ledger: &Ledger) -> io::Result<()> {
    writeln!(
        out,
        "\nWhere the space of {} went ({} on {})",
        ledger.mount_point, ledger.fs_type, ledger.source
    )?;
    writeln!(out, "  {}", ledger.story())?;
    writeln!(out, "  [{}]", bar(ledger))?;
    table(ledger).write(out)?;
    for one in ledger.hidden.iter().take(PLACES) {
        let least = if one.incomplete.is_some() { "at least " } else { "" };
        writeln!(
            out,
            "  hidden: {least}{} in {} entries under {} ({} is mounted there)",
            one.allocated, one.entries, one.mount_point, one.covered_by
        )?;
    }
    let more = ledger.hidden.len().saturating_sub(PLACES);
    if more > 0 {
        writeln!(out, "  hidden: and under {more} more mount points (all are in --format json)")?;
    }
    for swap in &ledger.swap_files {
        writeln!(out, "  of the files: {} is the swap file {}", swap.size, swap.path)?;
    }
    if let Some(outside) = ledger.outside {
        writeln!(
            out,
            "  df counts nowhere: {outside} of the device, for the journal and tables of fixed size"
        )?;
    }
    if ledger.residual.bytes != 0 {
        for why in &ledger.residual.explanations {
            writeln!(out, "  can be in “not explained”: {why}")?;
        }
    }
    Ok(())
}

fn bar(ledger: &Ledger) -> String {
    ledger
        .segments(BAR)
        .into_iter()
        .map(|(segment, cells)| segment.sign(sign).to_string().repeat(cells))
        .collect()
}

fn table(ledger: &Ledger) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("size", Align::Right),
        ("of used", Align::Right),
        ("what", Align::Left),
    ]);
    let share = |bytes: Bytes| Percent::of(bytes.0, ledger.used().0).fine();
    for part in &ledger.parts {
        let (size, of) = match part.bytes {
            Some(bytes) => (bytes.to_string(), share(bytes)),
            None => ("?".to_owned(), String::new()),
        };
        table.row([sign(part.kind).to_string(), size, of, part.name.clone()]);
    }
    let (minus, name) =
        if ledger.overcounted() { ("-", "counted more than is in use") } else { ("", "not explained") };
    let (size, of) = (ledger.unexplained(), share(ledger.unexplained()));
    table.row(["?".to_owned(), format!("{minus}{size}"), format!("{minus}{of}"), name.to_owned()]);
    table.row([String::new(), ledger.used().to_string(), "100%".to_owned(), "= used (df)".to_owned()]);
    if !ledger.usage.reserved().is_zero() {
        let name = ledger.reserved_name().to_owned();
        table.row(["%".to_owned(), ledger.usage.reserved().to_string(), String::new(), name]);
    }
    table.row([
        ".".to_owned(),
        ledger.usage.available.to_string(),
        String::new(),
        "available (df)".to_owned(),
    ]);
    table.row([String::new(), ledger.usage.total.to_string(), String::new(), "= size (df)".to_owned()]);
    table
}
