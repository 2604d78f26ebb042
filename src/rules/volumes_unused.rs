//! Volumes that no container uses: told, never removed.

use super::{Found, Rule, counted, engines, worth_telling};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "volumes-unused",
    why: "Volumes hold what containers were meant to keep: databases, uploads, caches. One without a container may be \
          left over, or be waiting for the next start of its service. This program never removes them unasked.",
    check,
};

/// How many of the largest are named.
const NAMED: usize = 10;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .map(|(kind, content)| (kind, content, content.unused_volumes()))
        .filter(|(.., sum)| worth_telling(*sum, settings))
        .map(|(kind, content, sum)| {
            let mut unused: Vec<_> =
                content.volumes.iter().filter(|volume| volume.used_by == Some(0)).collect();
            unused.sort_by_key(|volume| std::cmp::Reverse(volume.size));
            Found {
                key: kind.name().to_owned(),
                severity: Severity::Warning,
                subject: Subject::Engine { engine: kind },
                title: format!(
                    "{} in {} of {kind}",
                    sum.size,
                    counted(sum.count, "unused volume", "unused volumes")
                ),
                evidence: unused
                    .iter()
                    .take(NAMED)
                    .map(|volume| {
                        let size =
                            volume.size.map_or_else(|| "size not known".to_owned(), |size| size.to_string());
                        Evidence::new(
                            format!("{size} {}", volume.name),
                            format!("{kind} system df --verbose"),
                        )
                    })
                    .collect(),
                reclaim: Reclaim::Unknown,
                actions: Vec::new(),
                advice: format!(
                    "Look what is in them, and ask their owners; {kind} volume rm NAME removes one for good."
                ),
            }
        })
        .collect()
}
