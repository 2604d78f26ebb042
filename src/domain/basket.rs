//! Several plans as one: in order, each thing once, with the total for each file system.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Component;

use schemars::JsonSchema;
use serde::Serialize;

use super::command::ToolTarget;
use super::finding::Reclaim;
use super::identity::{DevId, DevIno};
use super::op::{Op, Operand, Which};
use super::plan::{OnError, Plan, Refusal, Risk, Step, Verify, When};
use super::size::Bytes;
use super::snapshot::FileSystem;
use super::text::{HostPath, HostText};

/// Space wanted on one file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Goal {
    /// Where it is mounted.
    pub mount_point: HostPath,
    /// How much shall come back.
    pub bytes: Bytes,
}

/// What a basket gives back on one file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Total {
    /// Where it is mounted; none for space that nobody can place.
    pub mount_point: Option<HostPath>,
    /// What is known of it.
    pub reclaim: Reclaim,
    /// Whether more comes back, nobody knows how much.
    pub and_more: bool,
}

/// Several plans that are agreed to once and run one after another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Basket {
    /// The plans, in the order in which they run. Each keeps its action, its guards and its receipt.
    pub parts: Vec<Plan>,
    /// What is in none of them, and why.
    pub refused: Vec<Refusal>,
    /// What was asked for more than once, and what takes care of it.
    pub once: Vec<Refusal>,
    /// What comes back where, each thing counted once.
    pub totals: Vec<Total>,
    /// Where this much has come back, the parts that are left are not run.
    pub goal: Option<Goal>,
}

/// Sorts plans: what can lose least first, and of those what frees most first.
pub fn sort_by_yield(plans: &mut [Plan]) {
    plans.sort_by(|a, b| {
        let key = |plan: &Plan| {
            let (low, high) = plan.reclaim.bounds();
            (plan.risk, Reverse(low), Reverse(high), plan.action)
        };
        key(a).cmp(&key(b)).then_with(|| a.summary.cmp(&b.summary))
    });
}

impl Basket {
    /// Puts plans together in the order given. What another part does already is taken out of a plan whose steps do
    /// not depend on each other, so that it runs once and counts once: the same file, process, mount or command, and
    /// whatever lies in a directory that goes as a whole.
    pub fn new(plans: Vec<Plan>, filesystems: &[FileSystem]) -> Self {
        let claims = Claims::of(&plans);
        let (mut refused, mut once) = (Vec::new(), Vec::new());
        let mut parts = Vec::new();
        for (number, mut plan) in plans.into_iter().enumerate() {
            let covered = if plan.is_divisible() { claims.covered(&plan, number) } else { BTreeMap::new() };
            if !covered.is_empty() {
                once.extend(leave_out(&mut plan, &covered));
            }
            if plan.is_empty() {
                refused.append(&mut plan.refused);
            } else {
                parts.push(plan);
            }
        }
        let totals = totals(&parts, filesystems);
        Self { parts, refused, once, totals, goal: None }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Plan::is_empty)
    }

    /// The highest risk of any part.
    pub fn risk(&self) -> Risk {
        self.parts.iter().map(|plan| plan.risk).max().unwrap_or(Risk::Routine)
    }

    /// Steps of all parts.
    pub fn steps(&self) -> usize {
        self.parts.iter().map(|plan| plan.steps.len()).sum()
    }

    /// Things that something is done about: steps about the same one count once.
    pub fn items(&self) -> usize {
        self.parts.iter().map(|plan| groups(plan).len()).sum()
    }

    /// What comes back on all file systems together, as far as it is known.
    pub fn reclaim(&self) -> Reclaim {
        let known = self.totals.iter().map(|total| total.reclaim).fold(Reclaim::Nothing, Reclaim::plus);
        match known {
            Reclaim::Nothing if self.totals.iter().any(|total| total.and_more) => Reclaim::Unknown,
            known => known,
        }
    }

    /// One line: what and how much. That of the only part, where there is one.
    pub fn summary(&self) -> String {
        match self.parts.as_slice() {
            [] => "nothing to do".to_owned(),
            [only] => only.summary.clone(),
            many => format!("{} plans with {} steps ({})", many.len(), self.steps(), self.reclaim()),
        }
    }
}

impl Plan {
    /// Whether what is done about one thing does not depend on another: its steps can be taken out group by group.
    pub fn is_divisible(&self) -> bool {
        self.steps.iter().all(|step| step.on_error == OnError::Continue)
    }

    /// Takes out the groups of steps for which `keep` says no, and counts anew what the rest gives back.
    pub fn retain_groups(&mut self, keep: impl Fn(u32) -> bool) {
        let before = self.steps.len();
        self.steps.retain(|step| keep(step.group));
        if self.steps.len() < before {
            self.reclaim = self.yields().into_values().fold(Reclaim::Nothing, |all, one| all.plus(one.1));
        }
    }

    /// What each group of steps gives back, and on which device.
    pub fn yields(&self) -> BTreeMap<u32, (Option<DevId>, Reclaim)> {
        let mut all: BTreeMap<u32, (Option<DevId>, Reclaim)> = BTreeMap::new();
        for step in &self.steps {
            let (on, sum) = all.entry(step.group).or_insert((None, Reclaim::Nothing));
            *on = on.or(step.on);
            if step.when == When::Always {
                *sum = sum.plus(step.frees);
            }
        }
        all
    }
}

fn groups(plan: &Plan) -> BTreeSet<u32> {
    plan.steps.iter().map(|step| step.group).collect()
}

/// A group of steps: the number of its plan, and its own.
type Spot = (usize, u32);

/// What is done about which thing by which group of steps.
struct Claims {
    /// Who does something about a thing first.
    first: BTreeMap<Which, Spot>,
    /// Directories that go as a whole, with their device.
    trees: BTreeMap<HostPath, DevId>,
    /// Containers that go, by their ids.
    containers: BTreeSet<HostText>,
}

impl Claims {
    fn of(plans: &[Plan]) -> Self {
        let mut claims = Self { first: BTreeMap::new(), trees: BTreeMap::new(), containers: BTreeSet::new() };
        for (number, plan) in plans.iter().enumerate() {
            // What only runs where something else failed takes care of nothing.
            for step in plan.steps.iter().filter(|step| step.when == When::Always) {
                let operand = step.op.operand();
                if let Some((path, dev)) = operand.tree() {
                    claims.trees.entry(path.clone()).or_insert(dev);
                }
                claims.first.entry(operand.which).or_insert((number, step.group));
                if let Op::Run { target: ToolTarget::Container { id, .. }, .. } = &step.op {
                    claims.containers.insert(id.clone());
                }
            }
        }
        claims
    }

    /// The groups of a plan that others take care of, with the reason.
    fn covered(&self, plan: &Plan, number: usize) -> BTreeMap<u32, String> {
        let mut by_group: BTreeMap<u32, Vec<&Step>> = BTreeMap::new();
        for step in &plan.steps {
            by_group.entry(step.group).or_default().push(step);
        }
        let mut covered = BTreeMap::new();
        for (group, steps) in by_group {
            let in_turn = steps.iter().filter(|step| step.when == When::Always);
            let mut operands: Vec<Operand> = in_turn.map(|step| step.op.operand()).collect();
            if operands.iter().all(Operand::is_command) {
                // A command is about the place that the step standing in for it is about.
                let places = steps.iter().map(|step| step.op.operand()).filter(|one| !one.is_command());
                let places: Vec<Operand> = places.collect();
                operands = if places.is_empty() { operands } else { places };
            }
            let reasons: Option<Vec<String>> =
                operands.iter().map(|operand| self.reason(operand, (number, group))).collect();
            if let Some(reason) = reasons.and_then(|reasons| reasons.into_iter().next()) {
                covered.insert(group, reason);
            }
        }
        covered
    }

    fn reason(&self, operand: &Operand, spot: Spot) -> Option<String> {
        if self.first.get(&operand.which).is_some_and(|first| *first < spot) {
            return Some("another part of the basket does it already".to_owned());
        }
        if let Which::Part(key) = operand.which
            && self.first.contains_key(&Which::File(key))
        {
            return Some("another part of the basket takes all of it".to_owned());
        }
        let (path, dev) = operand.place.as_ref()?;
        // An engine keeps the log of a container in a directory that is called by its id, and removes it with it.
        let is_container = |name: Component<'_>| {
            self.containers.contains(&HostText::new(name.as_os_str().as_encoded_bytes()))
        };
        if matches!(operand.which, Which::Part(_)) && path.as_path().components().any(is_container) {
            return Some("it goes with its container".to_owned());
        }
        let above = path.as_path().ancestors().skip(1);
        let mut outer = above.filter_map(|dir| self.trees.get_key_value(&HostPath::from(dir)));
        let (outer, _) = outer.find(|(_, tree)| *tree == dev)?;
        Some(format!("it goes with {outer}, which goes as a whole"))
    }
}

/// Takes groups out of a plan, and says what and why.
fn leave_out(plan: &mut Plan, covered: &BTreeMap<u32, String>) -> Vec<Refusal> {
    let mut told = BTreeSet::new();
    let mut once = Vec::new();
    for step in &plan.steps {
        if let Some(why) = covered.get(&step.group)
            && told.insert(step.group)
        {
            once.push(Refusal { what: step.op.words(), why: why.clone() });
        }
    }
    plan.retain_groups(|group| !covered.contains_key(&group));
    if !plan.is_empty() {
        plan.summary = format!("{}, of that what no other part does: {}", plan.summary, plan.reclaim);
    }
    once
}

/// A file with several names gives its space back with the last of them: how many names it has, how many of them go,
/// and how much that is.
struct Linked {
    names: u32,
    going: BTreeSet<HostPath>,
    size: Bytes,
}

fn totals(parts: &[Plan], filesystems: &[FileSystem]) -> Vec<Total> {
    let mut totals: BTreeMap<Option<HostPath>, (Reclaim, bool)> = BTreeMap::new();
    let mut add = |place: Option<HostPath>, reclaim: Reclaim| {
        let (sum, more) = totals.entry(place).or_insert((Reclaim::Nothing, false));
        match reclaim {
            Reclaim::Unknown => *more = true,
            known => *sum = sum.plus(known),
        }
    };
    let mut linked: BTreeMap<DevIno, Linked> = BTreeMap::new();
    for plan in parts {
        let place = |on: Option<DevId>| {
            let known = on.and_then(|dev| filesystems.iter().find(|fs| fs.has_device(dev)));
            known.map(|fs| fs.mount_point.clone()).or_else(|| {
                plan.verify.iter().find_map(|check| match check {
                    Verify::Space { path } => Some(path.clone()),
                    Verify::NoBuildMounts => None,
                })
            })
        };
        let told = plan.steps.iter().any(|step| step.frees != Reclaim::Nothing);
        if !told {
            // The plan knows its total only.
            if plan.reclaim != Reclaim::Nothing {
                add(place(None), plan.reclaim);
            }
            continue;
        }
        for step in plan.steps.iter().filter(|step| step.when == When::Always) {
            match link(step) {
                Some((key, names, path)) => {
                    let size = step.frees.bounds().1;
                    let one =
                        linked.entry(key).or_insert_with(|| Linked { names, going: BTreeSet::new(), size });
                    one.going.insert(path);
                }
                None if step.frees == Reclaim::Nothing => {}
                None => add(place(step.on), step.frees),
            }
        }
    }
    for (key, file) in linked {
        let whole = u32::try_from(file.going.len()).unwrap_or(u32::MAX) >= file.names;
        let low = if whole { file.size } else { Bytes::ZERO };
        let fs = filesystems.iter().find(|fs| fs.dev == key.dev);
        add(fs.map(|fs| fs.mount_point.clone()), Reclaim::between(low, file.size));
    }
    totals
        .into_iter()
        .map(|(mount_point, (reclaim, and_more))| Total { mount_point, reclaim, and_more })
        .collect()
}

/// The file of a step that removes one of several names.
fn link(step: &Step) -> Option<(DevIno, u32, HostPath)> {
    match &step.op {
        Op::RemoveFile { path, id } if id.links > 1 => Some((id.key, id.links, path.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::command::ToolCommand;
    use crate::domain::engines::EngineKind;
    use crate::domain::finding::ActionId;
    use crate::domain::identity::{FileId, FileKind, Inode};
    use crate::domain::logs::{InPlace, LogOwner};
    use crate::domain::plan::Undo;
    use crate::domain::sweep::Sweep;

    fn id(ino: u64, kind: FileKind, links: u32) -> FileId {
        let key = DevIno { dev: DevId { major: 8, minor: 1 }, ino: Inode(ino) };
        FileId { key, kind, links, ..FileId::default() }
    }

    fn step(path: &str, ino: u64, kind: FileKind, links: u32, size: u64, group: u32) -> Step {
        let id = id(ino, kind, links);
        let op = match kind {
            FileKind::Directory => Op::RemoveTree { path: path.into(), id, entries: 1 },
            _ => Op::RemoveFile { path: path.into(), id },
        };
        let low = if links > 1 && kind != FileKind::Directory { 0 } else { size };
        Step {
            op,
            why: String::new(),
            group,
            when: When::Always,
            guards: Vec::new(),
            on_error: OnError::Continue,
            frees: Reclaim::between(Bytes(low), Bytes(size)),
            on: Some(id.key.dev),
        }
    }

    fn plan(risk: Risk, steps: Vec<Step>) -> Plan {
        let reclaim = steps.iter().fold(Reclaim::Nothing, |all, step| all.plus(step.frees));
        Plan {
            action: ActionId::Delete,
            summary: "delete".to_owned(),
            risk,
            steps,
            refused: Vec::new(),
            reclaim,
            unknown: Vec::new(),
            undo: Undo::Impossible,
            verify: Vec::new(),
            name: "x".to_owned(),
            again: None,
        }
    }

    #[test]
    fn a_file_in_a_tree_that_goes_and_the_same_file_twice_count_once() {
        let inner = plan(Risk::Routine, vec![step("/a/b/c", 3, FileKind::File, 1, 10, 0)]);
        let outer = plan(Risk::Destructive, vec![step("/a", 1, FileKind::Directory, 2, 100, 0)]);
        let beside = plan(Risk::Routine, vec![step("/ab", 4, FileKind::File, 1, 5, 0)]);
        let again = plan(Risk::Destructive, vec![step("/bind/ab", 4, FileKind::File, 1, 5, 0)]);
        let basket = Basket::new(vec![inner, beside, outer, again], &[]);
        assert_eq!(basket.reclaim(), Reclaim::exact(Bytes(105)));
        assert_eq!((basket.parts.len(), basket.items(), basket.risk()), (2, 2, Risk::Destructive));
        let whys: Vec<&str> = basket.once.iter().map(|refusal| refusal.why.as_str()).collect();
        assert_eq!(
            whys,
            ["it goes with /a, which goes as a whole", "another part of the basket does it already"]
        );
    }

    #[test]
    fn who_takes_a_part_does_not_stand_in_for_who_takes_all() {
        let mut sweep = step("/a", 1, FileKind::Directory, 2, 0, 0);
        let old = Sweep::default();
        sweep.op = Op::Sweep { path: "/a".into(), id: id(1, FileKind::Directory, 2), sweep: old };
        sweep.frees = Reclaim::Unknown;
        let rotate = |path: &str, ino, owner| {
            let mut rotate = step(path, ino, FileKind::File, 1, 9, 1);
            let id = id(ino, FileKind::File, 1);
            let (path, in_place) = (path.into(), InPlace::Punch);
            rotate.op = Op::RotateLog { path, id, keep_lines: 9, in_place, owner };
            rotate
        };
        let parts = vec![sweep.clone(), rotate("/log", 2, LogOwner::Program)];
        let parts = plan(Risk::Disruptive, parts);
        let tree = step("/a", 1, FileKind::Directory, 2, 100, 0);
        let all = plan(Risk::Destructive, vec![tree, step("/log", 2, FileKind::File, 1, 10, 1)]);
        let basket = Basket::new(vec![parts.clone(), all], &[]);
        assert_eq!((basket.parts.len(), basket.items(), basket.once.len()), (1, 2, 2));
        assert_eq!(basket.reclaim(), Reclaim::exact(Bytes(110)));
        // Two of the same count once, and alone they stay.
        let twice = Basket::new(vec![parts.clone(), parts], &[]);
        assert_eq!((twice.items(), twice.once.len()), (2, 2));

        // A log goes with its container.
        let mut container = step("/x", 9, FileKind::File, 1, 20, 0);
        let target = ToolTarget::Container {
            engine: EngineKind::Docker,
            reach: crate::domain::engines::Reach::default(),
            id: "c0ffee".into(),
        };
        container.op = Op::Run { command: ToolCommand::new("docker", 1), target };
        let log = rotate("/c/c0ffee/c0ffee-json.log", 3, LogOwner::Container);
        let other = rotate("/c/decaf/decaf-json.log", 4, LogOwner::Container);
        let (logs, rm) = (plan(Risk::Routine, vec![log, other]), plan(Risk::Destructive, vec![container]));
        let mut logs = logs;
        logs.steps[0].group = 0;
        let basket = Basket::new(vec![logs, rm], &[]);
        assert_eq!((basket.items(), basket.reclaim()), (2, Reclaim::exact(Bytes(29))));
    }

    #[test]
    fn what_only_runs_when_something_failed_takes_care_of_nothing() {
        let mut fallback = step("/a", 1, FileKind::Directory, 2, 100, 0);
        fallback.when = When::IfPreviousFailed;
        let recipe = plan(Risk::Routine, vec![step("/x", 9, FileKind::File, 1, 1, 0), fallback]);
        let inner = plan(Risk::Routine, vec![step("/a/b", 3, FileKind::File, 1, 10, 0)]);
        let basket = Basket::new(vec![recipe, inner], &[]);
        assert_eq!((basket.parts.len(), basket.reclaim()), (2, Reclaim::exact(Bytes(11))));
    }

    #[test]
    fn a_plan_that_stops_at_a_failure_is_left_whole() {
        let mut recipe = plan(Risk::Disruptive, vec![step("/a/b", 3, FileKind::File, 1, 10, 0)]);
        recipe.steps[0].on_error = OnError::Stop;
        let outer = plan(Risk::Destructive, vec![step("/a", 1, FileKind::Directory, 2, 100, 0)]);
        assert_eq!(Basket::new(vec![recipe, outer], &[]).parts.len(), 2);
    }

    #[test]
    fn a_file_gives_its_space_back_with_the_last_name_whichever_plan_removes_it() {
        let one = plan(Risk::Routine, vec![step("/a", 7, FileKind::File, 2, 10, 0)]);
        let two = plan(Risk::Routine, vec![step("/b", 7, FileKind::File, 2, 10, 0)]);
        let half = Basket::new(vec![one.clone()], &[]);
        assert_eq!(half.reclaim(), Reclaim::Range { low: Bytes::ZERO, high: Bytes(10) });
        let both = Basket::new(vec![one, two], &[]);
        assert_eq!((both.items(), both.reclaim()), (2, Reclaim::exact(Bytes(10))));
    }

    #[test]
    fn least_risk_comes_first_and_then_what_frees_most() {
        let small = plan(Risk::Routine, vec![step("/a", 1, FileKind::File, 1, 1, 0)]);
        let large = plan(Risk::Routine, vec![step("/b", 2, FileKind::File, 1, 9, 0)]);
        let risky = plan(Risk::Disruptive, vec![step("/c", 3, FileKind::File, 1, 99, 0)]);
        let mut plans = vec![risky.clone(), small.clone(), large.clone()];
        sort_by_yield(&mut plans);
        assert_eq!(plans, [large, small, risky]);
    }

    /// Paths of a small tree: `/0`, `/0/1`, `/0/1/2`, … each with the inode that its path spells.
    fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
        let item = (proptest::collection::vec(0u8..3, 1..4), any::<bool>());
        let one = proptest::collection::vec(item, 0..6);
        proptest::collection::vec((one, 0u8..3), 0..6).prop_map(|plans| {
            let make = |(items, risk): (Vec<(Vec<u8>, bool)>, u8)| {
                let steps = items.into_iter().zip(0u32..).map(|((path, _), group)| {
                    let ino = path.iter().fold(1u64, |ino, name| ino * 4 + u64::from(*name) + 1);
                    let names: Vec<String> = path.iter().map(ToString::to_string).collect();
                    let text = format!("/{}", names.join("/"));
                    // The deepest are files, the others directories: one path is always the same thing. A tree
                    // weighs as much as all that can be in it.
                    let kind = if path.len() == 3 { FileKind::File } else { FileKind::Directory };
                    let size = [90, 30, 10][path.len() - 1];
                    step(&text, ino, kind, 1, size, group)
                });
                let risk = [Risk::Routine, Risk::Disruptive, Risk::Destructive][usize::from(risk)];
                plan(risk, steps.collect())
            };
            plans.into_iter().map(make).collect()
        })
    }

    fn paths(plans: &[Plan]) -> Vec<HostPath> {
        let steps = plans.iter().flat_map(|plan| &plan.steps);
        steps.filter_map(|step| Some(step.op.operand().place?.0)).collect()
    }

    proptest! {
        #[test]
        fn everything_asked_for_goes_and_nothing_twice(plans in any_plans()) {
            let asked = paths(&plans);
            let basket = Basket::new(plans, &[]);
            let going = paths(&basket.parts);
            for path in &asked {
                let covering = going.iter().filter(|tree| path.as_path().starts_with(tree.as_path())).count();
                prop_assert_eq!(covering, 1, "{} in {:?}", path, &going);
            }
            prop_assert!(going.iter().all(|path| asked.contains(path)), "nothing is added");
            let sizes = going.iter().map(|path| [90, 30, 10][path.as_path().components().count() - 2]);
            prop_assert_eq!(basket.reclaim().bounds().0, Bytes(sizes.sum::<u64>()), "counted once");
            let parts: Reclaim = basket.parts.iter().fold(Reclaim::Nothing, |all, plan| all.plus(plan.reclaim));
            prop_assert_eq!(parts.bounds(), basket.reclaim().bounds(), "the parts and the total agree");
        }

        #[test]
        fn putting_a_basket_together_again_changes_nothing(plans in any_plans()) {
            let once = Basket::new(plans, &[]);
            let twice = Basket::new(once.parts.clone(), &[]);
            prop_assert_eq!(once.parts, twice.parts);
        }
    }
}
