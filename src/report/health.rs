//! What of the program works here, as text.

use std::io::{self, Write};

use super::table::{Align, Table};
use crate::engine::health::{Health, ProbeState};

/// Writes it.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, health: &Health) -> io::Result<()> {
    writeln!(out, "unwedge {}\n\nProbes", health.program_version)?;
    let mut table =
        Table::new([("probe", Align::Left), ("state", Align::Left), ("answered after", Align::Right)]);
    for probe in &health.probes {
        table.row([probe.name.to_owned(), state(probe.state).to_owned(), probe.took.to_string()]);
    }
    table.write(out)?;
    for probe in &health.probes {
        for note in &probe.notes {
            writeln!(out, "  {}: {note}", probe.name)?;
        }
    }
    writeln!(out, "\nKernel")?;
    let mut table = Table::new([
        ("layer", Align::Left),
        ("here", Align::Left),
        ("since Linux", Align::Left),
        ("for", Align::Left),
    ]);
    for layer in &health.kernel {
        let here = if layer.active { "active" } else { "missing" };
        table.row([layer.name, here, layer.since, layer.what_for].map(str::to_owned));
    }
    table.write(out)?;
    for layer in health.kernel.iter().filter(|layer| !layer.active) {
        writeln!(out, "  without {}: {}", layer.name, layer.without)?;
    }
    writeln!(out, "\nPrograms that are asked")?;
    let mut table = Table::new([("program", Align::Left), ("for", Align::Left), ("here", Align::Left)]);
    for tool in &health.tools {
        let here = match (&tool.path, &tool.refused) {
            (Some(path), _) => path.to_string(),
            (None, Some(why)) => why.clone(),
            (None, None) => "not installed".to_owned(),
        };
        table.row([tool.name.to_owned(), tool.what_for.to_owned(), here]);
    }
    table.write(out)?;
    let [first, then] = &health.journal;
    writeln!(out, "\nJournal\n  below {first}; where that is full, below {then}")
}

fn state(state: ProbeState) -> &'static str {
    match state {
        ProbeState::Available => "available",
        ProbeState::Partial => "partial",
        ProbeState::Denied => "denied",
        ProbeState::TimedOut => "no answer",
        ProbeState::Missing => "missing",
    }
}
