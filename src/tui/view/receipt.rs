//! What a run did: what was promised and what came of it, the machine before and after, each step's outcome, and where
//! it is written down.

use ratatui::text::Line;

use crate::domain::reading::Millis;
use crate::domain::receipt::{BasketReceipt, Outcome, Standing, StepReceipt, alike};
use crate::report::reclaim::rows;
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::theme::{self, Look, Role};

use super::pane::span;
use super::sheet::Sheet;
use super::text::Text;

/// Names that went, and steps with one outcome, which are told one by one.
const NAMED: usize = 8;

/// The overlay.
pub fn sheet(model: &Model, receipt: &BasketReceipt, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let (title, role) = match receipt.standing() {
        Standing::Done => ("Done", Role::Good),
        Standing::Partly => ("Not all was done", Role::Warning),
        Standing::Nothing => ("Nothing was done", Role::Warning),
        Standing::Cancelled => ("Cancelled", Role::Warning),
    };
    match receipt.parts.as_slice() {
        [only] => text.para(&only.summary, Role::Title),
        many => text.para(&format!("{} plans", many.len()), Role::Title),
    };
    text.blank();
    if let Some(goal) = &receipt.goal {
        text.field("Wanted", &format!("{} on {}", goal.bytes, goal.mount_point), Role::Text);
    }
    text.field("Promised", &receipt.promised().to_string(), Role::Text);
    text.field("Freed", &freed(receipt), Role::Text);
    let took = receipt.ended.as_millisecond().saturating_sub(receipt.started.as_millisecond());
    text.field("Took", &Millis(u64::try_from(took).unwrap_or(0)).to_string(), Role::Text);
    if let Some(last) = receipt.parts.last() {
        text.field("Journal", &last.journal, Role::Text);
    }
    let why = receipt.why_not_more();
    if !why.is_empty() {
        text.heading("Why not more");
    }
    for reason in &why {
        text.bullet(reason, Role::Warning);
    }
    for finding in receipt.parts.iter().flat_map(|part| &part.findings) {
        text.blank().para(&finding.title, theme::severity(finding.severity));
        text.evidence(&finding.evidence);
        if !finding.advice.is_empty() {
            text.para(&finding.advice, Role::Text);
        }
    }
    // What went wrong comes first: in a long list it would be missed.
    let mut steps: Vec<&StepReceipt> = receipt.parts.iter().flat_map(|part| &part.steps).collect();
    let trouble: Vec<&StepReceipt> = steps.iter().copied().filter(|step| worry(&step.outcome) < 3).collect();
    if !trouble.is_empty() && receipt.parts.len() > 1 {
        text.heading("What was not done");
        outcomes(&mut text, trouble);
    }
    text.heading("Before and after");
    table(&mut text, model.look, receipt, width);
    if receipt.parts.len() == 1 {
        text.heading(&tally(&steps));
        steps.sort_by_key(|step| worry(&step.outcome));
        outcomes(&mut text, steps);
    } else {
        for part in &receipt.parts {
            let all: Vec<&StepReceipt> = part.steps.iter().collect();
            text.heading(&part.summary);
            let role = if part.is_clean() { Role::Good } else { Role::Warning };
            text.para(&format!("{}; promised {}, freed {}", tally(&all), part.promised, part.freed()), role);
            outcomes(&mut text, all);
        }
    }
    for summary in &receipt.not_needed {
        text.heading(summary);
        text.para("Not run: the goal was reached before it.", Role::Good);
    }
    Sheet { title: title.to_owned(), role, lines: text.into_lines(), prompt: Vec::new() }
}

/// The machine before and after, in columns where they fit.
fn table(text: &mut Text, look: Look, receipt: &BasketReceipt, width: usize) {
    let rows = rows(receipt);
    let wide = |at: usize, heading: &str| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| format::width(cell));
        cells.chain(std::iter::once(format::width(heading))).max().unwrap_or(0)
    };
    let (before, after, change) = (wide(1, "before"), wide(2, "after"), wide(3, "change"));
    let figures = before + after + change + 6;
    let name = wide(0, "").min(width.saturating_sub(figures));
    if name < 12 {
        for [name, before, after, change] in &rows {
            let figures =
                if before.is_empty() { change.clone() } else { format!("{before} -> {after} ({change})") };
            text.hang("  ", Role::Dim, &format!("{name}: {figures}"), Role::Text);
        }
        return;
    }
    let headings = ["", "before", "after", "change"].map(str::to_owned);
    let ellipsis = look.glyphs.ellipsis;
    for (role, row) in std::iter::once((Role::Dim, &headings)).chain(rows.iter().map(|row| (Role::Text, row)))
    {
        let [label, was, is, difference] = row;
        let line = format!(
            "{}  {}  {}  {}",
            format::fill(&format::cut_middle(label, name, ellipsis), name, ellipsis),
            format::right(was, before),
            format::right(is, after),
            format::right(difference, change)
        );
        text.line(Line::from(span(&look, role, line)));
    }
}

fn freed(receipt: &BasketReceipt) -> String {
    let unread =
        receipt.space.iter().any(|delta| delta.before.value().is_none() || delta.after.value().is_none());
    if unread {
        format!("{} at least; a file system did not answer", receipt.freed())
    } else {
        receipt.freed().to_string()
    }
}

/// How many steps came out how.
fn tally(steps: &[&StepReceipt]) -> String {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for step in steps {
        let (word, ..) = describe(&step.outcome);
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let parts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("Steps: {}", parts.join(", "))
}

/// Steps and what became of them. Those that were not done are put together by the reason.
fn outcomes(text: &mut Text, steps: Vec<&StepReceipt>) {
    let (done, others): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|step| matches!(step.outcome, Outcome::Done { .. }));
    for same in alike(others) {
        outcome(text, &same);
    }
    for step in done {
        outcome(text, &[step]);
    }
}

/// Steps of which the same became, and what.
fn outcome(text: &mut Text, same: &[&StepReceipt]) {
    let Some(first) = same.first() else { return };
    let (word, role, details) = describe(&first.outcome);
    let mut front = format!("{word:<11}");
    for step in same.iter().take(NAMED) {
        text.hang(&front, role, &step.op, Role::Command);
        front = " ".repeat(11);
        if !step.why.is_empty() {
            text.hang(&front, role, &step.why, Role::Dim);
        }
    }
    if same.len() > NAMED {
        let more = format!("and {} more", format::count((same.len() - NAMED) as u64));
        text.hang(&front, role, &more, Role::Text);
    }
    for detail in details.iter().chain(&first.note).chain(&went(first)) {
        text.hang("           ", Role::Dim, detail, Role::Text);
    }
}

/// Names that went of a directory that was swept: how many, and the first of them.
fn went(step: &StepReceipt) -> Option<String> {
    let count = step.gone.len();
    let first: Vec<String> = step.gone.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if count > first.len() {
        format!(" and {} more", format::count((count - first.len()) as u64))
    } else {
        String::new()
    };
    let names = format::plural(count, "name", "names");
    (count > 0).then(|| format!("{} {names} went: {}{more}", format::count(count as u64), first.join(", ")))
}

fn worry(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed { .. } => 0,
        Outcome::Partly { .. } => 1,
        Outcome::Interrupted { .. } | Outcome::Cancelled { .. } => 2,
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
        Outcome::Interrupted { why, .. } => ("stopped", Role::Warning, vec![why.clone()]),
        Outcome::Cancelled { count } => ("cancelled", Role::Warning, vec![done(*count)]),
    }
}
