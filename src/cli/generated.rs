//! Files that are made from the code and kept beside it. A test fails where one is out of date;
//! `UNWEDGE_BLESS=1 cargo test generated` writes them anew.

use clap::CommandFactory as _;

use super::args::Args;
use crate::engine::audit::Audit;
use crate::tui::keymap::{COMMANDS, Context};

#[expect(clippy::disallowed_methods, reason = "a test that was asked to write a file of the source tree")]
fn up_to_date(path: &str, made: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UNWEDGE_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{} is out of date: run UNWEDGE_BLESS=1 cargo test generated", path.display());
}

#[test]
fn the_man_pages_are_up_to_date() {
    let mut program = Args::command();
    // Gives the subcommands their full names and the options that they inherit.
    program.build();
    let subcommands = program.get_subcommands().filter(|command| command.get_name() != "help").cloned();
    for command in std::iter::once(program.clone()).chain(subcommands) {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let mut page = Vec::new();
        // Without a date: the page must not differ from one day to the next.
        clap_mangen::Man::new(command).date("").render(&mut page).unwrap();
        up_to_date(&format!("assets/man/{name}.1"), &String::from_utf8(page).unwrap());
    }
}

#[test]
fn the_schema_of_the_audit_is_up_to_date() {
    let schema = schemars::schema_for!(Audit);
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    up_to_date("assets/schema/audit.json", &text);
}

/// The keys of the panes as a Markdown table, rows with the same meaning together. Keys of dialogs are shown
/// by the dialogs.
fn keys() -> String {
    let panes = [Context::Tree, Context::Findings, Context::Mounts, Context::Processes, Context::Deleted];
    let mut rows: Vec<(Vec<String>, String, &str)> = Vec::new();
    for binding in COMMANDS {
        let places: Vec<&str> = panes
            .into_iter()
            .filter(|pane| binding.contexts.contains(pane))
            .map(|pane| pane.title().trim_start_matches("In the "))
            .collect();
        let place = match places.len() {
            0 => continue,
            5 => "everywhere".to_owned(),
            4 if places.contains(&"tree") => "all but findings".to_owned(),
            4 => "all but the tree".to_owned(),
            _ => places.join(", "),
        };
        let keys = binding.keys.iter().map(|key| format!("`{key}`"));
        match rows.iter_mut().find(|(_, there, doc)| *there == place && *doc == binding.doc) {
            Some((all, ..)) => all.extend(keys),
            None => rows.push((keys.collect(), place, binding.doc)),
        }
    }
    let rows = rows.iter().map(|(keys, place, doc)| format!("| {} | {place} | {doc} |\n", keys.join(" ")));
    "| keys | where | what |\n|---|---|---|\n".to_owned() + &rows.collect::<String>()
}

#[test]
fn the_keys_in_the_readme_are_up_to_date() {
    let readme = include_str!("../../README.md");
    let (before, rest) = readme.split_once("<!-- keys -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of keys -->").unwrap();
    up_to_date("README.md", &format!("{before}<!-- keys -->\n{}<!-- end of keys -->{after}", keys()));
}

#[test]
fn every_test_that_the_list_of_dangers_names_exists() {
    let list = include_str!("../../docs/safety-tests.md");
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dangers = Vec::new();
    for line in list.lines().filter(|line| line.starts_with("| T")) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        dangers.push(columns[1]);
        let (mut source, mut named) = (String::new(), 0);
        for word in columns[4].split('`').skip(1).step_by(2) {
            if word.contains('/') {
                source =
                    std::fs::read_to_string(top.join(word)).unwrap_or_else(|why| panic!("{word}: {why}"));
                continue;
            }
            let is_test = [format!("fn {word}("), format!("    {word}, \"")];
            assert!(
                is_test.iter().any(|text| source.contains(text)),
                "{}: there is no test {word}",
                columns[1]
            );
            named += 1;
        }
        assert!(named > 0, "{line}");
    }
    let known = (1..=40).filter(|number| *number != 9);
    let mut all: Vec<String> = known.map(|number| format!("T{number}")).collect();
    all.insert(2, "T2b".to_owned());
    assert_eq!(dangers, all);
}

/// Every file below, with its text.
fn texts(dir: &std::path::Path, ending: &str, found: &mut Vec<(std::path::PathBuf, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            texts(&path, ending, found);
        } else if path.extension().is_some_and(|known| known == ending) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

#[test]
fn no_text_tells_to_do_by_hand_what_only_a_guarded_command_does_safely() {
    // SAFETY.md T28: whoever pastes these has none of the guards.
    const DANGEROUS: [&str; 8] =
        ["rm -r", "rm -f", "umount ", "umount)", "kill -9", "kill -KILL", " -delete", "-exec rm"];
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for (dir, ending) in
        [("docs", "md"), ("assets", "md"), ("assets", "toml"), ("assets/man", "1"), ("src", "rs")]
    {
        texts(&top.join(dir), ending, &mut found);
    }
    found.push((top.join("README.md"), include_str!("../../README.md").to_owned()));
    let mut wrong = Vec::new();
    for (path, text) in found {
        let is_code = path.extension().is_some_and(|ending| ending == "rs");
        let of_tests = ["tests.rs", "test_models.rs", "snapshots.rs", "generated.rs"];
        if is_code && of_tests.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let text = if is_code { text.split("#[cfg(test)]").next().unwrap() } else { &text };
        for (number, line) in (1..).zip(text.lines()) {
            // The benchmark of deletes is named after what it is compared with.
            let told = !(is_code && line.trim_start().starts_with("//") || line.contains("× `rm -rf"));
            if told && DANGEROUS.iter().any(|what| line.contains(what)) {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
