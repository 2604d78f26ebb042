//! Removes what is old from an over-full directory.

use super::{counted, file_name, space_check, typed_name};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::sweep::{Ages, SweepTarget};

/// Makes the plan. What exactly goes is decided when it runs, entry by entry: until then most of it may have changed.
pub fn plan(dirs: &[SweepTarget], snapshot: &Snapshot, settings: &Settings) -> Plan {
    let ages =
        Ages::from_hours(settings.sweep.file_hours, settings.sweep.empty_dir_hours, settings.sweep.dir_hours);
    let mut refused = Vec::new();
    let mut swept: Vec<&SweepTarget> = Vec::new();
    for dir in dirs {
        if let Some(found) = snapshot.protect.covers(dir.id.key, &[]) {
            let why = format!("{} is protected with everything in it: {}", found.path, found.why);
            refused.push(Refusal { what: dir.path.to_string(), why });
        } else if swept.iter().all(|other| other.id.key != dir.id.key) {
            swept.push(dir);
        }
    }
    let mut verify = Vec::new();
    for dir in &swept {
        let check = space_check(snapshot, dir.id.key.dev, Some(dir.id.mount), &dir.path);
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let names: Vec<&[u8]> = swept.iter().map(|dir| file_name(&dir.path)).collect();
    Plan {
        action: ActionId::Sweep,
        summary: match swept.as_slice() {
            [] => "sweep nothing".to_owned(),
            [one] => format!("sweep {}: {ages}", one.path),
            many => {
                let count = u64::try_from(many.len()).unwrap_or(u64::MAX);
                format!("sweep {}: {ages}", counted(count, "directory", "directories"))
            }
        },
        // What is temporary may be made again; somebody may have to.
        risk: Risk::Disruptive,
        reclaim: swept.iter().map(|dir| frees(dir)).fold(Reclaim::Nothing, Reclaim::plus),
        steps: swept.iter().zip(0u32..).map(|(dir, group)| step(dir, group, ages)).collect(),
        refused,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify,
        name: typed_name("sweep", &names),
    }
}

/// What comes back: at most all that is below it.
fn frees(dir: &SweepTarget) -> Reclaim {
    dir.holds.map_or(Reclaim::Unknown, |holds| Reclaim::Range { low: Bytes::ZERO, high: holds })
}

fn step(dir: &SweepTarget, group: u32, ages: Ages) -> Step {
    let entries = match dir.entries {
        Some(entries) => counted(entries, "entry", "entries"),
        None => "an unknown number of entries".to_owned(),
    };
    Step {
        op: Op::Sweep { path: dir.path.clone(), id: dir.id, ages },
        why: format!(
            "{entries} in it; what is open, mapped, young, in the keep lists or not a plain file stays"
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
        frees: frees(dir),
        on: Some(dir.id.key.dev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::FileId;
    use crate::domain::protect::{Protected, Reach};
    use jiff::Timestamp;

    #[test]
    fn a_protected_directory_is_refused_and_each_is_swept_once() {
        let mut snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let mut store =
            SweepTarget { path: "/store".into(), id: FileId::default(), entries: Some(5), holds: None };
        store.id.key.ino.0 = 7;
        let what = Protected { path: "/store".into(), reach: Reach::Everything, why: "test".to_owned() };
        snapshot.protect.protect(store.id.key, what);
        let temp = SweepTarget {
            holds: Some(Bytes(70)),
            path: "/tmp".into(),
            id: FileId::default(),
            entries: Some(5),
        };
        let plan = plan(&[store, temp.clone(), temp], &snapshot, &Settings::default());
        assert_eq!((plan.steps.len(), plan.refused.len(), plan.name.as_str()), (1, 1, "tmp"));
        assert_eq!((plan.risk, plan.reclaim.to_string().as_str()), (Risk::Disruptive, "up to 70 B"));
        assert!(plan.summary.contains("files after 24 h"), "{}", plan.summary);
    }
}
