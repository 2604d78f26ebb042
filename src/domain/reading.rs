//! What a probe knows, and how well it knows it.

use std::fmt;
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
    /// What was asked answered, but with a refusal.
    Refused {
        /// Who refused, and its own words.
        words: String,
    },
    /// What would have to be asked is not there.
    NotHere {
        /// What is not there.
        why: String,
    },
    /// It could not be read for another reason.
    Unavailable {
        /// Why.
        why: String,
    },
}

/// One thing that is not known, and what kind of not knowing it is. It prints as a sentence; nobody has to look into that
/// sentence to learn the kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "words", rename_all = "snake_case")]
pub enum Gap {
    /// The probe is still at work.
    Pending,
    /// Permission was refused; what to do to be allowed.
    Denied(String),
    /// No answer within this time.
    TimedOut(Millis),
    /// It was asked and answered with a refusal: who, and its words.
    Refused(String),
    /// What would have to be asked is not there.
    NotHere(String),
    /// It could not be read, and why.
    Failed(String),
    /// A part of what was otherwise read, and what to do about it.
    Part(String),
}

/// What is said of a reading that is still to come.
pub const PENDING: &str = "still looking";

impl Gap {
    /// Whether it may still be known by waiting.
    pub fn is_pending(&self) -> bool {
        match self {
            Self::Pending => true,
            Self::Denied(_)
            | Self::TimedOut(_)
            | Self::Refused(_)
            | Self::NotHere(_)
            | Self::Failed(_)
            | Self::Part(_) => false,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str(PENDING),
            Self::Denied(hint) => write!(f, "permission denied: {hint}"),
            Self::TimedOut(after) => write!(f, "no answer within {after}"),
            Self::Refused(words) | Self::NotHere(words) | Self::Failed(words) | Self::Part(words) => {
                f.write_str(words)
            }
        }
    }
}

/// A duration in whole milliseconds, as reports and journals carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            Self::Pending
            | Self::Denied { .. }
            | Self::TimedOut { .. }
            | Self::Refused { .. }
            | Self::NotHere { .. }
            | Self::Unavailable { .. } => None,
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
            Self::Refused { words } => Reading::Refused { words },
            Self::NotHere { why } => Reading::NotHere { why },
            Self::Unavailable { why } => Reading::Unavailable { why },
        }
    }

    /// What is not known; empty if everything is.
    pub fn gaps(&self) -> Vec<Gap> {
        match self {
            Self::Pending => vec![Gap::Pending],
            Self::Ready { .. } => Vec::new(),
            Self::Partial { missing, .. } => missing.iter().cloned().map(Gap::Part).collect(),
            Self::Denied { hint } => vec![Gap::Denied(hint.clone())],
            Self::TimedOut { after } => vec![Gap::TimedOut(*after)],
            Self::Refused { words } => vec![Gap::Refused(words.clone())],
            Self::NotHere { why } => vec![Gap::NotHere(why.clone())],
            Self::Unavailable { why } => vec![Gap::Failed(why.clone())],
        }
    }

    /// What is not known, each as a sentence.
    pub fn sentences(&self) -> Vec<String> {
        self.gaps().iter().map(Gap::to_string).collect()
    }

    /// What is not known, as one line; empty if everything is.
    pub fn unknown(&self) -> String {
        self.sentences().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_not_knowing_is_a_gap_of_its_own() {
        let words = || "docker says: busy".to_owned();
        for (reading, gap, sentence) in [
            (Reading::<()>::Pending, Gap::Pending, "still looking"),
            (Reading::Denied { hint: words() }, Gap::Denied(words()), "permission denied: docker says: busy"),
            (
                Reading::TimedOut { after: Millis(1500) },
                Gap::TimedOut(Millis(1500)),
                "no answer within 1.5 s",
            ),
            (Reading::Refused { words: words() }, Gap::Refused(words()), "docker says: busy"),
            (Reading::NotHere { why: words() }, Gap::NotHere(words()), "docker says: busy"),
            (Reading::Unavailable { why: words() }, Gap::Failed(words()), "docker says: busy"),
            (Reading::with_missing((), vec![words()]), Gap::Part(words()), "docker says: busy"),
        ] {
            assert_eq!(reading.gaps(), vec![gap.clone()]);
            assert_eq!(reading.unknown(), sentence);
            assert_eq!(gap.is_pending(), reading == Reading::Pending);
        }
        // Words that sound like waiting are not waiting.
        assert!(!Gap::Part(format!("docker says: {PENDING}")).is_pending());
        assert_eq!(Reading::ready(()).gaps(), []);
    }
}
