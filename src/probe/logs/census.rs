//! What a directory for logs holds: a bounded walk.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use walkdir::{DirEntry, WalkDir};

use super::{journal, names};
use crate::domain::identity::DevIno;
use crate::domain::logs::{LogDir, LogFile, Rotated};
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::deadline::c_path;
use crate::sys::file_id::{self, of_metadata};

/// How often the clock is looked at, in entries.
const EVERY: usize = 512;
/// The largest logs, and logs with the most rotated siblings, that are told.
const TOLD: usize = 20;
/// More logs with rotated siblings than this are not told apart.
const GROUPS: usize = 10_000;
/// Rotated files in which writers are looked for, the largest.
const WATCHED: usize = 1_000;

/// A directory, and the files in it that a writer may have open.
pub(super) struct Counted {
    pub(super) dir: LogDir,
    /// Live logs among [`LogDir::largest`], in the same order.
    pub(super) live: Vec<DevIno>,
    /// The largest rotated files, which may turn out to be written to.
    pub(super) rotated: Vec<(DevIno, LogFile)>,
    pub(super) missing: Vec<String>,
}

/// Files ordered by size, of which only the largest are kept.
struct Largest {
    most: usize,
    files: BTreeSet<(Bytes, PathBuf)>,
    facts: BTreeMap<PathBuf, (DevIno, LogFile)>,
}

impl Largest {
    fn new(most: usize) -> Self {
        Self { most, files: BTreeSet::new(), facts: BTreeMap::new() }
    }

    fn offer(&mut self, entry: &DirEntry, meta: &std::fs::Metadata) {
        let allocated = allocated(meta);
        if allocated.is_zero()
            || (self.files.len() >= self.most
                && self.files.first().is_some_and(|(smallest, _)| *smallest >= allocated))
        {
            return;
        }
        let path = entry.path().to_path_buf();
        self.facts.insert(path.clone(), (of_metadata(meta), log_file(&path, meta)));
        self.files.insert((allocated, path));
        if self.files.len() > self.most
            && let Some((_, path)) = self.files.pop_first()
        {
            self.facts.remove(&path);
        }
    }

    fn into_sorted(mut self) -> Vec<(DevIno, LogFile)> {
        let with_id = |(_, path): (Bytes, PathBuf)| {
            let (key, mut log) = self.facts.remove(&path)?;
            // Asked of those that are told only; another file may have the name by now.
            let id = c_path(&path).and_then(|path| file_id::of_path(&path, false)).ok();
            log.id = id.filter(|id| id.key == key);
            Some((key, log))
        };
        self.files.into_iter().rev().filter_map(with_id).collect()
    }
}

/// Counts a directory with all below it on the same file system. None where it is not there.
pub(super) fn count(dir: &Path, until: Instant) -> Option<Counted> {
    let shown = HostPath::from(dir);
    let (mut size, mut files, mut rotated_size) = (Bytes::ZERO, 0_u64, Bytes::ZERO);
    let (mut live, mut rotated) = (Largest::new(TOLD), Largest::new(WATCHED));
    let mut groups: BTreeMap<PathBuf, Rotated> = BTreeMap::new();
    let mut linked = HashSet::new();
    let mut missing = Vec::new();
    let mut unreadable = 0_u64;
    for (number, entry) in WalkDir::new(dir).same_file_system(true).into_iter().enumerate() {
        if number % EVERY == 0 && Instant::now() >= until {
            missing.push(format!("{shown} has so many files that only {files} were counted in time"));
            break;
        }
        let found = entry.and_then(|entry| entry.metadata().map(|meta| (entry, meta)));
        let (entry, meta) = match found {
            Ok(found) => found,
            Err(error) if number == 0 && is_missing(&error) => return None,
            Err(error) if is_missing(&error) => continue,
            Err(_) => {
                unreadable += 1;
                continue;
            }
        };
        if !meta.is_file() || (meta.nlink() > 1 && !linked.insert(of_metadata(&meta))) {
            continue;
        }
        files += 1;
        size += allocated(&meta);
        let name = entry.file_name();
        if journal::is_file(name.as_bytes()) {
            continue;
        }
        let Some(log) = names::live(name.as_bytes()) else {
            live.offer(&entry, &meta);
            continue;
        };
        rotated.offer(&entry, &meta);
        rotated_size += allocated(&meta);
        let log = entry.path().with_file_name(std::ffi::OsString::from_vec(log));
        if groups.len() < GROUPS || groups.contains_key(&log) {
            let path = HostPath::from(log.as_path());
            let group = groups.entry(log).or_insert(Rotated { live: path, files: 0, size: Bytes::ZERO });
            group.files += 1;
            group.size += allocated(&meta);
        }
    }
    if unreadable > 0 {
        missing.push(format!(
            "{unreadable} directories or files below {shown} could not be read: run as root (sudo unwedge)"
        ));
    }
    let mut groups: Vec<Rotated> = groups.into_values().collect();
    groups.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.live.cmp(&b.live)));
    groups.truncate(TOLD);
    let (live, largest) = live.into_sorted().into_iter().unzip();
    let dir = LogDir {
        path: shown,
        size,
        files,
        largest,
        rotated: groups,
        rotated_size,
        rotated_files: Vec::new(),
    };
    Some(Counted { dir, live, rotated: rotated.into_sorted(), missing })
}

/// It is not there, or not any more.
fn is_missing(error: &walkdir::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Space that a file takes. Blocks of stat(2) are 512 bytes whatever the file system uses.
pub(super) fn allocated(meta: &std::fs::Metadata) -> Bytes {
    Bytes(meta.blocks().saturating_mul(512))
}

fn log_file(path: &Path, meta: &std::fs::Metadata) -> LogFile {
    LogFile {
        path: HostPath::from(path),
        id: None,
        allocated: allocated(meta),
        apparent: Bytes(meta.len()),
        modified: Timestamp::from_second(meta.mtime()).ok(),
        writers: Vec::new(),
        stanza: None,
    }
}
