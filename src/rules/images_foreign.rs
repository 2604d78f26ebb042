//! Images that are not from where this machine's images should be from.

use super::{Found, Rule, counted, engines};
use crate::config::Settings;
use crate::domain::engines::has_prefix;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "images-foreign",
    why: "This machine is set up for images of one registry (engines.image_prefix). Others were pulled by hand or by a \
          build that names them directly: nobody updates them and nobody cleans them up.",
    check,
};

/// How many are named.
const NAMED: usize = 10;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let prefix = settings.engines.image_prefix.as_str();
    if prefix.is_empty() {
        return Vec::new();
    }
    engines(snapshot)
        .filter_map(|(kind, content)| {
            let names: Vec<_> = content
                .images
                .iter()
                .flat_map(|image| &image.names)
                .filter(|name| !has_prefix(name, prefix))
                .collect();
            (!names.is_empty()).then(|| Found {
                key: kind.name().to_owned(),
                severity: Severity::Warning,
                subject: Subject::Engine { engine: kind },
                title: format!(
                    "{} of {kind} not from {}",
                    counted(names.len(), "image name", "image names"),
                    settings.engines.image_prefix
                ),
                evidence: names
                    .iter()
                    .take(NAMED)
                    .map(|name| Evidence::new(name.to_string(), format!("{kind} images")))
                    .collect(),
                reclaim: Reclaim::Unknown,
                actions: Vec::new(),
                advice: format!(
                    "Ask who needs them; {kind} rmi NAME removes a name, and the image with its last name."
                ),
            })
        })
        .collect()
}
