//! Data in a directory on which something is mounted: it takes space and nobody can see it.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::ledger::HiddenData;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "hidden-under-mount",
    why: "What was in a directory before something was mounted on it keeps its space, and no ls, du or backup sees it. \
          It comes about when a service writes while its disk is not mounted (a failed NFS or backup mount), and it \
          fills the file system below, where nobody looks.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let limit = settings.ledger.warn_hidden.as_u64();
    let hidden = snapshot.hidden.value().into_iter().flatten();
    hidden
        .filter(|one| one.allocated.0 >= limit && one.shown_at.is_none())
        .map(|one| found(snapshot, one))
        .collect()
}

fn found(snapshot: &Snapshot, one: &HiddenData) -> Found {
    let entries = counted(usize::try_from(one.entries).unwrap_or(usize::MAX), "entry", "entries");
    let least = if one.incomplete.is_some() { "at least " } else { "" };
    let file_systems = snapshot.filesystems.value().into_iter().flatten();
    let mount =
        file_systems.clone().find(|fs| fs.mount_point == one.on).map(|fs| fs.mount).unwrap_or_default();
    let mut evidence = vec![Evidence::new(
        format!(
            "{least}{} in {entries} lie on {} under {}, which {} covers",
            one.allocated, one.on, one.mount_point, one.covered_by
        ),
        format!("open_tree({}, OPEN_TREE_CLONE)", one.on),
    )];
    evidence.extend(
        one.incomplete.iter().map(|why| Evidence::new(format!("not counted to the end: {why}"), "scan")),
    );
    Found {
        key: one.mount_point.to_string(),
        severity: Severity::Warning,
        subject: Subject::FileSystem { mount, mount_point: one.on.clone() },
        title: format!("{least}{} hidden under the mount on {}", one.allocated, one.mount_point),
        evidence,
        reclaim: Reclaim::Range { low: crate::domain::size::Bytes::ZERO, high: one.allocated },
        actions: Vec::new(),
        advice: format!(
            "Look at it without unmounting anything, in a shell whose mounts end with it: sudo unshare --mount, then mount \
             --bind {} /mnt; it is below /mnt{}. Move or delete what nobody needs there, then exit.",
            one.on.quoted(),
            one.mount_point
        ),
    }
}
