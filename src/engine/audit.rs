//! The whole machine, or one directory of it, looked at once.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Engine, TICK};
use crate::actions;
use crate::domain::finding::{ActionId, Finding, Reclaim, Severity};
use crate::domain::own_command::OwnCommand;
use crate::domain::plan::{Plan, Refusal, Risk};
use crate::domain::reading::{Millis, Reading};
use crate::domain::room;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{FileSystem, FsClass, Snapshot, SnapshotPart};
use crate::domain::text::HostPath;
use crate::probe;
use crate::scan::{Progress, Row, Scan, ScanError};
use crate::sys::beside::beside;

/// The version of the report's JSON. It changes when a field changes its meaning or goes away, not when one
/// is added.
pub const SCHEMA_VERSION: u32 = 1;

/// How many of the largest files and directories a report names.
pub const LARGEST: usize = 10;

/// The conclusion of an audit. Each is one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Nothing was found that anybody has to act on.
    Ok,
    /// The worst finding is a warning.
    Warning,
    /// Something is critical.
    Critical,
    /// Nothing of that kind was found, but not everything could be looked at.
    CouldNotTell,
}

/// What an action would do about a finding.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Remedy {
    /// What it does.
    pub summary: String,
    /// What can be lost.
    pub risk: Risk,
    /// Each step: in words, or the owner's own command.
    pub commands: Vec<String>,
    /// The command of this program that does it, with every guard; none if no line says exactly this.
    pub run: Option<String>,
    /// What it gives back.
    pub reclaim: Reclaim,
    /// Whether it can be taken back.
    pub undo: String,
    /// What it would leave alone, and why.
    pub refused: Vec<Refusal>,
}

impl From<Plan> for Remedy {
    fn from(plan: Plan) -> Self {
        Self {
            commands: plan.steps.iter().map(|step| step.op.words()).collect(),
            run: plan.again.as_ref().map(ToString::to_string),
            summary: plan.summary,
            risk: plan.risk,
            reclaim: plan.reclaim,
            undo: plan.undo.to_string(),
            refused: plan.refused,
        }
    }
}

/// A finding and what can be done about it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditFinding {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// What the program's own actions would do.
    pub remedies: Vec<Remedy>,
}

/// A file or directory and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sized {
    /// Where it is.
    pub path: HostPath,
    /// Space that it and all below take.
    pub allocated: Bytes,
    /// Apparent size of it and all below.
    pub apparent: Bytes,
    /// Entries in it and below, itself included.
    pub entries: u64,
}

impl From<(HostPath, Row)> for Sized {
    fn from((path, row): (HostPath, Row)) -> Self {
        Self { path, allocated: row.allocated, apparent: row.apparent, entries: row.entries }
    }
}

/// A directory that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unreadable {
    /// Which.
    pub path: HostPath,
    /// Why.
    pub why: String,
}

/// What a scan of one directory came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ScanSummary {
    /// The directory.
    pub path: HostPath,
    /// Entries in it, itself included.
    pub entries: u64,
    /// Directories among them.
    pub directories: u64,
    /// Space they take; a file with several names counts once.
    pub allocated: Bytes,
    /// Their apparent size.
    pub apparent: Bytes,
    /// Directories that could not be read.
    pub unreadable: u64,
    /// Some of them.
    pub unreadable_examples: Vec<Unreadable>,
    /// Snapshots of btrfs below it. They share their space with what they were made of and are not counted.
    pub snapshots: u64,
    /// Some of them.
    pub snapshot_examples: Vec<HostPath>,
    /// Entries that vanished while the scan ran.
    pub vanished: u64,
    /// Files that are counted, but not listed, because the scan may not take more memory (`scan.max_memory`). None of
    /// them is among the largest files of the report.
    pub not_listed: u64,
    /// How long it took.
    pub took: Millis,
    /// How it was read: `raw`, from the device, or `calls`, directory by directory.
    pub method: String,
    /// Why so, or from which device.
    pub method_why: String,
}

/// The whole report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Audit {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// The conclusion; also the exit code.
    pub conclusion: Conclusion,
    /// What was found, worst first.
    pub findings: Vec<AuditFinding>,
    /// What the probes saw.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Why there is no ledger of a file system that was scanned.
    pub unaccounted: Vec<String>,
    /// What was scanned.
    pub scans: Vec<Reading<ScanSummary>>,
    /// The largest files of all scans, largest first.
    pub largest_files: Vec<Sized>,
    /// The largest directories of all scans, largest first.
    pub largest_directories: Vec<Sized>,
    /// How long all of it took.
    pub took: Millis,
}

impl Audit {
    /// What was scanned, as far as it could be.
    pub fn scanned(&self) -> impl Iterator<Item = &ScanSummary> {
        self.scans.iter().filter_map(Reading::value)
    }
}

/// How far an audit is.
#[derive(Clone, Debug)]
pub struct AuditProgress {
    /// What is being scanned.
    pub path: HostPath,
    /// How far that scan is.
    pub scan: Progress,
}

impl Engine {
    /// Looks at the whole machine, and scans `path`, or every local file system where there is none.
    ///
    /// # Errors
    /// Where `path` cannot be scanned. A file system that cannot is said in the report.
    pub fn audit(&self, path: Option<&Path>, progress: &dyn Fn(&AuditProgress)) -> Result<Audit, ScanError> {
        let began = Instant::now();
        // Opened before anything else: a wrong path is an error at once, not after seconds of probing.
        let (asked, not_begun) =
            match path.map(|path| self.scan(path).map(|scan| (HostPath::from(path), scan))) {
                None => (None, None),
                Some(Ok(asked)) => (Some(asked), None),
                // Nothing is wrong with the path, and the probes may still tell what is.
                Some(Err(error @ ScanError::NoThread { .. })) => (None, Some(error)),
                Some(Err(error)) => return Err(error),
            };
        let (mut snapshot, early) = beside(
            || self.snapshot(),
            || asked.map(|(path, scan)| (Scanned::run(path, &scan, LARGEST, progress), scan)),
        );
        let mut unaccounted = Vec::new();
        let scans: Vec<Result<(Scanned, Scan), ScanError>> = if let Some((scanned, scan)) = early {
            unaccounted.extend(self.enter(&scan, &mut snapshot));
            vec![Ok((scanned, scan))]
        } else if let Some(error) = not_begun {
            vec![Err(error)]
        } else {
            let all: Vec<FileSystem> = local(&snapshot).cloned().collect();
            let mut scans = Vec::new();
            for fs in &all {
                let of_it = self.scan_all(fs, LARGEST, progress);
                let (done, missing) = done(&of_it);
                // At once: the longer ago the scan is, the less its figures meet those of the file system.
                if !done.is_empty() {
                    match self.account_for(fs, &done, missing, &snapshot) {
                        Ok(ledger) => snapshot.merge(SnapshotPart::Ledger(Box::new(ledger))),
                        Err(why) => unaccounted.push(why),
                    }
                }
                scans.extend(of_it);
            }
            scans
        };
        let trees: Vec<&Scan> = scans.iter().flatten().map(|(_, scan)| scan).collect();
        snapshot.scanned = self.scanned(&trees, &snapshot);
        let findings: Vec<AuditFinding> = self
            .findings(&snapshot)
            .into_iter()
            .map(|finding| self.with_remedies(finding, &snapshot))
            .collect();
        let mut largest_files = Vec::new();
        let mut largest_directories = Vec::new();
        let mut summaries = Vec::new();
        for scan in scans {
            match scan {
                Ok((done, _)) => {
                    largest_files.extend(done.files);
                    largest_directories.extend(done.directories);
                    summaries.push(done.summary);
                }
                Err(error) => summaries.push(Reading::Unavailable { why: error.to_string() }),
            }
        }
        keep_largest(&mut largest_files);
        keep_largest(&mut largest_directories);
        Ok(Audit {
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            conclusion: conclude(&findings, &summaries),
            findings,
            snapshot,
            unaccounted,
            scans: summaries,
            largest_files,
            largest_directories,
            took: began.elapsed().into(),
        })
    }

    /// What every probe saw.
    pub fn snapshot(&self) -> Snapshot {
        collect(|deliver| self.probe(deliver))
    }

    /// What those probes saw that a change of files needs: no engine is asked, and nothing is waited for.
    pub(super) fn snapshot_for_files(&self) -> Snapshot {
        collect(|deliver| probe::run_for_files(&self.context(), deliver))
    }

    /// Scans all that is seen of a file system, mount by mount, nothing twice.
    pub(super) fn scan_all(
        &self,
        fs: &FileSystem,
        largest: usize,
        progress: &dyn Fn(&AuditProgress),
    ) -> Vec<Result<(Scanned, Scan), ScanError>> {
        let mut scans: Vec<Result<(Scanned, Scan), ScanError>> = Vec::new();
        for place in std::iter::once(&fs.mount_point).chain(&fs.seen.parts) {
            let scan = match done(&scans).0.as_slice() {
                [] => Some(self.scan(place.as_path())),
                so_far => self.scan_rest(place, so_far),
            };
            let run = |scan: Scan| (Scanned::run(place.clone(), &scan, largest, progress), scan);
            scans.extend(scan.map(|scan| scan.map(run)));
        }
        scans
    }

    /// Puts the ledger of the file system that was scanned into the snapshot; answers why there is none.
    fn enter(&self, scan: &Scan, snapshot: &mut Snapshot) -> Option<String> {
        if let Some(outcome) = self.account(scan, snapshot) {
            return outcome.map(|ledger| snapshot.merge(SnapshotPart::Ledger(Box::new(ledger)))).err();
        }
        let root = scan.path(scan.root());
        let all = snapshot.filesystems.value().map_or(&[][..], Vec::as_slice);
        Some(match room::holds(all, &root) {
            Some(fs) if fs.mount_point == root => {
                format!(
                    "{root} ({}) is not on this machine: what serves it knows where its space went",
                    fs.fs_type
                )
            }
            Some(fs) => format!(
                "{root} is only a part of the file system at {}, so there is nothing to hold its size against: unwedge \
                 --audit {} accounts for all of it",
                fs.mount_point,
                fs.mount_point.quoted()
            ),
            None => format!("{root} is on no file system that is known, so there is nothing to account for"),
        })
    }

    /// What an action would do about a finding; none if its operands must be chosen first.
    pub fn plan_for(&self, action: ActionId, finding: &Finding, snapshot: &Snapshot) -> Option<Plan> {
        let request = actions::request_for(action, finding, snapshot)?;
        let again = Some(OwnCommand::Fix { finding: finding.id.clone(), action });
        Some(self.plan_as(&request, snapshot, again))
    }

    pub(super) fn remedies(&self, finding: &Finding, snapshot: &Snapshot) -> Vec<Remedy> {
        finding
            .actions
            .iter()
            .filter_map(|&action| self.plan_for(action, finding, snapshot))
            .map(Remedy::from)
            .collect()
    }
}

/// Puts together what probes deliver.
fn collect(run: impl FnOnce(&(dyn Fn(SnapshotPart) + Sync))) -> Snapshot {
    let snapshot = Mutex::new(Snapshot::pending(Timestamp::now()));
    run(&|part| snapshot.lock().unwrap_or_else(PoisonError::into_inner).merge(part));
    let mut snapshot = snapshot.into_inner().unwrap_or_else(PoisonError::into_inner);
    snapshot.settle();
    snapshot
}

/// The file systems that are scanned where no path was asked for.
fn local(snapshot: &Snapshot) -> impl Iterator<Item = &FileSystem> {
    snapshot.filesystems.value().into_iter().flatten().filter(|fs| fs.class == FsClass::Local)
}

/// The scans that there are, and why there are no others.
pub(super) fn done(scans: &[Result<(Scanned, Scan), ScanError>]) -> (Vec<&Scan>, Vec<String>) {
    let scanned = scans.iter().flatten().map(|(_, scan)| scan).collect();
    (scanned, scans.iter().filter_map(|scan| scan.as_ref().err()).map(ToString::to_string).collect())
}

/// A scan that is over.
pub(super) struct Scanned {
    pub(super) summary: Reading<ScanSummary>,
    pub(super) files: Vec<Sized>,
    pub(super) directories: Vec<Sized>,
}

impl Scanned {
    /// Waits for a scan, and takes the `largest` files and directories out of it.
    pub(super) fn run(
        path: HostPath,
        scan: &Scan,
        largest: usize,
        progress: &dyn Fn(&AuditProgress),
    ) -> Self {
        let mut seen = scan.progress();
        while !seen.finished {
            progress(&AuditProgress { path: path.clone(), scan: seen });
            seen = scan.wait_for(TICK);
        }
        let examples: Vec<Unreadable> =
            scan.unreadable(LARGEST).into_iter().map(|(path, why)| Unreadable { path, why }).collect();
        let missing = match (seen.unreadable, examples.first()) {
            (0, _) | (_, None) => Vec::new(),
            (count, Some(first)) => vec![format!(
                "{count} directories below {path} could not be read, first {}: {}",
                first.path, first.why
            )],
        };
        let reading = scan.reading();
        let (snapshots, snapshot_examples) = scan.left_out(LARGEST);
        let summary = ScanSummary {
            snapshots,
            snapshot_examples,
            path,
            entries: seen.entries,
            directories: seen.directories,
            allocated: seen.allocated,
            apparent: seen.apparent,
            unreadable: seen.unreadable,
            unreadable_examples: examples,
            vanished: seen.vanished,
            not_listed: seen.folded,
            took: seen.elapsed.into(),
            method: reading.name().to_owned(),
            method_why: reading.to_string(),
        };
        let sized = |found: Vec<(HostPath, Row)>| found.into_iter().map(Sized::from).collect();
        Self {
            summary: Reading::with_missing(summary, missing),
            files: sized(scan.largest_files(largest)),
            directories: sized(scan.largest_dirs(largest)),
        }
    }
}

fn keep_largest(all: &mut Vec<Sized>) {
    all.sort_by_key(|one| Reverse(one.allocated));
    all.truncate(LARGEST);
}

/// The worst that is known decides; what could not be looked at matters only where nothing worse is known.
fn conclude(findings: &[AuditFinding], scans: &[Reading<ScanSummary>]) -> Conclusion {
    let blind = scans.iter().any(|scan| !matches!(scan, Reading::Ready { .. }));
    match findings.iter().map(|found| found.finding.severity).max() {
        Some(Severity::Critical) => Conclusion::Critical,
        Some(Severity::Warning) => Conclusion::Warning,
        Some(Severity::Unknown) => Conclusion::CouldNotTell,
        Some(Severity::Info) | None if blind => Conclusion::CouldNotTell,
        Some(Severity::Info) | None => Conclusion::Ok,
    }
}
