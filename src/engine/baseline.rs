//! What takes space, kept for later, and what changed since.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::audit::{AuditProgress, SCHEMA_VERSION, Scanned};
use crate::domain::baseline::Baseline;
use crate::domain::baseline::diff::{Diff, diff};
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::journal::baselines;
use crate::scan::ScanError;

/// A snapshot that was kept.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Kept {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// The directory that it is of.
    pub root: HostPath,
    /// The file.
    pub file: HostPath,
    /// Its size.
    pub size: Bytes,
    /// Entries that were scanned.
    pub entries: u64,
    /// Bytes on disk of these.
    pub allocated: Bytes,
    /// Entries that are named in it.
    pub named: usize,
    /// What takes less is not named.
    pub floor: Bytes,
    /// Older snapshots of the directory that were removed (`snapshot.keep`).
    pub removed: usize,
    /// What could not be read, or not be removed.
    pub missing: Vec<String>,
}

/// What changed since a snapshot.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// The older snapshot.
    pub old: HostPath,
    /// The newer one; none where the directory was scanned now.
    pub new: Option<HostPath>,
    /// What could not be read at one of the two times, so that it may look like a change.
    pub missing: Vec<String>,
    /// What changed.
    #[serde(flatten)]
    pub diff: Diff,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The directory cannot be scanned.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A snapshot cannot be used.
    #[error("{0}")]
    Input(String),
    /// It cannot be written.
    #[error("{0}")]
    Output(String),
}

impl Engine {
    /// Scans a directory and keeps what takes space in it: in `output`, which must not exist, or where snapshots belong.
    ///
    /// # Errors
    /// Where it cannot be scanned, or nothing can be written there.
    pub fn keep_baseline(
        &self,
        path: &Path,
        output: Option<&Path>,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<Kept, BaselineError> {
        let (baseline, missing) = self.baseline_of(path, progress)?;
        let (baseline, bytes) = baseline.packed();
        let [state, _] = self.journal.places();
        let file = match output {
            Some(file) => self.new_file(file)?,
            None => baselines::place(state.as_path(), &baseline.root, Timestamp::now()),
        };
        baselines::write(&file, state.as_path(), &bytes).map_err(BaselineError::Output)?;
        let mut missing = missing;
        let keep = usize::try_from(self.settings.snapshot.keep).unwrap_or(usize::MAX);
        let mut removed = 0;
        if output.is_none() && keep > 0 {
            // The new one is kept, whatever becomes of the others.
            match baselines::keep_newest(state.as_path(), &baseline.root, keep) {
                Ok(count) => removed = count,
                Err(why) => missing.push(why),
            }
        }
        Ok(Kept {
            removed,
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            file: HostPath::from(file),
            size: Bytes(bytes.len() as u64),
            entries: baseline.entries(),
            allocated: baseline.allocated(),
            named: baseline.named(),
            floor: baseline.floor,
            root: baseline.root,
            missing,
        })
    }

    /// Compares a snapshot with a newer one, or with what is there now. Where a directory is named in place of the older
    /// one, its newest snapshot is taken; without any, that of `/`.
    ///
    /// # Errors
    /// Where a snapshot cannot be used, or the directory not be scanned.
    pub fn compare(
        &self,
        old: Option<&Path>,
        new: Option<&Path>,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<Comparison, BaselineError> {
        let old = self.answering(old.unwrap_or(Path::new("/")))?;
        let [state, _] = self.journal.places();
        let old = if old.is_dir() {
            // As scans name it: without symbolic links.
            let root = old.canonicalize().map_or_else(|_| old.clone().into(), HostPath::from);
            baselines::newest(state.as_path(), &root).map_err(BaselineError::Input)?
        } else {
            old
        };
        let before = baselines::read(&old).map_err(BaselineError::Input)?;
        let new = new.map(|new| self.answering(new)).transpose()?;
        let mut missing = Vec::new();
        let (now, file) = match new {
            Some(file) if !file.is_dir() => {
                (baselines::read(&file).map_err(BaselineError::Input)?, Some(HostPath::from(file)))
            }
            place => {
                let place = place.as_deref().unwrap_or(before.root.as_path());
                let (now, gaps) = self.baseline_of(place, progress)?;
                missing = gaps;
                (now, None)
            }
        };
        for (which, baseline) in [("older", Some(&before)), ("newer", file.is_some().then_some(&now))] {
            if let Some(count) = baseline.map(|one| one.unreadable).filter(|&count| count > 0) {
                missing.push(format!("{count} directories could not be read for the {which} snapshot"));
            }
        }
        Ok(Comparison {
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            diff: diff(&before, &now).map_err(BaselineError::Input)?,
            old: HostPath::from(old),
            new: file,
            missing,
        })
    }

    /// The absolute path of a file that is to be made, once it is known that its directory answers.
    fn new_file(&self, file: &Path) -> Result<PathBuf, ScanError> {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match file.file_name() {
            Some(name) => Ok(self.answering(dir)?.join(name)),
            None => Ok(file.to_path_buf()),
        }
    }

    /// What takes space in a directory now, and what could not be read.
    fn baseline_of(
        &self,
        path: &Path,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<(Baseline, Vec<String>), ScanError> {
        let began = Timestamp::now();
        let scan = self.scan(path)?;
        let done = Scanned::run(HostPath::from(path), &scan, 0, progress);
        let floor = Bytes(self.settings.snapshot.floor.as_u64());
        Ok((scan.baseline(began, floor), done.summary.sentences()))
    }
}
