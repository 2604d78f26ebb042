//! The files of systemd's journal, by directory, and what journalctl says of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use super::census::allocated;
use crate::domain::logs::{Journal, JournalDir, JournalOwner};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::probe::Context;
use crate::sys::tool::{self, Invocation};

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
            if let Some(dir) = directory(&path, own, missing) {
                dirs.insert(path, dir);
            }
        }
    }
    let mut dirs: Vec<JournalDir> = dirs.into_values().collect();
    dirs.sort_by(|a, b| b.size().cmp(&a.size()).then_with(|| a.path.cmp(&b.path)));
    let running = context.environment.rooted("/run/systemd/journal/io.systemd.journal").exists();
    Journal { dirs, running, reported: Journal::default().reported }
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
fn directory(path: &Path, own: &[u8], missing: &mut Vec<String>) -> Option<JournalDir> {
    let mut dir = JournalDir {
        path: HostPath::from(path),
        owner: owner(path.file_name().unwrap_or_default(), own),
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

/// By the name of the directory: a machine id, perhaps with a namespace after it (`ID.NAMESPACE`), or a word. A word,
/// and a machine that has no id, are taken for this machine's: nothing is called foreign without proof.
fn owner(name: &OsStr, own: &[u8]) -> JournalOwner {
    let name = name.as_bytes();
    let id = name.split(|&byte| byte == b'.').next().unwrap_or_default();
    let is_id = id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit);
    if name == REMOTE.as_bytes() {
        JournalOwner::Remote
    } else if is_id && own.len() == 32 && !id.eq_ignore_ascii_case(own) {
        JournalOwner::Other
    } else {
        JournalOwner::Own
    }
}

/// What journalctl itself says.
pub(super) fn ask(context: &Context<'_>) -> Reading<Bytes> {
    let mut invocation = Invocation::new("journalctl").arg("--disk-usage").arg("--quiet");
    if context.environment.root != Path::new("/") {
        invocation = invocation.arg("--root").arg(&context.environment.root);
    }
    tool::ask(&invocation, context.deadline()).reading("journalctl", parse)
}

/// `Archived and active journals take up 3.9G in the file system.`; another sentence where there are none.
fn parse(output: &[u8]) -> Result<Bytes, String> {
    let text = String::from_utf8_lossy(output);
    let said = || crate::domain::text::sanitise(output).into_owned();
    let Some((_, rest)) = text.split_once(" take up ") else {
        return if text.trim().is_empty() || text.contains("No journal files") {
            Ok(Bytes::ZERO)
        } else {
            Err(said())
        };
    };
    let size = rest.split_ascii_whitespace().next().and_then(size);
    size.ok_or_else(said)
}

/// A size as systemd prints it (`format_bytes`: powers of 1024, one digit after the point; `512B`, `8.0M`).
fn size(text: &str) -> Option<Bytes> {
    let unit = text.chars().next_back()?;
    let shift = "BKMGTPE".find(unit)? * 10;
    let number = text.strip_suffix(unit)?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, tenths): (u64, u64) = (whole.parse().ok()?, tenths.parse().ok().filter(|digit| *digit < 10)?);
    let one = 1_u64 << shift;
    whole.checked_mul(one)?.checked_add(tenths.checked_mul(one / 10)?).map(Bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_journalctl_prints_is_understood() {
        let of = |text: &str| parse(text.as_bytes());
        // systemd 252 and 257; older ones (219 to 237) said it with the same words.
        assert_eq!(of("Archived and active journals take up 8.0M in the file system.\n"), Ok(Bytes(8 << 20)));
        assert_eq!(of("Archived and active journals take up 0B in the file system.\n"), Ok(Bytes::ZERO));
        assert_eq!(
            of("Archived and active journals take up 3.9G on disk.\n"),
            Ok(Bytes((3 << 30) + 9 * ((1 << 30) / 10)))
        );
        assert_eq!(of(""), Ok(Bytes::ZERO));
        assert!(of("Journals take up a lot").is_err());
        assert!(of("something else \u{1b}[2J").unwrap_err().find('\u{1b}').is_none());
    }

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
        let of = |name: &str, own: &[u8]| owner(OsStr::new(name), own);
        assert_eq!(of("0123456789ABCDEF0123456789abcdef", own), JournalOwner::Own);
        assert_eq!(of("0123456789abcdef0123456789abcdef.jobs", own), JournalOwner::Own);
        assert_eq!(of(&other, own), JournalOwner::Other);
        assert_eq!(of(&format!("{other}.jobs"), own), JournalOwner::Other);
        assert_eq!(of(&other, b"uninitialized"), JournalOwner::Own);
        assert_eq!(of("remote", own), JournalOwner::Remote);
        assert_eq!(of("journal", own), JournalOwner::Own);
    }

    proptest! {
        #[test]
        fn any_output_is_taken(output in proptest::collection::vec(any::<u8>(), 0..200), size_text in ".{0,20}") {
            let _ = parse(&output);
            let _ = size(&size_text);
        }
    }
}
