//! `--audit` and `history`.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;

use super::Failure;
use super::args::{Args, Format};
use super::exit::Exit;
use crate::engine::Engine;
use crate::engine::audit::AuditProgress;
use crate::journal::Journal;
use crate::report::{self, history::History};

/// Runs something that shows on a terminal how far its scans are.
pub fn show_progress<R>(run: impl FnOnce(&dyn Fn(&AuditProgress)) -> R) -> R {
    let visible = io::stderr().is_terminal() && super::surroundings::moves_cursor();
    let result = run(&|progress: &AuditProgress| {
        if visible {
            // Lost progress harms nobody.
            let _ = write!(
                io::stderr(),
                "\r\x1b[Kscanning {}: {} entries, {}",
                progress.path,
                progress.scan.entries,
                progress.scan.allocated
            );
        }
    });
    if visible {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    result
}

/// Audits and prints the report.
pub fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let audit = show_progress(|show| engine.audit(args.path.as_deref(), show))
        .map_err(|error| Failure::new(Exit::from(&error), error))?;
    print(|out| match args.format {
        Format::Text => report::text::write(out, &audit),
        Format::Json => report::json::write(out, &audit),
    })?;
    Ok(Exit::from(audit.conclusion).into())
}

/// Prints the journal.
pub fn history(journal: &Journal, last: bool, names: bool, format: Format) -> Result<ExitCode, Failure> {
    let reading = journal.history();
    let mut history = History::from(&reading);
    if last {
        let before = history.records.len().saturating_sub(1);
        history.records.drain(..before);
    }
    print(|out| match format {
        Format::Text => report::history::write(out, &history, names),
        Format::Json => report::json::write(out, &history),
    })?;
    // A journal that could not be read must not look like an empty one.
    let exit = if reading.value().is_some() { Exit::Ok } else { Exit::CouldNotTell };
    Ok(exit.into())
}

/// Writes to standard output. A reader that went away (`| head`) is no failure.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Exit::Output, format!("cannot write the report: {error}"))),
        Ok(()) => Ok(()),
    }
}
