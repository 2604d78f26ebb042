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

mod clean;
#[path = "../common/engines.rs"]
mod common;
#[path = "../common/hung.rs"]
mod hung;
mod machine;

use std::collections::BTreeSet;

use machine::{Machine, SETTINGS, assert_found, audit};
use unwedge::rules::RULES;

/// What is found, by id; the id of a container is written as `ID`.
const FAULTS: &[&str] = &[
    "build-cache:docker",
    "build-context:/srv/app",
    "build-mounts",
    "builds-competing:cargo:/srv/code",
    "buildx-state:/root/.docker/buildx",
    "cache:cargo-target",
    // Docker mounts its store on itself, and that has its size all the same.
    "cache:docker",
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

#[test]
fn every_fault_is_named_by_its_rule_and_nothing_else_is() {
    let Some(mut machine) = Machine::inside("every_fault_is_named_by_its_rule_and_nothing_else_is") else {
        return;
    };
    let (found, report) = audit(&[]);
    assert_found(&report, &found, &BTreeSet::new());
    assert_eq!(report["conclusion"], "ok");

    machine.break_it();
    let (found, report) = audit(&SETTINGS);
    let mut expected: BTreeSet<String> = FAULTS.iter().map(|&id| id.to_owned()).collect();
    assert_found(&report, &found, &expected);
    assert_eq!(report["conclusion"], "critical");

    // A daemon that is there and does not answer: what only it knows is not found, and that is said.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&machine.dockerd.0),
        rustix::process::Signal::STOP,
    )
    .unwrap();
    let (found, report) = audit(&[SETTINGS[0], SETTINGS[1], "engines.deadline_ms=1000"]);
    let engine =
        |id: &String| id.starts_with("build-cache") || (id.contains(":docker") && id != "cache:docker");
    expected.retain(|id| !engine(id));
    expected.insert("engine-silent:docker".to_owned());
    assert_found(&report, &found, &expected);

    // Each rule was seen to find something.
    let named: BTreeSet<&str> =
        FAULTS.iter().copied().chain(["engine-silent"]).map(|id| id.split(':').next().unwrap()).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(named, rules);
}
