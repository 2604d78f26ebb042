//! A file system that stops answering in the middle of a scan or of a delete: the program ends within a second of being
//! told to, whatever the kernel holds, and says what it left.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/stopping.rs"]
mod stopping;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "common/tui.rs"]
mod tui;

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stopping::{LOOKUP, MKDIR, OPENDIR, READDIR, RENAME2, RMDIR, Server, UNLINK};
use tui::{Console, MountDir, inside_own_namespaces};

/// What was promised, and room for a machine that has other things to do.
const LIMIT: Duration = Duration::from_millis(1000 + 500);

struct World {
    server: Server,
    at: PathBuf,
    dir: MountDir,
}

impl World {
    fn new(stops_at: u32, after: u64) -> Self {
        let dir = MountDir::new();
        let at = dir.path().join("remote");
        std::fs::create_dir(&at).unwrap();
        let server = Server::mount(&at, stops_at, after);
        Self { server, at, dir }
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let journal = format!("journal.dir={}/journal", self.dir.path().display());
        let more = more.iter().map(ToString::to_string);
        more.chain(["--set".to_owned(), journal, "--set".to_owned(), "probe.deadline_ms=700".to_owned()])
            .collect()
    }

    fn console(&self, arguments: &[&str]) -> Console {
        let all = self.arguments(arguments);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Console::start(120, 40, self.dir.path(), &all)
    }

    fn path(&self) -> &str {
        self.at.to_str().unwrap()
    }

    fn journal(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.dir.path().join("journal")).unwrap().map(Result::unwrap) {
            all.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
        all
    }
}

/// Held long enough that nobody can take it for slow.
fn a_moment() {
    std::thread::sleep(Duration::from_millis(700));
}

#[track_caller]
fn ends(console: &mut Console, asked: Instant, what: &str) -> u32 {
    let code = console.ended();
    let took = asked.elapsed();
    eprintln!("{what}: the shell is back after {} ms", took.as_millis());
    assert!(took < LIMIT, "{what}: {took:?}");
    console.restored();
    code
}

/// The program is still there, held: else the test would show nothing.
fn assert_held() {
    let held = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok())
        .any(|name| name.starts_with("unwedge"));
    assert!(held, "nothing was held: the test shows nothing");
}

const SCAN: [(&str, u32, u64); 3] =
    [("READDIR", READDIR, 3), ("LOOKUP", LOOKUP, 30), ("OPENDIR", OPENDIR, 2)];

/// Whether we were started with a signal ignored (`SigIgn` in proc(5)).
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn a_scan_that_is_held_ends_when_it_is_told_to_and_so_does_who_reads_its_output() {
    let name = "a_scan_that_is_held_ends_when_it_is_told_to_and_so_does_who_reads_its_output";
    if !inside_own_namespaces(name) {
        return;
    }
    for (what, opcode, after) in SCAN {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            // Whoever runs the tests below nohup(1) wants it ignored, and so it is.
            if is_ignored(signal) {
                continue;
            }
            let world = World::new(opcode, after);
            let mut child = Command::new(env!("CARGO_BIN_EXE_unwedge"))
                .args(world.arguments(&["scan", world.path()]))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            world.server.until_stopped();
            a_moment();
            assert!(child.try_wait().unwrap().is_none(), "{what}: it ended by itself");
            let asked = Instant::now();
            kill_process(Pid::from_child(&child), signal).unwrap();
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            let status = child.wait().unwrap();
            let took = asked.elapsed();
            eprintln!("scan, {what}, {signal:?}: ended after {} ms", took.as_millis());
            assert!(took < LIMIT, "{what}: {took:?}");
            assert_eq!(status.signal(), Some(signal.as_raw()), "{what}: {status:?}");
            assert_held();
        }
    }
}

#[test]
fn a_scan_that_is_held_ends_with_its_parent() {
    if !inside_own_namespaces("a_scan_that_is_held_ends_with_its_parent") {
        return;
    }
    let world = World::new(READDIR, 3);
    let mut child = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(world.arguments(&["scan", world.path()]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    world.server.until_stopped();
    a_moment();
    let asked = Instant::now();
    child.kill().unwrap();
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
}

#[test]
fn the_console_ends_while_its_scan_is_held() {
    if !inside_own_namespaces("the_console_ends_while_its_scan_is_held") {
        return;
    }
    for (what, opcode, after) in SCAN {
        for how in ["q", "\x03", "TERM"] {
            let world = World::new(opcode, after);
            let mut console = world.console(&[world.path()]);
            world.server.until_stopped();
            console.see("remote");
            a_moment();
            let asked = Instant::now();
            if how == "TERM" {
                console.signal(Signal::TERM);
            } else {
                console.press(how);
            }
            let code = ends(&mut console, asked, &format!("console, {what}, {how:?}"));
            assert_eq!(code, if how == "TERM" { 143 } else { 0 });
            assert_held();
        }
    }
}

/// When the server stops: by then the delete has begun, or is about to.
const DELETE: [(&str, u32, u64); 4] =
    [("MKDIR", MKDIR, 0), ("RENAME", RENAME2, 0), ("UNLINK", UNLINK, 10), ("RMDIR", RMDIR, 0)];

/// What is on the screen between two texts.
#[track_caller]
fn between(console: &mut Console, before: &str, after: &str) -> String {
    console.see(after);
    let text = console.text();
    let (_, rest) = text.rsplit_once(before).unwrap_or_else(|| panic!("no {before:?}: {text}"));
    rest.split_once(after).unwrap().0.to_owned()
}

/// The journal has the beginning and no end, and it is said what was left and what looks after it.
fn assert_left_behind(world: &World, console: &mut Console, what: &str) {
    console.see("left in the middle of");
    let said: String = console.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("unwedge undo"), "{what}: {said}");
    let journal = world.journal();
    assert!(journal.contains("begin") && !journal.contains("\"end\""), "{what}: {journal}");
    assert_held();
}

#[test]
fn a_delete_that_is_held_is_left_behind_and_said() {
    if !inside_own_namespaces("a_delete_that_is_held_is_left_behind_and_said") {
        return;
    }
    for (what, opcode, after) in DELETE {
        for signal in [None, Some(Signal::TERM)] {
            let world = World::new(opcode, after);
            let target = world.at.join("d1");
            let mut console = world.console(&["delete", target.to_str().unwrap()]);
            let answer = between(&mut console, "type ", " to run this:").trim_matches('"').to_owned();
            console.press(&format!("{answer}\r"));
            world.server.until_stopped();
            a_moment();
            let asked = Instant::now();
            match signal {
                // The terminal tells the whole job.
                None => console.press("\x03"),
                Some(signal) => console.signal(signal),
            }
            ends(&mut console, asked, &format!("delete, {what}, {signal:?}"));
            assert_left_behind(&world, &mut console, what);
        }
    }
}

#[test]
fn the_console_ends_while_its_delete_is_held() {
    if !inside_own_namespaces("the_console_ends_while_its_delete_is_held") {
        return;
    }
    for (what, opcode, after) in DELETE {
        for how in ["\x03", "TERM"] {
            let world = World::new(opcode, after);
            let mut console = world.console(&[world.path()]);
            console.see("d2/");
            console.wait("the end of the scan", |text| text.contains("scanned"));
            console.wait("the end of the probes", |text| !text.contains("looking"));
            console.press("d");
            let name = between(&mut console, "Type ", " and press Enter");
            console.press(&name);
            console.press("\r");
            world.server.until_stopped();
            a_moment();
            let asked = Instant::now();
            if how == "TERM" {
                console.signal(Signal::TERM);
            } else {
                console.press(how);
            }
            let code = ends(&mut console, asked, &format!("console, delete, {what}, {how:?}"));
            assert_eq!(code, if how == "TERM" { 143 } else { 0 });
            assert_left_behind(&world, &mut console, what);
        }
    }
}

#[test]
fn a_run_that_was_left_behind_ends_when_the_file_system_does() {
    if !inside_own_namespaces("a_run_that_was_left_behind_ends_when_the_file_system_does") {
        return;
    }
    let world = World::new(UNLINK, 10);
    let target = world.at.join("d1");
    let mut console = world.console(&["delete", target.to_str().unwrap()]);
    let answer = between(&mut console, "type ", " to run this:").trim_matches('"').to_owned();
    console.press(&format!("{answer}\r"));
    world.server.until_stopped();
    a_moment();
    console.press("\x03");
    console.ended();
    let World { server, dir, .. } = world;
    // Every call fails from now on, as when a connection is given up.
    drop(server);
    let end = Instant::now() + Duration::from_secs(20);
    let journal = |dir: &Path| {
        let entries = std::fs::read_dir(dir.join("journal")).unwrap().map(Result::unwrap);
        entries.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect::<String>()
    };
    while !journal(dir.path()).contains("\"end\"") {
        assert!(Instant::now() < end, "no end: {}", journal(dir.path()));
        std::thread::sleep(Duration::from_millis(50));
    }
}
