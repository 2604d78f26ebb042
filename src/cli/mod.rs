//! Command line, dispatch, exit codes. The only room that prints and that reads the environment.

mod agree;
mod args;
mod audit;
mod baseline;
mod change;
mod ending;
mod exit;
mod explain;
#[cfg(test)]
mod generated;
mod health;
mod reclaim;
mod scan;
mod surroundings;
mod undo;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::domain::text::{HostPath, sanitise_lines};
use crate::engine::Engine;
use crate::journal::Journal;
use crate::tui::supervise;
use args::{Args, Command};
use exit::Exit;

/// Runs the program with these arguments, the first being its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let args = match Args::read(&arguments) {
        Ok(args) => args,
        Err(error) => {
            let help = !error.use_stderr();
            // Nothing can be said where even this fails.
            let _ = error.print();
            return if help { Exit::Ok.into() } else { Exit::Usage.into() };
        }
    };
    let console = args.command.is_none() && !args.audit && !args.health;
    // Before there is anything that a copy of the program should not have twice.
    if let Some(code) = supervise::supervise(console) {
        return code;
    }
    if !console {
        ending::listen();
    }
    supervise::at_the_end(match dispatch(&args) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.message);
            failure.exit.into()
        }
    })
}

/// Why the program ends without having done what it was asked.
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, error: impl std::fmt::Display) -> Self {
        Self { exit, message: error.to_string() }
    }
}

/// Says what went wrong on standard error; nothing more can be done where that fails too.
fn complain(message: &str) {
    // It may quote what somebody wrote into a file.
    let _ = writeln!(std::io::stderr(), "unwedge: {}", sanitise_lines(message));
}

fn dispatch(args: &Args) -> Result<ExitCode, Failure> {
    let (environment, mut settings) = surroundings::read(args)?;
    let journal = Journal::open(&environment, &settings);
    match &args.command {
        Some(Command::Scan { path, top, format, method, threads, max_memory }) => {
            settings.scan.method = method.map_or(settings.scan.method, Into::into);
            settings.scan.threads = threads.unwrap_or(settings.scan.threads);
            settings.scan.max_memory = max_memory.unwrap_or(settings.scan.max_memory);
            scan::run(&Engine::new(environment, settings, journal), path, *top, *format)
        }
        Some(Command::Snapshot { path, output, format }) => {
            baseline::keep(&Engine::new(environment, settings, journal), path, output.as_deref(), *format)
        }
        Some(Command::Diff { old, new, top, format }) => {
            let engine = Engine::new(environment, settings, journal);
            baseline::compare(&engine, old.as_deref(), new.as_deref(), *top, *format)
        }
        Some(Command::History { last, names, format }) => audit::history(&journal, *last, *names, *format),
        Some(Command::Fix { id, path, action, run, format }) => {
            let engine = Engine::new(environment, settings, journal);
            change::fix(&engine, id, action.as_deref(), path.as_deref(), run.how(*format))
        }
        Some(Command::Sweep { dir, rule, run, format }) => {
            let rule = rule.over(&settings.sweep);
            change::sweep(&Engine::new(environment, settings, journal), dir, rule, run.how(*format))
        }
        Some(Command::Delete { paths, dry_run, format }) => {
            let how = change::How { dry_run: *dry_run, yes: false, format: *format };
            change::delete(&Engine::new(environment, settings, journal), paths, how)
        }
        Some(Command::Undo { run, dry_run, yes, format }) => {
            let engine = Engine::new(environment, settings, journal);
            undo::run(&engine, run.as_deref(), *dry_run, *yes, *format)
        }
        Some(Command::Explain { id, path, format }) => {
            explain::run(&Engine::new(environment, settings, journal), id, path.as_deref(), *format)
        }
        Some(Command::Reclaim { goal, on, max_risk, dry_run, yes, format }) => {
            let wanted = reclaim::Wanted {
                bytes: *goal,
                on: on.as_deref(),
                most: *max_risk,
                dry_run: *dry_run,
                yes: *yes,
                format: *format,
            };
            reclaim::run(&Engine::new(environment, settings, journal), &wanted)
        }
        None if args.health => health::run(&Engine::new(environment, settings, journal), args.format),
        None if args.audit => audit::run(&Engine::new(environment, settings, journal), args),
        None => {
            let engine = Engine::new(environment, settings, journal);
            let start = start(&engine, args)?;
            crate::tui::run(engine, start).map_err(|error| Failure::new(Exit::NoTerminal, error))
        }
    }
}

/// The directory that the console opens. A wrong one is an error now, not after the terminal was taken over.
fn start(engine: &Engine, args: &Args) -> Result<PathBuf, Failure> {
    let asked = args.path.as_deref().unwrap_or(Path::new("/"));
    let start = engine.answering(asked).map_err(|error| Failure::new(Exit::NoInput, error))?;
    let shown = HostPath::from(asked);
    let meta = std::fs::metadata(&start)
        .map_err(|why| Failure::new(Exit::NoInput, format!("cannot open {shown}: {why}")))?;
    if meta.is_dir() {
        return Ok(start);
    }
    let parent = HostPath::from(start.parent().unwrap_or(Path::new("/")));
    let message = format!("{shown} is a file, not a directory: try unwedge {}", parent.quoted());
    Err(Failure::new(Exit::NoInput, message))
}
