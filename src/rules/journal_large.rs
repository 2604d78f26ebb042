//! systemd's journal takes much space.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::logs::{Journal, JournalDir, JournalOwner};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};

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
        evidence: evidence(journal),
        reclaim: reclaim(journal, Bytes(settings.logs.keep_journal.as_u64())),
        actions: vec![ActionId::VacuumJournal],
        advice: advice(journal, settings.logs.keep_journal.as_u64()),
    }]
}

fn evidence(journal: &Journal) -> Vec<Evidence> {
    let mut evidence: Vec<Evidence> = journal.dirs.iter().take(TOLD).map(of_dir).collect();
    if let Some(reported) = journal.reported.value() {
        evidence.push(Evidence::new(
            format!("this machine's journal takes about {reported}"),
            "journalctl --disk-usage",
        ));
    }
    evidence
}

fn of_dir(dir: &JournalDir) -> Evidence {
    let whose = match dir.owner {
        JournalOwner::Own => "",
        JournalOwner::Other => " of another machine id",
        JournalOwner::Remote => " received from other machines",
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
    let mut advice = String::new();
    if journal.dirs.iter().any(|dir| dir.owner == JournalOwner::Own) {
        if journal.running {
            advice = format!(
                "journalctl --rotate --vacuum-size={keep} closes the active files and removes the oldest. "
            );
        } else {
            advice = format!(
                "journalctl --vacuum-size={keep} removes the oldest archived files (journald does not run, so it cannot \
                 be told to --rotate). "
            );
        }
    }
    for dir in journal.dirs.iter().filter(|dir| dir.owner != JournalOwner::Own).take(TOLD) {
        let whose = match dir.owner {
            JournalOwner::Other => " (machinectl list shows containers that may)",
            JournalOwner::Own | JournalOwner::Remote => "",
        };
        let path = dir.path.quoted();
        advice.push_str(
            &[
                "journalctl --directory=",
                &path,
                " --vacuum-size=",
                &keep,
                ", if nobody needs what is there",
                whose,
                ". ",
            ]
            .concat(),
        );
    }
    advice
        + &format!(
            "So that it does not come back: SystemMaxUse={keep} below [Journal] in /etc/systemd/journald.conf, then \
             systemctl restart systemd-journald."
        )
}

/// As journalctl takes it: powers of 1024 (`parse_size`).
fn limit(bytes: u64) -> String {
    let mib = 1 << 20;
    if bytes.is_multiple_of(mib) { format!("{}M", bytes / mib) } else { bytes.to_string() }
}
