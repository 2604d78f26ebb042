//! How much a run may do that no person agreed to item by item (SAFETY.md T27): one check for every action.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::domain::basket::Goal;
use crate::domain::bounds::{Budget, MOST_SECS};
use crate::domain::identity::DevId;
use crate::domain::op::Op;
use crate::domain::plan::{Plan, Step, Verify};
use crate::domain::size::Bytes;
use crate::exec::expected;
use crate::sys::statvfs;

/// The bounds of one run of a basket.
#[derive(Debug)]
pub struct Bounds {
    /// Whether a policy agreed to it. What a person agreed to is bounded by what was shown.
    by_policy: bool,
    /// Space that a person asked for: reaching it is no runaway.
    wanted: Bytes,
    began: Instant,
    /// What steps that have begun promised at most, in bytes.
    taken: Cell<u64>,
    /// What is left, by file system.
    left: RefCell<BTreeMap<DevId, Budget>>,
}

impl Bounds {
    /// For a run that begins now.
    pub fn new(by_policy: bool, goal: Option<&Goal>) -> Self {
        let wanted = goal.map_or(Bytes::ZERO, |goal| goal.bytes);
        Self { by_policy, wanted, began: Instant::now(), taken: Cell::new(0), left: RefCell::default() }
    }

    /// What may still be taken of a file system of this size in bytes by a step that asks for each item by itself.
    pub fn budget(&self, dev: DevId, total: u64) -> Budget {
        let fresh = || Budget::of(total).or_at_least(self.wanted.0);
        self.left.borrow().get(&dev).copied().unwrap_or_else(fresh)
    }

    /// Notes what is left after such a step.
    pub fn put_back(&self, dev: DevId, budget: Budget) {
        self.left.borrow_mut().insert(dev, budget);
    }

    /// Whether a step may begin.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn allow(&self, step: &Step, plan: &Plan) -> Result<(), String> {
        if !self.by_policy {
            return Ok(());
        }
        if self.began.elapsed() > Duration::from_secs(MOST_SECS) {
            return Err(format!(
                "stopped: one run that nobody watches takes {} minutes at most; run it again for the rest",
                MOST_SECS / 60
            ));
        }
        let Some(dev) = step.on else { return Ok(()) };
        // It takes its items out of the budget one by one.
        if matches!(step.op, Op::Sweep { .. }) {
            return Ok(());
        }
        // Until the goal is reached the next step is what was asked for, however large it is by itself.
        let (taken, bytes) = (self.taken.get(), step.frees.bounds().1.0);
        self.taken.set(taken.saturating_add(bytes));
        if taken < self.wanted.0 {
            return Ok(());
        }
        let place = plan.verify.iter().find_map(|check| match check {
            Verify::Space { path } => Some(path.as_path()),
            Verify::NoBuildMounts => None,
        });
        let total = place.and_then(|path| statvfs::usage_near(path).value().map(|usage| usage.total));
        // Without a size there is no share of it; the entries and the time still count.
        let mut budget = self.budget(dev, total.map_or(u64::MAX, |total| total.0));
        budget
            .take(bytes, expected(&step.op).unwrap_or(1))
            .map_err(|why| format!("{why}, or agree to it at a terminal, without --yes"))?;
        self.put_back(dev, budget);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finding::{ActionId, Reclaim};
    use crate::domain::identity::FileId;
    use crate::domain::plan::{OnError, Risk, Undo, When};

    fn plan(entries: u64) -> Plan {
        let step = Step {
            op: Op::RemoveTree { path: "/x".into(), id: FileId::default(), entries },
            why: String::new(),
            group: 0,
            when: When::Always,
            guards: Vec::new(),
            on_error: OnError::Continue,
            frees: Reclaim::Exact { bytes: Bytes(1) },
            on: Some(DevId { major: 1, minor: 1 }),
        };
        Plan {
            action: ActionId::Delete,
            summary: String::new(),
            risk: Risk::Routine,
            steps: vec![step],
            refused: Vec::new(),
            unknown: Vec::new(),
            reclaim: Reclaim::Nothing,
            undo: Undo::Impossible,
            verify: Vec::new(),
            name: String::new(),
            again: None,
        }
    }

    #[test]
    fn what_a_policy_agreed_to_is_bounded_over_all_steps_and_what_a_person_saw_is_not() {
        let plan = plan(60_000);
        let step = &plan.steps[0];
        let policy = Bounds::new(true, None);
        assert!(policy.allow(step, &plan).is_ok());
        assert!(policy.allow(step, &plan).unwrap_err().contains("without --yes"));
        // A goal that is not reached yet may need more than its own size by the last step, and no more than that.
        let goal = Goal { mount_point: "/".into(), bytes: Bytes(2) };
        let reclaim = Bounds::new(true, Some(&goal));
        assert!(
            (0..3).all(|_| reclaim.allow(step, &plan).is_ok()),
            "two for the goal, one within the bounds"
        );
        assert!(reclaim.allow(step, &plan).is_err());
        let person = Bounds::new(false, None);
        assert!(person.allow(step, &plan).is_ok() && person.allow(step, &plan).is_ok());
    }
}
