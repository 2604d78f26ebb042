//! Volumes that no container uses: told, and removed only one by one, named by a person.

use super::{Found, Rule, counted, engines, worth_telling};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "volumes-unused",
    why: "Volumes hold what containers were meant to keep: databases, uploads, caches. One without a container may be \
          left over, or be waiting for the next start of its service. This program removes one only where a person names it.",
    check,
};

/// How many of the largest are named.
const NAMED: usize = 10;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .map(|(kind, content)| (kind, content, content.unused_volumes()))
        .filter(|(.., sum)| sum.count > 0)
        .map(|(kind, content, sum)| {
            let mut unused: Vec<_> = content.volumes.iter().filter(|volume| volume.is_unused()).collect();
            unused.sort_by_key(|volume| std::cmp::Reverse(volume.size));
            Found {
                key: kind.name().to_owned(),
                // Small ones may be named too.
                severity: if worth_telling(sum, settings) { Severity::Warning } else { Severity::Info },
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
                actions: vec![ActionId::RemoveVolume],
                advice: format!(
                    "Look what is in them, and ask their owners; {kind} volume rm NAME removes one for good."
                ),
            }
        })
        .collect()
}
