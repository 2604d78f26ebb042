//! The process probe against real processes and fixtures of /proc.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/probe.rs"]
mod common;
#[path = "common/listener.rs"]
mod listener;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Surroundings, disguise, inside_own_namespaces, start_script, until_it_runs};
use unwedge::domain::reading::Reading;
use unwedge::domain::snapshot::{BuildProcess, Verdict};
use unwedge::probe::processes;

fn look() -> Vec<BuildProcess> {
    match processes::look(&Surroundings::real().context()) {
        Reading::Ready { value } => value,
        other => panic!("{other:?}"),
    }
}

/// Starts a program the way a dead build leaves one: its shell led a session and has ended. Returns the pid.
fn abandon(program: &Path, arguments: &str) -> i32 {
    let program = program.display();
    let script = format!(
        "{program} {arguments} >/dev/null 2>&1 </dev/null & {}; echo $!",
        until_it_runs(&program.to_string())
    );
    let output =
        Command::new("setsid").args(["--wait", "sh", "-c", &script]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn end(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn an_orphan_is_told_from_a_child_a_daemon_and_innocents() {
    if !inside_own_namespaces("an_orphan_is_told_from_a_child_a_daemon_and_innocents") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pip = disguise(dir.path(), "pip");
    let innocents = ["pipewire", "uvicorn", "podmanx", "make.txt"].map(|name| disguise(dir.path(), name));

    let orphan = abandon(&pip, "1000");
    let daemon = abandon(&disguise(dir.path(), "dockerd"), "1000");
    let left: Vec<i32> = innocents.iter().map(|program| abandon(program, "1000")).collect();
    let pip_path = pip.display();
    let script = format!("{pip_path} 2000 & {}; echo ready; wait", until_it_runs(&pip_path.to_string()));
    let parent = start_script(&["setsid"], &script);
    let found = look();
    let verdict =
        |pid: i32| found.iter().find(|process| process.id.pid.0 == pid).map(|process| process.verdict);
    assert_eq!(verdict(orphan), Some(Verdict::Orphan), "{found:#?}");
    assert_eq!(verdict(daemon), Some(Verdict::Service), "{found:#?}");
    let child = found.iter().find(|process| process.command.to_string().ends_with("pip 2000")).unwrap();
    assert_eq!((child.verdict, child.parent.0), (Verdict::InUse, parent.pid()), "{found:#?}");
    for pid in &left {
        assert_eq!(verdict(*pid), None);
    }
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(found[0].verdict, Verdict::Orphan, "left-over ones first");

    let process = &found[0];
    assert_eq!(process.tool, "pip".into());
    assert_eq!(process.command.to_string(), format!("{} 1000", pip.display()));
    assert_eq!((process.parent.0, process.uid), (1, 0));
    let stat = std::fs::metadata(&pip).unwrap();
    assert_eq!(process.exe.unwrap().ino.0, stat.ino());
    assert!(process.memory.0 > 0);
    assert!(process.evidence.iter().all(|fact| fact.source.starts_with(&format!("/proc/{orphan}/"))));

    for pid in left.into_iter().chain([orphan, daemon]) {
        end(pid);
    }
}

#[test]
fn a_builder_that_nobody_needs_can_be_ended_and_one_with_a_client_or_a_session_is_in_use() {
    let name = "a_builder_that_nobody_needs_can_be_ended_and_one_with_a_client_or_a_session_is_in_use";
    if !inside_own_namespaces(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let verdict = |pid: i32| {
        let found = look();
        let process = found.into_iter().find(|process| process.id.pid.0 == pid).unwrap();
        assert_eq!(process.tool, "buildkitd".into());
        (process.verdict, process.evidence)
    };
    let socket = dir.path().join("buildkitd.sock");
    let pid = listener::abandon(&socket);
    let (alone, evidence) = verdict(pid);
    assert_eq!(alone, Verdict::Orphan, "{evidence:#?}");
    let client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    common::wait_until("the client is seen", || verdict(pid).0 == Verdict::InUse);
    assert!(verdict(pid).1.iter().any(|fact| fact.fact.contains("a client is connected")));
    drop(client);
    common::wait_until("the client is gone", || verdict(pid).0 == Verdict::Orphan);

    // Its card offers to end it, and the plan does not refuse.
    let process = look().into_iter().find(|process| process.id.pid.0 == pid).unwrap();
    let plan = unwedge::actions::plan(
        &unwedge::actions::Request::EndProcess(vec![process]),
        &unwedge::domain::snapshot::Snapshot::pending(jiff::Timestamp::now()),
        &unwedge::config::Settings::default(),
    );
    assert_eq!((plan.steps.len(), plan.refused.len()), (2, 0), "{plan:#?}");
    end(pid);

    // One whose shell is alive.
    let builder = disguise(dir.path(), "buildkitd");
    let path = builder.display();
    let script = format!("{path} 2000 & {}; echo ready; wait", until_it_runs(&path.to_string()));
    let shell = start_script(&["setsid"], &script);
    let child = look().into_iter().find(|process| process.parent.0 == shell.pid()).unwrap();
    assert_eq!(child.verdict, Verdict::InUse, "{child:#?}");
}

#[test]
fn a_step_that_outlived_its_daemon_is_an_orphan_whatever_program_it_runs() {
    let name = "a_step_that_outlived_its_daemon_is_an_orphan_whatever_program_it_runs";
    if !inside_own_namespaces(name) {
        return;
    }
    let status = Command::new("mount").args(["-t", "cgroup2", "none", "/sys/fs/cgroup"]).status().unwrap();
    assert!(status.success());
    let top = std::path::PathBuf::from(format!("/sys/fs/cgroup/unwedge-test-{}", std::process::id()));
    let cgroup = top.join("buildkit/p3k0yv4w2m1n5x7z9a8b6c4d2");
    std::fs::create_dir_all(&cgroup).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let program = disguise(dir.path(), "any-program");
    let into = |pid: i32| std::fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
    let lost = abandon(&program, "1000");
    into(lost);
    // One whose daemon lives.
    let path = program.display();
    let script = format!("{path} 2000 & {}; echo ready; wait", until_it_runs(&path.to_string()));
    let daemon = start_script(&["bash", "-c", "exec -a buildkitd \"$@\"", "bash"], &script);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
    let step: i32 = children.trim().parse().unwrap();
    into(step);

    let found = look();
    let one = found.iter().find(|process| process.id.pid.0 == lost).unwrap();
    assert_eq!(one.verdict, Verdict::Orphan, "{one:#?}");
    assert!(one.evidence[0].fact.contains("a step of a build, by its cgroup"), "{one:#?}");
    assert!(found.iter().all(|process| process.id.pid.0 != step), "{found:#?}");
    end(lost);
    end(step);
    drop(daemon);
    for dir in [cgroup.as_path(), &top.join("buildkit"), &top] {
        common::wait_until("the cgroup is empty", || std::fs::remove_dir(dir).is_ok());
    }
}

#[test]
fn an_orphan_keeps_its_name_when_its_program_was_removed() {
    if !inside_own_namespaces("an_orphan_keeps_its_name_when_its_program_was_removed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cargo = disguise(dir.path(), "cargo");
    let pid = abandon(&cargo, "1000");
    std::fs::remove_file(&cargo).unwrap();
    let found = look();
    assert_eq!((found.len(), found[0].verdict), (1, Verdict::Orphan), "{found:#?}");
    assert_eq!(found[0].tool, "cargo".into());
    end(pid);
}

#[test]
fn we_and_our_ancestors_are_never_listed() {
    // Under cargo this process descends from a build tool.
    let found = processes::look(&Surroundings::real().context());
    let listed: Vec<i32> = found.value().unwrap().iter().map(|process| process.id.pid.0).collect();
    let mut pid = i32::try_from(std::process::id()).unwrap();
    while pid > 0 {
        assert!(!listed.contains(&pid), "{pid} in {found:#?}");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after = stat.rsplit(')').next().unwrap().to_owned();
        pid = after.split_whitespace().nth(1).unwrap().parse().unwrap();
    }
}

/// A process in a fixture of `/proc`.
struct Fake<'a> {
    pid: i32,
    parent: i32,
    session: i32,
    arguments: &'a [&'a str],
    cgroup: &'a str,
}

fn write(root: &Path, fake: &Fake<'_>) {
    let dir = root.join(format!("proc/{}", fake.pid));
    std::fs::create_dir_all(dir.join("fd")).unwrap();
    let name = fake.arguments[0].rsplit('/').next().unwrap();
    let stat = format!(
        "{} ({name} (x) y) S {} {} {} 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 1000 0 0\n",
        fake.pid, fake.parent, fake.session, fake.session
    );
    std::fs::write(dir.join("stat"), stat).unwrap();
    std::fs::write(
        dir.join("status"),
        format!("Name:\tx\nUid:\t1000\t1001\t1000\t1000\nNSpid:\t{}\n", fake.pid),
    )
    .unwrap();
    std::fs::write(dir.join("cmdline"), fake.arguments.join("\0") + "\0").unwrap();
    std::fs::write(dir.join("cgroup"), fake.cgroup).unwrap();
    std::os::unix::fs::symlink(fake.arguments[0], dir.join("exe")).unwrap();
}

#[test]
fn services_and_containers_of_a_fixture() {
    let root = tempfile::tempdir().unwrap();
    let container = format!("0::/system.slice/docker-{}.scope\n", "0a".repeat(32));
    let fake = |pid, parent, session, arguments, cgroup| {
        write(root.path(), &Fake { pid, parent, session, arguments, cgroup });
    };
    fake(1, 0, 1, &["/sbin/init"], "0::/init.scope\n");
    fake(10, 1, 10, &["/usr/bin/unwedge"], "0::/user.slice/user-0.slice/session-1.scope\n");
    fake(500, 1, 500, &["/usr/bin/pip", "--token=abc"], "0::/system.slice/ci.service\n");
    fake(501, 1, 400, &["/usr/bin/pip"], "0::/user.slice/user-1000.slice/session-9.scope\n");
    fake(502, 1, 400, &["/usr/bin/pip"], &container);
    fake(
        503,
        1,
        503,
        &["/usr/bin/containerd-shim-runc-v2", "-id", "x"],
        "9:name=systemd:/user.slice\n0::/\n",
    );
    fake(504, 700, 400, &["/usr/bin/make"], "0::/\n");
    std::os::unix::fs::symlink("10", root.path().join("proc/self")).unwrap();
    std::fs::write(root.path().join("proc/uptime"), "100.0 50.0\n").unwrap();

    let surroundings = Surroundings::fixture(root.path());
    let reading = processes::look(&surroundings.context());
    let Reading::Ready { value: found } = &reading else { panic!("{reading:?}") };
    let of = |pid: i32| found.iter().find(|process| process.id.pid.0 == pid).unwrap();
    assert_eq!(of(500).verdict, Verdict::Service);
    assert!(of(500).evidence.iter().any(|fact| fact.fact.contains("ci.service")));
    assert_eq!(of(500).command.to_string(), "/usr/bin/pip --token=[redacted]");
    assert_eq!(of(501).verdict, Verdict::Orphan);
    assert_eq!(of(502).verdict, Verdict::Unknown);
    assert_eq!(of(503).verdict, Verdict::Unknown);
    assert_eq!(of(504).verdict, Verdict::Unknown, "its parent is not to be seen");
    assert_eq!(found.len(), 5);
    assert_eq!((of(501).uid, of(501).id.start), (1001, 1000));
    assert_eq!(of(501).cgroup, "/user.slice/user-1000.slice/session-9.scope".into());
    assert_eq!(of(501).age_secs, 100 - 1000 / rustix::param::clock_ticks_per_second());
}
