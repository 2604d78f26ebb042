//! A limit that looks like a full disk is nearly reached.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::limits::{Limit, LimitKind};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "limit",
    why: "Programs report “No space left on device”, “Disk quota exceeded” or “Too many open files” also when a limit \
          of the kernel, of a user or of a thin pool is reached, while df shows free space. Deleting files does not \
          help then.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let thresholds = &settings.limits;
    let counts = snapshot.limits.value().map(|limits| limits.counts.as_slice()).unwrap_or_default();
    counts
        .iter()
        .filter_map(|limit| {
            let share = limit.share().0;
            let severity = if share >= f64::from(thresholds.critical_percent) {
                Severity::Critical
            } else if share >= f64::from(thresholds.warn_percent) {
                Severity::Warning
            } else {
                return None;
            };
            Some(found(limit, severity))
        })
        .collect()
}

fn found(limit: &Limit, severity: Severity) -> Found {
    let of = if limit.of.is_empty() { String::new() } else { format!(" of {}", limit.of) };
    let key = if limit.of.is_empty() {
        limit.kind.name().to_owned()
    } else {
        format!("{}:{}", limit.kind.name(), limit.of)
    };
    let amounts = match limit.kind {
        LimitKind::QuotaSpace => format!("{} of {}", Bytes(limit.used), Bytes(limit.limit)),
        LimitKind::Mounts
        | LimitKind::InotifyWatches
        | LimitKind::InotifyInstances
        | LimitKind::MemoryCgroups
        | LimitKind::OpenFiles
        | LimitKind::Tasks
        | LimitKind::CgroupTasks
        | LimitKind::QuotaInodes
        | LimitKind::ThinPoolData
        | LimitKind::ThinPoolMetadata => format!("{} of {}", limit.used, limit.limit),
    };
    Found {
        key,
        severity,
        subject: Subject::Limit { limit: limit.kind, of: limit.of.clone() },
        // The figures first: the name of a cgroup is longer than any screen.
        title: format!("{} in use, {amounts}: {}{of}", limit.share(), limit.kind),
        evidence: vec![Evidence::new(format!("{amounts} in use"), limit.source.clone())],
        reclaim: Reclaim::Nothing,
        actions: Vec::new(),
        advice: advice(limit.kind).to_owned(),
    }
}

fn advice(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Mounts => {
            "See which mounts there are so many of: the leaked mounts above, or cut -d' ' -f5 /proc/self/mountinfo. \
             More for now: sysctl fs.mount-max=200000"
        }
        LimitKind::InotifyWatches => {
            "Close editors, language servers or watchers that are not needed. More for now: \
             sysctl fs.inotify.max_user_watches=1048576 (to keep it, a file in /etc/sysctl.d)"
        }
        LimitKind::InotifyInstances => {
            "Close watchers that are not needed. More for now: sysctl fs.inotify.max_user_instances=1024 (to keep it, \
             a file in /etc/sysctl.d)"
        }
        LimitKind::MemoryCgroups => {
            "Containers or services start and end so fast that their cgroups pile up: see what starts them \
             (systemd-cgtop, docker ps -a), and stop it. Dropping the caches lets the kernel free those that only wait \
             for their page cache."
        }
        LimitKind::OpenFiles => {
            "See who has so many: ls /proc/*/fd, then restart it. More for now: sysctl fs.file-max=2097152"
        }
        LimitKind::Tasks => {
            "See who starts so many: ps -eLf, then end it. More for now: sysctl kernel.pid_max=4194304"
        }
        LimitKind::CgroupTasks => {
            "See what runs in the cgroup (its cgroup.procs), end what is not needed, or raise its limit: \
             systemctl set-property UNIT TasksMax=…, for a container --pids-limit"
        }
        LimitKind::QuotaSpace | LimitKind::QuotaInodes => {
            "Delete files of that user or group on that file system, or raise the quota: edquota or setquota (xfs_quota \
             on XFS)"
        }
        LimitKind::ThinPoolData => {
            "Extend the pool before it is full: lvextend -L +10G VG/POOL. fstrim on the file systems in it gives back \
             what they have deleted."
        }
        LimitKind::ThinPoolMetadata => {
            "Extend the pool's metadata before it is full: lvextend --poolmetadatasize +1G VG/POOL"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::Limits;
    use crate::domain::reading::Reading;
    use crate::domain::text::HostText;

    #[test]
    fn only_what_is_nearly_used_up_is_found() {
        let limit = |kind, of: &str, used| Limit {
            kind,
            of: HostText::from(of),
            used,
            limit: 1000,
            source: "x".to_owned(),
        };
        let mut snapshot = Snapshot::pending(jiff::Timestamp::UNIX_EPOCH);
        snapshot.limits = Reading::ready(Limits {
            counts: vec![
                limit(LimitKind::Mounts, "", 950),
                limit(LimitKind::QuotaSpace, "user al on /home", 800),
                limit(LimitKind::Tasks, "", 799),
            ],
            read_only: Vec::new(),
        });
        let found = check(&snapshot, &Settings::default());
        let ids: Vec<(&str, Severity)> = found.iter().map(|found| (&*found.key, found.severity)).collect();
        assert_eq!(
            ids,
            [("mounts", Severity::Critical), ("quota-space:user al on /home", Severity::Warning)]
        );
        assert_eq!(found[1].title, "80% in use, 800 B of 1000 B: space by quota of user al on /home");
    }
}
