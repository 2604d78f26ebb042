//! `undo`.

use std::process::ExitCode;

use super::Failure;
use super::agree;
use super::args::Format;
use super::audit::print;
use super::exit::Exit;
use crate::domain::plan::Risk;
use crate::engine::Engine;
use crate::report;

/// Puts back what earlier runs have left, once somebody agreed to it.
pub fn run(
    engine: &Engine,
    name: Option<&str>,
    dry_run: bool,
    yes: bool,
    format: Format,
) -> Result<ExitCode, Failure> {
    agree::or_say_how(format, dry_run, yes)?;
    let snapshot = engine.snapshot();
    let mut undoing = engine.undo(name, &snapshot).map_err(|error| Failure::new(Exit::NoInput, error))?;
    let text = format == Format::Text;
    if text {
        print(|out| report::undo::write(out, &undoing))?;
    }
    if dry_run || undoing.basket.is_empty() {
        if !text {
            print(|out| report::json::write(out, &undoing))?;
        }
        let exit = if undoing.missing.is_empty() { Exit::Ok } else { Exit::CouldNotTell };
        return Ok(exit.into());
    }
    let Some(receipt) = agree::then_run(engine, undoing.basket.clone(), yes.then_some(Risk::Disruptive))?
    else {
        return Ok(Exit::Warning.into());
    };
    let clean = receipt.is_clean() && receipt.count() > 0;
    undoing.receipt = Some(receipt);
    print(
        |out| if text { report::undo::outcome(out, &undoing) } else { report::json::write(out, &undoing) },
    )?;
    Ok(if clean { Exit::Ok } else { Exit::Warning }.into())
}
