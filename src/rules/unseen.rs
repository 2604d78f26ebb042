//! What could not be looked at. Not knowing is a finding too: a report must not say "all well" of what
//! nobody saw.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::reading::Reading;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "not-seen",
    why: "A part of the machine could not be looked at, so nobody can say that it is well. Most often the \
          cause is missing permission; a question without an answer points to a dead server or a dead disk.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let mut found = Vec::new();
    note(&mut found, "filesystems", "", &snapshot.filesystems);
    note(&mut found, "mounts", "", &snapshot.mounts);
    note(&mut found, "processes", "", &snapshot.processes);
    note(&mut found, "deleted", "", &snapshot.deleted);
    note(&mut found, "engines", "", &snapshot.engines);
    note(&mut found, "growth", "", &snapshot.growth);
    note(&mut found, "builds", "", &snapshot.builds);
    note(&mut found, "limits", "", &snapshot.limits);
    note(&mut found, "logs", "", &snapshot.logs);
    note(&mut found, "caches", "", &snapshot.caches);
    note(&mut found, "scanned", "", &snapshot.scanned);
    note(&mut found, "hidden", "", &snapshot.hidden);
    for fs in snapshot.filesystems.value().into_iter().flatten() {
        note(&mut found, "filesystem", &fs.mount_point.to_string(), &fs.usage);
    }
    for dir in &snapshot.temp_dirs {
        note(&mut found, "temp-dir", &dir.path.to_string(), &dir.census);
        note(&mut found, "temp-dir-test", &dir.path.to_string(), &dir.create_test);
    }
    found
}

fn note<T>(found: &mut Vec<Found>, name: &'static str, place: &str, reading: &Reading<T>) {
    // What is still being looked at is no finding yet.
    if matches!(reading, Reading::Pending) {
        return;
    }
    let gaps = reading.sentences();
    let Some(first) = gaps.first() else { return };
    let what = match name {
        "filesystems" => "the list of file systems",
        "mounts" => "mounts of all namespaces",
        "processes" => "build processes",
        "deleted" => "deleted files that are still open",
        "engines" => "container engines",
        "growth" => "who writes and what grows",
        "builds" => "builds and their locks",
        "limits" => "limits of the kernel and of users",
        "logs" => "logs",
        "caches" => "caches at their usual places",
        "scanned" => "caches in what was scanned",
        "hidden" => "data under mount points",
        "filesystem" => "the file system",
        "temp-dir" => "the entries of",
        _ => "creating directories in",
    };
    let what = if place.is_empty() { what.to_owned() } else { format!("{what} {place}") };
    // Of what was partly seen the title need not say more: the evidence does, and on a narrow screen it would
    // push out everything else.
    let title = match reading.value() {
        Some(_) => format!("{what}: only partly seen"),
        None => format!("{what}: not seen: {first}"),
    };
    found.push(Found {
        key: if place.is_empty() { name.to_owned() } else { format!("{name}:{place}") },
        severity: Severity::Unknown,
        subject: Subject::Probe { name },
        title,
        evidence: gaps.into_iter().map(|gap| Evidence::new(gap, format!("probe {name}"))).collect(),
        reclaim: Reclaim::Nothing,
        actions: Vec::new(),
        advice: "The evidence says what is missing and what would show it. For a file system that does not answer, look at its server or its FUSE process."
            .to_owned(),
    });
}
