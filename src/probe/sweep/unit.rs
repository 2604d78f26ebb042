//! A directory with all in it, which goes as a whole or stays as a whole.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags, RawDir, flock, openat};
use rustix::io::{self, Errno, retry_on_intr};

use crate::domain::bounds::MOST_ENTRIES;
use crate::domain::identity::{DevIno, FileId, FileKind};
use crate::domain::sweep::precious;
use crate::domain::text::HostText;
use crate::probe::temp_dirs::reason;
use crate::sys::file_id::{self, Aged};

/// Directories inside one another that are looked into; what is deeper stays.
const DEEPEST: usize = 50;

/// Why something stays as a whole.
#[derive(Debug)]
pub enum Blocked {
    /// Somebody uses it or something in it.
    InUse,
    /// It, or something in it, is locked with flock(2).
    Locked,
    /// It could not be looked at, or is beyond one sweep: a sentence.
    Problem(String),
}

/// Who uses a file or directory.
pub trait Uses {
    /// Asks about the regular file `name` in an open directory.
    ///
    /// # Errors
    /// That it is in use, or that nobody can say.
    fn file(&mut self, dir: &OwnedFd, name: &CStr, key: DevIno) -> Result<(), Blocked>;

    /// Asks about a directory.
    ///
    /// # Errors
    /// That it is in use, or that nobody can say.
    fn directory(&mut self, key: DevIno) -> Result<(), Blocked>;
}

/// Opens a directory without making it younger, where that is allowed (`O_NOATIME` is for owners, open(2)).
///
/// # Errors
/// What openat(2) says.
pub fn open_dir(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match retry_on_intr(|| openat(parent, name, flags | OFlags::NOATIME, Mode::empty())) {
        Err(Errno::PERM) => retry_on_intr(|| openat(parent, name, flags, Mode::empty())),
        other => other,
    }
}

/// Whether somebody holds a lock of flock(2) on a regular file, shared or not.
pub fn is_locked(dir: &OwnedFd, name: &CStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = retry_on_intr(|| openat(dir, name, flags, Mode::empty())) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK))
}

/// What was seen of something with all in it.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// The newest of all its times, and of all in it, in seconds since the epoch.
    pub newest: i64,
    /// Whether a directory in it is root's.
    pub of_root: bool,
    /// Whether a socket, fifo or device is in it.
    pub special: bool,
    /// Entries in it, itself included.
    pub entries: u64,
    /// Space of what has no other name, in bytes.
    pub bytes: u64,
    /// Space of files with several names, in bytes.
    pub linked: u64,
    /// A name in it that looks precious.
    pub precious: Option<HostText>,
}

impl Unit {
    /// Counts one entry.
    pub(super) fn add(&mut self, name: &[u8], aged: &Aged) {
        self.entries += 1;
        self.newest = self.newest.max(aged.newest);
        let linked = aged.id.kind != FileKind::Directory && aged.id.links > 1;
        let sum = if linked { &mut self.linked } else { &mut self.bytes };
        *sum = sum.saturating_add(aged.allocated);
        if self.precious.is_none() && precious(name) {
            self.precious = Some(HostText::new(name));
        }
    }

    /// Walks an opened directory, which is on the mount of `id`.
    ///
    /// # Errors
    /// That something in it is in use, or cannot be looked at.
    pub fn walk(&mut self, dir: &OwnedFd, id: &FileId, uses: &mut dyn Uses) -> Result<(), Blocked> {
        self.descend(dir, id, uses, 0)
    }

    fn descend(
        &mut self,
        dir: &OwnedFd,
        id: &FileId,
        uses: &mut dyn Uses,
        depth: usize,
    ) -> Result<(), Blocked> {
        let problem = |text: &str| Err(Blocked::Problem(text.to_owned()));
        let cannot = |what: &str, errno| Blocked::Problem(format!("{what}: {}", reason(errno)));
        if depth >= DEEPEST {
            return problem(
                "too many directories inside one another for a sweep; delete it from the tree instead",
            );
        }
        let now = file_id::of_fd(dir).map_err(|errno| cannot("it cannot be looked into", errno))?;
        if !now.mount.same_mount(id.mount) || now.key.dev != id.key.dev {
            return problem("something is mounted in it");
        }
        let mut dirs: Vec<CString> = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(cannot("it cannot be read", errno)),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(aged) = file_id::aged(dir, name) else { continue };
            self.add(name.to_bytes(), &aged);
            if self.entries > MOST_ENTRIES {
                return problem("too many entries for one sweep; delete it from the tree instead");
            }
            match aged.id.kind {
                FileKind::Directory => {
                    self.of_root |= aged.uid == 0;
                    uses.directory(aged.id.key)?;
                    dirs.push(name.to_owned());
                }
                FileKind::File => uses.file(dir, name, aged.id.key)?,
                FileKind::Symlink => {}
                FileKind::Socket | FileKind::Fifo | FileKind::Device | FileKind::Other => self.special = true,
            }
        }
        for name in dirs {
            let below = open_dir(dir, &name).map_err(|errno| cannot("it cannot be looked into", errno))?;
            // Let go when it is closed.
            if matches!(flock(&below, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK)) {
                return Err(Blocked::Locked);
            }
            self.descend(&below, id, uses, depth + 1)?;
        }
        Ok(())
    }
}
