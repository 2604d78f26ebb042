//! Settings in layers: defaults, then each file, then `--set`.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::environment::Environment;
use super::settings::Settings;
use crate::domain::sweep::KeepPlace;
use crate::domain::text::HostPath;
use crate::sys::plain_file;

/// A configuration file is never larger than this.
pub const MAX_FILE: u64 = 1 << 20;

/// Why the settings cannot be used. Nothing is guessed: a wrong setting ends the program.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration {path}: {why}")]
    Read {
        /// The file.
        path: HostPath,
        /// The system's reason.
        why: std::io::Error,
    },
    /// Somebody else could have written a file.
    #[error(
        "the configuration {path} is not used: {what} {why}; make it belong to root or to you, and run chmod go-w on it"
    )]
    Unsafe {
        /// The file.
        path: HostPath,
        /// The file or directory at fault.
        what: HostPath,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not valid.
    #[error("{origin}: {message}")]
    Invalid {
        /// The file or option.
        origin: String,
        /// What is wrong, with line and column where there are some.
        message: String,
    },
}

/// Where settings come from, in the order in which they win, the last first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Files that are read where they exist.
    pub optional: Vec<PathBuf>,
    /// A file that must exist (`--config`).
    pub required: Option<PathBuf>,
    /// `KEY=VALUE` (`--set`).
    pub overrides: Vec<String>,
    /// Users who may own configuration files, beside root.
    pub owners: Vec<u32>,
}

/// Reads all layers. Also returns the files that were read.
///
/// # Errors
/// The first thing wrong with any of them.
pub fn load(layers: &Layers) -> Result<(Settings, Vec<PathBuf>), ConfigError> {
    let mut merged = Table::new();
    let mut files = Vec::new();
    for path in &layers.optional {
        match std::fs::symlink_metadata(path) {
            Ok(_) => files.push(path.clone()),
            // Not there, or not ours to see: both mean that nothing was configured here.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) => {}
            Err(why) => return Err(ConfigError::Read { path: path.as_path().into(), why }),
        }
    }
    files.extend(layers.required.clone());
    for path in &files {
        let text = read(path, &layers.owners)?;
        let origin = HostPath::from(path.as_path()).to_string();
        merge(&mut merged, parse(&text, &origin)?);
    }
    for pair in &layers.overrides {
        merge(&mut merged, parse_override(pair)?);
    }
    let settings = Settings::from_table(&merged, "settings")?;
    settings.validate().map_err(|message| ConfigError::Invalid { origin: "settings".to_owned(), message })?;
    Ok((settings, files))
}

fn read(path: &Path, owners: &[u32]) -> Result<String, ConfigError> {
    let fail = |why| ConfigError::Read { path: path.into(), why };
    let real = std::fs::canonicalize(path).map_err(fail)?;
    if let Some((what, why)) = first_unsafe(&real, owners).map_err(fail)? {
        return Err(ConfigError::Unsafe { path: path.into(), what: what.into(), why });
    }
    let mut text = String::new();
    let file = plain_file::open(&real).map_err(fail)?;
    // The check was made on the path; make it again on what was opened.
    let meta = file.metadata().map_err(fail)?;
    if let Err(why) = trusted(&meta, owners) {
        return Err(ConfigError::Unsafe { path: path.into(), what: real.as_path().into(), why });
    }
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_FILE {
        return Err(fail(std::io::Error::other("it is too large for a configuration file")));
    }
    Ok(text)
}

/// The first of a path and all above it that somebody else could have put there or could change, and what is wrong with it.
fn first_unsafe<'p>(real: &'p Path, owners: &[u32]) -> std::io::Result<Option<(&'p Path, String)>> {
    for part in real.ancestors() {
        if let Err(why) = trusted(&std::fs::metadata(part)?, owners) {
            return Ok(Some((part, why)));
        }
    }
    Ok(None)
}

/// Whether a directory, as far as it is there, and all above it are such that only root and this person change what is in it.
///
/// # Errors
/// What is wrong with which, as a sentence.
pub fn safe_dir(environment: &Environment, dir: &Path) -> Result<(), String> {
    let there = dir.ancestors().find(|dir| std::fs::symlink_metadata(dir).is_ok()).unwrap_or(dir);
    match first_unsafe(there, &owners(environment)) {
        Ok(None) => Ok(()),
        Ok(Some((what, why))) => Err(format!("{} {why}, so nothing is written there", HostPath::from(what))),
        Err(error) => Err(format!("{} cannot be looked at: {error}", HostPath::from(there))),
    }
}

/// The same for one file or directory that is open.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn safe_part(environment: &Environment, meta: &Metadata) -> Result<(), String> {
    trusted(meta, &owners(environment)).map_err(|why| format!("it {why}, so nothing is written there"))
}

fn owners(environment: &Environment) -> Vec<u32> {
    environment
        .config
        .as_ref()
        .map_or_else(|| vec![environment.uid, environment.person], |layers| layers.owners.clone())
}

/// The names that no sweep takes, as the files have them now: one that was added since the start holds at once.
///
/// # Errors
/// Why the files cannot be read, as a sentence. Then nothing may be swept.
pub fn keep_list(environment: &Environment, settings: &Settings) -> Result<Vec<String>, String> {
    let Some(layers) = &environment.config else { return Ok(settings.sweep.keep.clone()) };
    let loaded = load(layers)
        .map_err(|error| format!("the names that are kept (sweep.keep) are not known: {error}"))?;
    Ok(loaded.0.sweep.keep)
}

/// Where a name is written that is to be kept for good: the file that is read last, because its list replaces the others.
///
/// # Errors
/// Why it can be written nowhere, as a sentence.
pub fn keep_place(environment: &Environment) -> Result<KeepPlace, String> {
    let Some(layers) = &environment.config else {
        return Err("no configuration file is read here, so a name can be written to none".to_owned());
    };
    if layers.overrides.iter().any(|pair| parse_override(pair).is_ok_and(|table| names_kept(&table))) {
        return Err(
            "--set sweep.keep=... wins over every file; a name is kept for good only without it".to_owned()
        );
    }
    let (settings, files) = load(layers).map_err(|error| error.to_string())?;
    let own = layers.optional.last();
    let last = files.last();
    // What belongs to all is for root to write to.
    let file = match last {
        Some(file) if layers.required.is_some() || Some(file) == own || environment.is_root() => file,
        Some(_) | None => {
            own.ok_or_else(|| "no configuration file is known, so a name can be written to none".to_owned())?
        }
    };
    let absolute = std::path::absolute(file).map_err(|error| error.to_string())?;
    Ok(KeepPlace { file: HostPath::new(absolute), new: Some(file) != last, list: settings.sweep.keep })
}

fn names_kept(table: &Table) -> bool {
    table.get("sweep").and_then(Value::as_table).is_some_and(|sweep| sweep.contains_key("keep"))
}

/// Whether a text is a configuration that can be used.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn check(text: &str) -> Result<(), String> {
    toml::from_str::<Settings>(text).map_err(|error| error.message().to_owned())?.validate()
}

/// Whether nobody but root and the given users could have put it there (SAFETY.md T24).
fn trusted(meta: &Metadata, owners: &[u32]) -> Result<(), String> {
    if meta.uid() != 0 && !owners.contains(&meta.uid()) {
        return Err(format!("belongs to uid {}", meta.uid()));
    }
    // In a sticky directory (/tmp) others can add files but not replace ours.
    let sticky_dir = meta.is_dir() && meta.mode() & 0o1000 != 0;
    if meta.mode() & 0o022 != 0 && !sticky_dir {
        return Err(format!("can be written by others (mode {:04o})", meta.mode() & 0o7777));
    }
    Ok(())
}

fn parse(text: &str, origin: &str) -> Result<Table, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid { origin: origin.to_owned(), message };
    // Read as settings first: that error knows line and column.
    if let Err(error) = toml::from_str::<Settings>(text) {
        let hint = text.parse::<Table>().ok().and_then(|table| nearest_key(&table));
        let hint = hint.map(|hint| format!("\n{hint}")).unwrap_or_default();
        return Err(invalid(format!("{}{hint}", error.to_string().trim_end())));
    }
    text.parse::<Table>().map_err(|error| invalid(error.to_string()))
}

fn parse_override(pair: &str) -> Result<Table, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid { origin: format!("--set {pair}"), message };
    let (key, value) = pair
        .split_once('=')
        .ok_or_else(|| invalid("give it as KEY=VALUE, for example filesystem.warn_percent=70".to_owned()))?;
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        // What is not a TOML value is meant as a text: journal.dir=/srv/log.
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let nest = |inner: Value, part: &str| Value::Table(Table::from_iter([(part.to_owned(), inner)]));
    match key.trim().rsplit('.').fold(value, nest) {
        Value::Table(table) => {
            Settings::from_table(&table, &format!("--set {pair}"))?;
            Ok(table)
        }
        _ => Err(invalid("the key is empty".to_owned())),
    }
}

impl Settings {
    fn from_table(table: &Table, origin: &str) -> Result<Self, ConfigError> {
        table.clone().try_into().map_err(|error: toml::de::Error| {
            let hint = nearest_key(table).map(|hint| format!("; {hint}")).unwrap_or_default();
            ConfigError::Invalid { origin: origin.to_owned(), message: format!("{}{hint}", error.message()) }
        })
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first setting that makes no sense, and what would.
    pub fn validate(&self) -> Result<(), String> {
        let fs = &self.filesystem;
        for (name, warn, critical) in [
            ("filesystem.warn_percent", fs.warn_percent, fs.critical_percent),
            ("filesystem.inode_warn_percent", fs.inode_warn_percent, fs.inode_critical_percent),
        ] {
            if critical > 100 || warn > critical {
                return Err(format!(
                    "{name} is {warn} and its critical limit {critical}: give 0 to 100, the warning not above the critical one"
                ));
            }
        }
        if self.ledger.warn_percent > 100 {
            return Err(format!("ledger.warn_percent is {}: give 0 to 100", self.ledger.warn_percent));
        }
        if !(50..=60_000).contains(&self.probe.deadline_ms) {
            return Err(format!("probe.deadline_ms is {}: give 50 to 60000", self.probe.deadline_ms));
        }
        let growth = &self.growth;
        if growth.interval_ms > 60_000 {
            return Err(format!("growth.interval_ms is {}: give 0 to 60000", growth.interval_ms));
        }
        if growth.critical_hours > growth.warn_hours {
            return Err(format!(
                "growth.critical_hours is {} and growth.warn_hours {}: give no more than that",
                growth.critical_hours, growth.warn_hours
            ));
        }
        if self.crowded.slow_factor < 2 {
            return Err(format!("crowded.slow_factor is {}: give 2 or more", self.crowded.slow_factor));
        }
        if self.scan.threads > 256 {
            return Err(format!("scan.threads is {}: give 0 to 256", self.scan.threads));
        }
        let absolute = self
            .protect
            .paths
            .iter()
            .chain(&self.temp.dirs)
            .chain(std::iter::once(&self.journal.dir).filter(|dir| !dir.is_empty()));
        for path in absolute {
            if !path.starts_with('/') {
                return Err(format!("{path:?} is not an absolute path"));
            }
        }
        Ok(())
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// For the first key that no setting has: the nearest one that exists.
fn nearest_key(table: &Table) -> Option<String> {
    let Ok(known) = Table::try_from(Settings::default()) else { return None };
    let mut all = Vec::new();
    keys(&known, "", &mut all);
    let mut given = Vec::new();
    keys(table, "", &mut given);
    let unknown = given.into_iter().find(|key| !all.contains(key))?;
    // Below this likeness a guess confuses more than it helps.
    let likely = |key: &&String| strsim::jaro_winkler(&unknown, key) > 0.8;
    let nearest = all
        .iter()
        .filter(likely)
        .max_by(|a, b| strsim::jaro_winkler(&unknown, a).total_cmp(&strsim::jaro_winkler(&unknown, b)))?;
    Some(format!("there is no setting {unknown:?}; did you mean {nearest:?}?"))
}

fn keys(table: &Table, prefix: &str, all: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => keys(inner, &path, all),
            _ => all.push(path),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write files in their own temporary directory")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn me() -> Vec<u32> {
        vec![rustix::process::geteuid().as_raw()]
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (dir, path)
    }

    fn with(text: &str, overrides: &[&str]) -> Result<Settings, String> {
        let (_dir, path) = file(text);
        let layers = Layers {
            required: Some(path),
            overrides: overrides.iter().map(|&s| s.to_owned()).collect(),
            owners: me(),
            ..Layers::default()
        };
        load(&layers).map(|(settings, _)| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_reference_says_what_the_code_does() {
        let reference: Settings = toml::from_str(crate::assets::CONFIG).unwrap();
        assert_eq!(reference, Settings::default());
        let mut in_code = Vec::new();
        keys(&Table::try_from(Settings::default()).unwrap(), "", &mut in_code);
        let mut in_file = Vec::new();
        keys(&crate::assets::CONFIG.parse::<Table>().unwrap(), "", &mut in_file);
        assert_eq!(in_code, in_file, "every setting is in assets/config.toml");
    }

    #[test]
    fn later_layers_win_and_others_stay() {
        let settings = with(
            "[filesystem]\nwarn_percent = 60\n[temp]\nwarn_entries = 5",
            &["filesystem.critical_percent=70"],
        )
        .unwrap();
        assert_eq!(settings.filesystem.warn_percent, 60);
        assert_eq!(settings.filesystem.critical_percent, 70);
        assert_eq!(settings.temp.warn_entries, 5);
        assert_eq!(settings.probe, Settings::default().probe);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_one() {
        let error = with("\n[filesystem]\nwarn_precent = 60", &[]).unwrap_err();
        assert!(error.contains("line 3, column 1"), "{error}");
        assert!(error.contains("filesystem.warn_percent"), "{error}");
        let error = with("", &["filesystem.warnpercent=3"]).unwrap_err();
        assert!(error.contains("did you mean \"filesystem.warn_percent\""), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, set) in [
            ("[filesystem]\nwarn_percent = 95", ""),
            ("[filesystem]\nwarn_percent = 300", ""),
            ("", "protect.paths=[\"relative\"]"),
            ("", "probe.deadline_ms=0"),
            ("", "nonsense"),
            ("[filesystem", ""),
        ] {
            let set: Vec<&str> = Some(set).filter(|s| !s.is_empty()).into_iter().collect();
            assert!(with(text, &set).is_err(), "{text:?} {set:?}");
        }
    }

    #[test]
    fn a_text_needs_no_quotes_on_the_command_line() {
        assert_eq!(with("", &["journal.dir=/srv/x"]).unwrap().journal.dir, "/srv/x");
        assert_eq!(with("", &["deleted.warn_size=5 MiB"]).unwrap().deleted.warn_size.as_u64(), 5 << 20);
    }

    #[test]
    fn a_name_is_kept_in_the_file_that_is_read_last_unless_an_option_wins() {
        let (dir, path) = file("[sweep]\nkeep = [\"a\"]");
        let own = dir.path().join("own/config.toml");
        let layers = Layers { optional: vec![path.clone(), own.clone()], owners: me(), ..Layers::default() };
        let mut surroundings = crate::probe::tests::Surroundings::real();
        let mut place = |layers: &Layers, uid: u32| {
            surroundings.environment.config = Some(layers.clone());
            surroundings.environment.uid = uid;
            keep_place(&surroundings.environment)
        };
        let list = vec!["a".to_owned()];
        let of_all = KeepPlace { file: path.as_path().into(), new: false, list: list.clone() };
        assert_eq!(place(&layers, 0), Ok(of_all), "root writes to the file for all");
        let mine = KeepPlace { file: own.as_path().into(), new: true, list };
        assert_eq!(place(&layers, 1000), Ok(mine));
        let named = Layers { required: Some(path.clone()), optional: vec![own], ..layers.clone() };
        assert_eq!(place(&named, 1000).unwrap().file, path.as_path().into());
        let set = Layers { overrides: vec!["sweep.keep=[\"b\"]".to_owned()], ..layers };
        assert!(place(&set, 0).unwrap_err().contains("--set"));
        surroundings.environment.config = Some(set);
        let settings = Settings::default();
        assert_eq!(keep_list(&surroundings.environment, &settings).unwrap(), ["b"]);
    }

    #[test]
    fn a_file_that_others_could_write_is_refused() {
        let (dir, path) = file("");
        let layers = Layers { required: Some(path.clone()), owners: me(), ..Layers::default() };
        assert!(load(&layers).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(load(&layers), Err(ConfigError::Unsafe { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(load(&layers), Err(ConfigError::Unsafe { .. })));
    }
}
