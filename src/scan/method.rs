//! How a scan reads: what was asked for, and what came of it.

use std::fmt;

use crate::domain::text::HostPath;

pub use crate::config::ScanMethod as Method;

/// How a scan reads, and why so. Its text is one line for the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Not decided yet.
    #[default]
    Pending,
    /// By ordinary calls, as asked.
    Calls,
    /// By ordinary calls, because reading the device is impossible.
    Fallback {
        /// Why it is.
        why: String,
    },
    /// From the device.
    Raw {
        /// Which.
        device: HostPath,
        /// Directories that had to be looked at by ordinary calls: what changed meanwhile, is encrypted or has
        /// something mounted in it.
        by_calls: usize,
        /// What a sample of it was compared with.
        sample: Sample,
    },
}

/// How many entries read from a device were compared with statx(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// How many there are.
    pub entries: u64,
    /// How many were compared.
    pub checked: u32,
    /// Of these, how many were equal.
    pub equal: u32,
    /// Of these, how many changed meanwhile.
    pub changed: u32,
}

impl Sample {
    /// How many were not equal although they did not change.
    pub fn differing(&self) -> u32 {
        self.checked.saturating_sub(self.equal).saturating_sub(self.changed)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, checked, equal, changed } = self;
        write!(f, "checked {checked} of {entries} against statx: {equal} equal")?;
        if *changed > 0 {
            write!(f, ", {changed} changed meanwhile")?;
        }
        match self.differing() {
            0 => Ok(()),
            differing => write!(f, ", {differing} different"),
        }
    }
}

impl Reading {
    /// One word for scripts: `pending`, `calls` or `raw`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Calls | Self::Fallback { .. } => "calls",
            Self::Raw { .. } => "raw",
        }
    }

    /// Whether it reads from the device.
    pub fn is_raw(&self) -> bool {
        matches!(self, Self::Raw { .. })
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => write!(f, "not decided yet"),
            Self::Calls => write!(f, "ordinary calls, as asked"),
            Self::Fallback { why } => write!(f, "ordinary calls: {why}"),
            Self::Raw { device, by_calls, sample } => {
                write!(f, "read from {device}")?;
                match by_calls {
                    0 => {}
                    1 => write!(f, ", 1 directory by ordinary calls")?,
                    more => write!(f, ", {more} directories by ordinary calls")?,
                }
                // Before it is over there is none.
                if sample.entries == 0 { Ok(()) } else { write!(f, "; {sample}") }
            }
        }
    }
}
