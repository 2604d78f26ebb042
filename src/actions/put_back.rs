//! Puts back what runs have left: what was set aside gets its name again, what was moved to another file system is copied
//! back with the same care, and pieces of copies are removed.

use super::evacuate::{GUARDS, fs_of};
use super::{counted, file_name, typed_name};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::past::{Back, Leftover};
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::text::HostPath;

/// Makes the plan.
pub fn plan(leftovers: &[Leftover], snapshot: &Snapshot) -> Plan {
    let mut refused = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut names: Vec<&[u8]> = Vec::new();
    let mut sources: Vec<&HostPath> = Vec::new();
    // What earlier steps of this plan take of each file system.
    let mut taken: Vec<(HostPath, Bytes)> = Vec::new();
    let (mut back, mut changed) = (0_u64, 0_u64);
    for one in leftovers {
        // Several runs may have moved the same file to and fro; it is there once.
        if sources.contains(&&one.from) {
            continue;
        }
        sources.push(&one.from);
        let hindered = one.hindered.clone().or_else(|| no_room(one, snapshot, &mut taken));
        if let Some(why) = hindered {
            let what = if one.back == Back::Remove { &one.from } else { &one.to };
            refused.push(Refusal { what: what.to_string(), why });
            continue;
        }
        names.push(file_name(&one.to));
        back += u64::from(!matches!(one.back, Back::Remove | Back::Access { .. }));
        changed += u64::from(matches!(one.back, Back::Access { .. }));
        steps.push(step(one, u32::try_from(steps.len()).unwrap_or(u32::MAX)));
    }
    let pieces = u64::try_from(steps.len()).unwrap_or(u64::MAX).saturating_sub(back + changed);
    let mut parts = Vec::new();
    match (
        back,
        steps
            .iter()
            .find(|step| !matches!(step.op, Op::RemoveFile { .. } | Op::RestoreAccess { .. }))
            .map(|step| &step.op),
    ) {
        (1, Some(Op::PutBack { to, .. } | Op::Evacuate { to, .. })) => parts.push(format!("put {to} back")),
        (0, _) => {}
        (count, _) => parts.push(format!("put {} back", counted(count, "thing", "things"))),
    }
    if changed > 0 {
        let what = counted(changed, "directory its owner and mode", "directories their owners and modes");
        parts.push(format!("give {what} back"));
    }
    if pieces > 0 {
        parts.push(format!("remove {} that broke off", counted(pieces, "copy", "copies")));
    }
    let name = typed_name("put back", &names);
    Plan {
        action: ActionId::PutBack,
        summary: if parts.is_empty() { "put nothing back".to_owned() } else { parts.join(" and ") },
        risk: Risk::Routine,
        steps,
        refused,
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Regenerates { how: "it can be deleted or moved again".to_owned() },
        verify: Vec::new(),
        name,
        again: None,
    }
}

/// Why what was moved has no room where it came from; counts what it takes there.
fn no_room(one: &Leftover, snapshot: &Snapshot, taken: &mut Vec<(HostPath, Bytes)>) -> Option<String> {
    let fs = fs_of(snapshot, &one.to).filter(|_| matches!(one.back, Back::Copy { .. }))?;
    let available = fs.usage.value()?.available;
    let before: Bytes = taken.iter().filter(|(at, _)| *at == fs.mount_point).map(|(_, bytes)| *bytes).sum();
    if before + Bytes(one.id.size) > available {
        return Some(format!(
            "there is no room for it on {} ({} available); it stays in {}",
            fs.mount_point, available, one.from
        ));
    }
    taken.push((fs.mount_point.clone(), Bytes(one.id.size)));
    None
}

fn step(one: &Leftover, group: u32) -> Step {
    let (from, to, id) = (one.from.clone(), one.to.clone(), one.id);
    let (op, why, guards) = match one.back {
        Back::Whole { over } => (
            Op::PutBack { from, to, id, over: Some(over) },
            "the whole log, of a rotation that broke off",
            vec![Guard::SameFile, Guard::NotInUse, Guard::Writable],
        ),
        Back::Access { before } => (
            Op::RestoreAccess { path: from, id, access: before },
            &*format!("changed for its time by run {}, which broke off", one.run),
            vec![Guard::SameFile, Guard::Writable],
        ),
        Back::Rename => (
            Op::PutBack { from, to, id, over: None },
            &*format!("set aside by run {} as {}; what that had removed of it is gone", one.run, one.from),
            vec![Guard::SameFile, Guard::NameFree, Guard::Writable],
        ),
        Back::Copy { was } => (
            Op::Evacuate { path: from, id, to, back: was },
            "moved there by an earlier run; copied back and compared before it is removed there",
            GUARDS.to_vec(),
        ),
        Back::Remove => (
            Op::RemoveFile { path: from, id },
            "a copy of a run that broke off; the file itself is where it was",
            vec![
                Guard::SameFile,
                Guard::NotProtected,
                Guard::NoMountsBelow,
                Guard::Writable,
                Guard::NotInUse,
            ],
        ),
    };
    Step {
        op,
        why: why.to_owned(),
        group,
        when: When::Always,
        guards,
        on_error: OnError::Continue,
        frees: Reclaim::Nothing,
        on: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::FileId;

    #[test]
    fn what_has_its_name_taken_is_refused_and_says_where_it_is() {
        let leftover = |from: &str, to: &str, back, hindered: Option<&str>| Leftover {
            run: "1-2-3".to_owned(),
            from: from.into(),
            to: to.into(),
            id: FileId::default(),
            back,
            hindered: hindered.map(str::to_owned),
        };
        let snapshot = Snapshot::pending(jiff::Timestamp::UNIX_EPOCH);
        let aside = leftover("/x/.unwedge-quarantine-1-2-3-0/item", "/x/a", Back::Rename, None);
        let hindered =
            leftover("/x/c", "/x/b", Back::Rename, Some("it is in /x/.unwedge-quarantine-1-2-3-0/item"));
        let plan = super::plan(&[aside.clone(), hindered], &snapshot);
        let shown: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
        assert_eq!(shown, ["give /x/a its name back, replacing nothing"]);
        assert!(plan.refused[0].why.contains(".unwedge-quarantine-1-2-3-0/item"));
        assert_eq!((plan.risk, plan.summary.as_str()), (Risk::Routine, "put /x/a back"));
        // What was moved twice is there once; a piece of a copy goes.
        let moved = leftover("/mnt/big", "/x/big", Back::Copy { was: None }, None);
        let piece = leftover("/mnt/.unwedge-evacuated-1-2-3-0", "/x/d", Back::Remove, None);
        let plan = super::plan(&[aside, moved.clone(), moved, piece], &snapshot);
        assert_eq!(plan.summary, "put 2 things back and remove 1 copy that broke off");
        let shown: Vec<String> = plan.steps.iter().skip(1).map(|step| step.op.words()).collect();
        assert!(shown[0].starts_with("move /mnt/big to /x/big:"), "{shown:?}");
        assert_eq!(shown[1], "delete /mnt/.unwedge-evacuated-1-2-3-0");
    }
}
