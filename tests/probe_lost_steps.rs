//! A real docker daemon that is killed in the middle of a step of a build: the step goes on, and its root directory stays.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/engines.rs"]
mod common;

use std::process::{Command, Stdio};

use common::{Dockerd, inside_own_namespaces, need, wait_until};
use unwedge::domain::reading::Reading;
use unwedge::domain::snapshot::{BuildMount, BuildProcess, Verdict};
use unwedge::probe::{mounts, processes};

fn build_mounts(dockerd: &Dockerd) -> Vec<BuildMount> {
    match mounts::look(&dockerd.surroundings().context()) {
        Reading::Ready { value } => value.build_mounts,
        other => panic!("{other:?}"),
    }
}

fn lost_steps(dockerd: &Dockerd) -> Vec<BuildProcess> {
    let all = processes::look(&dockerd.surroundings().context()).value().cloned().unwrap();
    all.into_iter().filter(|process| process.tool.as_bytes() == b"a step of a build").collect()
}

#[test]
fn a_step_that_outlived_dockerd_and_its_root_directory_are_left_over() {
    if !need(&["dockerd", "/usr/bin/docker"]) {
        return;
    }
    if !inside_own_namespaces("a_step_that_outlived_dockerd_and_its_root_directory_are_left_over") {
        return;
    }
    // A file system of its own: an overlay cannot be on one everywhere.
    assert!(Command::new("mount").args(["-t", "tmpfs", "none", "/tmp"]).status().unwrap().success());
    let mut dockerd = Dockerd::start();
    let context = dockerd.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\",\"sleep\",\"1000\"]\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let mut client = Command::new("/usr/bin/docker")
        .args(["--host", &dockerd.address(), "build", "--network", "none"])
        .arg(&context)
        .env("DOCKER_BUILDKIT", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_root = |mount: &BuildMount| mount.mount_point.to_string().ends_with("/rootfs");
    // From the moment that it is mounted, and while runc makes a namespace around it.
    let runs = || {
        let running = build_mounts(&dockerd);
        assert!(running.iter().all(|mount| mount.verdict == Verdict::InUse), "{running:#?}");
        let lines = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        running.iter().any(is_root) && lines.into_iter().any(|line| line == b"/bin/busybox\0sleep\x001000\0")
    };
    wait_until("the step runs", runs);
    assert!(lost_steps(&dockerd).is_empty());

    dockerd.kill();
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until("init has adopted the step", || !lost_steps(&dockerd).is_empty());
    let steps = lost_steps(&dockerd);
    assert!(steps.iter().all(|step| step.verdict == Verdict::Orphan), "{steps:#?}");
    let left: Vec<BuildMount> = build_mounts(&dockerd).into_iter().filter(is_root).collect();
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0].verdict, Verdict::Orphan, "{left:#?}");
    let pid = steps[0].id.pid;
    assert!(
        left[0]
            .evidence
            .iter()
            .any(|fact| fact.fact.contains(&format!("goes on without a daemon, pid {pid}"))),
        "{left:#?}"
    );

    // The mount can go first: the step has its own. The space comes back when both are gone.
    let root = std::path::PathBuf::from(format!("/proc/{pid}/root/bin/busybox"));
    assert!(Command::new("umount").arg(left[0].mount_point.as_path()).status().unwrap().success());
    assert!(root.exists(), "the step goes on");
    assert!(build_mounts(&dockerd).iter().all(|mount| !is_root(mount)));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.0), nix::sys::signal::Signal::SIGKILL).unwrap();
}
