//! Moves a big file to another file system: copied, made durable, compared byte for byte, and only then removed here.
//!
//! A lease keeps everybody else from opening it meanwhile (SAFETY.md T8): whoever tries makes the move give up, with the copy
//! removed and the file where it was. The copy has a name of its own until it is whole, and never replaces anything.
//!
//! A move that was killed is taken up by the next one (T12): a copy that has its name already is compared and the file removed
//! here; a piece of one, which is told by its name and by being the beginning of this very file, is removed first.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RawDir, RenameFlags, Timespec, Timestamps, Uid, copy_file_range, openat,
    renameat_with, unlinkat,
};
use rustix::io::{self, Errno, retry_on_intr};

use super::rotate::{append, attributes, read};
use super::{NotDone, Session, remove, unused};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::past::EVACUATED;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::Stop;
use crate::exec::words::could_not;
use crate::journal::{RunId, SET_ASIDE};
use crate::sys::beneath::{self, Located, is_exclusive};
use crate::sys::file_id;

/// How much is copied or compared between two looks at the cancel flag.
const PIECE: u64 = 8 << 20;
/// What the progress counts in.
const MIB: u64 = 1 << 20;

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
    let stop = session.stop();
    let run = session.set_aside.strip_prefix(SET_ASIDE).unwrap_or(&session.set_aside);
    let name = CString::new(format!("{EVACUATED}{run}-{}", session.step))
        .map_err(|_| NotDone::Fail("bad name".to_owned()))?;
    let there = file_id::of_entry(&target.parent, &target.name).is_ok();
    let made = if there {
        is_copied(stop, &source, &target, progress)
    } else {
        remove_pieces(session, stop, &source, &target);
        copy(stop, &source, planned.size, &target, &name, progress)
    };
    let give_up = || {
        if !there {
            let _ = unlinkat(&target.parent, &name, AtFlags::empty());
        }
    };
    if let Err(failed) = made {
        give_up();
        return match failed {
            Failed::Stopped => Ok(Outcome::Cancelled { count: 0 }),
            Failed::Error(errno) => Err(NotDone::Fail(could_not("copy it", errno))),
            Failed::Differs if there => {
                Err(NotDone::Skip("something has that name at the target already".to_owned()))
            }
            Failed::Differs => Err(NotDone::Fail(
                "the copy reads back differently; look into the kernel log for trouble with one of the disks"
                    .to_owned(),
            )),
        };
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
    if !there {
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
    }
    if let Err(errno) = flush(&target) {
        return Err(NotDone::Fail(format!(
            "{}; the file is in both places now",
            could_not("make the copy's name durable", errno)
        )));
    }
    match remove::unlink(session, &located, planned, false) {
        // What was done is one file, however many pieces it was copied in.
        Ok(outcome) => Ok(outcome),
        Err(NotDone::Skip(why) | NotDone::Fail(why)) => {
            Err(NotDone::Fail(format!("it was copied to {to} but could not be removed here: {why}")))
        }
    }
}

fn flush(target: &Located) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&target.parent, c".", flags, Mode::empty())?;
    retry_on_intr(|| rustix::fs::fsync(&dir))
}

fn open_there(target: &Located, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    retry_on_intr(|| openat(&target.parent, name, flags, Mode::empty()))
}

/// Whether what has the name at the target is a whole copy of the file, made by a move that was killed before it removed the
/// file: the same owner, mode, size, time of modification and content. It is made durable.
fn is_copied(
    stop: Stop<'_>,
    source: &OwnedFd,
    target: &Located,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failed> {
    let copy = open_there(target, &target.name).map_err(|_| Failed::Differs)?;
    let (here, there) = (rustix::fs::fstat(source)?, rustix::fs::fstat(&copy)?);
    // Not every file system keeps nanoseconds.
    let same = here.st_mode == there.st_mode
        && (here.st_uid, here.st_gid) == (there.st_uid, there.st_gid)
        && (here.st_size, here.st_mtime) == (there.st_size, there.st_mtime)
        && there.st_nlink == 1;
    if !same {
        return Err(Failed::Differs);
    }
    let size = size_of(source)?;
    compare(stop, source, &copy, size, &mut |done| progress(size.div_ceil(MIB) + done))?;
    retry_on_intr(|| rustix::fs::fsync(&copy))?;
    Ok(())
}

/// Removes what runs that are dead have copied of this file.
fn remove_pieces(session: &Session<'_>, stop: Stop<'_>, source: &OwnedFd, target: &Located) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = openat(&target.parent, c".", flags, Mode::empty()) else { return };
    let mut names: Vec<CString> = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        let run = name.to_str().ok().and_then(|name| name.strip_prefix(EVACUATED)?.rsplit_once('-'));
        if run.and_then(|(run, _)| RunId::parse(run)).is_some_and(|run| !run.is_alive(&session.proc)) {
            names.push(name.to_owned());
        }
    }
    for name in names {
        let Ok(piece) = open_there(target, &name) else { continue };
        let regular = file_id::of_fd(&piece).is_ok_and(|id| id.kind == FileKind::File && id.links == 1);
        let Ok(size) = size_of(&piece) else { continue };
        // Nothing is lost with it: the file itself begins like that.
        if regular && compare(stop, source, &piece, size, &mut |_| ()).is_ok() {
            let _ = unlinkat(&target.parent, &name, AtFlags::empty());
        }
    }
}

/// Compares so much of two files.
fn compare(
    stop: Stop<'_>,
    one: &OwnedFd,
    other: &OwnedFd,
    size: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failed> {
    let mut at = 0;
    while at < size {
        if stop.wanted() {
            return Err(Failed::Stopped);
        }
        let end = size.min(at + PIECE);
        let here = read(one, at, end)?;
        if u64::try_from(here.len()).ok() != Some(end - at) || here != read(other, at, end)? {
            return Err(Failed::Differs);
        }
        at = end;
        progress(at / MIB);
    }
    Ok(())
}

/// Makes the copy and compares it.
fn copy(
    stop: Stop<'_>,
    source: &OwnedFd,
    size: u64,
    target: &Located,
    name: &CStr,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failed> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = retry_on_intr(|| openat(&target.parent, name, flags, Mode::RUSR | Mode::WUSR))?;
    let mut done = 0;
    while done < size {
        if stop.wanted() {
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
        progress(done / MIB);
    }
    let stat = rustix::fs::fstat(source)?;
    rustix::fs::fchown(&new, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attributes(source, &new)?;
    retry_on_intr(|| rustix::fs::fsync(&new))?;
    // What is compared is read from the disk, where the kernel lets go of what it has of it.
    let _ = rustix::fs::fadvise(&new, 0, None, rustix::fs::Advice::DontNeed);
    compare(stop, source, &new, size, &mut |done| progress(size.div_ceil(MIB) + done))?;
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
