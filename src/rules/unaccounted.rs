//! Space in use that no file a person can list explains: why df and du differ.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::ledger::{Ledger, PartKind};
use crate::domain::size::Percent;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "df-du-differ",
    why: "Deleting files does not help where the space is not in files. The ledger of the file system says where it is: \
          in deleted files that a process keeps open, under mount points, or where nobody can say, which on a file \
          system that is quiet points to damage (fsck), to snapshots, or to a process that could not be looked into.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let limits = &settings.ledger;
    snapshot
        .ledgers
        .iter()
        .filter(|ledger| {
            let out = ledger.out_of_sight();
            out.0 >= limits.warn_size.as_u64()
                && Percent::of(out.0, ledger.used().0).0 >= f64::from(limits.warn_percent)
        })
        .map(found)
        .collect()
}

fn found(ledger: &Ledger) -> Found {
    let out = ledger.out_of_sight();
    let mut evidence: Vec<Evidence> = ledger
        .parts
        .iter()
        .filter_map(|part| {
            Some(Evidence::new(format!("{}: {}", part.name, part.bytes?), part.source.clone()))
        })
        .collect();
    let source = format!("statvfs({})", ledger.mount_point);
    evidence.push(Evidence::new(format!("in use: {}", ledger.used()), source));
    if ledger.residual.bytes > 0 {
        evidence.push(Evidence::new(format!("not explained: {}", ledger.unexplained()), "what is left"));
        evidence.extend(
            ledger.residual.explanations.iter().map(|why| Evidence::new(why.clone(), "can be in it")),
        );
    }
    let mut advice = Vec::new();
    if !ledger.sum(PartKind::Deleted).is_zero() {
        advice.push("deleted files come back when their process is restarted, or at once by freeing them (see deleted-open)");
    }
    if !ledger.sum(PartKind::Hidden).is_zero() {
        advice.push(
            "what is under mount points can be looked at through a second mount (see hidden-under-mount)",
        );
    }
    if ledger.residual.bytes > 0 {
        advice.push(
            "what is not explained may be snapshots, or damage: look at the explanations, and at dmesg",
        );
    }
    Found {
        key: ledger.mount_point.to_string(),
        severity: Severity::Warning,
        subject: Subject::FileSystem { mount: ledger.mount, mount_point: ledger.mount_point.clone() },
        title: format!(
            "{out} of {} used on {} are in no file that can be listed",
            ledger.used(),
            ledger.mount_point
        ),
        evidence,
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice: format!("{} {}.", ledger.story(), capital(&advice.join("; "))),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
