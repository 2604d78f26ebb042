//! What a sweep of an over-full directory takes, decided from what was seen of an entry (SAFETY.md T5, T10, T27).

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::Serialize;

use super::identity::{FileId, FileKind};
use super::size::Bytes;
use super::text::HostPath;

/// Nothing younger than this is ever swept, whatever the settings say.
pub const YOUNG_SECS: u64 = 3600;

/// Names that always stay in a directory for temporary files: the system's own, which programs expect to find for as
/// long as the machine runs, and what a user could put in their place if they were gone (SAFETY.md T5).
pub const ALWAYS_KEPT: [&str; 15] = [
    "systemd-private-*",
    ".X11-unix",
    ".ICE-unix",
    ".XIM-unix",
    ".font-unix",
    ".Test-unix",
    ".X*-lock",
    ".snap",
    "snap-private-tmp",
    "snap.*",
    "tmux-*",
    "ssh-*",
    ".unwedge-*",
    "lost+found",
    "pulse-*",
];

/// A directory that is to be swept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepTarget {
    /// Where.
    pub path: HostPath,
    /// Which directory.
    pub id: FileId,
    /// Entries in it, where they were counted.
    pub entries: Option<u64>,
    /// Space that all below it takes, where it was counted: no more comes back.
    pub holds: Option<Bytes>,
}

/// From which age on something is old, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
}

impl fmt::Display for Ages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |secs: u64| secs / 3600;
        write!(
            f,
            "files after {} h, empty directories after {} h, other directories after {} h",
            hours(self.file_secs),
            hours(self.empty_dir_secs),
            hours(self.dir_secs)
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

/// Why an entry stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stays {
    /// It is too young, or dated in the future.
    Young,
    /// It is a socket, fifo or device, or holds one.
    Special,
    /// It is a directory of root where everybody could make it anew as theirs.
    OfRoot,
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
    if shared && entry.kind == FileKind::Directory && entry.of_root {
        return Err(Stays::OfRoot);
    }
    let age = now.checked_sub(entry.newest).and_then(|age| u64::try_from(age).ok()).unwrap_or(0);
    if age > old.max(YOUNG_SECS) { Ok(()) } else { Err(Stays::Young) }
}

/// How much one run may take (SAFETY.md T27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    entries: u64,
}

/// Entries that one run takes at most.
pub const MOST_ENTRIES: u64 = 100_000;
/// The share of a file system that one run takes at most, in percent.
pub const MOST_PERCENT: u64 = 20;
/// How long one run takes at most, in seconds.
pub const MOST_SECS: u64 = 600;

impl Budget {
    /// For a file system of this size; nothing where its size is not known.
    pub fn of(total: u64) -> Self {
        Self { bytes: total / 100 * MOST_PERCENT, entries: MOST_ENTRIES }
    }

    /// Takes something out of it.
    ///
    /// # Errors
    /// A sentence where it is more than what is left; nothing is taken then.
    pub fn take(&mut self, bytes: u64, entries: u64) -> Result<(), String> {
        if entries > self.entries {
            return Err(format!(
                "stopped: one run removes {MOST_ENTRIES} entries at most; sweep again for the rest"
            ));
        }
        if bytes > self.bytes {
            return Err(format!(
                "stopped: one run removes {MOST_PERCENT} % of a file system at most; sweep again for the rest"
            ));
        }
        self.bytes -= bytes;
        self.entries -= entries;
        Ok(())
    }
}

/// Names that stay.
#[derive(Debug)]
pub struct KeepList {
    names: GlobSet,
}

impl KeepList {
    /// From the built-in list, the settings, and patterns of whole paths that name something in `dir`.
    ///
    /// # Errors
    /// A sentence where a pattern of the settings cannot be read: then nothing is swept.
    pub fn new(dir: &HostPath, settings: &[String], paths: &[KeptPath]) -> Result<Self, String> {
        let mut names = GlobSetBuilder::new();
        let glob =
            |pattern: &str| GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
        for name in ALWAYS_KEPT {
            names.add(glob(name).map_err(|error| error.to_string())?);
        }
        for name in settings {
            names.add(glob(name).map_err(|error| {
                format!("{name:?} in sweep.keep is no pattern ({error}), so nothing is swept")
            })?);
        }
        for path in paths {
            if let Some(name) = path.names_in(dir.as_bytes()) {
                // A pattern that nobody can read keeps everything it may mean.
                names.add(glob(&name).or_else(|_| glob("*")).map_err(|error| error.to_string())?);
            }
        }
        Ok(Self { names: names.build().map_err(|error| error.to_string())? })
    }

    /// Whether something of this name stays.
    pub fn keeps(&self, name: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        self.names.is_match(std::path::Path::new(std::ffi::OsStr::from_bytes(name)))
    }
}

/// What a line of tmpfiles.d(5) keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptPath {
    /// What this pattern of whole paths names, its quotes, escapes and specifiers undone as far as they are known; a
    /// specifier that stands for one name is `*`.
    Pattern {
        /// The pattern, absolute.
        glob: Vec<u8>,
        /// Whether all below it is kept too (`x`), or only itself (`X`).
        below: bool,
    },
    /// Nobody can say what it names, so everything may be meant.
    Anything,
}

impl KeptPath {
    /// The pattern for names directly in `dir` that must stay.
    fn names_in(&self, dir: &[u8]) -> Option<String> {
        let Self::Pattern { glob, below } = self else { return Some("*".to_owned()) };
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let (wanted, there) = (parts(glob), parts(dir));
        let differs = |(pattern, name): (&Vec<u8>, &Vec<u8>)| {
            use std::os::unix::ffi::OsStrExt as _;
            let glob =
                GlobBuilder::new(&readable(pattern)).literal_separator(true).backslash_escape(true).build();
            // One that cannot be read may mean this one.
            glob.is_ok_and(|glob| !glob.compile_matcher().is_match(std::ffi::OsStr::from_bytes(name)))
        };
        if wanted.iter().zip(&there).any(differs) {
            return None;
        }
        match wanted.get(there.len()) {
            Some(name) => Some(readable(name)),
            // It names the directory itself or one above it.
            None => below.then(|| "*".to_owned()),
        }
    }
}

/// One component of a pattern of glob(7) in the words of this program's globs, which know braces and no named classes.
fn readable(part: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(part) else { return "*".to_owned() };
    if ["[:", "[.", "[="].iter().any(|class| text.contains(class)) {
        return "*".to_owned();
    }
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                out.push('\\');
                out.extend(letters.next());
            }
            '{' | '}' => out.extend(['\\', letter]),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_built_in_names_the_settings_and_tmpfiles_are_kept() {
        let pattern = |glob: &str| KeptPath::Pattern { glob: glob.into(), below: true };
        let paths = ["/tmp/systemd-x-*-*", "/tmp/deep/er/*", "/var/tmp/y", "/?mp/glob-dir", "/tmp/{brace}"];
        let paths = paths.map(pattern);
        let keep = KeepList::new(&"/tmp".into(), &["build-*".to_owned()], &paths).unwrap();
        for name in [
            "systemd-private-1-x",
            ".X11-unix",
            ".X0-lock",
            "tmux-0",
            "build-7",
            "systemd-x-1-2",
            "deep",
            "glob-dir",
            "{brace}",
        ] {
            assert!(keep.keeps(name.as_bytes()), "{name}");
        }
        for name in ["y", "x", "rebuild-7", "X11-unix"] {
            assert!(!keep.keeps(name.as_bytes()), "{name}");
        }
        assert!(KeepList::new(&"/tmp".into(), &["[".to_owned()], &[]).is_err());
        let all = |dir: &str, path: KeptPath| {
            let list = KeepList::new(&dir.into(), &[], &[path]).unwrap();
            list.keeps(b"anything")
        };
        assert!(all("/srv", KeptPath::Anything) && all("/srv", pattern("/srv/[[:alpha:]]x")));
        assert!(all("/srv/a/b", pattern("/srv/*")), "everything below it is kept");
        assert!(!all("/srv/a/b", KeptPath::Pattern { glob: b"/srv/*".to_vec(), below: false }));
        assert!(!all("/srv", pattern("/var/anything")));
    }

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

        #[test]
        fn a_run_never_takes_more_than_its_share(
            total in 0_u64..1 << 44,
            sizes in prop::collection::vec((0_u64..1 << 42, 1_u64..60_000), 1..200),
        ) {
            let mut budget = Budget::of(total);
            let (mut bytes, mut entries) = (0_u64, 0_u64);
            for (size, count) in sizes {
                let before = budget;
                if budget.take(size, count).is_ok() {
                    bytes += size;
                    entries += count;
                } else {
                    prop_assert_eq!(before, budget);
                }
            }
            prop_assert!(bytes <= total / 5 && entries <= 100_000);
        }
    }
}
