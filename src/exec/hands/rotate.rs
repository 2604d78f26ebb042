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
use crate::domain::past::{Over, ROTATED};
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::journal::{RunId, SET_ASIDE};
use crate::sys::beneath::{self, Located};
use crate::sys::file_id;
use crate::sys::gate::Gate;
use crate::sys::lease::{Asked, Lease};
use crate::sys::tail::{self, Tail};
use crate::sys::writers::{self, Way, Writing};

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
        // Who opens it from here on begins when this is done.
        let _gate = Gate::shut(&self.file);
        let writers = writers::of(&session.proc, self.id.key).map_err(NotDone::Skip)?;
        let cut = self.before_writers(cut, size, &writers)?;
        let all_append = writers.iter().all(|one| one.way == Way::Appends);
        // A writer that does not append goes on at its old offset, and what it writes lands behind a hole.
        if in_place == InPlace::Collapse && all_append && self.collapse(cut, owner) {
            return Ok(Outcome::Done { count: 1 });
        }
        let fail = |errno| NotDone::Fail(could_not("drop its head", errno));
        if size_of(&self.file).map_err(fail)? < size {
            // Whoever did that has started anew at the beginning, where the hole would be.
            return Err(NotDone::Skip("somebody else cut it meanwhile; look again".to_owned()));
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.file, flags, 0, cut)) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => {
                return Err(NotDone::Fail(
                    "this file system cannot make holes; end its writers, or have them open their log anew, and try \
                     again"
                        .to_owned(),
                ));
            }
            Err(errno) => return Err(fail(errno)),
        }
        if size_of(&self.file).map_err(fail)? < size {
            return Err(NotDone::Fail(
                "somebody else cut it at the same moment; what was written to it in that moment may be gone"
                    .to_owned(),
            ));
        }
        Ok(Outcome::Done { count: 1 })
    }

    /// Where may be cut for its writers: as many lines as are kept stay before each that writes at an offset of its own.
    fn before_writers(&self, cut: u64, size: u64, writers: &[Writing]) -> Result<u64, NotDone> {
        let mut cut = cut;
        for one in writers {
            let who = format!("{} ({})", one.name, one.process);
            let at = match one.way {
                Way::Appends => continue,
                Way::Mapped => {
                    return Err(NotDone::Skip(format!(
                        "{who} has it mapped and can write to any part of it; end that and try again"
                    )));
                }
                Way::ReadsAndWritesAt(_) => {
                    return Err(NotDone::Skip(format!(
                        "{who} has it open to read and to write at its own offset, like a program that copies a log \
                         and then cuts it; wait for it or end it, and try again"
                    )));
                }
                Way::At(at) => at.min(size),
            };
            let found = tail::find(&self.file, at, self.keep_lines)
                .map_err(|errno| NotDone::Fail(could_not("read it", errno)))?;
            cut = match found {
                Tail::At(offset) => cut.min(offset),
                Tail::Short | Tail::NotLines => {
                    return Err(NotDone::Skip(format!(
                        "{who} does not append but writes at byte {at}, so its newest lines are in the part that would \
                         go; end it, or have it append (>>), and try again"
                    )));
                }
            };
        }
        Ok(cut)
    }

    /// Takes the head out. Says whether that worked; nothing has happened where it did not.
    fn collapse(&self, cut: u64, owner: LogOwner) -> bool {
        let Ok(stat) = rustix::fs::fstat(&self.file) else { return false };
        let Some(block) = u64::try_from(stat.st_blksize).ok().filter(|&block| block > 0) else {
            return false;
        };
        let length = cut / block * block;
        if length == 0 {
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
        let Ok(new_name) = CString::new(format!("{ROTATED}{run}-{}", session.step)) else { return Ok(None) };
        let (copied, lease) = lease.giving_way(|_| self.copy(&new_name, cut, size));
        let (Ok(new), Some(lease)) = (copied, lease) else {
            // A full file system, most likely, or somebody has opened the log: a hole needs no room.
            let _ = unlinkat(parent, &new_name, AtFlags::empty());
            return Ok(None);
        };
        let modified = modified_of(&self.file);
        let ready = modified.is_some()
            && lease.is_whole().unwrap_or(false)
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
        let old_is_done = move_over((&self.file, modified), size, &new);
        // Else a program has opened the old one to keep it, or to write from its beginning: it is the log again, and what
        // the new one got goes there.
        let all_is_there =
            old_is_done || (exchange() && move_over((&new, modified_of(&new)), kept, &self.file));
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
        attributes(&self.file, &new, stat.st_mode)?;
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
            let rest = name.to_str().ok().and_then(|text| text.strip_prefix(ROTATED));
            let run = rest.and_then(|rest| rest.rsplit_once('-')).and_then(|(run, _)| RunId::parse(run));
            if run.is_some_and(|run| !run.is_alive(&session.proc)) && self.has(name).unwrap_or(false) {
                let _ = unlinkat(parent, name, AtFlags::empty());
            }
        }
    }

    /// Whether this file beside the log ends with what is in the log too.
    fn has(&self, name: &CStr) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let left = retry_on_intr(|| openat(&self.located.parent, name, flags, Mode::empty()))?;
        let id = file_id::of_fd(&left)?;
        if id.kind != FileKind::File || id.links != 1 || !matches!(Lease::ask(&left), Asked::Held(_)) {
            return Ok(false);
        }
        tail::is_in(&left, &self.file, self.keep_lines)
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

/// When a file was last written to; none where that cannot be asked.
fn modified_of(file: &OwnedFd) -> Option<(i64, u64)> {
    rustix::fs::fstat(file).ok().map(|stat| (stat.st_mtime, stat.st_mtime_nsec))
}

/// Waits until nobody has a file open that has lost its name, and appends to another what came in after `known`.
/// Says whether it is empty of news and closed by everybody. Not where it was cut, or written to anywhere but at its end.
fn move_over((from, modified): (&OwnedFd, Option<(i64, u64)>), mut known: u64, to: &OwnedFd) -> bool {
    let until = Instant::now() + WRITING;
    let mut modified = modified;
    loop {
        if let Asked::Held(lease) = Lease::ask(from) {
            // Somebody who looked the name up before the exchange opens it now, and waits.
            std::thread::sleep(OPENING);
            let Ok(size) = size_of(from) else { return false };
            let now = modified_of(from);
            if size < known || (size == known && now != modified) {
                return false;
            }
            if size > known && append(from, known, size, to).is_err() {
                return false;
            }
            (known, modified) = (size, now);
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

/// Gives a whole log its name again that a rotation that was killed had exchanged for its last lines. What the file that has
/// the name got since is added to it first.
pub fn make_whole(
    session: &mut Session<'_>,
    from: &HostPath,
    to: &HostPath,
    planned: &FileId,
    over: &Over,
) -> Result<Outcome, NotDone> {
    let both = |why: &str| NotDone::Skip(format!("{why}; the whole log is {from}"));
    let open_one = |path: &HostPath, planned: &FileId| {
        let located = beneath::open_parent(path.as_path()).map_err(|error| both(&error.to_string()))?;
        let file = open(&located)?;
        let id = file_id::of_fd(&file).map_err(|errno| NotDone::Fail(could_not("look at it", errno)))?;
        planned.matches_inode(&id).map_err(|why| both(&format!("changed, skipped: {why}")))?;
        if id.kind != FileKind::File || id.links != 1 {
            return Err(both("it is no file with one name"));
        }
        Ok((located, file, id))
    };
    let (old_place, old, id) = open_one(from, planned)?;
    let (place, new, new_id) = open_one(to, &over.id)?;
    beneath::only_system_renames(&place.parent).map_err(|why| both(&why))?;
    let around = session.around();
    let own = around.below.ours().map_err(NotDone::Skip)?;
    let above = guards::with_ancestors(&place.parent).map_err(NotDone::Skip)?;
    guards::not_protected(session.context.protect, new_id.key, &above, to, new_id.mount, own)
        .map_err(NotDone::Skip)?;
    own.writable(new_id.mount).map_err(NotDone::Skip)?;
    let (Asked::Held(old_lease), Asked::Held(lease)) = (Lease::ask(&old), Lease::ask(&new)) else {
        return Err(both("a program has one of the two open; end it and try again"));
    };
    let fail = |errno| NotDone::Fail(could_not("put it back", errno));
    let size = size_of(&new).map_err(fail)?;
    let kept = common(&old, id.size, &new, size, over.keep_lines).map_err(fail)?;
    let Some(kept) = kept else {
        return Err(both(&format!("{to} does not begin with its last lines")));
    };
    append(&new, kept, size, &old).map_err(fail)?;
    retry_on_intr(|| rustix::fs::fsync(&old)).map_err(fail)?;
    let modified = modified_of(&new);
    if !(lease.is_whole().unwrap_or(false) && old_lease.is_whole().unwrap_or(false)) {
        return Err(both("a program has just opened one of the two; try again"));
    }
    retry_on_intr(|| {
        renameat_with(&old_place.parent, &old_place.name, &place.parent, &place.name, RenameFlags::EXCHANGE)
    })
    .map_err(fail)?;
    drop((lease, old_lease));
    if !move_over((&new, modified), size, &old) {
        return Err(NotDone::Fail(format!(
            "it has its name again; a program goes on writing to the other part, which is {from} now"
        )));
    }
    retry_on_intr(|| unlinkat(&old_place.parent, &old_place.name, AtFlags::empty()))
        .map_err(|errno| NotDone::Fail(could_not("remove its other part", errno)))?;
    Ok(Outcome::Done { count: 1 })
}

/// How much of the beginning of the new file are the last lines of the whole log: those that were to be kept, or all of it if
/// what it got since was added already. None if its beginning is something else.
fn common(
    old: &OwnedFd,
    old_size: u64,
    new: &OwnedFd,
    size: u64,
    keep_lines: u64,
) -> io::Result<Option<u64>> {
    let kept = match tail::find(old, old_size, keep_lines)? {
        Tail::At(offset) => old_size - offset,
        Tail::Short | Tail::NotLines => return Ok(None),
    };
    for length in [kept, size] {
        if length <= size && length <= old_size && same(old, old_size - length, new, length)? {
            return Ok(Some(length));
        }
    }
    Ok(None)
}

/// Whether so much of the beginning of one file is what another has from an offset on.
fn same(old: &OwnedFd, from: u64, new: &OwnedFd, length: u64) -> io::Result<bool> {
    let piece = u64::try_from(PIECE).unwrap_or(u64::MAX);
    let mut at = 0;
    while at < length {
        let end = length.min(at + piece);
        if read(old, from + at, from + end)? != read(new, at, end)? {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

/// Copies extended attributes, access control lists among them: these never let in more than the mode.
pub fn attributes(from: &OwnedFd, to: &OwnedFd, mode: u32) -> io::Result<()> {
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
        let bytes = value.get_mut(..length).unwrap_or_default();
        if name == b"system.posix_acl_access" {
            narrow(bytes, mode);
        }
        rustix::fs::fsetxattr(to, name, bytes, XattrFlags::empty())?;
    }
    Ok(())
}

/// Takes from an access control list what the mode does not let its group and others do, as chmod(2) would. The format and the
/// tags are those of `linux/posix_acl_xattr.h` and `linux/posix_acl.h`: a version of 4 bytes, then for each entry its tag, its
/// permissions (2 bytes each) and its id (4 bytes), all in little endian.
fn narrow(list: &mut [u8], mode: u32) {
    const VERSION: usize = 4;
    const ENTRY: usize = 8;
    const MASK: u8 = 0x10;
    const OTHER: u8 = 0x20;
    let bits = |shift: u32| u8::try_from(mode >> shift & 7).unwrap_or(0);
    for entry in list.get_mut(VERSION..).unwrap_or_default().chunks_exact_mut(ENTRY) {
        if let [tag, 0, permissions, ..] = entry {
            match *tag {
                MASK => *permissions &= bits(3),
                OTHER => *permissions &= bits(0),
                // The entries of the owner, and of users and groups, which the mask holds.
                _ => {}
            }
        }
    }
}
