//! One run at a time on a machine, for each user (SAFETY.md T23): a lock on a file in `/run` that is never unlinked, so that
//! two processes cannot lock two files of one name, and one on the directory of the journal. Without a login (cron, su, a
//! container) there may be no `/run/user/UID`, so one alone would not keep out whoever has it. They are closed on exec and go
//! with the process that holds them.
#![expect(clippy::disallowed_methods, reason = "the one file that makes the lock")]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

/// The directory below that for the files of running programs.
const DIRECTORY: &str = "unwedge";
/// Where everybody may make such a directory, for who has no other place.
const SHARED: [&str; 2] = ["/dev/shm", "/tmp"];
/// The file in it.
const FILE_NAME: &str = "lock";
/// How long a run of another process is waited for: most take less, and whoever agreed to a plan has it run then.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the lock is tried for meanwhile.
const NAP: Duration = Duration::from_millis(20);

/// The lock, while a run holds it.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
    _dir: Option<OwnedFd>,
    /// What the wall clock was ahead of the time since boot when the run before took the lock, in seconds.
    pub clock_before: Option<i64>,
}

/// What the wall clock is ahead of the time since boot, in seconds. It changes when the clock is set.
pub fn clock() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec - clock_gettime(ClockId::Boottime).tv_sec
}

/// Takes the lock. None where there is no place for it: a machine in trouble must be savable without. `journal` are the
/// directories of the journal, the one that is used first.
///
/// # Errors
/// Who holds it, as a sentence.
pub fn take(run_dir: &Path, journal: &[&Path]) -> Result<Option<Lock>, String> {
    let until = Instant::now() + PATIENCE;
    let dir = journal.iter().find_map(|dir| open_dir(dir));
    let shared = || {
        let name = format!(".{DIRECTORY}-{}", rustix::process::geteuid().as_raw());
        SHARED.iter().find_map(|dir| open(&Path::new(dir).join(&name)))
    };
    let mut file = open(&run_dir.join(DIRECTORY));
    if file.is_none() && dir.is_none() {
        file = shared();
    }
    if let Some(opened) = &mut file
        && !wait_for(&*opened, until)?
    {
        return Err(held(read(opened).0));
    }
    if let Some(dir) = &dir
        && !wait_for(dir, until)?
    {
        return Err(held(None));
    }
    let clock_before = file.as_mut().and_then(|file| read(file).1);
    if let Some(file) = &mut file {
        // Only words for others; where there is no room for them the lock holds all the same.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = file.write_all(format!("{} {}\n", std::process::id(), clock()).as_bytes());
    }
    if file.is_none() && dir.is_none() {
        return Ok(None);
    }
    Ok(Some(Lock { _file: file, _dir: dir, clock_before }))
}

/// Locks something that is open, for as long as it is. False if somebody else has it locked all the time.
fn wait_for(opened: impl AsFd, until: Instant) -> Result<bool, String> {
    loop {
        match retry_on_intr(|| flock(&opened, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(NAP),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            // A file system without locks is as good as no place for it.
            Ok(()) | Err(_) => return Ok(true),
        }
    }
}

fn held(holder: Option<u32>) -> String {
    let holder = holder.map_or("a process that cannot be named".to_owned(), |pid| format!("pid {pid}"));
    format!("not run: another unwedge ({holder}) is changing things right now; try again when it is done")
}

/// A directory of ours alone; made if it is not there.
fn open_dir(dir: &Path) -> Option<OwnedFd> {
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| rustix::fs::open(dir, flags, Mode::empty())).ok()?;
    let owner = rustix::fs::fstat(&opened).ok()?.st_uid;
    (owner == rustix::process::geteuid().as_raw()).then_some(opened)
}

fn open(dir: &Path) -> Option<File> {
    // Where it is there already, its owner is looked at below.
    let _ = DirBuilder::new().mode(0o700).create(dir);
    let us = rustix::process::geteuid().as_raw();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(dir.join(FILE_NAME))
        .ok()?;
    let (meta, above) = (file.metadata().ok()?, dir.symlink_metadata().ok()?);
    (meta.is_file() && meta.uid() == us && above.is_dir() && above.uid() == us).then_some(file)
}

/// The holder, and its clock.
fn read(file: &mut File) -> (Option<u32>, Option<i64>) {
    let mut text = String::new();
    let _ = file.rewind();
    let _ = std::io::Read::by_ref(file).take(100).read_to_string(&mut text);
    let mut words = text.split_whitespace();
    (words.next().and_then(|word| word.parse().ok()), words.next().and_then(|word| word.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_until_the_first_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), &[]).unwrap().unwrap();
        assert_eq!(first.clock_before, None);
        let why = take(dir.path(), &[]).unwrap_err();
        assert!(why.contains(&format!("pid {}", std::process::id())), "{why}");
        drop(first);
        let second = take(dir.path(), &[]).unwrap().unwrap();
        assert!((second.clock_before.unwrap() - clock()).abs() <= 1);
        let path = dir.path().join("unwedge/lock");
        assert!(path.exists() && path.metadata().unwrap().mode() & 0o7777 == 0o600);
    }

    #[test]
    fn without_a_directory_in_run_the_one_of_the_journal_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, journal) = (dir.path().join("missing/further"), dir.path().join("journal"));
        let first = take(&missing, &[&journal]).unwrap().unwrap();
        assert!(take(&missing, &[&journal]).unwrap_err().contains("another unwedge"));
        // Nor by whoever has such a directory.
        assert!(take(dir.path(), &[&journal]).unwrap_err().contains("another unwedge"));
        drop(first);
        assert!(take(dir.path(), &[&journal]).unwrap().is_some());
    }
}
