//! Takes steps out of a plan of which it is known already that they will not run, so that nobody agrees to them in vain.

use crate::domain::finding::Reclaim;
use crate::domain::plan::{Guard, Plan, Refusal, Step, When};
use crate::domain::size::Bytes;

/// Moves the steps to what is refused for which there is a reason. What stands in for the first step of its group, or takes
/// back what it does, goes with it and is not worth a line of its own.
pub fn refuse_steps(plan: &mut Plan, why_not: impl Fn(&Plan, &Step) -> Option<String>) {
    let before = plan.steps.len();
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for step in &plan.steps {
        match why_not(plan, step) {
            None => kept.push(step.clone()),
            Some(why) if step.when == When::Always => {
                refused.push(Refusal { what: step.why.clone(), why });
            }
            Some(_) => {}
        }
    }
    if kept.len() == before {
        return;
    }
    if kept.iter().all(|step| step.when == When::Restores) {
        kept.clear();
    }
    plan.steps = kept;
    plan.refused.extend(refused);
    // The rest is not what the line would do.
    plan.again = None;
    if plan.steps.is_empty() {
        plan.reclaim = Reclaim::Nothing;
        plan.verify.clear();
    } else if let Reclaim::Exact { bytes } | Reclaim::Range { high: bytes, .. } = plan.reclaim {
        plan.reclaim = Reclaim::Range { low: Bytes::ZERO, high: bytes };
    }
}

/// Refuses what must not run while something builds or pulls. `at_work` is asked only if something must not.
pub fn refuse_while_building(plan: &mut Plan, at_work: impl FnOnce() -> Result<(), String>) {
    let is_meant = |step: &Step| step.guards.contains(&Guard::NothingBuilds);
    if plan.steps.iter().any(is_meant)
        && let Err(why) = at_work()
    {
        refuse_steps(plan, |_, step| is_meant(step).then(|| why.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::{ToolCommand, ToolTarget};
    use crate::domain::finding::ActionId;
    use crate::domain::op::Op;
    use crate::domain::plan::{OnError, Risk, Undo};

    fn step(why: &str, guards: Vec<Guard>, when: When) -> Step {
        let command = ToolCommand::new("true", 1);
        Step {
            op: Op::Run { command, target: ToolTarget::Chosen },
            why: why.to_owned(),
            group: 0,
            when,
            guards,
            on_error: OnError::Continue,
            frees: Reclaim::Nothing,
            on: None,
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan {
            action: ActionId::PruneStandard,
            summary: String::new(),
            risk: Risk::Routine,
            steps,
            refused: Vec::new(),
            reclaim: Reclaim::exact(Bytes(7)),
            unknown: Vec::new(),
            undo: Undo::Impossible,
            verify: Vec::new(),
            name: String::new(),
            again: None,
        }
    }

    #[test]
    fn what_must_not_run_beside_a_build_is_refused_in_the_plan() {
        let guarded = || vec![Guard::NothingBuilds];
        let at_work = || Err("not now: make (pid 7) is at work".to_owned());
        let mut mixed = plan(vec![
            step("image a", guarded(), When::Always),
            step("instead", guarded(), When::IfPreviousFailed),
            step("other", Vec::new(), When::Always),
        ]);
        refuse_while_building(&mut mixed, at_work);
        assert_eq!(mixed.steps.iter().map(|step| step.why.as_str()).collect::<Vec<_>>(), ["other"]);
        assert_eq!(mixed.refused.len(), 1);
        assert!(mixed.refused[0].what == "image a" && mixed.refused[0].why.contains("make (pid 7)"));
        assert_eq!(mixed.reclaim, Reclaim::Range { low: Bytes::ZERO, high: Bytes(7) });
        // What takes something back has nothing to take back.
        let mut stopped =
            plan(vec![step("stop", guarded(), When::Always), step("start", Vec::new(), When::Restores)]);
        refuse_while_building(&mut stopped, at_work);
        assert!(stopped.steps.is_empty() && stopped.reclaim == Reclaim::Nothing);
        // Nobody is asked if nothing depends on it.
        refuse_while_building(&mut plan(vec![step("other", Vec::new(), When::Always)]), || unreachable!());
    }
}
