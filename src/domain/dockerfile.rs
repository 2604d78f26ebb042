//! Steps of a Dockerfile that download packages anew each time they run, since they have no cache mount
//! (docs.docker.com/build/cache/optimize/#use-cache-mounts).
//!
//! Only as much of the format is read as that takes: the `escape` directive, continued lines, comments among them,
//! heredocs, and the flags of RUN.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::redact;
use super::text::HostText;

/// Steps told of one file.
const STEPS: usize = 50;

/// A RUN step that fetches packages without a cache mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UncachedStep {
    /// The line on which the step begins, from 1.
    pub line: u64,
    /// The package manager.
    pub manager: String,
    /// The flag that would keep its downloads.
    pub mount: String,
    /// The step as written, its beginning, secrets redacted.
    pub step: HostText,
}

/// A package manager: its names, the words that make it fetch, and the directory of its downloads as root.
struct Manager {
    name: &'static str,
    programs: &'static [&'static str],
    fetches: &'static [&'static str],
    cache: &'static [&'static str],
}

/// From the tools' own documentation of where they cache.
const MANAGERS: &[Manager] = &[
    Manager {
        name: "apt",
        programs: &["apt", "apt-get", "aptitude"],
        fetches: &["install", "upgrade", "dist-upgrade", "full-upgrade", "build-dep"],
        cache: &["/var/cache/apt,sharing=locked", "/var/lib/apt,sharing=locked"],
    },
    Manager {
        name: "pip",
        programs: &["pip", "pip3"],
        fetches: &["install", "download", "wheel"],
        cache: &["/root/.cache/pip"],
    },
    Manager {
        name: "uv",
        programs: &["uv"],
        fetches: &["sync", "install", "add", "lock"],
        cache: &["/root/.cache/uv"],
    },
    Manager {
        name: "npm",
        programs: &["npm"],
        fetches: &["install", "ci", "i", "add"],
        cache: &["/root/.npm"],
    },
    Manager {
        name: "cargo",
        programs: &["cargo"],
        fetches: &["build", "install", "fetch", "test", "chef", "b"],
        cache: &["/usr/local/cargo/registry"],
    },
    Manager {
        name: "go",
        programs: &["go"],
        fetches: &["build", "install", "get", "test", "mod"],
        cache: &["/go/pkg/mod", "/root/.cache/go-build"],
    },
];

/// The steps without a cache mount, in order.
pub fn uncached_steps(file: &[u8]) -> Vec<UncachedStep> {
    let mut steps = Vec::new();
    for instruction in instructions(file) {
        let Some(run) = after_word(&instruction.text, b"run") else { continue };
        if caches(run) {
            continue;
        }
        let mut words = Words::default();
        words.take(run);
        instruction.heredoc.iter().for_each(|line| {
            words.end_command();
            words.take(line);
        });
        for manager in MANAGERS {
            if words.runs(manager) && steps.len() < STEPS {
                let mounts: Vec<String> = manager
                    .cache
                    .iter()
                    .map(|target| format!("--mount=type=cache,target={target}"))
                    .collect();
                let told = redact::text(run.trim_ascii());
                let shown = told.as_bytes();
                steps.push(UncachedStep {
                    line: instruction.line,
                    manager: manager.name.to_owned(),
                    mount: mounts.join(" "),
                    step: HostText::new(shown.get(..80).unwrap_or(shown)),
                });
            }
        }
    }
    steps
}

/// An instruction with its continued lines put together.
struct Instruction {
    line: u64,
    text: Vec<u8>,
    /// The lines of its heredocs.
    heredoc: Vec<Vec<u8>>,
}

fn instructions(file: &[u8]) -> Vec<Instruction> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let escape = escape_sign(file);
    let mut found = Vec::new();
    let mut lines = (1_u64..).zip(file.split(|&byte| byte == b'\n'));
    while let Some((number, line)) = lines.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_skipped(line) {
            continue;
        }
        let mut text = Vec::new();
        let mut next = Some(line);
        while let Some(line) = next.take() {
            let end = line.trim_ascii_end();
            let Some(kept) = end.strip_suffix(&[escape]) else {
                text.extend_from_slice(line);
                break;
            };
            text.extend_from_slice(kept);
            // Empty lines and comments do not end what is continued.
            next = lines
                .by_ref()
                .map(|(_, line)| line.strip_suffix(b"\r").unwrap_or(line))
                .find(|line| !is_skipped(line));
        }
        let mut heredoc = Vec::new();
        for (tabs, word) in heredocs(&text) {
            for (_, line) in lines.by_ref() {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let bare = if tabs { line.trim_ascii_start() } else { line };
                if bare == word {
                    break;
                }
                heredoc.push(line.to_vec());
            }
        }
        found.push(Instruction { line: number, text, heredoc });
    }
    found
}

fn is_skipped(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || line.starts_with(b"#")
}

/// The sign that continues a line: `# escape=` among the directives at the top may change it to a backtick.
fn escape_sign(file: &[u8]) -> u8 {
    for line in file.split(|&byte| byte == b'\n') {
        let Some(comment) = line.trim_ascii().strip_prefix(b"#") else { break };
        let Some(at) = comment.iter().position(|&byte| byte == b'=') else { break };
        let (name, value) = comment.split_at(at);
        if name.trim_ascii().eq_ignore_ascii_case(b"escape") {
            return if value.get(1..).unwrap_or_default().trim_ascii() == b"`" { b'`' } else { b'\\' };
        }
    }
    b'\\'
}

/// The words that end the heredocs of an instruction, and whether tabs before them do not count (`<<-`). Only RUN, COPY
/// and ADD have them.
fn heredocs(text: &[u8]) -> Vec<(bool, Vec<u8>)> {
    if ![&b"run"[..], b"copy", b"add"].into_iter().any(|word| after_word(text, word).is_some()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for word in text.split(u8::is_ascii_whitespace) {
        // A descriptor may stand before it (`3<<EOF`).
        let word =
            word.get(word.iter().take_while(|byte| byte.is_ascii_digit()).count()..).unwrap_or_default();
        let Some(rest) = word.strip_prefix(b"<<") else { continue };
        let (tabs, rest) = rest.strip_prefix(b"-").map_or((false, rest), |rest| (true, rest));
        let name: Vec<u8> = rest.iter().copied().filter(|byte| !b"'\"".contains(byte)).collect();
        let end = name.iter().position(|byte| b";|&<>()".contains(byte)).unwrap_or(name.len());
        let name = name.get(..end).unwrap_or_default();
        // `<<<` is another thing of the shell.
        if !name.is_empty() && !rest.starts_with(b"<") {
            found.push((tabs, name.to_vec()));
        }
    }
    found
}

/// What follows an instruction's word, where it is that one.
fn after_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let text = text.trim_ascii_start();
    let (first, rest) = text.split_at_checked(word.len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (first.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

/// Whether one of the flags of RUN is a cache mount.
fn caches(run: &[u8]) -> bool {
    run.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .take_while(|word| word.starts_with(b"--"))
        .filter_map(|flag| flag.strip_prefix(b"--mount="))
        .any(|mount| mount.split(|&byte| byte == b',').any(|part| part.trim_ascii() == b"type=cache"))
}

/// Commands of a piece of shell, roughly: words, ended by the signs that separate commands.
#[derive(Default)]
struct Words {
    commands: Vec<Vec<Vec<u8>>>,
    current: Vec<Vec<u8>>,
}

impl Words {
    fn take(&mut self, text: &[u8]) {
        let mut word = Vec::new();
        for &byte in text {
            match byte {
                b';' | b'&' | b'|' | b'(' | b')' | b'`' => {
                    self.end_word(&mut word);
                    self.end_command();
                }
                // The exec form is a JSON array; quotes of a shell do not matter here either.
                b'"' | b'\'' => {}
                b'[' | b']' | b',' => self.end_word(&mut word),
                _ if byte.is_ascii_whitespace() => self.end_word(&mut word),
                _ => word.push(byte),
            }
        }
        self.end_word(&mut word);
    }

    fn end_word(&mut self, word: &mut Vec<u8>) {
        if !word.is_empty() {
            self.current.push(std::mem::take(word));
        }
    }

    fn end_command(&mut self) {
        if !self.current.is_empty() {
            self.commands.push(std::mem::take(&mut self.current));
        }
    }

    /// Whether one of the commands makes this manager fetch something.
    fn runs(&self, manager: &Manager) -> bool {
        self.commands.iter().chain([&self.current]).any(|command| {
            let program = command.iter().position(|word| {
                let name = word.rsplit(|&byte| byte == b'/').next().unwrap_or(word);
                manager.programs.iter().any(|program| program.as_bytes() == name)
            });
            let Some(program) = program else { return false };
            // `uv pip install` is uv's, `cargo install uv` cargo's: what stands before must not be another manager.
            let foreign = command.iter().take(program).any(|word| {
                MANAGERS
                    .iter()
                    .any(|other| other.programs.iter().any(|name| name.as_bytes() == word.as_slice()))
                    || [&b"echo"[..], b"rm", b"which", b"command"].contains(&word.as_slice())
            });
            let after = command.get(program.saturating_add(1)..).unwrap_or_default();
            // The first word that is no flag says what to do; a flag may have a value before it.
            let mut words = after.iter().filter(|word| !word.starts_with(b"-")).take(2);
            !foreign
                && words.any(|word| manager.fetches.iter().any(|fetch| fetch.as_bytes() == word.as_slice()))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(file: &str) -> Vec<(u64, String)> {
        uncached_steps(file.as_bytes()).into_iter().map(|step| (step.line, step.manager)).collect()
    }

    fn is(line: u64, manager: &str) -> (u64, String) {
        (line, manager.to_owned())
    }

    #[test]
    fn the_fixture_of_a_real_project_is_read() {
        let file = include_str!("../../tests/fixtures/dockerfiles/web.Dockerfile");
        assert_eq!(steps(file), [is(7, "apt"), is(19, "npm"), is(25, "go"), is(34, "pip"), is(46, "cargo")]);
        let cached = include_str!("../../tests/fixtures/dockerfiles/cached.Dockerfile");
        assert_eq!(steps(cached), []);
        let windows = include_str!("../../tests/fixtures/dockerfiles/escape.Dockerfile");
        assert_eq!(steps(windows), [is(5, "pip")]);
    }

    #[test]
    fn only_commands_that_fetch_count() {
        for quiet in [
            "RUN echo apt-get install",
            "RUN rm -rf /var/lib/apt/lists/*",
            "RUN pip --version",
            "RUN go version && npm run build",
            "COPY apt install /x",
            "# RUN apt-get install x",
            "RUN pipenv install",
            "RUN apt-get update",
            "RUN apt-get clean",
        ] {
            assert_eq!(steps(quiet), [], "{quiet}");
        }
        for (file, manager) in [
            ("run apt-get install -y x", "apt"),
            ("RUN [\"apt-get\", \"install\", \"x\"]", "apt"),
            ("RUN set -e; (cd x && /usr/bin/pip3 --no-input install y)", "pip"),
            ("RUN python3 -m pip install x", "pip"),
            ("RUN DEBIAN_FRONTEND=noninteractive apt -y install x", "apt"),
            ("RUN uv pip install x", "uv"),
            ("RUN --mount=type=secret,id=x npm ci", "npm"),
            ("RUN CGO_ENABLED=0 go build ./...", "go"),
        ] {
            assert_eq!(steps(file), [is(1, manager)], "{file}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            uncached_steps(&file);
        }

        #[test]
        fn any_shape_is_taken(file in "(RUN|COPY|#|escape=`|<<EOF|EOF|\\\\|`|\n| |apt|install|--mount=type=cache){0,30}") {
            let steps = uncached_steps(file.as_bytes());
            let lines = file.split('\n').count() as u64;
            prop_assert!(steps.iter().all(|step| step.line >= 1 && step.line <= lines));
        }
    }
}
