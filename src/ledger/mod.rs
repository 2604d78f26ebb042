//! The space ledger: where every byte that is in use on a file system went.
//!
//! What is in use (statvfs(3)) is the sum of files that a scan counted, deleted files that are still open, data under
//! mount points (`hidden`), what the file system keeps for itself (`overhead`), and a residual with its
//! possible causes by name. What could not be read is named in the residual, never left out.

mod deleted;
pub mod hidden;
mod overhead;

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, openat, statx};

use crate::domain::identity::DevId;
use crate::domain::ledger::{HiddenData, Ledger, LedgerPart, PartKind, Residual};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{DeletedFile, Extent, FileSystem, FsClass, Usage};
use crate::probe::Context;
use crate::sys::child::{Answer, Question};
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::{file_id, statvfs, swaps};

/// How long the search under mount points and the questions to the file system may take, each. A scan has gone before
/// that took longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What scans of all that is seen of a file system counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Space taken.
    pub allocated: Bytes,
    /// Directories that could not be read.
    pub unreadable: u64,
    /// What was in use when the scan began, where somebody looked.
    pub used_before: Option<Bytes>,
    /// The device numbers of the directories that were counted.
    pub devices: Vec<DevId>,
    /// Snapshots (btrfs) that were left out.
    pub snapshots: u64,
    /// What could not be scanned, each a sentence.
    pub missing: Vec<String>,
}

/// Accounts for the space of a file system whose files were counted just now.
///
/// # Errors
/// A sentence that says why there is no ledger.
pub fn account(
    context: &Context<'_>,
    fs: &FileSystem,
    counted: &Counted,
    deleted: &Reading<Vec<DeletedFile>>,
) -> Result<Ledger, String> {
    if fs.seen.extent == Extent::Part {
        return Err(format!(
            "only a part of the file system at {} can be seen from here ({}, {}). What df says of it is about all of it, so \
             the two cannot be compared",
            fs.mount_point, fs.fs_type, fs.source
        ));
    }
    if fs.class != FsClass::Local {
        return Err(format!(
            "{} is not on this machine: its server knows where its space went",
            fs.mount_point
        ));
    }
    let place = context.environment.rooted(fs.mount_point.as_path());
    let mut explanations = Vec::new();
    if !fs.read_only {
        explanations.extend(flush(&place));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let root = openat(rustix::fs::CWD, &place, flags, Mode::empty())
        .map_err(|error| format!("{} cannot be opened: {error}", fs.mount_point))?;
    let usage = match statvfs::usage_of(&place, FsClass::Local, context.deadline()) {
        Reading::Ready { value } => value,
        other => return Err(other.unknown()),
    };
    // On btrfs files have the device number of their subvolume, in a container that of its overlay.
    let on_it = |dev: DevId| fs.has_device(dev) || counted.devices.contains(&dev);
    let mut ledger = Ledger {
        mount_point: fs.mount_point.clone(),
        mount: fs.mount,
        source: fs.source.clone(),
        fs_type: fs.fs_type.clone(),
        dev: fs.dev,
        usage,
        parts: vec![files(counted.allocated)],
        residual: Residual::default(),
        hidden: Vec::new(),
        swap_files: swap_files(context, &root, &on_it),
        outside: None,
    };
    ledger.parts.push(deleted_files(context, deleted, &on_it, &mut explanations));
    let until = Instant::now() + PATIENCE;
    under_mounts(context, fs, until, &mut ledger, &mut explanations);
    overhead::add(context, &root, until, &mut ledger, &mut explanations);
    if counted.unreadable > 0 {
        ledger.parts.push(LedgerPart {
            kind: PartKind::Unreadable,
            name: format!("{} directories that could not be read", counted.unreadable),
            bytes: None,
            source: "scan".to_owned(),
        });
        explanations.push(format!(
            "{} directories could not be read: what they hold is in it. As root they can be read",
            counted.unreadable
        ));
    }
    if counted.snapshots > 0 {
        explanations.push(format!(
            "{} btrfs snapshots are not counted: what they alone still hold is in it (btrfs filesystem du -s tells)",
            counted.snapshots
        ));
    }
    if fs.seen.extent == Extent::Subvolumes {
        explanations.push(
            "subvolumes that are mounted nowhere are not counted: what they hold is in it (btrfs subvolume list tells)"
                .to_owned(),
        );
    }
    explanations.extend(counted.missing.iter().cloned());
    explanations.extend(drift(&usage, counted.used_before));
    ledger.close();
    ledger.residual.explanations = explanations;
    Ok(ledger)
}

/// Has the kernel write what it holds in memory only: until then some file systems count it twice or not at all.
fn flush(place: &std::path::Path) -> Option<String> {
    const WAIT: Duration = Duration::from_secs(2);
    let path = c_path(place).ok()?;
    match deadline::ask(&Question::Flush { path }, WAIT) {
        Outcome::Answered(Answer::Flushed) => None,
        _ => Some(
            "what was just written was not on the disk yet, so it may be counted at its old size".to_owned(),
        ),
    }
}

fn files(allocated: Bytes) -> LedgerPart {
    LedgerPart {
        kind: PartKind::Files,
        name: "files and directories".to_owned(),
        bytes: Some(allocated),
        source: "scan".to_owned(),
    }
}

fn deleted_files(
    context: &Context<'_>,
    deleted: &Reading<Vec<DeletedFile>>,
    on_it: &dyn Fn(DevId) -> bool,
    explanations: &mut Vec<String>,
) -> LedgerPart {
    let mut uppers = deleted::Uppers::new(context);
    let here: Option<Vec<&DeletedFile>> = deleted.value().map(|files| {
        files.iter().filter(|file| on_it(file.key.dev) || uppers.of(file).is_some_and(on_it)).collect()
    });
    explanations
        .extend(deleted.gaps().into_iter().map(|gap| format!("deleted files that are still open: {gap}")));
    let name = match &here {
        Some(files) => match files.len() {
            1 => "1 deleted file, still open".to_owned(),
            count => format!("{count} deleted files, still open"),
        },
        None => "deleted files, still open".to_owned(),
    };
    LedgerPart {
        kind: PartKind::Deleted,
        name,
        bytes: here.map(|files| files.iter().map(|file| file.allocated).sum()),
        source: "/proc/*/fd".to_owned(),
    }
}

fn under_mounts(
    context: &Context<'_>,
    fs: &FileSystem,
    until: Instant,
    ledger: &mut Ledger,
    explanations: &mut Vec<String>,
) {
    let source = "open_tree(2), OPEN_TREE_CLONE".to_owned();
    let part =
        |kind, name: &str, bytes| LedgerPart { kind, name: name.to_owned(), bytes, source: source.clone() };
    let reading = hidden::of_mount(context, fs.mount.id, until);
    explanations.extend(reading.gaps().into_iter().map(|gap| format!("data under mount points: {gap}")));
    let Some(found) = reading.value() else {
        ledger.parts.push(part(PartKind::Hidden, "under mount points", None));
        return;
    };
    for one in found {
        explanations.extend(
            one.incomplete
                .as_ref()
                .map(|why| format!("what {} covers was not counted to the end: {why}", one.mount_point)),
        );
    }
    let (shown, hidden): (Vec<&HiddenData>, Vec<&HiddenData>) =
        found.iter().partition(|one| one.shown_at.is_some());
    let sum = |all: &[&HiddenData]| all.iter().map(|one| one.allocated).sum::<Bytes>();
    ledger.parts.push(part(PartKind::Hidden, "hidden under mount points", Some(sum(&hidden))));
    let own: Bytes = found.iter().map(|one| one.own).sum();
    if !own.is_zero() {
        ledger.parts.push(part(PartKind::Files, "mount points themselves", Some(own)));
    }
    if !sum(&shown).is_zero() {
        ledger.parts.push(part(PartKind::Files, "shown through other mounts", Some(sum(&shown))));
    }
    ledger.hidden = hidden.into_iter().filter(|one| !one.allocated.is_zero()).cloned().collect();
}

fn swap_files(
    context: &Context<'_>,
    root: impl AsFd,
    on_it: &dyn Fn(DevId) -> bool,
) -> Vec<crate::domain::ledger::SwapFile> {
    let Ok(bytes) = fs::read(context.environment.rooted("/proc/swaps")) else { return Vec::new() };
    let mut all = swaps::files(&bytes);
    all.retain(|file| {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let path = context.environment.rooted(file.path.as_path());
        // A swap file is open, so its file system is local.
        statx(&root, path, flags, StatxFlags::BASIC_STATS)
            .is_ok_and(|stat| on_it(file_id::dev_ino(&stat).dev))
    });
    all
}

/// What changed while the scan ran.
fn drift(now: &Usage, before: Option<Bytes>) -> Option<String> {
    let before = before?;
    let (now, word) = if now.used() >= before {
        (now.used().saturating_sub(before), "more")
    } else {
        (before.saturating_sub(now.used()), "less")
    };
    (!now.is_zero()).then(|| {
        format!("{now} {word} were in use at the end of the scan than at its start: figures of a file system that changes do not meet exactly")
    })
}
