//! Looks, before anything of a tree goes, for what in it we could not remove: a directory of somebody else with
//! something in it. A tree is taken as a whole or not at all; a half of it is of use to nobody.
//!
//! Root needs no such look. It goes down and up through one open directory, however deep the tree is, and reads
//! directories only: a single file that is immutable is met when its turn comes.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags, accessat, openat,
    statx,
};
use rustix::io::{self, Errno, retry_on_intr};

use super::own::{self, Before};
use super::remove::about;
use crate::domain::identity::DevIno;
use crate::domain::text::HostText;
use crate::exec::Stop;
use crate::exec::words::{could_not, explain};
use crate::sys::beneath::open_child_dir;
use crate::sys::file_id;

/// Bytes of directory entries read at once.
const BUFFER: usize = 64 << 10;
/// The sticky bit: only the owner of an entry, or of the directory, removes it (inode(7)).
const STICKY: u16 = 0o1000;
/// That the owner may go through a directory.
const SEARCH: u16 = 0o100;

/// What was found.
pub enum Found {
    /// Nothing that stays.
    Nothing,
    /// Something that stays, and why, as a sentence.
    Stays(String),
    /// Nobody waits for the answer any more.
    Cancelled,
}

/// A directory on the way down.
struct Level {
    name: CString,
    key: DevIno,
    /// What is still to be looked into.
    dirs: Vec<CString>,
    /// Its mode, where it had to be opened up for the look.
    before: Option<Before>,
}

/// Looks through a tree as an ordinary user.
pub fn look(top: &OwnedFd, stop: Stop<'_>) -> Found {
    let mut look =
        Look { levels: Vec::new(), found: Found::Nothing, buffer: vec![MaybeUninit::uninit(); BUFFER] };
    match look.walk(top, stop) {
        Ok(()) => look.found,
        Err(errno) => Found::Stays(could_not("look through it", errno)),
    }
}

struct Look {
    levels: Vec<Level>,
    found: Found,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Look {
    fn walk(&mut self, top: &OwnedFd, stop: Stop<'_>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = retry_on_intr(|| openat(top, c".", flags, Mode::empty()))?;
        let Some(level) = self.level(&here, c"", None) else { return Ok(()) };
        self.levels.push(level);
        loop {
            if stop.wanted() {
                self.end(Found::Cancelled);
            }
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            if let Some(name) = level.dirs.pop() {
                if let Some(child) = self.enter(&here, &name)? {
                    here = child;
                }
                continue;
            }
            here = self.leave(&here)?;
        }
    }

    /// Nothing more is looked into. The way back is still to be gone, for the modes.
    fn end(&mut self, found: Found) {
        self.found = found;
        self.levels.iter_mut().for_each(|level| level.dirs.clear());
    }

    fn stays(&mut self, name: &CStr, why: &str) {
        let names = self.levels.iter().map(|level| level.name.as_c_str()).chain([name]);
        let parts: Vec<&[u8]> = names.map(CStr::to_bytes).filter(|part| !part.is_empty()).collect();
        let path = HostText::new(parts.join(&b'/'));
        self.end(Found::Stays(if parts.is_empty() { why.to_owned() } else { format!("{path}: {why}") }));
    }

    /// Looks at a subdirectory, and opens it where there is more to look at.
    fn enter(&mut self, here: &OwnedFd, name: &CStr) -> io::Result<Option<OwnedFd>> {
        let opened = match open_child_dir(here, name) {
            Ok(dir) => Ok((dir, None)),
            Err(Errno::ACCESS) => own::open_child(here, name).map(|(dir, before)| (dir, Some(before))),
            Err(errno) => Err(errno),
        };
        let (dir, before) = match opened {
            Ok(opened) => opened,
            // No directory, or none any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(Errno::XDEV) => {
                self.stays(name, "something is mounted on it, or it is a btrfs snapshot");
                return Ok(None);
            }
            Err(Errno::ACCESS) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let whose = statx(here, name, flags, StatxFlags::UID).map(|stat| owner(stat.stx_uid));
                let whose = whose.unwrap_or_else(explain);
                self.stays(name, &format!("it {whose} and nobody else may look into it"));
                return Ok(None);
            }
            Err(errno) => {
                self.stays(name, &about(name, errno));
                return Ok(None);
            }
        };
        match self.level(&dir, name, before) {
            Some(level) if !level.dirs.is_empty() => {
                self.levels.push(level);
                Ok(Some(dir))
            }
            Some(Level { before: Some(before), .. }) => own::give_back(&dir, before).map(|()| None),
            Some(_) | None => Ok(None),
        }
    }

    /// Goes back to the directory above.
    fn leave(&mut self, here: &OwnedFd) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = retry_on_intr(|| openat(here, c"..", flags, Mode::empty()))?;
        let Some(level) = self.levels.pop() else { return Ok(above) };
        if let Some(before) = level.before {
            own::give_back(here, before)?;
        }
        match self.levels.last() {
            Some(level) if file_id::of_fd(&above)?.key != level.key => Err(Errno::STALE),
            _ => Ok(above),
        }
    }

    /// Reads a directory. None, and its mode is as it was, where something in it stays or it cannot be read.
    fn level(&mut self, dir: &OwnedFd, name: &CStr, before: Option<Before>) -> Option<Level> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = Directory::read(dir, &mut buffer);
        self.buffer = buffer;
        let why = match read {
            Ok(Directory { key, dirs, stays: None, searchable }) => {
                // Listed by its owner, and closed to him all the same.
                let shut = before.is_none() && !searchable && !dirs.is_empty();
                let before = if shut { own::open_up(dir).unwrap_or(None) } else { before };
                return Some(Level { name: name.to_owned(), key, dirs, before });
            }
            Ok(Directory { stays: Some(why), .. }) => why,
            Err(errno) => could_not("look at it", errno),
        };
        self.stays(name, &why);
        if let Some(before) = before
            && let Err(errno) = own::give_back(dir, before)
        {
            self.stays(name, &format!("{why}; {}", could_not("give it back its mode", errno)));
        }
        None
    }
}

/// One directory.
struct Directory {
    key: DevIno,
    /// The subdirectories in it.
    dirs: Vec<CString>,
    /// Why something in it stays.
    stays: Option<String>,
    /// Whether its mode lets its owner go through it.
    searchable: bool,
}

impl Directory {
    fn read(dir: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Self> {
        let stat = statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let ours = stat.stx_uid == rustix::process::geteuid().as_raw();
        let mut read = Self {
            key: file_id::dev_ino(&stat),
            dirs: Vec::new(),
            stays: None,
            searchable: stat.stx_mode & SEARCH != 0,
        };
        let mut entries = RawDir::new(dir, buffer);
        let mut empty = true;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if std::mem::take(&mut empty) {
                read.stays = keeps(dir, &stat, ours);
            }
            if !ours && stat.stx_mode & STICKY != 0 && !is_ours(dir, name) {
                let name = HostText::new(name.to_bytes());
                read.stays =
                    Some(format!("it {} and is sticky, and {name} in it is not ours", owner(stat.stx_uid)));
            }
            if read.stays.is_some() {
                return Ok(read);
            }
            if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                read.dirs.push(name.to_owned());
            }
        }
        Ok(read)
    }
}

/// Why nothing can be removed from a directory; none where we can.
fn keeps(dir: &OwnedFd, stat: &Statx, ours: bool) -> Option<String> {
    if stat.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        return Some(
            "it is immutable or append-only (lsattr shows it, chattr -i or -a takes it off)".to_owned(),
        );
    }
    if ours {
        return None;
    }
    match accessat(dir, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        // Where nobody can tell, the removal itself does.
        Ok(()) | Err(Errno::NOSYS) => None,
        Err(_) => Some(format!("it {} and has something in it", owner(stat.stx_uid))),
    }
}

fn is_ours(dir: &OwnedFd, name: &CStr) -> bool {
    statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::UID)
        .is_ok_and(|stat| stat.stx_uid == rustix::process::geteuid().as_raw())
}

fn owner(uid: u32) -> String {
    if uid == 0 { "belongs to root".to_owned() } else { format!("belongs to user {uid}") }
}
