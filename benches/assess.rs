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

use std::env;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use unwedge::config::{Environment, Settings, TerminalTraits};
use unwedge::domain::snapshot::Snapshot;
use unwedge::engine::Engine;
use unwedge::journal::Journal;

/// Threads of a process that has more than one.
const THREADS: usize = 10;

fn number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    match env::var("UNWEDGE_BENCH_PART").as_deref() {
        Ok("threads") => stay(),
        Ok(_) => inside(),
        Err(_) => {
            let status = Command::new("unshare")
                .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"])
                .arg(env::current_exe().expect("this program has a path"))
                .env("UNWEDGE_BENCH_PART", "inside")
                .status()
                .expect("unshare(1) is installed");
            assert!(status.success(), "{status}");
        }
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
    let this = env::current_exe().expect("this program has a path");
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
        start(Command::new(&this).env("UNWEDGE_BENCH_PART", "threads"));
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn assess() {
    let environment = Environment {
        root: "/".into(),
        uid: 0,
        person: 0,
        home: "/root".into(),
        state_home: "/root".into(),
        config_home: "/root".into(),
        run_dir: "/root".into(),
        self_exe: "/".into(),
        config_files: Vec::new(),
        engine_variables: std::collections::BTreeMap::new(),
        terminal: TerminalTraits { colour: false, unicode: true },
    };
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
