//! Snapshots, and what changed since, for people.

use std::io::{self, Write};

use super::signed;
use super::table::{Align, Table};
use crate::domain::baseline::diff::{Change, How};
use crate::domain::size::Bytes;
use crate::engine::baseline::{Comparison, Kept};

/// Writes what was kept.
///
/// # Errors
/// What writing says.
pub fn kept(out: &mut dyn Write, kept: &Kept) -> io::Result<()> {
    writeln!(out, "{}: {} in {} entries", kept.root, kept.allocated, kept.entries)?;
    writeln!(
        out,
        "  kept in {} ({}): {} entries that take {} or more; the others are in the size of their directory",
        kept.file, kept.size, kept.named, kept.floor
    )?;
    if kept.removed > 0 {
        writeln!(out, "  {} older ones of it were removed (snapshot.keep)", kept.removed)?;
    }
    missing(out, &kept.missing)?;
    writeln!(out, "  what changed since: unwedge diff {}", kept.file.quoted())
}

/// Writes what changed, at most `top` that grew and as many that shrank.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, comparison: &Comparison, top: usize) -> io::Result<()> {
    let diff = &comparison.diff;
    let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    writeln!(out, "{}, {} to {}", diff.root, time(diff.from), time(diff.to))?;
    writeln!(
        out,
        "  {} to {} ({}), {} to {} entries",
        diff.before,
        diff.now,
        signed(change(diff.before, diff.now)),
        diff.entries_before,
        diff.entries_now
    )?;
    missing(out, &comparison.missing)?;
    let (grown, shrunk): (Vec<&Change>, Vec<&Change>) = diff.changes.iter().partition(|one| one.delta > 0);
    table(out, "Grown", &grown, top)?;
    let shrunk: Vec<&Change> = shrunk.into_iter().rev().collect();
    table(out, "Shrunk", &shrunk, top)?;
    if diff.other != 0 {
        writeln!(out, "\n  {} more in changes of less than {} each", signed(diff.other), diff.least)?;
    }
    writeln!(
        out,
        "\nA change is told once, at the file or the deepest directory that explains it. What is new or gone may have \
         been there with less than {}.",
        diff.floor
    )
}

fn change(before: Bytes, now: Bytes) -> i64 {
    let change = i128::from(now.0) - i128::from(before.0);
    i64::try_from(change).unwrap_or(i64::MAX)
}

fn table(out: &mut dyn Write, title: &str, changes: &[&Change], top: usize) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    let mut table = Table::new([
        ("change", Align::Right),
        ("before", Align::Right),
        ("now", Align::Right),
        ("entries", Align::Right),
        ("", Align::Left),
        ("path", Align::Left),
    ]);
    for one in changes.iter().take(top) {
        let how = match one.how {
            How::Appeared => "new",
            How::Vanished => "gone",
            How::Grown | How::Shrunk => "",
        };
        table.row([
            signed(one.delta),
            one.before.to_string(),
            one.now.to_string(),
            if one.entries == 0 { String::new() } else { format!("{:+}", one.entries) },
            how.to_owned(),
            format!("{}{}", one.path, if one.directory { "/" } else { "" }),
        ]);
    }
    table.write(out)?;
    let more = changes.len().saturating_sub(top);
    if more > 0 {
        writeln!(out, "  and {more} more (all are in --format json)")?;
    }
    Ok(())
}

fn missing(out: &mut dyn Write, missing: &[String]) -> io::Result<()> {
    missing.iter().try_for_each(|gap| writeln!(out, "  not seen: {gap}"))
}
