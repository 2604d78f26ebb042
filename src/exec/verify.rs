//! What the file systems say before and after, and what to make of a miss.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::domain::finding::{ActionId, Finding, Reclaim, Severity, Subject};
use crate::domain::identity::DevIno;
use crate::domain::plan::{Plan, Verify};
use crate::domain::reading::Reading;
use crate::domain::receipt::SpaceDelta;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Usage};
use crate::domain::text::HostPath;
use crate::exec::procinfo;

/// How long space may take to come back before it counts as missing: xfs and btrfs free in the background.
const PATIENCE: Duration = Duration::from_secs(2);

/// The figures of the file system a path is on, in bytes (statvfs(3), `f_frsize` units).
pub fn usage(path: &HostPath) -> Reading<Usage> {
    // The path may be one of those that are removed; any directory above it is as good.
    let mut here = path.as_path();
    loop {
        match rustix::fs::statvfs(here) {
            Ok(figures) => {
                let bytes = |blocks: u64| Bytes(blocks.saturating_mul(figures.f_frsize));
                return Reading::ready(Usage {
                    total: bytes(figures.f_blocks),
                    free: bytes(figures.f_bfree),
                    available: bytes(figures.f_bavail),
                    inodes: figures.f_files,
                    inodes_free: figures.f_ffree,
                });
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::NOENT) => match here.parent() {
                Some(above) => here = above,
                None => return Reading::Unavailable { why: format!("{path} is not there") },
            },
            Err(errno) => {
                return Reading::Unavailable {
                    why: format!("the file system of {path} did not answer: {errno}"),
                };
            }
        }
    }
}

/// The figures before the first step.
pub fn before(plan: &Plan) -> Vec<SpaceDelta> {
    plan.verify
        .iter()
        .map(|check| match check {
            Verify::Space { path } => SpaceDelta {
                path: path.clone(),
                before: usage(path),
                after: Reading::Unavailable { why: "not looked at yet".to_owned() },
            },
        })
        .collect()
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
    let deadline = Instant::now() + PATIENCE;
    loop {
        for delta in space.iter_mut() {
            delta.after = usage(&delta.path);
        }
        let freed: Bytes = space.iter().map(SpaceDelta::freed).sum();
        if !whole || !is_miss(wanted, freed) || cancel.load(Ordering::Relaxed) || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Far below: less than half came back, and at least 1 MiB is missing (below that other writers and
/// metadata blur the figures).
fn is_miss(wanted: Bytes, freed: Bytes) -> bool {
    freed.0 < wanted.0 / 2 && wanted.saturating_sub(freed).0 >= 1 << 20
}

/// The finding for space that did not come back.
pub fn space_not_returned(
    proc_root: &Path,
    space: &[SpaceDelta],
    reclaim: Reclaim,
    set_aside: &str,
) -> Option<Finding> {
    let wanted = promised(reclaim);
    let freed: Bytes = space.iter().map(SpaceDelta::freed).sum();
    if space.is_empty() || !is_miss(wanted, freed) {
        return None;
    }
    let open = still_open(proc_root, set_aside.as_bytes());
    let mut evidence: Vec<Evidence> = space
        .iter()
        .filter_map(|delta| {
            let (before, after) = (delta.before.value()?, delta.after.value()?);
            let fact = format!("free space went from {} to {}", before.free, after.free);
            Some(Evidence::new(fact, format!("statvfs({})", delta.path)))
        })
        .collect();
    let held: Bytes = open.values().map(|file| file.allocated).sum();
    let (title, advice) = match open.values().next() {
        Some(first) => (
            format!("space not returned: {held} still held open by {}", first.holder),
            "end or restart that process, or free the deleted files (they are listed as deleted but open)"
                .to_owned(),
        ),
        None => (
            format!("space not returned: {freed} came back, {wanted} was promised"),
            "look for snapshots of the file system, other writers, and reflinked or hard-linked copies"
                .to_owned(),
        ),
    };
    evidence.extend(open.values().map(|file| {
        Evidence::new(format!("{} holds {} open", file.holder, file.allocated), file.source.clone())
    }));
    Some(Finding {
        id: "space-not-returned".to_owned(),
        rule: "space-not-returned",
        severity: Severity::Warning,
        subject: Subject::DeletedFiles { files: open.keys().copied().collect() },
        title,
        why: "The names are gone, but the file system still counts the space as used, so the disk is as full as before.",
        evidence,
        reclaim: if open.is_empty() { Reclaim::Unknown } else { Reclaim::exact(held) },
        actions: if open.is_empty() { Vec::new() } else { vec![ActionId::FreeDeleted] },
        advice,
    })
}

struct Open {
    holder: String,
    source: String,
    allocated: Bytes,
}

/// Files of this run that are removed but open: their last path carries the name they were set aside under.
fn still_open(proc_root: &Path, set_aside: &[u8]) -> BTreeMap<DevIno, Open> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    let mut found = BTreeMap::new();
    for pid in procinfo::all(proc_root).unwrap_or_default() {
        let Ok(descriptors) = std::fs::read_dir(procinfo::dir(proc_root, pid).join("fd")) else { continue };
        for entry in descriptors.flatten() {
            let Ok(link) = std::fs::read_link(entry.path()) else { continue };
            let bytes = link.as_os_str().as_bytes();
            if !bytes.ends_with(b" (deleted)")
                || !bytes.windows(set_aside.len()).any(|part| part == set_aside)
            {
                continue;
            }
            let Ok(meta) = std::fs::metadata(entry.path()) else { continue };
            if !meta.is_file() || meta.nlink() != 0 {
                continue;
            }
            found.entry(procinfo::key_of(&meta)).or_insert_with(|| Open {
                holder: format!("pid {pid}"),
                source: HostPath::from(entry.path()).to_string(),
                // st_blocks counts 512-byte units on Linux (stat(2)).
                allocated: Bytes(meta.blocks().saturating_mul(512)),
            });
        }
    }
    found
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

    #[test]
    fn a_path_that_is_gone_is_measured_through_the_directory_above() {
        assert!(usage(&"/proc/absent/deeper".into()).value().is_some());
    }
}
