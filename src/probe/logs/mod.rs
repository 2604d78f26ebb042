//! Logs: what systemd's journal and the log directories hold, who writes the large ones, and whether logrotate still
//! runs.

mod census;
mod journal;
mod logrotate;
mod names;
mod stanzas;
mod writers;

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Context;
use super::filesystems::own_mounts;
use crate::domain::logs::{LogDir, LogFile, Logs, RotatedFile};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::mount_table::MountTable;
use crate::sys::safe_path;
use stanzas::Stanzas;

/// Looks at the journal, the log directories and logrotate.
pub fn look(context: &Context<'_>) -> Reading<Logs> {
    let began = Instant::now();
    let until = began + context.deadline();
    // Counting leaves time for finding the writers.
    let counted_until = began + context.deadline() / 4 * 3;
    let mut missing = Vec::new();
    let mounts = own_mounts(context).map(|(table, _)| table).unwrap_or_default();
    let places: Vec<PathBuf> =
        journal::PLACES.iter().filter_map(|place| safe(context, &mounts, place, &mut missing)).collect();
    let mut dirs: Vec<PathBuf> = context
        .settings
        .logs
        .dirs
        .iter()
        .filter_map(|dir| safe(context, &mounts, dir, &mut missing))
        .collect();
    dirs.sort();
    dirs.dedup();
    let journal = journal::look(context, &places, counted_until, &mut missing);
    let mut logs = Logs { journal, ..Logs::default() };
    let mut counted: Vec<_> = dirs.iter().filter_map(|dir| census::count(dir, counted_until)).collect();
    name_writers(context, &mut counted, until, &mut missing);
    let large = large(context);
    let is_giant = counted.iter().flat_map(|one| &one.dir.largest).any(|log| log.allocated >= large);
    logs.logrotate = logrotate::look(context).map(|(config, mut found)| {
        let stanzas = Stanzas::read(context.environment, &config);
        missing.extend(stanzas.missing.iter().cloned());
        for log in counted.iter_mut().flat_map(|one| &mut one.dir.largest) {
            log.stanza = stanzas.of(log.path.as_path()).cloned();
        }
        if is_giant || found.has_stopped(context.now, context.settings.logs.logrotate_days) {
            found.complaints = logrotate::complaints(context, &config, found.state.as_ref());
        }
        found
    });
    for one in counted {
        missing.extend(one.missing);
        logs.dirs.push(one.dir);
    }
    Reading::with_missing(logs, missing)
}

/// A log from this size on is worth a look at who writes it.
fn large(context: &Context<'_>) -> Bytes {
    Bytes(context.settings.logs.warn_file.as_u64())
}

/// Fills in the writers of large logs, and takes rotated files that somebody still writes to for the logs that they are:
/// their program was not told of the rotation, and they cannot be removed to any use.
fn name_writers(
    context: &Context<'_>,
    counted: &mut [census::Counted],
    until: Instant,
    missing: &mut Vec<String>,
) {
    let large = large(context);
    let mut wanted = HashSet::new();
    for one in counted.iter() {
        let live = one.live.iter().zip(&one.dir.largest).filter(|(_, log)| log.allocated >= large);
        wanted.extend(live.map(|(key, _)| *key));
        wanted.extend(one.rotated.iter().map(|(key, _)| *key));
    }
    let mut writers = writers::look(context, &wanted, until, missing);
    for one in counted {
        for (key, log) in one.live.iter().zip(&mut one.dir.largest) {
            log.writers = writers.remove(key).unwrap_or_default();
        }
        for (key, mut log) in std::mem::take(&mut one.rotated) {
            let Some(found) = writers.remove(&key) else {
                one.dir.rotated_files.extend(rotated_file(log));
                continue;
            };
            log.writers = found;
            no_longer_rotated(&mut one.dir, &log);
            one.dir.largest.push(log);
        }
        one.dir.largest.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| a.path.cmp(&b.path)));
    }
}

/// The path of the log that a rotated file was.
fn live_path(rotated: &Path) -> PathBuf {
    let live = names::live(rotated.file_name().unwrap_or_default().as_bytes()).unwrap_or_default();
    rotated.with_file_name(OsString::from_vec(live))
}

fn rotated_file(log: LogFile) -> Option<RotatedFile> {
    let LogFile { path, id, allocated, .. } = log;
    Some(RotatedFile { live: HostPath::from(live_path(path.as_path())), path, id: id?, allocated })
}

fn no_longer_rotated(dir: &mut LogDir, log: &LogFile) {
    dir.rotated_size = dir.rotated_size.saturating_sub(log.allocated);
    let live = live_path(log.path.as_path());
    if let Some(group) = dir.rotated.iter_mut().find(|group| group.live.as_path() == live) {
        group.files = group.files.saturating_sub(1);
        group.size = group.size.saturating_sub(log.allocated);
    }
    dir.rotated.retain(|group| group.files > 0);
}

/// A directory in the machine's tree, where looking at it cannot hang.
fn safe(context: &Context<'_>, mounts: &MountTable, dir: &str, missing: &mut Vec<String>) -> Option<PathBuf> {
    let path = context.environment.rooted(dir);
    let fixture = context.environment.root != Path::new("/");
    if !fixture && safe_path::may_hang(mounts, &path) {
        let shown = HostPath::from(path.as_path());
        missing.push(format!(
            "{shown} was not looked at: it lies on a server or a FUSE program (unwedge {} scans it)",
            shown.quoted()
        ));
        return None;
    }
    Some(path)
}
