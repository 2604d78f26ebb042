//! Moves big files to another file system.

use super::{counted, file_name, filesystems, gives_back, space_check, typed_name};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::identity::FileKind;
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::room;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, FileSystem, Layer, Snapshot};
use crate::domain::text::HostPath;

pub(super) const GUARDS: [Guard; 5] =
    [Guard::SameFile, Guard::NotProtected, Guard::NoMountsBelow, Guard::Writable, Guard::NotInUse];

/// The file system that a path is on.
pub(super) fn fs_of<'s>(snapshot: &'s Snapshot, path: &HostPath) -> Option<&'s FileSystem> {
    room::holds(filesystems(snapshot), path)
}

/// Why this one is not moved.
fn refusal(
    one: &ChosenFile,
    room: Bytes,
    target: Option<&FileSystem>,
    snapshot: &Snapshot,
) -> Option<String> {
    if one.id.kind != FileKind::File {
        return Some("only regular files are moved".to_owned());
    }
    if one.layer == Layer::Lower {
        let why =
            "it is of a lower layer, such as a container's image, and stays in it; nothing would be gained";
        return Some(why.to_owned());
    }
    if one.id.links > 1 {
        return Some(format!("it has {} names (hard links), which would part", one.id.links));
    }
    if let Err(why) = snapshot.protect.check(one.id.key, &one.above) {
        return Some(why);
    }
    if let Some(why) = one.held.first() {
        return Some(why.clone());
    }
    if target.is_some_and(|fs| fs.dev == one.id.key.dev) {
        return Some("the target is on the same file system; nothing would be gained".to_owned());
    }
    (one.apparent > room).then(|| format!("there is no room for it at the target ({room} available)"))
}

/// Makes the plan: each file goes into the directory `to` under its own name.
pub fn plan(
    files: &[ChosenFile],
    (to, unfit): (&HostPath, Option<&str>),
    one_way: &[(HostPath, String)],
    snapshot: &Snapshot,
) -> Plan {
    let target = fs_of(snapshot, to);
    let usage = target.and_then(|fs| fs.usage.value());
    let mut room = usage.map_or(Bytes(u64::MAX), |usage| usage.available);
    let mut refused = Vec::new();
    let mut moved: Vec<(&ChosenFile, HostPath)> = Vec::new();
    for one in files {
        if moved.iter().any(|(other, _)| other.id.key == one.id.key) {
            continue;
        }
        let unfit = unfit.map(|why| format!("{to} cannot take it: {why}"));
        if let Some(why) = unfit.or_else(|| refusal(one, room, target, snapshot)) {
            refused.push(Refusal { what: one.path.to_string(), why });
            continue;
        }
        room = room.saturating_sub(one.apparent);
        let name = one.path.as_path().file_name().unwrap_or_default();
        moved.push((one, HostPath::from(to.as_path().join(name))));
    }
    let mut verify = Vec::new();
    for (one, _) in &moved {
        let check = space_check(snapshot, one.id.key.dev, Some(one.id.mount), &one.path);
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let total: Bytes = moved.iter().map(|(one, _)| one.allocated).sum();
    let names: Vec<&[u8]> = moved.iter().map(|(one, _)| file_name(&one.path)).collect();
    Plan {
        action: ActionId::Evacuate,
        summary: match moved.as_slice() {
            [] => "move nothing".to_owned(),
            [(one, _)] => format!("move {} to {to} ({total})", one.path),
            many => {
                let count = u64::try_from(many.len()).unwrap_or(u64::MAX);
                format!("move {} to {to} ({total})", counted(count, "file", "files"))
            }
        },
        // Nothing is lost, but who looks for it here finds nothing.
        risk: Risk::Disruptive,
        steps: moved.iter().zip(0u32..).map(|((one, to), group)| step(one, to, group)).collect(),
        refused,
        reclaim: moved.iter().fold(Reclaim::exact(Bytes::ZERO), |sum, (one, _)| sum.plus(comes_back(one))),
        unknown: Vec::new(),
        undo: way_back(&moved, one_way),
        verify,
        name: typed_name("move", &names),
        again: None,
    }
}

/// What is promised of taking it back: nothing that could not be kept.
fn way_back(moved: &[(&ChosenFile, HostPath)], one_way: &[(HostPath, String)]) -> Undo {
    let stay: Vec<&(HostPath, String)> =
        one_way.iter().filter(|(path, _)| moved.iter().any(|(one, _)| one.path == *path)).collect();
    let Some((first, why)) = stay.first() else {
        return Undo::Regenerates { how: "`unwedge undo` moves it back once there is room".to_owned() };
    };
    if stay.len() == moved.len() {
        return Undo::Impossible;
    }
    let more = match stay.len() {
        1 => String::new(),
        count => format!(" and {} more", count.saturating_sub(1)),
    };
    Undo::Regenerates {
        how: format!("`unwedge undo` moves it back once there is room, but not {first}{more}: {why}"),
    }
}

fn comes_back(one: &ChosenFile) -> Reclaim {
    gives_back(one.layer, one.allocated)
}

fn step(one: &ChosenFile, to: &HostPath, group: u32) -> Step {
    Step {
        op: Op::Evacuate { path: one.path.clone(), id: one.id, to: to.clone(), back: None },
        why: format!("{}, copied and compared before it is removed here", one.allocated),
        group,
        when: When::Always,
        guards: GUARDS.to_vec(),
        on_error: OnError::Continue,
        frees: comes_back(one),
        on: Some(one.id.key.dev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevIno, FileId, Inode};
    use jiff::Timestamp;

    fn chosen(path: &str, ino: u64, kind: FileKind, links: u32) -> ChosenFile {
        let key = DevIno { ino: Inode(ino), ..DevIno::default() };
        ChosenFile {
            path: path.into(),
            id: FileId { key, kind, links, ..FileId::default() },
            apparent: Bytes(10),
            allocated: Bytes(10),
            entries: 1,
            above: Vec::new(),
            held: Vec::new(),
            open_by: Vec::new(),
            layer: Layer::Own,
        }
    }

    #[test]
    fn files_go_under_their_own_names_and_others_are_refused() {
        let snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let files = [
            chosen("/a/big", 1, FileKind::File, 1),
            chosen("/a/big", 1, FileKind::File, 1),
            chosen("/a/dir", 2, FileKind::Directory, 2),
            chosen("/a/linked", 3, FileKind::File, 2),
        ];
        let to = HostPath::from("/mnt/other");
        // Nothing is promised of what could not come back.
        let stays = |path: &str| (HostPath::from(path), "it is Bob's".to_owned());
        let said = |one_way: &[_]| super::plan(&files, (&to, None), one_way, &snapshot).undo.to_string();
        assert!(said(&[stays("/elsewhere")]).contains("moves it back"));
        assert_eq!(said(&[stays("/a/big")]), "cannot be undone");
        let unfit = super::plan(&files, (&to, Some("it is on fire")), &[], &snapshot);
        assert!(unfit.is_empty() && unfit.refused[0].why.contains("on fire"));
        let plan = plan(&files, (&to, None), &[], &snapshot);
        let shown: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
        assert_eq!(shown.len(), 1);
        assert!(shown[0].starts_with("move /a/big to /mnt/other/big:"), "{shown:?}");
        assert_eq!(plan.refused.len(), 2);
        assert_eq!((plan.risk, plan.reclaim), (Risk::Disruptive, Reclaim::exact(Bytes(10))));
    }
}
