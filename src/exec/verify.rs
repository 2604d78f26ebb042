//! What the file systems say before and after, and what to make of a miss.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::domain::finding::{ActionId, Finding, Reclaim, Severity, Subject};
use crate::domain::op::{MountTarget, Op};
use crate::domain::plan::{Plan, Step, Verify};
use crate::domain::reading::Reading;
use crate::domain::receipt::{MountsDelta, SpaceDelta, SweepDelta};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{BuildMount, DeletedFile, Evidence, Holder};
use crate::domain::text::HostPath;
use crate::exec::Context;
use crate::probe::{self, deleted, mounts};
use crate::sys::child::Question;
use crate::sys::deadline;
use crate::sys::statvfs;

/// How long space may take to come back before it counts as missing: xfs and btrfs free in the background.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long btrfs may take to write its transaction.
const COMMIT: Duration = Duration::from_secs(10);
/// `BTRFS_SUPER_MAGIC` (linux/magic.h).
const BTRFS: u32 = 0x9123_683e;
/// Mounts that are told one by one.
const TOLD: usize = 5;

/// The figures before the first step.
pub fn before(plan: &Plan) -> Vec<SpaceDelta> {
    plan.verify
        .iter()
        .filter_map(|check| match check {
            Verify::Space { path } => Some(look(path.clone())),
            Verify::NoBuildMounts => None,
        })
        .collect()
}

/// The figures of a file system as they are now, before anything is done.
pub fn look(path: HostPath) -> SpaceDelta {
    SpaceDelta {
        before: statvfs::usage_near(path.as_path()),
        path,
        after: Reading::Unavailable { why: "not looked at yet".to_owned() },
    }
}

/// What was promised at the least.
fn promised(reclaim: Reclaim) -> Bytes {
    match reclaim {
        Reclaim::Exact { bytes } => bytes,
        Reclaim::Range { low, .. } => low,
        Reclaim::Unknown | Reclaim::Nothing => Bytes::ZERO,
    }
}

/// Fills in the figures after the last step. Waits a little while the space that was promised is not back
/// yet. `whole` tells that every step did its work, so that a miss means something.
pub fn after(space: &mut [SpaceDelta], reclaim: Reclaim, whole: bool, cancel: &AtomicBool) {
    let wanted = promised(reclaim);
    if whole && wanted > Bytes::ZERO && !cancel.load(Ordering::Relaxed) {
        for delta in space.iter() {
            commit(delta.path.as_path());
        }
    }
    let until = Instant::now() + PATIENCE;
    loop {
        for delta in space.iter_mut() {
            delta.after = statvfs::usage_near(delta.path.as_path());
        }
        let freed: Bytes = space.iter().map(SpaceDelta::freed).sum();
        if !whole || !is_miss(wanted, freed) || cancel.load(Ordering::Relaxed) || Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Has btrfs write its transaction: what was removed comes back with that, which would take half a minute else.
fn commit(path: &Path) {
    let is_btrfs =
        rustix::fs::statfs(path).is_ok_and(|seen| u32::try_from(seen.f_type).is_ok_and(|kind| kind == BTRFS));
    if is_btrfs && let Ok(path) = deadline::c_path(path) {
        // Where it does not end in time, the figures are those of before.
        let _ = deadline::ask(&Question::Flush { path }, COMMIT);
    }
}

/// Far below: less than half came back, and at least 1 MiB is missing (below that other writers and
/// metadata blur the figures).
fn is_miss(wanted: Bytes, freed: Bytes) -> bool {
    freed.0 < wanted.0 / 2 && wanted.saturating_sub(freed).0 >= 1 << 20
}

/// The finding for space that did not come back.
pub fn space_not_returned(
    context: &Context<'_>,
    space: &[SpaceDelta],
    reclaim: Reclaim,
    set_aside: &str,
) -> Option<Finding> {
    let wanted = promised(reclaim);
    let freed: Bytes = space.iter().map(SpaceDelta::freed).sum();
    if space.is_empty() || !is_miss(wanted, freed) {
        return None;
    }
    let open = still_open(context, set_aside.as_bytes());
    let mut evidence: Vec<Evidence> = space
        .iter()
        .filter_map(|delta| {
            let (before, after) = (delta.before.value()?, delta.after.value()?);
            let fact = format!("free space went from {} to {}", before.free, after.free);
            Some(Evidence::new(fact, format!("statvfs({})", delta.path)))
        })
        .collect();
    let held: Bytes = open.iter().map(|file| file.allocated).sum();
    let (title, advice) = match open.iter().find_map(|file| file.holders.first()) {
        Some(first) => (
            format!("space not returned: {held} still held open by {}", who(first)),
            "end or restart that process, or free the deleted files (they are listed as deleted but open)"
                .to_owned(),
        ),
        None => (
            format!("space not returned: {freed} came back, {wanted} was promised"),
            "look for snapshots of the file system, other writers, and reflinked or hard-linked copies"
                .to_owned(),
        ),
    };
    for file in &open {
        evidence.extend(file.holders.first().map(|holder| {
            let source = match holder.fd {
                Some(fd) => format!("/proc/{}/fd/{fd}", holder.process.pid),
                None => format!("/proc/{}/maps", holder.process.pid),
            };
            Evidence::new(format!("{} holds {} open", who(holder), file.allocated), source)
        }));
    }
    Some(Finding {
        id: "space-not-returned".to_owned(),
        rule: "space-not-returned",
        severity: Severity::Warning,
        subject: Subject::DeletedFiles { files: open.iter().map(|file| file.key).collect() },
        title,
        why: "The names are gone, but the file system still counts the space as used, so the disk is as full as before.",
        evidence,
        reclaim: if open.is_empty() { Reclaim::Unknown } else { Reclaim::exact(held) },
        actions: if open.is_empty() { Vec::new() } else { vec![ActionId::FreeDeleted] },
        advice,
    })
}

/// The finding for build mounts that are still there where none should be.
pub fn build_mounts_left(context: &Context<'_>, plan_says: &[Verify]) -> Option<Finding> {
    if !plan_says.contains(&Verify::NoBuildMounts) {
        return None;
    }
    let census = mounts::look(&context.probe());
    let left: Vec<&BuildMount> =
        census.value().map(|census| census.build_mounts.iter().collect()).unwrap_or_default();
    let gaps = census.sentences();
    if left.is_empty() && gaps.is_empty() {
        return None;
    }
    let evidence = left
        .iter()
        .take(TOLD)
        .map(|mount| {
            Evidence::new(
                format!("{} is mounted at {}", mount.root, mount.mount_point),
                format!("mountinfo, mount {}, namespace {}", mount.mount.id, mount.namespace.0),
            )
        })
        .chain(gaps.iter().map(|gap| Evidence::new(gap.clone(), "/proc/*/mountinfo")))
        .collect();
    Some(Finding {
        id: "build-mounts-left".to_owned(),
        rule: "build-mounts-left",
        severity: if left.is_empty() { Severity::Unknown } else { Severity::Warning },
        subject: Subject::BuildMounts { mounts: left.iter().map(|mount| mount.mount).collect() },
        title: match left.len() {
            0 => "nobody can say whether build mounts are left: not all could be looked at".to_owned(),
            1 => "1 build mount is still there".to_owned(),
            count => format!("{count} build mounts are still there"),
        },
        why: "The repair ends when none is left: as long as one is, builds may fail as before.",
        evidence,
        reclaim: Reclaim::Nothing,
        actions: if left.is_empty() { Vec::new() } else { vec![ActionId::Unmount] },
        advice: "See which process uses it (its evidence names one), end that, and repair again.".to_owned(),
    })
}

fn who(holder: &Holder) -> String {
    format!("{} (pid {})", holder.name, holder.process.pid)
}

/// Files of this run that are removed but open: their last path carries the name they were set aside under.
fn still_open(context: &Context<'_>, set_aside: &[u8]) -> Vec<DeletedFile> {
    let all = deleted::look(&context.probe()).value().cloned().unwrap_or_default();
    let of_this_run =
        |file: &DeletedFile| file.last_path.as_bytes().windows(set_aside.len()).any(|part| part == set_aside);
    all.into_iter().filter(of_this_run).collect()
}

/// The mounts that a plan unmounts, each once.
fn targets(plan: &Plan) -> Vec<&MountTarget> {
    let mut targets: Vec<&MountTarget> = Vec::new();
    for step in &plan.steps {
        if let Op::Unmount { target, lazy: false } = &step.op {
            targets.push(target);
        }
    }
    targets
}

/// Whether a plan unmounts anything.
pub fn unmounts(plan: &Plan) -> bool {
    !targets(plan).is_empty()
}

/// The mounts that a plan set out to unmount, and those of them that are still there.
pub fn unmounted(context: &Context<'_>, plan: &Plan) -> Option<MountsDelta> {
    let targets = targets(plan);
    if targets.is_empty() {
        return None;
    }
    let before = Reading::ready(targets.len() as u64);
    let after = mounts::look(&context.probe()).map(|census| {
        let is_there = |target: &&&MountTarget| {
            census
                .build_mounts
                .iter()
                .any(|one| one.namespace == target.namespace && one.mount.same_mount(target.mount))
        };
        targets.iter().filter(is_there).count() as u64
    });
    Some(MountsDelta { before, after })
}

/// What is left in the directories that steps swept.
pub fn swept(steps: &[Step]) -> Vec<SweepDelta> {
    let of = |step: &Step| {
        let Op::Sweep { path, sweep, .. } = &step.op else { return None };
        let (before, after) = probe::sweep::count(path, sweep);
        Some(SweepDelta { path: path.clone(), before, after })
    };
    steps.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_miss_counts() {
        assert!(is_miss(Bytes(100 << 20), Bytes(0)));
        assert!(!is_miss(Bytes(100 << 20), Bytes(60 << 20)));
        assert!(!is_miss(Bytes(1000), Bytes(0)));
    }
}
