//! Where the inodes are, on a file system that runs out of them.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::scanned::EntryHog;
use crate::domain::size::Percent;
use crate::domain::snapshot::{Evidence, Extent, Snapshot};

pub const RULE: Rule = Rule {
    id: "inode-hog",
    why: "A file system with a fixed number of inodes is full when they are gone, however many bytes are left: every \
          create fails with “No space left on device”. What helps is not what is large but what is many.",
    check,
};

/// Directories that a finding names.
const NAMED: usize = 8;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(scanned) = snapshot.scanned.value() else { return Vec::new() };
    let mut found = Vec::new();
    for fs in snapshot.filesystems.value().into_iter().flatten() {
        let Some(usage) = fs.usage.value() else { continue };
        let share = usage.inodes_share();
        if fs.read_only || usage.inodes == 0 || share.0 < f64::from(settings.filesystem.inode_warn_percent) {
            continue;
        }
        let hogs: Vec<&EntryHog> =
            scanned.most_entries.iter().filter(|hog| hog.mount_point == fs.mount_point).take(NAMED).collect();
        let Some(first) = hogs.first() else { continue };
        let mut evidence = vec![Evidence::new(
            format!("{} of {} inodes are in use ({share})", usage.inodes_used(), usage.inodes),
            format!("statvfs({})", fs.mount_point),
        )];
        // The figures are of the whole file system: a part cannot be held against them.
        let is_part = fs.seen.extent == Extent::Part;
        evidence.extend(hogs.iter().map(|hog| {
            let share = Percent::of(hog.inodes, usage.inodes_used());
            let share = if is_part { String::new() } else { format!(", {share} of those in use") };
            let fact =
                format!("{}: {} inodes with all below{share}, {}", hog.path, hog.inodes, hog.allocated);
            Evidence::new(fact, "the scan")
        }));
        let of_what = if is_part { "of what is seen of" } else { "of" };
        found.push(Found {
            key: fs.mount_point.to_string(),
            severity: Severity::Warning,
            subject: Subject::FileSystem { mount: fs.mount, mount_point: fs.mount_point.clone() },
            title: format!("most inodes {of_what} {} are in {}: {}", fs.mount_point, first.path, first.inodes),
            evidence,
            reclaim: Reclaim::Unknown,
            actions: Vec::new(),
            advice: format!(
                "Go down where the entries are: unwedge {}, then `C` sorts by number of entries; mark with space, \
                 delete with `d`.",
                first.path.quoted()
            ),
        });
    }
    found
}
