//! `fix`, `sweep` and `delete` as scripts and people at a shell use them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::duplicate_mod,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/filesystems.rs"]
mod filesystems;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "common/tui.rs"]
mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::{inside_own_namespaces, sh};
use harness::Console;
use serde_json::Value;

/// A directory full of old things, on a file system of its own, with neighbours that must stay.
struct World {
    dir: common::MountDir,
    point: PathBuf,
    /// Stands in `busy`, so that it is in use.
    busy: Child,
}

impl World {
    fn new() -> Self {
        let dir = common::MountDir::new();
        let point = dir.path().join("disk");
        filesystems::mount("ext4", &point, 64);
        let mut world = Self { point, busy: Command::new("sleep").arg("1000").spawn().unwrap(), dir };
        world.fill();
        world
    }

    /// `old-N`, old directories and empty ones go; the rest stays.
    fn fill(&mut self) {
        let temp = self.temp();
        self.busy.kill().unwrap();
        self.busy.wait().unwrap();
        let volume = self.dir.path().join("volume");
        sh(&format!("umount -q {} || true; rm -rf {}", volume.display(), temp.display()));
        for name in ["dir", "busy", "bound/volume", "kept-dir", "empty"] {
            fs::create_dir_all(temp.join(name)).unwrap();
        }
        for number in 0..9 {
            fs::write(temp.join(format!("old-{number}")), vec![1; 4096]).unwrap();
        }
        for name in ["dir/f", "busy/f", "bound/volume/f", "kept-dir/f", "young", "a.key", "kept-file"] {
            fs::write(temp.join(name), b"x").unwrap();
        }
        sh(&format!("chown -R 1000:1000 {}", temp.display()));
        filesystems::age(&self.point, &["temp/young"]);
        fs::create_dir_all(&volume).unwrap();
        sh(&format!("mount --bind {}/bound/volume {}", temp.display(), volume.display()));
        self.busy = Command::new("sleep")
            .arg("1000")
            .current_dir(temp.join("busy"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
    }

    fn temp(&self) -> PathBuf {
        self.point.join("temp")
    }

    /// Settings that make it a directory for temporary files, with the journal beside it.
    fn settings(&self) -> Vec<String> {
        let journal = format!("journal.dir={}/journal", self.dir.path().display());
        let dirs = format!("temp.dirs=[\"{}\"]", self.temp().display());
        ["temp.warn_entries=5".to_owned(), journal, dirs, "sweep.keep=[\"kept-*\"]".to_owned()]
            .into_iter()
            .flat_map(|setting| ["--set".to_owned(), setting])
            .collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_unwedge"))
            .args(arguments)
            .args(self.settings())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.temp()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.busy.kill();
        let _ = self.busy.wait();
    }
}

/// What stays whatever is swept here.
const STAYS: [&str; 6] = ["a.key", "bound", "busy", "kept-dir", "kept-file", "young"];

#[track_caller]
fn code(output: &Output, expected: i32) -> String {
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert_eq!(output.status.code(), Some(expected), "{said}");
    said
}

fn stays() -> BTreeSet<String> {
    STAYS.map(str::to_owned).into()
}

#[test]
fn a_killed_sweep_gives_back_what_it_had_set_aside() {
    if !inside_own_namespaces("a_killed_sweep_gives_back_what_it_had_set_aside") {
        return;
    }
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return common::skip("this test needs strace");
    }
    let mut world = World::new();
    let mut put_back = 0;
    for call in ["renameat", "renameat2", "unlinkat"] {
        for time in 1..=4 {
            world.fill();
            let inodes = |world: &World| -> BTreeMap<String, u64> {
                let entries = fs::read_dir(world.temp()).unwrap().map(Result::unwrap);
                entries.map(|one| (one.file_name().into_string().unwrap(), one.ino())).collect()
            };
            let before = inodes(&world);
            let output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-P", world.temp().to_str().unwrap()])
                .args(["-e", &format!("inject={call}:signal=KILL:when={time}")])
                .args([env!("CARGO_BIN_EXE_unwedge"), "sweep", world.temp().to_str().unwrap(), "--yes"])
                .args(world.settings())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            // At most so often is it called at all.
            let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
            let aside = inodes(&world).keys().filter(|name| name.contains(".unwedge-")).count();
            let undone = world.run(&["undo", "--yes"]);
            let said = String::from_utf8_lossy(&undone.stdout).into_owned();
            for (name, inode) in inodes(&world) {
                if name.starts_with(".unwedge-") {
                    let left = fs::read_dir(world.temp().join(&name)).unwrap().count();
                    assert_eq!(left, 0, "{call} {time}: {said}");
                    fs::remove_dir(world.temp().join(&name)).unwrap();
                } else {
                    assert_eq!(
                        before.get(&name),
                        Some(&inode),
                        "{call} {time}: {name} is not what it was: {said}"
                    );
                }
            }
            assert!(world.names().is_superset(&stays()), "{call} {time}: {said}");
            put_back += usize::from(killed && aside > 0 && said.contains("put"));
        }
    }
    assert!(put_back > 0, "it was killed with something set aside");
}

#[test]
fn a_sweep_is_shown_then_run_and_every_name_is_on_record() {
    if !inside_own_namespaces("a_sweep_is_shown_then_run_and_every_name_is_on_record") {
        return;
    }
    let world = World::new();
    let temp = world.temp();
    let temp = temp.to_str().unwrap();
    let before = world.names();

    let shown = code(&world.run(&["sweep", temp, "--dry-run"]), 0);
    for part in [
        "9 old files, 1 empty directory, 1 old directory",
        "old-3",
        "1  in use",
        "2  named by a keep list",
        "1  look precious",
        "--also NAME takes what looks precious: a.key",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(world.names(), before);
    // Nobody to ask, wrong words, and what is not there.
    assert!(code(&world.run(&["sweep", temp]), 69).contains("no terminal"));
    code(&world.run(&["sweep", temp, "--older", "soon", "--dry-run"]), 64);
    assert!(code(&world.run(&["sweep", temp, "--older", "5m", "--yes"]), 64).contains("1 hour"));
    code(&world.run(&["sweep", "/nonexistent", "--dry-run"]), 66);
    let link = world.dir.path().join("link");
    std::os::unix::fs::symlink(temp, &link).unwrap();
    assert!(code(&world.run(&["sweep", link.to_str().unwrap(), "--yes"]), 66).contains("not a link"));
    // What loses data is never agreed to by --yes.
    let precious = code(&world.run(&["sweep", temp, "--also", "*.key", "--yes"]), 1);
    assert!(precious.contains("destructive") && precious.contains("typing its name"), "{precious}");
    let elsewhere = world.point.join("temp/dir");
    let elsewhere = code(&world.run(&["sweep", elsewhere.to_str().unwrap(), "--yes"]), 1);
    assert!(elsewhere.contains("destructive"), "{elsewhere}");
    assert_eq!(world.names(), before, "nothing went until here");

    // Young for this rule.
    let young = code(&world.run(&["sweep", temp, "--older", "5200w", "--older-dirs", "5200w", "--yes"]), 0);
    assert!(young.contains("nothing to do"), "{young}");
    let done = world.run(&["sweep", temp, "--keep", "old-1", "--yes", "--format", "json"]);
    code(&done, 0);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let mut expected = stays();
    expected.insert("old-1".to_owned());
    assert_eq!(world.names(), expected);
    let step = &report["receipt"]["parts"][0]["steps"][0];
    let gone: BTreeSet<String> = step["gone"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(gone, before.difference(&expected).cloned().collect());
    let swept = &report["receipt"]["parts"][0]["swept"][0];
    assert_eq!(
        (&swept["before"]["old_files"], &swept["after"]["value"]["old_files"]),
        (&9.into(), &1.into())
    );

    let history = code(&world.run(&["history", "--last", "--names"]), 0);
    assert!(gone.iter().all(|name| history.contains(&format!("        {name}\n"))), "{history}");
    assert!(!history.contains("old-1\n") && !history.contains("kept"), "{history}");
    let short = code(&world.run(&["history", "--last"]), 0);
    assert!(short.contains("10 names went") && !short.contains("old-3"), "{short}");
}

#[test]
fn what_is_shown_for_pasting_does_what_the_console_would_do() {
    if !inside_own_namespaces("what_is_shown_for_pasting_does_what_the_console_would_do") {
        return;
    }
    let mut world = World::new();
    let temp = world.temp();
    let lines = |text: &str| -> Vec<String> {
        let found = text.lines().filter_map(|line| line.trim().strip_prefix("from a shell: "));
        found.map(str::to_owned).collect()
    };
    let paste = |world: &World, line: &str| {
        let program = Path::new(env!("CARGO_BIN_EXE_unwedge")).parent().unwrap();
        let settings = format!("'{}'", world.settings().join("' '"));
        let command = format!("PATH={}:$PATH; {line} --yes {settings}", program.display());
        Command::new("bash").args(["-c", &command]).stdin(Stdio::null()).output().unwrap()
    };
    // The line of a sweep, and the line of the finding that offers it.
    let shown = code(&world.run(&["sweep", temp.to_str().unwrap(), "--dry-run"]), 0);
    let sweep = lines(&shown);
    assert_eq!(sweep, [format!("unwedge sweep {} --older 1d --older-dirs 2d", temp.display())]);
    let audit = world.run(&["--audit", "/proc/self"]);
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    let offered = lines(&audit);
    let offered = offered.iter().find(|line| line.contains("sweep")).unwrap_or_else(|| panic!("{audit}"));
    for line in [&sweep[0], offered] {
        world.fill();
        code(&paste(&world, line), 0);
        assert_eq!(world.names(), stays(), "{line}");
        assert!(world.dir.path().join("volume/f").exists(), "{line}: the volume is whole");
    }
    // A delete of a bystander is refused by the same guards.
    let before = world.names();
    let bound = temp.join("bound");
    let refused = code(&world.run(&["delete", bound.to_str().unwrap(), "--dry-run"]), 1);
    assert!(refused.contains("left out") && !refused.contains("from a shell"), "{refused}");
    assert_eq!(world.names(), before);
}

#[test]
fn a_delete_asks_for_the_name_and_takes_no_yes() {
    if !inside_own_namespaces("a_delete_asks_for_the_name_and_takes_no_yes") {
        return;
    }
    let world = World::new();
    let dir = world.temp().join("dir");
    let path = dir.to_str().unwrap();
    code(&world.run(&["delete", path, "--yes"]), 64);
    code(&world.run(&["delete"]), 64);
    code(&world.run(&["delete", "/nonexistent", "--dry-run"]), 66);
    code(&world.run(&["delete", path]), 69);
    code(&world.run(&["delete", path, "--format", "json"]), 64);
    let shown = code(&world.run(&["delete", path, "--dry-run"]), 0);
    assert!(shown.contains(&format!("from a shell: unwedge delete -- {path}")), "{shown}");
    assert!(dir.exists());

    let settings = world.settings();
    let mut arguments = vec!["delete", path];
    arguments.extend(settings.iter().map(String::as_str));
    for (answer, gone) in [("wrong\r", false), ("dir\r", true)] {
        let mut console = Console::start(120, 40, world.dir.path(), &arguments);
        console.see("to run this");
        console.press(answer);
        assert_eq!(console.ended(), u32::from(!gone));
        assert_eq!(dir.exists(), !gone, "after {answer:?}");
    }
}

#[test]
fn a_finding_is_fixed_by_its_id() {
    if !inside_own_namespaces("a_finding_is_fixed_by_its_id") {
        return;
    }
    let world = World::new();
    let id = format!("temp-entries:{}", world.temp().display());
    assert!(code(&world.run(&["fix", "no-such-rule"]), 64).contains("near to it"));
    // Whether all could be looked at depends on the machine.
    let absent = world.run(&["fix", "temp-entries:/nowhere", "--yes"]);
    let whole = String::from_utf8_lossy(&absent.stderr).contains("nothing to do");
    code(&absent, if whole { 0 } else { 3 });
    assert!(code(&world.run(&["fix", &id, "--action", "prune-standard"]), 64).contains("--action sweep"));
    let before = world.names();
    assert!(code(&world.run(&["fix", &id, "--dry-run"]), 0).contains("9 old files"));
    assert_eq!(world.names(), before);
    code(&world.run(&["fix", &id, "--yes"]), 0);
    assert_eq!(world.names(), stays());
    // What is found still, but leaves nothing to be done.
    let again = code(&world.run(&["fix", &id, "--yes"]), 1);
    assert!(again.contains("nothing to do") && again.contains("nothing in it goes"), "{again}");
}
