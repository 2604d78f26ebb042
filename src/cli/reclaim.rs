//! `reclaim`.

use std::path::Path;
use std::process::ExitCode;

use super::Failure;
use super::agree;
use super::args::{Format, MostRisk};
use super::audit::{print, show_progress};
use super::exit::Exit;
use crate::domain::plan::Risk;
use crate::domain::size::Bytes;
use crate::engine::Engine;
use crate::engine::reclaim::{Asked, ReclaimError};
use crate::report;

impl From<ReclaimError> for Failure {
    fn from(error: ReclaimError) -> Self {
        let exit = match &error {
            ReclaimError::Scan(error) => Exit::from(error),
            ReclaimError::Place(_) => Exit::NoInput,
        };
        Self::new(exit, error)
    }
}

/// What the command line says.
pub struct Wanted<'a> {
    /// How much shall come back.
    pub bytes: Bytes,
    /// Where.
    pub on: Option<&'a Path>,
    /// The most that may be risked.
    pub most: MostRisk,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Do not ask.
    pub yes: bool,
    /// How to print.
    pub format: Format,
}

/// Chooses, asks, runs and prints.
pub fn run(engine: &Engine, wanted: &Wanted<'_>) -> Result<ExitCode, Failure> {
    let most = match wanted.most {
        MostRisk::Routine => Risk::Routine,
        MostRisk::Disruptive => Risk::Disruptive,
    };
    agree::or_say_how(wanted.format, wanted.dry_run, wanted.yes)?;
    let asked = Asked { bytes: wanted.bytes, on: wanted.on, most };
    let mut reclaiming = show_progress(|show| engine.reclaim(&asked, show))?;
    let text = wanted.format == Format::Text;
    if text {
        print(|out| report::reclaim::write(out, &reclaiming))?;
    }
    if wanted.dry_run || reclaiming.choice.basket.is_empty() {
        if !text {
            print(|out| report::json::write(out, &reclaiming))?;
        }
        return Ok(if reclaiming.choice.reaches { Exit::Ok } else { Exit::Warning }.into());
    }
    let basket = reclaiming.choice.basket.clone();
    let Some(receipt) = agree::then_run(engine, basket, wanted.yes.then_some(most))? else {
        return Ok(Exit::Warning.into());
    };
    let clean = receipt.is_clean();
    reclaiming.receipt = Some(receipt);
    print(|out| {
        if text { report::reclaim::outcome(out, &reclaiming) } else { report::json::write(out, &reclaiming) }
    })?;
    let exit = match reclaiming.reached() {
        Some(true) if clean => Exit::Ok,
        Some(_) => Exit::Warning,
        None => Exit::CouldNotTell,
    };
    Ok(exit.into())
}
