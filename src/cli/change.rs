//! `fix`, `sweep` and `delete`: one change, shown, agreed to and run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Failure;
use super::agree;
use super::args::Format;
use super::audit::{print, show_progress};
use super::exit::Exit;
use crate::domain::plan::Risk;
use crate::domain::receipt::Outcome;
use crate::domain::sweep::SweepRule;
use crate::engine::Engine;
use crate::engine::change::{Change, NotFixed};
use crate::engine::explain::Absent;
use crate::report;

/// How a change is asked for.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Only show it.
    pub dry_run: bool,
    /// Ask nobody.
    pub yes: bool,
    /// How to print it.
    pub format: Format,
}

/// Does something about a finding.
pub fn fix(
    engine: &Engine,
    id: &str,
    action: Option<&str>,
    path: Option<&Path>,
    how: How,
) -> Result<ExitCode, Failure> {
    agree::or_say_how(how.format, how.dry_run, how.yes)?;
    match show_progress(|show| engine.fix(id, action, path, show)) {
        Ok(change) => run(engine, change, how),
        Err(NotFixed::Scan(error)) => Err(Failure::new(Exit::from(&error), error)),
        Err(NotFixed::NotFound { absent: Absent::Unknown { nearest }, .. }) => {
            let why = format!("no rule is called {id}; near to it: {}", nearest.join(", "));
            Err(Failure::new(Exit::Usage, why))
        }
        Err(NotFixed::NotFound { absent: Absent::NotFound { instead, .. }, unseen }) => {
            let others = if instead.is_empty() {
                String::new()
            } else {
                format!("; found are: {}", instead.join(", "))
            };
            if unseen.is_empty() {
                super::complain(&format!("{id} is not found now, so there is nothing to do{others}"));
                return Ok(Exit::Ok.into());
            }
            let unseen = unseen.join("; ");
            super::complain(&format!(
                "{id} is not found, but not everything could be looked at{others}: {unseen}"
            ));
            Ok(Exit::CouldNotTell.into())
        }
        Err(NotFixed::NoAction { finding, actions }) => {
            let names: Vec<&str> = actions.iter().map(|action| action.name()).collect();
            let why = match (action, names.as_slice()) {
                (Some(action), [_, ..]) => {
                    format!("{action} does nothing about {id}: try --action {}", names.join(" or "))
                }
                (_, _) => format!("nothing here does it for you. {}", finding.advice),
            };
            Err(Failure::new(if names.is_empty() { Exit::Warning } else { Exit::Usage }, why))
        }
    }
}

/// Sweeps a directory.
pub fn sweep(engine: &Engine, dir: &Path, rule: SweepRule, how: How) -> Result<ExitCode, Failure> {
    agree::or_say_how(how.format, how.dry_run, how.yes)?;
    let change = engine.sweep(dir, rule).map_err(|why| Failure::new(Exit::NoInput, why))?;
    run(engine, change, how)
}

/// Deletes files and directories.
pub fn delete(engine: &Engine, paths: &[PathBuf], how: How) -> Result<ExitCode, Failure> {
    agree::or_say_how(how.format, how.dry_run, how.yes)?;
    let change =
        show_progress(|show| engine.delete(paths, show)).map_err(|why| Failure::new(Exit::NoInput, why))?;
    run(engine, change, how)
}

fn run(engine: &Engine, mut change: Change, how: How) -> Result<ExitCode, Failure> {
    let text = how.format == Format::Text;
    if text {
        print(|out| report::change::write(out, &change, how.dry_run))?;
    }
    if how.dry_run || change.basket.is_empty() {
        if !text {
            print(|out| report::json::write(out, &change))?;
        }
        return Ok(without_run(&change).into());
    }
    let most = how.yes.then_some(Risk::Disruptive);
    let Some(receipt) = agree::then_run(engine, change.basket.clone(), most)? else {
        return Ok(Exit::Warning.into());
    };
    let mut steps = receipt.parts.iter().flat_map(|part| &part.steps);
    // What was not done leaves the machine as it was, and a script has to know.
    let whole = steps.clone().any(|step| matches!(step.outcome, Outcome::Done { .. }))
        && steps.all(|step| matches!(step.outcome, Outcome::Done { .. }) || step.outcome.is_not_needed());
    change.receipt = Some(receipt);
    print(
        |out| {
            if text { report::change::outcome(out, &change) } else { report::json::write(out, &change) }
        },
    )?;
    Ok(if whole { Exit::Ok } else { Exit::Warning }.into())
}

/// The exit code of a change that is not run: whether there is something to do, and all of it was seen.
fn without_run(change: &Change) -> Exit {
    let refused = change.basket.parts.iter().flat_map(|plan| &plan.refused).chain(&change.basket.refused);
    if !change.basket.is_empty() || change.nothing_old {
        Exit::Ok
    } else if !change.missing.is_empty() {
        Exit::CouldNotTell
    } else if refused.count() > 0 {
        Exit::Warning
    } else {
        Exit::Ok
    }
}
