//! What is wrong with the machine, without a scan: every probe, and every rule after them.
//!
//! ```console
//! # cargo bench --bench assess
//! # UNWEDGE_BENCH_TASKS=5000 UNWEDGE_BENCH_ROUNDS=15 cargo bench --bench assess
//! ```
//!
//! As root: the processes live in a pid and a mount namespace of their own and are gone with them. Half of the tasks are
//! threads, ten in a process. Growth is not measured, because it waits between its looks. Beside it stands `ps -eLf`, which
//! reads three files of each task.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::zombie_processes,
    reason = "a benchmark starts programs and prints"
)]

mod common;

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{environment, median, number};
use unwedge::config::Settings;
use unwedge::domain::snapshot::Snapshot;
use unwedge::engine::Engine;
use unwedge::journal::Journal;

/// Threads of a process that has more than one.
const THREADS: usize = 10;

fn main() {
    match common::part().as_deref() {
        Some("threads") => stay(),
        Some(_) => inside(),
        None => common::inside_own_namespaces(),
    }
}

/// A process with some threads, until it is killed.
fn stay() {
    for _ in 1..THREADS {
        thread::spawn(|| thread::sleep(Duration::MAX));
    }
    thread::sleep(Duration::MAX);
}

fn inside() {
    let (tasks, rounds) = (number("UNWEDGE_BENCH_TASKS", 300), number("UNWEDGE_BENCH_ROUNDS", 15));
    let start = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("there is room for another process");
    };
    for _ in 0..tasks / 2 {
        start(Command::new("sleep").arg("infinity"));
    }
    for _ in 0..tasks / 2 / THREADS {
        start(&mut common::again("threads"));
    }
    thread::sleep(Duration::from_secs(2));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let began = Instant::now();
        let listed = Command::new("ps").arg("-eLf").stdout(Stdio::null()).status();
        assert!(listed.expect("ps(1) is installed").success());
        let ps = began.elapsed();
        let began = Instant::now();
        assess();
        let unwedge = began.elapsed();
        // Round 0 warms up.
        if round > 0 {
            theirs.push(ps);
            ours.push(unwedge);
        }
    }
    println!(
        "{tasks} tasks, medians of {rounds}: unwedge {:.2?}, ps -eLf {:.2?}",
        median(ours),
        median(theirs)
    );
}

fn assess() {
    let environment = environment(Path::new("/root"));
    let mut settings = Settings::default();
    settings.probe.deadline_ms = 60_000;
    settings.growth.interval_ms = 0;
    let journal = Journal::open(&environment, &settings);
    let engine = Engine::new(environment, settings, journal);
    let snapshot = Mutex::new(Snapshot::pending(jiff::Timestamp::now()));
    let began = Instant::now();
    engine.probe(&|part| {
        if env::var_os("UNWEDGE_BENCH_MORE").is_some() {
            println!("{:>8.1?} {:.40}", began.elapsed(), format!("{part:?}"));
        }
        snapshot.lock().expect("nothing panicked").merge(part);
    });
    engine.findings(&snapshot.into_inner().expect("nothing panicked"));
}
