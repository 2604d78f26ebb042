//! Which plans to run for a goal: the safest ones that reach it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::basket::{Basket, Goal};
use super::catalogue::Again;
use super::command::ToolTarget;
use super::finding::Reclaim;
use super::op::Op;
use super::plan::{Plan, Refusal, Risk};
use super::size::Bytes;
use super::snapshot::FileSystem;
use super::text::HostPath;

/// A plan that gives back space where it is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Offer {
    /// The id of the finding that it is about. Of several plans about one finding one is taken: they are alternatives.
    pub finding: String,
    /// What it costs to have it again.
    pub again: Again,
    /// The plan.
    pub plan: Plan,
}

/// What one more step would be, where the goal is not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Next {
    /// What it would do.
    pub summary: String,
    /// What can be lost.
    pub risk: Risk,
    /// What it costs to have it again.
    pub again: Again,
    /// What it would give back on the file system.
    pub reclaim: Reclaim,
}

/// What was chosen for a goal.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Choice {
    /// The plans in the order in which they run, with the goal at which they stop.
    pub basket: Basket,
    /// What they give back where it is wanted.
    pub promised: Reclaim,
    /// Whether that is sure to reach the goal.
    pub reaches: bool,
    /// The next riskier step, where the goal is not sure to be reached.
    pub next: Option<Next>,
}

/// What a basket gives back on one file system, and whether more comes back that nobody can tell.
fn on(basket: &Basket, mount_point: &HostPath) -> (Reclaim, bool) {
    let total = basket.totals.iter().find(|total| total.mount_point.as_ref() == Some(mount_point));
    total.map_or((Reclaim::Nothing, false), |total| (total.reclaim, total.and_more))
}

/// Keeps of a plan what gives back space on a file system. None where it gives back none there.
pub fn keep_on(mut plan: Plan, mount_point: &HostPath, filesystems: &[FileSystem]) -> Option<Plan> {
    let fs = filesystems.iter().find(|fs| fs.mount_point == *mount_point)?;
    if plan.is_divisible() {
        // A subvolume that is mounted nowhere by itself has a number that no file system is known by.
        let on_it = |device| fs.has_device(device) || !filesystems.iter().any(|one| one.has_device(device));
        let yields = plan.yields();
        plan.retain_groups(|group| yields.get(&group).is_some_and(|(device, _)| device.is_none_or(&on_it)));
    }
    let alone = Basket::new(vec![plan], filesystems);
    let (reclaim, and_more) = on(&alone, mount_point);
    let some = and_more || !reclaim.bounds().1.is_zero();
    alone.parts.into_iter().next().filter(|_| some)
}

/// Chooses the safest of the offers that reach the goal: by risk, then by what it costs to have it again, then by what
/// they are sure to give back. Nothing above `most` is taken, and nothing that loses data, whatever `most` says.
pub fn choose(mut offers: Vec<Offer>, goal: &Goal, most: Risk, filesystems: &[FileSystem]) -> Choice {
    let most = most.min(Risk::Disruptive);
    let place = &goal.mount_point;
    let alone = |plan: &Plan| on(&Basket::new(vec![plan.clone()], filesystems), place).0;
    offers.sort_by_cached_key(|offer| {
        let (low, high) = alone(&offer.plan).bounds();
        let most_first = (std::cmp::Reverse(low), std::cmp::Reverse(high));
        (offer.plan.risk, offer.again, most_first, offer.plan.summary.clone())
    });
    let mut taken: Vec<Offer> = Vec::new();
    let mut beyond: Vec<Offer> = Vec::new();
    let mut now = (Bytes::ZERO, Bytes::ZERO);
    for offer in offers {
        if offer.plan.risk > most {
            beyond.push(offer);
            continue;
        }
        if now.0 >= goal.bytes {
            break;
        }
        let mut with: Vec<Offer> = taken.iter().filter(|one| one.finding != offer.finding).cloned().collect();
        let replaces = with.len() < taken.len();
        with.push(offer);
        let (reclaim, and_more) = on(&together(&with, filesystems), place);
        let then = reclaim.bounds();
        // What adds nothing is left out. One that takes another's place must be worth it.
        if then > now || (and_more && !replaces) {
            taken = with;
            now = then;
        }
    }
    let taken = enough(needed(taken, goal, filesystems), goal, filesystems);
    let mut basket = together(&taken, filesystems);
    let (promised, _) = on(&basket, place);
    let reaches = promised.bounds().0 >= goal.bytes;
    let next = beyond.into_iter().find(|offer| {
        let mut with: Vec<Offer> = taken.iter().filter(|one| one.finding != offer.finding).cloned().collect();
        with.push(offer.clone());
        let (reclaim, and_more) = on(&together(&with, filesystems), place);
        and_more || reclaim.bounds() > promised.bounds()
    });
    let next = next.filter(|_| !reaches).map(|offer| Next {
        risk: offer.plan.risk,
        again: offer.again,
        reclaim: alone(&offer.plan),
        summary: offer.plan.summary,
    });
    basket.goal = Some(goal.clone());
    Choice { basket, promised, reaches, next }
}

fn together(offers: &[Offer], filesystems: &[FileSystem]) -> Basket {
    Basket::new(offers.iter().map(|offer| offer.plan.clone()).collect(), filesystems)
}

/// Leaves out what is not needed for the goal, the riskiest first. What nobody can promise anything of stays while
/// something riskier does: it runs before that, and may make it unnecessary.
fn needed(mut taken: Vec<Offer>, goal: &Goal, filesystems: &[FileSystem]) -> Vec<Offer> {
    let low = |offers: &[Offer]| on(&together(offers, filesystems), &goal.mount_point).0.bounds().0;
    if low(&taken) < goal.bytes {
        return taken;
    }
    let mut kept_risk = Risk::Routine;
    for at in (0..taken.len()).rev() {
        let mut without = taken.clone();
        let one = without.remove(at);
        let sure = !low(std::slice::from_ref(&one)).is_zero();
        if low(&without) >= goal.bytes && (sure || one.plan.risk >= kept_risk) {
            taken = without;
        } else {
            kept_risk = kept_risk.max(one.plan.risk);
        }
    }
    taken
}

/// Whether each step of a plan can be done without the others. What an engine keeps cannot: an image goes only after its
/// containers.
fn is_separable(plan: &Plan) -> bool {
    plan.is_divisible()
        && plan.steps.iter().all(|step| match &step.op {
            Op::RemoveFile { .. }
            | Op::RemoveTree { .. }
            | Op::RotateLog { .. }
            | Op::Sweep { .. }
            | Op::TruncateDeleted { .. }
            | Op::Run { target: ToolTarget::Cache { .. }, .. } => true,
            Op::Run { .. }
            | Op::PutBack { .. }
            | Op::RestoreAccess { .. }
            | Op::KeepName { .. }
            | Op::Signal { .. }
            | Op::SignalGroup { .. }
            | Op::Unmount { .. }
            | Op::RemoveEmptyDir { .. }
            | Op::Evacuate { .. } => false,
        })
}

/// Leaves out of plans whose steps need not each other what the goal does not need: as few steps as possible stay, those
/// that give back most.
fn enough(mut taken: Vec<Offer>, goal: &Goal, filesystems: &[FileSystem]) -> Vec<Offer> {
    let reaches =
        |offers: &[Offer]| on(&together(offers, filesystems), &goal.mount_point).0.bounds().0 >= goal.bytes;
    if !reaches(&taken) {
        return taken;
    }
    for at in (0..taken.len()).rev() {
        let Some(plan) = taken.get(at).map(|offer| &offer.plan).filter(|plan| is_separable(plan)) else {
            continue;
        };
        let mut groups: Vec<(Bytes, u32)> =
            plan.yields().into_iter().map(|(group, (_, frees))| (frees.bounds().0, group)).collect();
        groups.sort_unstable();
        let without = |count: usize| {
            let left_out: BTreeSet<u32> = groups.iter().take(count).map(|(_, group)| *group).collect();
            let mut offers = taken.clone();
            if let Some(offer) = offers.get_mut(at) {
                offer.plan.retain_groups(|group| !left_out.contains(&group));
                offer.plan.summary =
                    format!("{}, of that what is enough: {}", offer.plan.summary, offer.plan.reclaim);
            }
            offers
        };
        // The more are left out, the less comes back: the most that can be, found by halves. One stays.
        let (mut can, mut cannot) = (0, groups.len());
        while cannot - can > 1 {
            let middle = can.midpoint(cannot);
            if reaches(&without(middle)) {
                can = middle;
            } else {
                cannot = middle;
            }
        }
        if can > 0 {
            taken = without(can);
        }
    }
    taken
}

/// What an offer is worth as a refusal: it would have helped, but cannot be done.
pub fn refuse(offer: &Offer, why: String) -> Refusal {
    Refusal { what: offer.plan.summary.clone(), why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::finding::ActionId;
    use crate::domain::identity::{DevId, DevIno, FileId, Inode, MountId};
    use crate::domain::plan::{OnError, Step, Undo, When};
    use crate::domain::reading::Reading;
    use crate::domain::snapshot::FsClass;

    fn device(minor: u32) -> DevId {
        DevId { major: 8, minor }
    }

    fn machine() -> Vec<FileSystem> {
        let fs = |place: &str, minor| FileSystem {
            mount_point: place.into(),
            source: "x".into(),
            fs_type: "ext4".into(),
            mount: MountId { id: minor, unique: None },
            dev: device(minor),
            class: FsClass::Local,
            read_only: false,
            usage: Reading::Pending,
            seen: crate::domain::snapshot::Seen::default(),
        };
        vec![fs("/", 1), fs("/data", 2)]
    }

    /// An offer that removes one file of its own.
    fn offer(ino: u64, risk: Risk, again: Again, low: u64, high: u64) -> Offer {
        let key = DevIno { dev: device(1), ino: Inode(ino) };
        let step = Step {
            op: Op::RemoveFile {
                path: format!("/{ino}").as_str().into(),
                id: FileId { key, ..FileId::default() },
            },
            why: String::new(),
            group: 0,
            when: When::Always,
            guards: Vec::new(),
            on_error: OnError::Continue,
            frees: Reclaim::between(Bytes(low), Bytes(high)),
            on: Some(device(1)),
        };
        let plan = Plan {
            action: ActionId::Delete,
            summary: format!("delete {ino}"),
            risk,
            reclaim: step.frees,
            steps: vec![step],
            refused: Vec::new(),
            unknown: Vec::new(),
            undo: Undo::Impossible,
            verify: Vec::new(),
            name: "x".to_owned(),
            again: None,
        };
        Offer { finding: format!("cache:{ino}"), again, plan }
    }

    fn goal(bytes: u64) -> Goal {
        Goal { mount_point: "/".into(), bytes: Bytes(bytes) }
    }

    fn chosen(choice: &Choice) -> Vec<&str> {
        choice.basket.parts.iter().map(|plan| plan.summary.as_str()).collect()
    }

    #[test]
    fn the_cheapest_of_the_least_risk_comes_first_and_what_is_not_needed_is_left_out() {
        let offers = vec![
            offer(1, Risk::Routine, Again::Download, 50, 50),
            offer(2, Risk::Routine, Again::Moments, 10, 10),
            offer(3, Risk::Disruptive, Again::Nothing, 500, 500),
            offer(4, Risk::Routine, Again::Download, 70, 70),
        ];
        let choice = choose(offers.clone(), &goal(60), Risk::Disruptive, &machine());
        assert_eq!(chosen(&choice), ["delete 4"], "10 that are not needed stay");
        assert!(choice.reaches && choice.next.is_none());
        let choice = choose(offers, &goal(75), Risk::Disruptive, &machine());
        assert_eq!(chosen(&choice), ["delete 2", "delete 4"]);
    }

    #[test]
    fn what_cannot_be_reached_is_said_with_the_next_riskier_step() {
        let offers = vec![
            offer(1, Risk::Routine, Again::Download, 50, 50),
            offer(2, Risk::Disruptive, Again::Build, 100, 100),
            offer(3, Risk::Destructive, Again::Never, 1000, 1000),
        ];
        let choice = choose(offers.clone(), &goal(60), Risk::Routine, &machine());
        assert!(!choice.reaches);
        assert_eq!(choice.promised, Reclaim::exact(Bytes(50)));
        let next = choice.next.unwrap();
        assert_eq!((next.risk, next.summary.as_str()), (Risk::Disruptive, "delete 2"));
        let choice = choose(offers, &goal(600), Risk::Destructive, &machine());
        assert_eq!(chosen(&choice), ["delete 1", "delete 2"], "data is never lost for a goal");
        assert_eq!(choice.next.unwrap().risk, Risk::Destructive);
    }

    #[test]
    fn what_may_help_runs_before_what_is_riskier() {
        let offers = vec![
            offer(1, Risk::Routine, Again::Download, 0, 90),
            offer(2, Risk::Disruptive, Again::Build, 100, 100),
        ];
        let choice = choose(offers, &goal(60), Risk::Disruptive, &machine());
        assert_eq!(chosen(&choice), ["delete 1", "delete 2"]);
        assert!(choice.reaches);
        assert_eq!(choice.basket.goal, Some(goal(60)));
    }

    #[test]
    fn of_two_plans_about_one_finding_one_is_taken() {
        let mut stronger = offer(2, Risk::Routine, Again::Build, 80, 80);
        stronger.finding = "cache:1".to_owned();
        let offers = vec![offer(1, Risk::Routine, Again::Download, 50, 50), stronger];
        let choice = choose(offers.clone(), &goal(60), Risk::Routine, &machine());
        assert_eq!((chosen(&choice), choice.reaches), (vec!["delete 2"], true));
        assert_eq!(chosen(&choose(offers, &goal(40), Risk::Routine, &machine())), ["delete 1"]);
    }

    #[test]
    fn only_the_file_system_that_is_asked_for_counts() {
        let mut plan = offer(1, Risk::Routine, Again::Download, 50, 50).plan;
        let mut elsewhere = plan.steps[0].clone();
        elsewhere.group = 1;
        elsewhere.on = Some(device(2));
        plan.steps.push(elsewhere);
        let kept = keep_on(plan.clone(), &"/".into(), &machine()).unwrap();
        assert_eq!((kept.steps.len(), kept.reclaim), (1, Reclaim::exact(Bytes(50))));
        plan.steps.remove(0);
        assert!(keep_on(plan, &"/".into(), &machine()).is_none());
    }

    /// One offer of several files, each of its own size.
    fn files(sizes: &[u64]) -> Offer {
        let mut all = offer(1, Risk::Routine, Again::Download, 0, 0);
        all.plan.steps.clear();
        for (ino, size) in (10..).zip(sizes) {
            let mut step = offer(ino, Risk::Routine, Again::Download, *size, *size).plan.steps.remove(0);
            step.group = u32::try_from(ino).unwrap();
            all.plan.steps.push(step);
        }
        all.plan.reclaim = Reclaim::exact(Bytes(sizes.iter().sum()));
        all
    }

    #[test]
    fn of_independent_steps_as_few_as_are_enough_are_taken() {
        let shown = |bytes, sizes: &[u64]| -> (Vec<u64>, String) {
            let choice = choose(vec![files(sizes)], &goal(bytes), Risk::Routine, &machine());
            let plan = &choice.basket.parts[0];
            assert_eq!(choice.reaches, bytes <= sizes.iter().sum());
            assert_eq!(choice.promised, plan.reclaim);
            (plan.steps.iter().map(|step| step.frees.bounds().0.0).collect(), plan.summary.clone())
        };
        assert_eq!(shown(12, &[5, 9, 0, 4, 30, 7]).0, [30]);
        assert_eq!(shown(35, &[5, 9, 0, 4, 30, 7]).0, [9, 30]);
        let (all, summary) = shown(55, &[5, 9, 0, 4, 30, 7]);
        assert_eq!(all, [5, 9, 4, 30, 7]);
        assert!(summary.ends_with(", of that what is enough: 55 B"), "{summary}");
        let (all, summary) = shown(100, &[5, 9]);
        assert_eq!(
            (all.as_slice(), summary.as_str()),
            ([5, 9].as_slice(), "delete 1"),
            "not enough: all of it"
        );
        // What depends on each other stays whole.
        let mut chained = files(&[5, 30]);
        for step in &mut chained.plan.steps {
            step.on_error = OnError::Stop;
        }
        let choice = choose(vec![chained], &goal(1), Risk::Routine, &machine());
        assert_eq!(choice.basket.parts[0].steps.len(), 2);
    }

    fn any_offers() -> impl Strategy<Value = Vec<Offer>> {
        let one = (0u8..3, 0u8..3, 0u64..50, 0u64..50);
        proptest::collection::vec(one, 0..9).prop_map(|all| {
            let make = |(ino, (risk, again, low, more)): (u64, (u8, u8, u64, u64))| {
                let risk = [Risk::Routine, Risk::Disruptive, Risk::Destructive][usize::from(risk)];
                let again = [Again::Moments, Again::Download, Again::Build][usize::from(again)];
                offer(ino, risk, again, low, low + more)
            };
            (1..).zip(all).map(make).collect()
        })
    }

    proptest! {
        #[test]
        fn a_goal_within_reach_is_reached_without_anything_to_spare(
            offers in any_offers(), bytes in 1u64..200, disruptive in any::<bool>()
        ) {
            let most = if disruptive { Risk::Disruptive } else { Risk::Routine };
            let sure = |most: Risk| -> u64 {
                let allowed = offers.iter().filter(|offer| offer.plan.risk <= most);
                allowed.map(|offer| offer.plan.reclaim.bounds().0.0).sum()
            };
            let choice = choose(offers.clone(), &goal(bytes), most, &machine());
            prop_assert_eq!(choice.reaches, sure(most) >= bytes);
            prop_assert!(choice.basket.parts.iter().all(|plan| plan.risk <= most));
            let lows: Vec<u64> = choice.basket.parts.iter().map(|plan| plan.reclaim.bounds().0.0).collect();
            let sum: u64 = lows.iter().sum();
            prop_assert_eq!(choice.promised.bounds().0, Bytes(sum));
            if choice.reaches {
                prop_assert!(lows.iter().all(|low| *low == 0 || sum - low < bytes), "{:?} for {}", lows, bytes);
                // Nothing disruptive where routine is enough.
                let risk = choice.basket.risk();
                prop_assert!(risk == Risk::Routine || sure(Risk::Routine) < bytes);
            } else {
                prop_assert_eq!(sum, sure(most), "all that is allowed is offered");
            }
        }
    }
}
