//! systemd's journal takes much space.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::logs::{Journal, JournalDir, JournalOwner, Journald};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};
use crate::domain::text::shell_quote;

pub const RULE: Rule = Rule {
    id: "journal-large",
    why: "journald keeps up to a tenth of its file system, 4 GiB at most, unless it is told to keep less; what other \
          machine ids left beside it (a cloned disk, a container's linked journal) it never removes. Old entries are \
          the cheapest space on a full machine.",
    check,
};

/// Directories that are told one by one.
const TOLD: usize = 10;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(logs) = snapshot.logs.value() else { return Vec::new() };
    let (journal, size) = (&logs.journal, logs.journal.size());
    if size.0 < settings.logs.warn_journal.as_u64() || size.is_zero() {
        return Vec::new();
    }
    vec![Found {
        key: String::new(),
        severity: Severity::Warning,
        subject: Subject::Logs {
            paths: journal.dirs.iter().map(|dir| dir.path.clone()).take(TOLD).collect(),
        },
        title: format!("systemd's journal takes {size}"),
        evidence: journal.dirs.iter().take(TOLD).map(of_dir).collect(),
        reclaim: reclaim(journal, Bytes(settings.logs.keep_journal.as_u64())),
        actions: vec![ActionId::VacuumJournal],
        advice: advice(journal, settings.logs.keep_journal.as_u64()),
    }]
}

fn of_dir(dir: &JournalDir) -> Evidence {
    let whose = match dir.owner {
        JournalOwner::Own => match dir.journald.as_ref().and_then(|journald| journald.namespace.as_ref()) {
            Some(namespace) => format!(" of the namespace {namespace}"),
            None => String::new(),
        },
        JournalOwner::Other => " of another machine id".to_owned(),
        JournalOwner::Remote => " received from other machines".to_owned(),
    };
    let last = dir.modified.map(|time| format!(", last written to on {}", time.strftime("%Y-%m-%d")));
    Evidence::new(
        format!(
            "{}{whose}: {} in {} archived files, {} in active ones{}",
            dir.path,
            dir.archived,
            dir.archived_files,
            dir.active,
            last.unwrap_or_default()
        ),
        format!("lstat of *.journal and *.journal~ in {}", dir.path),
    )
}

/// Active files cannot be vacuumed, and each directory is vacuumed on its own. Whole files go: at least what is above
/// the limit, at most all that is archived.
fn reclaim(journal: &Journal, keep: Bytes) -> Reclaim {
    let all = journal.dirs.iter().fold(Bytes::ZERO, |sum, dir| sum + dir.archived);
    // Active files count, but stay.
    let above = journal
        .dirs
        .iter()
        .fold(Bytes::ZERO, |sum, dir| sum + dir.size().saturating_sub(keep).min(dir.archived));
    if all.is_zero() { Reclaim::Nothing } else { Reclaim::Range { low: above, high: all } }
}

fn advice(journal: &Journal, keep: u64) -> String {
    let keep = limit(keep);
    let dirs = || journal.dirs.iter().take(TOLD);
    let mut advice = each_once(dirs().map(|dir| match &dir.journald {
        Some(journald) => of_journald(journald, &keep),
        None => of_directory(dir, &keep),
    }));
    let limits = each_once(dirs().filter_map(|dir| limits(dir, &keep)));
    if !limits.is_empty() {
        advice.push(format!("So that it does not come back: {}.", limits.join("; ")));
    }
    advice.join(" ")
}

fn each_once(sentences: impl Iterator<Item = String>) -> Vec<String> {
    let mut told = Vec::new();
    for sentence in sentences {
        if !told.contains(&sentence) {
            told.push(sentence);
        }
    }
    told
}

/// What removes the oldest of a journald's files.
fn of_journald(Journald { namespace, running }: &Journald, keep: &str) -> String {
    let option = namespace.as_ref().map(|name| format!("--namespace={} ", shell_quote(name.as_bytes())));
    let option = option.unwrap_or_default();
    if *running {
        format!(
            "journalctl {option}--rotate --vacuum-size={keep} closes the active files and removes the oldest."
        )
    } else {
        format!(
            "journalctl {option}--vacuum-size={keep} removes the oldest archived files (journald does not run there, so \
             it cannot be told to --rotate)."
        )
    }
}

/// What removes the oldest archived files of a directory, which journalctl has to be told.
fn of_directory(dir: &JournalDir, keep: &str) -> String {
    let path = dir.path.quoted();
    let when = match dir.owner {
        JournalOwner::Own => "",
        JournalOwner::Other => ", if nobody needs what is there (machinectl list shows containers that may)",
        JournalOwner::Remote => ", if nobody needs what is there",
    };
    format!("journalctl --directory={path} --vacuum-size={keep}{when}.")
}

/// What keeps it from growing again, in the configuration of whoever writes there.
fn limits(dir: &JournalDir, keep: &str) -> Option<String> {
    let (setting, file, unit) = match (&dir.journald, dir.owner) {
        (Some(Journald { namespace: None, .. }), _) => (
            format!("SystemMaxUse={keep} below [Journal]"),
            "/etc/systemd/journald.conf".to_owned(),
            "systemd-journald".to_owned(),
        ),
        (Some(Journald { namespace: Some(name), .. }), _) => (
            format!("SystemMaxUse={keep} below [Journal]"),
            shell_quote(format!("/etc/systemd/journald@{name}.conf").as_bytes()),
            shell_quote(format!("systemd-journald@{name}").as_bytes()),
        ),
        // journal-remote.conf(5): since systemd 253.
        (None, JournalOwner::Remote) => (
            format!("MaxUse={keep} below [Remote]"),
            "/etc/systemd/journal-remote.conf (systemd 253 or newer)".to_owned(),
            "systemd-journal-remote".to_owned(),
        ),
        (None, JournalOwner::Own | JournalOwner::Other) => return None,
    };
    Some(format!("{setting} in {file}, then systemctl restart {unit}"))
}

/// As journalctl takes it: powers of 1024 (`parse_size`).
fn limit(bytes: u64) -> String {
    let mib = 1 << 20;
    if bytes.is_multiple_of(mib) { format!("{}M", bytes / mib) } else { bytes.to_string() }
}
