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
    },
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
            Self::Raw { device, by_calls: 0 } => write!(f, "read from {device}"),
            Self::Raw { device, by_calls: 1 } => {
                write!(f, "read from {device}, 1 directory by ordinary calls")
            }
            Self::Raw { device, by_calls } => {
                write!(f, "read from {device}, {by_calls} directories by ordinary calls")
            }
        }
    }
}
