//! A directory with so many entries that creating one in it is slow, or fails.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::scanned::{CreateCost, CrowdedDir};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "crowded-dir",
    why: "Every create, rename and listing works on the whole directory or on its index. A directory with very many \
          entries makes each of these slow, fills its index until nothing can be created while the disk has room, and \
          on most file systems stays as large as it once was after the entries are gone.",
    check,
};

/// Creating is slow only where it takes at least this long, in microseconds: below that a factor is noise.
const SLOW_MICROS: u64 = 1_000;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(scanned) = snapshot.scanned.value() else { return Vec::new() };
    scanned
        .crowded
        .iter()
        // Directories for temporary files have rules of their own.
        .filter(|dir| !snapshot.temp_dirs.iter().any(|temp| temp.path == dir.path))
        .filter_map(|dir| found(dir, settings))
        .collect()
}

fn found(dir: &CrowdedDir, settings: &Settings) -> Option<Found> {
    let many = dir.entries >= settings.crowded.warn_entries;
    let (severity, what) = match dir.create.value() {
        Some(CreateCost::Fails { why }) => {
            (Severity::Critical, format!("nothing can be created in {}: {why}", dir.path))
        }
        Some(CreateCost::Works { here_micros, fresh_micros })
            if is_slow(*here_micros, *fresh_micros, settings) =>
        {
            (
                Severity::Warning,
                format!(
                    "creating an entry in {} takes {} times as long as in a fresh directory",
                    dir.path,
                    here_micros / (*fresh_micros).max(1)
                ),
            )
        }
        _ if many => (Severity::Warning, format!("{} holds {} entries directly", dir.path, dir.entries)),
        _ => return None,
    };
    let mut evidence = vec![Evidence::new(
        format!("{} entries directly in it, the directory itself takes {}", dir.entries, dir.directory_size),
        "the scan",
    )];
    match dir.create.value() {
        Some(CreateCost::Works { here_micros, fresh_micros }) => evidence.push(Evidence::new(
            format!("creating and removing a directory takes {here_micros} µs in it, {fresh_micros} µs in a fresh one"),
            format!("mkdirat and unlinkat in {}, best of 7", dir.path),
        )),
        Some(CreateCost::Fails { why }) => evidence.push(Evidence::new(
            format!("creating a directory failed: {why}"),
            format!("mkdirat in {}", dir.path),
        )),
        None => {
            let source = format!("mkdirat in {}", dir.path);
            evidence.extend(dir.create.sentences().into_iter().map(|gap| Evidence::new(gap, source.clone())));
        }
    }
    Some(Found {
        key: dir.path.to_string(),
        severity,
        subject: Subject::Directory { path: dir.path.clone() },
        title: what,
        evidence,
        reclaim: Reclaim::Unknown,
        actions: vec![ActionId::Sweep],
        advice: format!(
            "Look at what makes them: unwedge {}, then `M` puts the oldest first; mark with space, delete with `d`. Where \
             the directory stays large after that, only a new directory in its place helps (on ext4 also e2fsck -D on \
             the unmounted file system).",
            dir.path.quoted()
        ),
    })
}

fn is_slow(here: u64, fresh: u64, settings: &Settings) -> bool {
    here >= SLOW_MICROS && here >= fresh.saturating_mul(u64::from(settings.crowded.slow_factor))
}
