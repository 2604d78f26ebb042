//! Which logs the configuration of logrotate names (logrotate.conf(5)).

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::config::Environment;
use crate::domain::logs::Stanza;
use crate::domain::text::{HostPath, HostText};
use crate::sys::plain_file;

/// Longest configuration file that is read.
const LONGEST: usize = 1 << 20;
/// Files that are read in all.
const FILES: usize = 1_000;
/// How deep files may include others.
const DEPTH: usize = 8;
/// Directives after which a script follows, up to `endscript`.
const SCRIPTS: [&[u8]; 5] = [b"prerotate", b"postrotate", b"preremove", b"firstaction", b"lastaction"];
/// Endings that an included directory's files are skipped for (config.c, `defTabooExts`).
const TABOO: [&[u8]; 21] = [
    b",v",
    b".bak",
    b".cfsaved",
    b".disabled",
    b".dpkg-bak",
    b".dpkg-del",
    b".dpkg-dist",
    b".dpkg-new",
    b".dpkg-old",
    b".dpkg-tmp",
    b".new",
    b".old",
    b".orig",
    b".rpmnew",
    b".rpmorig",
    b".rpmsave",
    b".swp",
    b".ucf-dist",
    b".ucf-new",
    b".ucf-old",
    b"~",
];

/// Every log that a configuration names.
#[derive(Default)]
pub(super) struct Stanzas {
    all: Vec<(GlobMatcher, Stanza)>,
    files: usize,
    pub(super) missing: Vec<String>,
}

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parsed {
    /// Patterns with their lines.
    logs: Vec<(Vec<u8>, u64)>,
    includes: Vec<Vec<u8>>,
}

impl Stanzas {
    /// Reads a configuration with all that it includes.
    pub(super) fn read(environment: &Environment, config: &Path) -> Self {
        let mut stanzas = Self::default();
        stanzas.file(environment, config, 0);
        stanzas
    }

    fn file(&mut self, environment: &Environment, path: &Path, depth: usize) {
        if self.files >= FILES || depth > DEPTH {
            return;
        }
        self.files += 1;
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.missing.push(format!("{}: {error}", HostPath::from(path)));
                return;
            }
        };
        let parsed = parse(&bytes);
        for (pattern, line) in parsed.logs {
            let stanza =
                Stanza { file: HostPath::from(path), line, pattern: HostText::new(pattern.as_slice()) };
            // As glob(3) matches: a star stops at a slash.
            let glob = std::str::from_utf8(&pattern)
                .ok()
                .and_then(|text| GlobBuilder::new(text).literal_separator(true).build().ok());
            if let Some(glob) = glob {
                self.all.push((glob.compile_matcher(), stanza));
            }
        }
        for include in parsed.includes {
            let include = environment.rooted(Path::new(std::ffi::OsStr::from_bytes(&include)));
            for path in included(include) {
                self.file(environment, &path, depth + 1);
            }
        }
    }

    /// The first stanza that names a log.
    pub(super) fn of(&self, log: &Path) -> Option<&Stanza> {
        self.all.iter().find(|(glob, _)| glob.is_match(log)).map(|(_, stanza)| stanza)
    }
}

/// Only a regular file: a pipe in its place would never end.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    plain_file::start(path, u64::try_from(LONGEST).unwrap_or(u64::MAX))
}

/// A file, or the files of a directory in the order of their names.
fn included(path: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(&path) else { return vec![path] };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().as_bytes();
            !name.starts_with(b".") && !TABOO.iter().any(|ending| name.ends_with(ending)) && path.is_file()
        })
        .take(FILES)
        .collect();
    files.sort();
    files
}

/// Outside of braces: lists of logs up to `{`, and directives, one a line. Inside: directives and scripts up to `}`.
fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let (mut inside, mut script) = (false, false);
    // A list of logs may go over several lines.
    let mut names: Vec<(Vec<u8>, u64)> = Vec::new();
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1_u64..) {
        let line = line.trim_ascii();
        if script {
            script = line != b"endscript";
            continue;
        }
        let first = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        match line.first() {
            None | Some(b'#') => {}
            Some(b'}') => inside = false,
            Some(_) if inside => {
                script = SCRIPTS.contains(&first);
                inside = script || !line.ends_with(b"}");
            }
            Some(b'/' | b'"' | b'\'' | b'{') => {
                let (words, rest) = words(line);
                names.extend(words.into_iter().map(|word| (word, number)));
                if let Some(rest) = rest {
                    parsed.logs.append(&mut names);
                    inside = !rest.contains(&b'}');
                }
            }
            Some(_) if first == b"include" => {
                let path = line.get(first.len()..).unwrap_or_default().trim_ascii();
                parsed.includes.push(path.to_vec());
            }
            Some(_) => {}
        }
    }
    parsed
}

/// The words of a line, quoted or not, up to `{`, and what comes after that.
fn words(line: &[u8]) -> (Vec<Vec<u8>>, Option<&[u8]>) {
    let (mut words, mut word) = (Vec::new(), Vec::new());
    let mut quote = None;
    let mut bytes = line.iter().copied().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(end), _) if byte == end => quote = None,
            (_, b'\\') => word.extend(bytes.next().map(|(_, next)| next)),
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => {
                words.push(word);
                words.retain(|word| !word.is_empty());
                return (words, line.get(at + 1..));
            }
            (None, b' ' | b'\t' | b',') => words.push(std::mem::take(&mut word)),
            _ => word.push(byte),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    (words, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logs(text: &str) -> Vec<(String, u64)> {
        let shown = |(name, line): &(Vec<u8>, u64)| (String::from_utf8(name.clone()).unwrap(), *line);
        parse(text.as_bytes()).logs.iter().map(shown).collect()
    }

    #[test]
    fn stanzas_of_real_distributions() {
        // rsyslog of Debian 12.
        let rsyslog = "/var/log/syslog\n/var/log/mail.log\n/var/log/kern.log\n{\n\trotate 4\n\tsharedscripts\n\
                       \tpostrotate\n\t\t/usr/lib/rsyslog/rsyslog-rotate }\n\tendscript\n}\n/var/log/x.log {\n}\n";
        assert_eq!(
            logs(rsyslog),
            [
                ("/var/log/syslog".to_owned(), 1),
                ("/var/log/mail.log".to_owned(), 2),
                ("/var/log/kern.log".to_owned(), 3),
                ("/var/log/x.log".to_owned(), 11),
            ]
        );
        let quoted = "# /var/log/no {\nweekly\n\"/var/log/with space.log\" '/var/log/it' /a\\ b { size 1k }\n/c {\n}\n";
        assert_eq!(
            logs(quoted),
            [
                ("/var/log/with space.log".to_owned(), 3),
                ("/var/log/it".to_owned(), 3),
                ("/a b".to_owned(), 3),
                ("/c".to_owned(), 4),
            ]
        );
        let parsed = parse(b"compress\ninclude /etc/logrotate.d\ninclude /opt/x y\n");
        assert_eq!(parsed.includes, [b"/etc/logrotate.d".to_vec(), b"/opt/x y".to_vec()]);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_log_is_found_in_what_is_included_and_a_star_stops_at_a_slash() {
        let root = tempfile::tempdir().unwrap();
        let surroundings = crate::probe::tests::Surroundings::fixture(root.path());
        let dir = root.path().join("etc/logrotate.d");
        std::fs::create_dir_all(&dir).unwrap();
        let config = root.path().join("etc/logrotate.conf");
        std::fs::write(&config, "weekly\ninclude /etc/logrotate.d\ninclude /etc/none\n").unwrap();
        std::fs::write(dir.join("app"), "/var/log/app/*.log {\n}\n").unwrap();
        std::fs::write(dir.join("gone.dpkg-old"), "/var/log/gone.log {\n}\n").unwrap();
        std::fs::write(dir.join("bad"), b"/var/log/\xff* [ {\n}\n").unwrap();
        let stanzas = Stanzas::read(&surroundings.environment, &config);
        let of = |log: &str| stanzas.of(Path::new(log)).map(|stanza| stanza.line);
        assert_eq!(of("/var/log/app/a.log"), Some(1));
        assert_eq!(of("/var/log/app/deep/a.log"), None);
        assert_eq!(of("/var/log/gone.log"), None);
        assert_eq!(stanzas.missing.len(), 1, "{:?}", stanzas.missing);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_file_that_includes_itself_comes_to_an_end() {
        let root = tempfile::tempdir().unwrap();
        let surroundings = crate::probe::tests::Surroundings::fixture(root.path());
        let config = root.path().join("loop");
        std::fs::write(&config, "include /loop\ninclude /loop\n/x {\n}\n").unwrap();
        let stanzas = Stanzas::read(&surroundings.environment, &config);
        assert!(stanzas.of(Path::new("/x")).is_some());
    }

    proptest! {
        #[test]
        fn any_file_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn quoted_names_come_back(names in proptest::collection::vec("[ -~]{1,20}", 1..5)) {
            let quote = |name: &String| {
                let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"/{escaped}\"")
            };
            let text = names.iter().map(quote).collect::<Vec<_>>().join(" ") + " {\n}\n";
            let got: Vec<String> = logs(&text).into_iter().map(|(name, _)| name).collect();
            let wanted: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
