//! Removes the old files of a swept directory, several at a time.
//!
//! Each goes in the way of a chosen one (see [`super::quarantine`]): it is opened and compared, the kernel says that nobody
//! else has it open, it is set aside, compared again, and removed. What differs is that a thread sets aside all its files in
//! one quarantine of its own, each under its own name: threads only wait for one another while a name leaves the directory.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::quarantine::Shared;
use super::sweep::Tally;
use super::{NotDone, Session, Stop, remove, unused};
use crate::domain::identity::FileKind;
use crate::domain::protect::ProtectSet;
use crate::domain::receipt::Outcome;
use crate::domain::sweep::{Candidate, Stays};
use crate::exec::words::could_not;
use crate::probe::sweep::Place;
use crate::sys::around::Around;
use crate::sys::beneath::Located;
use crate::sys::file_id;
use crate::sys::procfs::Proc;

/// Threads at most: each name leaves the same directory, so more of them wait for one another.
const MOST_THREADS: usize = 4;
/// Fewer files than this are not worth a second thread.
const WORTH_A_THREAD: usize = 64;

/// What every file is asked before it is touched.
struct Guards<'w> {
    place: &'w Place,
    protect: &'w ProtectSet,
    around: &'w Around,
}

/// What all threads share.
struct Work<'w> {
    guards: Guards<'w>,
    files: &'w [&'w Candidate],
    next: AtomicUsize,
    known: Mutex<&'w mut unused::Known>,
    proc: &'w Proc,
    /// Whether a file can be mapped though nobody has it open.
    on_overlay: bool,
    stop: Stop<'w>,
}

/// What became of a file that was tried.
enum Tried {
    Gone,
    NotThere,
    Stays(Stays),
    Problem(String),
}

/// Removes files of the directory. What they are is compared; a cancel leaves the rest.
pub fn remove(session: &mut Session<'_>, place: &Place, files: &[&Candidate]) -> Tally {
    let around = session.around();
    let name = format!("{}-{}", session.set_aside, session.step);
    let wanted = files.len().div_ceil(WORTH_A_THREAD).min(MOST_THREADS);
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(wanted)).max(1);
    // Where no directory can be made, as on a full file system, each is set aside in another way.
    let quarantines: Vec<Shared<'_>> =
        (0..threads).map_while(|number| Shared::make(place.top(), &format!("{name}x{number}"))).collect();
    if quarantines.is_empty() {
        return one_by_one(session, place, files);
    }
    let mut tally = Tally::default();
    let stop = session.stop();
    let work = Work {
        guards: Guards { place, protect: session.context.protect, around: &around },
        files,
        next: AtomicUsize::new(0),
        known: Mutex::new(&mut session.in_use),
        proc: &session.proc,
        on_overlay: unused::is_overlay(place.top()),
        stop,
    };
    thread::scope(|scope| {
        let mut started = Vec::new();
        let mut left = Vec::new();
        for quarantine in quarantines {
            let task = || work.until_none_is_left(quarantine);
            left.push(task);
        }
        let ours = left.pop();
        for task in left {
            // At the limit of processes this thread does all of it; the quarantine of the other stays empty and goes.
            if let Ok(thread) = thread::Builder::new().name("sweep".to_owned()).spawn_scoped(scope, task) {
                started.push(thread);
            }
        }
        if let Some(task) = ours {
            tally.add(task());
        }
        for thread in started {
            match thread.join() {
                Ok(theirs) => tally.add(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    tally
}

impl Work<'_> {
    fn until_none_is_left(&self, quarantine: Shared<'_>) -> Tally {
        let mut tally = Tally::default();
        while !self.stop.wanted()
            && let Some(one) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            match self.file(one, &quarantine) {
                Tried::Gone => tally.gone(one, 1),
                Tried::NotThere => {}
                Tried::Stays(why) => tally.stays(why),
                Tried::Problem(why) => tally.problem(&one.name, &why),
            }
        }
        if let Err(left) = quarantine.close() {
            tally.problem(&".".into(), &left);
        }
        tally
    }

    fn file(&self, planned: &Candidate, quarantine: &Shared<'_>) -> Tried {
        let Ok(name) = CString::new(planned.name.as_bytes()) else { return Tried::NotThere };
        let opened = match self.guards.look(planned, &name) {
            Ok(opened) => opened,
            Err(tried) => return tried,
        };
        // Whoever opens it from here on waits until it has no name any more. It is given back when the file is closed.
        if let Some(file) = &opened {
            match unused::by_lease(file, self.on_overlay) {
                Ok(true) => {}
                Ok(false) => return Tried::Stays(Stays::InUse),
                Err(()) => match self.is_open(planned) {
                    Ok(false) => {}
                    Ok(true) => return Tried::Stays(Stays::InUse),
                    Err(why) => return Tried::Problem(why),
                },
            }
        }
        match quarantine.take(&name) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Tried::NotThere,
            Err(errno) => return Tried::Problem(could_not("set it aside", errno)),
        }
        let now = file_id::aged(quarantine.dir(), &name).map(|aged| aged.id);
        if !now.is_ok_and(|now| planned.id.matches(&now).is_ok()) {
            let kind = now.map_or(FileKind::File, |now| now.kind);
            return match quarantine.give_back(&name, kind) {
                Ok(None) => Tried::Stays(Stays::Changed),
                Ok(Some(kept)) | Err(kept) => Tried::Problem(format!("changed meanwhile; {kept}")),
            };
        }
        match retry_on_intr(|| unlinkat(quarantine.dir(), &name, AtFlags::empty())) {
            Ok(()) => Tried::Gone,
            Err(errno) => {
                let why = could_not("remove it", errno);
                Tried::Problem(match quarantine.give_back(&name, planned.id.kind) {
                    Ok(None) => format!("{why}; it was put back"),
                    Ok(Some(kept)) | Err(kept) => format!("{why}; {kept}"),
                })
            }
        }
    }

    fn is_open(&self, planned: &Candidate) -> Result<bool, String> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.has(self.proc, planned.id.key)
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

/// The same, each in the way of a chosen file.
fn one_by_one(session: &mut Session<'_>, place: &Place, files: &[&Candidate]) -> Tally {
    let mut tally = Tally::default();
    for one in files {
        if session.stop().wanted() {
            break;
        }
        let Ok(name) = CString::new(one.name.as_bytes()) else { continue };
        let around = session.around();
        let guards = Guards { place, protect: session.context.protect, around: &around };
        let looked = guards.look(one, &name);
        match looked {
            Ok(opened) => drop(opened),
            Err(Tried::Stays(why)) => {
                tally.stays(why);
                continue;
            }
            Err(Tried::Problem(why)) => {
                tally.problem(&one.name, &why);
                continue;
            }
            Err(Tried::Gone | Tried::NotThere) => continue,
        }
        let Ok(parent) = place.top().as_fd().try_clone_to_owned() else { continue };
        match remove::unlink(session, &Located { parent, name }, &one.id, true) {
            Ok(Outcome::Done { count }) => tally.gone(one, count),
            Ok(Outcome::Partly { count, problems }) => {
                tally.gone(one, count);
                tally.problem(&one.name, &problems.join("; "));
            }
            Ok(Outcome::Cancelled { .. }) => break,
            Err(NotDone::Skip(_)) => tally.stays(Stays::Changed),
            Ok(Outcome::Skipped { why } | Outcome::Failed { why } | Outcome::Interrupted { why, .. })
            | Err(NotDone::Fail(why)) => tally.problem(&one.name, &why),
        }
    }
    tally
}
