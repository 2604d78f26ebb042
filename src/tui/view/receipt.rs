//! What a run did: each step's outcome, what was promised and what came of it, and where it is written down.

use crate::domain::reading::Millis;
use crate::domain::receipt::{Outcome, Receipt};
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::{self, Role};

use super::sheet::Sheet;
use super::text::Text;

/// The overlay.
pub fn sheet(model: &Model, receipt: &Receipt, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    text.para(&receipt.summary, Role::Title).blank();
    let (title, role) =
        if receipt.is_clean() { ("Done", Role::Good) } else { ("Not all was done", Role::Warning) };
    text.field("Promised", &receipt.promised.to_string(), Role::Text);
    text.field("Freed", &freed(receipt), Role::Text);
    let took = receipt.ended.as_millisecond().saturating_sub(receipt.started.as_millisecond());
    text.field("Took", &Millis(u64::try_from(took).unwrap_or(0)).to_string(), Role::Text);
    text.field("Journal", &receipt.journal, Role::Text);
    for finding in &receipt.findings {
        text.blank().para(&finding.title, theme::severity(finding.severity));
        text.evidence(&finding.evidence);
        if !finding.advice.is_empty() {
            text.para(&finding.advice, Role::Text);
        }
    }
    text.heading(&tally(receipt));
    // What went wrong first: in a long list it would be missed.
    let mut steps: Vec<_> = receipt.steps.iter().collect();
    steps.sort_by_key(|step| worry(&step.outcome));
    for step in steps {
        let (word, role, details) = describe(&step.outcome);
        text.hang(&format!("{word:<11}"), role, &step.op, Role::Command);
        for detail in details {
            text.hang("           ", Role::Dim, &detail, Role::Text);
        }
    }
    Sheet { title: title.to_owned(), role, lines: text.into_lines(), prompt: Vec::new() }
}

fn freed(receipt: &Receipt) -> String {
    let unread =
        receipt.space.iter().any(|delta| delta.before.value().is_none() || delta.after.value().is_none());
    if unread {
        format!("{} at least; a file system did not answer", receipt.freed())
    } else {
        receipt.freed().to_string()
    }
}

/// How many steps came out how.
fn tally(receipt: &Receipt) -> String {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for step in &receipt.steps {
        let (word, ..) = describe(&step.outcome);
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let parts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("Steps: {}", parts.join(", "))
}

fn worry(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed { .. } => 0,
        Outcome::Partly { .. } => 1,
        Outcome::Cancelled { .. } => 2,
        Outcome::Skipped { .. } | Outcome::Done { .. } => 3,
    }
}

fn describe(outcome: &Outcome) -> (&'static str, Role, Vec<String>) {
    let done = |count: u64| format!("{} done", format::count(count));
    match outcome {
        Outcome::Done { count } if *count > 1 => ("done", Role::Good, vec![done(*count)]),
        Outcome::Done { .. } => ("done", Role::Good, Vec::new()),
        Outcome::Partly { count, problems } => {
            let mut details = vec![done(*count)];
            details.extend(problems.iter().cloned());
            ("partly", Role::Warning, details)
        }
        Outcome::Skipped { why } => ("skipped", Role::Dim, vec![why.clone()]),
        Outcome::Failed { why } => ("failed", Role::Critical, vec![why.clone()]),
        Outcome::Cancelled { count } => ("cancelled", Role::Warning, vec![done(*count)]),
    }
}
