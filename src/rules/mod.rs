//! Snapshot → findings. Pure: the same snapshot and settings give the same findings.
//!
//! To add a rule, add a file with a [`Rule`] constant and name it in [`RULES`].

mod build_cache;
mod build_context;
mod build_mounts;
mod builds_competing;
mod buildx_state;
mod caches;
mod container_logs;
mod containers_external;
mod containers_stopped;
mod crowded_dir;
mod deleted_open;
mod dockerfile_no_cache;
mod engine_silent;
mod filesystem_full;
mod growing;
mod hidden_under_mount;
mod images_dangling;
mod images_foreign;
mod images_unused;
mod inode_hog;
mod inodes_full;
mod journal_large;
mod limits;
mod log_giant;
mod logrotate_stopped;
mod logs_rotated;
mod orphan_processes;
mod package_lock;
mod read_only;
mod temp_create;
mod temp_entries;
mod unaccounted;
mod unseen;
mod volumes_unused;

use std::cmp::Reverse;

use crate::config::Settings;
use crate::domain::engines::{Content, EngineKind, Sum};
use crate::domain::finding::{ActionId, Finding, Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

/// One thing to look for.
pub struct Rule {
    /// Its name, the first part of each finding's id.
    pub id: &'static str,
    /// One paragraph that says why it matters.
    pub why: &'static str,
    /// Looks at the snapshot.
    check: fn(&Snapshot, &Settings) -> Vec<Found>,
}

/// What a rule says of one subject; [`assess`] turns it into a [`Finding`].
struct Found {
    /// Tells subjects of one rule apart; empty where a rule finds one thing at most.
    key: String,
    severity: Severity,
    subject: Subject,
    title: String,
    evidence: Vec<Evidence>,
    reclaim: Reclaim,
    actions: Vec<ActionId>,
    advice: String,
}

/// Every rule.
pub const RULES: &[Rule] = &[
    filesystem_full::RULE,
    growing::RULE,
    inodes_full::RULE,
    read_only::RULE,
    limits::RULE,
    build_mounts::RULE,
    buildx_state::RULE,
    orphan_processes::RULE,
    package_lock::RULE,
    builds_competing::RULE,
    build_context::RULE,
    dockerfile_no_cache::RULE,
    deleted_open::RULE,
    hidden_under_mount::RULE,
    unaccounted::RULE,
    engine_silent::RULE,
    build_cache::RULE,
    images_dangling::RULE,
    images_unused::RULE,
    images_foreign::RULE,
    containers_stopped::RULE,
    containers_external::RULE,
    container_logs::RULE,
    volumes_unused::RULE,
    journal_large::RULE,
    log_giant::RULE,
    logrotate_stopped::RULE,
    logs_rotated::RULE,
    temp_create::RULE,
    temp_entries::RULE,
    crowded_dir::RULE,
    inode_hog::RULE,
    caches::RULE,
    unseen::RULE,
];

/// Everything that the rules find, worst first, in the order of [`RULES`] where equally bad.
pub fn assess(snapshot: &Snapshot, settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES
        .iter()
        .flat_map(|rule| (rule.check)(snapshot, settings).into_iter().map(move |found| finding(rule, found)))
        .collect();
    findings.sort_by_key(|finding| Reverse(finding.severity));
    findings
}

/// The rule of what could not be looked at.
pub const UNSEEN: &str = unseen::RULE.id;

/// Whether a finding with this id, or of this rule, can only be found in what was scanned.
pub fn needs_scan(id: &str) -> bool {
    let rule = id.split(':').next().unwrap_or(id);
    [crowded_dir::RULE.id, inode_hog::RULE.id, caches::RULE.id, unaccounted::RULE.id].contains(&rule)
}

/// The mount point of the one file system that a finding with this id is about and that must be scanned for it, as it is
/// shown; none where all must be.
pub fn scanned_at(id: &str) -> Option<&str> {
    let (rule, key) = id.split_once(':')?;
    [inode_hog::RULE.id, unaccounted::RULE.id].contains(&rule).then_some(key)
}

fn finding(rule: &Rule, found: Found) -> Finding {
    let id = if found.key.is_empty() { rule.id.to_owned() } else { format!("{}:{}", rule.id, found.key) };
    Finding {
        id,
        rule: rule.id,
        severity: found.severity,
        subject: found.subject,
        title: found.title,
        why: rule.why,
        evidence: found.evidence,
        reclaim: found.reclaim,
        actions: found.actions,
        advice: found.advice,
    }
}

/// Engines that answered, with what they keep. Not containerd: whoever runs it (the kubelet, docker) tells what it may
/// lose, and cleans it.
fn engines(snapshot: &Snapshot) -> impl Iterator<Item = (EngineKind, &Content)> {
    let all = snapshot.engines.value().into_iter().flatten();
    all.filter(|engine| engine.kind != EngineKind::Containerd)
        .filter_map(|engine| Some((engine.kind, engine.content.value()?)))
}

/// What an engine keeps and could give back, where that is worth telling.
fn worth_telling(sum: Sum, settings: &Settings) -> bool {
    sum.count > 0 && sum.size.0 >= settings.engines.warn_size.as_u64()
}

/// `1 entry`, `2 entries`: a count with its noun.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
