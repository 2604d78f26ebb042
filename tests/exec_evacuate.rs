//! Moves to another file system: killed in the middle and taken up again, and taken back.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use common::{World, choose, sh, why};
use unwedge::actions::Request;
use unwedge::domain::plan::Plan;
use unwedge::engine::Engine;
use unwedge::engine::undo::Undoing;
use unwedge::journal::Journal;

/// Enough for several pieces of a copy.
const SIZE: usize = 40 << 20;

/// A world with a file on its disk, and a directory on another file system.
struct Two {
    world: World,
    big: PathBuf,
    there: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let world = World::new();
        let there = tempfile::tempdir_in("/dev/shm").unwrap();
        let big = world.path("big");
        fs::write(&big, content()).unwrap();
        sh(&format!("chmod 640 {0} && touch -d '2020-02-02 02:02:02.5' {0}", big.display()));
        sh(&format!("chmod 700 {}", world.dir.display()));
        Self { world, big, there }
    }

    fn moved(&self) -> PathBuf {
        self.there.path().join("big")
    }

    fn plan(&self) -> Plan {
        plan(&self.world, &self.big, self.there.path())
    }

    /// What is in the other directory, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.there.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn undo(&self) -> Undoing {
        let journal = Journal::open(&self.world.environment, &self.world.settings);
        let engine = Engine::new(self.world.environment.clone(), self.world.settings.clone(), journal);
        engine.undo(None, &self.world.snapshot()).unwrap()
    }

    fn is_here(&self) -> bool {
        fs::read(&self.big).is_ok_and(|bytes| bytes == content())
    }

    fn is_there(&self) -> bool {
        fs::read(self.moved()).is_ok_and(|bytes| bytes == content())
    }
}

fn content() -> &'static [u8] {
    static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let piece: Vec<u8> = (0..1009).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut all = piece.repeat(SIZE / piece.len() + 1);
        all.truncate(SIZE);
        all
    });
    &CONTENT
}

fn plan(world: &World, big: &Path, there: &Path) -> Plan {
    let to = there.into();
    world.plan(&Request::Evacuate { files: vec![choose(big)], to, unfit: None, one_way: Vec::new() })
}

/// A world whose move was killed when so much (in MiB, copied and compared) was done.
fn killed(test: &str, after: u64) -> Two {
    const PLACES: &str = "UNWEDGE_TEST_MOVED";
    if let Some(places) = std::env::var_os(PLACES) {
        // The inner run: it is killed in the middle.
        let places: Vec<PathBuf> = std::env::split_paths(&places).collect();
        let mut world = World::new();
        world.dir.clone_from(&places[0]);
        world.settings.journal.dir = format!("{}/journal", world.dir.display());
        world.run_with(plan(&world, &places[0].join("big"), &places[1]), &|progress| {
            if progress.done >= after {
                sh(&format!("kill -KILL {}", std::process::id()));
            }
        });
        panic!("it was not killed");
    }
    let two = Two::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact"])
        .env(PLACES, std::env::join_paths([two.world.dir.as_path(), two.there.path()]).unwrap())
        // It cannot clean up after itself: its own temporary directory goes with ours.
        .env("TMPDIR", &two.world.dir)
        .output()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{output:?}");
    let names = two.names();
    assert!(names.len() == 1 && names[0].starts_with(".unwedge-evacuated-"), "{names:?}");
    assert!(two.is_here());
    two
}

#[test]
fn the_second_run_takes_up_a_move_that_was_killed() {
    let two = killed("the_second_run_takes_up_a_move_that_was_killed", 9);
    // Somebody else's file with such a name, and one of a run that lives, stay.
    let strange = ".unwedge-evacuated-1-1-00000000000000aa-0";
    fs::write(two.there.path().join(strange), b"not the beginning of it").unwrap();
    let receipt = two.world.run(two.plan());
    assert!(receipt.is_clean(), "{receipt:?}");
    assert_eq!(two.names(), [strange, "big"]);
    assert!(two.is_there() && !two.big.exists());
}

#[test]
fn undo_removes_what_a_killed_move_had_copied() {
    let two = killed("undo_removes_what_a_killed_move_had_copied", 50);
    // Not while the file is not what it was: then it may be all there is.
    let aside = two.world.path("aside");
    fs::rename(&two.big, &aside).unwrap();
    let undoing = two.undo();
    assert!(undoing.basket.is_empty(), "{undoing:?}");
    assert!(undoing.basket.refused[0].why.contains("may be all there is"), "{undoing:?}");
    fs::rename(&aside, &two.big).unwrap();
    let undoing = two.undo();
    assert_eq!(undoing.basket.parts[0].summary, "remove 1 copy that broke off");
    let receipt = two.world.run_all(undoing.basket, &|_| {});
    assert!(receipt.is_clean() && receipt.count() == 1, "{:?}", receipt.parts);
    assert!(two.names().is_empty() && two.is_here());
    assert!(two.undo().basket.is_empty());
}

#[test]
fn a_copy_that_is_whole_is_compared_and_only_then_is_the_file_removed() {
    let two = Two::new();
    // As a run leaves it that is killed between the two: the copy has its name, the file is still here.
    sh(&format!("cp --preserve=all {0} {1} && chmod 600 {1}", two.big.display(), two.moved().display()));
    let mut other = content().to_vec();
    other[SIZE - 1] ^= 1;
    let times = fs::metadata(&two.big).unwrap().modified().unwrap();
    fs::write(two.moved(), other).unwrap();
    fs::File::open(two.moved()).unwrap().set_modified(times).unwrap();
    assert!(why(&two.world.run(two.plan())).contains("has that name"), "one bit differs");
    assert!(two.is_here());
    sh(&format!("cp --preserve=all {0} {1} && chmod 600 {1}", two.big.display(), two.moved().display()));
    let receipt = two.world.run(two.plan());
    assert!(receipt.is_clean(), "{receipt:?}");
    assert!(!two.big.exists() && two.is_there());
    assert_eq!(two.names(), ["big"]);
}

#[test]
fn undo_moves_it_back_once_and_never_over_anything() {
    let two = Two::new();
    let before = fs::metadata(&two.big).unwrap();
    assert!(two.world.run(two.plan()).is_clean());
    assert!(!two.big.exists() && two.is_there());
    // Its directory is private; nobody else reads it at the new place.
    assert_eq!(fs::metadata(two.moved()).unwrap().permissions().mode() & 0o7777, 0o600);

    fs::write(&two.big, b"new").unwrap();
    let undoing = two.undo();
    assert!(undoing.basket.is_empty());
    assert!(undoing.basket.refused[0].why.contains("something else has that name"), "{undoing:?}");
    fs::remove_file(&two.big).unwrap();

    let undoing = two.undo();
    assert_eq!(undoing.basket.items(), 1, "{undoing:?}");
    // In its place after all, found out by the change itself.
    fs::write(&two.big, b"new").unwrap();
    let receipt = two.world.run_all(undoing.basket, &|_| {});
    assert_eq!(receipt.count(), 0, "{:?}", receipt.parts);
    assert_eq!(fs::read(&two.big).unwrap(), b"new");
    fs::remove_file(&two.big).unwrap();

    let receipt = two.world.run_all(two.undo().basket, &|_| {});
    assert!(receipt.is_clean() && receipt.count() == 1, "{:?}", receipt.parts);
    assert!(two.is_here() && two.names().is_empty());
    let after = fs::metadata(&two.big).unwrap();
    assert_eq!(
        (before.modified().unwrap(), before.permissions()),
        (after.modified().unwrap(), after.permissions())
    );
    // What undo did is not taken back by the next one.
    assert!(two.undo().basket.is_empty());
}

#[test]
fn what_was_changed_since_is_left_where_it_is_with_the_command() {
    let two = Two::new();
    assert!(two.world.run(two.plan()).is_clean());
    fs::write(two.moved(), b"changed").unwrap();
    let undoing = two.undo();
    assert!(undoing.basket.is_empty());
    let why = &undoing.basket.refused[0].why;
    assert!(why.contains("changed since") && why.contains("mv -n -- "), "{why}");
    assert_eq!(fs::read(two.moved()).unwrap(), b"changed");
}

#[test]
fn a_users_file_comes_back_to_his_directory_with_its_mode_and_is_private_meanwhile() {
    if !common::inside_mount_namespace(
        "a_users_file_comes_back_to_his_directory_with_its_mode_and_is_private_meanwhile",
    ) {
        return;
    }
    // Of the directory: its mode, and whether what was shut off by it stays so.
    for (mode, given) in [("700", 0o600), ("775", 0o644), ("2770", 0o640)] {
        let world = World::new();
        let (home, there) = (world.path("home/ann"), world.path("there"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir(&there).unwrap();
        let big = home.join("big");
        fs::write(&big, content()).unwrap();
        sh(&format!(
            "mount -t tmpfs -o mode=755 none {2}; chmod 755 {3} {3}/home; chown -R 1500:1500 {0}; chmod {mode} {0}; chmod 644 {1}",
            home.display(),
            big.display(),
            there.display(),
            world.dir.display()
        ));
        let receipt = world.run(plan(&world, &big, &there));
        assert!(receipt.is_clean(), "{receipt:?}");
        let moved = fs::metadata(there.join("big")).unwrap();
        assert_eq!((moved.uid(), moved.mode() & 0o7777), (1500, given), "{mode}");
        let engine = || {
            let journal = Journal::open(&world.environment, &world.settings);
            Engine::new(world.environment.clone(), world.settings.clone(), journal)
        };
        // Not while the directory is somebody else's, who would get it.
        sh(&format!("chown 1600 {}", home.display()));
        let basket = engine().undo(None, &world.snapshot()).unwrap().basket;
        assert_eq!(world.run_all(basket, &|_| {}).count(), 0);
        sh(&format!("chown 1500 {}", home.display()));
        let basket = engine().undo(None, &world.snapshot()).unwrap().basket;
        let receipt = world.run_all(basket, &|_| {});
        assert!(receipt.is_clean() && receipt.count() == 1, "{:?}", receipt.parts);
        let back = fs::metadata(&big).unwrap();
        assert_eq!((back.uid(), back.gid(), back.mode() & 0o7777), (1500, 1500, 0o644), "{mode}");
        assert!(fs::read(&big).unwrap() == content() && !there.join("big").exists());
    }
}

#[test]
fn who_opens_the_file_does_not_wait_for_the_copy() {
    let two = Two::new();
    let opener = std::sync::Mutex::new(None);
    let receipt = two.world.run_with(two.plan(), &|progress| {
        if progress.done == 10 {
            // Held up here as by a slow disk: it gets the file all the same.
            let began = std::time::Instant::now();
            drop(fs::File::open(&two.big).unwrap());
            *opener.lock().unwrap() = Some(began.elapsed());
        }
    });
    let waited: Option<std::time::Duration> = opener.into_inner().unwrap();
    assert!(why(&receipt).contains("somebody opened"), "{receipt:?}");
    assert!(waited.unwrap() < std::time::Duration::from_millis(500), "{waited:?}");
    assert!(two.is_here() && two.names().is_empty());
}
