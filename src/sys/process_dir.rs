//! Directories `/proc/PID` held open, and a walk over all of them.
//!
//! What is read through such a directory is of that very process: once it has ended, every read fails, also where
//! another process has been given its number since.
//!
//! This is the fast way over all descriptors of a machine: one statx(2) for each, relative to the open `fd` directory,
//! by several threads, and everything else (`stat`, `fdinfo`, the link) only where somebody asks for it.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::num::NonZero;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawDir, Statx, StatxFlags, openat, readlinkat, readlinkat_raw, statx,
};
use rustix::io::{Errno, Result, read};

use super::file_id;
use super::procfs::{Proc, Stat, parse_arguments, parse_stat, without_mark};
use crate::domain::identity::{FileId, Pid};

/// Threads at most: they meet at the locks of one file system, so that more than a few gain nothing.
const THREADS: usize = 8;
/// Processes that a thread takes at once.
const SHARE: usize = 16;
/// Fewer processes than this are looked at in less time than it takes to start a thread.
const FEW: usize = 64;
/// Room for a few hundred entries of a directory.
const ROOM: usize = 16 << 10;
/// How much of a file is read at once; the kernel gives no more than a page or so anyway.
const PIECE: usize = 16 << 10;

/// Room for where a link leads that is not to a file: `socket:[4294967295]`, `anon_inode:inotify`.
pub const LINK: usize = 64;

/// What is asked of an open file: type, size, links, space, and the mount it was opened through.
pub const OPEN_FILE: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

/// Memory that is used again for one process after another.
pub struct Scratch {
    entries: Vec<MaybeUninit<u8>>,
    bytes: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { entries: vec![MaybeUninit::uninit(); ROOM], bytes: Vec::new() }
    }
}

/// A directory `/proc/PID`.
pub struct ProcessDir {
    dir: OwnedFd,
}

/// An open descriptor of a process.
pub struct Descriptor<'d> {
    /// Its number.
    pub fd: i32,
    /// The file behind it. No server was asked for it.
    pub stat: Statx,
    name: &'d CStr,
    links: BorrowedFd<'d>,
}

impl Descriptor<'_> {
    /// The path of the file, as the kernel remembers it; empty where it was closed meanwhile.
    pub fn path(&self) -> Vec<u8> {
        readlinkat(self.links, self.name, Vec::new()).map(CString::into_bytes).unwrap_or_default()
    }

    /// Whether it is open for writing: its link has a mode that says so (`proc_pid_fd(5)`). Not if it was closed meanwhile.
    pub fn is_writable(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statx(self.links, self.name, flags, StatxFlags::MODE)
            .is_ok_and(|stat| u32::from(stat.stx_mode) & libc::S_IWUSR != 0)
    }
}

impl ProcessDir {
    /// Opens it.
    ///
    /// # Errors
    /// What the system says: the process has ended, or may not be seen.
    pub fn open(proc: &Proc, pid: Pid) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, proc.file(pid, ""), flags, Mode::empty()).map(|dir| Self { dir })
    }

    fn file(&self, name: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        openat(&self.dir, name.as_ref(), flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// The whole of one of its files.
    ///
    /// # Errors
    /// What the system says: the process has ended, or permission is refused.
    pub fn read<'s>(&self, name: impl AsRef<Path>, scratch: &'s mut Scratch) -> Result<&'s [u8]> {
        let file = self.file(name, OFlags::empty())?;
        let bytes = &mut scratch.bytes;
        let mut length = 0;
        loop {
            bytes.resize(length + PIECE, 0);
            match read(&file, bytes.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// State, name and start time; none where the process has ended.
    pub fn stat(&self, scratch: &mut Scratch) -> Option<Stat> {
        parse_stat(self.read("stat", scratch).ok()?)
    }

    /// The arguments; none for a kernel thread or a zombie.
    ///
    /// # Errors
    /// What the system says: the process has ended.
    pub fn arguments(&self, scratch: &mut Scratch) -> Result<Vec<Vec<u8>>> {
        self.read("cmdline", scratch).map(parse_arguments)
    }

    /// The path of the executable as the kernel remembers it, without the mark of one whose name is gone.
    ///
    /// # Errors
    /// What the system says: the process has ended or has no executable, or permission is refused.
    pub fn exe_path(&self) -> Result<Vec<u8>> {
        readlinkat(&self.dir, c"exe", Vec::new()).map(CString::into_bytes).map(without_mark)
    }

    /// The file that a link of it (`map_files/RANGE`) leads to.
    ///
    /// # Errors
    /// What the system says: there is no such link, or permission is refused.
    pub fn target(&self, link: &str) -> Result<Statx> {
        statx(&self.dir, link, FLAGS, OPEN_FILE)
    }

    /// The identity of the file that a link of it (`fd/3`) leads to.
    ///
    /// # Errors
    /// What the system says: there is no such link, or permission is refused.
    pub fn identity(&self, link: &str) -> Result<FileId> {
        let name = CString::new(link).map_err(|_| Errno::INVAL)?;
        file_id::of_target(&self.dir, &name)
    }

    /// Goes over its open descriptors without a look at the files behind them: the number of each, and where its link leads,
    /// cut off after [`LINK`] bytes.
    ///
    /// # Errors
    /// What the system says: permission is refused, or the process has ended.
    pub fn links(&self, scratch: &mut Scratch, mut each: impl FnMut(i32, &[u8])) -> Result<()> {
        let dir = self.file("fd", OFlags::DIRECTORY)?;
        let mut entries = RawDir::new(&dir, &mut scratch.entries);
        let mut link = [0; LINK];
        while let Some(entry) = entries.next() {
            // A process that ends while we read is as good as one without descriptors.
            let Ok(entry) = entry else { break };
            let Some(fd) = number(entry.file_name()) else { continue };
            // One that fails was closed meanwhile.
            if let Ok(length) = readlinkat_raw(&dir, entry.file_name(), &mut link) {
                each(fd, link.get(..length).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Goes over its open descriptors.
    ///
    /// # Errors
    /// Permission is refused, to list them or to look at one of them; the process has ended.
    pub fn descriptors(&self, scratch: &mut Scratch, mut each: impl FnMut(&Descriptor<'_>)) -> Result<()> {
        let dir = self.file("fd", OFlags::DIRECTORY)?;
        let mut entries = RawDir::new(&dir, &mut scratch.entries);
        while let Some(entry) = entries.next() {
            // A process that ends while we read is as good as one without descriptors.
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            let Some(fd) = number(name) else { continue };
            match statx(&dir, name, FLAGS, OPEN_FILE) {
                Ok(stat) => each(&Descriptor { fd, stat, name, links: std::os::fd::AsFd::as_fd(&dir) }),
                // Listing them can be allowed where looking at them is not.
                Err(error @ (Errno::ACCESS | Errno::PERM)) => return Err(error),
                // It was closed meanwhile.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// No server is asked, nothing is mounted.
const FLAGS: AtFlags = AtFlags::STATX_DONT_SYNC.union(AtFlags::NO_AUTOMOUNT);

fn number(name: &CStr) -> Option<i32> {
    name.to_str().ok()?.parse().ok()
}

/// Whether permission was refused, as against a process that has ended.
pub fn is_refused(error: Errno) -> bool {
    matches!(error, Errno::ACCESS | Errno::PERM)
}

/// Looks at all of these processes with several threads, each of which collects in a value of its own. False if there was
/// not time for all; without an end all are looked at.
pub fn for_all<T: Send>(
    pids: &[Pid],
    until: Option<Instant>,
    empty: impl Fn() -> T + Sync,
    look: impl Fn(&mut T, Pid, &mut Scratch) + Sync,
) -> (Vec<T>, bool) {
    let next = AtomicUsize::new(0);
    let late = AtomicBool::new(false);
    let work = || {
        let (mut found, mut scratch) = (empty(), Scratch::default());
        loop {
            let first = next.fetch_add(SHARE, Ordering::Relaxed);
            let share = pids.iter().skip(first).take(SHARE);
            if share.len() == 0 {
                return found;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                late.store(true, Ordering::Relaxed);
                return found;
            }
            for &pid in share {
                look(&mut found, pid, &mut scratch);
            }
        }
    };
    let found = thread::scope(|scope| {
        let crew = if pids.len() < FEW {
            0
        } else {
            thread::available_parallelism().map_or(1, NonZero::get).min(THREADS) - 1
        };
        // Where no thread can be started, this one does it all.
        let others: Vec<_> =
            (0..crew).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut found = vec![work()];
        for other in others {
            match other.join() {
                Ok(theirs) => found.push(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    });
    (found, !late.into_inner())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    use super::*;

    fn own_dir() -> ProcessDir {
        let proc = Proc::new("/proc");
        ProcessDir::open(&proc, proc.self_pid().unwrap()).unwrap()
    }

    #[test]
    fn own_descriptors_are_seen_with_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let held = std::fs::File::open(dir.path()).unwrap();
        let mut found = Vec::new();
        own_dir()
            .descriptors(&mut Scratch::default(), |open| {
                found.push((open.fd, open.path(), open.stat.stx_ino));
            })
            .unwrap();
        let (_, path, ino) = found.iter().find(|(fd, ..)| *fd == held.as_raw_fd()).unwrap();
        assert_eq!(path, dir.path().to_str().unwrap().as_bytes());
        assert_eq!(*ino, held.metadata().unwrap().ino());
    }

    #[test]
    fn what_is_open_for_writing_is_told_from_what_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read_only = std::fs::File::open(file.path()).unwrap();
        let mut found = Vec::new();
        own_dir()
            .descriptors(&mut Scratch::default(), |open| found.push((open.fd, open.is_writable())))
            .unwrap();
        assert!(found.contains(&(file.as_file().as_raw_fd(), true)), "{found:?}");
        assert!(found.contains(&(read_only.as_raw_fd(), false)), "{found:?}");
    }

    #[test]
    fn links_are_seen_without_their_files_and_cut_off() {
        let dir = tempfile::Builder::new().prefix(&"x".repeat(2 * LINK)).tempdir().unwrap();
        let held = std::fs::File::open(dir.path()).unwrap();
        let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        let mut found = Vec::new();
        own_dir().links(&mut Scratch::default(), |fd, link| found.push((fd, link.to_vec()))).unwrap();
        let link = |fd: i32| found.iter().find(|(number, _)| *number == fd).unwrap().1.clone();
        assert_eq!(link(inotify.as_raw_fd()), b"anon_inode:inotify");
        assert_eq!(link(held.as_raw_fd()), dir.path().to_str().unwrap().as_bytes()[..LINK]);
    }

    #[test]
    fn what_it_runs_is_read_as_by_path() {
        let (proc, mut scratch) = (Proc::new("/proc"), Scratch::default());
        let us = proc.self_pid().unwrap();
        assert_eq!(own_dir().arguments(&mut scratch).unwrap(), proc.arguments(us).unwrap());
        assert_eq!(own_dir().exe_path().unwrap(), proc.exe_path(us).unwrap());
    }

    #[test]
    fn files_are_read_whole_and_again_with_the_same_memory() {
        let (dir, mut scratch) = (own_dir(), Scratch::default());
        let maps = dir.read("maps", &mut scratch).unwrap();
        assert!(
            maps.ends_with(b"\n") && maps.windows(7).any(|part| part == b"[stack]"),
            "longer than a page"
        );
        assert_eq!(dir.stat(&mut scratch).unwrap().pid, Proc::new("/proc").self_pid().unwrap());
        assert!(dir.read("none", &mut scratch).is_err());
    }

    #[test]
    fn every_process_is_looked_at_once_and_none_without_time() {
        let pids: Vec<Pid> = (1..1000).map(Pid).collect();
        let later = Instant::now() + Duration::from_mins(10);
        let (found, all) = for_all(&pids, Some(later), Vec::new, |seen, pid, _| seen.push(pid));
        let mut seen = found.concat();
        seen.sort_unstable();
        assert!(all && seen == pids);
        let (found, all) = for_all(&pids, Some(Instant::now()), Vec::new, |seen, pid, _| seen.push(pid));
        assert!(!all && found.concat().is_empty());
    }
}
