//! A file system fills up so fast that it will be full soon.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::growth::{FsGrowth, GrowingFile, Growth, WritingProcess, about};
use crate::domain::reading::Millis;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "growing",
    why: "What is deleted now is soon filled again while something keeps writing. Whoever writes decides how long the \
          space lasts: a build ends by itself, a log in a loop or a runaway job does not.",
    check,
};

/// Writers, and files of one of them, that one finding names.
const NAMED: usize = 5;
const FILES: usize = 3;

/// Less time than this shows a burst, which may end at once: a warning where it would fill the disk within the hour, and
/// else only worth knowing.
const TREND: Millis = Millis(1000);

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(growth) = snapshot.growth.value() else { return Vec::new() };
    let Some(over) = growth.over else { return Vec::new() };
    let limits = &settings.growth;
    growth
        .filesystems
        .iter()
        .filter(|fs| fs.per_second.0 >= limits.min_per_second.as_u64().max(1))
        .filter_map(|fs| {
            let left = fs.full_in_secs?;
            let within = |hours: u32| left < u64::from(hours).saturating_mul(3600);
            let trend = over >= TREND;
            let severity = if within(limits.critical_hours) {
                if trend { Severity::Critical } else { Severity::Warning }
            } else if within(limits.warn_hours) {
                if trend { Severity::Warning } else { Severity::Info }
            } else {
                return None;
            };
            Some(found(fs, left, severity, over, growth))
        })
        .collect()
}

fn found(fs: &FsGrowth, left: u64, severity: Severity, over: Millis, growth: &Growth) -> Found {
    let grown = Bytes(u64::try_from(fs.change).unwrap_or(0));
    let mut evidence = vec![Evidence::new(
        format!("{grown} more in use after {over}; {} are available", fs.available),
        format!("statvfs({})", fs.mount_point),
    )];
    let mut named = 0;
    // Who is known to write here, then those of whom it is not known where they write.
    for (writer, files) in growth.writers.iter().map(|writer| (writer, files_on(writer, fs))) {
        if !files.is_empty() && named < NAMED {
            evidence.extend(files.into_iter().take(FILES).map(|file| growing_file(writer, file)));
            named += 1;
        }
    }
    for writer in growth.writers.iter().filter(|writer| writer.files.is_empty()) {
        if named < NAMED && !writer.per_second.is_zero() {
            let name = &writer.name;
            let text = format!(
                "{name} ({}) writes {}/s, to no file that was seen growing",
                writer.process, writer.per_second
            );
            evidence.push(Evidence::new(text, format!("/proc/{}/io", writer.process.pid)));
            named += 1;
        }
    }
    Found {
        key: fs.mount_point.to_string(),
        severity,
        subject: Subject::FileSystem { mount: fs.mount, mount_point: fs.mount_point.clone() },
        title: format!("{} grows by {}/s: full in {} at that rate", fs.mount_point, fs.per_second, about(left)),
        evidence,
        reclaim: Reclaim::Nothing,
        actions: Vec::new(),
        advice: "See whether it goes on: give --set growth.interval_ms=10000 for a longer look. Then stop or slow down \
                 who writes, with its own command, before anything is deleted."
            .to_owned(),
    }
}

fn files_on<'a>(writer: &'a WritingProcess, fs: &FsGrowth) -> Vec<&'a GrowingFile> {
    writer.files.iter().filter(|file| file.on.as_ref().is_none_or(|on| *on == fs.mount_point)).collect()
}

fn growing_file(writer: &WritingProcess, file: &GrowingFile) -> Evidence {
    Evidence::new(
        format!(
            "{} ({}) writes to {}, {} now, which grows by {}/s",
            writer.name, writer.process, file.path, file.size, file.per_second
        ),
        format!("/proc/{}/fd/{}", writer.process.pid, file.fd),
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::identity::{DevIno, Pid, ProcId};
    use crate::domain::reading::Reading;

    fn snapshot(over: u64, per_second: u64, left: u64) -> Snapshot {
        let mut snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let file = |on: &str| GrowingFile {
            key: DevIno::default(),
            path: format!("{on}/app.log").as_str().into(),
            on: Some(on.into()),
            fd: 7,
            size: Bytes(1 << 30),
            grown: Bytes(1 << 20),
            per_second: Bytes(5 << 20),
        };
        let writer = |pid, name: &str, files| WritingProcess {
            process: ProcId { pid: Pid(pid), start: 1 },
            name: name.into(),
            written: Bytes(1 << 20),
            per_second: Bytes(5 << 20),
            files,
        };
        snapshot.growth = Reading::ready(Growth {
            over: Some(Millis(over)),
            filesystems: vec![FsGrowth {
                mount_point: "/data".into(),
                mount: crate::domain::identity::MountId::default(),
                change: 1 << 20,
                per_second: Bytes(per_second),
                available: Bytes(per_second.saturating_mul(left)),
                full_in_secs: crate::domain::growth::lasts(
                    Bytes(per_second.saturating_mul(left)),
                    Bytes(per_second),
                ),
            }],
            writers: vec![
                writer(11, "elsewhere", vec![file("/other")]),
                writer(12, "appd", vec![file("/data")]),
                writer(13, "unseen", Vec::new()),
            ],
        });
        snapshot
    }

    fn severity(over: u64, per_second: u64, left: u64) -> Option<Severity> {
        check(&snapshot(over, per_second, left), &Settings::default()).first().map(|found| found.severity)
    }

    #[test]
    fn soon_full_is_a_warning_and_within_the_hour_critical_but_not_by_a_burst() {
        assert_eq!(severity(5000, 10 << 20, 25 * 3600), None);
        assert_eq!(severity(5000, 10 << 20, 23 * 3600), Some(Severity::Warning));
        assert_eq!(severity(5000, 10 << 20, 3599), Some(Severity::Critical));
        assert_eq!(severity(200, 10 << 20, 3599), Some(Severity::Warning));
        assert_eq!(severity(200, 10 << 20, 23 * 3600), Some(Severity::Info));
        assert_eq!(severity(5000, 1000, 3599), None, "a trickle");
        assert_eq!(severity(5000, 0, 0), None);
    }

    #[test]
    fn the_evidence_names_who_writes_here_and_who_may() {
        let found = check(&snapshot(5000, 10 << 20, 3599), &Settings::default()).remove(0);
        assert_eq!(found.title, "/data grows by 10.0 MiB/s: full in 59 min at that rate");
        let facts: Vec<&str> = found.evidence.iter().map(|evidence| evidence.fact.as_str()).collect();
        assert_eq!(
            facts[1..],
            [
                "appd (pid 12) writes to /data/app.log, 1.0 GiB now, which grows by 5.0 MiB/s",
                "unseen (pid 13) writes 5.0 MiB/s, to no file that was seen growing"
            ]
        );
        assert_eq!(found.evidence[1].source, "/proc/12/fd/7");
    }
}
