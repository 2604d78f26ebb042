//! Runs approved plans: guards, hands, verification. The only room that changes the machine.
//!
//! [`run`] takes an [`Approved`] plan by value, writes its beginning to the journal, goes through the steps,
//! looks what the file systems make of it, and writes the end. Whatever fails is in the receipt, as a sentence.

mod basket;
mod bounds;
mod guards;
mod hands;
mod lock;
mod stop;
mod verify;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use crate::config::{Environment, Settings};
use crate::domain::consent::Approved;
use crate::domain::finding::{Finding, Reclaim, Severity, Subject};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Step, When};
use crate::domain::protect::ProtectSet;
use crate::domain::reading::Millis;
use crate::domain::receipt::{NOT_NEEDED, Outcome, Receipt, StepReceipt};
use crate::domain::snapshot::Evidence;
use crate::domain::text::HostPath;
use crate::journal::Journal;
use crate::probe;
use hands::{NotDone, Session};

pub use basket::run_all;
pub use bounds::Bounds;
pub use stop::{Skip, Stop};

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Names the step that runs, for [`Skip::ask`].
    pub number: u64,
    /// The step that runs, counted from 0.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// How long everything has run.
    pub elapsed: Millis,
    /// How long the rest takes, judged by what was done in that time; none where that says nothing yet.
    pub left: Option<Millis>,
    /// The change, as it was shown.
    pub op: String,
    /// How much is done in this step.
    pub done: u64,
    /// How much there is in this step, where known.
    pub expected: Option<u64>,
    /// What both count.
    pub unit: Unit,
}

/// What the progress of a step counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Entries of directories.
    #[default]
    Entries,
    /// MiB copied, and as many again that are compared.
    Mebibytes,
}

/// What a run is given.
pub struct Context<'a> {
    /// The surroundings of the run.
    pub environment: &'a Environment,
    /// The settings.
    pub settings: &'a Settings,
    /// What must never be touched.
    pub protect: &'a ProtectSet,
    /// Where it is written down.
    pub journal: &'a Journal,
    /// Set to stop after the change under way.
    pub cancel: &'a AtomicBool,
    /// The step that a person wants left out.
    pub skip: &'a Skip,
    /// How much the whole run may do.
    pub bounds: &'a Bounds,
    /// The number of the plan's first step among all steps of the basket.
    pub first: u64,
    /// Called as the run goes on.
    pub progress: &'a dyn Fn(Progress),
}

impl Context<'_> {
    /// What a probe is given that looks again just before a step.
    fn probe(&self) -> probe::Context<'_> {
        let Self { environment, settings, .. } = *self;
        probe::Context { environment, settings, now: Timestamp::now(), memory: None, shared: None }
    }
}

/// Runs an approved plan, step by step, and says what came of it. Failures are in the receipt.
///
/// A journal that cannot be written does not stop the run, because a full disk must not keep anybody from
/// emptying it; the receipt says so. Nothing at all is changed where nothing is protected (the probe for that
/// failed) or where the machine looked at is a fixture.
pub fn run(approved: Approved, context: &Context<'_>) -> Receipt {
    let plan = approved.into_plan();
    let started = Timestamp::now();
    let record = context.journal.begin(&plan);
    let begun = context.journal.status();
    let mut space = verify::before(&plan);
    let mut session = Session::new(context, &record);
    // Held to the end of the run.
    let places = context.journal.places();
    let places = places.each_ref().map(HostPath::as_path);
    let allowed = refusal(context).map_or_else(|| lock::take(&context.environment.run_dir, &places), Err);
    let steps = match &allowed {
        Err(why) => all(&plan, &Outcome::Skipped { why: why.clone() }),
        Ok(lock) => {
            session.clock_before = lock.as_ref().and_then(|lock| lock.clock_before);
            steps(&plan, &mut session)
        }
    };
    let whole = steps.iter().all(|step| matches!(step.outcome, Outcome::Done { .. }));
    verify::after(&mut space, plan.reclaim, whole, context.cancel);
    let mut findings = Vec::new();
    if whole {
        let set_aside = &session.set_aside;
        findings.extend(verify::space_not_returned(context, &space, plan.reclaim, set_aside));
    }
    findings.extend(verify::build_mounts_left(context, &plan.verify));
    findings.extend(leftovers(&session));
    let unmounted = verify::unmounted(context, &plan);
    let mut receipt = Receipt {
        action: plan.action,
        summary: plan.summary,
        started,
        ended: Timestamp::now(),
        steps,
        promised: plan.reclaim,
        space,
        swept: verify::swept(&plan.steps),
        unmounted,
        findings,
        journal: begun,
    };
    record.end(&receipt);
    receipt.journal = context.journal.status();
    receipt
}

/// Why nothing may run at all.
fn refusal(context: &Context<'_>) -> Option<String> {
    if context.environment.root != Path::new("/") {
        return Some("not run: this is a recorded machine, not the one unwedge runs on".to_owned());
    }
    context.protect.is_empty().then(|| {
        "not run: what must be protected on this machine is not known yet; refresh and try again".to_owned()
    })
}

fn all(plan: &Plan, outcome: &Outcome) -> Vec<StepReceipt> {
    let one = |step: &Step| StepReceipt {
        op: step.op.words(),
        why: step.named().to_owned(),
        outcome: outcome.clone(),
        note: None,
        gone: Vec::new(),
    };
    plan.steps.iter().map(one).collect()
}

/// How the last step of a group that was performed went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Worked,
    Failed,
    Skipped,
}

fn steps(plan: &Plan, session: &mut Session<'_>) -> Vec<StepReceipt> {
    let mut receipts: Vec<StepReceipt> = Vec::with_capacity(plan.steps.len());
    // The last performed step of each group and where it is in the receipt.
    let mut groups: BTreeMap<u32, (Last, usize)> = BTreeMap::new();
    let mut stopped: Option<Outcome> = None;
    // Groups of which a step has begun.
    let mut begun: BTreeSet<u32> = BTreeSet::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let before = groups.get(&step.group).copied();
        let op = step.op.words();
        session.step = index;
        if stopped.is_none() && session.context.cancel.load(Ordering::Relaxed) {
            stopped = Some(Outcome::Cancelled { count: 0 });
        }
        let restores = step.when == When::Restores && begun.contains(&step.group);
        // No cancel stops what takes something back.
        session.restoring = restores;
        let note = (restores && stopped.is_some()).then(|| RESTORED.to_owned());
        let not_now = if restores {
            None
        } else {
            stopped.clone().or_else(|| not_needed(step.when, before.map(|(last, _)| last)))
        };
        if let Some(outcome) = not_now {
            receipts.push(StepReceipt { op, why: step.named().to_owned(), outcome, note, gone: Vec::new() });
            continue;
        }
        let mut outcome = match session.context.bounds.allow(step, plan) {
            Ok(()) => perform(step, index, plan.steps.len(), &op, session),
            Err(why) => Outcome::Skipped { why },
        };
        let cancelled = session.context.cancel.load(Ordering::Relaxed);
        if let Outcome::Cancelled { count } = outcome
            && !cancelled
        {
            outcome = skipped(count);
        }
        let last = match &outcome {
            Outcome::Done { .. } => Last::Worked,
            Outcome::Partly { .. } | Outcome::Failed { .. } => Last::Failed,
            Outcome::Skipped { .. } | Outcome::Interrupted { .. } | Outcome::Cancelled { .. } => {
                Last::Skipped
            }
        };
        if !matches!(outcome, Outcome::Skipped { .. }) {
            begun.insert(step.group);
        }
        let failed = last == Last::Failed || matches!(outcome, Outcome::Interrupted { cancelled: false, .. });
        if step.when == When::IfPreviousFailed
            && last == Last::Worked
            && let Some(weaker) = before.and_then(|(_, at)| receipts.get_mut(at))
            && let Outcome::Failed { why } = &weaker.outcome
        {
            // The job is done: the gentler attempt is on record with what it met, but is no failure of the run.
            let why = format!("{NOT_NEEDED} in the end: {why}; the next step did it");
            weaker.outcome = Outcome::Skipped { why };
        }
        if matches!(outcome, Outcome::Cancelled { .. } | Outcome::Interrupted { cancelled: true, .. }) {
            stopped = Some(Outcome::Cancelled { count: 0 });
        } else if failed && step.on_error == OnError::Stop && stopped.is_none() {
            stopped = Some(Outcome::Skipped { why: "not started: a step before it failed".to_owned() });
        }
        groups.insert(step.group, (last, index));
        let gone = std::mem::take(&mut session.gone);
        receipts.push(StepReceipt { op, why: step.named().to_owned(), outcome, note, gone });
    }
    receipts
}

/// A step that a person skipped while it ran.
fn skipped(count: u64) -> Outcome {
    match count {
        0 => Outcome::Skipped { why: SKIPPED.to_owned() },
        count => Outcome::Partly { count, problems: vec![format!("{SKIPPED}; what remains is still there")] },
    }
}

/// Why a step does not run in its turn.
fn not_needed(when: When, before: Option<Last>) -> Option<Outcome> {
    let skip = |why: &str| Some(Outcome::Skipped { why: why.to_owned() });
    match (when, before) {
        // One that has something to take back is not asked here.
        (When::Restores, _) => skip(&format!("{NOT_NEEDED}: nothing was done that it takes back")),
        (When::Always, _)
        | (When::IfPreviousFailed, Some(Last::Failed))
        | (When::IfPreviousWorked, Some(Last::Worked)) => None,
        (When::IfPreviousFailed, Some(Last::Worked)) => {
            skip(&format!("{NOT_NEEDED}: the step before did it"))
        }
        (When::IfPreviousFailed | When::IfPreviousWorked, Some(Last::Skipped)) => {
            skip("not run: the step before it was skipped")
        }
        (When::IfPreviousWorked, Some(Last::Failed)) => skip("not run: the step before it failed"),
        (When::IfPreviousFailed | When::IfPreviousWorked, None) => skip("not run: no step before it ran"),
    }
}

/// What is said of a step that runs after the end of a run.
const RESTORED: &str = "run all the same: it takes back what this run had done for its time";
/// What is said of a step that was skipped by a key.
const SKIPPED: &str = "skipped by you";

/// How much there is to do in a change, where that is known: entries to remove, MiB to copy and compare.
fn expected(op: &Op) -> Option<u64> {
    match op {
        Op::RemoveTree { entries, .. } => Some(*entries),
        Op::Sweep { sweep, .. } => Some(sweep.all().entries),
        Op::Evacuate { id, .. } => Some(2 * id.size.div_ceil(1 << 20)),
        Op::RemoveFile { .. }
        | Op::PutBack { .. }
        | Op::RestoreAccess { .. }
        | Op::Signal { .. }
        | Op::SignalGroup { .. }
        | Op::Run { .. }
        | Op::Unmount { .. }
        | Op::RemoveEmptyDir { .. }
        | Op::RotateLog { .. }
        | Op::KeepName { .. }
        | Op::TruncateDeleted { .. } => None,
    }
}

fn perform(step: &Step, index: usize, count: usize, op: &str, session: &mut Session<'_>) -> Outcome {
    let expected = expected(&step.op);
    let unit = if matches!(step.op, Op::Evacuate { .. }) { Unit::Mebibytes } else { Unit::Entries };
    let tell = session.context.progress;
    let number = session.context.first.saturating_add(index as u64);
    let began = session.began;
    let mut progress = |done| {
        tell(Progress {
            number,
            step: index,
            steps: count,
            elapsed: began.elapsed().into(),
            left: None,
            op: op.to_owned(),
            done,
            expected,
            unit,
        });
    };
    progress(0);
    if let Some(missing) = guards::required(&step.op).iter().find(|guard| !step.guards.contains(guard)) {
        // Never seen in a plan of ours. A plan that hides what protects it was not what was agreed to.
        return Outcome::Skipped {
            why: format!("not run: the plan does not list a guard that it needs ({missing})"),
        };
    }
    session.step_guards.clone_from(&step.guards);
    if step.guards.contains(&Guard::NothingBuilds)
        && let Err(why) = probe::engines::nothing_builds(&session.context.probe())
    {
        return Outcome::Skipped { why };
    }
    // A program looks at its own operand; of a file only its place tells what it is.
    if step.guards.contains(&Guard::NotBusy)
        && let Op::RemoveFile { path, .. } | Op::RemoveTree { path, .. } = &step.op
        && let Err(why) = guards::not_busy_at(&session.context.probe(), path.as_path())
    {
        return Outcome::Skipped { why };
    }
    match session.perform(&step.op, step.group, &mut progress) {
        Ok(outcome) => outcome,
        Err(NotDone::Skip(why)) => Outcome::Skipped { why },
        Err(NotDone::Fail(why)) => Outcome::Failed { why },
    }
}

/// The finding for what killed runs have left behind.
fn leftovers(session: &Session<'_>) -> Option<Finding> {
    let first = session.leftovers.first()?;
    let count = session.leftovers.len();
    Some(Finding {
        id: "leftover-quarantine".to_owned(),
        rule: "leftover-quarantine",
        severity: Severity::Warning,
        subject: Subject::TempDir { path: first.clone() },
        title: format!("{count} leftover of a delete that was killed: {first}"),
        why: "A delete sets its target aside first. A run that was killed could not finish; what it had not removed \
              yet is still there and takes space.",
        evidence: session
            .leftovers
            .iter()
            .map(|path| Evidence::new(format!("{path} belongs to a run whose process is gone"), "its name and /proc"))
            .collect(),
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice: "Delete it in the tree, or move what is in it back to where it was; `unwedge history` tells what was \
                 being deleted."
            .to_owned(),
    })
}
