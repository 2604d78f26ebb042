//! The machine of its own, and the faults on it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::common::{Running, argument, is_root, need, run_again, wait_until};
use super::hung;

/// Settings under which every fault is told.
pub const SETTINGS: [&str; 3] = [
    "builds.directories=[\"/srv/app\"]",
    "temp.dirs=[\"/tmp\", \"/var/tmp\", \"/srv/broken/tmp\"]",
    "engines.deadline_ms=20000",
];

/// One machine at a time: each has a daemon and builds images.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A small machine with a dockerd on it, in namespaces of its own. Everything ends with them.
pub struct Machine {
    pub dockerd: Running,
    /// The server of the file system that does not answer.
    pub server: Option<Arc<File>>,
}

impl Machine {
    /// Runs the named test again on such a machine. None in the outer run, after the inner one passed, and where it had
    /// to be skipped.
    #[track_caller]
    pub fn inside(test: &str) -> Option<Self> {
        if let Some(dir) = argument() {
            return Some(Self::start(Path::new(&dir)));
        }
        let programs = [
            "bash",
            "buildah",
            "busybox",
            "dockerd",
            "/usr/bin/docker",
            "/lib/systemd/systemd-journal-remote",
            "logrotate",
            "mkfs.ext4",
            "perl",
            "podman",
        ];
        if is_root() && need(&programs) {
            let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            let dir = tempfile::tempdir().unwrap();
            let wrapper = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
            run_again(&wrapper, &std::env::current_exe().unwrap(), test, dir.path());
        }
        None
    }

    fn start(dir: &Path) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fault_world");
        let faults = std::fs::read(here.join("faults.sh")).unwrap();
        let config = std::fs::read(here.join("config.toml")).unwrap();
        let program = env!("CARGO_BIN_EXE_unwedge");
        script(here.join("root.sh").to_str().unwrap(), &[dir.to_str().unwrap(), program]);
        std::env::set_current_dir("/").unwrap();
        std::fs::create_dir("/etc/unwedge").unwrap();
        std::fs::write("/etc/unwedge/config.toml", config).unwrap();
        std::fs::write("/root/faults.sh", faults).unwrap();
        Self { dockerd: start_dockerd(), server: None }
    }

    /// Makes one of each fault.
    pub fn break_it(&mut self) {
        script("/root/faults.sh", &[]);
        std::fs::create_dir("/srv/dead").unwrap();
        self.server = Some(hung::mount_hung(Path::new("/srv/dead")));
    }
}

pub fn script(path: &str, arguments: &[&str]) {
    let status = Command::new("/bin/bash").arg(path).args(arguments).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{path}: {status}");
}

/// Runs the program with these settings: what it printed as JSON, and its exit code.
#[track_caller]
pub fn unwedge(arguments: &[&str], settings: &[&str]) -> (Value, i32) {
    let mut command = Command::new("/opt/unwedge");
    command.args(arguments).args(["--format", "json"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.env_clear().env("HOME", "/root").stdin(Stdio::null()).output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}

/// Audits the machine: the ids of what is found, and the report.
#[track_caller]
pub fn audit(settings: &[&str]) -> (BTreeSet<String>, Value) {
    let (report, _) = unwedge(&["--audit", "/"], settings);
    let findings = report["findings"].as_array().unwrap();
    let ids = findings.iter().map(|finding| without_container_id(finding["id"].as_str().unwrap())).collect();
    (ids, report)
}

/// The id of a finding, with the id of a container in it written as `ID`.
pub fn without_container_id(id: &str) -> String {
    match id.rsplit_once('/') {
        Some((before, last)) if last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{before}/ID")
        }
        _ => id.to_owned(),
    }
}

#[track_caller]
pub fn assert_found(report: &Value, found: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let missing: Vec<_> = expected.difference(found).collect();
    let more: Vec<_> = found.difference(expected).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "not found: {missing:?}\nfound beside: {more:?}\n{:#}",
        report["findings"]
    );
}

fn start_dockerd() -> Running {
    let log = File::create("/run/dockerd.log").unwrap();
    let mut dockerd = Command::new("/usr/sbin/dockerd");
    dockerd.args(["--bridge=none", "--iptables=false"]);
    let dockerd =
        Running(dockerd.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    wait_until("dockerd answers", || {
        Command::new("/usr/bin/docker").arg("version").output().is_ok_and(|output| output.status.success())
    });
    dockerd
}
