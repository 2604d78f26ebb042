//! A directory for temporary files with too many entries.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "temp-entries",
    why: "Every temporary file that is created searches this one directory. With very many entries creating \
          gets slow and in the end impossible (the directory's index is full, or the inodes are gone), and \
          builds break while the disk is half empty.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    snapshot
        .temp_dirs
        .iter()
        .filter_map(|dir| {
            let census = dir.census.value()?;
            (census.entries >= settings.temp.warn_entries).then(|| Found {
                key: dir.path.to_string(),
                severity: Severity::Warning,
                subject: Subject::TempDir { path: dir.path.clone() },
                title: format!(
                    "{} holds {} entries, {} of them older than a day",
                    dir.path, census.entries, census.older_than_day
                ),
                evidence: vec![
                    Evidence::new(
                        format!("{} entries, {} older than a day", census.entries, census.older_than_day),
                        format!("getdents64 and statx in {}", dir.path),
                    ),
                    Evidence::new(
                        format!("the directory itself takes {}", census.directory_size),
                        format!("statx({}): stx_size", dir.path),
                    ),
                ],
                reclaim: Reclaim::Unknown,
                actions: vec![ActionId::Sweep],
                advice: format!(
                    "Look at what makes them: unwedge {}, then `M` puts the oldest first; mark with space, \
                     delete with `d`.",
                    dir.path.quoted()
                ),
            })
        })
        .collect()
}
