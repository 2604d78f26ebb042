//! The console: model, update, view. Only `runtime` knows the engine.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::engine::Engine;

/// Runs the console until the person quits.
///
/// # Errors
/// Where the terminal cannot be used.
pub fn run(engine: Engine, start: PathBuf) -> std::io::Result<ExitCode> {
    let _ = (engine, start);
    Ok(ExitCode::SUCCESS)
}
