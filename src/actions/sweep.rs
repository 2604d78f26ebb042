//! Removes what is old from an over-full directory.

use super::{counted, file_name, space_check, typed_name};
use crate::config::Settings;
use crate::domain::bounds::Budget;
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::own_command::OwnCommand;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::sweep::{Candidate, Sweep, SweepTarget};

/// Makes the plan. It names everything that goes; what changed until it runs stays.
pub fn plan(dirs: &[SweepTarget], snapshot: &Snapshot, settings: &Settings) -> Plan {
    let mut refused = Vec::new();
    let mut swept: Vec<(&SweepTarget, &Sweep)> = Vec::new();
    for dir in dirs {
        let refuse = |why: String| Refusal { what: dir.path.to_string(), why };
        if let Some(found) = snapshot.protect.covers(dir.id.key, &[]) {
            refused.push(refuse(format!("{} is protected with everything in it: {}", found.path, found.why)));
        } else if swept.iter().any(|(other, _)| other.id.key == dir.id.key) {
            // Asked for twice, swept once.
        } else if let Some(list) = dir.list.value() {
            refused.extend(list.problems.iter().map(|problem| refuse(problem.clone())));
            swept.push((dir, list));
        } else {
            refused.push(refuse(dir.list.sentences().join("; ")));
        }
    }
    // Nothing to do is no step, but it is said why.
    for (dir, list) in swept.extract_if(.., |(_, list)| list.goes().next().is_none()) {
        let ages = list.ages;
        refused.push(Refusal {
            what: dir.path.to_string(),
            why: format!("nothing in it goes ({ages}): {}", staying(list)),
        });
    }
    // What one run takes is bounded: what is beyond that is not promised.
    let budget = |dir: &SweepTarget| {
        let known = super::filesystems(snapshot).iter().find(|fs| fs.has_mount(dir.id.mount));
        let total = known.and_then(|fs| fs.usage.value()).map(|usage| usage.total.0);
        Budget::of(total.unwrap_or(u64::MAX))
    };
    let frees = |dir: &SweepTarget, list: &Sweep| frees(&list.within(&mut budget(dir)).0);
    for (dir, list) in &swept {
        let (taken, stopped) = list.within(&mut budget(dir));
        refused.extend(stopped.map(|why| Refusal {
            what: format!("{} of what is old in {}", list.all().count - taken.len() as u64, dir.path),
            why,
        }));
    }
    let mut verify = Vec::new();
    for (dir, _) in &swept {
        let check = space_check(snapshot, dir.id.key.dev, Some(dir.id.mount), &dir.path);
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let names: Vec<&[u8]> = swept.iter().map(|(dir, _)| file_name(&dir.path)).collect();
    let temporary = |dir: &SweepTarget| {
        let known = snapshot.temp_dirs.iter();
        let by_id = known.filter_map(|temp| temp.id).any(|id| id.key == dir.id.key);
        by_id || settings.temp.dirs.iter().any(|temp| dir.path == temp.as_str().into())
    };
    // What is temporary may be made again, and somebody may have to; elsewhere age says nothing about worth.
    let loses = swept.iter().any(|(dir, list)| !temporary(dir) || list.takes_precious());
    Plan {
        action: ActionId::Sweep,
        summary: match swept.as_slice() {
            [] => "sweep nothing".to_owned(),
            [(dir, list)] => format!("sweep {}: {}", dir.path, list.words()),
            many => {
                let count = u64::try_from(many.len()).unwrap_or(u64::MAX);
                format!("sweep {}", counted(count, "directory", "directories"))
            }
        },
        risk: if loses { Risk::Destructive } else { Risk::Disruptive },
        reclaim: swept.iter().map(|(dir, list)| frees(dir, list)).fold(Reclaim::Nothing, Reclaim::plus),
        steps: swept
            .iter()
            .zip(0u32..)
            .map(|((dir, list), group)| step(dir, list, group, frees(dir, list)))
            .collect(),
        refused,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify,
        name: typed_name("sweep", &names),
        again: again(&swept),
    }
}

/// The line that sweeps the same again; none if single names were switched.
fn again(swept: &[(&SweepTarget, &Sweep)]) -> Option<OwnCommand> {
    let [(dir, list)] = swept else { return None };
    let as_found = |one: &Candidate| one.left_out == one.by_default(list.own_root);
    // One that `--also` names goes though it looks precious.
    let asked = |one: &Candidate| one.left_out.is_none() && !list.also.is_empty();
    list.candidates.iter().all(|one| as_found(one) || asked(one)).then(|| list.command(&dir.path))
}

/// What stays, in a few words.
fn staying(list: &Sweep) -> String {
    let parts: Vec<String> = list.staying().iter().map(|one| format!("{} {}", one.count, one.why)).collect();
    if parts.is_empty() { "it is empty".to_owned() } else { parts.join(", ") }
}

/// What comes back. Of what has other names too, nobody can say.
fn frees(taken: &[&Candidate]) -> Reclaim {
    let sure: Bytes = taken.iter().map(|one| one.bytes).sum();
    let linked: Bytes = taken.iter().map(|one| one.linked).sum();
    Reclaim::between(sure, sure + linked)
}

fn step(dir: &SweepTarget, list: &Sweep, group: u32, frees: Reclaim) -> Step {
    Step {
        op: Op::Sweep { path: dir.path.clone(), id: dir.id, sweep: list.clone() },
        why: format!(
            "{}; of {} in it stay: {}",
            list.ages,
            counted(list.entries, "entry", "entries"),
            staying(list)
        ),
        group,
        when: When::Always,
        guards: vec![
            Guard::NotProtected,
            Guard::NoMountsBelow,
            Guard::Writable,
            Guard::NotInUse,
            Guard::Old,
            Guard::Bounded,
        ],
        on_error: OnError::Continue,
        frees,
        on: Some(dir.id.key.dev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::FileId;
    use crate::domain::protect::{Protected, Reach};
    use crate::domain::reading::Reading;
    use crate::domain::sweep::{Ages, Class, LeftOut, Staying, Stays};
    use crate::domain::text::HostText;
    use jiff::Timestamp;

    fn candidate(name: &str, bytes: u64) -> Candidate {
        Candidate {
            name: HostText::from(name),
            id: FileId::default(),
            class: Class::OldFile,
            entries: 1,
            bytes: Bytes(bytes),
            linked: Bytes(1),
            newest: 0,
            precious: None,
            of_root: false,
            left_out: None,
        }
    }

    fn target(path: &str, ino: u64, candidates: Vec<Candidate>) -> SweepTarget {
        let mut id = FileId::default();
        id.key.ino.0 = ino;
        let list = Sweep {
            ages: Ages { file_secs: 86_400, empty_dir_secs: 86_400, dir_secs: 172_800 },
            entries: 9,
            candidates,
            stays: vec![Staying { why: Stays::Young, count: 7, example: HostText::from("y") }],
            ..Sweep::default()
        };
        SweepTarget { path: path.into(), id, rule: None, list: Reading::ready(list) }
    }

    #[test]
    fn a_protected_directory_is_refused_and_each_is_swept_once() {
        let mut snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let store = target("/store", 7, vec![candidate("x", 1)]);
        let what = Protected { path: "/store".into(), reach: Reach::Everything, why: "test".to_owned() };
        snapshot.protect.protect(store.id.key, what);
        let temp = target("/tmp", 8, vec![candidate("x", 70)]);
        let plan = plan(&[store, temp.clone(), temp], &snapshot, &Settings::default());
        assert_eq!((plan.steps.len(), plan.refused.len(), plan.name.as_str()), (1, 1, "tmp"));
        assert_eq!((plan.risk, plan.reclaim.to_string().as_str()), (Risk::Disruptive, "70 B to 71 B"));
        assert_eq!(plan.summary, "sweep /tmp: 1 old file");
        assert_eq!(plan.again.unwrap().to_string(), "unwedge sweep /tmp --older 1d --older-dirs 2d");
    }

    #[test]
    fn elsewhere_than_in_a_directory_for_temporary_files_it_loses_data() {
        let snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let settings = Settings::default();
        let archive = plan(&[target("/archive", 1, vec![candidate("x", 1)])], &snapshot, &settings);
        assert_eq!((archive.risk, archive.name.as_str()), (Risk::Destructive, "archive"));
        let key = Candidate { precious: Some(HostText::from("a.key")), ..candidate("a.key", 1) };
        let precious = plan(&[target("/tmp", 1, vec![key.clone()])], &snapshot, &settings);
        assert_eq!((precious.risk, precious.again), (Risk::Destructive, None));
        let left = Candidate { left_out: key.by_default(false), ..key };
        assert!(matches!(left.left_out, Some(LeftOut::Precious { .. })));
        let nothing = plan(&[target("/tmp", 1, vec![left])], &snapshot, &settings);
        assert!(nothing.is_empty());
        assert!(nothing.refused[0].why.ends_with("7 young, 1 look precious"), "{:?}", nothing.refused);
    }

    #[test]
    fn a_directory_that_could_not_be_looked_at_is_refused_with_the_reason() {
        let snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let list = Reading::Unavailable { why: "it does not answer".to_owned() };
        let dead = SweepTarget { list, ..target("/tmp", 1, Vec::new()) };
        let plan = plan(&[dead], &snapshot, &Settings::default());
        assert!(plan.is_empty() && plan.refused[0].why.contains("does not answer"), "{:?}", plan.refused);
    }
}
