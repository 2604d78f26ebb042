//! Snapshot → findings. Pure: the same snapshot and settings give the same findings.

use crate::config::Settings;
use crate::domain::finding::Finding;
use crate::domain::snapshot::Snapshot;

/// Everything that the rules find, worst first.
pub fn assess(snapshot: &Snapshot, settings: &Settings) -> Vec<Finding> {
    let _ = (snapshot, settings);
    Vec::new()
}
