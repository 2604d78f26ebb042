//! Data files embedded in the program, with their typed loaders.

use std::sync::LazyLock;

use crate::domain::catalogue::Catalogue;

/// The reference of all settings, with their defaults.
pub const CONFIG: &str = include_str!("../assets/config.toml");

/// The files of the catalogue. To add one, add its line here.
const CATALOGUE: &[(&str, &str)] = &[
    ("catalog/build.toml", include_str!("../assets/catalog/build.toml")),
    ("catalog/desktop.toml", include_str!("../assets/catalog/desktop.toml")),
    ("catalog/languages.toml", include_str!("../assets/catalog/languages.toml")),
    ("catalog/packages.toml", include_str!("../assets/catalog/packages.toml")),
    ("catalog/projects.toml", include_str!("../assets/catalog/projects.toml")),
    ("catalog/stores.toml", include_str!("../assets/catalog/stores.toml")),
    ("catalog/system.toml", include_str!("../assets/catalog/system.toml")),
];

/// The catalogue of what is known to take space.
///
/// # Errors
/// What is wrong with its files; a test keeps them right.
pub fn catalogue() -> Result<&'static Catalogue, String> {
    static LOADED: LazyLock<Result<Catalogue, String>> = LazyLock::new(|| Catalogue::parse(CATALOGUE));
    LOADED.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::domain::catalogue::{Command, Entry, RunAs, Spot};
    use crate::domain::plan::Risk;

    fn commands(entry: &Entry) -> impl Iterator<Item = &Command> {
        entry.clean.iter().chain(&entry.size)
    }

    #[test]
    fn every_file_is_read_and_every_file_there_is_named() {
        let catalogue = catalogue().unwrap();
        assert!(catalogue.entries().len() >= 60, "{}", catalogue.entries().len());
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/catalog");
        let there = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .map(|name| format!("catalog/{name}"));
        let mut there: Vec<String> = there.collect();
        there.sort();
        assert_eq!(there, CATALOGUE.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }

    #[test]
    fn every_reference_of_an_entry_leads_somewhere() {
        for entry in catalogue().unwrap().entries() {
            let id = &entry.id;
            // Every placeholder has something to stand for at every place the entry can be found at.
            let home = (!entry.home.is_empty()).then_some(Path::new("/home/al"));
            let spot = Spot { path: Path::new("/home/al/a/b"), home };
            for command in commands(entry) {
                assert!(command.argv(&spot).is_some(), "{id}: {command}");
            }
            for lock in &entry.refuse.locks {
                assert!(crate::domain::catalogue::fill(lock, &spot).is_some(), "{id}: {lock}");
            }
            // What a directory anywhere needs cannot be a home, which it may not be below.
            if !entry.named.is_empty() || !entry.paths.is_empty() {
                assert!(commands(entry).all(|command| !command.to_string().contains("{home}")), "{id}");
                assert!(entry.refuse.locks.iter().all(|lock| !lock.contains("{home}")), "{id}");
            }
            if entry.run_as == RunAs::Root {
                assert!(entry.home.is_empty(), "{id}: root would clean root's own home");
            }
            if entry.is_report_only() {
                assert!(entry.note.is_some(), "{id}: says nothing about what to do");
            }
            if entry.risk == Risk::Destructive {
                assert!(entry.clean.is_empty() || entry.note.is_some(), "{id}: data goes without a word");
            }
            for text in [&entry.cost].into_iter().chain(&entry.note) {
                assert!(text.ends_with('.') && text.is_ascii(), "{id}: {text}");
            }
            assert!(entry.title.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_uppercase()));
        }
    }

    #[test]
    fn no_two_entries_claim_a_place_or_one_inside_the_other() {
        let mut claimed: BTreeMap<String, &str> = BTreeMap::new();
        for entry in catalogue().unwrap().entries() {
            let homes = entry.home.iter().map(|place| format!("~/{}", place.as_str()));
            for place in homes.chain(entry.paths.iter().map(|place| place.as_str().to_owned())) {
                let twice = claimed.insert(place.clone(), &entry.id);
                assert!(twice.is_none(), "{place}: {} and {twice:?}", entry.id);
            }
        }
        for (place, id) in &claimed {
            for (outer, other) in &claimed {
                let inside = Path::new(place).starts_with(outer) && place != outer;
                assert!(!inside || id == other, "{place} ({id}) is inside {outer} ({other})");
            }
        }
    }
}
