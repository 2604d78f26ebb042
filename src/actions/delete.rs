//! Deletes files and directory trees.

use std::collections::BTreeMap;

use super::{counted, file_name, filesystems, gives_back, space_check, typed_name};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::identity::{DevIno, FileKind};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, Layer, Snapshot};

/// The guards of every removal.
const GUARDS: [Guard; 4] = [Guard::SameFile, Guard::NotProtected, Guard::NoMountsBelow, Guard::Writable];

/// The guards of one removal: a log, or what a build writes, grows while somebody reads the plan, which says who writes.
fn guards(one: &ChosenFile) -> Vec<Guard> {
    let grows = (one.id.kind == FileKind::File && !one.open_by.is_empty()).then_some(Guard::MayHaveGrown);
    GUARDS.into_iter().chain(grows).collect()
}

/// Why this one is not deleted.
fn refusal(chosen: &ChosenFile, snapshot: &Snapshot) -> Option<String> {
    if let Err(why) = snapshot.protect.check(chosen.id.key, &chosen.above) {
        return Some(why);
    }
    if let Some(first) = chosen.held.first() {
        let others = chosen.held.len() - 1;
        let more = if others == 0 { String::new() } else { format!(" ({others} more reasons like this)") };
        return Some(format!("{first}{more}"));
    }
    let read_only = |fs: &&crate::domain::snapshot::FileSystem| fs.read_only && fs.has_mount(chosen.id.mount);
    filesystems(snapshot)
        .iter()
        .find(read_only)
        .map(|fs| format!("the file system at {} is read-only", fs.mount_point))
}

/// Whether `inner` is in the chosen directory `outer`: by its path and by the identity of what is above it.
fn is_inside(inner: &ChosenFile, outer: &ChosenFile) -> bool {
    outer.id.kind == FileKind::Directory
        && inner.path != outer.path
        && inner.path.as_path().starts_with(outer.path.as_path())
        && inner.above.contains(&outer.id.key)
}

/// What it gives back: nothing for sure while somebody has it open, or if it keeps another name.
fn comes_back(one: &ChosenFile, is_last_name: bool) -> Reclaim {
    let layer = match one.layer {
        Layer::Own if is_last_name && one.open_by.is_empty() => Layer::Own,
        Layer::Own | Layer::Unknown => Layer::Unknown,
        Layer::Lower => Layer::Lower,
    };
    gives_back(layer, one.allocated)
}

/// What is to be said of its layer, as the end of a sentence; empty if it is of its own.
fn of_layer(one: &ChosenFile) -> &'static str {
    let is_tree = one.id.kind == FileKind::Directory;
    match one.layer {
        Layer::Own => "",
        Layer::Lower => {
            "; it is of a lower layer, such as a container's image: it only becomes hidden and gives back no space"
        }
        Layer::Unknown if is_tree => {
            "; what of it is of a lower layer, such as a container's image, only becomes hidden and gives back no space"
        }
        Layer::Unknown => {
            "; it may be of a lower layer, such as a container's image: then it only becomes hidden and gives back no space"
        }
    }
}

/// Who has it open, as the end of a sentence; empty where nobody has.
fn open_by(one: &ChosenFile) -> String {
    let Some(first) = one.open_by.first() else { return String::new() };
    let what = if one.id.kind == FileKind::Directory { "a file in it" } else { "it" };
    let more = match one.open_by.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; {first}{more} has {what} open: that space comes back when it is closed")
}

/// What deleting them gives back. A file with other names gives back nothing until the last one goes.
fn reclaim(chosen: &[&ChosenFile]) -> Reclaim {
    let mut linked: BTreeMap<DevIno, (u32, &ChosenFile)> = BTreeMap::new();
    let mut total = Reclaim::exact(Bytes::ZERO);
    for one in chosen {
        if one.id.kind == FileKind::Directory || one.id.links <= 1 {
            total = total.plus(comes_back(one, true));
        } else {
            linked.entry(one.id.key).or_insert((0, one)).0 += 1;
        }
    }
    for (names, one) in linked.into_values() {
        total = total.plus(comes_back(one, names >= one.id.links));
    }
    total
}

/// Makes the plan.
pub fn plan(chosen: &[ChosenFile], snapshot: &Snapshot) -> Plan {
    let mut refused = Vec::new();
    let mut accepted: Vec<&ChosenFile> = Vec::new();
    for one in chosen {
        match refusal(one, snapshot) {
            Some(why) => refused.push(Refusal { what: one.path.to_string(), why }),
            None if accepted.iter().any(|other| other.path == one.path) => {}
            None => accepted.push(one),
        }
    }
    let mut outer: Vec<&ChosenFile> =
        accepted.iter().copied().filter(|one| !accepted.iter().any(|other| is_inside(one, other))).collect();
    // The largest first: on a full disk the room it gives back helps what comes after (SAFETY.md T13).
    outer.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| a.path.cmp(&b.path)));
    let steps = outer.iter().zip(0u32..).map(|(one, group)| step(one, group)).collect();
    let mut verify = Vec::new();
    for one in &outer {
        let check = space_check(snapshot, one.id.key.dev, Some(one.id.mount), &one.path);
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let reclaim = reclaim(&outer);
    let names: Vec<&[u8]> = outer.iter().map(|one| file_name(&one.path)).collect();
    Plan {
        action: ActionId::Delete,
        summary: summary(&outer, reclaim),
        risk: Risk::Destructive,
        steps,
        refused,
        reclaim,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify,
        name: typed_name("delete", &names),
        again: None,
    }
}

fn summary(outer: &[&ChosenFile], reclaim: Reclaim) -> String {
    let entries: u64 = outer.iter().map(|one| one.entries).sum();
    match outer {
        [] => "delete nothing".to_owned(),
        [one] if one.id.kind != FileKind::Directory => format!("delete {} ({reclaim})", one.path),
        [one] => format!("delete {} ({reclaim} in {})", one.path, counted(entries, "entry", "entries")),
        many => {
            format!("delete {} items ({reclaim} in {})", many.len(), counted(entries, "entry", "entries"))
        }
    }
}

fn step(one: &ChosenFile, group: u32) -> Step {
    let (path, id) = (one.path.clone(), one.id);
    let frees = comes_back(one, id.kind == FileKind::Directory || id.links <= 1);
    let (op, why) = match id.kind {
        FileKind::Directory => (
            Op::RemoveTree { path, id, entries: one.entries },
            format!("{} in {}", one.allocated, counted(one.entries, "entry", "entries")),
        ),
        FileKind::File if id.links > 1 => (
            Op::RemoveFile { path, id },
            format!(
                "one of {} names of a file of {}; the space comes back with the last",
                id.links, one.allocated
            ),
        ),
        FileKind::File
        | FileKind::Symlink
        | FileKind::Device
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::Other => (Op::RemoveFile { path, id }, one.allocated.to_string()),
    };
    let why = format!("{why}{}{}", of_layer(one), open_by(one));
    Step {
        op,
        why,
        group,
        when: When::Always,
        guards: guards(one),
        on_error: OnError::Continue,
        frees,
        on: Some(id.key.dev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevId, FileId, Inode, MountId};
    use crate::domain::protect::{Protected, Reach};
    use crate::domain::reading::Reading;
    use crate::domain::snapshot::{FileSystem, FsClass};
    use jiff::Timestamp;

    fn key(ino: u64) -> DevIno {
        DevIno { dev: DevId { major: 8, minor: 1 }, ino: Inode(ino) }
    }

    fn chosen(path: &str, ino: u64, kind: FileKind, links: u32, above: &[u64]) -> ChosenFile {
        ChosenFile {
            path: path.into(),
            id: FileId {
                key: key(ino),
                kind,
                links,
                mount: MountId { id: 5, unique: None },
                ..FileId::default()
            },
            apparent: Bytes(100),
            allocated: Bytes(100),
            entries: 1,
            above: above.iter().map(|ino| key(*ino)).collect(),
            held: Vec::new(),
            open_by: Vec::new(),
            layer: Layer::Own,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot::pending(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_inside_another_chosen_directory_counts_once() {
        let dir = chosen("/a", 1, FileKind::Directory, 2, &[9]);
        let inside = chosen("/a/b", 2, FileKind::File, 1, &[1, 9]);
        let beside = chosen("/ab", 3, FileKind::File, 1, &[9]);
        let plan = plan(&[inside, dir.clone(), beside, dir], &snapshot());
        assert_eq!(plan.steps.len(), 2);
        assert_eq!(plan.reclaim, Reclaim::exact(Bytes(200)));
        assert_eq!(plan.name, "delete 2");
    }

    #[test]
    fn a_path_inside_by_name_only_is_kept() {
        let dir = chosen("/a", 1, FileKind::Directory, 2, &[9]);
        let other = chosen("/a/b", 2, FileKind::File, 1, &[7, 9]);
        assert_eq!(plan(&[dir, other], &snapshot()).steps.len(), 2);
    }

    #[test]
    fn a_file_with_another_name_promises_nothing_until_all_names_are_chosen() {
        let one = chosen("/a", 1, FileKind::File, 2, &[9]);
        let two = chosen("/b", 1, FileKind::File, 2, &[9]);
        let range = Reclaim::Range { low: Bytes::ZERO, high: Bytes(100) };
        assert_eq!(plan(std::slice::from_ref(&one), &snapshot()).reclaim, range);
        assert_eq!(plan(&[one, two], &snapshot()).reclaim, Reclaim::exact(Bytes(100)));
    }

    #[test]
    fn a_file_of_a_lower_layer_promises_nothing_and_says_why() {
        let of = |layer, links| ChosenFile { layer, ..chosen("/a", 1, FileKind::File, links, &[9]) };
        let range = Reclaim::Range { low: Bytes::ZERO, high: Bytes(100) };
        for (layer, links, promised, said) in [
            (Layer::Own, 1, Reclaim::exact(Bytes(100)), None),
            (Layer::Lower, 1, Reclaim::exact(Bytes::ZERO), Some("it is of a lower layer")),
            (Layer::Lower, 2, Reclaim::exact(Bytes::ZERO), Some("it is of a lower layer")),
            (Layer::Unknown, 1, range, Some("it may be of a lower layer")),
        ] {
            let plan = plan(&[of(layer, links)], &snapshot());
            assert_eq!((plan.reclaim, plan.steps[0].frees), (promised, promised), "{layer:?} {links}");
            let why = &plan.steps[0].why;
            assert!(said.map_or(!why.contains("layer"), |said| why.contains(said)), "{layer:?}: {why}");
        }
    }

    #[test]
    fn protected_mounted_and_read_only_things_are_refused_with_the_reason() {
        let mut snapshot = snapshot();
        let etc = Protected { path: "/etc".into(), reach: Reach::Everything, why: "system".to_owned() };
        snapshot.protect.protect(key(50), etc);
        snapshot.filesystems = Reading::ready(vec![FileSystem {
            mount_point: "/ro".into(),
            source: "x".into(),
            fs_type: "ext4".into(),
            mount: MountId { id: 6, unique: None },
            dev: DevId::default(),
            class: FsClass::Local,
            read_only: true,
            usage: Reading::Unavailable { why: String::new() },
            seen: crate::domain::snapshot::Seen::default(),
        }]);
        let inside = chosen("/etc/x", 2, FileKind::File, 1, &[50, 9]);
        let mut mounted = chosen("/m", 3, FileKind::Directory, 2, &[9]);
        mounted.held = vec!["something is mounted at /m/sub; unmount it first".to_owned()];
        let mut read_only = chosen("/ro/x", 4, FileKind::File, 1, &[9]);
        read_only.id.mount.id = 6;
        let below_refused = chosen("/m/y", 5, FileKind::File, 1, &[3, 9]);
        let plan = plan(&[inside, mounted, read_only, below_refused], &snapshot);
        let whys: Vec<&str> = plan.refused.iter().map(|refusal| refusal.why.as_str()).collect();
        assert!(
            whys[0].contains("inside /etc") && whys[1].contains("/m/sub") && whys[2].contains("read-only")
        );
        assert_eq!(plan.steps.len(), 1, "a file in a refused directory stands on its own");
        assert_eq!(plan.name, "y");
    }

    #[test]
    fn every_step_lists_what_the_hands_insist_on() {
        let plan = plan(
            &[chosen("/a", 1, FileKind::Directory, 2, &[9]), chosen("/b", 2, FileKind::Symlink, 1, &[9])],
            &snapshot(),
        );
        for step in &plan.steps {
            assert_eq!(step.guards, GUARDS);
        }
    }
}
