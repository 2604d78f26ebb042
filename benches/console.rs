//! How quick the console is, seen from the other end of its terminal: first sizes, keys, frames, what it costs the
//! scan, what it costs when nothing happens.
//!
//! ```console
//! # cargo bench --bench console                              # /usr, five rounds
//! # UNWEDGE_BENCH_TREE=/srv UNWEDGE_BENCH_ROUNDS=9 cargo bench --bench console
//! # UNWEDGE_BENCH_METHOD=calls cargo bench --bench console   # or raw, auto
//! # UNWEDGE_BENCH_ONLY=keys cargo bench --bench console      # start, keys, cost, flat or idle
//! # UNWEDGE_BENCH_PROGRAM=/tmp/before cargo bench --bench console   # another build, to compare with
//! ```
//!
//! The time of a key is that from writing it to the terminal until the emulator has the cursor on another row.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a benchmark starts programs, makes trees below target/, and prints figures of three digits"
)]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Columns and rows of the terminal: the tree and the other panes side by side.
const SIZE: (u16, u16) = (120, 40);
/// Columns of the tree.
const TREE: u16 = SIZE.0 * 54 / 100;
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// Time between two keys: as a held key repeats.
const REPEAT: Duration = Duration::from_millis(33);
/// Entries of the flat directory.
const FLAT: usize = 250_000;

fn main() {
    let tree = env::var_os("UNWEDGE_BENCH_TREE").map_or_else(|| PathBuf::from("/usr"), PathBuf::from);
    let rounds = env::var("UNWEDGE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5).max(1);
    let method = env::var("UNWEDGE_BENCH_METHOD").unwrap_or_else(|_| "auto".to_owned());
    let only = env::var("UNWEDGE_BENCH_ONLY").unwrap_or_default();
    let wants = |part: &str| only.is_empty() || only == part;
    println!("\nMedians of {rounds} rounds on {}, --set scan.method={method}:\n", tree.display());
    println!("| what | median | p99 | most | of |\n|---|--:|--:|--:|--:|");
    // The first warms the caches.
    scan(&tree, &method);
    if wants("start") {
        start(&tree, &method, rounds);
    }
    if wants("keys") {
        keys(&tree, &method, rounds);
    }
    if wants("cost") {
        cost(&tree, &method, rounds);
    }
    if wants("flat") {
        flat(&method);
    }
    if wants("idle") {
        idle(&tree, &method);
    }
}

/// From the start of the program to the first rows with sizes; the console quits right after, amid the scan.
fn start(tree: &Path, method: &str, rounds: usize) {
    let (mut frames, mut sizes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds * 4 {
        let mut console = Console::start(tree, method);
        let began = console.began;
        frames.push(console.until(|seen| seen.text().contains("unwedge")).saturating_duration_since(began));
        sizes.push(console.until(Seen::has_sizes).saturating_duration_since(began));
        let asked = Instant::now();
        console.press("q");
        console.ended();
        ends.push(asked.elapsed());
    }
    row("exec to the first frame, ms", &frames);
    row("exec to the first sizes, ms", &sizes);
    row("q during the scan to the end of the process, ms", &ends);
}

/// Keys while the scan runs.
fn keys(tree: &Path, method: &str, rounds: usize) {
    let mut took = Vec::new();
    for _ in 0..rounds * 2 {
        let mut console = Console::start(tree, method);
        console.until(Seen::has_sizes);
        for at in 0.. {
            if console.seen().text().contains("scanned") {
                break;
            }
            took.extend(console.moves(if at % 2 == 0 { "j" } else { "k" }));
        }
    }
    row("key to the moved cursor during the scan, ms", &took);
}

/// What the scan takes with and without the console, in turn, and how often the directory on the screen changes.
fn cost(tree: &Path, method: &str, rounds: usize) {
    let (mut alone, mut with, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut bytes, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(scan(tree, method));
        let console = Console::start(tree, method);
        let first = console.until(Seen::has_sizes);
        let end = console.until(|seen| seen.text().contains("scanned"));
        let wall = end.saturating_duration_since(console.began);
        with.push(wall);
        shares.push(console.cpu_of_the_screen().as_secs_f64() / wall.as_secs_f64() / 2.0 * 100.0);
        let seen = console.seen();
        let changes: Vec<Instant> =
            seen.changes.iter().copied().filter(|at| (first..=end).contains(at)).collect();
        let span = end.saturating_duration_since(first).as_secs_f64();
        rates.push(changes.len() as f64 / span);
        bytes.push(seen.bytes as f64 / 1024.0 / span);
        for pair in changes.windows(2) {
            if let [before, after] = pair {
                gaps.push(after.saturating_duration_since(*before));
            }
        }
    }
    row("unwedge scan, ms", &alone);
    row("exec to \"scanned\" on the screen, ms", &with);
    row("time between two changes of the rows, ms", &gaps);
    figures("changes of the rows in a second", &rates);
    figures("KiB sent to the terminal in a second", &bytes);
    figures("CPU of the threads that list and draw, % of two CPUs", &shares);
}

/// Keys in a directory of a quarter of a million files, when all is read.
fn flat(method: &str) {
    let dir = make_flat();
    let mut console = Console::start(&dir, method);
    let began = console.began;
    let first = console.until(Seen::has_sizes).saturating_duration_since(began);
    let all = console.until(|seen| seen.text().contains("scanned")).saturating_duration_since(began);
    row("250 k files in one directory: exec to the first sizes, ms", &[first]);
    row("250 k files in one directory: exec to \"scanned\", ms", &[all]);
    for (name, keys) in [
        ("down and up", &["j", "k"][..]),
        ("page down", &["\x1b[6~"]),
        ("end and home", &["G", "g"]),
        ("order", &["n", "s"]),
    ] {
        let mut took = Vec::new();
        for key in keys.iter().cycle().take(100) {
            took.extend(console.moves(key));
        }
        row(&format!("250 k files in one directory: {name}, ms"), &took);
    }
}

/// What the console does when there is nothing to do.
fn idle(tree: &Path, method: &str) {
    let console = Console::start(tree, method);
    console.until(|seen| seen.text().contains("scanned") && !seen.text().contains("looking"));
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, bytes) = (console.cpu(|_| true), console.seen().bytes);
    std::thread::sleep(Duration::from_secs(5));
    let spent = console.cpu(|_| true).saturating_sub(cpu);
    let drawn = console.seen().bytes - bytes;
    println!("| idle for 5 s: CPU, ms | {:.2} | | | |", spent.as_secs_f64() * 1000.0);
    println!("| idle for 5 s: bytes sent | {drawn} | | | |");
}

fn row(name: &str, took: &[Duration]) {
    let values: Vec<f64> = took.iter().map(|took| took.as_secs_f64() * 1000.0).collect();
    figures(name, &values);
}

fn figures(name: &str, values: &[f64]) {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(place).copied().unwrap_or(f64::NAN)
    };
    println!("| {name} | {:.1} | {:.1} | {:.1} | {} |", at(50), at(99), at(100), values.len());
}

fn program() -> String {
    env::var("UNWEDGE_BENCH_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_unwedge").to_owned())
}

/// The scan without the console.
fn scan(tree: &Path, method: &str) -> Duration {
    let began = Instant::now();
    Command::new(program())
        .args(["scan", "--method", method])
        .arg(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program cannot be started");
    began.elapsed()
}

/// What came out of the terminal.
struct Seen {
    screen: vt100::Parser,
    bytes: usize,
    /// The rows of the tree when they last changed.
    rows: String,
    /// When they changed.
    changes: Vec<Instant>,
    /// When the last bytes came.
    last: Instant,
}

impl Seen {
    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// The left half of the screen, where the tree is, without the lines that change on their own.
    fn tree(&self) -> String {
        let left: Vec<String> = self.screen.screen().rows(0, TREE).collect();
        left.get(2..usize::from(SIZE.1 - 2)).unwrap_or_default().join("\n")
    }

    /// Whether there is a row of the tree with a size.
    fn has_sizes(&self) -> bool {
        self.text().contains(" on disk ")
            && self.tree().lines().any(|line| {
                let mut words = line.split_whitespace().skip_while(|word| word.len() < 2);
                words.next().is_some_and(|word| word.parse::<f64>().is_ok())
                    && words.next().is_some_and(|unit| unit.ends_with('B'))
            })
    }

    /// The line of the cursor and the name on it.
    fn cursor(&self) -> Option<(u16, String)> {
        let screen = self.screen.screen();
        let line = (0..SIZE.1).find(|&row| screen.cell(row, 2).is_some_and(vt100::Cell::inverse))?;
        let text = screen.contents_between(line, 0, line, TREE - 1);
        Some((line, text.split_whitespace().next_back()?.to_owned()))
    }
}

/// The console in a terminal.
struct Console {
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    began: Instant,
}

impl Console {
    fn start(tree: &Path, method: &str) -> Self {
        let size = PtySize { rows: SIZE.1, cols: SIZE.0, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("no pseudo-terminal");
        let mut command = CommandBuilder::new(program());
        command.arg("--set");
        command.arg(format!("scan.method={method:?}"));
        command.arg(tree);
        command.env("TERM", "xterm-256color");
        command.env("LC_ALL", "C.UTF-8");
        let mut from = pair.master.try_clone_reader().expect("no reader");
        let keys = pair.master.take_writer().expect("no writer");
        let began = Instant::now();
        let child = pair.slave.spawn_command(command).expect("the console cannot be started");
        let [rows, columns] = [SIZE.1, SIZE.0].map(|count| NonZero::new(count).expect("an empty screen"));
        let screen = vt100::Parser::new(rows, columns, 0);
        let seen = Seen { screen, bytes: 0, rows: String::new(), changes: Vec::new(), last: began };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let theirs = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(count) = from.read(&mut buffer) {
                let now = Instant::now();
                let mut seen = lock(&theirs.0);
                let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
                seen.screen.process(bytes);
                seen.bytes += count;
                seen.last = now;
                let rows = seen.tree();
                if rows != seen.rows {
                    seen.rows = rows;
                    seen.changes.push(now);
                }
                drop(seen);
                theirs.1.notify_all();
            }
        });
        Self { child, _master: pair.master, keys, seen, began }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen.0)
    }

    /// When something came to hold of the screen, or the end of the patience.
    fn until(&self, holds: impl Fn(&Seen) -> bool) -> Instant {
        self.within(PATIENCE, holds).expect("the console does not show what it should")
    }

    fn within(&self, patience: Duration, holds: impl Fn(&Seen) -> bool) -> Option<Instant> {
        let end = Instant::now() + patience;
        let mut seen = self.seen();
        while !holds(&seen) {
            let left = end.checked_duration_since(Instant::now())?;
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(seen.last)
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).expect("the terminal takes no keys");
    }

    /// Presses a key that moves the cursor, or the rows under it, and measures until that is seen. None where
    /// nothing moves, as at the end of the rows.
    fn moves(&mut self, key: &str) -> Option<Duration> {
        let before = self.seen().cursor();
        let began = Instant::now();
        self.press(key);
        let moved = self.within(Duration::from_millis(500), |seen| seen.cursor() != before);
        let took = moved.map(|at| at.saturating_duration_since(began));
        std::thread::sleep(REPEAT.saturating_sub(began.elapsed()));
        took
    }

    /// CPU time of threads of the console by their name.
    fn cpu(&self, of: impl Fn(&str) -> bool) -> Duration {
        // The console is the child of the process that was started, which only waits for it.
        let outer = self.child.process_id().unwrap_or(0);
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
        let console = children.split_whitespace().next().map_or(outer.to_string(), str::to_owned);
        let tasks = format!("/proc/{console}/task");
        let mut nanos = 0;
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            if of(read("comm").trim()) {
                let first = read("schedstat").split(' ').next().and_then(|text| text.parse::<u64>().ok());
                nanos += first.unwrap_or(0);
            }
        }
        Duration::from_nanos(nanos)
    }

    fn cpu_of_the_screen(&self) -> Duration {
        self.cpu(|name| ["unwedge", "lister", "terminal", "keys"].contains(&name))
    }

    fn ended(&mut self) {
        self.child.wait().expect("it cannot be waited for");
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory of empty files, made once.
fn make_flat() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(format!("bench-flat-{FLAT}"));
    let complete = dir.with_extension("complete");
    if !complete.exists() {
        eprintln!("making {FLAT} files in {}", dir.display());
        fs::create_dir_all(&dir).expect("making the directory");
        for number in 0..FLAT {
            let contents: &[u8] = if number % 10 == 0 { &[b'x'; 5000] } else { b"" };
            fs::write(dir.join(format!("file-{number:06}.o")), contents).expect("making the directory");
        }
        fs::write(&complete, "").expect("making the directory");
    }
    dir
}
