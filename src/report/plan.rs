//! What would run, before anybody agreed to it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::domain::basket::Basket;
use crate::domain::finding::Reclaim;
use crate::domain::op::Op;
use crate::domain::plan::{Plan, Refusal, When};
use crate::domain::receipt::{BasketReceipt, Outcome, Receipt, StepReceipt, alike};
use crate::report::sweep;

/// Items of a list that are told one by one.
const TOLD: usize = 20;
/// Steps with one outcome that are told one by one.
const NAMED: usize = 10;

/// Writes each plan with its steps. `whole` lists every name that a sweep takes.
///
/// # Errors
/// What writing says.
pub fn plans(out: &mut dyn Write, basket: &Basket, whole: bool) -> io::Result<()> {
    for (number, plan) in (1..).zip(&basket.parts) {
        writeln!(out, "\n{number}. {} [{}] {}", plan.summary, plan.risk, plan.reclaim)?;
        writeln!(out, "   undo: {}", plan.undo)?;
        steps(out, plan)?;
        for step in &plan.steps {
            if let Op::Sweep { sweep, .. } = &step.op {
                writeln!(out)?;
                self::sweep::write(out, sweep, whole)?;
            }
        }
        if let Some(again) = &plan.again {
            writeln!(out, "   from a shell: {again}")?;
        }
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
        writeln!(out, "   {size:>wide$}  {}{when}", step.op.words())?;
    }
    Ok(())
}

fn frees(reclaim: Reclaim) -> String {
    match reclaim {
        Reclaim::Nothing => String::new(),
        known => known.to_string(),
    }
}

/// Writes what is left out of a basket, what is done once, and what could not be looked at.
///
/// # Errors
/// What writing says.
pub fn gaps(
    out: &mut dyn Write,
    basket: &Basket,
    left_out: &[Refusal],
    missing: &[String],
) -> io::Result<()> {
    let refused = basket.parts.iter().flat_map(|plan| &plan.refused);
    let left_out: Vec<_> = left_out.iter().chain(&basket.refused).chain(refused).collect();
    if !left_out.is_empty() {
        writeln!(out, "\nleft out:")?;
        for refusal in left_out.iter().take(TOLD) {
            writeln!(out, "  {}: {}", refusal.what, refusal.why)?;
        }
        if left_out.len() > TOLD {
            writeln!(out, "  and {} more", left_out.len() - TOLD)?;
        }
    }
    for once in &basket.once {
        writeln!(out, "done once: {}: {}", once.what, once.why)?;
    }
    let of_plans = basket.parts.iter().flat_map(|plan| &plan.unknown);
    let gaps: BTreeSet<&String> = missing.iter().chain(of_plans).collect();
    gaps.into_iter().try_for_each(|gap| writeln!(out, "not looked at: {gap}"))
}

/// Writes what came of it: each part, what changed, and where that is written down.
///
/// # Errors
/// What writing says.
pub fn outcome(out: &mut dyn Write, receipt: &BasketReceipt) -> io::Result<()> {
    receipt.parts.iter().try_for_each(|part| self::part(out, part))?;
    for summary in &receipt.not_needed {
        writeln!(out, "not needed any more: {summary}")?;
    }
    writeln!(out)?;
    super::reclaim::before_after(receipt).write(out)?;
    writeln!(out, "\npromised {}, freed {}", receipt.promised(), receipt.freed())?;
    if let Some(last) = receipt.parts.last() {
        writeln!(out, "journal: {}", last.journal)?;
    }
    Ok(())
}

fn part(out: &mut dyn Write, part: &Receipt) -> io::Result<()> {
    let not_needed = part.steps.iter().filter(|step| step.outcome.is_not_needed()).count();
    let done = part.steps.iter().filter(|step| matches!(step.outcome, Outcome::Done { .. })).count();
    writeln!(
        out,
        "{}: {} ({done} of {} steps; promised {}, freed {})",
        part.standing(),
        part.summary,
        part.steps.len() - not_needed,
        part.promised,
        part.freed()
    )?;
    for same in alike(part.steps.iter().filter(|step| !matches!(step.outcome, Outcome::Done { .. }))) {
        let [first, rest @ ..] = same.as_slice() else { continue };
        if rest.is_empty() {
            writeln!(out, "    {}  # {}", first.op, said_of(first))?;
            about(out, first)?;
            continue;
        }
        writeln!(out, "    {} steps  # {}", same.len(), said_of(first))?;
        for step in same.iter().take(NAMED) {
            writeln!(out, "        {}", step.op)?;
            about(out, step)?;
        }
        if same.len() > NAMED {
            writeln!(out, "        and {} more", same.len() - NAMED)?;
        }
    }
    for finding in &part.findings {
        writeln!(out, "    {}: {}", finding.title, finding.advice)?;
    }
    Ok(())
}

/// What a step was for, which names what it has only a number for.
fn about(out: &mut dyn Write, step: &StepReceipt) -> io::Result<()> {
    if step.why.is_empty() { Ok(()) } else { writeln!(out, "          {}", step.why) }
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
