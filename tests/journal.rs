//! The journal: a begin and an end for every run, wherever there is still room for them.
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
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{World, choose, inside_mount_namespace, sh};
use unwedge::actions::Request;
use unwedge::domain::plan::Plan;
use unwedge::domain::reading::Reading;
use unwedge::journal::{Journal, RunState};

/// A world whose whole machine is below its own directory: only the journal is used with it.
fn fixture() -> World {
    let mut world = World::new();
    world.environment.root = world.dir.clone();
    world.settings.journal.dir = String::new();
    world.environment.uid = 0;
    // Records tell by proc whether their run still lives.
    std::os::unix::fs::symlink("/proc", world.path("proc")).unwrap();
    world
}

fn a_plan(world: &World) -> Plan {
    let file = world.path("odd\u{1b}[2J");
    fs::write(&file, b"x").unwrap();
    world.plan(&Request::Delete(vec![choose(&file)]))
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn first_place(world: &World) -> PathBuf {
    world.path("var/log/unwedge/journal.jsonl")
}

#[test]
fn a_run_is_on_record_from_before_its_first_change_to_its_end() {
    let world = World::new();
    let file = world.path("f");
    fs::write(&file, b"x").unwrap();
    let plan = world.plan(&Request::Delete(vec![choose(&file)]));
    let path = world.path("journal/journal.jsonl");
    let receipt = world.run_with(plan, &|progress| {
        if progress.step == 0 && progress.done == 0 {
            let begun = lines(&path);
            assert_eq!(begun.len(), 1);
            assert_eq!(begun[0]["record"], "begin");
            assert!(file.exists(), "changed before it was on record");
        }
    });
    let records = lines(&path);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["schema_version"], 1);
    assert_eq!(records[0]["ops"][0], format!("delete {}", file.display()));
    assert_eq!(records[0]["plan"]["steps"][0]["op"]["op"], "remove_file");
    assert_eq!(records[0]["run"], records[1]["run"]);
    assert_eq!(records[1]["state"], "complete");
    assert_eq!(records[1]["receipt"]["steps"][0]["outcome"]["outcome"], "done");
    assert_eq!(receipt.journal, format!("written to {}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let Reading::Ready { value } = Journal::open(&world.environment, &world.settings).history() else {
        panic!("history is not complete")
    };
    assert_eq!(value.len(), 1);
    assert_eq!((value[0].state, value[0].outcome.as_str()), (RunState::Complete, "done"));
    assert_eq!(value[0].action, "delete");
    assert_eq!(value[0].steps[0].outcome, "done (1)");
    assert!(value[0].to_string().contains("delete"));
}

#[test]
fn nothing_is_made_before_something_is_written() {
    let world = fixture();
    let journal = Journal::open(&world.environment, &world.settings);
    assert_eq!(journal.history(), Reading::Ready { value: Vec::new() });
    assert!(!world.path("var").exists());
    assert_eq!(journal.note(), None);
}

#[test]
fn a_run_that_panics_is_recorded_as_interrupted() {
    let world = fixture();
    let journal = Journal::open(&world.environment, &world.settings);
    let plan = a_plan(&world);
    let broke = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _run = journal.begin(&plan);
        panic!("on purpose");
    }));
    assert!(broke.is_err());
    let records = lines(&first_place(&world));
    assert_eq!(records[1]["state"], "interrupted");
    let history = journal.history();
    assert_eq!(history.value().unwrap()[0].state, RunState::Interrupted);
}

#[test]
fn a_run_without_an_end_is_running_while_its_process_lives_and_interrupted_after() {
    let world = fixture();
    let journal = Journal::open(&world.environment, &world.settings);
    std::mem::forget(journal.begin(&a_plan(&world)));
    assert_eq!(journal.history().value().unwrap()[0].state, RunState::Running);
    let path = first_place(&world);
    let us = format!("\"run\":\"{}-", std::process::id());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&us));
    fs::write(&path, text.replace(&us, "\"run\":\"999999999-")).unwrap();
    let history = journal.history();
    let record = &history.value().unwrap()[0];
    assert_eq!(record.state, RunState::Interrupted);
    assert!(record.outcome.contains(".unwedge-quarantine-999999999-"), "{record}");
    assert!(!format!("{record} {}", record.steps[0].op).contains('\u{1b}'));
}

#[test]
fn a_torn_line_loses_only_itself_and_the_next_record_is_whole() {
    let world = fixture();
    let journal = Journal::open(&world.environment, &world.settings);
    drop(journal.begin(&a_plan(&world)));
    let path = first_place(&world);
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"schema_version\":1,\"record\":\"beg\xff");
    fs::write(&path, text).unwrap();
    drop(journal.begin(&a_plan(&world)));
    let Reading::Partial { value, missing } = journal.history() else { panic!("the tear was not told") };
    assert_eq!(value.len(), 2);
    assert!(missing[0].starts_with("1 lines"), "{missing:?}");
    assert!(value.windows(2).all(|pair| pair[0].time <= pair[1].time));
}

#[test]
fn a_full_disk_sends_records_to_run_and_that_is_said() {
    if !inside_mount_namespace("a_full_disk_sends_records_to_run_and_that_is_said") {
        return;
    }
    let world = fixture();
    let log = world.path("var/log");
    fs::create_dir_all(&log).unwrap();
    sh(&format!("mount -t tmpfs -o size=64k none {}", log.display()));
    let journal = Journal::open(&world.environment, &world.settings);
    let plan = a_plan(&world);
    drop(journal.begin(&plan));
    assert_eq!(journal.note(), None);
    let path = first_place(&world);
    let before = lines(&path).len();
    // Full but for the rest of the journal's last page, into which a record fits in part.
    sh(&format!("dd if=/dev/zero of={}/filler bs=512 2>/dev/null || :", log.display()));
    for _ in 0..4 {
        drop(journal.begin(&plan));
    }
    let note = journal.note().expect("it did not say so");
    assert!(note.contains("No space left") || note.contains("full"), "{note}");
    assert!(note.contains("run/unwedge"), "{note}");
    let fallback = lines(&world.path("run/unwedge/journal.jsonl"));
    assert!(!fallback.is_empty());
    let written = (lines(&path).len() - before) + fallback.len();
    assert_eq!(written, 8, "each record whole in one place");
    let history = journal.history();
    assert_eq!(history.value().unwrap().len(), 5, "all places are read");
    sh(&format!("umount {}", log.display()));
}

#[test]
fn with_no_room_anywhere_the_run_goes_on_and_says_so() {
    let mut world = World::new();
    let file = world.path("f");
    fs::write(&file, b"x").unwrap();
    // Neither place can be made: each is below something that is no directory.
    fs::write(world.path("plain"), b"").unwrap();
    world.settings.journal.dir = world.path("plain/journal").to_str().unwrap().to_owned();
    world.environment.uid = u32::MAX - 7;
    if Path::new(&format!("/run/user/{}", world.environment.uid)).exists() {
        return common::skip("somebody has a runtime directory for the unlikely user");
    }
    if !inside_mount_namespace("with_no_room_anywhere_the_run_goes_on_and_says_so") {
        return;
    }
    // As root everything can be made, unless /run is read-only.
    sh("mount -t tmpfs -o ro none /run");
    let receipt = world.run(world.plan(&Request::Delete(vec![choose(&file)])));
    assert!(receipt.is_clean() && !file.exists());
    assert!(receipt.journal.contains("not on record"), "{}", receipt.journal);
}

#[test]
fn a_journal_that_is_a_symlink_is_not_written_through() {
    let world = fixture();
    let path = first_place(&world);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(world.path("victim"), b"").unwrap();
    std::os::unix::fs::symlink(world.path("victim"), &path).unwrap();
    let journal = Journal::open(&world.environment, &world.settings);
    drop(journal.begin(&a_plan(&world)));
    assert_eq!(fs::read(world.path("victim")).unwrap(), b"");
    assert!(journal.note().unwrap().contains("run/unwedge"));
}
