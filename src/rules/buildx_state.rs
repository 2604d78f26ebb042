//! What buildx wrote of its builders keeps it from working.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "buildx-state",
    why: "Before each build buildx writes down in ~/.docker/buildx/activity that the builder was used. A file there that \
          belongs to somebody else (sudo docker build leaves one), or one that was left half written by a full disk, \
          fails builds with `failed to update builder last activity time`, which names neither.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let Some(builds) = snapshot.builds.value() else { return Vec::new() };
    let broken = builds.buildx.iter().filter(|state| state.foreign > 0 || state.half_written > 0);
    broken
        .map(|state| {
            let number = |count: u64| {
                counted(usize::try_from(count).unwrap_or(usize::MAX), "file", "files")
            };
            let mut evidence = Vec::new();
            if state.foreign > 0 {
                let fact = format!("{} in it do not belong to the owner of the home directory", number(state.foreign));
                evidence.push(Evidence::new(fact, format!("lstat of {}/activity", state.path)));
            }
            if state.half_written > 0 {
                let fact = format!("{} in it were left half written (.tmp-*)", number(state.half_written));
                evidence.push(Evidence::new(fact, format!("{}/activity", state.path)));
            }
            Found {
                key: state.path.to_string(),
                severity: Severity::Warning,
                subject: Subject::Directory { path: state.path.clone() },
                title: format!("buildx may not be able to write its state in {}", state.path),
                evidence,
                reclaim: Reclaim::Nothing,
                actions: vec![ActionId::RepairBuilds],
                advice: format!(
                    "Not while a build runs: remove {}/activity (buildx writes it anew). Files of root: sudo rm -r with \
                     that path, and no sudo before docker build from then on.",
                    state.path
                ),
            }
        })
        .collect()
}
