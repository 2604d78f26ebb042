//! Taking back: what a killed run had set aside gets its name again, and what cannot be taken back is said.
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
use std::path::Path;
use std::process::Command;

use common::{World, choose, leftovers, sh};
use unwedge::actions::Request;
use unwedge::engine::Engine;
use unwedge::engine::undo::Undoing;
use unwedge::journal::Journal;

const FILES: usize = 3000;

fn fill(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for number in 0..FILES {
        fs::write(dir.join(format!("f{number}")), b"x").unwrap();
    }
}

/// A world in which a run was killed while it deleted `tree`, after one that deleted `gone` whole.
fn killed(test: &str) -> World {
    const PLACE: &str = "UNWEDGE_TEST_KILLED";
    let mut world = World::new();
    if let Some(place) = std::env::var_os(PLACE) {
        // The inner run: it is killed in the middle.
        world.dir = place.into();
        world.settings.journal.dir = format!("{}/journal", world.dir.display());
        world.run_with(world.plan(&Request::Delete(vec![choose(&world.path("tree"))])), &|progress| {
            if progress.done >= 1000 {
                sh(&format!("kill -KILL {}", std::process::id()));
            }
        });
        panic!("it was not killed");
    }
    fs::write(world.path("gone"), b"x").unwrap();
    assert!(world.delete(&[&world.path("gone")]).is_clean());
    fill(&world.path("tree/sub"));
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact"])
        .env(PLACE, &world.dir)
        // It cannot clean up after itself: its own temporary directory goes with ours.
        .env("TMPDIR", &world.dir)
        .output()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9));
    assert!(!world.path("tree").exists() && leftovers(&world.dir).len() == 1);
    world
}

fn undo(world: &World, run: Option<&str>) -> Result<Undoing, String> {
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    engine.undo(run, &world.snapshot())
}

#[test]
fn what_a_killed_run_had_set_aside_is_put_back() {
    let world = killed("what_a_killed_run_had_set_aside_is_put_back");
    let undoing = undo(&world, None).unwrap();
    assert_eq!(undoing.basket.items(), 1, "{undoing:?}");
    let said: Vec<&str> = undoing.final_runs.iter().filter_map(|run| run.undo.as_deref()).collect();
    assert_eq!(said, ["cannot be undone"], "the whole delete is gone for good");
    let receipt = world.run_all(undoing.basket, &|_| {});
    assert!(receipt.is_clean() && receipt.count() == 1, "{:?}", receipt.parts);
    let left = fs::read_dir(world.path("tree/sub")).unwrap().count();
    assert!(0 < left && left < FILES, "{left}: what was removed is gone, the rest is back");
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
    // Now there is nothing more.
    assert!(undo(&world, None).unwrap().basket.is_empty());
}

#[test]
fn nothing_is_put_in_the_place_of_something_else() {
    let world = killed("nothing_is_put_in_the_place_of_something_else");
    let planned_before = undo(&world, None).unwrap();
    fs::create_dir(world.path("tree")).unwrap();
    fs::write(world.path("tree/new"), b"new").unwrap();
    // Known beforehand: refused with the place where it is. Found out by the change itself: skipped.
    let undoing = undo(&world, None).unwrap();
    assert!(undoing.basket.is_empty());
    assert!(undoing.basket.refused[0].why.contains(".unwedge-quarantine-"), "{undoing:?}");
    let receipt = world.run_all(planned_before.basket, &|_| {});
    assert_eq!(receipt.count(), 0, "{:?}", receipt.parts);
    assert_eq!(fs::read(world.path("tree/new")).unwrap(), b"new");
    assert_eq!(leftovers(&world.dir).len(), 1);
}

#[test]
fn a_run_can_be_named_and_a_wrong_name_says_so() {
    let world = killed("a_run_can_be_named_and_a_wrong_name_says_so");
    let reading = Journal::open(&world.environment, &world.settings).past();
    let past = reading.value().unwrap();
    assert_eq!(past.len(), 2);
    assert!(undo(&world, Some(&past[0].run)).unwrap().basket.is_empty(), "it deleted all it set out to");
    assert_eq!(undo(&world, Some(&past[1].run)).unwrap().basket.items(), 1);
    assert!(undo(&world, Some("1-2-3")).unwrap_err().contains("no run"));
}
