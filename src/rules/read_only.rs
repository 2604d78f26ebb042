//! A file system went read-only.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::snapshot::Snapshot;

pub const RULE: Rule = Rule {
    id: "read-only",
    why: "After an error of the disk the kernel goes on read-only, so that nothing gets worse. Everything that writes \
          there fails, and freeing space is neither possible nor the remedy.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let read_only = snapshot.limits.value().map(|limits| limits.read_only.as_slice()).unwrap_or_default();
    read_only
        .iter()
        .map(|fs| Found {
            key: fs.mount_point.to_string(),
            severity: Severity::Critical,
            subject: Subject::FileSystem { mount: fs.mount, mount_point: fs.mount_point.clone() },
            title: format!("{} is read-only and should not be", fs.mount_point),
            evidence: fs.evidence.clone(),
            reclaim: Reclaim::Nothing,
            actions: Vec::new(),
            advice: format!(
                "Look for the error first: dmesg --level err,warn. Save what matters, check the file system while it is \
                 not mounted (fsck), then mount -o remount,rw {}. All actions of this program are refused there.",
                fs.mount_point.quoted()
            ),
        })
        .collect()
}
