//! BuildKit mounts that no build uses any more.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{BuildMount, Evidence, Snapshot, Verdict};

pub const RULE: Rule = Rule {
    id: "build-mounts",
    why: "BuildKit mounts the layers of a build step below …/buildkit-mount* and the root directory of one at \
          …/executor/ID/rootfs, and unmounts them when the step ends. A killed daemon or a full disk leaves them behind. \
          Each pins its layer, each new mount namespace copies all of them, and builds begin to fail with errors that name \
          something else. Many are bind mounts: removing files through one destroys the layer behind it.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(census) = snapshot.mounts.value() else { return Vec::new() };
    let leaked: Vec<&BuildMount> =
        census.build_mounts.iter().filter(|mount| mount.verdict == Verdict::Orphan).collect();
    // A mount that cannot be judged still counts towards "something is wrong here".
    let unsure = census.build_mounts.iter().filter(|mount| mount.verdict == Verdict::Unknown).count();
    if leaked.is_empty() && unsure == 0 {
        return Vec::new();
    }
    let limit = usize::try_from(settings.mounts.critical_above).unwrap_or(usize::MAX);
    let severity = if leaked.len() > limit {
        Severity::Critical
    } else if leaked.is_empty() {
        Severity::Unknown
    } else {
        Severity::Warning
    };
    let mut evidence: Vec<Evidence> = leaked
        .iter()
        .take(5)
        .flat_map(|mount| {
            let place = Evidence::new(
                format!("{} is mounted at {}", mount.root, mount.mount_point),
                format!("mountinfo, mount {}, namespace {}", mount.mount.id, mount.namespace.0),
            );
            std::iter::once(place).chain(mount.evidence.iter().take(1).cloned())
        })
        .collect();
    if leaked.len() > 5 {
        evidence.push(Evidence::new(format!("and {} more like these", leaked.len() - 5), "mountinfo"));
    }
    if unsure > 0 {
        evidence.push(Evidence::new(
            format!(
                "{} of which nobody can say whether a build uses them",
                counted(unsure, "mount", "mounts")
            ),
            "/proc/*/fdinfo, /proc/*/mountinfo",
        ));
    }
    let title = if leaked.is_empty() {
        format!("{} may be left over", counted(unsure, "build mount", "build mounts"))
    } else {
        format!("{} left over by dead builds", counted(leaked.len(), "build mount", "build mounts"))
    };
    vec![Found {
        key: String::new(),
        severity,
        subject: Subject::BuildMounts { mounts: leaked.iter().map(|mount| mount.mount).collect() },
        title,
        evidence,
        reclaim: if leaked.is_empty() { Reclaim::Nothing } else { Reclaim::Unknown },
        actions: if leaked.is_empty() { Vec::new() } else { vec![ActionId::Unmount, ActionId::RepairBuilds] },
        advice: "x unmounts them, deepest first, and removes the empty directories. Never delete them as directories: \
                 the files below are the layers themselves."
            .to_owned(),
    }]
}
