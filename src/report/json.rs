//! JSON, one document, for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Writes one value as an indented JSON document.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}
