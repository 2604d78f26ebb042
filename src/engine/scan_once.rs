//! One directory scanned for a script: totals, the largest, and how it was read.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::audit::{AuditProgress, SCHEMA_VERSION, ScanSummary, Scanned, Sized};
use crate::config::ScanMethod;
use crate::domain::reading::Reading;
use crate::domain::text::HostPath;
use crate::scan::ScanError;

/// What a scan came to.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ScanReport {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// Totals, and how it was read.
    pub scan: Reading<ScanSummary>,
    /// The largest files, largest first; one with several names once.
    pub largest_files: Vec<Sized>,
    /// The largest directories, with all below them, largest first.
    pub largest_directories: Vec<Sized>,
}

impl Engine {
    /// Scans one directory to the end, as the settings say, and names its `top` largest files and directories.
    ///
    /// # Errors
    /// Where it cannot be opened, or with `scan.method = "raw"` not be read from its device.
    pub fn scan_once(
        &self,
        path: &Path,
        top: usize,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<ScanReport, ScanError> {
        let scan = self.scan(path)?;
        let done = Scanned::run(HostPath::from(path), &scan, top, progress);
        let reading = scan.reading();
        if self.settings().scan.method == ScanMethod::Raw && !reading.is_raw() {
            return Err(ScanError::Raw { path: path.into(), why: reading.to_string() });
        }
        Ok(ScanReport {
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            scan: done.summary,
            largest_files: done.files,
            largest_directories: done.directories,
        })
    }
}
