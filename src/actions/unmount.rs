//! Unmounts leftover build mounts: plainly, then lazily, then the empty directory goes. Leaf first.

use super::{because, counted, file_name, typed_name};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::{MountTarget, Op};
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::snapshot::{BuildMount, Verdict};

/// Why it may be unmounted, or why not.
fn judge(mount: &BuildMount) -> Result<String, String> {
    let because = because(&mount.evidence);
    let along = along(mount);
    match mount.verdict {
        Verdict::Orphan => Ok(format!("left over: {because}{along}")),
        Verdict::Unknown => {
            Ok(format!("chosen by you, though nobody can say whether it is in use: {because}{along}"))
        }
        Verdict::InUse => Err(format!("it is in use: {because}; end the build first")),
        Verdict::Service => Err(format!("it belongs to a running service: {because}; stop that first")),
    }
}

/// What goes elsewhere as well.
fn along(mount: &BuildMount) -> String {
    let Some(first) = mount.copies.first() else { return String::new() };
    let place = if first.namespace == mount.namespace {
        format!("at {}", first.mount_point)
    } else {
        format!("at {} in mount namespace {}", first.mount_point, first.namespace.0)
    };
    match mount.copies.len() - 1 {
        0 => format!(". Its copy {place} goes along"),
        more => {
            let more = counted(u64::try_from(more).unwrap_or(u64::MAX), "other one", "other ones");
            format!(". Its copies {place} and {more} go along")
        }
    }
}

/// How many of the chosen mounts this one is mounted on, one on the other.
fn level(mount: &BuildMount, all: &[&BuildMount]) -> usize {
    let mut level = 0;
    let mut parent = mount.parent;
    while level <= all.len()
        && let Some(below) =
            all.iter().find(|other| other.namespace == mount.namespace && other.mount.id == parent)
        && below.mount != mount.mount
    {
        level += 1;
        parent = below.parent;
    }
    level
}

/// Makes the plan.
pub fn plan(mounts: &[BuildMount]) -> Plan {
    let mut refused = Vec::new();
    let mut accepted: Vec<(&BuildMount, String)> = Vec::new();
    for mount in mounts {
        let same = |(other, _): &(&BuildMount, String)| {
            other.namespace == mount.namespace && other.mount.same_mount(mount.mount)
        };
        match judge(mount) {
            Err(why) => refused.push(Refusal { what: mount.mount_point.to_string(), why }),
            Ok(_) if accepted.iter().any(same) => {}
            Ok(why) => accepted.push((mount, why)),
        }
    }
    let all: Vec<&BuildMount> = accepted.iter().map(|(mount, _)| *mount).collect();
    accepted.sort_by_key(|(mount, _)| {
        let depth = mount.mount_point.as_path().components().count();
        (std::cmp::Reverse((depth, level(mount, &all))), mount.mount_point.clone())
    });
    let steps = accepted
        .iter()
        .zip(0u32..)
        .flat_map(|((mount, why), group)| {
            let mut steps = steps(mount, why, group).to_vec();
            // What it is mounted on in another one is a directory of the layer behind that, and stays.
            if level(mount, &all) > 0 {
                steps.pop();
            }
            steps
        })
        .collect();
    let names: Vec<&[u8]> = accepted.iter().map(|(mount, _)| file_name(&mount.mount_point)).collect();
    Plan {
        action: ActionId::Unmount,
        summary: match accepted.as_slice() {
            [] => "unmount nothing".to_owned(),
            [(one, _)] => format!("unmount {}", one.mount_point),
            many => {
                let count = u64::try_from(many.len()).unwrap_or(u64::MAX);
                format!("unmount {}", counted(count, "build mount", "build mounts"))
            }
        },
        risk: Risk::Disruptive,
        steps,
        refused,
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Regenerates {
            how: "a build mounts what it needs again; nothing mounted is deleted".to_owned(),
        },
        verify: Vec::new(),
        name: typed_name("unmount", &names),
        again: None,
    }
}

fn steps(mount: &BuildMount, why: &str, group: u32) -> [Step; 3] {
    let target = MountTarget {
        mount: mount.mount,
        mount_point: mount.mount_point.clone(),
        root: mount.root.clone(),
        namespace: mount.namespace,
        via: mount.via,
    };
    let step = |op, why: &str, when, guards: &[Guard]| Step {
        op,
        why: why.to_owned(),
        group,
        when,
        guards: guards.to_vec(),
        on_error: OnError::Continue,
        frees: Reclaim::Nothing,
        on: None,
    };
    [
        step(Op::Unmount { target: target.clone(), lazy: false }, why, When::Always, &[Guard::TopMount]),
        step(
            Op::Unmount { target: target.clone(), lazy: true },
            "only if it is still mounted: detached now, here and in no other namespace; the kernel cleans it up when its last \
             user is gone",
            When::IfPreviousFailed,
            &[Guard::TopMount],
        ),
        step(
            Op::RemoveEmptyDir { target },
            "the empty directory it was mounted on; never its contents",
            When::IfPreviousWorked,
            &[Guard::NotProtected, Guard::NoMountsBelow],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevId, MountId, NamespaceId};
    use crate::domain::snapshot::{Evidence, MountCopy};

    fn mount(id: u32, parent: u32, point: &str, verdict: Verdict) -> BuildMount {
        BuildMount {
            mount: MountId { id, unique: None },
            parent,
            mount_point: point.into(),
            root: "/src".into(),
            fs_type: "ext4".into(),
            source: "/dev/vda".into(),
            dev: DevId::default(),
            namespace: NamespaceId(1),
            via: None,
            copies: Vec::new(),
            verdict,
            evidence: vec![Evidence::new("no build runs", "/proc")],
        }
    }

    #[test]
    fn leaves_come_first_and_the_top_of_a_stack_before_what_is_under_it() {
        let mounts = [
            mount(10, 1, "/tmp/buildkit-mount1", Verdict::Orphan),
            mount(11, 10, "/tmp/buildkit-mount1", Verdict::Unknown),
            mount(12, 11, "/tmp/buildkit-mount1/sub", Verdict::Orphan),
            mount(10, 1, "/tmp/buildkit-mount1", Verdict::Orphan),
        ];
        let plan = plan(&mounts);
        let order: Vec<u32> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.op {
                Op::Unmount { target, lazy: false } => Some(target.mount.id),
                _ => None,
            })
            .collect();
        assert_eq!(order, [12, 11, 10]);
        assert_eq!(plan.risk, Risk::Disruptive);
        assert_eq!(plan.name, "unmount 3");
    }

    #[test]
    fn what_goes_elsewhere_as_well_is_said() {
        let copy = |id: u32, namespace: u64| MountCopy {
            id,
            namespace: NamespaceId(namespace),
            mount_point: "/there/buildkit-mount1".into(),
        };
        let with = |copies: Vec<MountCopy>| {
            let mount = BuildMount { copies, ..mount(10, 1, "/tmp/buildkit-mount1", Verdict::Orphan) };
            plan(&[mount]).steps[0].why.clone()
        };
        assert!(!with(Vec::new()).contains("along"));
        let one = with(vec![copy(20, 2)]);
        assert!(one.ends_with("Its copy at /there/buildkit-mount1 in mount namespace 2 goes along"), "{one}");
        let two = with(vec![copy(11, 1), copy(20, 2)]);
        assert!(two.ends_with("Its copies at /there/buildkit-mount1 and 1 other one go along"), "{two}");
    }

    #[test]
    fn what_is_in_use_is_refused_with_its_evidence() {
        let plan = plan(&[mount(10, 1, "/a", Verdict::InUse), mount(11, 1, "/b", Verdict::Service)]);
        assert!(plan.is_empty());
        assert!(plan.refused.iter().all(|refusal| refusal.why.contains("no build runs")));
    }
}
