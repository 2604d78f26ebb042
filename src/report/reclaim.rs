//! What is chosen to free so much space, and what came of it.

use std::io::{self, Write};

use crate::domain::finding::Reclaim;
use crate::domain::plan::Risk;
use crate::domain::reading::Reading;
use crate::domain::receipt::{BasketReceipt, MountsDelta, SpaceDelta, SweepCount, SweepDelta};
use crate::domain::snapshot::Usage;
use crate::engine::reclaim::Reclaiming;
use crate::report::plan;
use crate::report::table::{Align, Table};

/// Writes what was chosen: exactly what would run, and what it gives back.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, reclaiming: &Reclaiming) -> io::Result<()> {
    let Reclaiming { goal, choice, .. } = reclaiming;
    let now = reclaiming.usage.value().map_or_else(String::new, |usage| {
        format!(" ({} of {} free, {} used)", usage.available, usage.total, usage.used_share())
    });
    writeln!(out, "{} wanted on {}{now}", goal.bytes, goal.mount_point)?;
    plan::plans(out, &choice.basket, false)?;
    plan::gaps(out, &choice.basket, &reclaiming.left_out, &reclaiming.missing)?;
    verdict(out, reclaiming)
}

/// Whether the goal is within reach, and what else there would be.
fn verdict(out: &mut dyn Write, reclaiming: &Reclaiming) -> io::Result<()> {
    let Reclaiming { goal, choice, .. } = reclaiming;
    let promised = match choice.promised {
        Reclaim::Nothing => "nothing".to_owned(),
        known => known.to_string(),
    };
    if choice.reaches {
        return writeln!(out, "\nthis gives back {promised}: enough for {}", goal.bytes);
    }
    let perhaps = choice.promised.bounds().1 >= goal.bytes;
    if perhaps {
        writeln!(out, "\nthis gives back {promised}: perhaps enough for {}", goal.bytes)?;
    } else {
        let what = if choice.basket.is_empty() { "nothing here" } else { "this" };
        writeln!(
            out,
            "\n{} cannot be reached with {} steps: {what} gives back {}",
            goal.bytes,
            reclaiming.most.min(Risk::Disruptive),
            if choice.basket.is_empty() { "space" } else { &promised }
        )?;
    }
    if let Some(next) = &choice.next {
        writeln!(
            out,
            "the next step would be {} ({}): {}, {}",
            next.risk, next.again, next.summary, next.reclaim
        )?;
        match next.risk {
            Risk::Routine | Risk::Disruptive => writeln!(out, "allow it with --max-risk disruptive")?,
            Risk::Destructive => {
                writeln!(out, "reclaim never takes what loses data: look at it in the console (unwedge)")?;
            }
        }
    }
    if reclaiming.needs_root {
        writeln!(out, "root can do more: {}", reclaiming.as_root())?;
    }
    Ok(())
}

/// Writes what came of it.
///
/// # Errors
/// What writing says.
pub fn outcome(out: &mut dyn Write, reclaiming: &Reclaiming) -> io::Result<()> {
    let Some(receipt) = &reclaiming.receipt else { return Ok(()) };
    plan::outcome(out, receipt)?;
    reached(out, receipt)
}

/// Writes what was wanted, what of it was reached, and why not more.
fn reached(out: &mut dyn Write, receipt: &BasketReceipt) -> io::Result<()> {
    let Some(goal) = &receipt.goal else { return Ok(()) };
    let wanted = format!("{} on {}", goal.bytes, goal.mount_point);
    match receipt.towards_goal() {
        Some(freed) if freed >= goal.bytes => writeln!(out, "{wanted}: reached, {freed} freed")?,
        Some(freed) => writeln!(out, "{wanted}: NOT reached, {freed} freed")?,
        None => writeln!(out, "{wanted}: nobody can say whether it was reached")?,
    }
    receipt.why_not_more().iter().try_for_each(|why| writeln!(out, "  {why}"))
}

/// The file systems, inodes, entries and mounts before and after.
pub fn before_after(receipt: &BasketReceipt) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("before", Align::Right),
        ("after", Align::Right),
        ("change", Align::Right),
    ]);
    for row in rows(receipt) {
        table.row(row);
    }
    table
}

/// What is compared: name, before, after, change.
pub fn rows(receipt: &BasketReceipt) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    let unknown = || "not known".to_owned();
    for SpaceDelta { path, before, after } in &receipt.space {
        let pair = before.value().zip(after.value());
        let show =
            |reading: &Reading<Usage>, what: fn(&Usage) -> String| reading.value().map_or_else(unknown, what);
        let change =
            pair.map_or_else(unknown, |(before, after)| signed(after.used().0, before.used().0, true));
        let bytes = |usage: &Usage| usage.used().to_string();
        rows.push([format!("used on {path}"), show(before, bytes), show(after, bytes), change]);
        if pair.is_some_and(|(before, _)| before.inodes > 0) {
            let inodes = |usage: &Usage| usage.inodes_used().to_string();
            let change = pair.map_or_else(unknown, |(before, after)| {
                signed(after.inodes_used(), before.inodes_used(), false)
            });
            rows.push([format!("inodes used on {path}"), show(before, inodes), show(after, inodes), change]);
        }
    }
    for SweepDelta { path, before, after } in receipt.parts.iter().flat_map(|part| &part.swept) {
        let after = after.value();
        let mut row = |what: &str, of: fn(&SweepCount) -> u64| {
            let after = after.map(of);
            rows.push([
                format!("{what} in {path}"),
                of(before).to_string(),
                after.map_or_else(unknown, |after| after.to_string()),
                after.map_or_else(unknown, |after| signed(after, of(before), false)),
            ]);
        };
        row("entries", |count| count.entries);
        row("old files", |count| count.old_files);
        row("old directories", |count| count.old_dirs);
    }
    let removed = receipt.count();
    rows.push(["entries removed, steps done".to_owned(), String::new(), String::new(), removed.to_string()]);
    let unmounted = receipt.parts.iter().filter_map(|part| part.unmounted.as_ref());
    let unmounted = unmounted.map(|delta| ("mounts to be undone", delta));
    for (what, MountsDelta { before, after }) in
        unmounted.chain(receipt.mounts.iter().map(|delta| ("mounts in all namespaces", delta)))
    {
        let count = |reading: &Reading<u64>| reading.value().map_or_else(unknown, u64::to_string);
        let pair = before.value().zip(after.value());
        let change = pair.map_or_else(unknown, |(before, after)| signed(*after, *before, false));
        rows.push([what.to_owned(), count(before), count(after), change]);
    }
    rows
}

/// A difference with its sign.
fn signed(after: u64, before: u64, bytes: bool) -> String {
    let sign = match after.cmp(&before) {
        std::cmp::Ordering::Less => "-",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "+",
    };
    let difference = after.abs_diff(before);
    if bytes {
        format!("{sign}{}", crate::domain::size::Bytes(difference))
    } else {
        format!("{sign}{difference}")
    }
}
