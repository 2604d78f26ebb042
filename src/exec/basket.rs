//! Runs the parts of an approved basket one after another.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::domain::basket::{Basket, Goal};
use crate::domain::consent::ApprovedBasket;
use crate::domain::plan::{Plan, Verify};
use crate::domain::reading::{Millis, Reading};
use crate::domain::receipt::{BasketReceipt, MountsDelta, SpaceDelta};
use crate::domain::size::Bytes;
use crate::exec::{Context, Progress, expected, verify};
use crate::sys::mount_namespaces;
use crate::sys::statvfs;

/// How long a run must go on before its speed says anything.
const FIRST_GUESS: Duration = Duration::from_secs(2);
/// What a step counts for beside its entries: a process that ends, a command that runs.
const STEP: u64 = 100;

/// Runs an approved basket, part by part, each as [`crate::exec::run`] does: with its own guards, verification and
/// record in the journal. A part that fails does not keep the next from running; a cancelled run does. Where the basket
/// has a goal, parts are run only until it is reached.
pub fn run_all(approved: ApprovedBasket, context: &Context<'_>) -> BasketReceipt {
    let started = Timestamp::now();
    let unmounts = approved.basket().parts.iter().any(verify::unmounts);
    let before = unmounts.then(|| mounts(context));
    let pace = Pace::of(approved.basket());
    let places = places(approved.basket());
    let mut space: Vec<SpaceDelta> = places.into_iter().map(verify::look).collect();
    let (parts, goal) = approved.into_parts();
    let wanted = goal.clone();
    let goal = goal.map(|goal| (statvfs::usage_near(goal.mount_point.as_path()), goal));
    let mut receipts = Vec::new();
    let mut not_needed = Vec::new();
    let mut first = 0;
    for part in parts {
        let steps = part.plan().steps.len() as u64;
        let cancelled = context.cancel.load(Ordering::Relaxed);
        if !cancelled && goal.as_ref().is_some_and(|(before, goal)| is_reached(before.value(), goal)) {
            not_needed.push(part.plan().summary.clone());
        } else {
            let tell = |progress: Progress| (context.progress)(pace.overall(progress, first));
            receipts.push(super::run(part, &Context { progress: &tell, first, ..*context }));
        }
        first += steps;
    }
    for delta in &mut space {
        delta.after = statvfs::usage_near(delta.path.as_path());
    }
    BasketReceipt {
        started,
        ended: Timestamp::now(),
        parts: receipts,
        goal: wanted,
        not_needed,
        space,
        mounts: before.map(|before| MountsDelta { before, after: mounts(context) }),
    }
}

fn is_reached(before: Option<&crate::domain::snapshot::Usage>, goal: &Goal) -> bool {
    let now = statvfs::usage_near(goal.mount_point.as_path());
    let freed = before.zip(now.value()).map(|(before, now)| now.free.saturating_sub(before.free));
    // Not knowing is not having reached it.
    freed.is_some_and(|freed: Bytes| freed >= goal.bytes)
}

/// Mounts in all namespaces that can be seen.
fn mounts(context: &Context<'_>) -> Reading<u64> {
    let deadline = Duration::from_millis(context.settings.probe.deadline_ms);
    let proc = crate::sys::procfs::Proc::new(context.environment.rooted("/proc"));
    let seen = mount_namespaces::read_all(&proc, Instant::now() + deadline);
    let count = seen.all.iter().map(|namespace| namespace.mounts.entries().len() as u64).sum();
    if seen.all.is_empty() {
        return Reading::Unavailable { why: seen.missing.join("; ") };
    }
    Reading::with_missing(count, seen.missing)
}

/// Where free space is looked at, each file system once.
fn places(basket: &Basket) -> Vec<crate::domain::text::HostPath> {
    let goal = basket.goal.iter().map(|goal| goal.mount_point.clone());
    let checks = basket.parts.iter().flat_map(|plan| &plan.verify).filter_map(|check| match check {
        Verify::Space { path } => Some(path.clone()),
        Verify::NoBuildMounts => None,
    });
    let mut all = Vec::new();
    for path in goal.chain(checks) {
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

/// How much there is to do, for the time left.
struct Pace {
    began: Instant,
    steps: usize,
    /// What was before each step, by its number.
    before: BTreeMap<u64, u64>,
    total: u64,
}

impl Pace {
    fn of(basket: &Basket) -> Self {
        let mut total = 0;
        let steps = basket.parts.iter().filter(|plan| !plan.is_empty()).flat_map(|plan: &Plan| &plan.steps);
        let before = (0..)
            .zip(steps)
            .map(|(number, step)| {
                let before = total;
                total += expected(&step.op).unwrap_or(0) + STEP;
                (number, before)
            })
            .collect();
        Self { began: Instant::now(), steps: basket.steps(), before, total }
    }

    /// The progress of one part as that of everything.
    fn overall(&self, progress: Progress, first: u64) -> Progress {
        let elapsed = self.began.elapsed();
        let most = progress.expected.unwrap_or(STEP);
        let before = self.before.get(&progress.number).copied().unwrap_or(0);
        let done = (before + progress.done.min(most)).min(self.total);
        let step = usize::try_from(first).unwrap_or(0) + progress.step;
        Progress {
            step,
            steps: self.steps,
            elapsed: elapsed.into(),
            left: self.left(elapsed, done),
            ..progress
        }
    }

    fn left(&self, elapsed: Duration, done: u64) -> Option<Millis> {
        if elapsed < FIRST_GUESS || done == 0 {
            return None;
        }
        let millis = elapsed.as_millis() * u128::from(self.total - done) / u128::from(done);
        Some(Millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_what_the_rest_takes_at_the_speed_so_far() {
        let pace =
            Pace { began: Instant::now(), steps: 2, before: BTreeMap::from([(0, 0), (1, 100)]), total: 400 };
        assert_eq!(pace.left(Duration::from_secs(10), 100), Some(Millis(30_000)));
        assert_eq!(pace.left(Duration::from_secs(10), 400), Some(Millis(0)));
        assert_eq!(pace.left(Duration::from_secs(10), 0), None);
        assert_eq!(pace.left(Duration::from_secs(1), 100), None, "too early to say");
    }

    #[test]
    fn a_step_of_a_later_part_is_counted_among_all() {
        let pace = Pace { began: Instant::now(), steps: 5, before: BTreeMap::new(), total: 400 };
        let progress = Progress {
            number: 3,
            step: 1,
            steps: 2,
            elapsed: Millis(0),
            left: None,
            op: String::new(),
            done: 0,
            expected: None,
            unit: crate::exec::Unit::Entries,
        };
        let overall = pace.overall(progress, 2);
        assert_eq!((overall.number, overall.step, overall.steps), (3, 3, 5));
    }
}
