//! The append-only record of what was done.

/// The journal.
#[derive(Debug)]
pub struct Journal {}
