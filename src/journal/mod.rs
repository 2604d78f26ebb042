//! The append-only record of what was done.

/// The journal.
#[derive(Debug)]
pub struct Journal {}

impl Journal {
    /// Opens.
    pub fn open(environment: &crate::config::Environment, settings: &crate::config::Settings) -> Self {
        let _ = (environment, settings);
        Self {}
    }
}
