//! Removes what is old in a swept directory, several things at a time.
//!
//! Each goes in the way of a chosen one (see [`super::quarantine`]): it is compared, the kernel says that nobody else uses it,
//! it is set aside, compared again, and removed. What differs is that a thread sets aside all of its share in one quarantine of
//! its own ([`super::shared_quarantine`]): threads only wait for one another while a name leaves the directory. Directories
//! are emptied together at the end, by one crew.
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::flat_dir::FlatDir;
use super::shared_quarantine::SharedQuarantine;
use super::sweep::Tally;
use super::tree::{self, Target};
use super::{NotDone, Session, Stop, remove, unused};
use crate::domain::identity::{DevIno, FileId, FileKind};
use crate::domain::protect::ProtectSet;
use crate::domain::receipt::Outcome;
use crate::domain::sweep::{Candidate, Class, MOST_THREADS, Stays};
use crate::exec::words::could_not;
use crate::probe::sweep::{Blocked, Place, Unit, Uses, Verdict, open_dir};
use crate::sys::around::Around;
use crate::sys::beneath::Located;
use crate::sys::file_id;
use crate::sys::layers::is_of_upper_only;
use crate::sys::procfs::Proc;

/// Fewer things than this are not worth a second thread.
const WORTH_A_THREAD: usize = 64;

/// What each is asked before it is touched.
struct Guards<'w> {
    place: &'w Place,
    protect: &'w ProtectSet,
    around: &'w Around,
}

/// Who uses what, asked of the kernel just before it goes.
pub struct Users<'w> {
    known: Mutex<&'w mut unused::Known>,
    proc: &'w Proc,
    /// Whether a file can be mapped though nobody has it open.
    on_overlay: bool,
}

/// What all threads share.
struct Work<'w> {
    guards: Guards<'w>,
    users: Users<'w>,
    items: &'w [&'w Candidate],
    next: AtomicUsize,
    stop: Stop<'w>,
}

/// What became of something that was tried.
enum Tried {
    /// A file is set aside and is the planned one; the next one, or the end, removes it.
    Due(Option<OwnedFd>),
    /// A directory lies in the quarantine, to be emptied.
    Aside,
    /// So many entries of a directory went, itself included: all of it.
    Gone(u64),
    /// So many entries of it went, and why not the others.
    Partly(u64, String),
    NotThere,
    Stays(Stays),
    Problem(String),
}

/// What a thread has done, and what it has set aside.
struct Share<'w> {
    tally: Tally,
    quarantine: SharedQuarantine<'w>,
    aside: Vec<&'w Candidate>,
    due: Option<Due<'w>>,
}

/// The file in the place for files: compared already.
struct Due<'w> {
    planned: &'w Candidate,
    /// Keeps its lease, so that nobody opens it while it has a name, and lets the last of it go outside of the rename.
    _file: Option<OwnedFd>,
}

/// Removes what goes of the directory. What it is is compared; a cancel leaves the rest. Directories are for root: of
/// others each is looked at whether all of it can go.
pub fn remove(session: &mut Session<'_>, place: &Place, items: &[&Candidate]) -> Tally {
    let around = session.around();
    let name = format!("{}-{}", session.set_aside, session.step);
    let wanted = items.len().div_ceil(WORTH_A_THREAD).min(MOST_THREADS);
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(wanted)).max(1);
    // Where no directory can be made, as on a full file system, each is set aside in another way.
    let quarantines: Vec<SharedQuarantine<'_>> = (0..threads)
        .map_while(|number| SharedQuarantine::make(place.top(), &format!("{name}x{number}")))
        .collect();
    if quarantines.is_empty() {
        return one_by_one(session, place, items);
    }
    let stop = session.stop();
    let work = Work {
        guards: Guards { place, protect: session.context.protect, around: &around },
        users: Users {
            known: Mutex::new(&mut session.in_use),
            proc: &session.proc,
            on_overlay: unused::is_overlay(place.top()),
        },
        items,
        next: AtomicUsize::new(0),
        stop,
    };
    let mut tally = Tally::default();
    for share in work.shares(quarantines) {
        let Share { tally: mut done, quarantine, aside, .. } = share;
        let target =
            Target { top: quarantine.dir(), shut_off: true, aside: true, kept: around.kernel.stray() };
        if !aside.is_empty() {
            empty(&target, stop, &quarantine, &aside, &mut done);
        }
        if let Err(left) = quarantine.close() {
            done.problem(&".".into(), &left);
        }
        tally.add(done);
    }
    tally
}

/// Empties a quarantine of directories; what stays of them gets its place back.
fn empty(
    target: &Target<'_>,
    stop: Stop<'_>,
    quarantine: &SharedQuarantine<'_>,
    aside: &[&Candidate],
    tally: &mut Tally,
) {
    let (cancelled, _, problems) = tree::empty(target, stop, &mut |_| {});
    let mut why = problems.into_iter();
    for one in aside {
        let Ok(name) = CString::new(one.name.as_bytes()) else { continue };
        if matches!(file_id::of_entry(quarantine.dir(), &name), Err(Errno::NOENT)) {
            tally.gone(one, one.entries);
            continue;
        }
        let back = match quarantine.give_back_dir(&name) {
            Ok(None) => String::new(),
            Ok(Some(kept)) | Err(kept) => format!("; {kept}"),
        };
        let why = why.next().unwrap_or_else(|| {
            if cancelled { "cancelled: what remains is still there" } else { "a part of it stays" }.to_owned()
        });
        tally.problem(&one.name, &format!("{why}{back}"));
    }
    why.for_each(|why| tally.problem(&".".into(), &why));
}

impl<'w> Work<'w> {
    /// Does the work with a thread for each quarantine.
    fn shares(&self, quarantines: Vec<SharedQuarantine<'w>>) -> Vec<Share<'w>> {
        let mut shares = Vec::new();
        thread::scope(|scope| {
            let mut started = Vec::new();
            let mut tasks: Vec<_> =
                quarantines.into_iter().map(|quarantine| || self.until_none_is_left(quarantine)).collect();
            let ours = tasks.pop();
            for task in tasks {
                // At the limit of processes this thread does all of it; the quarantine of the other stays empty.
                if let Ok(thread) = thread::Builder::new().name("sweep".to_owned()).spawn_scoped(scope, task)
                {
                    started.push(thread);
                }
            }
            shares.extend(ours.map(|task| task()));
            for thread in started {
                match thread.join() {
                    Ok(share) => shares.push(share),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        shares
    }

    fn until_none_is_left(&self, quarantine: SharedQuarantine<'w>) -> Share<'w> {
        let mut share = Share { tally: Tally::default(), quarantine, aside: Vec::new(), due: None };
        while !self.stop.wanted()
            && let Some(&one) = self.items.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let Ok(name) = CString::new(one.name.as_bytes()) else { continue };
            let tried = match one.class {
                Class::OldFile => self.file(one, &name, &mut share),
                Class::EmptyDir | Class::OldDir => self.directory(one, &name, &share.quarantine),
            };
            match tried {
                Tried::Due(file) => share.due = Some(Due { planned: one, _file: file }),
                Tried::Aside => share.aside.push(one),
                Tried::Gone(count) => share.tally.gone(one, count),
                Tried::Partly(count, why) => share.tally.partly(one, count, &why),
                Tried::NotThere => {}
                Tried::Stays(why) => share.tally.stays(why),
                Tried::Problem(why) => share.tally.problem(&one.name, &why),
            }
        }
        share.remove_due();
        share
    }

    fn file(&self, planned: &Candidate, name: &CStr, share: &mut Share<'_>) -> Tried {
        let opened = match self.guards.look(planned, name) {
            Ok(opened) => opened,
            Err(tried) => return tried,
        };
        // Whoever opens it from here on waits until it has no name any more. It is given back when the file is closed.
        if let Some(file) = &opened
            && let Err(blocked) = self.users.of_file(file, planned.id.key)
        {
            return blocked.into();
        }
        // A rename copies it up, and the copy would not be the one that was planned.
        if self.users.on_overlay && is_of_upper_only(self.guards.place.top(), name) == Some(false) {
            let why = "it is of a lower layer, such as a container's image, so that nothing would come back; it stays";
            return Tried::Problem(why.to_owned());
        }
        match share.take(planned, name) {
            Ok(()) => Tried::Due(opened),
            Err(tried) => tried,
        }
    }

    fn directory(&self, planned: &Candidate, name: &CStr, quarantine: &SharedQuarantine<'_>) -> Tried {
        let Guards { place, protect, around } = self.guards;
        let mut flat = FlatDir::new(&self.users);
        let now = match place.judge(name, protect, around, &mut flat) {
            Verdict::Goes(now) => now,
            Verdict::Gone => return Tried::NotThere,
            Verdict::Stays(why) => return Tried::Stays(why),
            Verdict::Problem(why) => return Tried::Problem(why),
        };
        if !is_planned(planned, &now) {
            return Tried::Stays(Stays::Changed);
        }
        let aside = match set_aside(planned, name, quarantine) {
            Ok(aside) => aside,
            Err(tried) => return tried,
        };
        if flat.is_all_of(now.entries) && aside.modified == now.id.modified {
            return flat_dir(&flat, name, quarantine);
        }
        drop(flat);
        // Somebody may have put something into it since it was walked; from now on nobody can.
        match self.last_look(planned, name, quarantine) {
            Ok(()) => Tried::Aside,
            Err(blocked) => back_as(name, quarantine, blocked),
        }
    }

    fn last_look(
        &self,
        planned: &Candidate,
        name: &CStr,
        quarantine: &SharedQuarantine<'_>,
    ) -> Result<(), Blocked> {
        let dir = open_unlocked(quarantine.dir(), name)?;
        look_into(&dir, planned, self.guards.place, &mut &self.users)
    }
}

/// Opens a directory that nobody has locked; the lock is ours until it is closed.
fn open_unlocked(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Blocked> {
    let dir = open_dir(parent, name).map_err(|errno| Blocked::Problem(could_not("open it", errno)))?;
    not_locked(&dir)?;
    Ok(dir)
}

/// Locks a directory, if nobody has. Some file systems have no locks.
fn not_locked(dir: &OwnedFd) -> Result<(), Blocked> {
    match flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Blocked::Locked),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a directory that was set aside with all that is held of it.
fn flat_dir(flat: &FlatDir<'_, '_>, name: &CStr, quarantine: &SharedQuarantine<'_>) -> Tried {
    let dir = match open_unlocked(quarantine.dir(), name) {
        Ok(dir) => dir,
        Err(blocked) => return back_as(name, quarantine, blocked),
    };
    let (gone, removed) = flat.remove_from(&dir);
    match removed.and_then(|()| quarantine.remove_dir(name)) {
        Ok(()) => Tried::Gone(gone + 1),
        Err(errno) => {
            let why = could_not("remove all of it", errno);
            Tried::Partly(gone, with_place(&why, quarantine.give_back_dir(name)))
        }
    }
}

/// Looks through a directory that was set aside, and that nobody has locked: nobody uses it, and nothing came in.
///
/// # Errors
/// Why it is put back.
fn look_into(dir: &OwnedFd, planned: &Candidate, place: &Place, uses: &mut dyn Uses) -> Result<(), Blocked> {
    let mut unit = Unit { newest: i64::MIN, ..Unit::default() };
    unit.walk(dir, &planned.id, uses)?;
    if unit.newest != i64::MIN && !place.is_old_content(unit.newest) {
        return Err(Blocked::Problem("something came in meanwhile".to_owned()));
    }
    Ok(())
}

/// Whether a directory is the planned one, and nothing is in it that the plan would have told.
pub fn is_planned(planned: &Candidate, now: &Candidate) -> bool {
    let of_root = now.of_root && !planned.of_root;
    let precious = now.precious.is_some() && planned.precious.is_none();
    planned.id.matches_inode(&now.id).is_ok() && !of_root && !precious
}

impl Share<'_> {
    /// Sets a file aside, which removes the one before it, and compares it again; puts it back if it is not the planned one.
    fn take(&mut self, planned: &Candidate, name: &CStr) -> Result<(), Tried> {
        if self.due.as_ref().is_some_and(|due| due.planned.id.key == planned.id.key) {
            self.remove_due();
        }
        // What could neither be removed nor put back is never replaced.
        let set_aside = match self.due {
            Some(_) => self.quarantine.take_file_instead(name),
            None => self.quarantine.take_file(name),
        };
        match set_aside {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(Tried::NotThere),
            // It is a directory by now.
            Err(Errno::NOTDIR) => return Err(Tried::Stays(Stays::Changed)),
            Err(errno) => return Err(Tried::Problem(could_not("set it aside", errno))),
        }
        if let Some(due) = self.due.take() {
            self.tally.gone(due.planned, 1);
        }
        let now = self.quarantine.file().map(|aged| aged.id);
        if now.is_ok_and(|now| planned.id.matches(&now).is_ok()) {
            return Ok(());
        }
        Err(changed(self.quarantine.give_back_file(name, now.map_or(planned.id.kind, |now| now.kind))))
    }

    /// Removes the last file that was set aside.
    fn remove_due(&mut self) {
        let Some(due) = self.due.take() else { return };
        let Err(errno) = self.quarantine.remove_file() else { return self.tally.gone(due.planned, 1) };
        let name = CString::new(due.planned.name.as_bytes()).unwrap_or_default();
        let why = could_not("remove it", errno);
        let back = self.quarantine.give_back_file(&name, due.planned.id.kind);
        self.tally.problem(&due.planned.name, &with_place(&why, back));
    }
}

/// Sets a directory aside and compares it again; puts it back if it is not the planned one.
fn set_aside(planned: &Candidate, name: &CStr, quarantine: &SharedQuarantine<'_>) -> Result<FileId, Tried> {
    match quarantine.take_dir(name) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Err(Tried::NotThere),
        Err(errno) => return Err(Tried::Problem(could_not("set it aside", errno))),
    }
    if let Ok(now) = file_id::aged(quarantine.dir(), name)
        && planned.id.matches(&now.id).is_ok()
    {
        return Ok(now.id);
    }
    Err(changed(quarantine.give_back_dir(name)))
}

/// What is told of something that is not the planned one and was put back.
fn changed(back: Result<Option<String>, String>) -> Tried {
    match back {
        Ok(None) => Tried::Stays(Stays::Changed),
        Ok(Some(kept)) | Err(kept) => Tried::Problem(format!("changed meanwhile; {kept}")),
    }
}

/// Why something could not be removed, and where it is now.
fn with_place(why: &str, back: Result<Option<String>, String>) -> String {
    match back {
        Ok(None) => format!("{why}; it was put back"),
        Ok(Some(kept)) | Err(kept) => format!("{why}; {kept}"),
    }
}

/// Puts a directory back that stays.
fn back_as(name: &CStr, quarantine: &SharedQuarantine<'_>, blocked: Blocked) -> Tried {
    let back = quarantine.give_back_dir(name);
    match (Tried::from(blocked), back) {
        (Tried::Problem(why), back) => Tried::Problem(with_place(&why, back)),
        (Tried::Stays(stays), Ok(Some(kept)) | Err(kept)) => Tried::Problem(format!("{stays}; {kept}")),
        (tried, _) => tried,
    }
}

impl From<Blocked> for Tried {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::InUse => Self::Stays(Stays::InUse),
            Blocked::Locked => Self::Stays(Stays::Locked),
            Blocked::Problem(why) => Self::Problem(why),
        }
    }
}

impl Guards<'_> {
    /// Opens a regular file and asks every guard but the last; a symbolic link has nothing to be opened.
    fn look(&self, planned: &Candidate, name: &CStr) -> Result<Option<OwnedFd>, Tried> {
        let cannot = |what: &str, errno| Tried::Problem(could_not(what, errno));
        let opened = if planned.id.kind == FileKind::File {
            match unused::open_plain(self.place.top(), name) {
                Ok(file) => Some(file),
                Err(Errno::NOENT) => return Err(Tried::NotThere),
                Err(Errno::LOOP) => return Err(Tried::Stays(Stays::Changed)),
                Err(errno) => return Err(cannot("open it to see whether it is in use", errno)),
            }
        } else {
            None
        };
        let seen = match &opened {
            Some(file) => file_id::aged(file, c""),
            None => file_id::aged(self.place.top(), name),
        };
        let now = match seen {
            Ok(now) => now,
            Err(Errno::NOENT) => return Err(Tried::NotThere),
            Err(errno) => return Err(cannot("look at it", errno)),
        };
        if planned.id.matches_untouched(&now.id).is_err() {
            return Err(Tried::Stays(Stays::Changed));
        }
        if self.place.keeps(name) {
            return Err(Tried::Stays(Stays::Kept));
        }
        if !self.place.is_old_file(now.id.kind, now.newest) {
            return Err(Tried::Stays(Stays::Young));
        }
        if self.protect.check(now.id.key, self.place.above()).is_err() {
            return Err(Tried::Stays(Stays::Protected));
        }
        let path = self.place.path_of(name);
        if self.around.not_held(path.as_path(), &now.id, self.place.above()).is_err() {
            return Err(Tried::Stays(Stays::Mounted));
        }
        Ok(opened)
    }
}

impl Users<'_> {
    /// Whether nobody else uses an open file. It stays so until the file is closed, if the kernel has leases there.
    pub fn of_file(&self, file: &OwnedFd, key: DevIno) -> Result<(), Blocked> {
        match unused::by_lease(file, self.on_overlay) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Blocked::InUse),
            Err(()) => self.of_anything(key),
        }
    }

    /// Whether no process uses a file or directory, by what processes have open.
    pub fn of_anything(&self, key: DevIno) -> Result<(), Blocked> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.has(self.proc, key) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Blocked::InUse),
            Err(why) => Err(Blocked::Problem(why)),
        }
    }
}

impl Uses for &Users<'_> {
    fn file(&mut self, dir: &OwnedFd, name: &CStr, key: DevIno) -> Result<(), Blocked> {
        match unused::open_plain(dir, name) {
            Ok(file) => self.of_file(&file, key),
            // What may not be opened is looked up among what processes have open.
            Err(_) => self.of_anything(key),
        }
    }

    fn directory(&mut self, key: DevIno) -> Result<(), Blocked> {
        self.of_anything(key)
    }
}

/// The same, each in the way of a chosen one.
pub fn one_by_one(session: &mut Session<'_>, place: &Place, items: &[&Candidate]) -> Tally {
    let mut tally = Tally::default();
    for one in items {
        if session.stop().wanted() {
            break;
        }
        let Ok(name) = CString::new(one.name.as_bytes()) else { continue };
        match single(session, place, one, name) {
            Ok(Outcome::Done { count }) => tally.gone(one, count),
            Ok(Outcome::Partly { count, problems }) => tally.partly(one, count, &problems.join("; ")),
            Ok(Outcome::Cancelled { count }) => {
                tally.partly(one, count, "cancelled: what remains is still there");
                break;
            }
            Ok(Outcome::Skipped { why } | Outcome::Failed { why } | Outcome::Interrupted { why, .. })
            | Err(Tried::Problem(why)) => tally.problem(&one.name, &why),
            Err(Tried::Stays(why)) => tally.stays(why),
            Err(Tried::Due(_) | Tried::Aside | Tried::Gone(_) | Tried::Partly(..) | Tried::NotThere) => {}
        }
    }
    tally
}

fn single(
    session: &mut Session<'_>,
    place: &Place,
    planned: &Candidate,
    name: CString,
) -> Result<Outcome, Tried> {
    let around = session.around();
    let protect = session.context.protect;
    let parent =
        place.top().as_fd().try_clone_to_owned().map_err(|error| Tried::Problem(error.to_string()))?;
    let skipped = |not_done| match not_done {
        NotDone::Skip(_) => Tried::Stays(Stays::Changed),
        NotDone::Fail(why) => Tried::Problem(why),
    };
    if planned.class == Class::OldFile {
        Guards { place, protect, around: &around }.look(planned, &name)?;
        return remove::unlink(session, &Located { parent, name }, &planned.id, true).map_err(skipped);
    }
    let verdict = place.judge(&name, protect, &around, &mut Asked { session });
    let now = match verdict {
        Verdict::Goes(now) if is_planned(planned, &now) => now,
        Verdict::Goes(_) => return Err(Tried::Stays(Stays::Changed)),
        Verdict::Gone => return Err(Tried::NotThere),
        Verdict::Stays(why) => return Err(Tried::Stays(why)),
        Verdict::Problem(why) => return Err(Tried::Problem(why)),
    };
    let mut last_look = |session: &mut Session<'_>, top: &OwnedFd| {
        let looked = not_locked(top).and_then(|()| look_into(top, planned, place, &mut Asked { session }));
        looked.map_err(|blocked| match blocked {
            Blocked::InUse => "in use".to_owned(),
            Blocked::Locked => "locked".to_owned(),
            Blocked::Problem(why) => why,
        })
    };
    let located = Located { parent, name };
    remove::remove_tree(session, &located, &now.id, &mut last_look, &mut |_| {}).map_err(skipped)
}

/// The same question for one that is removed by itself.
struct Asked<'s, 'a> {
    session: &'s mut Session<'a>,
}

impl Uses for Asked<'_, '_> {
    fn file(&mut self, dir: &OwnedFd, name: &CStr, key: DevIno) -> Result<(), Blocked> {
        match unused::open_plain(dir, name) {
            Ok(file) => unused::of_file(self.session, &file, key).map(drop).map_err(|_| Blocked::InUse),
            Err(_) => self.directory(key),
        }
    }

    fn directory(&mut self, key: DevIno) -> Result<(), Blocked> {
        match self.session.has_open(key) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Blocked::InUse),
            Err(why) => Err(Blocked::Problem(why)),
        }
    }
}
