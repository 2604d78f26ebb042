//! `snapshot` and `diff`.

use std::path::Path;
use std::process::ExitCode;

use super::Failure;
use super::args::Format;
use super::audit::{print, show_progress};
use super::exit::Exit;
use crate::engine::Engine;
use crate::engine::baseline::BaselineError;
use crate::report;

impl From<BaselineError> for Failure {
    fn from(error: BaselineError) -> Self {
        let exit = match &error {
            BaselineError::Scan(error) => Exit::from(error),
            BaselineError::Input(_) => Exit::NoInput,
            BaselineError::Output(_) => Exit::Output,
        };
        Self::new(exit, error)
    }
}

/// Scans a directory and keeps what takes space in it.
pub fn keep(
    engine: &Engine,
    path: &Path,
    output: Option<&Path>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let kept = show_progress(|show| engine.keep_baseline(path, output, show))?;
    print(|out| match format {
        Format::Text => report::diff::kept(out, &kept),
        Format::Json => report::json::write(out, &kept),
    })?;
    Ok(exit(&kept.missing).into())
}

/// Prints what changed since a snapshot.
pub fn compare(
    engine: &Engine,
    old: Option<&Path>,
    new: Option<&Path>,
    top: usize,
    format: Format,
) -> Result<ExitCode, Failure> {
    let comparison = show_progress(|show| engine.compare(old, new, show))?;
    print(|out| match format {
        Format::Text => report::diff::write(out, &comparison, top),
        Format::Json => report::json::write(out, &comparison),
    })?;
    Ok(exit(&comparison.missing).into())
}

/// What could not be read must not look as if it had not changed.
fn exit(missing: &[String]) -> Exit {
    if missing.is_empty() { Exit::Ok } else { Exit::CouldNotTell }
}
