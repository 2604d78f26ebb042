//! What buildx wrote of its builders keeps it from working.

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::builds::BuildxState;
use crate::domain::finding::{ActionId, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};
use crate::domain::text::HostPath;

/// Files named one by one.
const SHOWN: usize = 5;

pub const RULE: Rule = Rule {
    id: "buildx-state",
    why: "Before each build buildx writes down in ~/.docker/buildx/activity that the builder was used. A file there that \
          belongs to somebody else (sudo docker build leaves one), one that was left half written by a full disk, or a file \
          system that became read-only fails builds with `failed to update builder last activity time`, which names none \
          of them. A definition that is no JSON any more fails each call of buildx.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let Some(builds) = snapshot.builds.value() else { return Vec::new() };
    let broken = builds.buildx.iter().filter(|state| {
        state.foreign > 0
            || state.half_written > 0
            || state.not_writable.is_some()
            || !state.damaged.is_empty()
    });
    broken
        .map(|state| {
            let number = |count: u64| counted(usize::try_from(count).unwrap_or(usize::MAX), "file", "files");
            let mut evidence = Vec::new();
            if state.foreign > 0 {
                let fact = format!(
                    "{} in it do not belong to the owner of the home directory",
                    number(state.foreign)
                );
                evidence.push(Evidence::new(fact, format!("lstat of {}/activity", state.path)));
            }
            if state.half_written > 0 {
                let fact = format!("{} in it were left half written (.tmp-*)", number(state.half_written));
                evidence.push(Evidence::new(fact, format!("{}/activity", state.path)));
            }
            if let Some(why) = &state.not_writable {
                evidence.push(Evidence::new(
                    format!("nothing of it can be written: {why}"),
                    format!("mountinfo and statx of {}", state.path),
                ));
            }
            for path in state.damaged.iter().take(SHOWN) {
                evidence.push(Evidence::new(
                    "buildx cannot read it: it is not in its form any more",
                    path.to_string(),
                ));
            }
            if let Some(more) = state.damaged.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                evidence.push(Evidence::new(format!("and {more} more like these"), state.path.to_string()));
            }
            let damaged_only = state.foreign == 0 && state.half_written == 0 && state.not_writable.is_none();
            Found {
                key: state.path.to_string(),
                severity: Severity::Warning,
                subject: Subject::Directory { path: state.path.clone() },
                title: if damaged_only {
                    format!("buildx cannot read its state in {}", state.path)
                } else {
                    format!("buildx may not be able to write its state in {}", state.path)
                },
                evidence,
                reclaim: Reclaim::Nothing,
                actions: vec![ActionId::RepairBuilds],
                advice: advice(state),
            }
        })
        .collect()
}

/// What to do about it by hand.
fn advice(state: &BuildxState) -> String {
    if state.not_writable.is_some() {
        return "First make it writable: a file system that became read-only has had an error (dmesg tells), else remount it \
                (mount -o remount,rw). Until then BUILDX_CONFIG=DIR before a build lets buildx write elsewhere."
            .to_owned();
    }
    let activity = HostPath::from(state.path.as_path().join("activity"));
    let files = format!(
        "Not while a build runs: unwedge delete {} (buildx writes it anew), with sudo if files in it are root's; no sudo \
         before docker build from then on.",
        activity.quoted()
    );
    if state.damaged.is_empty() {
        return files;
    }
    format!(
        "{files} What buildx cannot read goes too; a builder whose definition that was is made anew with docker buildx create."
    )
}
