//! Deleted files that are still open, beside `lsof +L1`: 2,000 processes with 50 descriptors each.
//!
//! ```console
//! # cargo bench --bench deleted
//! # UNWEDGE_BENCH_PROCESSES=300 UNWEDGE_BENCH_ROUNDS=15 cargo bench --bench deleted
//! ```
//!
//! As root: the processes live in a pid and a mount namespace of their own and are gone with them. Both must find all
//! files, or there is no figure.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::zombie_processes,
    reason = "a benchmark starts programs, makes files on a tmpfs of its own and prints"
)]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{environment, median, number};
use jiff::Timestamp;
use rustix::io::{FdFlags, fcntl_setfd};
use unwedge::config::Settings;
use unwedge::probe::{Context, deleted};

/// Descriptors of a process, its standard ones included.
const DESCRIPTORS: usize = 50;
/// One process of so many holds a deleted file.
const EVERY: usize = 20;

fn main() {
    match common::part() {
        Some(_) => inside(),
        None => common::inside_own_namespaces(),
    }
}

fn inside() {
    let (processes, rounds) = (number("UNWEDGE_BENCH_PROCESSES", 2000), number("UNWEDGE_BENCH_ROUNDS", 9));
    let status = Command::new("mount").args(["-t", "tmpfs", "none", "/mnt"]).status();
    assert!(status.expect("mount(8) is installed").success());
    for number in 0..processes {
        start(number);
    }
    let files = processes.div_ceil(EVERY);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    // Round 0 warms up and is not counted. Whoever is first in a round is second in the next.
    for round in 0..=rounds {
        let mut times = [Duration::ZERO; 2];
        for turn in [round % 2, (round + 1) % 2] {
            let began = Instant::now();
            let found = if turn == 0 { lsof() } else { look() };
            if let Some(slot) = times.get_mut(turn) {
                *slot = began.elapsed();
            }
            assert_eq!(found, files, "{}", if turn == 0 { "lsof" } else { "unwedge" });
        }
        if round > 0 {
            let [lsof, unwedge] = times;
            println!("round {round}: lsof +L1 {lsof:.1?}, unwedge {unwedge:.1?}");
            theirs.push(lsof);
            ours.push(unwedge);
        }
    }
    let (theirs, ours) = (median(theirs), median(ours));
    println!(
        "{processes} processes, medians: lsof +L1 {theirs:.1?}, unwedge {ours:.1?}, {:.1} times as fast",
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// A process with descriptors of its own, some of a file that is deleted.
fn start(number: usize) {
    let held: Vec<File> = (3..DESCRIPTORS)
        .map(|fd| {
            let path = Path::new("/mnt").join(format!("{number}-{fd}"));
            let file = File::create(&path).expect("the tmpfs has room");
            if fd == 3 && number.is_multiple_of(EVERY) {
                std::fs::remove_file(&path).expect("it was made just now");
            }
            fcntl_setfd(&file, FdFlags::empty()).expect("it is open");
            file
        })
        .collect();
    let mut command = Command::new("sleep");
    command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("there is room for another process");
    drop(held);
}

fn lsof() -> usize {
    let output = Command::new("lsof").args(["-n", "-P", "+L1"]).output().expect("lsof(8) is installed");
    let lines = output.stdout.split(|&byte| byte == b'\n');
    lines.filter(|line| line.windows(6).any(|part| part == b" /mnt/")).count()
}

fn look() -> usize {
    let environment = environment(Path::new("/root"));
    let mut settings = Settings::default();
    settings.probe.deadline_ms = 60_000;
    let context = Context {
        environment: &environment,
        settings: &settings,
        now: Timestamp::now(),
        memory: None,
        shared: None,
    };
    let reading = deleted::look(&context);
    let files = reading.value().expect("the processes can be looked into");
    files.iter().filter(|file| file.last_path.as_path().starts_with("/mnt")).count()
}
