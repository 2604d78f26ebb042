//! Images with a name that no container is made from.

use super::{Found, Rule, counted, engines, worth_telling};
use crate::config::Settings;
use crate::domain::engines::Image;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "images-unused",
    why: "Images stay after the last container made from them is gone. On build machines each build leaves one, and \
          nothing removes them by itself. One that is needed again must be pulled or built again.",
    check,
};

/// How many of the largest are named.
const NAMED: usize = 5;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .map(|(kind, content)| (kind, content, content.unused()))
        .filter(|(.., sum)| worth_telling(*sum, settings))
        .map(|(kind, content, sum)| {
            let mut largest: Vec<&Image> = content.images.iter().filter(|image| image.is_unused()).collect();
            largest.sort_by_key(|image| std::cmp::Reverse(image.own_size()));
            let evidence = largest.iter().take(NAMED).map(|image| {
                let since = image
                    .created
                    .map_or_else(String::new, |made| format!(", made {}", made.strftime("%Y-%m-%d")));
                Evidence::new(
                    format!("{} {}{since}", image.own_size(), image.shown()),
                    format!("{kind} images"),
                )
            });
            Found {
                key: kind.name().to_owned(),
                severity: Severity::Warning,
                subject: Subject::Engine { engine: kind },
                title: format!(
                    "{} in {} of {kind} without a container",
                    sum.size,
                    counted(sum.count, "image", "images")
                ),
                evidence: evidence.collect(),
                reclaim: Reclaim::Range { low: Bytes::ZERO, high: sum.size },
                actions: vec![ActionId::PruneStandard, ActionId::PruneEmergency],
                advice: format!(
                    "Remove those that are older than a week: {kind} image prune --all --filter until=168h"
                ),
            }
        })
        .collect()
}
