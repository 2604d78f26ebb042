//! Files that were deleted but still take space because a process keeps them open.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{DeletedFile, Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "deleted-open",
    why: "A deleted file keeps its space until the last process that has it open closes it. du and every tree \
          view cannot see it, so df says full while du says half. The usual cause is a large log that \
          somebody removed under a running service.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let files: Vec<&DeletedFile> = snapshot.deleted.value().into_iter().flatten().collect();
    let total: Bytes = files.iter().map(|file| file.allocated).sum();
    if files.is_empty() || total.0 < settings.deleted.warn_size.as_u64() {
        return Vec::new();
    }
    let mut largest = files.clone();
    largest.sort_by_key(|file| std::cmp::Reverse(file.allocated));
    let mut evidence: Vec<Evidence> = largest
        .iter()
        .take(5)
        .flat_map(|file| {
            file.holders.iter().take(1).map(|holder| {
                let source = match holder.fd {
                    Some(fd) => format!("/proc/{}/fd/{fd}", holder.process.pid),
                    None => format!("/proc/{}/map_files", holder.process.pid),
                };
                let others = file.holders.len() - 1;
                let and = if others == 0 { String::new() } else { format!(" and {others} more") };
                Evidence::new(
                    format!(
                        "{} of {} is kept by {} ({}){and}",
                        file.allocated, file.last_path, holder.name, holder.process
                    ),
                    source,
                )
            })
        })
        .collect();
    if files.len() > 5 {
        evidence.push(Evidence::new(format!("and {} smaller ones", files.len() - 5), "/proc/*/fd"));
    }
    vec![Found {
        key: String::new(),
        severity: Severity::Warning,
        subject: Subject::DeletedFiles { files: largest.iter().map(|file| file.key).collect() },
        title: format!("{total} in {} still open", counted(files.len(), "deleted file", "deleted files")),
        evidence,
        reclaim: Reclaim::exact(total),
        actions: vec![ActionId::FreeDeleted],
        advice:
            "Restarting or reloading the process gives the space back without losing anything; truncating \
                 through its descriptor gives it back at once."
                .to_owned(),
    }]
}
