//! Names that a sweep never takes.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::domain::text::HostPath;

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
}
