//! What a probe knows, and how well it knows it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of looking at the machine. Not knowing is a value that every pane and report shows;
/// it is never an empty list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Reading<T> {
    /// Nobody has answered yet: the probe is still at work.
    Pending,
    /// Everything was read.
    Ready {
        /// What was read.
        value: T,
    },
    /// Something was read, something could not be.
    Partial {
        /// What was read.
        value: T,
        /// What is missing, each a sentence that says what to do about it.
        missing: Vec<String>,
    },
    /// Permission was refused.
    Denied {
        /// What to do to be allowed.
        hint: String,
    },
    /// No answer within the deadline.
    TimedOut {
        /// The deadline that passed.
        after: Millis,
    },
    /// It is not there, or not readable for another reason.
    Unavailable {
        /// Why.
        why: String,
    },
}

/// What is said of a reading that is still to come.
pub const PENDING: &str = "still looking";

/// A duration in whole milliseconds, as reports and journals carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < 1000 {
            write!(f, "{} ms", self.0)
        } else {
            write!(f, "{}.{} s", self.0 / 1000, self.0 % 1000 / 100)
        }
    }
}

impl<T> Reading<T> {
    /// A complete reading.
    pub fn ready(value: T) -> Self {
        Self::Ready { value }
    }

    /// A complete reading where nothing is missing, else a partial one.
    pub fn with_missing(value: T, missing: Vec<String>) -> Self {
        if missing.is_empty() { Self::Ready { value } } else { Self::Partial { value, missing } }
    }

    /// What could be read, if anything.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Ready { value } | Self::Partial { value, .. } => Some(value),
            Self::Pending | Self::Denied { .. } | Self::TimedOut { .. } | Self::Unavailable { .. } => None,
        }
    }

    /// The same reading with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Pending => Reading::Pending,
            Self::Ready { value } => Reading::Ready { value: f(value) },
            Self::Partial { value, missing } => Reading::Partial { value: f(value), missing },
            Self::Denied { hint } => Reading::Denied { hint },
            Self::TimedOut { after } => Reading::TimedOut { after },
            Self::Unavailable { why } => Reading::Unavailable { why },
        }
    }

    /// What is not known, as sentences; empty where everything is.
    pub fn gaps(&self) -> Vec<String> {
        match self {
            Self::Pending => vec![PENDING.to_owned()],
            Self::Ready { .. } => Vec::new(),
            Self::Partial { missing, .. } => missing.clone(),
            Self::Denied { hint } => vec![format!("permission denied: {hint}")],
            Self::TimedOut { after } => vec![format!("no answer within {after}")],
            Self::Unavailable { why } => vec![why.clone()],
        }
    }
}
