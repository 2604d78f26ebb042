//! A log that grew without end, with who writes it and why nothing rotates it.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::logs::{LogFile, Logs};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "log-giant",
    why: "A log that nothing rotates grows until the disk is full, often fast, because a program that fails logs that \
          it fails. Removing it gives nothing back while its program keeps it open.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(logs) = snapshot.logs.value() else { return Vec::new() };
    let least = Bytes(settings.logs.warn_file.as_u64());
    let all = logs.dirs.iter().flat_map(|dir| &dir.largest);
    all.filter(|log| log.allocated >= least && !log.allocated.is_zero())
        .map(|log| Found {
            key: log.path.to_string(),
            severity: Severity::Warning,
            subject: Subject::Logs { paths: vec![log.path.clone()] },
            title: format!("{} takes {}", log.path, log.allocated),
            evidence: evidence(log, logs, snapshot, settings.logs.logrotate_days),
            reclaim: Reclaim::Range { low: Bytes::ZERO, high: log.allocated },
            actions: vec![ActionId::RotateLog],
            advice: advice(log, logs),
        })
        .collect()
}

fn evidence(log: &LogFile, logs: &Logs, snapshot: &Snapshot, days: u32) -> Vec<Evidence> {
    let last =
        log.modified.map(|time| format!(", last written to at {}", time.strftime("%Y-%m-%d %H:%M UTC")));
    let mut evidence = vec![Evidence::new(
        format!("it takes {} ({} apparent){}", log.allocated, log.apparent, last.unwrap_or_default()),
        format!("lstat({})", log.path),
    )];
    for writer in &log.writers {
        let how = if writer.appends { "appends to it" } else { "writes to it without O_APPEND" };
        let pid = writer.process.pid;
        evidence.push(Evidence::new(
            format!("{} (pid {pid}) {how}", writer.name),
            format!("/proc/{pid}/fdinfo/{}", writer.fd),
        ));
    }
    if log.writers.is_empty() {
        evidence.push(Evidence::new("no process that can be seen has it open for writing", "/proc/*/fd"));
    }
    let Some(logrotate) = &logs.logrotate else {
        evidence.push(Evidence::new("logrotate has no configuration here", "stat(/etc/logrotate.conf)"));
        return evidence;
    };
    evidence.push(match &log.stanza {
        Some(stanza) => Evidence::new(
            format!("logrotate is told to rotate it ({})", stanza.pattern),
            format!("{}:{}", stanza.file, stanza.line),
        ),
        None => Evidence::new(
            "no stanza of logrotate names it, so nothing rotates it",
            format!("{} and what it includes", logrotate.config),
        ),
    });
    match (&logrotate.state, logrotate.last_run) {
        (Some(state), Some(last)) if logrotate.has_stopped(snapshot.taken_at, days) => {
            evidence.push(Evidence::new(
                format!("logrotate ran last on {}", last.strftime("%Y-%m-%d")),
                format!("stat({state})"),
            ));
        }
        (None, _) => {
            evidence.push(Evidence::new("logrotate never ran: it has no state file", "/var/lib/logrotate"));
        }
        _ => {}
    }
    evidence.extend(logrotate.complaints.iter().map(|complaint| {
        Evidence::new(
            format!("logrotate complains: {complaint}"),
            format!("logrotate --debug {}", logrotate.config.quoted()),
        )
    }));
    evidence
}

fn advice(log: &LogFile, logs: &Logs) -> String {
    let path = log.path.quoted();
    let rotate = match &log.stanza {
        Some(stanza) => format!(
            "logrotate --verbose --force {} rotates it now and says what is wrong; its space comes back when it is \
             compressed or removed.",
            stanza.file.quoted()
        ),
        None if logs.logrotate.is_some() => format!(
            "Give it a stanza, in a file of its own in /etc/logrotate.d: {path} {{ daily rotate 7 maxsize 100M \
             compress delaycompress missingok notifempty copytruncate }} with each directive on a line of its \
             own; check it with logrotate --debug FILE."
        ),
        None => "Have it rotated: install logrotate, or limit it in its program's own settings.".to_owned(),
    };
    let offset = if log.writers.iter().any(|writer| !writer.appends) {
        " One of its writers does not append: after that it goes on at its old place and the file only looks as large \
         as before."
    } else {
        ""
    };
    format!(
        "{rotate} At once, losing what is in it: truncate --size=0 {path}.{offset} Look at what it repeats first: its \
         last lines tell why it grows."
    )
}
