//! Moves a big file to another file system: copied, made durable, compared byte for byte, and only then removed here.
//!
//! A lease tells when somebody opens it meanwhile (SAFETY.md T8): he does not wait, and the move is given up, with the copy
//! removed and the file where it was. The copy has a name of its own until it is whole, and never replaces anything. Nobody can
//! read it who could not get at the file for the directories above that; what its mode was is in the journal by then (T38).
//!
//! A move that was killed is taken up by the next one (T12): a copy that has its name already is compared and the file removed
//! here; a piece of one, which is told by its name and by being the beginning of this very file, is removed first.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RawDir, RenameFlags, Timespec, Timestamps, Uid, copy_file_range, openat,
    renameat_with, unlinkat,
};
use rustix::io::{self, Errno, retry_on_intr};

use super::quarantine::set_aside;
use super::rotate::{append, attributes, read};
use super::{NotDone, Session, remove, unused};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::past::{EVACUATED, Was};
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::Stop;
use crate::exec::words::could_not;
use crate::journal::{RunId, SET_ASIDE};
use crate::sys::beneath::{self, Located, is_exclusive};
use crate::sys::file_id;
use crate::sys::lease::Lease;

/// How much is copied or compared between two looks at the cancel flag and the lease.
const PIECE: u64 = 1 << 20;
/// What the progress counts in.
const MIB: u64 = 1 << 20;

/// Why a copy was given up.
enum Failed {
    Stopped,
    /// Somebody opened the file.
    Opened,
    Error(Errno),
    Differs,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

/// What is said of a file that somebody wanted meanwhile.
const OPENED: &str = "somebody opened or changed it meanwhile; it stays where it is";
/// How long somebody who has looked the name up may take until he has opened the file.
const OPENING: Duration = Duration::from_millis(3);

/// A mode without a bit for others ends in this many zeros.
const NO_OTHERS: u32 = 3;

/// What is looked at while a file is copied or compared.
#[derive(Clone, Copy)]
struct Watch<'w> {
    stop: Stop<'w>,
    /// Whether somebody has opened the file.
    opened: &'w dyn Fn() -> bool,
}

impl Watch<'_> {
    fn look(&self) -> Result<(), Failed> {
        if self.stop.wanted() {
            return Err(Failed::Stopped);
        }
        if (self.opened)() { Err(Failed::Opened) } else { Ok(()) }
    }
}

/// A move under way.
struct Move<'m> {
    source: &'m OwnedFd,
    planned: &'m FileId,
    target: &'m Located,
    /// The name of the copy until it is whole.
    name: CString,
    /// Whether something has the name at the target already.
    there: bool,
    /// The mode of the copy.
    mode: u32,
}

/// Moves a file; `back` says what it was where it came from, if it goes back there.
pub fn file(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    (to, back): (&HostPath, Option<Was>),
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
    let look = |errno| NotDone::Fail(could_not("look at it", errno));
    let stat = rustix::fs::fstat(&source).map_err(look)?;
    may_take(&target, &stat, back)?;
    let run = session.set_aside.strip_prefix(SET_ASIDE).unwrap_or(&session.set_aside);
    let name = CString::new(format!("{EVACUATED}{run}-{}", session.step))
        .map_err(|_| NotDone::Fail("bad name".to_owned()))?;
    let own = stat.st_mode & 0o7777;
    let mode = match back {
        // Nobody has given it another one since.
        Some(was) if was.given == own => was.mode,
        Some(_) => own,
        None => own & visible_bits(&located, &source, &stat).map_err(look)?,
    };
    let there = file_id::of_entry(&target.parent, &target.name).is_ok();
    let it = Move { source: &source, planned, target: &target, name, there, mode };
    let stop = session.stop();
    if !there {
        remove_pieces(session, stop, &source, &target);
    }
    let (copied, lease) = match lease {
        None => (it.copied(Watch { stop, opened: &|| false }, progress), None),
        Some(lease) => {
            let (copied, lease) = lease.giving_way(|opened| it.copied(Watch { stop, opened }, progress));
            (if lease.is_some() { copied } else { copied.and(Err(Failed::Opened)) }, lease)
        }
    };
    let copy = match copied {
        Ok(copy) => copy,
        Err(failed) => {
            it.give_up();
            return it.failed(&failed);
        }
    };
    if !file_id::of_fd(&source).is_ok_and(|now| planned.matches(&now).is_ok()) {
        it.give_up();
        return Err(NotDone::Skip(OPENED.to_owned()));
    }
    let id = file_id::of_fd(&copy).map_err(|errno| {
        it.give_up();
        NotDone::Fail(could_not("look at the copy", errno))
    })?;
    // From here on undo knows what is what, wherever this is killed.
    session.note_copied(Was {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: own,
        given: mode,
        copy: id,
        made: !there,
    });
    it.give_name(&id)?;
    it.remove_source(session, &located, lease.as_ref(), &id, to)
}

/// Whether the target directory may take the file.
fn may_take(target: &Located, stat: &rustix::fs::Stat, back: Option<Was>) -> Result<(), NotDone> {
    let Some(was) = back else {
        if is_exclusive(&target.parent) {
            return Ok(());
        }
        return Err(NotDone::Skip(
            "other users can write to the target directory and could swap the copy; choose another one"
                .to_owned(),
        ));
    };
    if (stat.st_uid, stat.st_gid) != (was.uid, was.gid) {
        return Err(NotDone::Skip("it was given to somebody else since it was moved".to_owned()));
    }
    beneath::takes_back(&target.parent, stat.st_uid).map_err(NotDone::Skip)
}

/// The bits of the mode of a file that mean something where it is: nobody gets to read at another place what he could not
/// get at here.
fn visible_bits(located: &Located, source: &OwnedFd, stat: &rustix::fs::Stat) -> io::Result<u32> {
    let bits = beneath::reachable_bits(&located.parent, stat.st_gid)?;
    // The group bits are the mask of an access control list (acl(5)), whose other users are others to the directories.
    let mut names = [0; 4096];
    let has_list = match rustix::fs::flistxattr(source, names.as_mut_slice()) {
        Ok(length) => {
            let names = names.get(..length).unwrap_or_default();
            names.split(|&byte| byte == 0).any(|name| name == b"system.posix_acl_access")
        }
        Err(Errno::OPNOTSUPP) => false,
        Err(errno) => return Err(errno),
    };
    Ok(if has_list && bits.trailing_zeros() >= NO_OTHERS { bits & !0o070 } else { bits })
}

impl Move<'_> {
    /// Makes the copy, or compares what is there already.
    fn copied(&self, watch: Watch<'_>, progress: &mut dyn FnMut(u64)) -> Result<OwnedFd, Failed> {
        if self.there { self.is_copied(watch, progress) } else { self.copy(watch, progress) }
    }

    fn give_up(&self) {
        if !self.there {
            let _ = unlinkat(&self.target.parent, &self.name, AtFlags::empty());
        }
    }

    fn failed(&self, failed: &Failed) -> Result<Outcome, NotDone> {
        match failed {
            Failed::Stopped => Ok(Outcome::Cancelled { count: 0 }),
            Failed::Opened => Err(NotDone::Skip(OPENED.to_owned())),
            Failed::Error(errno) => Err(NotDone::Fail(could_not("copy it", *errno))),
            Failed::Differs if self.there => {
                Err(NotDone::Skip("something has that name at the target already".to_owned()))
            }
            Failed::Differs => Err(NotDone::Fail(
                "the copy reads back differently; look into the kernel log for trouble with one of the disks"
                    .to_owned(),
            )),
        }
    }

    /// Gives the copy its name and makes that durable. What has the name then is the copy.
    fn give_name(&self, copy: &FileId) -> Result<(), NotDone> {
        let Self { target, name, .. } = self;
        if !self.there {
            let named = retry_on_intr(|| {
                renameat_with(&target.parent, name, &target.parent, &target.name, RenameFlags::NOREPLACE)
            });
            if let Err(errno) = named {
                self.give_up();
                return Err(match errno {
                    Errno::EXIST => NotDone::Skip("something has that name at the target already".to_owned()),
                    errno => NotDone::Fail(could_not("give the copy its name", errno)),
                });
            }
        }
        if let Err(errno) = flush(target) {
            return Err(NotDone::Fail(format!(
                "{}; the file is in both places now",
                could_not("make the copy's name durable", errno)
            )));
        }
        match file_id::of_entry(&target.parent, &target.name) {
            Ok(now) if copy.matches(&now).is_ok() && now.links == 1 => Ok(()),
            _ => Err(NotDone::Skip("somebody swapped the copy; the file stays where it is".to_owned())),
        }
    }

    /// Removes the file. Who has opened it by then keeps it, and the copy goes.
    fn remove_source(
        &self,
        session: &Session<'_>,
        located: &Located,
        lease: Option<&Lease<'_>>,
        copy: &FileId,
        to: &HostPath,
    ) -> Result<Outcome, NotDone> {
        let still_here = |why: String| {
            NotDone::Fail(format!("it was copied to {to} but could not be removed here: {why}"))
        };
        let held = match set_aside(located, self.planned, FileId::matches, &session.set_aside, session.step) {
            Ok(held) => held,
            Err(NotDone::Skip(why) | NotDone::Fail(why)) => return Err(still_here(why)),
        };
        if lease.is_some() {
            // Somebody who looked the name up before opens it now, and waits.
            std::thread::sleep(OPENING);
        }
        if !lease.is_none_or(|lease| lease.is_whole().unwrap_or(false)) {
            let why = remove::put_back(held, OPENED);
            let same = |now: FileId| copy.matches(&now).is_ok();
            if !self.there && file_id::of_entry(&self.target.parent, &self.target.name).is_ok_and(same) {
                let _ = unlinkat(&self.target.parent, &self.target.name, AtFlags::empty());
            }
            return Err(NotDone::Skip(why));
        }
        let (dir, name) = held.place();
        match retry_on_intr(|| unlinkat(dir, name, AtFlags::empty())) {
            // What was done is one file, however many pieces it was copied in.
            Ok(()) => Ok(remove::close(held, 1, Vec::new())),
            Err(errno) => Err(still_here(remove::put_back(held, &could_not("remove it", errno)))),
        }
    }

    /// Whether what has the name at the target is a whole copy of the file, made by a move that was killed before it removed
    /// the file: the same owner, mode, size, time of modification and content. It is made durable.
    fn is_copied(&self, watch: Watch<'_>, progress: &mut dyn FnMut(u64)) -> Result<OwnedFd, Failed> {
        let copy = open_there(self.target, &self.target.name).map_err(|_| Failed::Differs)?;
        let (here, there) = (rustix::fs::fstat(self.source)?, rustix::fs::fstat(&copy)?);
        // Not every file system keeps nanoseconds.
        let same = file_id::of_fd(&copy)?.kind == FileKind::File
            && self.mode == there.st_mode & 0o7777
            && (here.st_uid, here.st_gid) == (there.st_uid, there.st_gid)
            && (here.st_size, here.st_mtime) == (there.st_size, there.st_mtime)
            && there.st_nlink == 1;
        if !same {
            return Err(Failed::Differs);
        }
        let size = size_of(self.source)?;
        let mut tell = |done| progress(size.div_ceil(MIB) + done);
        compare(watch, self.source, &copy, size, &mut tell)?;
        retry_on_intr(|| rustix::fs::fsync(&copy))?;
        Ok(copy)
    }

    /// Makes the copy and compares it.
    fn copy(&self, watch: Watch<'_>, progress: &mut dyn FnMut(u64)) -> Result<OwnedFd, Failed> {
        let (source, size) = (self.source, self.planned.size);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = retry_on_intr(|| openat(&self.target.parent, &self.name, flags, Mode::RUSR | Mode::WUSR))?;
        let mut done = 0;
        while done < size {
            watch.look()?;
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
        rustix::fs::fchmod(&new, Mode::from_raw_mode(self.mode))?;
        // After the mode: the mask of an access control list is the mode's group bits.
        attributes(source, &new, self.mode)?;
        retry_on_intr(|| rustix::fs::fsync(&new))?;
        // What is compared is read from the disk, if the kernel lets go of what it has of it.
        let _ = rustix::fs::fadvise(&new, 0, None, rustix::fs::Advice::DontNeed);
        compare(watch, source, &new, size, &mut |done| progress(size.div_ceil(MIB) + done))?;
        if size_of(&new)? != size {
            return Err(Failed::Differs);
        }
        let time =
            |secs: i64, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        rustix::fs::futimens(&new, &times)?;
        Ok(new)
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
        if regular && compare(Watch { stop, opened: &|| false }, source, &piece, size, &mut |_| ()).is_ok() {
            let _ = unlinkat(&target.parent, &name, AtFlags::empty());
        }
    }
}

/// Compares so much of two files.
fn compare(
    watch: Watch<'_>,
    one: &OwnedFd,
    other: &OwnedFd,
    size: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failed> {
    let mut at = 0;
    while at < size {
        watch.look()?;
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

fn size_of(file: &OwnedFd) -> io::Result<u64> {
    rustix::fs::fstat(file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0))
}
