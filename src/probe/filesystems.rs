//! Mounted file systems that hold files, each once, with their figures.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::Context;
use crate::domain::identity::{DevId, FileId, MountId};
use crate::domain::reading::Reading;
use crate::domain::snapshot::{FileSystem, FsClass, Usage};
use crate::sys::child::Question;
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo::MountEntry;
use crate::sys::{file_id, fs_types, statvfs};

/// The mounts of our own namespace as they were when first asked for.
#[derive(Debug, Default)]
pub struct OwnMounts(OnceLock<ListOfMounts>);

/// The mounts and what is missing from them, or why they cannot be read.
type ListOfMounts = Result<(Arc<MountTable>, Vec<String>), String>;

/// The mounts of our own namespace, and what is missing from the list.
///
/// # Errors
/// A sentence that says why they cannot be read.
pub(super) fn own_mounts(context: &Context<'_>) -> Result<(Arc<MountTable>, Vec<String>), String> {
    match context.mounts {
        // Tens of thousands take the kernel and us a while; a dozen probes at once would wait for one another.
        Some(shared) => shared.0.get_or_init(|| read_own_mounts(context)).clone(),
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
    let chosen = choose(&table);
    let usages = ask(context, &table, &chosen);
    let mut found: Vec<FileSystem> = chosen
        .into_iter()
        .zip(usages)
        // A file system without blocks and inodes is one of the kernel's own, of a type not in the table.
        .filter(|(_, usage)| usage.value().is_none_or(|usage| usage.total.0 > 0 || usage.inodes > 0))
        .map(|(entry, usage)| describe(context, &table, entry, usage))
        .collect();
    found.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    Reading::with_missing(found, missing)
}

/// One visible mount per device: the one with the shortest mount point, the first of these.
pub(crate) fn choose(table: &MountTable) -> Vec<&MountEntry> {
    let mut by_device: BTreeMap<DevId, &MountEntry> = BTreeMap::new();
    for entry in table.entries() {
        if !fs_types::holds_files(entry.fs_type.as_bytes())
            || !table.is_visible(entry)
            || shows_space_of_another(table, entry)
        {
            continue;
        }
        match by_device.entry(entry.dev) {
            Entry::Vacant(slot) => {
                slot.insert(entry);
            }
            Entry::Occupied(mut slot) => {
                if entry.mount_point.as_bytes().len() < slot.get().mount_point.as_bytes().len() {
                    slot.insert(entry);
                }
            }
        }
    }
    by_device.into_values().collect()
}

/// Whether an overlay only repeats the figures of the file system of its upper directory, which is in the list itself:
/// the root of every running container is one.
fn shows_space_of_another(table: &MountTable, entry: &MountEntry) -> bool {
    if entry.fs_type.as_bytes() != b"overlay" || entry.mount_point.as_bytes() == b"/" {
        return false;
    }
    let Some(upper) = entry.super_option(b"upperdir") else { return false };
    let upper = PathBuf::from(std::ffi::OsString::from_vec(upper));
    upper.is_absolute()
        && table
            .at(&upper)
            .is_some_and(|below| below.dev != entry.dev && fs_types::holds_files(below.fs_type.as_bytes()))
}

/// The figures: local ones directly, all others side by side in children.
fn ask(context: &Context<'_>, table: &MountTable, chosen: &[&MountEntry]) -> Vec<Reading<Usage>> {
    let deadline = context.deadline();
    let places: Vec<PathBuf> =
        chosen.iter().map(|entry| context.environment.rooted(entry.mount_point.as_path())).collect();
    let mut questions = Vec::new();
    let mut asked = Vec::new();
    for (entry, place) in chosen.iter().zip(&places) {
        let question = needs_child(table, entry).then(|| c_path(place).ok()).flatten();
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
    entry: &MountEntry,
    usage: Reading<Usage>,
) -> FileSystem {
    let place = context.environment.rooted(entry.mount_point.as_path());
    let seen = (!needs_child(table, entry)).then(|| top(entry, &place)).flatten();
    // On btrfs files have the device number of their subvolume, not the one that mountinfo shows.
    let of_files = seen.filter(|_| entry.fs_type.as_bytes() == b"btrfs").map(|id| id.key.dev);
    FileSystem {
        mount_point: entry.mount_point.clone(),
        source: entry.source.clone(),
        fs_type: entry.fs_type.clone(),
        mount: seen.map_or(MountId { id: entry.id, unique: None }, |id| id.mount),
        dev: of_files.unwrap_or(entry.dev),
        class: fs_types::classify(entry.fs_type.as_bytes(), entry.dev),
        read_only: entry.is_read_only(),
        usage,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn chosen(lines: &str) -> Vec<String> {
        let table = MountTable::new(mountinfo::parse(lines.as_bytes()));
        let mut points: Vec<String> =
            choose(&table).into_iter().map(|entry| entry.mount_point.to_string()).collect();
        points.sort();
        points
    }

    #[test]
    fn each_device_once_and_no_pseudo_file_systems() {
        assert_eq!(
            chosen(
                "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                 2 1 0:4 / /proc rw - proc proc rw\n\
                 3 1 8:2 /sub /very/long/place rw - xfs /dev/b rw\n\
                 4 1 8:2 /sub /srv rw - xfs /dev/b rw\n\
                 5 1 0:9 / /mnt/auto rw - autofs systemd-1 rw\n\
                 6 1 0:10 / /tmp rw - tmpfs tmpfs rw\n\
                 7 1 0:11 / /tmp/x rw - tmpfs under rw\n\
                 8 6 0:12 / /tmp rw - tmpfs over rw\n\
                 9 1 0:13 / /net rw - nfs4 s:/ rw\n"
            ),
            ["/", "/net", "/srv", "/tmp"]
        );
    }

    #[test]
    fn roots_of_containers_do_not_repeat_the_disk_but_our_own_overlay_counts() {
        assert_eq!(
            chosen(
                "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                 2 1 0:40 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/var/u\n"
            ),
            ["/"]
        );
        assert_eq!(
            chosen(
                "1 0 0:40 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/u\n\
                 2 1 8:1 /etc/h /etc/hosts rw - ext4 /dev/a rw\n"
            ),
            ["/", "/etc/hosts"]
        );
    }
}
