//! Removes what is old from an over-full directory (SAFETY.md T5, T8, T10, T27): files, empty directories, and other
//! directories as a whole. What goes is decided by [`crate::domain::sweep`] entry by entry, from what is seen just
//! before; each is removed in the way of a chosen one, quarantine and comparison included.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::{self, Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

use super::{NotDone, Session, remove, unused};
use crate::domain::identity::{DevIno, FileId, FileKind};
use crate::domain::receipt::Outcome;
use crate::domain::sweep::{Ages, Budget, Entry, KeepList, MOST_ENTRIES, MOST_SECS, Stays, judge};
use crate::domain::text::{HostPath, HostText};
use crate::exec::guards;
use crate::exec::lock::clock;
use crate::exec::words::could_not;
use crate::sys::beneath::{self, Located};
use crate::sys::{file_id, tmpfiles};

/// Directories inside one another that are looked into; what is deeper stays.
const DEEPEST: usize = 50;
/// Problems that are told one by one.
const TOLD: usize = 10;
/// A clock that was set by more than this tells no ages any more.
const JUMP_SECS: i64 = 86_400;

/// What a sweep has done so far.
#[derive(Default)]
struct Tally {
    removed: u64,
    stays: BTreeMap<&'static str, u64>,
    problems: Vec<String>,
    more_problems: u64,
}

impl Tally {
    fn stays(&mut self, why: &'static str) {
        *self.stays.entry(why).or_default() += 1;
    }

    fn problem(&mut self, name: &CStr, why: &str) {
        if self.problems.len() < TOLD {
            self.problems.push(format!("{}: {why}", HostText::new(name.to_bytes())));
        } else {
            self.more_problems += 1;
        }
    }

    fn why_nothing(&self) -> String {
        let parts: Vec<String> = self.stays.iter().map(|(why, count)| format!("{count} {why}")).collect();
        if parts.is_empty() {
            "there is nothing in it".to_owned()
        } else {
            format!("what is there stays: {}", parts.join(", "))
        }
    }
}

/// The directory that is swept.
struct Place<'p> {
    path: &'p HostPath,
    top: OwnedFd,
    id: FileId,
    /// Itself and what is above it, nearest first.
    above: Vec<DevIno>,
    /// Whether everybody can write to it.
    shared: bool,
    ages: Ages,
    keep: KeepList,
    /// Wall clock minus the time since boot, in seconds, when the sweep began.
    clock: i64,
}

/// Sweeps a directory.
pub fn dir(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    ages: &Ages,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    let fail = |errno| NotDone::Fail(could_not("look at it", errno));
    let located = beneath::open_parent(path.as_path()).map_err(|error| NotDone::Skip(error.to_string()))?;
    // A file system of its own may be mounted there, as on /tmp: so across mounts, but through no link.
    let top = open_dir(&located.parent, &located.name).map_err(|errno| match errno {
        Errno::NOENT => NotDone::Skip("it is not there any more".to_owned()),
        Errno::NOTDIR | Errno::LOOP => NotDone::Skip("it is no directory, or a link to one".to_owned()),
        errno => NotDone::Fail(could_not("open it", errno)),
    })?;
    let id = file_id::of_fd(&top).map_err(fail)?;
    planned.matches_inode(&id).map_err(|why| NotDone::Skip(format!("changed, skipped: {why}")))?;
    let above = beneath::with_ancestors(&top).map_err(fail)?;
    if let Some(found) = session.context.protect.covers(id.key, &above) {
        return Err(NotDone::Skip(format!(
            "{} is protected with everything in it: {}",
            found.path, found.why
        )));
    }
    if session.clock_before.is_some_and(|before| (clock() - before).abs() > JUMP_SECS) {
        return Err(NotDone::Skip(
            "the clock was set by more than a day since the last run, so no age can be trusted; run it again if it is \
             right now"
                .to_owned(),
        ));
    }
    let around = session.around();
    let own = around.below.ours().map_err(NotDone::Skip)?;
    guards::writable(own, id.mount).map_err(NotDone::Skip)?;
    let environment = session.context.environment;
    let kept = tmpfiles::kept_paths(|path| environment.rooted(path));
    let keep = KeepList::new(path, &session.context.settings.sweep.keep, &kept).map_err(NotDone::Skip)?;
    let shared = rustix::fs::fstat(&top).map_err(fail)?.st_mode & 0o002 != 0;
    let figures = rustix::fs::fstatvfs(&top).map_err(fail)?;
    let budget = Budget::of(figures.f_blocks.saturating_mul(figures.f_frsize));
    let place = Place { path, top, id, above, shared, ages: *ages, keep, clock: clock() };
    place.sweep(session, budget, progress)
}

/// Opens a directory without making it younger, where that is allowed (`O_NOATIME` is for owners, open(2)).
fn open_dir(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match retry_on_intr(|| openat(parent, name, flags | OFlags::NOATIME, Mode::empty())) {
        Err(Errno::PERM) => retry_on_intr(|| openat(parent, name, flags, Mode::empty())),
        other => other,
    }
}

/// What a sweep makes of one entry.
enum Verdict {
    Goes { bytes: u64, entries: u64 },
    Stays(&'static str),
    Problem(String),
}

impl Place<'_> {
    fn sweep(
        &self,
        session: &mut Session<'_>,
        mut budget: Budget,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Outcome, NotDone> {
        let began = Instant::now();
        let mut tally = Tally::default();
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut entries = RawDir::new(&self.top, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    tally.problem(c".", &could_not("read it", errno));
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if session.stop().wanted() {
                return Ok(Outcome::Cancelled { count: tally.removed });
            }
            if began.elapsed() > Duration::from_secs(MOST_SECS) {
                tally.problems.push(format!(
                    "stopped: one run takes {} minutes at most; sweep again for the rest",
                    MOST_SECS / 60
                ));
                break;
            }
            if (clock() - self.clock).abs() > JUMP_SECS {
                tally
                    .problems
                    .push("stopped: the clock was set meanwhile, so no age can be trusted".to_owned());
                break;
            }
            if self.keep.keeps(name.to_bytes()) {
                tally.stays("in the keep lists");
                continue;
            }
            let Ok(id) = file_id::of_entry(&self.top, name) else { continue };
            match self.verdict(session, name, &id) {
                Verdict::Stays(why) => tally.stays(why),
                Verdict::Problem(why) => tally.problem(name, &why),
                Verdict::Goes { bytes, entries } => {
                    if let Err(why) = budget.take(bytes, entries) {
                        tally.problems.push(why);
                        break;
                    }
                    match self.remove(session, name, &id) {
                        Ok(Outcome::Done { count }) => tally.removed += count,
                        Ok(Outcome::Partly { count, problems }) => {
                            tally.removed += count;
                            tally.problem(name, &problems.join("; "));
                        }
                        Ok(Outcome::Cancelled { count }) => {
                            return Ok(Outcome::Cancelled { count: tally.removed + count });
                        }
                        Err(NotDone::Skip(_)) => tally.stays("in use, or changed meanwhile"),
                        Ok(
                            Outcome::Skipped { why }
                            | Outcome::Failed { why }
                            | Outcome::Interrupted { why, .. },
                        )
                        | Err(NotDone::Fail(why)) => tally.problem(name, &why),
                    }
                    progress(tally.removed);
                }
            }
        }
        tally.outcome()
    }

    /// The newest of all times of an entry, its owner, and the space it takes.
    fn times(dir: &OwnedFd, name: &CStr) -> io::Result<(i64, u32, u64)> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let stat = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        let born = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
        let newest = [Some(stat.stx_atime), Some(stat.stx_mtime), Some(stat.stx_ctime), born];
        // Any part of a second makes it younger.
        let newest = newest.iter().flatten().map(|stamp| stamp.tv_sec.saturating_add(1)).max();
        Ok((newest.unwrap_or(i64::MAX), stat.stx_uid, stat.stx_blocks.saturating_mul(512)))
    }

    fn verdict(&self, session: &mut Session<'_>, name: &CStr, id: &FileId) -> Verdict {
        if !id.mount.same_mount(self.id.mount) {
            return Verdict::Stays("mounted");
        }
        if session.context.protect.check(id.key, &self.above).is_err() {
            return Verdict::Stays("protected");
        }
        let Ok((newest, owner, bytes)) = Self::times(&self.top, name) else {
            return Verdict::Stays("gone meanwhile");
        };
        let path = self.path.as_path().join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        if guards::not_held(&session.around(), &HostPath::from(path), id, &self.above).is_err() {
            return Verdict::Stays("mounted on or below, or in use as a disk or by a container");
        }
        let mut unit = Unit { newest, of_root: false, special: false, entries: 1, bytes };
        let mut empty = false;
        if id.kind == FileKind::Directory {
            let own = Entry { kind: id.kind, newest, empty: true, of_root: owner == 0, holds_special: false };
            // Before it is walked: what is young by itself is not looked into.
            match judge(&own, &self.ages, now(), self.shared) {
                Ok(()) => {}
                Err(why) => return Verdict::Stays(word(why)),
            }
            let walked = open_dir(&self.top, name)
                .map_err(|errno| Blocked::Problem(could_not("open it", errno)))
                .and_then(|dir| unit.walk(session, &dir, id, 0))
                .and_then(|()| not_in_use(session, id.key));
            if let Err(blocked) = walked {
                return blocked.verdict();
            }
            unit.of_root |= owner == 0;
            empty = unit.entries == 1;
        }
        let entry = Entry {
            kind: id.kind,
            newest: unit.newest,
            empty,
            of_root: unit.of_root,
            holds_special: unit.special,
        };
        match judge(&entry, &self.ages, now(), self.shared) {
            Ok(()) => Verdict::Goes { bytes: unit.bytes, entries: unit.entries },
            Err(why) => Verdict::Stays(word(why)),
        }
    }

    fn remove(&self, session: &mut Session<'_>, name: &CStr, id: &FileId) -> Result<Outcome, NotDone> {
        let parent = self.top.try_clone().map_err(|error| NotDone::Fail(error.to_string()))?;
        let located = Located { parent, name: name.to_owned() };
        if id.kind != FileKind::Directory {
            return remove::unlink(session, &located, id, true);
        }
        // Somebody may have put something into it since it was walked; from now on nobody can.
        let mut last_look = |session: &mut Session<'_>, top: &OwnedFd| {
            let mut unit = Unit { newest: i64::MIN, ..Unit::default() };
            unit.walk(session, top, id, 0).map_err(|blocked| match blocked {
                Blocked::InUse => "in use".to_owned(),
                Blocked::Problem(why) => why,
            })?;
            let age = now().saturating_sub(unit.newest);
            let old = if unit.entries == 0 { self.ages.empty_dir_secs } else { self.ages.dir_secs };
            if unit.newest != i64::MIN && u64::try_from(age).unwrap_or(0) <= old {
                return Err("something came in meanwhile".to_owned());
            }
            Ok(())
        };
        remove::remove_tree(session, &located, id, &mut last_look, &mut |_| {})
    }
}

fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

fn word(why: Stays) -> &'static str {
    match why {
        Stays::Young => "young",
        Stays::Special => "sockets, fifos or devices, or with such in them",
        Stays::OfRoot => "directories of root where everybody can write",
    }
}

/// Why a directory is not swept as a whole.
enum Blocked {
    InUse,
    Problem(String),
}

impl Blocked {
    fn verdict(self) -> Verdict {
        match self {
            Self::InUse => Verdict::Stays("in use"),
            Self::Problem(why) => Verdict::Problem(why),
        }
    }
}

/// A directory with all in it.
#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    newest: i64,
    of_root: bool,
    special: bool,
    entries: u64,
    bytes: u64,
}

impl Unit {
    /// Walks a directory. An error where something in it is in use, or cannot be looked at.
    fn walk(
        &mut self,
        session: &mut Session<'_>,
        dir: &OwnedFd,
        id: &FileId,
        depth: usize,
    ) -> Result<(), Blocked> {
        let problem = |text: &str| Err(Blocked::Problem(text.to_owned()));
        let cannot = |what, errno| Blocked::Problem(could_not(what, errno));
        if depth >= DEEPEST {
            return problem("too many directories inside one another to be swept; delete it in the tree");
        }
        let now = file_id::of_fd(dir).map_err(|errno| cannot("look into it", errno))?;
        if !now.mount.same_mount(id.mount) || now.key.dev != id.key.dev {
            return problem("something is mounted in it");
        }
        let mut dirs: Vec<CString> = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(cannot("read it", errno)),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return problem("so many entries in it that it is beyond one sweep; delete it in the tree");
            }
            let Ok((newest, owner, bytes)) = Place::times(dir, name) else { continue };
            let Ok(seen) = file_id::of_entry(dir, name) else { continue };
            self.newest = self.newest.max(newest);
            self.bytes = self.bytes.saturating_add(bytes);
            match seen.kind {
                FileKind::Directory => {
                    self.of_root |= owner == 0;
                    dirs.push(name.to_owned());
                }
                FileKind::File => unused_file(session, dir, name, &seen)?,
                FileKind::Symlink => {}
                FileKind::Socket | FileKind::Fifo | FileKind::Device | FileKind::Other => self.special = true,
            }
            if seen.kind == FileKind::Directory {
                not_in_use(session, seen.key)?;
            }
        }
        for name in dirs {
            let below = open_dir(dir, &name).map_err(|errno| cannot("look into it", errno))?;
            self.walk(session, &below, id, depth + 1)?;
        }
        Ok(())
    }
}

/// Whether nobody has a file of a directory in use. What may not be opened is looked up among what processes have open.
fn unused_file(session: &mut Session<'_>, dir: &OwnedFd, name: &CStr, seen: &FileId) -> Result<(), Blocked> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(file) = retry_on_intr(|| openat(dir, name, flags, Mode::empty())) {
        return unused::of_file(session, &file, seen.key).map(drop).map_err(|_| Blocked::InUse);
    }
    not_in_use(session, seen.key)
}

fn not_in_use(session: &mut Session<'_>, key: DevIno) -> Result<(), Blocked> {
    match session.in_use.has(&session.proc, key) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Blocked::InUse),
        Err(why) => Err(Blocked::Problem(why)),
    }
}

impl Tally {
    fn outcome(mut self) -> Result<Outcome, NotDone> {
        if self.more_problems > 0 {
            self.problems.push(format!("and {} more like these", self.more_problems));
        }
        let count = self.removed;
        match (count, self.problems.is_empty()) {
            (0, true) => Err(NotDone::Skip(self.why_nothing())),
            (0, false) => Err(NotDone::Fail(format!("{}; {}", self.problems.join("; "), self.why_nothing()))),
            (_, true) => Ok(Outcome::Done { count }),
            (_, false) => Ok(Outcome::Partly { count, problems: self.problems }),
        }
    }
}
