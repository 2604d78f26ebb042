//! Build processes whose build is gone.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{BuildProcess, Evidence, Snapshot, Verdict};

pub const RULE: Rule = Rule {
    id: "orphan-processes",
    why: "A build that was cut off (a closed session, a killed CI job) can leave its processes running. They \
          keep locks (dpkg, pip, uv, cargo), hold deleted files open and go on writing, so the next build \
          waits or fails for a reason that is nowhere in its own log.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let orphans: Vec<&BuildProcess> = snapshot
        .processes
        .value()
        .into_iter()
        .flatten()
        .filter(|process| process.verdict == Verdict::Orphan)
        .collect();
    if orphans.is_empty() {
        return Vec::new();
    }
    let memory: Bytes = orphans.iter().map(|process| process.memory).sum();
    let evidence = orphans
        .iter()
        .flat_map(|process| {
            let what = Evidence::new(
                format!("{}: {} (running for {} s)", process.id, process.command, process.age_secs),
                format!("/proc/{}/cmdline", process.id.pid),
            );
            std::iter::once(what).chain(process.evidence.iter().cloned())
        })
        .collect();
    vec![Found {
        key: String::new(),
        severity: Severity::Warning,
        subject: Subject::Processes { processes: orphans.iter().map(|process| process.id).collect() },
        title: format!(
            "{} without a build, {memory} of memory",
            counted(orphans.len(), "build process", "build processes")
        ),
        evidence,
        reclaim: Reclaim::Nothing,
        actions: vec![ActionId::EndProcess, ActionId::EndGroup],
        advice: "Look at what each one does before ending it; a lock it holds is free as soon as it is gone."
            .to_owned(),
    }]
}
