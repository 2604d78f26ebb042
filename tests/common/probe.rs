//! Help for the tests of the probes.
#![allow(dead_code, reason = "each test file uses a part")]

mod again;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use unwedge::config::{Environment, Settings, TerminalTraits};
use unwedge::probe::Context;

#[allow(unused_imports, reason = "not every test file runs tests again")]
pub use again::*;

/// What a probe is given in a test.
pub struct Surroundings {
    pub environment: Environment,
    pub settings: Settings,
    pub now: Timestamp,
}

impl Surroundings {
    /// This machine, with a deadline that no test waits for.
    pub fn real() -> Self {
        Self::fixture(Path::new("/"))
    }

    /// A directory that stands for `/`.
    pub fn fixture(root: &Path) -> Self {
        let home = root.join("root");
        let environment = Environment {
            root: root.to_path_buf(),
            uid: rustix::process::geteuid().as_raw(),
            person: rustix::process::geteuid().as_raw(),
            state_home: home.join(".local/state"),
            config_home: home.join(".config"),
            run_dir: home.join(".run"),
            home,
            self_exe: std::env::current_exe().unwrap(),
            config_files: Vec::new(),
            config: None,
            engine_variables: std::collections::BTreeMap::new(),
            terminal: TerminalTraits { colour: false, unicode: true },
        };
        let mut settings = Settings::default();
        settings.probe.deadline_ms = 20_000;
        Self { environment, settings, now: Timestamp::now() }
    }

    pub fn context(&self) -> Context<'_> {
        Context {
            environment: &self.environment,
            settings: &self.settings,
            now: self.now,
            memory: None,
            shared: None,
        }
    }
}

/// A process that is ended with the test.
pub struct Running(pub Child);

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real program under another name: sleep(1) copied to `dir/name`.
pub fn disguise(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::copy("/bin/sleep", &path).unwrap();
    path
}

/// Starts a program without descriptors of ours.
pub fn start(command: &mut Command) -> Running {
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Starts a shell script and waits until it says `ready`.
pub fn start_script(program: &[&str], script: &str) -> Running {
    use std::io::Read as _;
    let (first, rest) = program.split_first().unwrap();
    let mut child = Command::new(first)
        .args(rest)
        .args(["sh", "-ec", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ready\n");
    Running(child)
}

/// A piece of shell script that waits until the last background command runs `program`, and is not a copy of the shell
/// any more.
pub fn until_it_runs(program: &str) -> String {
    format!("until [ \"$(readlink /proc/$!/exe)\" = {program} ]; do sleep 0.01; done")
}

/// Waits until something is so. Panics where it never is.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}
