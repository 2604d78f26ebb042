//! `scan`.

use std::path::Path;
use std::process::ExitCode;

use super::Failure;
use super::args::Format;
use super::audit::{print, show_progress};
use super::exit::Exit;
use crate::domain::reading::Reading;
use crate::engine::Engine;
use crate::report;

/// Scans a directory and prints what takes space in it.
pub fn run(engine: &Engine, path: &Path, top: usize, format: Format) -> Result<ExitCode, Failure> {
    let report = show_progress(|show| engine.scan_once(path, top, show))
        .map_err(|error| Failure::new(Exit::from(&error), error))?;
    print(|out| match format {
        Format::Text => report::scan::write(out, &report),
        Format::Json => report::json::write(out, &report),
    })?;
    // Totals without the directories that could not be read, or without snapshots, must not look complete.
    let whole = matches!(&report.scan, Reading::Ready { value } if value.snapshots == 0);
    let exit = if whole { Exit::Ok } else { Exit::CouldNotTell };
    Ok(exit.into())
}
