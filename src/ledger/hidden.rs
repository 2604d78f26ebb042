//! Data under mount points, found without unmounting anything: a mount is copied without what is mounted on it
//! ([`crate::sys::detached`]), and the directories under its mount points are scanned in the copy.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, Statx, StatxFlags, statx};
use rustix::io::{self, Errno};

use crate::domain::identity::{DevId, FileKind};
use crate::domain::ledger::HiddenData;
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::size::Bytes;
use crate::domain::snapshot::FsClass;
use crate::domain::text::HostPath;
use crate::probe::{Context, filesystems};
use crate::scan::Scan;
use crate::sys::detached::Detached;
use crate::sys::file_id::kind_of;
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo::MountEntry;
use crate::sys::{file_id, fs_types, overlay};

/// Threads per directory: most are empty or small.
const THREADS: u16 = 2;

/// A search under way, in a thread of its own.
pub struct Search {
    answer: Mutex<Receiver<Reading<Vec<HiddenData>>>>,
    deadline: Duration,
}

/// What the search may take beyond its deadline to put its answer together.
const GRACE: Duration = Duration::from_millis(500);

impl Search {
    /// Starts looking under the mount points of all local file systems.
    pub fn start(context: &Context<'_>) -> Self {
        let deadline = context.deadline();
        let (tell, answer) = mpsc::channel();
        // A thread that may outlive this owns what it looks at.
        let (environment, settings, now) =
            (context.environment.clone(), context.settings.clone(), context.now);
        let spawned = thread::Builder::new().name("hidden".to_owned()).spawn({
            let tell = tell.clone();
            move || {
                let context = Context {
                    environment: &environment,
                    settings: &settings,
                    now,
                    memory: None,
                    shared: None,
                };
                // Nobody listens any more where the deadline has passed.
                let _ = tell.send(everywhere(&context, Instant::now() + deadline));
            }
        });
        if let Err(error) = spawned {
            let why = format!("no thread can be started ({error}): raise the limit of processes (ulimit -u)");
            let _ = tell.send(Reading::Unavailable { why });
        }
        Self { answer: Mutex::new(answer), deadline }
    }

    /// Waits for the answer, no longer than the deadline.
    pub fn finish(&self) -> Reading<Vec<HiddenData>> {
        match self.answer.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(self.deadline + GRACE) {
            Ok(reading) => reading,
            Err(mpsc::RecvTimeoutError::Timeout) => Reading::TimedOut { after: self.deadline.into() },
            Err(mpsc::RecvTimeoutError::Disconnected) => Reading::Unavailable {
                why: "the search failed, which is a fault in unwedge: please report it".to_owned(),
            },
        }
    }
}

fn everywhere(context: &Context<'_>, until: Instant) -> Reading<Vec<HiddenData>> {
    let table = match mounts(context) {
        Ok(table) => table,
        Err(why) => return Reading::Unavailable { why },
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let all = filesystems::superblocks(context, &table);
    for entry in all.iter().flat_map(|fs| std::iter::once(fs.named).chain(fs.parts.iter().copied())) {
        if !can_hide(&table, entry) || covered(&table, entry).is_empty() {
            continue;
        }
        match below(context, &table, entry, until) {
            Ok(mut hidden) => {
                hidden.retain(|one| !one.allocated.is_zero() && one.shown_at.is_none());
                found.extend(hidden);
            }
            Err(Errno::PERM | Errno::ACCESS) => return Reading::Denied { hint: hint() },
            Err(error) => missing.push(why(entry, error)),
        }
    }
    missing.extend(found.iter().filter_map(|one: &HiddenData| {
        Some(format!("{} was not counted to the end: {}", one.mount_point, one.incomplete.as_ref()?))
    }));
    found.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| a.mount_point.cmp(&b.mount_point)));
    Reading::with_missing(found, missing)
}

/// What lies under the mount points of one mount, empty directories included.
pub(super) fn of_mount(context: &Context<'_>, mount: u32, until: Instant) -> Reading<Vec<HiddenData>> {
    let table = match mounts(context) {
        Ok(table) => table,
        Err(why) => return Reading::Unavailable { why },
    };
    let Some(entry) = table.by_id(mount) else {
        return Reading::Unavailable { why: "it was unmounted meanwhile".to_owned() };
    };
    if covered(&table, entry).is_empty() {
        return Reading::ready(Vec::new());
    }
    match below(context, &table, entry, until) {
        Ok(mut found) => {
            found.sort_by(|a, b| {
                b.allocated.cmp(&a.allocated).then_with(|| a.mount_point.cmp(&b.mount_point))
            });
            Reading::ready(found)
        }
        Err(Errno::PERM | Errno::ACCESS) => Reading::Denied { hint: hint() },
        Err(error) => Reading::Unavailable { why: why(entry, error) },
    }
}

fn hint() -> String {
    "what lies under mount points is seen by root only (CAP_SYS_ADMIN): run sudo unwedge".to_owned()
}

fn why(entry: &MountEntry, error: Errno) -> String {
    let place = &entry.mount_point;
    match error {
        Errno::NOSYS => format!("what lies under mount points of {place} needs Linux 5.2 to be seen"),
        Errno::INVAL => format!(
            "what lies under mount points of {place} cannot be seen from this container: its mounts may not be taken apart"
        ),
        other => {
            format!("what lies under mount points of {place} cannot be seen: {}", std::io::Error::from(other))
        }
    }
}

fn mounts(context: &Context<'_>) -> Result<MountTable, String> {
    let parsed = context
        .proc()
        .own_mountinfo()
        .map_err(|error| format!("{error}; is /proc mounted? (mount -t proc proc /proc)"))?;
    Ok(MountTable::new(parsed))
}

/// Whether looking under its mount points cannot hang.
fn can_hide(table: &MountTable, entry: &MountEntry) -> bool {
    let fs_type = entry.fs_type.as_bytes();
    fs_types::classify(fs_type, entry.dev) == FsClass::Local && !table.may_hang(entry.mount_point.as_path())
}

/// Mounts on a mount, those left out that lie in a directory that another one covers anyway, and a directory that is
/// mounted on itself: a scan counts what is there.
fn covered<'a>(table: &'a MountTable, on: &MountEntry) -> Vec<&'a MountEntry> {
    let on_itself = |entry: &MountEntry| table.shows_its_seat(entry) && table.is_visible(entry);
    let (mut all, mut through) = (Vec::new(), vec![on.id]);
    while let Some(id) = through.pop() {
        for entry in table.mounted_on(id).filter(|entry| entry.mount_point != on.mount_point) {
            if on_itself(entry) {
                through.push(entry.id);
            } else {
                all.push(entry);
            }
        }
    }
    all.sort_by(|a, b| a.mount_point.as_path().cmp(b.mount_point.as_path()));
    // A path comes right before all that is below it.
    all.dedup_by(|later, earlier| later.mount_point.as_path().starts_with(earlier.mount_point.as_path()));
    all
}

/// Where what a mount on `on` covers is shown all the same: at another mount of the file system, or through an overlay
/// that has the covered directory among its layers.
fn shown_at(table: &MountTable, on: &MountEntry, entry: &MountEntry) -> Option<HostPath> {
    if overlay::shows_what_it_covers(entry) {
        return Some(entry.mount_point.clone());
    }
    // Lazily: the first will do, and there can be tens of thousands.
    let names = table.other_names(entry.mount_point.as_path(), on.id);
    let place = MountTable::inside(on, entry.mount_point.as_path())?;
    names.chain([entry.mount_point.as_path().to_path_buf()]).find_map(|name| {
        let top = table.at(&name)?;
        let there = top.id != on.id && top.dev == on.dev && MountTable::inside(top, &name)? == place;
        there.then(|| HostPath::new(name))
    })
}

fn below(
    context: &Context<'_>,
    table: &MountTable,
    on: &MountEntry,
    until: Instant,
) -> io::Result<Vec<HiddenData>> {
    let detached = Detached::of(&context.environment.rooted(on.mount_point.as_path()))?;
    let root = look(detached.root())?;
    let mut found = Vec::new();
    for entry in covered(table, on) {
        let Ok(inside) = entry.mount_point.as_path().strip_prefix(on.mount_point.as_path()) else { continue };
        match one(&detached, on, entry, inside, file_id::dev_ino(&root).dev, until) {
            Ok(hidden) => found.push(HiddenData { shown_at: shown_at(table, on, entry), ..hidden }),
            // Unmounted and removed meanwhile.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn one(
    detached: &Detached,
    on: &MountEntry,
    entry: &MountEntry,
    inside: &Path,
    dev: DevId,
    until: Instant,
) -> io::Result<HiddenData> {
    let fd = detached.look_at(inside)?;
    let stat = look(&fd)?;
    let mut hidden = HiddenData {
        on: on.mount_point.clone(),
        dev,
        mount_point: entry.mount_point.clone(),
        covered_by: redact::text([entry.fs_type.as_bytes(), b" ", entry.source.as_bytes()].concat()),
        allocated: Bytes::ZERO,
        own: Bytes(stat.stx_blocks.saturating_mul(512)),
        entries: 0,
        shown_at: None,
        incomplete: None,
    };
    if kind_of(stat.stx_mode) != FileKind::Directory {
        // A file that a file is mounted on: all of it is hidden.
        if stat.stx_size > 0 {
            (hidden.allocated, hidden.own, hidden.entries) = (hidden.own, Bytes::ZERO, 1);
        }
        return Ok(hidden);
    }
    let directory = detached.directory(inside)?;
    if is_empty(&directory)? {
        return Ok(hidden);
    }
    let shown = PathBuf::from(entry.mount_point.as_path());
    let scan = match Scan::start_in(directory, &shown, Some(THREADS)) {
        Ok(scan) => scan,
        Err(error) => {
            hidden.incomplete = Some(error.to_string());
            return Ok(hidden);
        }
    };
    let seen = scan.wait_for(until.saturating_duration_since(Instant::now()));
    hidden.allocated = seen.allocated.saturating_sub(hidden.own);
    hidden.entries = seen.entries.saturating_sub(1);
    hidden.incomplete = if !seen.finished {
        Some("the time was up".to_owned())
    } else if seen.unreadable > 0 {
        Some(format!("{} directories could not be read", seen.unreadable))
    } else {
        None
    };
    Ok(hidden)
}

fn is_empty(directory: impl std::os::fd::AsFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let name = entry?;
        if !matches!(name.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn look(file: impl std::os::fd::AsFd) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(file, c"", flags, StatxFlags::BASIC_STATS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn names(lines: &str, on: u32) -> Vec<String> {
        let table = MountTable::new(mountinfo::parse(lines.as_bytes()));
        covered(&table, table.by_id(on).unwrap()).into_iter().map(|e| e.mount_point.to_string()).collect()
    }

    #[test]
    fn what_another_mount_shows_is_not_out_of_sight() {
        let lines = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
             2 1 8:1 /var/d /var/d rw - ext4 /dev/a rw\n\
             3 1 0:9 / /home rw - tmpfs t rw\n\
             4 1 0:10 / /srv rw - tmpfs t rw\n\
             5 1 8:1 /srv /mnt rw - ext4 /dev/a rw\n\
             6 1 8:1 /home /x rw - ext4 /dev/a rw\n\
             7 6 0:11 / /x rw - tmpfs over rw\n";
        let table = MountTable::new(mountinfo::parse(lines.as_bytes()));
        let shown = |id| {
            let (on, entry) = (table.by_id(1).unwrap(), table.by_id(id).unwrap());
            shown_at(&table, on, entry).map(|path| path.to_string())
        };
        assert_eq!(
            names(lines, 1),
            ["/home", "/mnt", "/srv", "/x"],
            "a directory mounted on itself covers nothing"
        );
        assert_eq!(shown(4).as_deref(), Some("/mnt"));
        assert_eq!(shown(3), None, "what would show it is covered itself");
    }

    #[test]
    fn only_the_outermost_mount_points_of_the_mount_itself_count() {
        let lines = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
             2 1 0:9 / /a/b/c rw - tmpfs t rw\n\
             3 1 0:10 / /a/b rw - tmpfs t rw\n\
             4 1 0:11 / /a/bc rw - tmpfs t rw\n\
             5 3 0:12 / /a/b/d rw - tmpfs t rw\n\
             6 3 0:13 / /a/b rw - tmpfs over rw\n";
        assert_eq!(names(lines, 1), ["/a/b", "/a/bc"]);
        assert_eq!(
            names(lines, 3),
            ["/a/b/d"],
            "what is stacked on it covers its root, which is no data of it"
        );
        assert_eq!(names(lines, 4), Vec::<String>::new());
    }
}
