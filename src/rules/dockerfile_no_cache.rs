//! A Dockerfile that downloads packages anew for each build. A hint, for which no nightly audit fails: it is found
//! only where a person asked for the directory; elsewhere the report tells it.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::builds::{BuildContext, ContextReason};
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "dockerfile-no-cache",
    why: "A RUN step that installs packages fetches all of them again whenever a line before it changed, and each time \
          leaves another copy in the build cache. With a cache mount the downloads stay in one place outside of the \
          image and are used again.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let Some(builds) = snapshot.builds.value() else { return Vec::new() };
    builds
        .contexts
        .iter()
        .filter(|context| context.because == ContextReason::Asked)
        .filter_map(found)
        .collect()
}

fn found(context: &BuildContext) -> Option<Found> {
    let file = context.dockerfile.as_ref()?;
    let first = context.uncached.first()?;
    let steps = counted(context.uncached.len(), "step fetches", "steps fetch");
    Some(Found {
        key: file.to_string(),
        severity: Severity::Info,
        subject: Subject::Directory { path: context.directory.clone() },
        title: format!("{steps} packages without a cache mount in {file}"),
        evidence: context
            .uncached
            .iter()
            .map(|step| {
                Evidence::new(
                    format!("{}: {}", step.manager, step.step),
                    format!("{file}, line {}", step.line),
                )
            })
            .collect(),
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice: format!(
            "Give the step the flag, for line {}: RUN {} … (needs BuildKit; podman takes it too). For apt also remove \
             /etc/apt/apt.conf.d/docker-clean in the image, or it empties its cache.",
            first.line, first.mount
        ),
    })
}
