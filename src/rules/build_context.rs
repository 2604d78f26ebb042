//! A build that sends much to its engine.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::builds::{BuildContext, ContextReason};
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "build-context",
    why: "Everything in a build context that .dockerignore does not leave out may be copied to the engine and into its \
          build cache, again for each build in which one file differs. A forgotten .git, target or node_modules makes \
          every build slow and keeps several copies of it on the engine's disk.",
    check,
};

/// Files and directories named of each kind.
const NAMED: usize = 5;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(builds) = snapshot.builds.value() else { return Vec::new() };
    let least = Bytes(settings.builds.warn_context.as_u64());
    builds.contexts.iter().filter_map(|context| found(context, least)).collect()
}

fn found(build: &BuildContext, least: Bytes) -> Option<Found> {
    let sent = build.content.value().filter(|sent| sent.size >= least)?;
    let at_least = if matches!(build.content, Reading::Partial { .. }) { "at least " } else { "" };
    let rules = build.ignore_file.as_ref().map_or_else(
        || "no .dockerignore".to_owned(),
        |file| format!("what {file} leaves out is not counted"),
    );
    let mut evidence = vec![Evidence::new(
        format!("{at_least}{} in {} files would be sent; {rules}", sent.size, sent.files),
        format!("the files below {}", build.directory),
    )];
    if let ContextReason::Running { build: running } = &build.because {
        evidence.push(Evidence::new(
            format!("pid {} builds it now", running.pid),
            format!("/proc/{}/cmdline, /proc/{}/cwd", running.pid, running.pid),
        ));
    }
    let below = format!("lstat below {}", build.directory);
    for dir in sent.unwanted.iter().take(NAMED) {
        evidence.push(Evidence::new(format!("{} is in it with {}", dir.path, dir.size), below.clone()));
    }
    for file in sent.largest.iter().take(NAMED) {
        evidence.push(Evidence::new(format!("{} in {}", file.size, file.path), below.clone()));
    }
    for step in build.uncached.iter().take(NAMED) {
        let file = build.dockerfile.clone().unwrap_or_default();
        evidence.push(Evidence::new(
            format!("line {} runs {} without a cache mount ({})", step.line, step.manager, step.mount),
            file.to_string(),
        ));
    }
    let name = build
        .ignore_file
        .as_ref()
        .map_or_else(|| format!("{}/.dockerignore", build.directory), ToString::to_string);
    Some(Found {
        key: build.directory.to_string(),
        severity: Severity::Warning,
        subject: Subject::Directory { path: build.directory.clone() },
        title: format!("the build context {} has {at_least}{}", build.directory, sent.size),
        evidence,
        // Nothing is freed here; the next build needs less.
        reclaim: Reclaim::Nothing,
        actions: Vec::new(),
        advice: format!(
            "Name what the build does not need in {name}, one pattern a line (**/node_modules, .git, target). What older \
             builds left in the engine goes with: docker builder prune."
        ),
    })
}
