//! What a sweep of an over-full directory takes, decided from what was seen of an entry (SAFETY.md T5, T10, T27).

mod age;
mod keep;
mod keep_name;
mod list;
mod precious;

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::identity::{FileId, FileKind};
use super::reading::Reading;
use super::text::HostPath;

pub use age::parse_age;
pub use keep::{KeepList, KeptPath};
pub use keep_name::{KeepPlace, NameToKeep, literal};
pub use list::{Candidate, Class, LeftOut, Staying, Sweep, Tally};
pub use precious::precious;

/// Nothing younger than this is ever swept, whatever the settings say.
pub const YOUNG_SECS: u64 = 3600;

/// What a person wants of a sweep, beside the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepRule {
    /// What is old.
    pub ages: Ages,
    /// Names that stay beside those of the settings, with `*` and `?`.
    pub keep: Vec<String>,
    /// Names that go although they look precious, with `*` and `?`.
    pub also: Vec<String>,
    /// Whether directories of root go too where everybody can write.
    pub own_root: bool,
}

/// A directory that is to be swept.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepTarget {
    /// Where.
    pub path: HostPath,
    /// Which directory.
    pub id: FileId,
    /// What is wanted; none for what the settings say.
    pub rule: Option<SweepRule>,
    /// What would go and what stays; pending until it was looked at for a plan.
    pub list: Reading<Sweep>,
}

/// From which age on something is old, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Ages {
    /// Files and symbolic links.
    pub file_secs: u64,
    /// Empty directories.
    pub empty_dir_secs: u64,
    /// Other directories, by the youngest thing in them.
    pub dir_secs: u64,
}

impl Ages {
    /// From settings in hours; none is less than [`YOUNG_SECS`].
    pub fn from_hours(file: u32, empty_dir: u32, dir: u32) -> Self {
        let secs = |hours: u32| (u64::from(hours) * 3600).max(YOUNG_SECS);
        Self { file_secs: secs(file), empty_dir_secs: secs(empty_dir), dir_secs: secs(dir) }
    }

    /// The options of `unwedge sweep` that ask for these.
    pub fn options(&self) -> String {
        let empty = if self.empty_dir_secs == self.file_secs {
            String::new()
        } else {
            format!(" --older-empty {}", short(self.empty_dir_secs))
        };
        format!("--older {}{empty} --older-dirs {}", short(self.file_secs), short(self.dir_secs))
    }
}

/// A time in the largest unit that it is a multiple of: `2d`, `36h`.
fn short(secs: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(unit, _)| secs > 0 && secs.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{secs}s"), |(unit, name)| format!("{}{name}", secs / unit))
}

/// The same in words: `2 days`, `36 hours`.
pub fn age_words(secs: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let fits = units.into_iter().find(|(unit, _)| secs >= *unit && secs.is_multiple_of(*unit));
    let (count, name) = fits.map_or((secs, "second"), |(unit, name)| (secs / unit, name));
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Ages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "files after {}, empty directories after {}, other directories after {}",
            age_words(self.file_secs),
            age_words(self.empty_dir_secs),
            age_words(self.dir_secs)
        )
    }
}
/// What was seen of an entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: FileKind,
    /// The newest of all its times, and of all in it, in seconds since the epoch.
    pub newest: i64,
    /// Whether it is a directory with nothing in it.
    pub empty: bool,
    /// Whether it is, or holds, a directory of root.
    pub of_root: bool,
    /// Whether it holds a socket, fifo or device.
    pub holds_special: bool,
}

/// Threads of a sweep at most, each with a quarantine of its own: each name leaves the same directory, so more of them wait
/// for one another.
pub const MOST_THREADS: usize = 4;

/// Why an entry stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stays {
    /// It is too young, or dated in the future.
    Young,
    /// Somebody has it, or something in it, open, mapped, or stands in it.
    InUse,
    /// It is locked with flock(2).
    Locked,
    /// A keep list names it.
    Kept,
    /// It is, or holds, a directory of root where everybody could make it anew as theirs.
    OfRoot,
    /// Its name, or one in it, looks as if nobody could replace it.
    Precious,
    /// A person left it out.
    SwitchedOff,
    /// It is a socket, fifo or device, or holds one.
    Special,
    /// Something is mounted on or below it, or the kernel uses it.
    Mounted,
    /// It is, holds or is in something protected.
    Protected,
    /// It could not be looked at, or is beyond one sweep.
    Unknown,
    /// It changed since the plan was made.
    Changed,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Young => "young",
            Self::InUse => "in use",
            Self::Locked => "locked (flock)",
            Self::Kept => "named by a keep list",
            Self::OfRoot => "directories of root where everybody can write",
            Self::Precious => "look precious",
            Self::SwitchedOff => "left out by you",
            Self::Special => "sockets, fifos or devices, or hold such",
            Self::Mounted => "mounted on or below, or in use as a disk or by a container",
            Self::Protected => "protected",
            Self::Unknown => "could not be looked at",
            Self::Changed => "changed meanwhile",
        })
    }
}

/// Whether an entry goes. `shared` tells that everybody can write to the directory it is in.
///
/// # Errors
/// Why it stays.
pub fn judge(entry: &Entry, ages: &Ages, now: i64, shared: bool) -> Result<(), Stays> {
    let old = match (entry.kind, entry.empty) {
        (FileKind::File | FileKind::Symlink, _) => ages.file_secs,
        (FileKind::Directory, true) => ages.empty_dir_secs,
        (FileKind::Directory, false) => ages.dir_secs,
        (FileKind::Socket | FileKind::Fifo | FileKind::Device | FileKind::Other, _) => {
            return Err(Stays::Special);
        }
    };
    if entry.holds_special {
        return Err(Stays::Special);
    }
    let age = now.checked_sub(entry.newest).and_then(|age| u64::try_from(age).ok()).unwrap_or(0);
    if age <= old.max(YOUNG_SECS) {
        return Err(Stays::Young);
    }
    let attackable = shared && entry.kind == FileKind::Directory && entry.of_root;
    if attackable { Err(Stays::OfRoot) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = FileKind> {
        prop::sample::select(vec![
            FileKind::File,
            FileKind::Directory,
            FileKind::Symlink,
            FileKind::Device,
            FileKind::Fifo,
            FileKind::Socket,
            FileKind::Other,
        ])
    }

    proptest! {
        /// The oracle is written from SAFETY.md, not from the code above.
        #[test]
        fn the_same_verdict_as_the_oracle(
            kind in kinds(),
            times in prop::array::uniform4(-400_000_i64..400_000),
            (empty, of_root, holds_special, shared) in any::<(bool, bool, bool, bool)>(),
            (file, empty_dir, dir) in (0_u32..60, 0_u32..60, 0_u32..60),
        ) {
            let now = 1_000_000_i64;
            // atime, mtime, ctime, btime.
            let stamps: Vec<i64> = times.iter().map(|ago| now - ago).collect();
            let newest = *stamps.iter().max().unwrap();
            let entry = Entry { kind, newest, empty, of_root, holds_special };
            let goes = judge(&entry, &Ages::from_hours(file, empty_dir, dir), now, shared).is_ok();
            let hours = match kind {
                FileKind::File | FileKind::Symlink => file,
                FileKind::Directory => if empty { empty_dir } else { dir },
                _ => u32::MAX,
            };
            let all_old = stamps.iter().all(|stamp| now - stamp > i64::from(hours) * 3600 && now - stamp > 3600);
            let plain = matches!(kind, FileKind::File | FileKind::Symlink | FileKind::Directory) && !holds_special;
            let attackable = shared && of_root && kind == FileKind::Directory;
            prop_assert_eq!(goes, all_old && plain && !attackable);
        }
    }
}
