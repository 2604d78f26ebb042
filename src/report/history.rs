//! The journal for people and for programs.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::reading::Reading;
use crate::domain::receipt::SpaceDelta;
use crate::journal::{Record, SCHEMA_VERSION};

/// The journal as a JSON document.
#[derive(Serialize, JsonSchema)]
pub struct History {
    /// The version of this format.
    pub schema_version: u32,
    /// Every run, oldest first.
    pub records: Vec<Record>,
    /// What could not be read.
    pub missing: Vec<String>,
}

impl From<&Reading<Vec<Record>>> for History {
    fn from(reading: &Reading<Vec<Record>>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            records: reading.value().cloned().unwrap_or_default(),
            missing: reading.sentences(),
        }
    }
}

/// Writes the journal as text, oldest first; with `names` also each name that went of a directory that was swept.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, history: &History, names: bool) -> io::Result<()> {
    if history.records.is_empty() && history.missing.is_empty() {
        writeln!(out, "nothing was done yet: the journal is empty")?;
    }
    for record in &history.records {
        writeln!(out, "{}  {record} (uid {}, run {})", super::local(record.time), record.uid, record.run)?;
        for SpaceDelta { path, before, after } in &record.space {
            if let (Some(before), Some(after)) = (before.value(), after.value()) {
                writeln!(
                    out,
                    "    {path}: {} free before, {} after; {} inodes free before, {} after",
                    before.free, after.free, before.inodes_free, after.inodes_free
                )?;
            }
        }
        for finding in &record.findings {
            writeln!(out, "    found: {finding}")?;
        }
        for step in &record.steps {
            if !step.why.is_empty() {
                writeln!(out, "      {}", step.why)?;
            }
            if step.outcome.is_empty() {
                writeln!(out, "    {}", step.op)?;
            } else {
                writeln!(out, "    {}  # {}", step.op, step.outcome)?;
            }
            if names {
                step.gone.iter().try_for_each(|name| writeln!(out, "        {name}"))?;
            } else if !step.gone.is_empty() {
                writeln!(out, "        {} names went (--names lists them)", step.gone.len())?;
            }
        }
    }
    history.missing.iter().try_for_each(|gap| writeln!(out, "not read: {gap}"))
}
