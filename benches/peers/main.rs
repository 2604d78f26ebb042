//! The scanner beside its peers: one command finds or builds them, makes the trees, runs everybody in turn and
//! writes the ratios as Markdown.
//!
//! ```console
//! # cargo bench --bench peers                                    # every world, five rounds
//! # UNWEDGE_BENCH_WORLDS=small,small-cold cargo bench --bench peers
//! # UNWEDGE_BENCH_TREE=/usr UNWEDGE_BENCH_WORLDS=own cargo bench --bench peers
//! # UNWEDGE_BENCH_CLEAN=1 cargo bench --bench peers              # unmounts and removes what it made
//! ```
//!
//! As root each tree is a small ext4 file system of its own in an image below `target/bench`, so that both ways of
//! reading can be measured; else it is a plain directory, and reading from the device is left out. Images are kept
//! between runs. A cold world needs root, too: the caches are dropped before each run. `xfs-cold` is the tree of
//! `ext4-cold` on XFS.
//!
//! | variable | meaning |
//! |---|---|
//! | `UNWEDGE_BENCH_WORLDS` | which: `tree`, `tree-cold`, `wide`, `chain`, `small`, `small-cold`, `ext4-cold`, `xfs-cold`, `root` (`/`), `own` |
//! | `UNWEDGE_BENCH_TREE` | the directory of the world `own` |
//! | `UNWEDGE_BENCH_PROGRAMS` | which, by their names in the table without the version; the first row is always there |
//! | `UNWEDGE_BENCH_ROUNDS` | rounds that count, 5; with 0 only the peers and the trees are made |
//! | `UNWEDGE_BENCH_ENTRIES`, `…_WIDE`, `…_CHAIN`, `…_SMALL`, `…_COLD` | sizes: 1000000, 245000, 25000, 50000, 134000 |
//! | `UNWEDGE_BENCH_PEERS` | a directory that has the peers, instead of `target/peers/bin` |
//! | `UNWEDGE_BENCH_MORE` | `1` adds to the rounds of earlier runs, so that a long run can be made in pieces |
//! | `UNWEDGE_BENCH_WRITE_README` | `1` writes the summary into README.md, too |
//!
//! jwalk is a library: it is a dependency of this bench. dua, diskus, pdu and dust are installed into `target/peers` with `cargo install`; gdu, ncdu and du are taken
//! from the machine, and as root installed with apt-get where they are missing. What is not to be had is said.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a benchmark starts programs, makes trees below target/ and prints"
)]

mod figures;
mod jwalk;
mod programs;
mod reference;
mod table;
mod trees;

use std::env;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use figures::{Sample, Store};
use programs::Program;
use trees::World;

fn main() {
    // Cargo passes `--bench`; two of the rows are this program again.
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if let [flag, path] = arguments.as_slice() {
        if flag == reference::FLAG {
            std::process::exit(reference::main(Path::new(path)));
        }
        if flag == jwalk::FLAG {
            std::process::exit(jwalk::main(Path::new(path)));
        }
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let home = target.join("bench");
    if is_set("UNWEDGE_BENCH_CLEAN") {
        trees::clean(&home);
        return;
    }
    fs::create_dir_all(&home).expect("making target/bench");
    let programs = programs::all(&target);
    let rounds = number("UNWEDGE_BENCH_ROUNDS", 5);
    let mut store = Store::open(&home.join("figures.jsonl"), is_set("UNWEDGE_BENCH_MORE"));
    let session = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let worlds = list("UNWEDGE_BENCH_WORLDS").unwrap_or_else(|| trees::NAMES.map(str::to_owned).to_vec());
    for name in worlds {
        // A tree is unmounted before the next one is made.
        if let Some(world) = trees::world(&home, &name) {
            run(&world, &programs, rounds, session, &mut store);
        }
    }
    if rounds > 0 {
        table::write(&home.join("peers.md"), store.samples());
    }
}

/// Runs everybody in turn on one tree. The round before the first warms the caches and tells what each counts.
fn run(world: &World, programs: &[Program], rounds: usize, session: u64, store: &mut Store) {
    if rounds == 0 {
        return;
    }
    eprintln!("{}: {}", world.name, world.about);
    let mut takes_part = Vec::new();
    let mut expected = None;
    for program in programs {
        if world.has_mounts && !program.stays {
            eprintln!("left out: {} does not stay on one file system", program.name);
            continue;
        }
        match figures::trial(program, world.path()) {
            Ok(trial) => {
                if program.is_du() {
                    expected = Some(trial.counted);
                }
                takes_part.push((program, trial));
            }
            Err(why) => eprintln!("left out: {}: {why}", program.name),
        }
    }
    for round in 1..=rounds {
        for (program, trial) in &takes_part {
            if world.cold {
                trees::drop_caches();
            }
            let run = figures::run(program, world.path());
            let share = |du: u64| share(trial.counted, du);
            store.add(Sample {
                world: world.name.clone(),
                about: world.about.clone(),
                program: program.name.clone(),
                session,
                round,
                run,
                exit: trial.exit,
                share: expected.map(share),
            });
        }
        eprintln!("round {round} of {rounds}");
    }
}

/// The part of what du counts that a program counts.
#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
fn share(counted: u64, du: u64) -> f64 {
    counted as f64 / du.max(1) as f64
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| value == "1")
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn list(name: &str) -> Option<Vec<String>> {
    let text = env::var(name).ok()?;
    Some(text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect())
}
