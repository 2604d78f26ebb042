//! Use cases. They return values and print nothing.

pub mod audit;
pub mod baseline;
pub mod change;
pub mod explain;
pub mod health;
pub mod reclaim;
pub mod scan_once;
pub mod scanned;
pub mod undo;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::actions::{self, Request};
use crate::config::{Environment, Settings, load};
use crate::domain::basket::{self, Basket};
use crate::domain::caches::CacheToClean;
use crate::domain::consent::ApprovedBasket;
use crate::domain::finding::Finding;
use crate::domain::identity::DevId;
use crate::domain::ledger::Ledger;
use crate::domain::own_command::OwnCommand;
use crate::domain::past::{PastRun, SET_ASIDE};
use crate::domain::plan::Plan;
use crate::domain::reading::Reading;
use crate::domain::receipt::BasketReceipt;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, FileSystem, FsClass, Snapshot, SnapshotPart, Usage};
use crate::domain::sweep::{NameToKeep, Sweep, SweepTarget};
use crate::domain::text::HostPath;
use crate::exec;
use crate::journal::Journal;
use crate::ledger::{self, Counted};
use crate::probe;
use crate::rules;
use crate::scan::{Options, Scan, ScanError};
use crate::sys::around::Around;
use crate::sys::beside::beside;

/// How often a scan that is waited for is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How old the answer may be whether something builds. It is asked anew before each step of a run.
const FRESH: Duration = Duration::from_secs(1);

/// The program without a face: everything the console, the reports and the scripts can do.
pub struct Engine {
    environment: Environment,
    settings: Settings,
    journal: Journal,
    memory: probe::growth::Memory,
    /// Whether something builds, for the plans that are made at one time.
    at_work: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Engine {
    /// Puts the parts together.
    pub fn new(environment: Environment, settings: Settings, journal: Journal) -> Self {
        Self {
            environment,
            settings,
            journal,
            memory: probe::growth::Memory::default(),
            at_work: Mutex::default(),
        }
    }

    /// The surroundings of the run.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs every probe and hands over each part as soon as it is there.
    pub fn probe(&self, deliver: &(dyn Fn(SnapshotPart) + Sync)) {
        // The search under mount points uses the scanner, so it is none of the probes.
        let hidden = ledger::hidden::Search::start(&self.context());
        beside(
            || deliver(SnapshotPart::Hidden(hidden.finish())),
            || probe::run_all(&self.context(), &|part| deliver(self.by_own_names(part))),
        );
    }

    /// Deleted files that a run of ours had set aside are told by the names that they had before.
    fn by_own_names(&self, part: SnapshotPart) -> SnapshotPart {
        let SnapshotPart::Deleted(files) = part else { return part };
        let mut runs: Option<Vec<PastRun>> = None;
        SnapshotPart::Deleted(files.map(|mut files| {
            for file in &mut files {
                let path = file.last_path.as_bytes();
                if !path.windows(SET_ASIDE.len()).any(|part| part == SET_ASIDE.as_bytes()) {
                    continue;
                }
                let runs =
                    runs.get_or_insert_with(|| self.journal.past().value().cloned().unwrap_or_default());
                if let Some(name) = runs.iter().find_map(|run| run.name_of(&file.last_path, file.key.ino)) {
                    file.last_path = name;
                }
            }
            files
        }))
    }

    /// What is wrong, judged from a snapshot.
    pub fn findings(&self, snapshot: &Snapshot) -> Vec<Finding> {
        rules::assess(snapshot, &self.settings)
    }

    /// Starts a scan.
    ///
    /// # Errors
    /// Where the directory does not answer or cannot be opened.
    pub fn scan(&self, root: &Path) -> Result<Scan, ScanError> {
        self.scan_without(root, Vec::new())
    }

    /// Starts a scan without the subvolumes that have these device numbers.
    fn scan_without(&self, root: &Path, outside: Vec<DevId>) -> Result<Scan, ScanError> {
        let threads = Some(self.settings.scan.threads).filter(|&count| count > 0);
        let settings = &self.settings.scan;
        let max_memory = Some(Bytes(settings.max_memory.as_u64())).filter(|&most| most > Bytes::ZERO);
        let options = Options { threads, method: settings.method, max_memory, outside };
        Scan::start(&self.answering(root)?, &options)
    }

    /// Starts the scan of what is seen of a file system at one more of its mounts, without what the scans so far have
    /// counted. None if that is all there is: a subvolume that lies in another is counted there.
    fn scan_rest(&self, part: &HostPath, so_far: &[&Scan]) -> Option<Result<Scan, ScanError>> {
        let counted: Vec<DevId> = so_far.iter().flat_map(|scan| scan.devices()).collect();
        if probe::filesystems::subvolume_at(&self.context(), part.as_path())
            .is_some_and(|device| counted.contains(&device))
        {
            return None;
        }
        Some(self.scan_without(part.as_path(), counted))
    }

    /// Accounts for the space of the file system that a scan has counted, with those of its mounts that the scan did not
    /// come to; none if the scan was not of the file system's own mount point, or is not over.
    ///
    /// # Errors
    /// A sentence that says why there is no ledger.
    pub fn account(&self, scan: &Scan, snapshot: &Snapshot) -> Option<Result<Ledger, String>> {
        let seen = scan.progress();
        let root = scan.path(scan.root());
        let fs = snapshot.filesystems.value()?.iter().find(|fs| fs.mount_point == root)?;
        if !seen.finished || seen.cancelled || fs.class != FsClass::Local {
            return None;
        }
        let (mut scans, mut missing) = (vec![scan.clone()], Vec::new());
        for part in &fs.seen.parts {
            let so_far: Vec<&Scan> = scans.iter().collect();
            match self.scan_rest(part, &so_far) {
                Some(Ok(more)) => {
                    while !more.wait_for(TICK).finished {}
                    scans.push(more);
                }
                Some(Err(why)) => missing.push(format!("what {part} shows is in it: {why}")),
                None => {}
            }
        }
        let scans: Vec<&Scan> = scans.iter().collect();
        Some(self.account_for(fs, &scans, missing, snapshot))
    }

    /// Accounts for the space of a file system of which these scans have counted what is seen.
    fn account_for(
        &self,
        fs: &FileSystem,
        scans: &[&Scan],
        missing: Vec<String>,
        snapshot: &Snapshot,
    ) -> Result<Ledger, String> {
        let mut counted =
            Counted { used_before: fs.usage.value().map(Usage::used), missing, ..Counted::default() };
        for scan in scans {
            let seen = scan.progress();
            counted.allocated += seen.allocated;
            counted.unreadable += seen.unreadable;
            counted.devices.extend(scan.devices());
            counted.snapshots += scan.left_out(0).0;
        }
        ledger::account(&self.context(), fs, &counted, &snapshot.deleted)
    }

    /// The path as an absolute one, once it is known that looking at it does not hang.
    ///
    /// # Errors
    /// Where its server does not answer.
    pub fn answering(&self, path: &Path) -> Result<PathBuf, ScanError> {
        let fail = |why: String| ScanError::Open { path: path.into(), why };
        let absolute = std::path::absolute(path).map_err(|error| fail(error.to_string()))?;
        probe::answers(&self.context(), &absolute, probe::Looking::Into).map_err(fail)?;
        Ok(absolute)
    }

    /// Whether the entries of a directory changed since a moment.
    ///
    /// # Errors
    /// A sentence that says why it cannot be looked at: it may be gone.
    pub fn changed_since(&self, dir: &Path, since: SystemTime) -> Result<bool, String> {
        probe::changed::since(&self.context(), dir, since)
    }

    /// Freezes what a person chose.
    ///
    /// # Errors
    /// A sentence that says what could not be read.
    pub fn choose(
        &self,
        path: &Path,
        apparent: Bytes,
        allocated: Bytes,
        entries: u64,
    ) -> Result<ChosenFile, String> {
        probe::chosen::freeze(&self.context(), path, apparent, allocated, entries)
    }

    /// Looks at what uses files on this machine, for [`Self::choose_among`].
    pub fn look_around(&self) -> Around {
        probe::chosen::around(&self.context())
    }

    /// Freezes one of many that a person chose.
    ///
    /// # Errors
    /// A sentence that says what could not be read.
    pub fn choose_among(
        &self,
        around: &Around,
        path: &Path,
        apparent: Bytes,
        allocated: Bytes,
        entries: u64,
    ) -> Result<ChosenFile, String> {
        probe::chosen::freeze_among(&self.context(), around, path, apparent, allocated, entries)
    }

    /// Makes the plan for a request. What only root can change here is refused in it, with the line to paste.
    pub fn plan(&self, request: &Request, snapshot: &Snapshot) -> Plan {
        self.plan_as(request, snapshot, None)
    }

    /// The same, with the command that makes it again where the request alone does not tell.
    fn plan_as(&self, request: &Request, snapshot: &Snapshot, again: Option<OwnCommand>) -> Plan {
        let mut plan = self.draft(request, snapshot);
        plan.again = plan.again.or(again);
        actions::refuse(&mut plan, snapshot.host.uid);
        let context = self.context();
        actions::refuse_where(&mut plan, context.environment.uid, |op| {
            probe::rights::needs_root(&context, op)
        });
        actions::refuse_while_building(&mut plan, || self.nothing_builds());
        plan
    }

    /// Whether nothing builds or pulls, as it was a moment ago; an error if something does, or nobody can say.
    fn nothing_builds(&self) -> Result<(), String> {
        let mut known = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, answer)) if at.elapsed() < FRESH => answer.clone(),
            _ => {
                let answer = probe::engines::nothing_builds(&self.context());
                *known = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    /// Makes the plan for a request as root could run it.
    fn draft(&self, request: &Request, snapshot: &Snapshot) -> Plan {
        let prepared = self.prepared(request, snapshot);
        actions::draft(prepared.as_ref().unwrap_or(request), snapshot, &self.settings)
    }

    /// The request with what has to be looked at just before its plan is made; none where nothing has.
    fn prepared(&self, request: &Request, snapshot: &Snapshot) -> Option<Request> {
        match request {
            Request::CleanCache(clean) => {
                let means = probe::means::look(&self.context(), &clean.kind);
                Some(Request::CleanCache(Box::new(CacheToClean { kind: clean.kind.clone(), means })))
            }
            Request::Evacuate { files, to, .. } => {
                let unfit = probe::rights::unfit_for_copies(&self.context(), to.as_path());
                let one_way = files.iter().filter_map(|one| {
                    let why = probe::rights::no_way_back(one.path.as_path())?;
                    Some((one.path.clone(), why))
                });
                let one_way = one_way.collect();
                Some(Request::Evacuate { files: files.clone(), to: to.clone(), unfit, one_way })
            }
            Request::RepairBuilds(_) => {
                let buildx =
                    snapshot.builds.value().map(|builds| builds.buildx.as_slice()).unwrap_or_default();
                Some(Request::RepairBuilds(Box::new(probe::repair::look(&self.context(), buildx))))
            }
            Request::Sweep(dirs) => Some(Request::Sweep(self.sweep_lists(dirs, snapshot))),
            Request::KeepName(wanted) => {
                let place = match load::keep_place(&self.environment) {
                    Ok(place) => Reading::ready(place),
                    Err(why) => Reading::Unavailable { why },
                };
                Some(Request::KeepName(NameToKeep { place, ..wanted.clone() }))
            }
            Request::Delete(_)
            | Request::EndProcess(_)
            | Request::PutBack(_)
            | Request::EndGroup(_)
            | Request::RotateLog(_)
            | Request::RemoveRotated(_)
            | Request::Unmount(_)
            | Request::FreeDeleted(_)
            | Request::Prune(..)
            | Request::RemoveVolume(..)
            | Request::VacuumJournal(_) => None,
        }
    }

    /// Why a file cannot be cut to its last lines; none where nothing speaks against it.
    pub fn unfit_for_rotation(&self, path: &Path) -> Option<String> {
        if let Err(why) = probe::answers(&self.context(), path, probe::Looking::At) {
            return Some(why);
        }
        probe::rights::unfit_for_rotation(path)
    }

    /// The same directories with what a sweep of them would take; a list that is known stays as it is.
    pub fn sweep_lists(&self, dirs: &[SweepTarget], snapshot: &Snapshot) -> Vec<SweepTarget> {
        let look = |dir: &SweepTarget| {
            let known = dir.list.value().is_some();
            let list = if known { dir.list.clone() } else { self.sweep_list(dir, snapshot) };
            SweepTarget { list, ..dir.clone() }
        };
        dirs.iter().map(look).collect()
    }

    /// What a sweep of a directory would take now.
    fn sweep_list(&self, dir: &SweepTarget, snapshot: &Snapshot) -> Reading<Sweep> {
        probe::sweep::look(&self.context(), dir, &snapshot.protect)
    }

    /// Runs an approved basket, part by part. What is protected is looked up anew: an editor may have written a protected
    /// file again since the plan, which has another inode then.
    pub fn run_all(
        &self,
        approved: ApprovedBasket,
        (cancel, skip): (&AtomicBool, &exec::Skip),
        progress: &dyn Fn(exec::Progress),
    ) -> BasketReceipt {
        let context = exec::Context {
            environment: &self.environment,
            settings: &self.settings,
            protect: &probe::protect::look(&self.context()),
            journal: &self.journal,
            bounds: &exec::Bounds::new(approved.by_policy(), approved.basket().goal.as_ref()),
            cancel,
            skip,
            first: 0,
            progress,
        };
        exec::run_all(approved, &context)
    }

    /// Puts plans together: least risk first, and of those what frees most first.
    pub fn basket(&self, mut plans: Vec<Plan>, snapshot: &Snapshot) -> Basket {
        basket::sort_by_yield(&mut plans);
        Basket::new(plans, snapshot.filesystems.value().map_or(&[], Vec::as_slice))
    }

    fn context(&self) -> probe::Context<'_> {
        probe::Context {
            environment: &self.environment,
            settings: &self.settings,
            now: Timestamp::now(),
            memory: Some(&self.memory),
            shared: None,
        }
    }
}
