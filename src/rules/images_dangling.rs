//! Images without a name that nothing uses.

use super::{Found, Rule, counted, engines, worth_telling};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "images-dangling",
    why: "Building a name again takes the name from the old image and leaves it without one. Nothing can start from it \
          by name any more; it only takes space until somebody prunes.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    engines(snapshot)
        .map(|(kind, content)| (kind, content.dangling()))
        .filter(|(_, sum)| worth_telling(*sum, settings))
        .map(|(kind, sum)| Found {
            key: kind.name().to_owned(),
            severity: Severity::Warning,
            subject: Subject::Engine { engine: kind },
            title: format!(
                "{} in {} of {kind}",
                sum.size,
                counted(sum.count, "dangling image", "dangling images")
            ),
            evidence: vec![Evidence::new(
                format!("{} without a name and without a container", counted(sum.count, "image", "images")),
                format!("{kind} images"),
            )],
            // Layers that they share among each other count twice in the sum of sizes.
            reclaim: Reclaim::Range { low: crate::domain::size::Bytes::ZERO, high: sum.size },
            actions: vec![ActionId::PruneConservative, ActionId::PruneStandard, ActionId::PruneEmergency],
            advice: format!("Remove them: {kind} image prune"),
        })
        .collect()
}
