//! `--health`.

use std::process::ExitCode;

use super::Failure;
use super::args::Format;
use super::audit::print;
use super::exit::Exit;
use crate::engine::Engine;
use crate::engine::health::ProbeState;
use crate::report;

/// Prints what of the program works here.
pub fn run(engine: &Engine, format: Format) -> Result<ExitCode, Failure> {
    let health = engine.health();
    print(|out| match format {
        Format::Text => report::health::write(out, &health),
        Format::Json => report::json::write(out, &health),
    })?;
    let whole = health.probes.iter().all(|probe| probe.state == ProbeState::Available);
    Ok(if whole { Exit::Ok } else { Exit::CouldNotTell }.into())
}
