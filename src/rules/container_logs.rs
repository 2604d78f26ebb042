//! Containers whose log file is large.

use super::{Found, Rule, engines};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "container-log",
    why: "Engines write what a container prints into a file and, unless they are told to, never rotate it. One chatty \
          container fills the disk, and no prune touches its log while it exists.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let least = Bytes(settings.engines.log_warn_size.as_u64());
    engines(snapshot)
        .flat_map(|(kind, content)| content.containers.iter().map(move |container| (kind, container)))
        .filter_map(|(kind, container)| {
            let log = container.log.as_ref().filter(|log| log.allocated >= least && !log.allocated.is_zero())?;
            Some(Found {
                key: format!("{kind}:{}", container.shown()),
                severity: Severity::Warning,
                subject: Subject::Logs { paths: vec![log.path.clone()] },
                title: format!("the log of container {} takes {}", container.shown(), log.allocated),
                evidence: vec![Evidence::new(
                    format!("{} takes {}", log.path, log.allocated),
                    format!("lstat({})", log.path),
                )],
                reclaim: Reclaim::Range { low: Bytes::ZERO, high: log.allocated },
                actions: vec![ActionId::RotateLog],
                advice: format!(
                    "Give its space back without restarting it: truncate --size=0 {}. So that it does not come back, \
                     limit it: \"log-opts\": {{\"max-size\": \"100m\", \"max-file\": \"3\"}} in daemon.json, or \
                     --log-opt max-size=100m; that holds for containers made afterwards.",
                    log.path.quoted()
                ),
            })
        })
        .collect()
}
