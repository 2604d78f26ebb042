//! Removes a file or a directory tree: guards, set aside, compare again, remove.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::obstacles::{self, Found};
use super::own::Top;
use super::quarantine::{Compare, Held, set_aside};
use super::seal::Seal;
use super::tree::{self, Target};
use super::unused;
use super::{NotDone, Session};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::plan::Guard;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::exec::words::{could_not, explain};
use crate::journal::{RunId, SET_ASIDE};
use crate::sys::beneath::{self, Located, open_child_dir};
use crate::sys::file_id;

/// Opens the directory above and asks every guard of a removal.
pub fn locate(session: &mut Session<'_>, path: &HostPath, planned: &FileId) -> Result<Located, NotDone> {
    locate_as(session, path, planned, FileId::matches_untouched).map(|(located, _)| located)
}

/// The same, and what is there now.
fn locate_as(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    same: Compare,
) -> Result<(Located, FileId), NotDone> {
    let located = beneath::open_parent(path.as_path()).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => NotDone::Skip("it is not there any more".to_owned()),
        _ => NotDone::Skip(error.to_string()),
    })?;
    let now = file_id::of_entry(&located.parent, &located.name).map_err(|errno| match errno {
        Errno::NOENT => NotDone::Skip("it is not there any more".to_owned()),
        errno => NotDone::Fail(could_not("look at it", errno)),
    })?;
    same(planned, &now).map_err(|why| NotDone::Skip(format!("changed, skipped: {why}")))?;
    let around = session.around();
    let own = around.below.ours().map_err(NotDone::Skip)?;
    let above = guards::with_ancestors(&located.parent).map_err(NotDone::Skip)?;
    guards::not_protected(session.context.protect, now.key, &above, path, now.mount, own)
        .map_err(NotDone::Skip)?;
    around.not_held(path.as_path(), &now, &above).map_err(NotDone::Skip)?;
    own.writable(now.mount).map_err(NotDone::Skip)?;
    find_leftovers(session, &located, path);
    Ok((located, now))
}

/// Removes one name of a file that is no directory.
pub fn file(session: &mut Session<'_>, path: &HostPath, planned: &FileId) -> Result<Outcome, NotDone> {
    if planned.kind == FileKind::Directory {
        return Err(NotDone::Skip("it is a directory".to_owned()));
    }
    let unused = session.step_guards.contains(&Guard::NotInUse);
    if !session.step_guards.contains(&Guard::MayHaveGrown) {
        let located = locate(session, path, planned)?;
        return unlink(session, &located, planned, unused);
    }
    let (located, now) = locate_as(session, path, planned, untouched_or_grown)?;
    if planned.matches(&now).is_err() {
        written(session, &now)?;
    }
    unlink_as(session, &located, planned, FileId::matches_grown, unused)
}

fn untouched_or_grown(planned: &FileId, now: &FileId) -> Result<(), String> {
    match planned.matches(now) {
        Ok(()) => planned.matches_untouched(now),
        Err(_) => planned.matches_grown(now),
    }
}

/// A file that grew must be one that somebody still writes. What was added to and left is not what was shown.
fn written(session: &mut Session<'_>, now: &FileId) -> Result<(), NotDone> {
    match session.in_use.has(&session.proc, now.key) {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotDone::Skip(
            "changed, skipped: it grew since it was shown, and nobody has it open any more; choose it again"
                .to_owned(),
        )),
        Err(why) => Err(NotDone::Skip(format!("changed, skipped: it grew since it was shown; {why}"))),
    }
}

/// Removes a file in a directory that is open; where `unused` is asked for, only while nobody has it open.
pub fn unlink(
    session: &mut Session<'_>,
    located: &Located,
    planned: &FileId,
    unused: bool,
) -> Result<Outcome, NotDone> {
    unlink_as(session, located, planned, FileId::matches, unused)
}

fn unlink_as(
    session: &mut Session<'_>,
    located: &Located,
    planned: &FileId,
    same: Compare,
    unused: bool,
) -> Result<Outcome, NotDone> {
    let opened =
        if unused && planned.kind == FileKind::File { Some(unused::open(located, planned)?) } else { None };
    // Whoever opens it from here on waits until it has no name any more.
    let _lease = match &opened {
        Some(file) => unused::of_file(session, file, planned.key)?,
        None => None,
    };
    let held = set_aside(located, planned, same, &session.set_aside, session.step)?;
    let (dir, name) = held.place();
    match retry_on_intr(|| unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) => Ok(close(held, 1, Vec::new())),
        Err(errno) => Err(NotDone::Fail(put_back(held, &could_not("remove it", errno)))),
    }
}

/// Ends the removal of what is gone.
pub fn close(held: Held<'_>, count: u64, mut problems: Vec<String>) -> Outcome {
    if let Err(left) = held.close() {
        problems.push(left);
    }
    if problems.is_empty() { Outcome::Done { count } } else { Outcome::Partly { count, problems } }
}

/// Puts back what was set aside. Says why, and where it is now.
pub fn put_back(held: Held<'_>, why: &str) -> String {
    match held.put_back() {
        Ok(None) => format!("{why}; it was put back"),
        Ok(Some(kept)) | Err(kept) => format!("{why}; {kept}"),
    }
}

/// Removes a directory and all below it.
pub fn tree(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    if planned.kind != FileKind::Directory {
        return Err(NotDone::Skip("it is not a directory".to_owned()));
    }
    let located = locate(session, path, planned)?;
    remove_tree(session, &located, planned, &mut |_, _| Ok(()), progress)
}

/// Looks at a tree that was set aside, just before it is removed.
///
/// # Errors
/// Why it is put back instead, as a sentence.
pub type LastLook<'l> = dyn FnMut(&mut Session<'_>, &OwnedFd) -> Result<(), String> + 'l;

/// Removes a tree in a directory that is open. One of our own may be read-only; what stays of it stays so.
pub fn remove_tree(
    session: &mut Session<'_>,
    located: &Located,
    planned: &FileId,
    last_look: &mut LastLook<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    let note = |before, given| session.note_access(planned.key, before, given);
    let top = Top::open_up(located, planned, note);
    let result = take_apart(session, located, planned, last_look, progress);
    let stays = !matches!(result, Ok(Outcome::Done { .. }));
    let Some(top) = top.filter(|_| stays) else { return result };
    let Err(errno) = top.give_back() else { return result };
    let problem = could_not("give it back its mode", errno);
    match result {
        Ok(Outcome::Partly { count, mut problems }) => {
            problems.push(problem);
            Ok(Outcome::Partly { count, problems })
        }
        Ok(Outcome::Cancelled { count }) => {
            Ok(Outcome::Partly { count, problems: vec![CANCELLED.to_owned(), problem] })
        }
        Ok(Outcome::Failed { why }) => Ok(Outcome::Failed { why: format!("{why}; {problem}") }),
        Err(NotDone::Skip(why) | NotDone::Fail(why)) => Err(NotDone::Fail(format!("{why}; {problem}"))),
        Ok(other) => Ok(other),
    }
}

/// What is said of a tree that was cancelled with something else to be told.
const CANCELLED: &str = "cancelled: what remains is still there";

fn take_apart(
    session: &mut Session<'_>,
    located: &Located,
    planned: &FileId,
    last_look: &mut LastLook<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    let held = set_aside(located, planned, FileId::matches, &session.set_aside, session.step)?;
    let (dir, name) = held.place();
    let opened = open_child_dir(dir, name).and_then(|fd| Ok((file_id::of_fd(&fd)?, fd)));
    let top = match opened {
        Ok((now, top)) => match planned.matches(&now) {
            Ok(()) => top,
            Err(why) => return Err(NotDone::Skip(put_back(held, &format!("changed, skipped: {why}")))),
        },
        Err(Errno::XDEV) => {
            return Err(NotDone::Skip(put_back(
                held,
                "something is mounted on it, or it is a btrfs snapshot",
            )));
        }
        Err(errno) => return Err(NotDone::Fail(put_back(held, &could_not("open it", errno)))),
    };
    if let Err(why) = last_look(session, &top) {
        drop(top);
        return Err(NotDone::Skip(put_back(held, &why)));
    }
    // Nothing keeps root from any of it.
    if !rustix::process::geteuid().is_root() {
        match obstacles::look(&top, session.stop()) {
            Found::Nothing => {}
            Found::Cancelled => {
                drop(top);
                return match held.put_back() {
                    Ok(None) => Ok(Outcome::Cancelled { count: 0 }),
                    Ok(Some(kept)) | Err(kept) => Err(NotDone::Fail(format!("cancelled; {kept}"))),
                };
            }
            Found::Stays(why) => {
                drop(top);
                let why = format!(
                    "nothing of it was removed, because a part of it would stay: {why}; run unwedge as root, or delete \
                     its other parts one by one"
                );
                return Err(NotDone::Fail(put_back(held, &why)));
            }
        }
    }
    let note = |before, given| session.note_access(planned.key, before, given);
    let seal = if held.is_shut_off() { None } else { Seal::put_on(&top, note) };
    let shut_off = held.is_shut_off() || seal.is_some();
    let target =
        Target { top: &top, shut_off, aside: held.is_shut_off(), kept: session.around().kernel.stray() };
    let (cancelled, mut count, mut problems) = tree::empty(&target, session.stop(), progress);
    if !cancelled && problems.is_empty() {
        match remove_top(&held, planned) {
            Ok(()) => {
                count += 1;
                progress(count);
                return Ok(close(held, count, problems));
            }
            Err(why) => problems.push(why),
        }
    }
    if let Some(seal) = seal
        && let Err(why) = seal.take_off(&top)
    {
        problems.push(why);
    }
    drop(top);
    match held.put_back() {
        Ok(None) => {}
        Ok(Some(kept)) | Err(kept) => problems.push(kept),
    }
    Ok(match (cancelled, problems.is_empty(), count) {
        (true, true, _) => Outcome::Cancelled { count },
        (_, false, 0) if !cancelled => Outcome::Failed { why: problems.join("; ") },
        _ => {
            if cancelled {
                problems.insert(0, CANCELLED.to_owned());
            }
            Outcome::Partly { count, problems }
        }
    })
}

/// Removes the emptied top: only an empty directory can go here, and only the planned one.
fn remove_top(held: &Held<'_>, planned: &FileId) -> Result<(), String> {
    let (dir, name) = held.place();
    let now = file_id::of_entry(dir, name).map_err(|errno| could_not("find it again", errno))?;
    if now.key != planned.key {
        return Err("it was emptied, but another directory has its name now".to_owned());
    }
    retry_on_intr(|| unlinkat(dir, name, AtFlags::REMOVEDIR)).map_err(|errno| could_not("remove it", errno))
}

/// Looks, once per directory, for what runs that were killed have set aside there and never removed.
fn find_leftovers(session: &mut Session<'_>, located: &Located, path: &HostPath) {
    let Ok(id) = file_id::of_fd(&located.parent) else { return };
    if !session.searched.insert(id.key) {
        return;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = openat(located.parent.as_fd(), c".", flags, Mode::empty()) else { return };
    let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        if is_leftover(session, entry.file_name())
            // An empty one was made and never used, or its content went.
            && unlinkat(&dir, entry.file_name(), AtFlags::REMOVEDIR).is_err()
            && let Some(parent) = path.as_path().parent()
        {
            use std::os::unix::ffi::OsStrExt;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            session.leftovers.push(HostPath::from(parent.join(name)));
        }
    }
}

fn is_leftover(session: &Session<'_>, name: &CStr) -> bool {
    let Ok(text) = name.to_str() else { return false };
    let Some(rest) = text.strip_prefix(SET_ASIDE) else { return false };
    // `RUN-STEP`; the run is told from a living one by its process and when that started.
    let run = rest.rsplit_once('-').and_then(|(run, _)| RunId::parse(run));
    run.is_some_and(|run| !run.is_alive(&session.proc))
}

/// Says what the kernel said about an entry.
pub fn about(name: &CStr, errno: Errno) -> String {
    format!("{}: {}", crate::domain::text::HostText::new(name.to_bytes()), explain(errno))
}
