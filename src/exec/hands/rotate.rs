//! Drops all but the last lines of a log, without losing one that is written meanwhile (SAFETY.md T14).
//!
//! Where somebody has the log open, its head becomes a hole (`FALLOC_FL_PUNCH_HOLE`) or is taken out
//! (`FALLOC_FL_COLLAPSE_RANGE`): the inode stays, so every descriptor of it goes on, and the kernel lets no write in
//! between. Where nobody has it open, its last lines are copied to a new file, made durable, and exchanged with it.
//! A lease tells ([`crate::sys::lease`]). A program that opens the log in that very moment gets the old one: what it
//! writes there is moved over before the old one goes.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, RawDir, RenameFlags, Uid, XattrFlags, fallocate, openat,
    renameat_with, unlinkat,
};
use rustix::io::{self, Errno, pread, pwrite, retry_on_intr};

use super::{NotDone, Session};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::logs::{InPlace, LogOwner};
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::journal::{RunId, SET_ASIDE};
use crate::probe;
use crate::sys::beneath::{self, Located};
use crate::sys::file_id;
use crate::sys::lease::{Asked, Lease};
use crate::sys::tail::{self, Tail};

/// How the name of the new file begins until it is the log. The id of the run and the step follow.
const NEW: &str = ".unwedge-rotated-";
/// How much is copied at once.
const PIECE: usize = 256 << 10;
/// How long somebody who has looked the name up may take until he has opened the file.
const OPENING: Duration = Duration::from_millis(3);
/// How long a program that opens, writes and closes the log may take for that.
const WRITING: Duration = Duration::from_secs(1);

/// A log that was found to be the planned one.
struct Log<'a> {
    located: &'a Located,
    file: OwnedFd,
    id: FileId,
    keep_lines: u64,
}

/// Rotates a log.
pub fn log(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    keep_lines: u64,
    in_place: InPlace,
    owner: LogOwner,
) -> Result<Outcome, NotDone> {
    let located = beneath::open_parent(path.as_path()).map_err(|error| NotDone::Skip(error.to_string()))?;
    let file = open(&located)?;
    let id = file_id::of_fd(&file).map_err(|errno| NotDone::Fail(could_not("look at it", errno)))?;
    guards::same_log(planned, &id, &located.parent).map_err(NotDone::Skip)?;
    let around = session.around();
    let own = around.below.ours().map_err(NotDone::Skip)?;
    let above = guards::with_ancestors(&located.parent).map_err(NotDone::Skip)?;
    around.kernel.none_holds(id.key, &above).map_err(NotDone::Skip)?;
    match owner {
        LogOwner::Program => {
            guards::not_protected(session.context.protect, id.key, &above, path, id.mount, own)
        }
        LogOwner::Container => guards::container_log(session.context.protect, id.key, &located.name),
    }
    .map_err(NotDone::Skip)?;
    own.writable(id.mount).map_err(NotDone::Skip)?;
    let log = Log { located: &located, file, id, keep_lines };
    log.tidy(session);
    if owner == LogOwner::Program
        && let Asked::Held(lease) = Lease::ask(&log.file)
        && let Some(outcome) = log.replace(session, lease)?
    {
        return Ok(outcome);
    }
    log.in_place(session, in_place, owner)
}

fn open(located: &Located) -> Result<OwnedFd, NotDone> {
    // NONBLOCK: should it be a fifo, opening it must not wait. APPEND: the only way to open a log that is append-only.
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    retry_on_intr(|| openat(&located.parent, &located.name, flags, Mode::empty())).map_err(
        |errno| match errno {
            Errno::NOENT => NotDone::Skip("it is not there any more".to_owned()),
            Errno::LOOP => NotDone::Skip("it is a symbolic link".to_owned()),
            errno => NotDone::Fail(could_not("open it", errno)),
        },
    )
}

fn size_of(file: &OwnedFd) -> io::Result<u64> {
    rustix::fs::fstat(file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0))
}

impl Log<'_> {
    /// Where the lines that stay begin, and the size that was looked at.
    fn cut(&self) -> Result<(u64, u64), NotDone> {
        let fail = |errno| NotDone::Fail(could_not("read it", errno));
        let size = size_of(&self.file).map_err(fail)?;
        match tail::find(&self.file, size, self.keep_lines).map_err(fail)? {
            Tail::At(offset) => Ok((offset, size)),
            Tail::Short => Err(NotDone::Skip(format!(
                "nothing to drop: it has no more than the {} lines that are kept",
                self.keep_lines
            ))),
            Tail::NotLines => Err(NotDone::Skip(
                "it is no text made of lines, so nobody can say where it may be cut; ask the program that writes it"
                    .to_owned(),
            )),
        }
    }

    /// Makes the head a hole, or takes it out.
    fn in_place(
        &self,
        session: &Session<'_>,
        in_place: InPlace,
        owner: LogOwner,
    ) -> Result<Outcome, NotDone> {
        let (cut, size) = self.cut()?;
        if session.stop().wanted() {
            return Ok(Outcome::Cancelled { count: 0 });
        }
        if in_place == InPlace::Collapse && self.collapse(session, cut, owner) {
            return Ok(Outcome::Done { count: 1 });
        }
        let fail = |errno| NotDone::Fail(could_not("drop its head", errno));
        if size_of(&self.file).map_err(fail)? < size {
            // Whoever did that has started anew at the beginning, where the hole would be.
            return Err(NotDone::Skip("somebody else cut it meanwhile; look again".to_owned()));
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.file, flags, 0, cut)) {
            Ok(()) => Ok(Outcome::Done { count: 1 }),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => Err(NotDone::Fail(
                "this file system cannot make holes; end its writers, or have them open their log anew, and try again"
                    .to_owned(),
            )),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Takes the head out. Says whether that worked; nothing has happened where it did not.
    fn collapse(&self, session: &Session<'_>, cut: u64, owner: LogOwner) -> bool {
        let Ok(stat) = rustix::fs::fstat(&self.file) else { return false };
        let Some(block) = u64::try_from(stat.st_blksize).ok().filter(|&block| block > 0) else {
            return false;
        };
        let length = cut / block * block;
        if length == 0 {
            return false;
        }
        let context = probe::Context {
            environment: session.context.environment,
            settings: session.context.settings,
            now: jiff::Timestamp::now(),
            memory: None,
            shared: None,
        };
        // A writer that does not append goes on at its old offset, and what it writes lands behind a hole.
        if !probe::logs::all_append(&context, self.id.key) {
            return false;
        }
        if retry_on_intr(|| fallocate(&self.file, FallocateFlags::COLLAPSE_RANGE, 0, length)).is_err() {
            return false;
        }
        if owner == LogOwner::Container {
            self.blank(cut - length);
        }
        true
    }

    /// Writes spaces over what is left of the line that was cut through: an engine that reads the log back skips them,
    /// and would stumble over half a line.
    fn blank(&self, length: u64) {
        let Ok(flags) = rustix::fs::fcntl_getfl(&self.file) else { return };
        // pwrite(2) of an appending descriptor appends wherever it is told to write.
        if rustix::fs::fcntl_setfl(&self.file, flags - OFlags::APPEND).is_ok() {
            let spaces = vec![b' '; usize::try_from(length).unwrap_or(0)];
            let _ = retry_on_intr(|| pwrite(&self.file, &spaces, 0));
        }
    }

    /// Copies the last lines to a new file and exchanges it with the log. None where that cannot be done here, with
    /// nothing changed: then it is done in place.
    fn replace(&self, session: &Session<'_>, lease: Lease<'_>) -> Result<Option<Outcome>, NotDone> {
        let (cut, size) = self.cut()?;
        let Located { parent, name } = self.located;
        let run = session.set_aside.strip_prefix(SET_ASIDE).unwrap_or(&session.set_aside);
        let Ok(new_name) = CString::new(format!("{NEW}{run}-{}", session.step)) else { return Ok(None) };
        let Ok(new) = self.copy(&new_name, cut, size) else {
            // A full file system, most likely: a hole needs no room.
            let _ = unlinkat(parent, &new_name, AtFlags::empty());
            return Ok(None);
        };
        let ready = lease.is_whole().unwrap_or(false)
            && file_id::of_entry(parent, name).is_ok_and(|now| now.key == self.id.key)
            && size_of(&self.file).is_ok_and(|now| now == size);
        // From the exchange on lines would be lost.
        if session.stop().wanted() {
            let _ = unlinkat(parent, &new_name, AtFlags::empty());
            return Ok(Some(Outcome::Cancelled { count: 0 }));
        }
        let exchange = || {
            retry_on_intr(|| renameat_with(parent, &new_name, parent, name, RenameFlags::EXCHANGE)).is_ok()
        };
        if !ready || !exchange() {
            let _ = unlinkat(parent, &new_name, AtFlags::empty());
            return Ok(None);
        }
        drop(lease);
        let kept = size - cut;
        let old_is_done = move_over(&self.file, size, &new);
        // Else a program has opened the old one to keep it: it is the log again, and what the new one got goes there.
        let all_is_there = old_is_done || (exchange() && move_over(&new, kept, &self.file));
        if !all_is_there {
            return Err(NotDone::Fail(format!(
                "a program opened it while it was exchanged and goes on writing to it: its old part is kept beside \
                 it as {}",
                new_name.to_string_lossy()
            )));
        }
        let done = retry_on_intr(|| unlinkat(parent, &new_name, AtFlags::empty()));
        if let Ok(dir) =
            openat(parent, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        {
            let _ = retry_on_intr(|| rustix::fs::fsync(&dir));
        }
        match (done, old_is_done) {
            (Ok(()), true) => Ok(Some(Outcome::Done { count: 1 })),
            (Ok(()), false) => Ok(None),
            (Err(errno), _) => Err(NotDone::Fail(format!(
                "{}: {}",
                could_not("remove its old part", errno),
                new_name.to_string_lossy()
            ))),
        }
    }

    /// A new file beside the log with its last lines, its owner, mode, attributes and access control list.
    fn copy(&self, name: &CStr, from: u64, to: u64) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let new = retry_on_intr(|| openat(&self.located.parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        append(&self.file, from, to, &new)?;
        let stat = rustix::fs::fstat(&self.file)?;
        rustix::fs::fchown(&new, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        rustix::fs::fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        // After the mode: the mask of an access control list is the mode's group bits.
        attributes(&self.file, &new)?;
        retry_on_intr(|| rustix::fs::fsync(&new))?;
        Ok(new)
    }

    /// Removes what runs that were killed have left beside this log: a copy of its last lines, or its old part. Only
    /// where nobody has that open and its end is found in the log.
    fn tidy(&self, session: &Session<'_>) {
        let parent = &self.located.parent;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = openat(parent, c".", flags, Mode::empty()) else { return };
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            let rest = name.to_str().ok().and_then(|text| text.strip_prefix(NEW));
            let run = rest.and_then(|rest| rest.rsplit_once('-')).and_then(|(run, _)| RunId::parse(run));
            if run.is_some_and(|run| !run.is_alive(&session.proc)) && self.has(name).unwrap_or(false) {
                let _ = unlinkat(parent, name, AtFlags::empty());
            }
        }
    }

    /// Whether this file beside the log ends with what is in the log too.
    fn has(&self, name: &CStr) -> io::Result<bool> {
        const END: u64 = 4 << 10;
        const MOST: u64 = 64 << 20;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let left = retry_on_intr(|| openat(&self.located.parent, name, flags, Mode::empty()))?;
        let id = file_id::of_fd(&left)?;
        if id.kind != FileKind::File || id.links != 1 || !matches!(Lease::ask(&left), Asked::Held(_)) {
            return Ok(false);
        }
        // Of an old part the log has no more than the lines that were kept.
        let kept = match tail::find(&left, id.size, self.keep_lines)? {
            Tail::At(offset) => offset,
            Tail::Short | Tail::NotLines => 0,
        };
        let end = read(&left, id.size.saturating_sub(END).max(kept), id.size)?;
        if end.is_empty() {
            return Ok(true);
        }
        let size = size_of(&self.file)?;
        let log = read(&self.file, size.saturating_sub(MOST), size)?;
        Ok(log.windows(end.len()).any(|part| part == end))
    }
}

/// A part of a file; shorter where the file is.
pub fn read(file: &OwnedFd, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match retry_on_intr(|| pread(file, &mut *rest, from + u64::try_from(done).unwrap_or(0)))? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Appends a part of one file to another.
pub fn append(from: &OwnedFd, mut start: u64, end: u64, to: &OwnedFd) -> io::Result<()> {
    let piece = u64::try_from(PIECE).unwrap_or(u64::MAX);
    while start < end {
        let bytes = read(from, start, end.min(start.saturating_add(piece)))?;
        if bytes.is_empty() {
            return Err(Errno::IO);
        }
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let count = retry_on_intr(|| io::write(to, left))?;
            left = left.get(count..).unwrap_or_default();
        }
        start += u64::try_from(bytes.len()).unwrap_or(0);
    }
    Ok(())
}

/// Waits until nobody has a file open that has lost its name, and appends to another what came in after `known`.
/// Says whether it is empty of news and closed by everybody.
fn move_over(from: &OwnedFd, mut known: u64, to: &OwnedFd) -> bool {
    let until = Instant::now() + WRITING;
    loop {
        if let Asked::Held(lease) = Lease::ask(from) {
            // Somebody who looked the name up before the exchange opens it now, and waits.
            std::thread::sleep(OPENING);
            let Ok(size) = size_of(from) else { return false };
            if size > known && append(from, known, size, to).is_err() {
                return false;
            }
            known = size.max(known);
            if lease.is_whole().unwrap_or(false) {
                return true;
            }
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Copies extended attributes, access control lists among them.
pub fn attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    names.truncate(length);
    let mut value = vec![0; 64 << 10];
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        let bytes = value.get(..length).unwrap_or_default();
        rustix::fs::fsetxattr(to, name, bytes, XattrFlags::empty())?;
    }
    Ok(())
}
