//! A lock of dpkg or apt that somebody has held for long.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::builds::HeldLock;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "package-lock",
    why: "Only one process at a time may change the packages. While its lock is held every other apt and dpkg fails \
          (\"Could not get lock\") or waits, builds and unattended upgrades among them. Deleting the lock file does not \
          help: it lets two of them write the same database, which is how it breaks.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(builds) = snapshot.builds.value() else { return Vec::new() };
    builds.locks.iter().filter_map(|lock| found(lock, settings.builds.lock_warn_secs)).collect()
}

fn found(lock: &HeldLock, least: u64) -> Option<Found> {
    // A holder that cannot be seen is in a container with this directory: nobody can say since when.
    let Some(holder) = &lock.holder else {
        return Some(Found {
            key: lock.path.to_string(),
            severity: Severity::Unknown,
            subject: Subject::Directory { path: lock.path.clone() },
            title: format!("{} is held by a process that cannot be seen", lock.path),
            evidence: vec![Evidence::new("its holder is in another pid namespace, or just ended", "/proc/locks")],
            reclaim: Reclaim::Nothing,
            actions: Vec::new(),
            advice: "Look again in a moment. If it stays, a container has this directory: lsns --type pid shows which."
                .to_owned(),
        });
    };
    if holder.age_secs < least && !holder.stopped {
        return None;
    }
    let pid = holder.process.pid;
    let stopped = if holder.stopped { ", and is stopped" } else { "" };
    Some(Found {
        key: lock.path.to_string(),
        severity: Severity::Warning,
        subject: Subject::Processes { processes: vec![holder.process] },
        title: format!("{} is held by pid {pid}{stopped}", lock.path),
        evidence: vec![Evidence::new(
            format!("pid {pid} ({}) holds it and has run for {} s{stopped}", holder.command, holder.age_secs),
            format!("/proc/locks, /proc/{pid}/stat"),
        )],
        reclaim: Reclaim::Nothing,
        actions: Vec::new(),
        advice: format!(
            "See what it does: ps --pid {pid} --forest -o pid,stat,etime,args; it may wait for an answer to a question of a \
             package. If it must end: kill {pid} (never -9), then dpkg --configure -a. Do not delete the lock file."
        ),
    })
}
