//! Mounts over all mount namespaces, and those that BuildKit left behind.

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::filesystems::mount_id;
use super::{Context, build_mounts};
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::snapshot::{BuildMount, MountCensus, MountCopy, Verdict};
use crate::sys::mount_namespaces::{self, Namespace, Namespaces};
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo::MountEntry;
use crate::sys::procfs::how_to_look;
use crate::sys::propagation::Peers;

/// The mounts of every mount namespace, once somebody has asked for them.
#[derive(Debug, Default)]
pub(super) struct Once(OnceLock<Arc<Namespaces>>);

/// The mounts of every mount namespace as they were when first asked for; read now, until then, if the probes of this
/// context share nothing.
pub(super) fn all_namespaces(context: &Context<'_>, until: Instant) -> Arc<Namespaces> {
    let read = || Arc::new(mount_namespaces::read_all(&context.proc(), until));
    match context.shared {
        Some(shared) => Arc::clone(shared.namespaces.0.get_or_init(read)),
        None => read(),
    }
}

/// Takes the census.
pub fn look(context: &Context<'_>) -> Reading<MountCensus> {
    let until = Instant::now() + context.deadline();
    let proc = context.proc();
    let namespaces = all_namespaces(context, until);
    if namespaces.all.is_empty() {
        return Reading::Unavailable { why: namespaces.missing.join("; ") };
    }
    let mut missing = namespaces.missing.clone();
    missing.extend(namespaces.ours().and_then(|ours| hidden_processes(context, &ours.mounts)));
    missing.extend(unreached(&namespaces));

    let peers = Peers::new(&namespaces);
    let mut build_mounts = Vec::new();
    for namespace in &namespaces.all {
        let built: Vec<(usize, &MountEntry)> = namespace
            .mounts
            .entries()
            .iter()
            .enumerate()
            .filter(|(_, entry)| is_build_mount(entry))
            .collect();
        build_mounts.extend(
            built.into_iter().map(|(order, entry)| (order, describe(context, namespace, entry, &peers))),
        );
    }
    if !build_mounts.is_empty() {
        build_mounts::judge(&proc, &namespaces, &missing, &mut build_mounts, until);
    }
    if namespaces.init_refused {
        missing.push(format!("the mount namespace of pid 1 could not be looked into: {}", how_to_look()));
    }
    // Deepest first, and of those stacked at one place the topmost first: a leaf goes before what holds it.
    build_mounts
        .sort_by_key(|(order, mount)| Reverse((mount.mount_point.as_path().components().count(), *order)));
    let census = MountCensus {
        namespaces: u32::try_from(namespaces.all.len()).unwrap_or(u32::MAX),
        total: namespaces.all.iter().map(|namespace| namespace.mounts.entries().len() as u64).sum(),
        build_mounts: build_mounts.into_iter().map(|(_, mount)| mount).collect(),
    };
    Reading::with_missing(census, missing)
}

/// Whether `BuildKit` made this mount, judged by its place.
pub(super) fn is_build_mount(entry: &MountEntry) -> bool {
    build_mounts::is_place(entry.mount_point.as_bytes())
}

fn describe(
    context: &Context<'_>,
    namespace: &Namespace,
    entry: &MountEntry,
    peers: &Peers<'_>,
) -> BuildMount {
    // Through /proc/PID/root the path is resolved as the process in that namespace would.
    let place = match namespace.via {
        None => context.environment.rooted(entry.mount_point.as_path()),
        Some(process) => {
            let below = entry.mount_point.as_path();
            context.proc().file(process.pid, "root").join(below.strip_prefix("/").unwrap_or(below))
        }
    };
    let safe = !namespace.mounts.may_hang(entry.mount_point.as_path());
    BuildMount {
        mount: mount_id(entry, safe.then_some(&place)),
        parent: entry.parent,
        mount_point: entry.mount_point.clone(),
        root: entry.root.clone(),
        fs_type: entry.fs_type.clone(),
        source: redact::text(entry.source.as_bytes()),
        dev: entry.dev,
        namespace: namespace.id,
        via: namespace.via,
        copies: peers
            .copies(namespace, entry)
            .into_iter()
            .map(|copy| MountCopy {
                id: copy.entry.id,
                namespace: copy.namespace.id,
                mount_point: copy.entry.mount_point.clone(),
            })
            .collect(),
        verdict: Verdict::Unknown,
        evidence: Vec::new(),
    }
}

/// Namespaces that are kept alive by a bind mount of their file and have no process to reach them by.
fn unreached(namespaces: &Namespaces) -> Vec<String> {
    let mut missing = Vec::new();
    for entry in namespaces.all.iter().flat_map(|namespace| namespace.mounts.entries()) {
        let id: Option<u64> =
            Some(entry.root.as_bytes()).filter(|_| entry.fs_type.as_bytes() == b"nsfs").and_then(|root| {
                std::str::from_utf8(root).ok()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
            });
        if let Some(id) = id
            && namespaces.all.iter().all(|namespace| namespace.id.0 != id)
        {
            missing.push(format!(
                "the mounts of namespace {id}, kept at {}, were not read: no process is in it (look with nsenter --mount={})",
                entry.mount_point,
                entry.mount_point.quoted()
            ));
        }
    }
    missing.sort();
    missing.dedup();
    missing
}

/// What is not known because `/proc` hides the processes of other users.
pub(super) fn hidden_processes(context: &Context<'_>, mounts: &MountTable) -> Option<String> {
    if context.environment.is_root() {
        return None;
    }
    mounts.hides_processes().then(|| {
        "processes of other users are hidden here (hidepid): run as root (sudo unwedge) to see them"
            .to_owned()
    })
}
