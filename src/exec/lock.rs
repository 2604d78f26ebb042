//! One run at a time on a machine, for each user (SAFETY.md T23): a lock on a file in `/run` that is never unlinked, so that
//! two processes cannot lock two files of one name. It is closed on exec and goes with the process that holds it.
#![expect(clippy::disallowed_methods, reason = "the one file that makes the lock")]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

/// The directory below that for the files of running programs.
const DIRECTORY: &str = "unwedge";
/// The file in it.
const FILE_NAME: &str = "lock";
/// How long a run of another process is waited for: most take less, and whoever agreed to a plan has it run then.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the lock is tried for meanwhile.
const NAP: Duration = Duration::from_millis(20);

/// The lock, while a run holds it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// What the wall clock was ahead of the time since boot when the run before took the lock, in seconds.
    pub clock_before: Option<i64>,
}

/// What the wall clock is ahead of the time since boot, in seconds. It changes when the clock is set.
pub fn clock() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec - clock_gettime(ClockId::Boottime).tv_sec
}

/// Takes the lock. None where there is no place for it: a machine in trouble must be savable without.
///
/// # Errors
/// Who holds it, as a sentence.
pub fn take(run_dir: &Path) -> Result<Option<Lock>, String> {
    let Some(mut file) = open(run_dir) else { return Ok(None) };
    let until = Instant::now() + PATIENCE;
    let mut taken = retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive));
    while taken == Err(Errno::WOULDBLOCK) && Instant::now() < until {
        std::thread::sleep(NAP);
        taken = retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive));
    }
    match taken {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(format!(
                "not run: another unwedge ({}) is changing things right now; try again when it is done",
                read(&mut file)
                    .0
                    .map_or("a process that cannot be named".to_owned(), |pid| format!("pid {pid}"))
            ));
        }
        // A file system without locks.
        Err(_) => return Ok(None),
    }
    let clock_before = read(&mut file).1;
    // Only words for others; where there is no room for them the lock holds all the same.
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = file.write_all(format!("{} {}\n", std::process::id(), clock()).as_bytes());
    Ok(Some(Lock { _file: file, clock_before }))
}

fn open(run_dir: &Path) -> Option<File> {
    let dir = run_dir.join(DIRECTORY);
    // Where it is there already, its owner is looked at below.
    let _ = DirBuilder::new().mode(0o700).create(&dir);
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
        let first = take(dir.path()).unwrap().unwrap();
        assert_eq!(first.clock_before, None);
        let why = take(dir.path()).unwrap_err();
        assert!(why.contains(&format!("pid {}", std::process::id())), "{why}");
        drop(first);
        let second = take(dir.path()).unwrap().unwrap();
        assert!((second.clock_before.unwrap() - clock()).abs() <= 1);
        let path = dir.path().join("unwedge/lock");
        assert!(path.exists() && path.metadata().unwrap().mode() & 0o7777 == 0o600);
        assert!(take(&dir.path().join("missing/further")).unwrap().is_none());
    }
}
