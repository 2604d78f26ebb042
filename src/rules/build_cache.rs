//! Build cache that can go.

use super::{Found, Rule, engines, worth_telling};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "build-cache",
    why: "BuildKit keeps the result of every build step until it is told to let go. Without a limit (builder.gc in \
          daemon.json) the cache of a build machine grows until the disk is full. Losing it costs the next builds the \
          time to do their steps again.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .map(|(kind, content)| (kind, content, content.reclaimable_cache()))
        .filter(|(.., sum)| worth_telling(*sum, settings))
        .map(|(kind, content, sum)| {
            let busy = content.cache.iter().filter(|record| record.in_use).count();
            Found {
                key: kind.name().to_owned(),
                severity: Severity::Warning,
                subject: Subject::Engine { engine: kind },
                title: format!("{} of build cache of {kind} that no build uses", sum.size),
                evidence: vec![Evidence::new(
                    format!(
                        "{} of {} records are neither in use ({busy} are) nor shared with an image",
                        sum.count,
                        content.cache.len()
                    ),
                    "docker system df --verbose: BuildCache",
                )],
                reclaim: Reclaim::exact(sum.size),
                actions: vec![ActionId::PruneConservative, ActionId::PruneStandard, ActionId::PruneEmergency],
                advice: "Keep what was used lately: docker builder prune --filter until=24h. All of it: docker builder \
                         prune --all. Not while a build runs."
                    .to_owned(),
            }
        })
        .collect()
}
