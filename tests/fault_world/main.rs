//! A machine with one of each fault, made of real mounts, engines, processes and files in namespaces of its own:
//! `--audit` names every one by its rule, and nothing else. Before the faults it finds nothing.
//!
//! Limits are shown by one that can be reached without harm: the processes of one container. What cannot be made real
//! here: quotas (the kernels that the tests run on have neither `QFMT_V2` nor `XFS_QUOTA`), thin pools (no device
//! mapper in containers), and those that belong to the whole machine (`fs.mount-max`, `kernel.pid_max`, `fs.file-max`,
//! memory cgroups, inotify): reaching one would break whatever else runs. `rules/limits.rs` has tests of these.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests start programs and write files in a machine of their own, and fail by panicking"
)]

#[path = "../common/engines.rs"]
mod common;
#[path = "../common/hung.rs"]
mod hung;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Running, argument, is_root, need, run_again, wait_until};
use serde_json::Value;
use unwedge::rules::RULES;

const NAME: &str = "every_fault_is_named_by_its_rule_and_nothing_else_is";

/// What is found, by id; the id of a container is written as `ID`.
const FAULTS: &[&str] = &[
    "build-cache:docker",
    "build-context:/srv/app",
    "build-mounts",
    "builds-competing:cargo:/srv/code",
    "buildx-state:/root/.docker/buildx",
    "cache:cargo-target",
    "container-log:docker:chatty",
    "containers-external:podman",
    "containers-stopped:docker",
    "crowded-dir:/srv/many",
    "deleted-open",
    "df-du-differ:/",
    "dockerfile-no-cache:/srv/app/Dockerfile",
    "filesystem-full:/srv/full",
    "growing:/srv/grows",
    "hidden-under-mount:/srv/backup",
    "images-dangling:docker",
    "images-foreign:docker",
    "images-unused:docker",
    "inode-hog:/",
    "inodes-full:/",
    "journal-large",
    "limit:cgroup-tasks:/docker/ID",
    "log-giant:/var/log/app.log",
    "logrotate-stopped",
    "logs-rotated",
    "not-seen:filesystem:/srv/dead",
    "orphan-processes",
    "package-lock:/var/lib/dpkg/lock-frontend",
    "read-only:/srv/broken",
    "temp-create:/srv/broken/tmp",
    "temp-entries:/var/tmp",
    "volumes-unused:docker",
];

fn script(path: &str, arguments: &[&str]) {
    let status = Command::new("/bin/bash").arg(path).args(arguments).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{path}: {status}");
}

/// Audits the machine: the ids of what is found, and the report.
fn audit(settings: &[&str]) -> (BTreeSet<String>, Value) {
    let mut command = Command::new("/opt/unwedge");
    command.args(["--audit", "--format", "json"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.arg("/").env_clear().env("HOME", "/root").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap();
    let ids = findings.iter().map(|finding| without_container_id(finding["id"].as_str().unwrap())).collect();
    (ids, report)
}

fn without_container_id(id: &str) -> String {
    match id.rsplit_once('/') {
        Some((before, last)) if last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{before}/ID")
        }
        _ => id.to_owned(),
    }
}

#[track_caller]
fn assert_found(report: &Value, found: &BTreeSet<String>, expected: &BTreeSet<String>) {
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

#[test]
fn every_fault_is_named_by_its_rule_and_nothing_else_is() {
    let Some(dir) = argument() else {
        let programs = [
            "bash",
            "buildah",
            "busybox",
            "dockerd",
            "/usr/bin/docker",
            "/lib/systemd/systemd-journal-remote",
            "logrotate",
            "mkfs.ext4",
            "podman",
        ];
        if is_root() && need(&programs) {
            let dir = tempfile::tempdir().unwrap();
            let wrapper = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
            run_again(&wrapper, &std::env::current_exe().unwrap(), NAME, dir.path());
        }
        return;
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fault_world");
    let faults = std::fs::read(here.join("faults.sh")).unwrap();
    let config = std::fs::read(here.join("config.toml")).unwrap();
    script(here.join("root.sh").to_str().unwrap(), &[dir.to_str().unwrap(), env!("CARGO_BIN_EXE_unwedge")]);
    std::env::set_current_dir("/").unwrap();
    std::fs::create_dir("/etc/unwedge").unwrap();
    std::fs::write("/etc/unwedge/config.toml", config).unwrap();
    std::fs::write("/root/faults.sh", faults).unwrap();
    let dockerd = start_dockerd();

    let (found, report) = audit(&[]);
    assert_found(&report, &found, &BTreeSet::new());
    assert_eq!(report["conclusion"], "ok");

    // As dpkg does: fcntl(2).
    let lock = File::create("/var/lib/dpkg/lock-frontend").unwrap();
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    script("/root/faults.sh", &[]);
    std::fs::create_dir("/srv/dead").unwrap();
    let _server = hung::mount_hung(Path::new("/srv/dead"));

    let settings = [
        "builds.directories=[\"/srv/app\"]",
        "temp.dirs=[\"/tmp\", \"/var/tmp\", \"/srv/broken/tmp\"]",
        "engines.deadline_ms=20000",
    ];
    let (found, report) = audit(&settings);
    let mut expected: BTreeSet<String> = FAULTS.iter().map(|&id| id.to_owned()).collect();
    assert_found(&report, &found, &expected);
    assert_eq!(report["conclusion"], "critical");

    // A daemon that is there and does not answer: what only it knows is not found, and that is said.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&dockerd.0),
        rustix::process::Signal::STOP,
    )
    .unwrap();
    let (found, report) = audit(&[settings[0], settings[1], "engines.deadline_ms=1000"]);
    let engine = |id: &String| id.starts_with("build-cache") || id.contains(":docker");
    expected.retain(|id| !engine(id));
    expected.insert("engine-silent:docker".to_owned());
    assert_found(&report, &found, &expected);

    // Each rule was seen to find something.
    let named: BTreeSet<&str> =
        FAULTS.iter().copied().chain(["engine-silent"]).map(|id| id.split(':').next().unwrap()).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(named, rules);
}
