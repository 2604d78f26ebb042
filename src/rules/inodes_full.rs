//! A file system is running out of inodes.

use super::filesystem_full::full;
use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Subject};
use crate::domain::snapshot::{Evidence, Snapshot, Usage};

pub const RULE: Rule = Rule {
    id: "inodes-full",
    why: "Every file, directory and link takes one inode, and ext4 makes a fixed number of them. When they \
          are gone no file can be created, and programs report “No space left on device” although df shows \
          free space. The cause is many small files, not large ones.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let limits = &settings.filesystem;
    full(snapshot, Usage::inodes_share, limits.inode_warn_percent, limits.inode_critical_percent)
        .map(|(fs, usage, share, severity)| Found {
            key: fs.mount_point.to_string(),
            severity,
            subject: Subject::FileSystem { mount: fs.mount, mount_point: fs.mount_point.clone() },
            title: format!("{} has {share} of its inodes in use, {} left", fs.mount_point, usage.inodes_free),
            evidence: vec![Evidence::new(
                format!("{} of {} inodes used", usage.inodes_used(), usage.inodes),
                format!("statvfs({}): f_files, f_ffree", fs.mount_point),
            )],
            reclaim: Reclaim::Unknown,
            actions: Vec::new(),
            advice: format!(
                "See where the entries are: unwedge {}, then `C` sorts by number of entries.",
                fs.mount_point.quoted()
            ),
        })
        .collect()
}
