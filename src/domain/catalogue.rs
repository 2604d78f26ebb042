//! The catalogue of what is known to take space: what identifies it, whose it is, and how its owner cleans it.
//!
//! The data is in `assets/catalog/*.toml`; its README describes every field. Commands are argv elements with a few
//! placeholders, never text for a shell.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::Risk;
use super::text::shell_quote;

/// Every entry, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

/// One kind of thing that takes space.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, as in finding ids.
    pub id: String,
    /// What it is, in a few words that follow a number: "package caches of npm".
    pub title: String,
    /// The program it belongs to.
    pub owner: String,
    /// Absolute places. One `*` per component stands for any text.
    #[serde(default)]
    pub paths: Vec<Pattern>,
    /// Places below each home directory, as `paths`.
    #[serde(default)]
    pub home: Vec<Pattern>,
    /// Directories of this name anywhere in a scanned tree; several components mean the last in the others.
    #[serde(default)]
    pub named: Vec<Pattern>,
    /// What must be seen on disk: of each group one mark at least. With no group the place alone is enough.
    #[serde(default)]
    pub proof: Vec<Vec<Mark>>,
    /// The owner's own command that says how large it is; none where it has none.
    pub size: Option<Command>,
    /// The owner's own commands that clean it, one after another; empty where it has none.
    #[serde(default)]
    pub clean: Vec<Command>,
    /// Who must run them.
    #[serde(default)]
    pub run_as: RunAs,
    /// What may be removed where the owner's command cannot be run.
    pub remove: Remove,
    /// How much of the size cleaning gives back.
    #[serde(default)]
    pub frees: Frees,
    /// What can be lost.
    pub risk: Risk,
    /// What it costs to have it again, as a sentence.
    pub cost: String,
    /// The same as one word, by which `reclaim` takes the cheapest first.
    pub again: Again,
    /// When it must be left alone for now.
    #[serde(default)]
    pub refuse: Refuse,
    /// What else a person should know, as a sentence.
    pub note: Option<String>,
    /// The rule that finds it, where one knows more about it than a size.
    pub rule: Option<String>,
    /// The tool and version whose help or manual the commands were compared with, or where else they are from.
    pub checked: String,
}

/// What it costs to have something again. Ordered: later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// Nothing: nobody needs it any more.
    Nothing,
    /// This machine makes it again while it is used.
    Moments,
    /// It is downloaded again.
    Download,
    /// It is compiled, built or installed again.
    Build,
    /// It does not come back.
    Never,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "costs nothing",
            Self::Moments => "made again by itself",
            Self::Download => "downloaded again",
            Self::Build => "built again",
            Self::Never => "does not come back",
        })
    }
}

/// Who must run an owner's command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAs {
    /// The user to whom the place belongs, with that user's `HOME`.
    #[default]
    Owner,
    /// Root.
    Root,
}

/// What may be removed where the owner's command cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remove {
    /// The directory with everything in it.
    Tree,
    /// Everything in it; the directory stays, with its owner and mode.
    Contents,
    /// Nothing: a store with a database of its own, or somebody's data.
    Never,
}

/// How much of the size cleaning gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frees {
    /// All of it.
    #[default]
    All,
    /// Some of it: the owner keeps what is in use, or files are shared with other places by hard links.
    Some,
}

/// When it must be left alone for now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refuse {
    /// While one of these programs runs, by exact name.
    pub processes: Vec<String>,
    /// While somebody holds a lock on one of these files: absolute, or with `{path}` or `{home}` in front.
    pub locks: Vec<String>,
    /// While one of these services has processes (unit names).
    pub services: Vec<String>,
}

/// A path or name with at most one `*` in each component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// The components, without the root.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The text, with its stars.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a path ends as this says.
    pub fn ends(&self, path: &Path) -> bool {
        let mut have = path.components().rev();
        self.0.split('/').filter(|component| !component.is_empty()).rev().all(
            |want| matches!(have.next(), Some(Component::Normal(name)) if matches(want, name.as_bytes())),
        )
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let inner = text.strip_prefix('/').unwrap_or(&text);
        let sound = |component: &str| {
            !component.is_empty()
                && component != "."
                && component != ".."
                && component != "*"
                && component.matches('*').count() <= 1
        };
        if !inner.is_empty() && inner.split('/').all(sound) {
            Ok(Self(text))
        } else {
            Err(format!(
                "{text:?} is no path of plain names with at most one * in each, and no name that is only *"
            ))
        }
    }
}

/// Whether a name is as one component of a pattern says.
pub fn matches(pattern: &str, name: &[u8]) -> bool {
    match pattern.split_once('*') {
        None => pattern.as_bytes() == name,
        Some((start, end)) => {
            name.len() >= start.len().saturating_add(end.len())
                && name.starts_with(start.as_bytes())
                && name.ends_with(end.as_bytes())
        }
    }
}

/// Something to be seen on disk that tells the real thing from a directory that is only named so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Mark {
    /// `tag`: a `CACHEDIR.TAG` in it with the signature of <https://bford.info/cachedir/>.
    Tag,
    /// `inside/NAME`: an entry of this name in it; one `*` stands for any text.
    Inside(String),
    /// `beside/NAME`: an entry of this name beside it.
    Beside(String),
    /// `above/NAME`: an entry of this name beside it, or in one of the four directories above that.
    Above(String),
}

impl TryFrom<String> for Mark {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = |name: &str| {
            let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            if plain && name.matches('*').count() <= 1 {
                Ok(name.to_owned())
            } else {
                Err(format!("{text:?}: {name:?} is no name of an entry"))
            }
        };
        match text.split_once('/') {
            None if text == "tag" => Ok(Self::Tag),
            Some(("inside", rest)) => name(rest).map(Self::Inside),
            Some(("beside", rest)) => name(rest).map(Self::Beside),
            Some(("above", rest)) => name(rest).map(Self::Above),
            _ => Err(format!("{text:?} is neither tag nor inside/NAME, beside/NAME or above/NAME")),
        }
    }
}

/// A program and its arguments. Placeholders, each at most once in an element: `{path}` the place, `{parent}` the
/// directory it is in, `{home}` the home directory it is below.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Command(Vec<String>);

/// The placeholders of a [`Command`].
const PLACEHOLDERS: [&str; 3] = ["{path}", "{parent}", "{home}"];

/// Programs that would take a command as text and run it.
const SHELLS: [&str; 9] = ["sh", "bash", "dash", "zsh", "fish", "env", "sudo", "su", "xargs"];

impl TryFrom<Vec<String>> for Command {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        let shown = words.join(" ");
        let Some(program) = words.first() else { return Err("a command without a program".to_owned()) };
        if !program.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b)) || program.is_empty() {
            return Err(format!("{shown}: {program:?} is no program's name"));
        }
        if SHELLS.contains(&program.as_str()) {
            return Err(format!("{shown}: {program} would run another command"));
        }
        for word in &words {
            let bare = PLACEHOLDERS.iter().fold(word.clone(), |word, holder| word.replacen(holder, "", 1));
            if bare.contains(['{', '}']) {
                return Err(format!("{shown}: {word:?} has a placeholder that is not known"));
            }
        }
        Ok(Self(words))
    }
}

/// A place, for the placeholders of commands and locks.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    /// The place.
    pub path: &'a Path,
    /// The home directory it is below; none where it is not below one.
    pub home: Option<&'a Path>,
}

impl Command {
    /// The program.
    pub fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The elements for one place; none where a placeholder has nothing to stand for.
    pub fn argv(&self, spot: &Spot<'_>) -> Option<Vec<OsString>> {
        self.0.iter().map(|word| fill(word, spot)).collect()
    }

    /// Whether it is the same whatever the place.
    pub fn is_general(&self) -> bool {
        !self.0.iter().any(|word| PLACEHOLDERS.iter().any(|holder| word.contains(holder)))
    }
}

impl fmt::Display for Command {
    /// As a person would type it, placeholders as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|word| {
                let holder = PLACEHOLDERS.iter().any(|holder| word.contains(holder));
                if holder { word.clone() } else { shell_quote(word.as_bytes()) }
            })
            .collect();
        f.pad(&words.join(" "))
    }
}

/// Puts a place into a word; none where a placeholder has nothing to stand for.
pub fn fill(word: &str, spot: &Spot<'_>) -> Option<OsString> {
    let Some((at, holder)) =
        PLACEHOLDERS.iter().filter_map(|holder| Some((word.find(holder)?, *holder))).min()
    else {
        return Some(OsString::from(word));
    };
    let value: &OsStr = match holder {
        "{path}" => spot.path.as_os_str(),
        "{parent}" => spot.path.parent()?.as_os_str(),
        _ => spot.home?.as_os_str(),
    };
    let (before, after) = word.split_at_checked(at)?;
    let mut bytes = before.as_bytes().to_vec();
    bytes.extend_from_slice(value.as_bytes());
    // A path that itself holds braces is not looked at again.
    bytes.extend_from_slice(fill(after.strip_prefix(holder)?, spot)?.as_bytes());
    Some(OsString::from_vec(bytes))
}

impl Entry {
    /// Whether it is only reported: nothing here cleans it.
    pub fn is_report_only(&self) -> bool {
        self.clean.is_empty() && self.remove == Remove::Never
    }

    /// Checks what types cannot.
    fn check(&self) -> Result<(), String> {
        let fail = |what: &str| Err(format!("{}: {what}", self.id));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.id.is_empty() || !self.id.bytes().all(plain) {
            return fail("an id has small letters, digits and hyphens only");
        }
        if self.paths.is_empty() && self.home.is_empty() && self.named.is_empty() {
            return fail("it says nowhere where it is (paths, home or named)");
        }
        if self.paths.iter().any(|path| !path.0.starts_with('/')) {
            return fail("paths must be absolute");
        }
        if self.home.iter().chain(&self.named).any(|path| path.0.starts_with('/')) {
            return fail("home and named must be relative");
        }
        if self.named.iter().any(|path| path.name().contains('*')) {
            return fail("the last component of named must be a plain name");
        }
        if self.named.iter().any(|path| !path.name().starts_with('.')) && self.proof.is_empty() {
            return fail("a plain name anywhere proves nothing: give proof");
        }
        if self.proof.iter().any(Vec::is_empty) {
            return fail("a group of proof is empty: nothing could ever satisfy it");
        }
        if self.remove == Remove::Tree && self.paths.iter().any(|path| path.components().count() < 3) {
            return fail("a directory so near the root may not be removed as a whole");
        }
        let home_used = self.clean.iter().chain(&self.size).any(|c| c.0.iter().any(|w| w.contains("{home}")));
        if home_used && self.home.is_empty() {
            return fail("{home} in a command, but no place below homes");
        }
        let lock = |lock: &String| {
            lock.starts_with('/') || lock.starts_with("{path}/") || lock.starts_with("{home}/")
        };
        if !self.refuse.locks.iter().all(lock) {
            return fail("a lock is absolute, or begins with {path}/ or {home}/");
        }
        if self.refuse.services.iter().any(|unit| !unit.contains('.') || unit.contains('/')) {
            return fail("a service is a unit name (docker.service)");
        }
        if [&self.title, &self.owner, &self.cost, &self.checked].iter().any(|text| text.trim().is_empty()) {
            return fail("title, owner, cost and checked say something");
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    entry: Vec<Entry>,
}

impl Catalogue {
    /// Reads the files of a catalogue, each with its name for messages.
    ///
    /// # Errors
    /// The first thing wrong with any of them.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, String> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut ids = BTreeSet::new();
        for (name, text) in files {
            let file: File = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
            for entry in file.entry {
                entry.check().map_err(|why| format!("{name}: {why}"))?;
                if !ids.insert(entry.id.clone()) {
                    return Err(format!("{name}: {} is there twice", entry.id));
                }
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { entries })
    }

    /// Every entry, by id.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An entry.
    pub fn get(&self, id: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.id.as_str().cmp(id)).ok()?;
        self.entries.get(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = r#"
[[entry]]
id = "x"
title = "x"
owner = "x"
home = [".cache/x"]
clean = [["x", "clean", "--dir={path}"]]
remove = "tree"
risk = "routine"
cost = "Nothing."
again = "nothing"
checked = "made up"
"#;

    fn parse(text: &str) -> Result<Catalogue, String> {
        Catalogue::parse(&[("test", text)])
    }

    #[test]
    fn a_sound_entry_is_read_and_fills_in_its_place() {
        let catalogue = parse(ONE).unwrap();
        let entry = catalogue.get("x").unwrap();
        let spot = Spot { path: Path::new("/home/{home}/.cache/x"), home: Some(Path::new("/home/al")) };
        let argv = entry.clean[0].argv(&spot).unwrap();
        assert_eq!(argv, ["x", "clean", "--dir=/home/{home}/.cache/x"], "a path is not looked at again");
        assert!(catalogue.get("y").is_none());
        assert!(!entry.clean[0].is_general());
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for (from, to, said) in [
            (".cache/x", "/cache/x", "relative"),
            (".cache/x", "../x", "no path of plain names"),
            (".cache/x", ".cache/*", "only *"),
            ("\"x\", \"clean\"", "\"sh\", \"-c\"", "another command"),
            ("\"x\", \"clean\"", "\"/bin/x\", \"clean\"", "no program"),
            ("{path}", "{place}", "placeholder"),
            ("risk = \"routine\"", "risk = \"harmless\"", "harmless"),
            ("remove = \"tree\"", "delete = \"tree\"", "delete"),
            ("home = [\".cache/x\"]", "named = [\"x\"]", "proves nothing"),
            ("home = [\".cache/x\"]", "paths = [\"/x\"]", "near the root"),
            ("checked =", "proof = [[]]\nchecked =", "empty"),
            ("checked =", "proof = [[\"within/x\"]]\nchecked =", "neither"),
            ("checked =", "refuse = { locks = [\"x\"] }\nchecked =", "lock"),
            ("checked =", "refuse = { services = [\"docker\"] }\nchecked =", "unit"),
            ("id = \"x\"", "id = \"X y\"", "hyphens"),
        ] {
            let error = parse(&ONE.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(said), "{to}: {error}");
        }
        assert!(parse(&format!("{ONE}{ONE}")).unwrap_err().contains("twice"));
    }

    #[test]
    fn patterns_compare_whole_components() {
        let pattern = |text: &str| Pattern::try_from(text.to_owned()).unwrap();
        assert!(pattern(".git/lfs").ends(Path::new("/srv/x/.git/lfs")));
        assert!(!pattern(".git/lfs").ends(Path::new("/srv/x.git/lfs")));
        assert!(!pattern(".git/lfs").ends(Path::new("/lfs")));
        assert!(pattern("*.git/lfs").ends(Path::new("/srv/x.git/lfs")));
        assert!(matches("a*b", b"ab") && matches("a*b", b"a\xff\nb") && !matches("ab*b", b"ab"));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let _ = parse(&text);
            let _ = parse(&ONE.replacen(".cache/x", &text.replace(['"', '\\'], ""), 1));
            let _ = Pattern::try_from(text.clone());
            let _ = Mark::try_from(text.clone());
            let _ = Command::try_from(vec![text]);
        }

        #[test]
        fn any_path_goes_into_a_command_whole(bytes in proptest::collection::vec(1u8..=255, 1..60)) {
            let path = std::path::PathBuf::from(OsString::from_vec(bytes.clone()));
            let spot = Spot { path: &path, home: None };
            let filled = fill("--a={path}!", &spot).unwrap();
            let expected = [b"--a=", &bytes[..], b"!"].concat();
            prop_assert_eq!(filled.as_bytes(), &expected[..]);
            prop_assert_eq!(fill("{home}", &spot), None);
        }

        #[test]
        fn a_star_is_any_text(start in "[a-z]{0,3}", middle in proptest::collection::vec(any::<u8>(), 0..9), end in "[a-z]{0,3}") {
            let name = [start.as_bytes(), &middle, end.as_bytes()].concat();
            let pattern = format!("{start}*{end}");
            prop_assert!(matches(&pattern, &name));
        }
    }
}
