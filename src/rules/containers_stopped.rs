//! Containers that do not run and still have their writable layers.

use super::{Found, Rule, counted, engines, worth_telling};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "containers-stopped",
    why: "A container that has ended keeps everything it wrote outside volumes, until it is removed. That may be \
          rubbish, and it may be the only copy of something: look before you remove.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .map(|(kind, content)| (kind, content.stopped()))
        .filter(|(_, sum)| worth_telling(*sum, settings))
        .map(|(kind, sum)| Found {
            key: kind.name().to_owned(),
            severity: Severity::Warning,
            subject: Subject::Engine { engine: kind },
            title: format!(
                "{} in {} of {kind}",
                sum.size,
                counted(sum.count, "stopped container", "stopped containers")
            ),
            evidence: vec![Evidence::new(
                format!(
                    "{} with writable layers of {}",
                    counted(sum.count, "container", "containers"),
                    sum.size
                ),
                format!("{kind} ps --all --size"),
            )],
            reclaim: Reclaim::exact(sum.size),
            actions: vec![ActionId::PruneStandard, ActionId::PruneEmergency],
            advice: format!(
                "Remove those that ended more than a day ago: {kind} container prune --filter until=24h"
            ),
        })
        .collect()
}
