//! Mounted file systems that hold files, each once, with their figures.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Context;
use super::engines::store;
use crate::domain::identity::{DevId, FileId, MountId};
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::room;
use crate::domain::snapshot::{FileSystem, FsClass, Seen, SeenAt, Usage};
use crate::domain::text::HostPath;
use crate::sys::child::Question;
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo::MountEntry;
use crate::sys::superblocks::{self, Look, Superblock};
use crate::sys::{file_id, fs_types, statvfs};

/// The mounts of our own namespace as they were when first asked for.
#[derive(Debug, Default)]
pub(super) struct OwnMounts(OnceLock<ListOfMounts>);

/// The mounts and what is missing from them, or why they cannot be read.
type ListOfMounts = Result<(Arc<MountTable>, Vec<String>), String>;

/// The mounts of our own namespace, and what is missing from the list.
///
/// # Errors
/// A sentence that says why they cannot be read.
pub(crate) fn own_mounts(context: &Context<'_>) -> Result<(Arc<MountTable>, Vec<String>), String> {
    match context.shared {
        // Tens of thousands take the kernel and us a while; a dozen probes at once would wait for one another.
        Some(shared) => shared.mounts.0.get_or_init(|| read_own_mounts(context)).clone(),
        None => read_own_mounts(context),
    }
}

fn read_own_mounts(context: &Context<'_>) -> ListOfMounts {
    let parsed = context
        .proc()
        .own_mountinfo()
        .map_err(|error| format!("{error}; is /proc mounted? (mount -t proc proc /proc)"))?;
    let missing = parsed.gap(&context.environment.rooted("/proc/self/mountinfo")).into_iter().collect();
    Ok((Arc::new(MountTable::new(parsed)), missing))
}

/// Reads the file systems. One that does not answer has figures that timed out; the others have theirs.
pub fn look(context: &Context<'_>) -> Reading<Vec<FileSystem>> {
    let (table, missing) = match own_mounts(context) {
        Ok(read) => read,
        Err(why) => return Reading::Unavailable { why },
    };
    let all = superblocks(context, &table);
    let usages = ask(context, &table, &all);
    let mut found: Vec<FileSystem> = all
        .into_iter()
        .zip(usages)
        // A file system without blocks and inodes is one of the kernel's own, of a type not in the table.
        .filter(|(_, usage)| usage.value().is_none_or(|usage| usage.total.0 > 0 || usage.inodes > 0))
        .map(|(one, usage)| describe(context, &table, &one, usage))
        .collect();
    found.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    Reading::with_missing(found, missing)
}

/// The file systems of our namespace.
pub(crate) fn superblocks<'t>(context: &Context<'_>, table: &'t MountTable) -> Vec<Superblock<'t>> {
    superblocks::all(table, &Machine { context, table })
}

/// The file system that a path is on. The path is looked up as the kernel would, links and all; it must be known that
/// this does not hang (see [`super::answers()`]).
///
/// # Errors
/// A sentence that says why the path leads nowhere.
pub fn holding<'f>(
    context: &Context<'_>,
    path: &Path,
    all: &'f [FileSystem],
) -> Result<Option<&'f FileSystem>, String> {
    let shown = HostPath::from(path);
    let real = path.canonicalize().map_err(|error| format!("{shown} cannot be found: {error}"))?;
    let (table, _) = own_mounts(context)?;
    let Some(entry) = table.at(&real) else { return Ok(room::holds(all, &HostPath::new(real))) };
    let mount = MountId { id: entry.id, unique: None };
    Ok(all.iter().find(|fs| fs.has_mount(mount)).or_else(|| all.iter().find(|fs| fs.has_device(entry.dev))))
}

/// The other paths that lead to a file, through other mounts of its file system.
pub struct Names(Option<Arc<MountTable>>);

impl Names {
    /// By the mounts of our own namespace.
    pub fn new(context: &Context<'_>) -> Self {
        Self(own_mounts(context).ok().map(|(table, _)| table))
    }

    /// Those of a path without symbolic links.
    pub fn others(&self, path: &Path) -> Vec<PathBuf> {
        let Some(table) = &self.0 else { return Vec::new() };
        table.at(path).map(|on| table.other_names(path, on.id).collect()).unwrap_or_default()
    }

    /// The path, or if its mount is read-only another one to the same file through a mount that can be written: ostree
    /// mounts the disk read-only, and a part of it again at `/var`.
    pub fn writable(&self, path: PathBuf) -> PathBuf {
        let Some(table) = &self.0 else { return path };
        let can_write = |path: &Path, place: &Path| {
            table.at(path).filter(|on| !on.is_read_only()).and_then(|on| {
                (MountTable::inside(on, path).as_deref() == Some(place)).then(|| path.to_path_buf())
            })
        };
        let better = table.at(&path).filter(|on| on.is_read_only()).and_then(|on| {
            let place = MountTable::inside(on, &path)?;
            table.other_names(&path, on.id).find_map(|other| can_write(&other, &place))
        });
        better.unwrap_or(path)
    }
}

/// The device number of files in the subvolume of btrfs that is mounted at a place; none on other file systems.
pub fn subvolume_at(context: &Context<'_>, mount_point: &Path) -> Option<DevId> {
    let (table, _) = own_mounts(context).ok()?;
    let entry = table.at(mount_point).filter(|entry| entry.fs_type.as_bytes() == b"btrfs")?;
    Some(top(entry, &context.environment.rooted(mount_point))?.key.dev)
}

/// How long the parts of one file system may be compared, each.
const COMPARING: Duration = Duration::from_millis(50);

/// Asks the machine what the table does not say.
struct Machine<'c, 't> {
    context: &'c Context<'c>,
    table: &'t MountTable,
}

impl Look for Machine<'_, '_> {
    fn is_directory(&self, entry: &MountEntry) -> bool {
        // What may not answer is taken for a directory: nearly all are.
        needs_child(self.table, entry)
            || std::fs::symlink_metadata(self.context.environment.rooted(entry.mount_point.as_path()))
                .is_ok_and(|found| found.is_dir())
    }

    fn weight(&self, entry: &MountEntry) -> u64 {
        if needs_child(self.table, entry) {
            return 0;
        }
        let place = self.context.environment.rooted(entry.mount_point.as_path());
        store::size(&place, COMPARING).value().map_or(0, |size| size.0)
    }
}

/// The figures: local ones directly, all others side by side in children.
fn ask(context: &Context<'_>, table: &MountTable, all: &[Superblock<'_>]) -> Vec<Reading<Usage>> {
    let deadline = context.deadline();
    let places: Vec<PathBuf> =
        all.iter().map(|one| context.environment.rooted(one.named.mount_point.as_path())).collect();
    let mut questions = Vec::new();
    let mut asked = Vec::new();
    for (one, place) in all.iter().zip(&places) {
        let question = needs_child(table, one.named).then(|| c_path(place).ok()).flatten();
        asked.push(question.is_some());
        questions.extend(question.map(|path| Question::Usage { path }));
    }
    let mut outcomes = deadline::ask_all(&questions, deadline).into_iter();
    places
        .iter()
        .zip(asked)
        .map(|(place, asked)| {
            if asked {
                statvfs::reading(place, outcomes.next().unwrap_or(Outcome::TimedOut), deadline)
            } else {
                statvfs::usage_of(place, FsClass::Local, deadline)
            }
        })
        .collect()
}

pub(super) fn needs_child(table: &MountTable, entry: &MountEntry) -> bool {
    fs_types::classify(entry.fs_type.as_bytes(), entry.dev) != FsClass::Local
        || table.may_hang(entry.mount_point.as_path())
}

fn describe(
    context: &Context<'_>,
    table: &MountTable,
    one: &Superblock<'_>,
    usage: Reading<Usage>,
) -> FileSystem {
    let entry = one.named;
    let place = |entry: &MountEntry| context.environment.rooted(entry.mount_point.as_path());
    let seen = |entry: &MountEntry| (!needs_child(table, entry)).then(|| top(entry, &place(entry))).flatten();
    let mut devices = one.overlays.clone();
    if entry.fs_type.as_bytes() == b"btrfs" {
        // Files have the device number of their subvolume, not the one that mountinfo shows.
        devices.extend(one.mounts.iter().filter_map(|mount| Some(seen(mount)?.key.dev)));
        devices.sort_unstable();
        devices.dedup();
    }
    let id = |entry: &MountEntry| MountId { id: entry.id, unique: None };
    FileSystem {
        mount_point: entry.mount_point.clone(),
        source: redact::text(entry.source.as_bytes()),
        fs_type: entry.fs_type.clone(),
        mount: seen(entry).map_or_else(|| id(entry), |seen| seen.mount),
        dev: entry.dev,
        class: fs_types::classify(entry.fs_type.as_bytes(), entry.dev),
        read_only: one.mounts.iter().all(|mount| mount.is_read_only()),
        usage,
        seen: Seen {
            extent: one.extent,
            parts: one.parts.iter().map(|part| part.mount_point.clone()).collect(),
            devices,
            mounts: one
                .mounts
                .iter()
                .map(|mount| SeenAt {
                    mount_point: mount.mount_point.clone(),
                    mount: id(mount),
                    read_only: mount.is_read_only(),
                })
                .collect(),
        },
    }
}

/// The id of a mount, with the one that is never reused where the mount point can be looked at safely and this mount
/// is what is seen there.
pub(super) fn mount_id(entry: &MountEntry, place: Option<&PathBuf>) -> MountId {
    let seen = place.and_then(|place| top(entry, place));
    seen.map_or(MountId { id: entry.id, unique: None }, |id| id.mount)
}

/// The top directory of a mount, where this mount is what is seen there.
fn top(entry: &MountEntry, place: &Path) -> Option<FileId> {
    let id = c_path(place).ok().and_then(|path| file_id::of_path(&path, false).ok())?;
    (id.mount.id == entry.id).then_some(id)
}
