//! The recipe for a wedged BuildKit, with real mounts and real clients, in namespaces of its own. systemd does not run
//! there: what it would do is refused with the reason.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use common::{World, inside_own_namespaces, sh, skip};
use unwedge::actions::request_for;
use unwedge::domain::finding::{ActionId, Finding};
use unwedge::domain::plan::Plan;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::snapshot::Snapshot;
use unwedge::engine::Engine;
use unwedge::journal::Journal;

/// A machine on which builds were killed: mounts of steps, one in another, and what buildx could not write.
const WEDGED: &str = "
mount -t tmpfs -o size=100m none /tmp
mkdir -p /tmp/homes/al/.docker/buildx/activity /tmp/layer/buildkit-mount9 /tmp/other
echo precious > /tmp/layer/data
printf 'root:x:0:0::/tmp/homes/root:/bin/sh\\nal:x:4242:4243::/tmp/homes/al:/bin/sh\\n' > /tmp/passwd
mount --bind /tmp/passwd /etc/passwd
chown -R 4242:4243 /tmp/homes/al
: > /tmp/homes/al/.docker/buildx/activity/.tmp-mine1
: > /tmp/homes/al/.docker/buildx/activity/mine
for i in 1 2 3; do
    mkdir -p /tmp/docker/tmp/buildkit-mount$i
    mount --bind /tmp/layer /tmp/docker/tmp/buildkit-mount$i
done
mount --bind /tmp/other /tmp/docker/tmp/buildkit-mount2/buildkit-mount9
";

fn look(world: &World) -> (Engine, Snapshot, Vec<Finding>) {
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    let snapshot = Mutex::new(world.snapshot());
    engine.probe(&|part| snapshot.lock().unwrap().merge(part));
    let mut snapshot = snapshot.into_inner().unwrap();
    snapshot.protect = world.protect.clone();
    let findings = engine.findings(&snapshot);
    (engine, snapshot, findings)
}

#[track_caller]
fn plan(engine: &Engine, snapshot: &Snapshot, findings: &[Finding], id: &str) -> Plan {
    let finding = findings.iter().find(|finding| finding.id.starts_with(id));
    let finding = finding.unwrap_or_else(|| panic!("no {id} in {findings:#?}"));
    engine.plan(&request_for(ActionId::RepairBuilds, finding, snapshot).unwrap(), snapshot)
}

fn build_mounts() -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains("buildkit-mount")).count()
}

/// A real client that builds with a daemon that never answers.
fn client(dir: &Path) -> (std::os::unix::net::UnixListener, Child) {
    let socket = dir.join("silent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let child = Command::new("/usr/bin/docker")
        .args(["--host", &format!("unix://{}", socket.display()), "build", "/tmp/layer"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its command line is there a little after its program is.
    let name = format!("/proc/{}/cmdline", child.id());
    while !std::fs::read(&name).is_ok_and(|line| line.ends_with(b"/tmp/layer\0")) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    (listener, child)
}

#[test]
fn mounts_go_leaf_first_what_is_mounted_stays_and_not_while_something_builds() {
    let test = "mounts_go_leaf_first_what_is_mounted_stays_and_not_while_something_builds";
    if !Path::new("/usr/bin/docker").exists() {
        return skip("this test needs docker");
    }
    if !inside_own_namespaces(test) {
        return;
    }
    sh(WEDGED);
    let mut world = World::new();
    world.environment.home = "/tmp/homes/al".into();
    let (engine, snapshot, findings) = look(&world);
    assert_eq!(build_mounts(), 4);
    let made = plan(&engine, &snapshot, &findings, "build-mounts");
    let lines: Vec<String> = made.steps.iter().map(|step| step.op.words()).collect();
    let plain: Vec<&String> = lines.iter().filter(|line| line.starts_with("unmount ")).collect();
    assert_eq!(plain.len(), 4, "{lines:#?}");
    assert!(plain[0].ends_with("buildkit-mount2/buildkit-mount9"), "{lines:#?}");
    assert!(
        lines.contains(&"delete /tmp/homes/al/.docker/buildx/activity and all in it".to_owned()),
        "{lines:#?}"
    );
    assert!(
        Path::new("/run/systemd/system").is_dir()
            || made.refused.iter().any(|refusal| refusal.why.contains("systemd does not run here")),
        "{:?}",
        made.refused
    );
    if Path::new("/run/systemd/system").is_dir() {
        return skip("systemd runs here: the test would stop the machine's own docker");
    }

    // A build that began after the plan was made stops all of it, and no plan is made while it runs.
    let (listener, mut build) = client(&world.dir);
    let receipt = world.run(made);
    assert!(
        receipt
            .steps
            .iter()
            .filter(|step| step.op.starts_with("unmount ") || step.op.starts_with("delete "))
            .all(
                |step| matches!(&step.outcome, Outcome::Skipped { why } if why.contains("build /tmp/layer"))
            ),
        "{receipt:#?}"
    );
    assert_eq!(build_mounts(), 4);
    assert!(receipt.findings.iter().any(|finding| finding.id == "build-mounts-left"), "{receipt:#?}");
    let refused = plan(&engine, &snapshot, &findings, "build-mounts");
    assert!(refused.is_empty() && refused.refused[0].why.contains("is at work"), "{:?}", refused.refused);
    build.kill().unwrap();
    build.wait().unwrap();
    drop(listener);

    let receipt = world.run(plan(&engine, &snapshot, &findings, "build-mounts"));
    assert_eq!(build_mounts(), 0, "{receipt:#?}");
    assert!(receipt.findings.is_empty(), "{receipt:#?}");
    assert!(!Path::new("/tmp/homes/al/.docker/buildx/activity").exists(), "{receipt:#?}");
    assert!(Path::new("/tmp/homes/al/.docker/buildx").is_dir());
    assert_eq!(std::fs::read_to_string("/tmp/layer/data").unwrap(), "precious\n");
    assert!(Path::new("/tmp/layer/buildkit-mount9").is_dir() && Path::new("/tmp/other").is_dir());
}

#[test]
fn without_mounts_the_state_of_buildx_is_made_anew() {
    if !inside_own_namespaces("without_mounts_the_state_of_buildx_is_made_anew") {
        return;
    }
    sh(WEDGED);
    sh(
        "umount /tmp/docker/tmp/buildkit-mount2/buildkit-mount9 /tmp/docker/tmp/buildkit-mount1 /tmp/docker/tmp/buildkit-mount2 \
        /tmp/docker/tmp/buildkit-mount3",
    );
    let mut world = World::new();
    world.environment.home = "/tmp/homes/al".into();
    let (engine, snapshot, findings) = look(&world);
    let finding = findings.iter().find(|finding| finding.rule == "buildx-state").unwrap();
    assert_eq!(finding.evidence.len(), 2, "foreign, and half written: {finding:#?}");
    let made = plan(&engine, &snapshot, &findings, "buildx-state");
    assert!(made.steps.iter().all(|step| !step.op.words().contains("umount")));
    let receipt = world.run(made);
    assert!(receipt.is_clean(), "{receipt:#?}");
    assert!(!Path::new("/tmp/homes/al/.docker/buildx/activity").exists());
    let (_, _, findings) = look(&world);
    assert!(!findings.iter().any(|finding| finding.rule == "buildx-state"), "{findings:#?}");
}

#[test]
fn a_state_that_is_read_only_or_damaged_is_found_without_any_mount() {
    if !inside_own_namespaces("a_state_that_is_read_only_or_damaged_is_found_without_any_mount") {
        return;
    }
    sh("mount -t tmpfs none /tmp
        mkdir -p /tmp/homes/al/.docker/buildx/activity /tmp/homes/al/.docker/buildx/instances
        printf 'root:x:0:0::/tmp/homes/root:/bin/sh\\nal:x:4242:4243::/tmp/homes/al:/bin/sh\\n' > /tmp/passwd
        mount --bind /tmp/passwd /etc/passwd
        echo 2026-11-30T00:00:00Z > /tmp/homes/al/.docker/buildx/activity/default
        chown -R 4242:4243 /tmp/homes/al");
    let mut world = World::new();
    world.environment.home = "/tmp/homes/al".into();
    let of = |findings: &[Finding]| findings.iter().find(|finding| finding.rule == "buildx-state").cloned();
    let (_, _, findings) = look(&world);
    assert!(of(&findings).is_none(), "nothing is wrong yet: {findings:#?}");

    // As a disk that lost its last blocks leaves it.
    sh("printf '\\0\\0\\0\\0' > /tmp/homes/al/.docker/buildx/current
        printf '{\"Name\":\"mi' > /tmp/homes/al/.docker/buildx/instances/mine
        chown -R 4242:4243 /tmp/homes/al");
    let (engine, snapshot, findings) = look(&world);
    let found = of(&findings).unwrap();
    assert!(found.title.contains("cannot read"), "{found:#?}");
    assert_eq!(found.evidence.len(), 2, "{found:#?}");
    let receipt = world.run(plan(&engine, &snapshot, &findings, "buildx-state"));
    assert!(receipt.is_clean(), "{receipt:#?}");
    let (_, _, findings) = look(&world);
    assert!(of(&findings).is_none(), "{findings:#?}");
    assert!(!Path::new("/tmp/homes/al/.docker/buildx/current").exists());

    sh("mount --bind /tmp/homes/al/.docker/buildx /tmp/homes/al/.docker/buildx
        mount -o remount,bind,ro /tmp/homes/al/.docker/buildx");
    let (_, _, findings) = look(&world);
    let found = of(&findings).unwrap();
    assert!(
        found.evidence[0].fact.contains("the file system at /tmp/homes/al/.docker/buildx is read-only"),
        "{found:#?}"
    );
    assert_eq!(found.actions, [ActionId::RepairBuilds]);
    sh("umount /tmp/homes/al/.docker/buildx");
}
