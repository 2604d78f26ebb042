//! One change that was asked for at a shell, and what came of it.

use std::io::{self, Write};

use super::plan;
use crate::engine::change::Change;

/// Writes what would run. `whole` lists every name that a sweep takes.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, change: &Change, whole: bool) -> io::Result<()> {
    if change.basket.is_empty() {
        writeln!(out, "nothing to do")?;
    }
    plan::plans(out, &change.basket, whole)?;
    plan::gaps(out, &change.basket, &[], &change.missing)
}

/// Writes what came of it.
///
/// # Errors
/// What writing says.
pub fn outcome(out: &mut dyn Write, change: &Change) -> io::Result<()> {
    change.receipt.as_ref().map_or(Ok(()), |receipt| plan::outcome(out, receipt))
}
