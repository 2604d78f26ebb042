//! Caches, build trees and other known things that take much space: one finding for each entry of the catalogue.

use super::{Found, Rule, counted};
use crate::assets;
use crate::config::Settings;
use crate::domain::caches::{CacheKind, CachePlace};
use crate::domain::catalogue::{Command, Entry, Frees, Remove, RunAs, Spot};
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Evidence, Snapshot};
use crate::domain::text::{HostPath, shell_quote};

pub const RULE: Rule = Rule {
    id: "cache",
    why: "Package managers, compilers and editors keep what they may need again and rarely throw anything away. \
          Most of it comes back by itself when it is needed, so it is the cheapest space on a full disk, if it is \
          cleaned the way its owner means it to be.",
    check,
};

/// Places, and commands, that one finding names.
const NAMED: usize = 5;

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(scanned) = snapshot.scanned.value() else { return Vec::new() };
    let Ok(catalogue) = assets::catalogue() else { return Vec::new() };
    scanned
        .caches
        .iter()
        .filter(|kind| kind.size.allocated.0 >= settings.caches.warn_size.as_u64())
        .filter_map(|kind| Some((kind, catalogue.get(&kind.entry)?)))
        // Nothing is told twice.
        .filter(|(_, entry)| entry.rule.is_none())
        .map(|(kind, entry)| found(kind, entry))
        .collect()
}

fn found(kind: &CacheKind, entry: &Entry) -> Found {
    let places = counted(usize::try_from(kind.found).unwrap_or(usize::MAX), "directory", "directories");
    Found {
        key: kind.entry.clone(),
        // A store that nobody but its owner may touch is no fault of the machine.
        severity: if entry.is_report_only() { Severity::Info } else { Severity::Warning },
        subject: Subject::Caches {
            entry: kind.entry.clone(),
            paths: kind.places.iter().map(|place| place.path.clone()).collect(),
        },
        title: format!("{}: {places}, {}", kind.title, kind.size.allocated),
        evidence: evidence(kind, entry),
        reclaim: reclaim(kind, entry),
        actions: if entry.is_report_only() { Vec::new() } else { vec![ActionId::CleanCache] },
        advice: advice(kind, entry),
    }
}

fn evidence(kind: &CacheKind, entry: &Entry) -> Vec<Evidence> {
    let mut all = kind.busy.clone();
    for place in kind.places.iter().take(NAMED) {
        let size = place.size.map_or_else(
            || "size not known: not scanned".to_owned(),
            |size| format!("{} in {} entries", size.allocated, size.entries),
        );
        let whose = place.user.as_ref().map_or_else(|| format!("uid {}", place.uid), ToString::to_string);
        all.push(Evidence::new(format!("{}: {size}, belongs to {whose}", place.path), "the scan"));
    }
    let more = kind.found.saturating_sub(NAMED as u64);
    if more > 0 {
        all.push(Evidence::new(format!("and {more} more directories"), "the scan"));
    }
    if kind.unsized_places > 0 {
        let text = format!("{} of them were not scanned: their size is not known", kind.unsized_places);
        all.push(Evidence::new(text, "the scan"));
    }
    all.push(Evidence::new(format!("Cleaning it is {}. {}", entry.risk, entry.cost), "the catalogue"));
    all
}

fn reclaim(kind: &CacheKind, entry: &Entry) -> Reclaim {
    let bytes = kind.size.allocated;
    match entry.frees {
        _ if entry.is_report_only() => Reclaim::Unknown,
        Frees::All => Reclaim::exact(bytes),
        Frees::Some => Reclaim::Range { low: Bytes::ZERO, high: bytes },
    }
}

fn advice(kind: &CacheKind, entry: &Entry) -> String {
    let mut sentences = Vec::new();
    if !kind.busy.is_empty() {
        sentences.push("Not now: see the first line of evidence.".to_owned());
    }
    let commands = commands(kind, entry);
    if !commands.is_empty() {
        sentences.push(format!("Let {} clean it: {}.", entry.owner, commands.join("; ")));
    }
    if let Some(size) = &entry.size {
        sentences.push(format!("What {} says of its size: {}.", entry.owner, example(size, kind)));
    }
    let removable = kind.places.iter().any(|place| place.protected.is_none());
    match entry.remove {
        Remove::Tree if removable => {
            let how = "the directory can be deleted as a whole (mark it in the tree, d)";
            sentences.push(if commands.is_empty() {
                format!("It has no command of its own: {how}.")
            } else {
                format!("Where that program is missing, {how}.")
            });
        }
        Remove::Contents if removable => {
            sentences.push(if commands.is_empty() {
                "Delete what is in it, not the directory itself.".to_owned()
            } else {
                "Where that program is missing, delete what is in it, not the directory itself.".to_owned()
            });
        }
        Remove::Never => sentences.push("Never delete files in it by hand.".to_owned()),
        Remove::Tree | Remove::Contents => {}
    }
    sentences.extend(entry.note.clone());
    sentences.join(" ")
}

/// The owner's commands for the places, as the right user; of many places the largest.
fn commands(kind: &CacheKind, entry: &Entry) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for place in &kind.places {
        for command in &entry.clean {
            let Some(line) = line(command, place, entry.run_as) else { continue };
            if !all.contains(&line) {
                all.push(line);
            }
        }
        if all.len() >= NAMED {
            all.push("and so on for the others".to_owned());
            break;
        }
    }
    all
}

fn example(command: &Command, kind: &CacheKind) -> String {
    let place = kind.places.first();
    place.and_then(|place| line(command, place, RunAs::Owner)).unwrap_or_else(|| command.to_string())
}

/// A command as a person pastes it.
fn line(command: &Command, place: &CachePlace, run_as: RunAs) -> Option<String> {
    let spot = Spot { path: place.path.as_path(), home: place.home.as_ref().map(HostPath::as_path) };
    let argv = command.argv(&spot)?;
    let words: Vec<String> = argv
        .iter()
        .map(|word| shell_quote(std::os::unix::ffi::OsStrExt::as_bytes(word.as_os_str())))
        .collect();
    let words = words.join(" ");
    let user = match run_as {
        RunAs::Root => return Some(format!("sudo {words}")),
        RunAs::Owner => place.user.as_ref(),
    };
    Some(match user {
        // -H: the command finds the cache by HOME (sudo(8)).
        Some(user) if place.uid != 0 => format!("sudo -Hu {} {words}", shell_quote(user.as_bytes())),
        _ => words,
    })
}
