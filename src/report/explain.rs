//! One finding in full, as text.

use std::io::{self, Write};

use super::text::finding;
use crate::engine::explain::Explanation;

/// Writes it.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, id: &str, explanation: &Explanation) -> io::Result<()> {
    match explanation {
        Explanation::Found { finding: found } => {
            finding(out, found)?;
            writeln!(out, "\nWhy it matters\n  {}", found.finding.why)
        }
        Explanation::NotFound { rule, why, instead } => {
            writeln!(out, "{id} is not found on this machine now.")?;
            if !instead.is_empty() {
                writeln!(out, "The rule {rule} finds instead: {}", instead.join(", "))?;
            }
            writeln!(out, "\nWhy it matters when it is\n  {why}")
        }
        Explanation::Unknown { nearest } => {
            writeln!(out, "There is no finding {id}. Do you mean: {}?", nearest.join(", "))
        }
    }
}
