//! Moves a big file to another file system: copied, made durable, compared byte for byte, and only then removed here.
//!
//! A lease keeps everybody else from opening it meanwhile (SAFETY.md T8): whoever tries makes the move give up, with the copy
//! removed and the file where it was. The copy has a name of its own until it is whole, and never replaces anything.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, copy_file_range, openat,
    renameat_with, unlinkat,
};
use rustix::io::{self, Errno, retry_on_intr};

use super::quarantine::is_exclusive;
use super::rotate::{append, attributes, read};
use super::{NotDone, Session, remove, unused};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::words::could_not;
use crate::journal::SET_ASIDE;
use crate::sys::beneath::{self, Located};
use crate::sys::file_id;

/// How the name of the copy begins until it is whole. The id of the run and the step follow.
const NEW: &str = ".unwedge-evacuated-";
/// How much is copied or compared between two looks at the cancel flag.
const PIECE: u64 = 8 << 20;

/// Why a copy was given up.
enum Failed {
    Stopped,
    Error(Errno),
    Differs,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

/// Moves a file.
pub fn file(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    to: &HostPath,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    if planned.kind != FileKind::File || planned.links != 1 {
        return Err(NotDone::Skip("only a regular file with one name is moved".to_owned()));
    }
    let located = remove::locate(session, path, planned)?;
    let source = unused::open(&located, planned)?;
    let lease = unused::of_file(session, &source, planned.key)?;
    let target = beneath::open_parent(to.as_path()).map_err(|error| NotDone::Skip(error.to_string()))?;
    let place = file_id::of_fd(&target.parent)
        .map_err(|errno| NotDone::Fail(could_not("look at the target", errno)))?;
    if place.key.dev == planned.key.dev {
        return Err(NotDone::Skip(
            "the target is on the same file system; nothing would be gained".to_owned(),
        ));
    }
    if !is_exclusive(&target.parent) {
        return Err(NotDone::Skip(
            "other users can write to the target directory and could swap the copy; choose another one"
                .to_owned(),
        ));
    }
    let run = session.set_aside.strip_prefix(SET_ASIDE).unwrap_or(&session.set_aside);
    let name = CString::new(format!("{NEW}{run}-{}", session.step))
        .map_err(|_| NotDone::Fail("bad name".to_owned()))?;
    let give_up = || {
        let _ = unlinkat(&target.parent, &name, AtFlags::empty());
    };
    match copy(session, &source, planned.size, &target, &name) {
        Ok(()) => {}
        Err(failed) => {
            give_up();
            return match failed {
                Failed::Stopped => Ok(Outcome::Cancelled { count: 0 }),
                Failed::Error(errno) => Err(NotDone::Fail(could_not("copy it", errno))),
                Failed::Differs => Err(NotDone::Fail(
                    "the copy reads back differently; look into the kernel log for trouble with one of the disks".to_owned(),
                )),
            };
        }
    }
    // Whoever opens it waits until now, and would write to a file that is gone.
    let whole = lease.as_ref().is_none_or(|lease| lease.is_whole().unwrap_or(false));
    let same = file_id::of_fd(&source).is_ok_and(|now| planned.matches(&now).is_ok());
    if !whole || !same {
        give_up();
        return Err(NotDone::Skip(
            "somebody opened or changed it meanwhile; it stays where it is".to_owned(),
        ));
    }
    let named = retry_on_intr(|| {
        renameat_with(&target.parent, &name, &target.parent, &target.name, RenameFlags::NOREPLACE)
    });
    if let Err(errno) = named {
        give_up();
        return Err(match errno {
            Errno::EXIST => NotDone::Skip("something has that name at the target already".to_owned()),
            errno => NotDone::Fail(could_not("give the copy its name", errno)),
        });
    }
    if let Err(errno) = flush(&target) {
        return Err(NotDone::Fail(format!(
            "{}; the file is in both places now",
            could_not("make the copy's name durable", errno)
        )));
    }
    progress(1);
    remove::unlink(session, &located, planned, false).map_err(|not_done| match not_done {
        NotDone::Skip(why) | NotDone::Fail(why) => {
            NotDone::Fail(format!("it was copied to {to} but could not be removed here: {why}"))
        }
    })
}

fn flush(target: &Located) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&target.parent, c".", flags, Mode::empty())?;
    retry_on_intr(|| rustix::fs::fsync(&dir))
}

/// Makes the copy and compares it.
fn copy(
    session: &Session<'_>,
    source: &OwnedFd,
    size: u64,
    target: &Located,
    name: &CStr,
) -> Result<(), Failed> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = retry_on_intr(|| openat(&target.parent, name, flags, Mode::RUSR | Mode::WUSR))?;
    let mut done = 0;
    while done < size {
        if session.stop().wanted() {
            return Err(Failed::Stopped);
        }
        let length = usize::try_from(PIECE.min(size - done)).unwrap_or(0);
        let (mut from, mut to) = (done, done);
        match retry_on_intr(|| copy_file_range(source, Some(&mut from), &new, Some(&mut to), length)) {
            Ok(0) => return Err(Failed::Error(Errno::IO)),
            Ok(count) => done += u64::try_from(count).unwrap_or(0),
            // Not between these two: by reading and writing, from where it is now.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                rustix::fs::seek(&new, rustix::fs::SeekFrom::Start(done))?;
                let end = size.min(done + PIECE);
                append(source, done, end, &new)?;
                done = end;
            }
            Err(errno) => return Err(Failed::Error(errno)),
        }
    }
    let stat = rustix::fs::fstat(source)?;
    rustix::fs::fchown(&new, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attributes(source, &new)?;
    retry_on_intr(|| rustix::fs::fsync(&new))?;
    // What is compared is read from the disk, where the kernel lets go of what it has of it.
    let _ = rustix::fs::fadvise(&new, 0, None, rustix::fs::Advice::DontNeed);
    let mut at = 0;
    while at < size {
        if session.stop().wanted() {
            return Err(Failed::Stopped);
        }
        let end = size.min(at + PIECE);
        if read(source, at, end)? != read(&new, at, end)? {
            return Err(Failed::Differs);
        }
        at = end;
    }
    if size_of(&new)? != size {
        return Err(Failed::Differs);
    }
    let time = |secs: i64, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(&new, &times)?;
    Ok(())
}

fn size_of(file: &OwnedFd) -> io::Result<u64> {
    rustix::fs::fstat(file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0))
}
