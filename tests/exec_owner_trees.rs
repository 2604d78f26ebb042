//! What an ordinary user deletes: read-only trees of their own go, those that would stay in part stay whole, modes come
//! back, and a file that is being written goes though it grew.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use common::{World, argument, choose, inside_mount_namespace, is_root, leftovers, run_again, sh, why};
use unwedge::actions::Request;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::size::Bytes;
use unwedge::engine::Engine;
use unwedge::journal::Journal;

const USER: u32 = 1000;

/// Runs the test again as an ordinary user, in a directory of theirs that root has prepared. The directory in that run;
/// none in the outer one, which has `check` look afterwards.
fn as_user(test: &str, prepare: &str, check: impl FnOnce(&Path)) -> Option<PathBuf> {
    if let Some(place) = argument() {
        assert!(!rustix::process::geteuid().is_root());
        return Some(place.into());
    }
    if !is_root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    // Where others can go: the run is another user's.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let exe = dir.path().join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();
    sh(&format!("cd {}; {prepare}; chown {USER}:{USER} .", place.display()));
    let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
    run_again(&["setpriv", &user[0], &user[1], "--clear-groups"], &exe, test, &place);
    check(&place);
    sh(&format!("chattr -R -i -a {} || true", place.display()));
    None
}

/// Everything below a directory with its mode, by its path in it. As root, or where all can be read.
fn modes(dir: &Path) -> BTreeMap<PathBuf, u32> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    entries
        .map(|entry| {
            (entry.path().strip_prefix(dir).unwrap().to_owned(), entry.metadata().unwrap().mode() & 0o7777)
        })
        .collect()
}

#[test]
fn trees_that_their_owner_made_read_only_go() {
    let prepare = "
        mkdir -p go/mod/github.com/a/b@v1/internal go/mod/cache bazel/out/tree/sub bazel/external
        for f in go/mod/github.com/a/b@v1/f.go go/mod/github.com/a/b@v1/internal/g.go bazel/out/tree/sub/f; do
            echo x > $f; chmod 444 $f; done
        chmod -R a-w go/mod/github.com bazel/out/tree
        mkdir -p odd/none/in/it odd/list/in odd/search/in odd/write odd/set
        touch odd/none/f odd/none/in/it/f odd/list/f odd/search/in/f odd/write/f odd/set/f
        chown -R 1000:1000 go bazel odd
        chmod 0 odd/none/in odd/none; chmod 400 odd/list; chmod 100 odd/search; chmod 300 odd/write
        chmod 2555 odd/set
        mkdir -p closed/sub; touch closed/sub/f; chown -R 1000:1000 closed; chmod 0 closed";
    let Some(place) = as_user("trees_that_their_owner_made_read_only_go", prepare, |place| {
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    }) else {
        return;
    };
    let world = World::new();
    for name in ["go/mod/github.com/a/b@v1", "go", "bazel", "odd", "closed"] {
        let receipt = world.delete(&[&place.join(name)]);
        // What is in a directory that may not be changed is not taken out of it: only the tree itself is opened up.
        assert_eq!(receipt.is_clean(), name != "go/mod/github.com/a/b@v1", "{name}: {:?}", receipt.steps);
        assert_eq!(place.join(name).exists(), !receipt.is_clean());
    }
    assert_eq!(leftovers(&place), Vec::<String>::new());
}

#[test]
fn a_deep_read_only_tree_goes() {
    // Deeper than what is open at a time.
    let prepare = "
        p=deep; for i in $(seq 150); do p=$p/d; mkdir -p $p; touch $p/f; done
        chown -R 1000:1000 deep; find deep -depth -type d -exec chmod 555 {} +
        p=dark; for i in $(seq 100); do p=$p/d; mkdir -p $p; touch $p/f; done
        chown -R 1000:1000 dark; find dark -depth -type d -exec chmod 300 {} +";
    let Some(place) = as_user("a_deep_read_only_tree_goes", prepare, |place| {
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    }) else {
        return;
    };
    let world = World::new();
    for name in ["deep", "dark"] {
        let receipt = world.delete(&[&place.join(name)]);
        assert!(receipt.is_clean(), "{name}: {:?}", receipt.steps);
    }
}

#[test]
fn a_cancelled_delete_gives_read_only_directories_their_mode_back() {
    let prepare = "
        for a in 1 2 3 4 5 6; do for b in 1 2 3; do mkdir -p tree/$a/$b; (cd tree/$a/$b; touch $(seq 400)); done; done
        chown -R 1000:1000 tree; chmod -R a-w tree; chmod 511 tree/3; chmod 500 tree/4/1";
    let check = |place: &Path| {
        let now = modes(&place.join("tree"));
        let dirs: BTreeMap<_, _> =
            now.into_iter().filter(|(path, _)| place.join("tree").join(path).is_dir()).collect();
        assert!(dirs.len() > 3, "{dirs:?}");
        for (path, mode) in dirs {
            let expected = match path.to_str().unwrap() {
                "3" => 0o511,
                "4/1" => 0o500,
                _ => 0o555,
            };
            assert_eq!(mode, expected, "{path:?}");
        }
    };
    let Some(place) =
        as_user("a_cancelled_delete_gives_read_only_directories_their_mode_back", prepare, check)
    else {
        return;
    };
    let tree = place.join("tree");
    let world = World::new();
    // In the middle of several directories, and once before the first entry.
    for after in [1500, 0] {
        world.cancel.store(false, Ordering::Relaxed);
        let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
        let opened = std::cell::Cell::new(false);
        let receipt = world.run_with(plan, &|progress| {
            if progress.done >= after {
                // The naive way would leave this behind.
                let aside = leftovers(&place);
                opened.set(aside.iter().any(|name| {
                    let tops = fs::read_dir(place.join(name).join("item")).into_iter().flatten();
                    tops.map(|top| top.unwrap().path()).any(|top| {
                        let below = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().path());
                        below.chain([top.clone()]).any(|dir| dir.metadata().unwrap().mode() & 0o200 != 0)
                    })
                }));
                world.cancel.store(true, Ordering::Relaxed);
            }
        });
        assert!(matches!(receipt.steps[0].outcome, Outcome::Cancelled { .. }), "{:?}", receipt.steps);
        assert!(opened.get() || after == 0, "nothing was opened up when it was cancelled");
        assert!(tree.exists() && leftovers(&place).is_empty());
        assert_eq!(tree.metadata().unwrap().mode() & 0o7777, 0o555);
    }
}

#[test]
fn what_cannot_be_removed_keeps_its_mode_and_those_of_what_is_above_it() {
    let prepare = "
        mkdir -p tree/a/b/c tree/d; touch tree/a/b/c/f tree/a/b/g tree/d/f; chown -R 1000:1000 tree; chmod -R a-w tree
        chattr +i tree/a/b/c/f";
    let check = |place: &Path| {
        let now = modes(&place.join("tree"));
        let expected = [("", 0o555), ("a", 0o555), ("a/b", 0o555), ("a/b/c", 0o555), ("a/b/c/f", 0o444)];
        assert_eq!(now, expected.map(|(path, mode)| (PathBuf::from(path), mode)).into());
    };
    let test = "what_cannot_be_removed_keeps_its_mode_and_those_of_what_is_above_it";
    let Some(place) = as_user(test, prepare, check) else { return };
    let receipt = World::new().delete(&[&place.join("tree")]);
    assert!(matches!(receipt.steps[0].outcome, Outcome::Partly { count: 3, .. }), "{:?}", receipt.steps);
}

#[test]
fn a_tree_with_a_directory_of_somebody_else_stays_whole() {
    let prepare = "
        for t in full closed sticky immutable empty; do
            mkdir -p $t/a/b/theirs $t/z; touch $t/a/f $t/z/f; chown -R 1000:1000 $t; chmod 555 $t/a/b $t; done
        touch full/a/b/theirs/f; chown -R 0:0 full/a/b/theirs
        chown 1001 closed/a/b/theirs; chmod 700 closed/a/b/theirs
        touch sticky/a/b/theirs/f; chown -R 0:0 sticky/a/b/theirs; chmod 1777 sticky/a/b/theirs
        touch immutable/a/b/theirs/f; chattr +i immutable/a/b/theirs
        chown 0:0 empty/a/b/theirs
        mkdir -p open/theirs; touch open/theirs/f; chown 1000 open; chmod 777 open/theirs
        for t in full closed sticky immutable; do find $t -printf '%p %m %T@ %U\\n'; done | sort > ../before";
    let check = |place: &Path| {
        sh(&format!(
            "cd {}; for t in full closed sticky immutable; do find $t -printf '%p %m %T@ %U\\n'; done | sort | diff - ../before",
            place.display()
        ));
        assert!(!place.join("empty").exists() && !place.join("open").exists());
    };
    let Some(place) = as_user("a_tree_with_a_directory_of_somebody_else_stays_whole", prepare, check) else {
        return;
    };
    let world = World::new();
    for (name, reason) in [
        ("full", "a/b/theirs: it belongs to root and has something in it"),
        ("closed", "a/b/theirs: it belongs to user 1001 and nobody else may look into it"),
        ("sticky", "a/b/theirs: it belongs to root and is sticky, and f in it is not ours"),
        ("immutable", "a/b/theirs: it is immutable"),
    ] {
        let receipt = world.delete(&[&place.join(name)]);
        let why = why(&receipt);
        assert!(why.contains("nothing of it was removed") && why.contains(reason), "{why}");
        assert!(why.ends_with("it was put back"), "{why}");
    }
    // Neither an empty one nor one that everybody may change keeps anything.
    for name in ["empty", "open"] {
        let receipt = world.delete(&[&place.join(name)]);
        assert!(receipt.is_clean(), "{:?}", receipt.steps);
    }
    assert_eq!(leftovers(&place), Vec::<String>::new());
}

/// A process that has a file open and appends to it at each line that it is given.
struct Writer(std::process::Child);

impl Writer {
    fn of(path: &Path) -> Self {
        let script =
            format!("exec >> {}; echo ready >&2; while read line; do echo $line; done", path.display());
        let pipe = Stdio::piped;
        let mut child =
            Command::new("sh").args(["-c", &script]).stdin(pipe()).stderr(pipe()).spawn().unwrap();
        child.stderr.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        Self(child)
    }

    fn write(&mut self, path: &Path) {
        let before = path.metadata().unwrap().len();
        writeln!(self.0.stdin.as_mut().unwrap(), "more").unwrap();
        while path.metadata().unwrap().len() == before {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_that_is_written_goes_though_it_grew_and_no_other_does() {
    let world = World::new();
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    let file = world.path("log");
    let fresh = || fs::write(&file, "first\n").unwrap();
    let plan = || {
        let chosen = engine.choose(&file, Bytes(6), Bytes(4096), 1).unwrap();
        world.plan(&Request::Delete(vec![chosen]))
    };
    fresh();
    let mut writer = Writer::of(&file);
    let said = plan();
    assert!(said.steps[0].why.contains("has it open"), "{said:?}");
    writer.write(&file);
    let receipt = world.run(said);
    assert!(receipt.is_clean() && !file.exists(), "{receipt:?}");
    drop(writer);

    // Nobody said that it is written.
    fresh();
    let unsaid = plan();
    let mut writer = Writer::of(&file);
    writer.write(&file);
    assert!(why(&world.run(unsaid)).contains("changed, skipped"));

    // Nobody writes it any more: what was added is not what was shown.
    fresh();
    let said = plan();
    drop(writer);
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
    assert!(why(&world.run(said)).contains("nobody has it open any more"));
    assert_eq!(fs::read(&file).unwrap(), b"first\nmore");

    // Replaced, cut, or written over, by somebody who has it open.
    for change in ["mv other log", ": > log", "printf FIRST- | dd of=log conv=notrunc status=none"] {
        fresh();
        fs::write(world.path("other"), "another and a longer one\n").unwrap();
        let _writer = Writer::of(&file);
        let said = plan();
        sh(&format!("cd {}; sleep 0.02; {change}", world.dir.display()));
        let receipt = world.run(said);
        assert!(why(&receipt).contains("changed, skipped"), "{change}: {receipt:?}");
        assert!(file.exists(), "{change}");
    }
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn a_file_that_grew_stays_where_nothing_tells_it_from_another() {
    if !inside_mount_namespace("a_file_that_grew_stays_where_nothing_tells_it_from_another") {
        return;
    }
    let world = World::new();
    // Neither birth times nor lasting file handles.
    let dir = world.path("m");
    fs::create_dir(&dir).unwrap();
    sh(&format!("mount -t ramfs none {}", dir.display()));
    let file = dir.join("log");
    fs::write(&file, "first\n").unwrap();
    let mut chosen = choose(&file);
    (chosen.id.born, chosen.id.generation) = (None, None);
    let mut writer = Writer::of(&file);
    chosen.open_by = vec!["sh".to_owned()];
    let plan = world.plan(&Request::Delete(vec![chosen]));
    writer.write(&file);
    assert!(why(&world.run(plan)).contains("changed, skipped"));
    assert!(file.exists());
}
