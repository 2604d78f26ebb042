//! Empties a directory that was set aside, through descriptors only: every system call names one component of
//! an open directory (SAFETY.md T1), no mount is entered (T6), and at most [`MAX_OPEN`] directories are open
//! however deep the tree is (T11): what is deeper is moved up to the top and removed from there.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Gid, Mode, RawDir, RenameFlags, SeekFrom, Uid, renameat_with, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::quarantine::is_exclusive;
use super::remove::about;
use crate::domain::text::HostText;
use crate::exec::words::could_not;
use crate::sys::beneath::open_child_dir;

/// Directories open at the same time below the top; with the top, its parent and the quarantine below 64.
const MAX_OPEN: usize = 60;
/// How often the cancel flag is looked at and progress told, in entries.
const EVERY: u64 = 256;
/// Problems that are kept; more are counted.
const MAX_PROBLEMS: usize = 10;
/// How often one directory is read before new entries in it count as a problem.
const MAX_ROUNDS: u32 = 5;
/// Bytes of directory entries read at once.
const BUFFER: usize = 64 << 10;

/// Makes the top of a tree ours alone, where it could not be moved into a quarantine. Needs no space.
pub struct Seal {
    uid: Uid,
    gid: Gid,
    mode: Mode,
}

impl Seal {
    /// Seals the directory: owner us, mode 0700. Nothing where that is not allowed.
    pub fn put_on(top: &OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(top).ok()?;
        let us = rustix::process::geteuid();
        let seal = Self {
            uid: Uid::from_raw(stat.st_uid),
            gid: Gid::from_raw(stat.st_gid),
            mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
        };
        if seal.uid != us {
            // Its owner could open it up again.
            rustix::fs::fchown(top, Some(us), None).ok()?;
        }
        if rustix::fs::fchmod(top, Mode::RWXU).is_err() {
            let _ = seal.take_off(top);
            return None;
        }
        Some(seal)
    }

    /// Gives the directory back to its owner.
    ///
    /// # Errors
    /// A sentence.
    pub fn take_off(&self, top: &OwnedFd) -> Result<(), String> {
        let say = |errno| could_not("give the rest of it back its owner and mode", errno);
        rustix::fs::fchown(top, Some(self.uid), Some(self.gid)).map_err(say)?;
        rustix::fs::fchmod(top, self.mode).map_err(say)
    }
}

/// A directory on the way down.
struct Frame {
    dir: OwnedFd,
    name: CString,
    /// Subdirectories still to be entered.
    pending: Vec<CString>,
    /// Something in it stays, and it was said why.
    stays: bool,
    /// How often it was read.
    rounds: u32,
    /// How many directories had been moved up when it was read last (for the top).
    moved_up: u64,
}

impl Frame {
    fn new(dir: OwnedFd, name: CString) -> Self {
        Self { dir, name, pending: Vec::new(), stays: false, rounds: 0, moved_up: 0 }
    }
}

/// Empties one directory tree.
pub struct Emptier<'a> {
    top: &'a OwnedFd,
    shut_off: bool,
    /// How names begin that only this step of this run makes.
    unique: String,
    cancel: &'a AtomicBool,
    progress: &'a mut dyn FnMut(u64),
    buffer: Vec<MaybeUninit<u8>>,
    removed: u64,
    seen: u64,
    moved_up: u64,
    cancelled: bool,
    problems: Vec<String>,
    more_problems: u64,
}

impl<'a> Emptier<'a> {
    /// Prepares to empty `top`. Where it is not shut off from other users, only directories that nobody
    /// else can write to are emptied.
    pub fn new(
        top: &'a OwnedFd,
        shut_off: bool,
        unique: String,
        cancel: &'a AtomicBool,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        Self {
            top,
            shut_off,
            unique,
            cancel,
            progress,
            buffer: vec![MaybeUninit::uninit(); BUFFER],
            removed: 0,
            seen: 0,
            moved_up: 0,
            cancelled: false,
            problems: Vec::new(),
            more_problems: 0,
        }
    }

    /// Whether it was cancelled, how many entries were removed, and what stays and why.
    pub fn finish(mut self) -> (bool, u64, Vec<String>) {
        if self.more_problems > 0 {
            self.problems.push(format!("and {} more", self.more_problems));
        }
        (self.cancelled, self.removed, self.problems)
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(text);
        } else {
            self.more_problems += 1;
        }
    }

    /// Looks at the cancel flag and tells the progress now and then.
    fn tick(&mut self) -> bool {
        self.seen += 1;
        if self.seen % EVERY == 1 {
            if self.cancel.load(Ordering::Relaxed) {
                self.cancelled = true;
            }
            (self.progress)(self.removed);
        }
        self.cancelled
    }

    /// Removes everything in the top. What could not be removed is told by [`Emptier::finish`].
    pub fn empty(&mut self) {
        let top = match self.top.try_clone() {
            Ok(top) => Frame::new(top, CString::default()),
            Err(error) => return self.problem(format!("it could not be opened: {error}")),
        };
        let mut stack = vec![top];
        self.read_last(&mut stack);
        while let Some(mut frame) = stack.pop() {
            if self.cancelled {
                return;
            }
            if let Some(name) = frame.pending.pop() {
                let child = self.enter(&mut frame, name, stack.len());
                stack.push(frame);
                if let Some(child) = child {
                    stack.push(child);
                    self.read_last(&mut stack);
                }
            } else if let Some(above) = stack.last_mut() {
                if let Some(again) = self.leave(above, frame) {
                    stack.push(again);
                    self.read_last(&mut stack);
                }
            } else {
                // The top again: for what was moved up to it, and for what came in meanwhile.
                if frame.stays && frame.moved_up == self.moved_up {
                    return;
                }
                if frame.moved_up != self.moved_up {
                    // Not 0: it was read, and must be read from its start again.
                    frame.rounds = 1;
                }
                if frame.rounds >= MAX_ROUNDS {
                    return self
                        .problem("new entries keep coming in; end the process that makes them".to_owned());
                }
                stack.push(frame);
                if self.read_last(&mut stack) == 0 {
                    return;
                }
            }
        }
    }

    /// Opens a subdirectory, or moves it up where too many are open already.
    fn enter(&mut self, frame: &mut Frame, name: CString, depth: usize) -> Option<Frame> {
        if self.tick() {
            return None;
        }
        if depth >= MAX_OPEN {
            self.move_up(frame, &name);
            return None;
        }
        match open_child_dir(&frame.dir, &name) {
            Ok(dir) => return Some(Frame::new(dir, name)),
            // Gone, or no directory any more: reading the one above again tells what is there now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(Errno::XDEV) => {
                frame.stays = true;
                let shown = HostText::new(name.as_bytes());
                self.problem(format!("{shown}: something was mounted on it meanwhile; unmount it first"));
            }
            Err(errno) => {
                frame.stays = true;
                self.problem(about(&name, errno));
            }
        }
        None
    }

    fn move_up(&mut self, frame: &mut Frame, name: &CStr) {
        let new = format!("{}-deep-{}", self.unique, self.moved_up + 1);
        match retry_on_intr(|| renameat_with(&frame.dir, name, self.top, &*new, RenameFlags::NOREPLACE)) {
            Ok(()) => self.moved_up += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => {
                frame.stays = true;
                let text = about(name, errno);
                self.problem(format!("{text} (it is {MAX_OPEN} levels deep and had to be moved up)"));
            }
        }
    }

    /// Removes an emptied directory from the one above it. Gives it back where it must be read again.
    fn leave(&mut self, above: &mut Frame, done: Frame) -> Option<Frame> {
        if done.stays {
            above.stays = true;
            return None;
        }
        match retry_on_intr(|| unlinkat(&above.dir, &done.name, AtFlags::REMOVEDIR)) {
            Ok(()) => self.removed += 1,
            Err(Errno::NOENT) => {}
            // Entries came in, or reading while removing passed some over (readdir(3) allows that).
            Err(Errno::NOTEMPTY | Errno::EXIST) if done.rounds < MAX_ROUNDS => return Some(done),
            Err(errno) => {
                above.stays = true;
                self.problem(about(&done.name, errno));
            }
        }
        None
    }

    /// Reads the last directory of the stack: removes what is no directory, remembers what is one. Says
    /// how many entries it saw.
    fn read_last(&mut self, stack: &mut [Frame]) -> u64 {
        let Some(frame) = stack.last_mut() else { return 0 };
        frame.rounds += 1;
        frame.moved_up = self.moved_up;
        if !self.shut_off && !is_exclusive(&frame.dir) {
            frame.stays = true;
            self.problem(format!(
                "{}: other users can write to it and it could not be shut off from them, so parts of it could be \
                 swapped meanwhile; free something else first",
                HostText::new(frame.name.as_bytes())
            ));
            return 0;
        }
        if frame.rounds > 1
            && let Err(errno) = rustix::fs::seek(&frame.dir, SeekFrom::Start(0))
        {
            frame.stays = true;
            self.problem(about(&frame.name, errno));
            return 0;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut entries = RawDir::new(&frame.dir, &mut buffer);
        let mut found = 0;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    frame.stays = true;
                    self.problem(about(&frame.name, errno));
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            found += 1;
            if self.tick() {
                break;
            }
            if entry.file_type() == FileType::Directory {
                frame.pending.push(name.to_owned());
                continue;
            }
            match retry_on_intr(|| unlinkat(&frame.dir, name, AtFlags::empty())) {
                Ok(()) => self.removed += 1,
                Err(Errno::NOENT) => {}
                // A directory after all (some file systems do not tell, DT_UNKNOWN in readdir(3)).
                Err(Errno::ISDIR) => frame.pending.push(name.to_owned()),
                Err(errno) => {
                    frame.stays = true;
                    self.problem(about(name, errno));
                }
            }
        }
        self.buffer = buffer;
        found
    }
}
