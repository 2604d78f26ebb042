//! The scanner beside its peers: one command builds what is missing, makes the trees, runs everybody in turn and
//! prints ratios as Markdown.
//!
//! ```console
//! # cargo bench --bench peers                          # a million entries, five rounds, warm
//! # UNWEDGE_BENCH_ENTRIES=100000 UNWEDGE_BENCH_ROUNDS=9 cargo bench --bench peers
//! # UNWEDGE_BENCH_TREE=/usr cargo bench --bench peers   # a tree of your own
//! # UNWEDGE_BENCH_COLD=1 cargo bench --bench peers      # as root: the caches are dropped before each run
//! ```
//!
//! dua, diskus, pdu and dust are installed into `target/peers` with `cargo install`; gdu, ncdu and du are taken
//! from the machine (`apt-get install gdu ncdu coreutils`). A peer that is not to be had is left out, and said.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a benchmark starts programs, makes trees below target/ and prints"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A program to measure: its name in the table and its command line, the tree's path last.
struct Runner {
    name: String,
    command: Vec<String>,
}

/// What one run took.
#[derive(Clone, Copy)]
struct Run {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let tree = match env::var_os("UNWEDGE_BENCH_TREE") {
        Some(path) => PathBuf::from(path),
        None => make_tree(&target, number("UNWEDGE_BENCH_ENTRIES", 1_000_000)),
    };
    let rounds = number("UNWEDGE_BENCH_ROUNDS", 5).max(1);
    let cold = env::var_os("UNWEDGE_BENCH_COLD").is_some();
    let runners = runners(&target);
    eprintln!("{} programs, {rounds} rounds on {}", runners.len(), tree.display());
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); runners.len()];
    // Round 0 warms the caches and is not counted.
    for round in 0..=rounds {
        for (runner, runs) in runners.iter().zip(&mut runs) {
            if cold {
                drop_caches();
            }
            let run = measure(runner, &tree);
            if let Some(run) = run.filter(|_| round > 0) {
                runs.push(run);
            }
        }
        eprintln!("round {round} of {rounds}");
    }
    print_table(&runners, &runs, &tree, rounds, cold);
}

fn runners(target: &Path) -> Vec<Runner> {
    let peers = target.join("peers/bin");
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let ours = env!("CARGO_BIN_EXE_unwedge");
    let mut all = vec![
        runner("unwedge, ordinary calls", &[ours, "scan", "--method", "calls"]),
        runner("unwedge", &[ours, "scan"]),
    ];
    for (package, program, arguments) in [
        ("diskus", "diskus", &[][..]),
        ("parallel-disk-usage", "pdu", &["--max-depth=1"]),
        ("du-dust", "dust", &["-P", "-d1"]),
        ("dua-cli", "dua", &["aggregate"]),
    ] {
        let path = peers.join(program);
        if !path.exists() {
            eprintln!("installing {package} into {}", peers.display());
            let done = Command::new(env!("CARGO"))
                .args(["install", "--quiet", "--locked", "--root"])
                .arg(target.join("peers"))
                .arg(package)
                .status();
            if !done.is_ok_and(|status| status.success()) {
                eprintln!("left out: {package} could not be installed");
                continue;
            }
        }
        let path = text(path);
        let command: Vec<&str> = std::iter::once(path.as_str()).chain(arguments.iter().copied()).collect();
        all.push(runner(program, &command));
    }
    for command in
        [&["du", "-s", "-x"][..], &["ncdu", "-0", "-x", "-o", "/dev/null"], &["gdu", "-n", "-p", "-x"]]
    {
        let Some(program) = command.first() else { continue };
        let there =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_ok_and(|status| status.success()) {
            all.push(runner(&with_version(program), command));
        } else {
            eprintln!("left out: {program} is not installed");
        }
    }
    all
}

fn runner(name: &str, command: &[&str]) -> Runner {
    Runner { name: name.to_owned(), command: command.iter().map(|&word| word.to_owned()).collect() }
}

/// The name with the version that the program says it has.
fn with_version(program: &str) -> String {
    let said =
        Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let version = said
        .split_whitespace()
        .find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()));
    version.map_or_else(|| program.to_owned(), |version| format!("{program} {version}"))
}

/// One run, by GNU time, which knows the peak memory of its child.
fn measure(runner: &Runner, tree: &Path) -> Option<Run> {
    // Not from standard error, where some programs leave half a line.
    let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-figures");
    let began = Instant::now();
    let ran = Command::new("/usr/bin/time")
        .args(["-f", "%U %S %M", "-o"])
        .arg(&figures)
        .args(&runner.command)
        .arg(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let wall = began.elapsed().as_secs_f64();
    ran.expect("GNU time is needed: apt-get install time");
    let said = fs::read_to_string(&figures).unwrap_or_default();
    let mut fields = said.lines().last()?.split(' ').map(|field| field.parse::<f64>().ok());
    let (user, system, kib) = (fields.next()??, fields.next()??, fields.next()??);
    Some(Run { wall, cpu: user + system, peak_mib: kib / 1024.0 })
}

fn drop_caches() {
    let _ = Command::new("sync").status();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping the caches needs root");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_table(runners: &[Runner], runs: &[Vec<Run>], tree: &Path, rounds: usize, cold: bool) {
    let first: Vec<f64> = runs.first().into_iter().flatten().map(|run| run.wall).collect();
    println!(
        "\nMedians of {rounds} rounds, {}, in turn, on {}:\n",
        if cold { "cold" } else { "warm" },
        tree.display()
    );
    println!("| program | wall s | ratio to the first | CPU s | peak MiB |\n|---|--:|--:|--:|--:|");
    for (runner, runs) in runners.iter().zip(runs) {
        // Round by round, so that a noisy moment hits both sides of a ratio.
        let ratios = runs.iter().zip(&first).map(|(run, first)| run.wall / first).collect();
        let of = |field: fn(&Run) -> f64| median(runs.iter().map(field).collect());
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.0} |",
            runner.name,
            of(|run| run.wall),
            median(ratios),
            of(|run| run.cpu),
            of(|run| run.peak_mib)
        );
    }
}

/// A tree like those of package registries: directories of a dozen small files, names that repeat, three levels
/// deep. Made once; files are empty but for every hundredth, since only the entries are read.
fn make_tree(target: &Path, entries: usize) -> PathBuf {
    const FILES: [&str; 11] = [
        "Cargo.toml",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "lib.rs",
        "mod.rs",
        "index.js",
        "package.json",
        "tests.rs",
        "types.d.ts",
        "CHANGELOG.md",
    ];
    let tree = target.join(format!("bench-tree-{entries}"));
    let complete = tree.join(".complete");
    if complete.exists() {
        return tree;
    }
    eprintln!("making {entries} entries in {}", tree.display());
    let mut made = 0;
    let mut number = 0;
    while made < entries {
        let package = tree.join(format!("group-{}/package-{number}/src", number / 400));
        fs::create_dir_all(&package).expect("making the tree");
        made += 2;
        for (at, name) in FILES.iter().enumerate() {
            let contents = if (made + at) % 100 == 0 { vec![b'x'; 5000] } else { Vec::new() };
            let dir = if at < 4 { package.parent().unwrap_or(&package) } else { &package };
            fs::write(dir.join(name), contents).expect("making the tree");
            made += 1;
        }
        number += 1;
    }
    fs::write(&complete, "").expect("making the tree");
    tree
}
