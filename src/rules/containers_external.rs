//! Containers on podman's store that podman does not manage.

use super::{Found, Rule, counted, engines};
use crate::config::Settings;
use crate::domain::engines::{Container, ContainerState};
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "containers-external",
    why: "A build of buildah or podman that was killed leaves its working container on the store. podman ps does not \
          show it, podman prune does not remove it, and the image below it cannot be removed because it is in use.",
    check,
};

/// How many are named.
const NAMED: usize = 10;

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .filter_map(|(kind, content)| {
            let external: Vec<&Container> =
                content.containers.iter().filter(|one| one.state == ContainerState::External).collect();
            (!external.is_empty()).then(|| Found {
                key: kind.name().to_owned(),
                severity: Severity::Warning,
                subject: Subject::Engine { engine: kind },
                title: format!(
                    "{} on the store of {kind} left by builds",
                    counted(external.len(), "external container", "external containers")
                ),
                evidence: external
                    .iter()
                    .take(NAMED)
                    .map(|one| {
                        Evidence::new(format!("{} from {}", one.shown(), one.image), format!("{kind} ps --all --external"))
                    })
                    .collect(),
                reclaim: Reclaim::Unknown,
                actions: vec![ActionId::PruneStandard, ActionId::PruneEmergency],
                advice: "Make sure that no build runs (a build in progress has one, too), then buildah rm NAME, or podman \
                         rm --force NAME."
                    .to_owned(),
            })
        })
        .collect()
}
