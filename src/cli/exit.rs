//! Exit codes. 0 to 3 are those of Nagios plugins; 64 and above those of sysexits.h(3).

use std::process::ExitCode;

use crate::engine::audit::Conclusion;
use crate::scan::ScanError;

/// Every exit code of the program. The console adds 128 + n if signal n ended it; a command ends by the signal itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; nothing found.
    Ok = 0,
    /// `--audit` found something to warn of; `reclaim` did not reach its goal, or not without a failure; a
    /// change was not, or not wholly, done.
    Warning = 1,
    /// `--audit` found something critical.
    Critical = 2,
    /// `--audit` could not look at everything and found nothing in the rest; nobody can say whether `reclaim`
    /// reached its goal; a scan left something out, or could not begin for lack of threads.
    CouldNotTell = 3,
    /// Wrong command line (`EX_USAGE`).
    Usage = 64,
    /// The path cannot be scanned, or the snapshot not be used (`EX_NOINPUT`).
    NoInput = 66,
    /// No terminal for the console, or to ask at (`EX_UNAVAILABLE`).
    NoTerminal = 69,
    /// The output could not be written (`EX_IOERR`).
    Output = 74,
    /// Wrong configuration (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&ScanError> for Exit {
    fn from(error: &ScanError) -> Self {
        match error {
            ScanError::Open { .. } | ScanError::Raw { .. } => Self::NoInput,
            ScanError::NoThread { .. } => Self::CouldNotTell,
        }
    }
}

impl From<Conclusion> for Exit {
    fn from(conclusion: Conclusion) -> Self {
        match conclusion {
            Conclusion::Ok => Self::Ok,
            Conclusion::Warning => Self::Warning,
            Conclusion::Critical => Self::Critical,
            Conclusion::CouldNotTell => Self::CouldNotTell,
        }
    }
}
