//! What benchmarks share.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "each benchmark uses a part of it"
)]

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use unwedge::config::{Environment, TerminalTraits};

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The time in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Says which part of a benchmark this process is to play.
const PART: &str = "UNWEDGE_BENCH_PART";

/// The part that this process is to play; none in the first one.
pub fn part() -> Option<String> {
    env::var(PART).ok()
}

/// This program again, in another part.
pub fn again(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.env(PART, part);
    command
}

/// Runs this program again, in pid and mount namespaces of its own: its processes end with it.
pub fn inside_own_namespaces() {
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(env::current_exe().expect("this program has a path"))
        .env(PART, "inside")
        .status()
        .expect("unshare(1) is installed");
    assert!(status.success(), "{status}");
}

/// Root on this machine, with everything that is written below `home`.
pub fn environment(home: &Path) -> Environment {
    Environment {
        root: "/".into(),
        uid: rustix::process::geteuid().as_raw(),
        person: rustix::process::geteuid().as_raw(),
        home: home.to_owned(),
        state_home: home.join("state"),
        config_home: home.join("config"),
        run_dir: home.join("run"),
        self_exe: env::current_exe().expect("this program has a path"),
        config_files: Vec::new(),
        config: None,
        engine_variables: std::collections::BTreeMap::new(),
        terminal: TerminalTraits { colour: false, unicode: true },
    }
}
