//! The files of systemd's journal, by directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use super::census::allocated;
use crate::domain::logs::{Journal, JournalDir, JournalOwner, Journald};
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;

/// Where journald keeps its files: on disk, and in memory until the disk is there (`journald.conf(5)`, `Storage`).
pub(super) const PLACES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// Where systemd-journal-remote writes by default.
const REMOTE: &str = "remote";
/// Directories in one place that are looked at.
const DIRS: usize = 1_000;
/// Files in one directory that are looked at.
const FILES: usize = 100_000;

/// Whether this is the name of a journal file.
pub(super) fn is_file(name: &[u8]) -> bool {
    name.ends_with(b".journal") || name.ends_with(b".journal~")
}

/// Whether a journal file is closed for good: rotated (`system@ID-SEQNUM-TIME.journal`), or put aside because it was
/// not closed properly (`system@TIME-ID.journal~`). Only those are vacuumed (journal-vacuum.c).
fn is_archived(name: &[u8]) -> bool {
    is_file(name) && name.contains(&b'@')
}

/// Looks at the directories that can be looked at.
pub(super) fn look(
    context: &Context<'_>,
    places: &[PathBuf],
    until: Instant,
    missing: &mut Vec<String>,
) -> Journal {
    let own = std::fs::read(context.environment.rooted("/etc/machine-id")).unwrap_or_default();
    let own = own.trim_ascii();
    let mut dirs: BTreeMap<PathBuf, JournalDir> = BTreeMap::new();
    for place in places {
        // journalctl takes files in the directory itself, too.
        let mut candidates = vec![place.clone()];
        let Some(entries) = list(place, missing) else { continue };
        candidates.extend(entries.take(DIRS).filter(is_dir).map(|entry| entry.path()));
        for path in candidates {
            if Instant::now() >= until {
                missing.push(format!(
                    "not all journal files below {} were counted in time",
                    HostPath::from(place.as_path())
                ));
                break;
            }
            if let Some(mut dir) = directory(&path, missing) {
                let names = if path == *place { Names::Main } else { names(dir.path.as_path(), own) };
                (dir.owner, dir.journald) = names.owner(|namespace| runs(context, namespace));
                dirs.insert(path, dir);
            }
        }
    }
    let mut dirs: Vec<JournalDir> = dirs.into_values().collect();
    dirs.sort_by(|a, b| b.size().cmp(&a.size()).then_with(|| a.path.cmp(&b.path)));
    Journal { dirs }
}

fn list(dir: &Path, missing: &mut Vec<String>) -> Option<impl Iterator<Item = std::fs::DirEntry>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Some(entries.filter_map(Result::ok)),
        Err(error) => {
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                let shown = HostPath::from(dir);
                missing.push(format!("{shown} may not be read: run as root (sudo unwedge)"));
            }
            None
        }
    }
}

fn is_dir(entry: &std::fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// None where it holds no journal files.
fn directory(path: &Path, missing: &mut Vec<String>) -> Option<JournalDir> {
    let mut dir = JournalDir {
        path: HostPath::from(path),
        owner: JournalOwner::Own,
        journald: None,
        archived: Bytes::ZERO,
        archived_files: 0,
        active: Bytes::ZERO,
        modified: None,
    };
    let mut any = false;
    for entry in list(path, missing)?.take(FILES) {
        let name = entry.file_name();
        // Not followed: a link is no file of the journal.
        let Ok(meta) = entry.metadata() else { continue };
        if !is_file(name.as_bytes()) || !meta.is_file() {
            continue;
        }
        any = true;
        if is_archived(name.as_bytes()) {
            dir.archived += allocated(&meta);
            dir.archived_files += 1;
        } else {
            dir.active += allocated(&meta);
        }
        dir.modified = dir.modified.max(Timestamp::from_second(meta.mtime()).ok());
    }
    any.then_some(dir)
}

/// Whose the name of a directory says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names<'n> {
    /// The journald that everybody logs to who has no namespace: it and journalctl take the directory of the machine id,
    /// and files that are beside it.
    Main,
    /// That of a namespace.
    Namespace(&'n [u8]),
    /// Another machine.
    Other,
    /// systemd-journal-remote.
    Remote,
    /// Somebody of this machine, but no journald: neither it nor a journalctl that is not told the directory looks there.
    Nobody,
}

/// By the name: a machine id, perhaps with a namespace after it (`ID.NAMESPACE`), or a word. A word, and a machine that
/// has no id, are taken for this machine's: nothing is called foreign without proof.
fn names<'n>(path: &'n Path, own: &[u8]) -> Names<'n> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let (id, namespace) = match name.iter().position(|&byte| byte == b'.') {
        Some(at) => (name.get(..at).unwrap_or_default(), name.get(at + 1..)),
        None => (name, None),
    };
    let is_id = id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit);
    match namespace {
        _ if name == REMOTE.as_bytes() => Names::Remote,
        _ if !is_id || own.len() != 32 => Names::Nobody,
        _ if !id.eq_ignore_ascii_case(own) => Names::Other,
        None => Names::Main,
        Some(namespace) if is_namespace(namespace) => Names::Namespace(namespace),
        Some(_) => Names::Nobody,
    }
}

/// Whether a journald can have this namespace: the name is one of a unit's instance (`log_namespace_name_valid`,
/// `unit_instance_is_valid`). So it is none of the words by which journalctl takes several (`*`, `+NAME`).
fn is_namespace(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(byte))
}

impl Names<'_> {
    fn owner(self, runs: impl Fn(Option<&[u8]>) -> bool) -> (JournalOwner, Option<Journald>) {
        let journald = |namespace: Option<&[u8]>| {
            Some(Journald { namespace: namespace.map(HostText::new), running: runs(namespace) })
        };
        match self {
            Self::Main => (JournalOwner::Own, journald(None)),
            Self::Namespace(name) => (JournalOwner::Own, journald(Some(name))),
            Self::Other => (JournalOwner::Other, None),
            Self::Remote => (JournalOwner::Remote, None),
            Self::Nobody => (JournalOwner::Own, None),
        }
    }
}

/// Whether a journald listens, or systemd in its place. That of a namespace ends while it has nothing to do, and is
/// started by whoever calls it. Not called here: this only looks.
fn runs(context: &Context<'_>, namespace: Option<&[u8]>) -> bool {
    let dir = [&b"/run/systemd/journal"[..], namespace.map_or(b"", |_| b"."), namespace.unwrap_or_default()];
    let dir = PathBuf::from(OsStr::from_bytes(&dir.concat()));
    context.environment.rooted(dir.join("io.systemd.journal")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_files_have_an_at() {
        for name in ["system@3f3e-01-06.journal", "user-1000@3f-01-06.journal", "system@0005-01.journal~"] {
            assert!(is_archived(name.as_bytes()), "{name}");
        }
        for name in ["system.journal", "user-1000.journal", "remote-10.0.0.1.journal", "x@y.log", "~"] {
            assert!(!is_archived(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_directory_is_foreign_only_by_another_machine_id() {
        let own = b"0123456789abcdef0123456789abcdef";
        let other = "f".repeat(32);
        let of = |name: &'static str, own: &[u8]| names(Path::new(name), own);
        assert_eq!(of("0123456789ABCDEF0123456789abcdef", own), Names::Main);
        assert_eq!(of("0123456789abcdef0123456789abcdef.jobs", own), Names::Namespace(b"jobs"));
        assert_eq!(of("0123456789abcdef0123456789abcdef.a.b", own), Names::Namespace(b"a.b"));
        assert_eq!(names(Path::new(&other), own), Names::Other);
        assert_eq!(names(Path::new(&format!("{other}.jobs")), own), Names::Other);
        assert_eq!(names(Path::new(&format!("{other}.jobs")), b"uninitialized"), Names::Nobody);
        assert_eq!(of("remote", own), Names::Remote);
        assert_eq!(of("journal", own), Names::Nobody);
    }

    #[test]
    fn a_name_that_means_several_namespaces_is_none() {
        let own = b"0123456789abcdef0123456789abcdef";
        for name in ["*", "+jobs", "", "a b", "a\n"] {
            let path = format!("0123456789abcdef0123456789abcdef.{name}");
            assert_eq!(names(Path::new(&path), own), Names::Nobody, "{name:?}");
        }
    }
}
