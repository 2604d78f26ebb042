//! `explain`.

use std::path::Path;
use std::process::ExitCode;

use super::Failure;
use super::args::Format;
use super::audit::print;
use super::exit::Exit;
use crate::engine::Engine;
use crate::engine::explain::Explanation;
use crate::report;

/// Prints everything about one finding.
pub fn run(engine: &Engine, id: &str, path: Option<&Path>, format: Format) -> Result<ExitCode, Failure> {
    let explanation = engine.explain(id, path).map_err(|error| Failure::new(Exit::NoInput, error))?;
    print(|out| match format {
        Format::Text => report::explain::write(out, id, &explanation),
        Format::Json => report::json::write(out, &explanation),
    })?;
    let exit = if matches!(explanation, Explanation::Unknown { .. }) { Exit::Usage } else { Exit::Ok };
    Ok(exit.into())
}
