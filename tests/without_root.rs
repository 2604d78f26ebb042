//! As an ordinary user: everything works, what needs root is told with the line to paste, and nothing asks for a password.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::duplicate_mod,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "common/tui.rs"]
mod harness;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{inside_own_namespaces, sh};
use harness::Console;

const USER: &str = "1000";
const ARCHIVES: &str = "/var/cache/apt/archives";

/// A machine, in namespaces of the test's own, on which only root can do what helps: apt's packages fill a file system of
/// their own.
struct World {
    temp: common::MountDir,
    program: PathBuf,
    home: PathBuf,
}

impl World {
    fn new() -> Self {
        let temp = common::MountDir::new();
        sh("mount -t tmpfs none /run && mkdir -p -m 755 /var/cache/apt/archives");
        sh(&format!(
            "mount -t tmpfs -o size=64M,mode=755 none {ARCHIVES} && mkdir {ARCHIVES}/partial && : > {ARCHIVES}/lock"
        ));
        for number in 0..60 {
            fs::write(format!("{ARCHIVES}/p{number}.deb"), vec![1; 1 << 20]).unwrap();
        }
        // Where the build directory is that user may not be able to go.
        let program = temp.path().join("unwedge");
        fs::copy(env!("CARGO_BIN_EXE_unwedge"), &program).unwrap();
        let home = temp.path().join("home");
        fs::create_dir(&home).unwrap();
        sh(&format!("chmod 755 {0} {0}/unwedge && chown {USER}:{USER} {0}/home", temp.path().display()));
        Self { temp, program, home }
    }

    /// The program as that user, with every program that is started written down.
    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let log = self.temp.path().join("started");
        let user = format!("--reuid={USER}");
        let group = format!("--regid={USER}");
        let mut all: Vec<String> = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", log.to_str().unwrap()]
            .into_iter()
            .chain(["setpriv", &user, &group, "--clear-groups", self.program.to_str().unwrap()])
            .map(str::to_owned)
            .collect();
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let command = self.command(arguments);
        let output = Command::new(&command[0])
            .args(&command[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        self.nothing_asks_for_a_password();
        output
    }

    /// Neither sudo nor anything like it was started.
    #[track_caller]
    fn nothing_asks_for_a_password(&self) {
        let started = fs::read_to_string(self.temp.path().join("started")).unwrap();
        assert!(started.contains("execve("), "{started}");
        for asks in ["/sudo\"", "/su\"", "/pkexec\"", "/doas\"", "/run0\"", "/systemd-ask-password\""] {
            assert!(!started.contains(asks), "{asks} was started: {started}");
        }
    }

    fn packages() -> usize {
        fs::read_dir(ARCHIVES).unwrap().count() - 2
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// What a dialog says, whatever its width.
fn in_one_line(screen: &str) -> String {
    let inside = screen.lines().filter_map(|line| line.split('│').nth(1));
    inside.map(str::trim).collect::<Vec<_>>().join(" ")
}

fn here(test: &str) -> bool {
    let there = |program| Command::new(program).arg("--version").output().is_ok();
    if !there("strace") || !there("apt-get") {
        common::skip("this test needs strace and apt-get");
        return false;
    }
    inside_own_namespaces(test)
}

#[test]
fn reports_and_plans_name_the_exact_line_for_root() {
    if !here("reports_and_plans_name_the_exact_line_for_root") {
        return;
    }
    let world = World::new();
    let audit = world.run(&["--audit", ARCHIVES]);
    let said = text(&audit);
    assert!(matches!(audit.status.code(), Some(0..=3)), "{said}");
    assert!(said.contains(&format!("{ARCHIVES} is")) && said.contains("full"), "{said}");
    // What could not be seen is told with what would help, not left out.
    assert!(said.contains("sudo") || said.contains("as root"), "{said}");

    let explained = world.run(&["explain", "cache:apt-archives", ARCHIVES, "--set", "caches.warn_size=1MiB"]);
    assert!(text(&explained).contains("sudo apt-get clean"), "{}", text(&explained));

    let dry = world.run(&["reclaim", "20M", "--on", ARCHIVES, "--dry-run"]);
    let said = text(&dry);
    assert_eq!(dry.status.code(), Some(1), "it cannot be reached by this user: {said}");
    assert!(said.contains("sudo apt-get clean"), "{said}");
    assert!(said.contains(&format!("sudo unwedge reclaim 20971520B --on {ARCHIVES}")), "{said}");
    let run = world.run(&["reclaim", "20M", "--on", ARCHIVES, "--yes"]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
    assert_eq!(World::packages(), 60, "nothing went");
}

#[test]
fn the_console_shows_the_exact_line_for_root() {
    if !here("the_console_shows_the_exact_line_for_root") {
        return;
    }
    let world = World::new();
    let command = world.command(&["--set", "caches.warn_size=1MiB", ARCHIVES]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut console = Console::run(100, 30, &world.home, &command);
    console.see(".deb");
    console.wait("the scan and the probes", |text| text.contains("scanned") && !text.contains("looking"));
    // A file of root's: the plan says what would do it.
    console.press("d");
    console.wait("the plan", |text| text.contains("Not done") || text.contains("and press Enter"));
    let line = format!("sudo unwedge delete -- {ARCHIVES}/p");
    assert!(in_one_line(&console.text()).contains(&line), "{}", console.text());
    console.press("\x1b");
    console.wait("the plan to go", |text| !text.contains("Not done"));
    // So much space: what only root can do is named, and nothing runs.
    console.press("R");
    console.see("How much space");
    console.press("20M\r");
    console.wait("the line for root", |text| in_one_line(text).contains("sudo apt-get clean"));
    console.press("\x1b");
    console.press("q");
    assert_eq!(console.ended(), 0);
    world.nothing_asks_for_a_password();
    assert_eq!(World::packages(), 60);
}
