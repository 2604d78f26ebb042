//! A file system is running out of blocks.

use std::iter;

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::room::{Room, rooms};
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::{Evidence, FileSystem, Snapshot, Usage};

pub const RULE: Rule = Rule {
    id: "filesystem-full",
    why: "When a file system has no free blocks, every write on it fails with “No space left on device”: \
          builds stop half-way, databases shut down, logs lose lines, and often nobody can log in to mend it. \
          Ext4 and XFS also get slower and fragment above about 90 %.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let limits = &settings.filesystem;
    full(snapshot, Usage::used_share, limits.warn_percent, limits.critical_percent)
        .map(|(fs, usage, share, severity)| {
            let mut evidence = vec![Evidence::new(
                format!(
                    "{} used, {} available of {} ({share} of what users can have)",
                    usage.used(),
                    usage.available,
                    usage.total
                ),
                format!("statvfs({})", fs.mount_point),
            )];
            if !usage.reserved().is_zero() {
                evidence.push(Evidence::new(
                    format!("{} more are free but reserved for root", usage.reserved()),
                    format!("statvfs({}): f_bfree - f_bavail", fs.mount_point),
                ));
            }
            let all = snapshot.filesystems.value().map_or(&[][..], Vec::as_slice);
            let rooms = rooms(all, &fs.mount_point, Bytes::ZERO, limits.warn_percent);
            Found {
                key: fs.mount_point.to_string(),
                severity,
                subject: Subject::FileSystem { mount: fs.mount, mount_point: fs.mount_point.clone() },
                title: format!("{} is {share} full, {} left", fs.mount_point, usage.available),
                evidence,
                reclaim: Reclaim::Unknown,
                actions: iter::once(ActionId::Delete)
                    .chain(rooms.first().map(|_| ActionId::Evacuate))
                    .collect(),
                advice: advice(fs, &rooms),
            }
        })
        .collect()
}

fn advice(fs: &FileSystem, rooms: &[Room]) -> String {
    let place = fs.mount_point.quoted();
    let see = format!(
        "See what fills it: unwedge {place} shows the largest files and directories first; `d` deletes."
    );
    match rooms.first() {
        None => see,
        Some(Room { mount_point, available }) => format!(
            "{see} Big files that must stay can move to {mount_point} ({available} available): `x` on the file."
        ),
    }
}

/// The file systems whose share of something is over a limit, with how bad that is. Read-only ones are
/// left out: images such as squashfs are always full, and nothing could be freed on them.
pub fn full(
    snapshot: &Snapshot,
    share: impl Fn(&Usage) -> Percent,
    warn: u8,
    critical: u8,
) -> impl Iterator<Item = (&FileSystem, &Usage, Percent, Severity)> {
    snapshot.filesystems.value().into_iter().flatten().filter(|fs| !fs.read_only).filter_map(move |fs| {
        let usage = fs.usage.value()?;
        let share = share(usage);
        let severity = if share.0 >= f64::from(critical) {
            Severity::Critical
        } else if share.0 >= f64::from(warn) {
            Severity::Warning
        } else {
            return None;
        };
        Some((fs, usage, share, severity))
    })
}
