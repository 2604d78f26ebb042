//! Snapshots of what takes space (`unwedge snapshot`), kept beside the journal. The only writer and reader of these
//! files. A new one is written under another name, made durable, and only then gets its name, which must be free.
#![expect(clippy::disallowed_methods, reason = "the one file that writes snapshots")]

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::domain::baseline::{Baseline, MAX_BYTES, root_of};
use crate::domain::text::HostPath;

/// The directory below that of the journal.
const DIRECTORY: &str = "snapshots";

/// How the names of snapshots end.
const SUFFIX: &str = ".unwedge";

/// More than the head of a snapshot with the longest path that the kernel takes.
const HEAD: u64 = 8192;

/// Where snapshots belong.
pub fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// Where the snapshot of a directory belongs. Names begin with the time, so that they sort by it.
pub fn place(state: &Path, root: &HostPath, taken_at: Timestamp) -> PathBuf {
    let word = |&byte: &u8| if byte.is_ascii_alphanumeric() { char::from(byte) } else { '-' };
    let slug: String = root.as_bytes().iter().skip(1).take(60).map(word).collect();
    let slug = if slug.is_empty() { "root" } else { &slug };
    let time = taken_at.strftime("%Y%m%dT%H%M%S.%3fZ");
    directory(state).join(format!("{time}-{slug}{SUFFIX}"))
}

/// Writes a snapshot where there is nothing yet. Makes the directory, if it is that of snapshots.
///
/// # Errors
/// A sentence that says what could not be done where and why, and what else could.
pub fn write(path: &Path, state: &Path, bytes: &[u8]) -> Result<(), String> {
    let shown = HostPath::from(path);
    let failed = |error: std::io::Error| {
        let advice = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                ": name a file elsewhere with --output"
            }
            _ => "",
        };
        format!("the snapshot could not be written to {shown}: {error}{advice}")
    };
    let Some(name) = path.file_name() else { return Err(format!("{shown} is no name of a file")) };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if dir == directory(state) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    let unfinished = unfinished(dir, name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        name_it(&unfinished, path)
    })();
    if let Err(error) = written {
        // Ours, and of no use. Where it cannot be removed, nothing more can be done about it either.
        let _ = fs::remove_file(&unfinished);
        return Err(if error.kind() == ErrorKind::AlreadyExists {
            format!("{shown} exists: nothing is written over; name another file with --output")
        } else {
            failed(error)
        });
    }
    // The name is durable only when its directory is.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn unfinished(dir: &Path, name: &OsStr) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    // A name may be as long as names can be.
    hidden.push(name.to_string_lossy().chars().take(30).collect::<String>());
    hidden.push(format!(".{}-{}.tmp", std::process::id(), Timestamp::now().as_nanosecond()));
    dir.join(hidden)
}

fn name_it(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot do it in one step (rename(2)).
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => Err(ErrorKind::AlreadyExists.into()),
        other => other.map_err(Into::into),
    }
}

/// Reads a snapshot, whoever wrote it.
///
/// # Errors
/// A sentence that says why it cannot be used.
pub fn read(path: &Path) -> Result<Baseline, String> {
    let shown = HostPath::from(path);
    let bytes = bytes_of(path, MAX_BYTES).map_err(|why| format!("{shown} {why}"))?;
    Baseline::from_bytes(&bytes).map_err(|damage| format!("{shown} {damage}"))
}

/// The newest snapshot that was kept of a directory.
///
/// # Errors
/// A sentence that says that there is none, or why they cannot be looked at.
pub fn newest(state: &Path, root: &HostPath) -> Result<PathBuf, String> {
    let dir = directory(state);
    let none = || {
        format!(
            "no snapshot of {root} was kept in {}: take one with unwedge snapshot {}",
            HostPath::from(dir.as_path()),
            root.quoted()
        )
    };
    match newest_first(&dir) {
        Ok(paths) => paths.into_iter().find(|path| is_of(path, root)).ok_or_else(none),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(none()),
        Err(error) => Err(format!("{} cannot be read: {error}", HostPath::from(dir.as_path()))),
    }
}

/// Removes the oldest snapshots of a directory where more than `keep` are where snapshots belong; answers how many. What
/// was put elsewhere, or is named otherwise, is left alone.
///
/// # Errors
/// A sentence that says what could not be removed.
pub fn keep_newest(state: &Path, root: &HostPath, keep: usize) -> Result<usize, String> {
    let dir = directory(state);
    let paths = newest_first(&dir)
        .map_err(|error| format!("{} cannot be read: {error}", HostPath::from(dir.as_path())))?;
    let mut removed = 0;
    for path in paths.iter().filter(|path| is_dated(path) && is_of(path, root)).skip(keep) {
        fs::remove_file(path)
            .map_err(|error| format!("{} cannot be removed: {error}", HostPath::from(path.as_path())))?;
        removed += 1;
    }
    Ok(removed)
}

/// The snapshots where they belong. Their names begin with the time.
fn newest_first(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)))
        .collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
}

/// Whether it has a name that [`place`] gives.
fn is_dated(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let time = name.split('-').next().unwrap_or_default();
    time.len() == "20261126T160000.000Z".len() && time.starts_with(|first: char| first.is_ascii_digit())
}

fn is_of(path: &Path, root: &HostPath) -> bool {
    bytes_of(path, HEAD).is_ok_and(|head| root_of(&head).as_ref() == Some(root))
}

/// The first bytes of a regular file, all of them where it has no more than `most`.
fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Without waiting for anybody who writes to it, if it is a pipe.
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err("is no regular file".to_owned());
    }
    if most == MAX_BYTES && meta.len() > most {
        return Err("is larger than any snapshot".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
