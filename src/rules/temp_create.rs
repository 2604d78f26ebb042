//! A directory for temporary files in which nothing can be created.

use rustix::io::Errno;

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{CreateTest, Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "temp-create",
    why: "Compilers, linkers, package managers and shells create temporary directories all the time. Where \
          that fails, rustc says “couldn't create a temp dir”, bash cannot complete a word, and no build can \
          pass, whatever df says.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    snapshot
        .temp_dirs
        .iter()
        .filter_map(|dir| match dir.create_test.value()? {
            CreateTest::Works { .. } => None,
            CreateTest::Fails { why, errno } => Some(Found {
                key: dir.path.to_string(),
                severity: Severity::Critical,
                subject: Subject::TempDir { path: dir.path.clone() },
                title: format!("no directory can be created in {}: {why}", dir.path),
                evidence: vec![Evidence::new(
                    format!("creating and removing a directory failed: {why}"),
                    format!("mkdirat and unlinkat in {}", dir.path),
                )],
                reclaim: Reclaim::Unknown,
                actions: vec![ActionId::Sweep],
                advice: format!(
                    "{}, or build with TMPDIR set to a directory on another file system.",
                    if *errno == Errno::ROFS.raw_os_error() {
                        "See why its file system cannot be written (findmnt --target, dmesg --level err,warn)"
                            .to_owned()
                    } else {
                        format!("Free blocks or inodes there (unwedge {})", dir.path.quoted())
                    }
                ),
            }),
        })
        .collect()
}
