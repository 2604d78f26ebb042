//! Which file systems the top of the screen shows, and in which order.

use super::model::Model;
use super::theme::{self, Role};
use crate::domain::snapshot::FileSystem;

/// What worries most comes first: full ones, then those that do not answer, then the one that is scanned, then
/// the rest by how full they are. Read-only ones are always full and come last. The kernel's and the system's own, on
/// which nobody keeps anything, are shown where something is wrong with them only.
pub fn ranked(model: &Model) -> Vec<&FileSystem> {
    let mut all: Vec<&FileSystem> = model.snapshot.filesystems.value().into_iter().flatten().collect();
    let scanned = model.file_system_of_tree().map(|fs| fs.mount);
    let matters =
        |fs: &&FileSystem| !is_systems_own(fs) || worry(model, fs) < AT_EASE || Some(fs.mount) == scanned;
    if all.iter().any(matters) {
        all.retain(matters);
    }
    let rank = |fs: &FileSystem| (worry(model, fs), Some(fs.mount) != scanned);
    all.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| fullest(b).total_cmp(&fullest(a))));
    all
}

/// Whether it is mounted where only the kernel and the system put things (hier(7)), or is an image that cannot be written.
fn is_systems_own(fs: &FileSystem) -> bool {
    let place = fs.mount_point.as_path();
    ["/dev", "/proc", "/run", "/sys"].iter().any(|top| place.starts_with(top))
        || fs.fs_type.as_bytes() == b"squashfs"
}

fn fullest(fs: &FileSystem) -> f64 {
    fs.usage.value().map_or(0.0, |usage| usage.used_share().0.max(usage.inodes_share().0))
}

/// From here on nothing is wrong.
const AT_EASE: u8 = 3;

fn worry(model: &Model, fs: &FileSystem) -> u8 {
    let limits = model.snapshot.limits.value();
    if limits.is_some_and(|limits| limits.read_only.iter().any(|one| one.mount_point == fs.mount_point)) {
        return 0;
    }
    if fs.read_only {
        return 4;
    }
    let Some(usage) = fs.usage.value() else { return 2 };
    let roles = [
        theme::blocks(usage.used_share(), &model.settings),
        theme::inodes(usage.inodes_share(), &model.settings),
    ];
    if roles.contains(&Role::Critical) {
        0
    } else if roles.contains(&Role::Warning) {
        1
    } else {
        AT_EASE
    }
}
