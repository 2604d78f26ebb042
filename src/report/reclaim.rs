//! What is chosen to free so much space, and what came of it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::domain::basket::Basket;
use crate::domain::finding::Reclaim;
use crate::domain::plan::{Plan, Risk, When};
use crate::domain::reading::Reading;
use crate::domain::receipt::{BasketReceipt, Outcome, SpaceDelta, StepReceipt};
use crate::domain::snapshot::Usage;
use crate::engine::reclaim::Reclaiming;
use crate::report::table::{Align, Table};

/// Items of a list that are told one by one.
const TOLD: usize = 20;

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
    plans(out, &choice.basket)?;
    let refused = choice.basket.parts.iter().flat_map(|plan| &plan.refused);
    let left_out: Vec<_> = reclaiming.left_out.iter().chain(&choice.basket.refused).chain(refused).collect();
    if !left_out.is_empty() {
        writeln!(out, "\nleft out:")?;
        for refusal in left_out.iter().take(TOLD) {
            writeln!(out, "  {}: {}", refusal.what, refusal.why)?;
        }
        if left_out.len() > TOLD {
            writeln!(out, "  and {} more", left_out.len() - TOLD)?;
        }
    }
    for once in &choice.basket.once {
        writeln!(out, "done once: {}: {}", once.what, once.why)?;
    }
    let of_plans = choice.basket.parts.iter().flat_map(|plan| &plan.unknown);
    let gaps: BTreeSet<&String> = reclaiming.missing.iter().chain(of_plans).collect();
    for gap in gaps {
        writeln!(out, "not looked at: {gap}")?;
    }
    verdict(out, reclaiming)
}

/// Writes each plan with its steps.
fn plans(out: &mut dyn Write, basket: &Basket) -> io::Result<()> {
    for (number, plan) in (1..).zip(&basket.parts) {
        writeln!(out, "\n{number}. {} [{}] {}", plan.summary, plan.risk, plan.reclaim)?;
        writeln!(out, "   undo: {}", plan.undo)?;
        steps(out, plan)?;
    }
    Ok(())
}

fn steps(out: &mut dyn Write, plan: &Plan) -> io::Result<()> {
    let wide = plan.steps.iter().map(|step| frees(step.frees).len()).max().unwrap_or(0);
    for step in &plan.steps {
        let size = if step.when == When::Always { frees(step.frees) } else { String::new() };
        let when = match step.when {
            When::Always => "",
            When::IfPreviousFailed => "  # only if the step before it did not do the job",
            When::Restores => "  # also after a cancel or a failure, once its counterpart has begun",
            When::IfPreviousWorked => "  # only if the step before it worked",
        };
        writeln!(out, "   {size:>wide$}  {}{when}", step.op)?;
    }
    Ok(())
}

fn frees(reclaim: Reclaim) -> String {
    match reclaim {
        Reclaim::Nothing => String::new(),
        known => known.to_string(),
    }
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
    for part in &receipt.parts {
        let all = part.steps.len();
        let well = part.steps.iter().filter(|step| is_well(&step.outcome)).count();
        let word = if part.is_clean() { "done" } else { "not all done" };
        writeln!(
            out,
            "{word}: {} ({well} of {all} steps; promised {}, freed {})",
            part.summary,
            part.promised,
            part.freed()
        )?;
        for step in part.steps.iter().filter(|step| !matches!(step.outcome, Outcome::Done { .. })) {
            writeln!(out, "    {}  # {}", step.op, said_of(step))?;
        }
        for finding in &part.findings {
            writeln!(out, "    {}: {}", finding.title, finding.advice)?;
        }
    }
    for summary in &receipt.not_needed {
        writeln!(out, "not needed any more: {summary}")?;
    }
    writeln!(out)?;
    before_after(receipt).write(out)?;
    writeln!(out, "\npromised {}, freed {}", receipt.promised(), receipt.freed())?;
    if let Some(last) = receipt.parts.last() {
        writeln!(out, "journal: {}", last.journal)?;
    }
    match reclaiming.reached() {
        Some(true) => writeln!(out, "{} on {}: reached", reclaiming.goal.bytes, reclaiming.goal.mount_point),
        Some(false) => {
            writeln!(out, "{} on {}: NOT reached", reclaiming.goal.bytes, reclaiming.goal.mount_point)
        }
        None => writeln!(
            out,
            "{} does not tell its free space: nobody can say what came of it",
            reclaiming.goal.mount_point
        ),
    }
}

fn is_well(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. } | Outcome::Skipped { .. })
}

/// What became of a step, in words.
pub fn said_of(step: &StepReceipt) -> String {
    let outcome = said(&step.outcome);
    step.note.as_ref().map_or(outcome.clone(), |note| format!("{outcome} ({note})"))
}

/// An outcome in words.
fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { count } => format!("done, {count}"),
        Outcome::Partly { count, problems } => format!("partly, {count} done: {}", problems.join("; ")),
        Outcome::Skipped { why } => format!("skipped: {why}"),
        Outcome::Failed { why } => format!("FAILED: {why}"),
        Outcome::Interrupted { why, .. } => format!("interrupted: {why}"),
        Outcome::Cancelled { count } => format!("cancelled, {count} done"),
    }
}

/// The file systems, inodes, entries and mounts before and after.
fn before_after(receipt: &BasketReceipt) -> Table {
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
    let removed = receipt.count();
    rows.push(["entries removed, steps done".to_owned(), String::new(), String::new(), removed.to_string()]);
    let count = |reading: &Reading<u64>| reading.value().map_or_else(unknown, u64::to_string);
    let change = receipt.mounts_before.value().zip(receipt.mounts_after.value());
    rows.push([
        "mounts".to_owned(),
        count(&receipt.mounts_before),
        count(&receipt.mounts_after),
        change.map_or_else(unknown, |(before, after)| signed(*after, *before, false)),
    ]);
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
