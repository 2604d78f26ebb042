//! Removes a file or a directory tree: guards, set aside, compare again, remove.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::quarantine::{Held, set_aside};
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
    let located = beneath::open_parent(path.as_path()).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => NotDone::Skip("it is not there any more".to_owned()),
        _ => NotDone::Skip(error.to_string()),
    })?;
    let now = file_id::of_entry(&located.parent, &located.name).map_err(|errno| match errno {
        Errno::NOENT => NotDone::Skip("it is not there any more".to_owned()),
        errno => NotDone::Fail(could_not("look at it", errno)),
    })?;
    guards::same_file(planned, &now).map_err(NotDone::Skip)?;
    let around = session.around();
    let own = around.below.ours().map_err(NotDone::Skip)?;
    guards::not_protected(session.context.protect, now.key, &located.parent, path, now.mount, own)
        .map_err(NotDone::Skip)?;
    let above = beneath::with_ancestors(&located.parent)
        .map_err(|error| NotDone::Skip(format!("what it is in cannot be looked at: {error}")))?;
    guards::not_held(&around, path, &now, &above).map_err(NotDone::Skip)?;
    guards::writable(own, now.mount).map_err(NotDone::Skip)?;
    find_leftovers(session, &located, path);
    Ok(located)
}

/// Removes one name of a file that is no directory.
pub fn file(session: &mut Session<'_>, path: &HostPath, planned: &FileId) -> Result<Outcome, NotDone> {
    if planned.kind == FileKind::Directory {
        return Err(NotDone::Skip("it is a directory".to_owned()));
    }
    let located = locate(session, path, planned)?;
    unlink(session, &located, planned, session.step_guards.contains(&Guard::NotInUse))
}

/// Removes a file in a directory that is open; where `unused` is asked for, only while nobody has it open.
pub fn unlink(
    session: &mut Session<'_>,
    located: &Located,
    planned: &FileId,
    unused: bool,
) -> Result<Outcome, NotDone> {
    let opened =
        if unused && planned.kind == FileKind::File { Some(unused::open(located, planned)?) } else { None };
    // Whoever opens it from here on waits until it has no name any more.
    let _lease = match &opened {
        Some(file) => unused::of_file(session, file, planned.key)?,
        None => None,
    };
    let held = set_aside(located, planned, &session.set_aside, session.step)?;
    let (dir, name) = held.place();
    match retry_on_intr(|| unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) => Ok(close(held, 1, Vec::new())),
        Err(errno) => Err(NotDone::Fail(put_back(held, &could_not("remove it", errno)))),
    }
}

fn close(held: Held<'_>, count: u64, mut problems: Vec<String>) -> Outcome {
    if let Err(left) = held.close() {
        problems.push(left);
    }
    if problems.is_empty() { Outcome::Done { count } } else { Outcome::Partly { count, problems } }
}

fn put_back(held: Held<'_>, why: &str) -> String {
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

/// Removes a tree in a directory that is open.
pub fn remove_tree(
    session: &mut Session<'_>,
    located: &Located,
    planned: &FileId,
    last_look: &mut LastLook<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    let held = set_aside(located, planned, &session.set_aside, session.step)?;
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
    let seal = if held.is_shut_off() { None } else { Seal::put_on(&top) };
    let shut_off = held.is_shut_off() || seal.is_some();
    let unique = format!("{}-{}", session.set_aside, session.step);
    let target = Target { top: &top, shut_off, unique };
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
                problems.insert(0, "cancelled: what remains is still there".to_owned());
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
