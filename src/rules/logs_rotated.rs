//! Rotated logs that are kept and take much space.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::logs::{LogDir, Rotated, removable};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "logs-rotated",
    why: "Rotation only renames a log: its space comes back when the old one is removed. Too many are kept, too long, \
          or uncompressed; nothing writes to them any more.",
    check,
};

/// Logs that are told one by one.
const TOLD: usize = 10;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(logs) = snapshot.logs.value() else { return Vec::new() };
    let size = logs.dirs.iter().fold(Bytes::ZERO, |sum, dir| sum + dir.rotated_size);
    if size.0 < settings.logs.warn_rotated.as_u64() || size.is_zero() {
        return Vec::new();
    }
    let mut groups: Vec<(&LogDir, &Rotated)> =
        logs.dirs.iter().flat_map(|dir| dir.rotated.iter().map(move |group| (dir, group))).collect();
    groups.sort_by(|(_, a), (_, b)| b.size.cmp(&a.size).then_with(|| a.live.cmp(&b.live)));
    groups.truncate(TOLD);
    let evidence = groups
        .iter()
        .map(|(dir, group)| {
            let files =
                counted(usize::try_from(group.files).unwrap_or(usize::MAX), "rotated file", "rotated files");
            Evidence::new(
                format!("{files} of {} take {}", group.live, group.size),
                format!("the files below {}", dir.path),
            )
        })
        .collect();
    let files = logs.dirs.iter().flat_map(|dir| &dir.rotated_files);
    let removable = removable(files, settings.logs.keep_rotated);
    let removable: Bytes = removable.iter().map(|file| file.allocated).sum();
    // Where something was not seen, a writer may have been.
    let reclaim = match &snapshot.logs {
        Reading::Ready { .. } if removable == size => Reclaim::exact(size),
        Reading::Ready { .. } => Reclaim::Range { low: removable, high: size },
        _ => Reclaim::Range { low: Bytes::ZERO, high: size },
    };
    let dirs: Vec<String> = logs.dirs.iter().map(|dir| dir.path.quoted()).collect();
    vec![Found {
        key: String::new(),
        severity: Severity::Warning,
        subject: Subject::Logs { paths: groups.iter().map(|(_, group)| group.live.clone()).collect() },
        title: format!("rotated logs take {size}"),
        evidence,
        reclaim,
        actions: if removable.is_zero() { Vec::new() } else { vec![ActionId::RemoveRotated] },
        advice: format!(
            "unwedge {} shows them: mark with space those that nobody needs, delete with `d`. Keep fewer: a lower \
             rotate, a maxage, and compress in /etc/logrotate.conf; logrotate --force /etc/logrotate.conf then removes \
             what is too much, of logs that it still rotates.",
            dirs.join(" ")
        ),
    }]
}
