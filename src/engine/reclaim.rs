//! So much space on one file system, by the safest steps.

use std::path::Path;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::audit::{AuditProgress, SCHEMA_VERSION, done};
use crate::actions;
use crate::assets;
use crate::domain::basket::Goal;
use crate::domain::catalogue::Again;
use crate::domain::finding::{Finding, Subject};
use crate::domain::plan::{Plan, Refusal, Risk};
use crate::domain::reading::Reading;
use crate::domain::receipt::BasketReceipt;
use crate::domain::reclaim::{self, Choice, Offer};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{FileSystem, FsClass, Snapshot, Usage};
use crate::domain::text::HostPath;
use crate::probe;
use crate::rules;
use crate::scan::ScanError;

/// What is too small to be a finding helps to reach a goal all the same, from this size on.
const SMALLEST: ByteSize = ByteSize::mib(1);

/// Lines for root that are told of each plan.
const LINES: usize = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How much shall come back.
    pub bytes: Bytes,
    /// Any path on the file system where it is wanted; none for the fullest one.
    pub on: Option<&'a Path>,
    /// The most that may be risked. Never the loss of data.
    pub most: Risk,
}

/// What is chosen, and what comes of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reclaiming {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// How much is wanted, and where.
    pub goal: Goal,
    /// The most that may be risked.
    pub most: Risk,
    /// The file system before.
    pub usage: Reading<Usage>,
    /// What was chosen.
    pub choice: Choice,
    /// What would help and was left out, and why.
    pub left_out: Vec<Refusal>,
    /// Whether root could do what was left out.
    pub needs_root: bool,
    /// What could not be looked at.
    pub missing: Vec<String>,
    /// What came of it, where it was run.
    pub receipt: Option<BasketReceipt>,
}

impl Reclaiming {
    /// Whether the goal was reached, as the file system itself saw it. None where it was not run or cannot be told.
    pub fn reached(&self) -> Option<bool> {
        Some(self.receipt.as_ref()?.towards_goal()? >= self.goal.bytes)
    }

    /// The same request for root.
    pub fn as_root(&self) -> String {
        let risk = if self.most == Risk::Routine { "" } else { " --max-risk disruptive" };
        // Exactly so many bytes: a rounded figure would ask for something else.
        format!("sudo unwedge reclaim {}B --on {}{risk}", self.goal.bytes.0, self.goal.mount_point.quoted())
    }
}

/// Why nothing can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// The file system cannot be scanned.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// There is no such file system, or nothing can be freed on it.
    #[error("{0}")]
    Place(String),
}

impl Engine {
    /// Looks at the machine, scans the file system where space is wanted, and chooses.
    ///
    /// # Errors
    /// Where there is no such file system, or it cannot be scanned.
    pub fn reclaim(
        &self,
        asked: &Asked<'_>,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<Reclaiming, ReclaimError> {
        let on = asked.on.map(|path| self.answering(path)).transpose()?;
        let mut snapshot = self.snapshot();
        let fs = self.place(on.as_deref(), &snapshot)?.clone();
        let mut scans = self.scan_all(&fs, 0, progress);
        if scans.iter().all(Result::is_err)
            && let Some(Err(why)) = scans.pop()
        {
            return Err(why.into());
        }
        let (trees, mut missing) = done(&scans);
        missing.extend(scans.iter().flatten().flat_map(|(scanned, _)| scanned.summary.sentences()));
        snapshot.scanned = self.scanned(&trees, &snapshot);
        let goal = Goal { mount_point: fs.mount_point, bytes: asked.bytes };
        let mut reclaiming = self.choose_for(goal, asked.most, &snapshot);
        reclaiming.missing.extend(missing);
        Ok(reclaiming)
    }

    /// Chooses for a goal from what is known of the machine.
    pub fn choose_for(&self, goal: Goal, most: Risk, snapshot: &Snapshot) -> Reclaiming {
        let mut snapshot = snapshot.clone();
        let filesystems = snapshot.filesystems.value().cloned().unwrap_or_default();
        let usage = filesystems.iter().find(|fs| fs.mount_point == goal.mount_point);
        let usage = usage.map_or(Reading::Pending, |fs| fs.usage.clone());
        let mut left_out = self.only_of_person(&mut snapshot);
        let mut settings = self.settings().clone();
        settings.caches.warn_size = settings.caches.warn_size.min(SMALLEST);
        settings.logs.warn_rotated = settings.logs.warn_rotated.min(SMALLEST);
        let mut needs_root = false;
        let mut offers = Vec::new();
        for finding in rules::assess(&snapshot, &settings) {
            for &action in &finding.actions {
                let Some(request) = actions::request_for(action, &finding, &snapshot) else { continue };
                // Where a part of it would lose data, the rest of it is an offer too.
                let gentler = actions::without_loss(&request);
                for request in gentler.into_iter().chain([request]) {
                    let plan = self.draft(&request, &snapshot);
                    let Some(plan) = reclaim::keep_on(plan, &goal.mount_point, &filesystems) else {
                        continue;
                    };
                    let (plan, not_ours) = self.only_allowed(plan);
                    needs_root |= not_ours.is_some();
                    left_out.extend(not_ours);
                    if !plan.is_empty() {
                        offers.push(Offer { finding: finding.id.clone(), again: again(&finding), plan });
                    }
                }
            }
        }
        let mount_point = goal.mount_point.clone();
        let choice = reclaim::choose(offers, &goal, most, &filesystems);
        Reclaiming {
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            goal,
            most,
            usage,
            choice,
            left_out,
            needs_root,
            missing: unseen(&snapshot, &mount_point),
            receipt: None,
        }
    }

    /// The file system that a path is on, or the fullest one that is too full, or that of `/`.
    fn place<'s>(&self, on: Option<&Path>, snapshot: &'s Snapshot) -> Result<&'s FileSystem, ReclaimError> {
        let all = snapshot.filesystems.value().map_or(&[][..], Vec::as_slice);
        let fits = |fs: &&FileSystem| fs.class == FsClass::Local && !fs.read_only;
        let Some(path) = on else {
            let share =
                |fs: &FileSystem| fs.usage.value().map(|usage| usage.used_share().0).unwrap_or_default();
            let full = f64::from(self.settings().filesystem.warn_percent);
            let fullest = all.iter().filter(fits).max_by(|a, b| share(a).total_cmp(&share(b)));
            let root = || all.iter().filter(fits).find(|fs| fs.mount_point.as_path() == Path::new("/"));
            let found = fullest.filter(|fs| share(fs) >= full).or_else(root).or(fullest);
            let none = || ReclaimError::Place("no file system of this machine can be written".to_owned());
            return found.ok_or_else(none);
        };
        let found = probe::filesystems::holding(&self.context(), path, all).map_err(ReclaimError::Place)?;
        let Some(fs) = found else {
            let shown = HostPath::from(path);
            return Err(ReclaimError::Place(format!(
                "{shown} is on no file system that holds files of people: give a directory on a disk"
            )));
        };
        if fs.class != FsClass::Local {
            let why = format!(
                "{} ({}) is not of this machine: free space where it is kept",
                fs.mount_point, fs.fs_type
            );
            return Err(ReclaimError::Place(why));
        }
        if fs.read_only {
            return Err(ReclaimError::Place(format!(
                "{} is read-only: nothing can be freed on it",
                fs.mount_point
            )));
        }
        Ok(fs)
    }

    /// With sudo: leaves out what is in the homes of others than the person at the keyboard, root's included.
    fn only_of_person(&self, snapshot: &mut Snapshot) -> Vec<Refusal> {
        let person = self.environment().person;
        if !self.environment().is_root() || person == self.environment().uid {
            return Vec::new();
        }
        let others = probe::host::homes_of_others(&self.context(), person);
        let (Reading::Ready { value: scanned } | Reading::Partial { value: scanned, .. }) =
            &mut snapshot.scanned
        else {
            return Vec::new();
        };
        let mut left_out = Vec::new();
        for kind in &mut scanned.caches {
            let foreign = |path: &HostPath| others.iter().any(|home| path.as_path().starts_with(home));
            let (theirs, ours): (Vec<_>, Vec<_>) =
                std::mem::take(&mut kind.places).into_iter().partition(|place| foreign(&place.path));
            kind.places = ours;
            let size: Bytes = theirs.iter().filter_map(|place| place.size).map(|size| size.allocated).sum();
            if !theirs.is_empty() {
                kind.size = crate::domain::caches::CacheSize::default();
                kind.places.iter().filter_map(|place| place.size).for_each(|one| kind.size.add(one));
                kind.found = kind.places.len() as u64;
            }
            if size.0 >= SMALLEST.as_u64() {
                let what = format!("{} of other people: {size}", kind.title);
                let why = "with sudo only your own caches and those of the system are taken".to_owned();
                left_out.push(Refusal { what, why });
            }
        }
        scanned.caches.retain(|kind| !kind.places.is_empty());
        left_out
    }

    /// Takes out of a plan what only root can do; all of it where the steps depend on each other.
    fn only_allowed(&self, mut plan: Plan) -> (Plan, Option<Refusal>) {
        let context = self.context();
        let needing = plan.steps.iter().filter(|step| probe::rights::needs_root(&context, &step.op));
        let needing: Vec<_> = needing.collect();
        let groups: std::collections::BTreeSet<u32> = needing.iter().map(|step| step.group).collect();
        if groups.is_empty() {
            return (plan, None);
        }
        let uid = self.environment().uid;
        let lines: Vec<String> = needing
            .iter()
            .filter_map(|step| actions::for_root(&step.op, plan.again.as_ref(), uid))
            .take(LINES)
            .collect();
        let more = if needing.len() > LINES { "; …" } else { "" };
        let lines = format!("{}{more}", lines.join("; "));
        let what = plan.summary.clone();
        let all = plan.reclaim;
        let whole = !plan.is_divisible();
        plan.retain_groups(|group| !whole && !groups.contains(&group));
        let why = if plan.is_empty() {
            format!("only root can do it ({all}): {lines}")
        } else {
            plan.summary = format!("{}, of that what needs no root: {}", plan.summary, plan.reclaim);
            format!("only root can do all of it; {} of {all} can be had without: {lines}", plan.reclaim)
        };
        (plan, Some(Refusal { what, why }))
    }
}

/// What was not looked at for a goal on a file system: caches are found by a scan of all of it.
fn unseen(snapshot: &Snapshot, mount_point: &HostPath) -> Vec<String> {
    let mut missing: Vec<String> =
        snapshot.scanned.gaps().into_iter().map(|gap| format!("caches and build trees: {gap}")).collect();
    let whole = snapshot.scanned.value().is_none_or(|scanned| scanned.roots.contains(mount_point));
    if !whole {
        missing.push(format!("caches and build trees on {mount_point} outside of what is scanned"));
    }
    missing
}

/// What it costs to have again what a finding is about.
fn again(finding: &Finding) -> Again {
    match &finding.subject {
        Subject::Caches { entry, .. } => {
            let known = assets::catalogue().ok().and_then(|catalogue| catalogue.get(entry));
            known.map_or(Again::Build, |entry| entry.again)
        }
        Subject::TempDir { .. } | Subject::BuildMounts { .. } => Again::Nothing,
        Subject::Engine { .. } | Subject::Processes { .. } => Again::Build,
        Subject::Logs { .. }
        | Subject::DeletedFiles { .. }
        | Subject::Directory { .. }
        | Subject::FileSystem { .. }
        | Subject::Limit { .. }
        | Subject::Probe { .. } => Again::Never,
    }
}
