//! What can be taken back, and what cannot.

use std::io::{self, Write};

use crate::domain::basket::Basket;
use crate::engine::undo::Undoing;

/// Runs that are told one by one.
const TOLD: usize = 10;

/// Writes what would be put back, and what nothing can be put back of.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, undoing: &Undoing) -> io::Result<()> {
    let Basket { parts, refused, .. } = &undoing.basket;
    for plan in parts {
        writeln!(out, "{} [{}]", plan.summary, plan.risk)?;
        for step in &plan.steps {
            writeln!(out, "   {}", step.op.words())?;
            writeln!(out, "       {}", step.why)?;
        }
    }
    for refusal in parts.iter().flat_map(|plan| &plan.refused).chain(refused) {
        writeln!(out, "not put back: {}: {}", refusal.what, refusal.why)?;
    }
    if undoing.basket.is_empty() {
        writeln!(out, "there is nothing to put back: no run has left anything that it had set aside")?;
    }
    if !undoing.final_runs.is_empty() {
        writeln!(out, "\nof these runs nothing can be put back, newest first:")?;
    }
    for run in undoing.final_runs.iter().take(TOLD) {
        let undo = match &run.undo {
            _ if run.running => "still running",
            _ if run.action == "evacuate" => "what it moved is back already, or not there any more",
            Some(undo) => undo,
            None => "not on record",
        };
        writeln!(out, "  {}  {}: {undo} (run {})", super::local(run.time), run.summary, run.run)?;
    }
    if undoing.final_runs.len() > TOLD {
        writeln!(out, "  and {} more (unwedge history)", undoing.final_runs.len() - TOLD)?;
    }
    undoing.missing.iter().try_for_each(|gap| writeln!(out, "not looked at: {gap}"))
}

/// Writes what came of it.
///
/// # Errors
/// What writing says.
pub fn outcome(out: &mut dyn Write, undoing: &Undoing) -> io::Result<()> {
    let Some(receipt) = &undoing.receipt else { return Ok(()) };
    for step in receipt.parts.iter().flat_map(|part| &part.steps) {
        writeln!(out, "{}  # {}", step.op, super::plan::said_of(step))?;
    }
    receipt.parts.last().map_or(Ok(()), |part| writeln!(out, "journal: {}", part.journal))
}
