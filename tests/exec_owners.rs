//! Owners clean up after themselves: real engines, a real journal. What was promised is what comes back.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::duplicate_mod,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/engines.rs"]
mod engines;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{World, inside_own_namespaces, sh, why};
use engines::{Dockerd, Podman, Surroundings, need};
use unwedge::actions::Request;
use unwedge::domain::command::ToolTarget;
use unwedge::domain::engines::{Engine, EngineKind, PruneLevel};
use unwedge::domain::finding::Reclaim;
use unwedge::domain::op::Op;
use unwedge::domain::plan::Plan;
use unwedge::domain::receipt::{Outcome, Receipt};
use unwedge::probe;

/// Runs a test in namespaces of its own, with a file system in memory for all it makes: nobody else writes there, and
/// no process but the test's own is seen.
fn alone(test: &str) -> bool {
    let inside = inside_own_namespaces(test);
    if inside {
        sh("mount -t tmpfs -o size=2g none /tmp");
    }
    inside
}

/// What came back is what was promised, within five percent.
#[track_caller]
fn kept_its_promise(receipt: &Receipt) {
    let (low, high) = match receipt.promised {
        Reclaim::Exact { bytes } => (bytes.0, bytes.0),
        Reclaim::Range { low, high } => (low.0, high.0),
        other => panic!("nothing was promised: {other:?}"),
    };
    let freed = receipt.freed().0 as f64;
    assert!(
        freed >= low as f64 * 0.95 && freed <= high as f64 * 1.05,
        "promised {low} to {high}, freed {freed}: {receipt:#?}"
    );
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.op.words()).collect()
}

fn engine(surroundings: &Surroundings, kind: EngineKind) -> Engine {
    let reading = probe::engines::look(&surroundings.context());
    reading.value().unwrap().iter().find(|engine| engine.kind == kind).unwrap().clone()
}

/// A world with the settings of an engine in which nothing is too young.
fn world_of(surroundings: &Surroundings) -> World {
    let mut world = World::new();
    let journal = world.settings.journal.clone();
    world.settings = surroundings.settings.clone();
    world.settings.journal = journal;
    world.settings.prune.hours = 0;
    world.settings.prune.unused_hours = 0;
    world.settings.prune.pressure_hours = 0;
    world
}

fn request(surroundings: &Surroundings, kind: EngineKind, level: PruneLevel) -> Request {
    Request::Prune(Box::new(engine(surroundings, kind)), level)
}

#[test]
fn docker_is_pruned_level_by_level_and_what_is_in_use_stays() {
    if !need(&["dockerd", "/usr/bin/docker", "busybox"])
        || !alone("docker_is_pruned_level_by_level_and_what_is_in_use_stays")
    {
        return;
    }
    let dockerd = Dockerd::start();
    dockerd.build("again:1", 40);
    dockerd.build("again:1", 30);
    dockerd.build("unused:1", 50);
    dockerd.run(&["tag", "unused:1", "unused:2"]);
    dockerd.run(&["tag", "unused:1", "other:1"]);
    dockerd.build("used:1", 20);
    dockerd.run(&[
        "run",
        "-d",
        "--name",
        "runs",
        "--network",
        "none",
        "used:1",
        "/bin/busybox",
        "sleep",
        "1000",
    ]);
    dockerd.run(&["run", "--name", "ended", "--network", "none", "again:1", "/bin/busybox", "true"]);
    dockerd.run(&["volume", "create", "kept"]);
    let surroundings = dockerd.surroundings();
    let world = world_of(&surroundings);

    let young = World::new().plan(&request(&surroundings, EngineKind::Docker, PruneLevel::Standard));
    assert!(young.is_empty(), "all of it is younger than a day: {:?}", shown(&young));

    let plan = world.plan(&request(&surroundings, EngineKind::Docker, PruneLevel::Conservative));
    assert_eq!(plan.steps.len(), 2, "{:?}", shown(&plan));
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    kept_its_promise(&receipt);
    let left = dockerd.run(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["again:1", "other:1", "unused:1", "unused:2", "used:1"]);

    let plan = world.plan(&request(&surroundings, EngineKind::Docker, PruneLevel::Emergency));
    assert!(
        shown(&plan).iter().any(|line| line.contains("docker") && line.contains(" rm ")),
        "{:?}",
        shown(&plan)
    );
    assert!(plan.refused.iter().any(|refusal| refusal.what.contains("volumes")), "{:?}", plan.refused);
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    kept_its_promise(&receipt);
    assert_eq!(dockerd.run(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).trim(), "used:1");
    assert_eq!(dockerd.run(&["ps", "--format", "{{.Names}}"]).trim(), "runs");
    assert_eq!(dockerd.run(&["volume", "ls", "--quiet"]).trim(), "kept");
    dockerd.run(&["rm", "--force", "runs"]);
}

#[test]
fn what_changed_since_the_plan_is_not_pruned_and_nothing_is_while_a_pull_runs() {
    let test = "what_changed_since_the_plan_is_not_pruned_and_nothing_is_while_a_pull_runs";
    if !need(&["dockerd", "/usr/bin/docker", "busybox"]) || !alone(test) {
        return;
    }
    let dockerd = Dockerd::start();
    for (name, mib) in [("renamed:1", 3), ("gone:1", 4), ("taken:1", 5)] {
        dockerd.build(name, mib);
    }
    dockerd.run(&[
        "create",
        "--name",
        "started",
        "--network",
        "none",
        "taken:1",
        "/bin/busybox",
        "sleep",
        "1000",
    ]);
    let surroundings = dockerd.surroundings();
    let world = world_of(&surroundings);
    let plan = || world.plan(&request(&surroundings, EngineKind::Docker, PruneLevel::Emergency));

    // A real client that pulls, from a daemon that never answers.
    let silent = world.path("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let pull = Command::new("/usr/bin/docker")
        .args(["--host", &format!("unix://{}", silent.display()), "pull", "debian"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pull = engines::Running(pull);
    let receipt = world.run(plan());
    assert!(
        receipt
            .steps
            .iter()
            .all(|step| matches!(&step.outcome, Outcome::Skipped { why } if why.contains("pull debian"))),
        "{receipt:#?}"
    );
    drop(pull);

    let planned = plan();
    dockerd.run(&["tag", "renamed:1", "precious:1"]);
    dockerd.run(&["image", "rm", "gone:1"]);
    dockerd.run(&["start", "started"]);
    let receipt = world.run(planned);
    let why = |part: &str| {
        receipt.steps.iter().any(|step| match &step.outcome {
            Outcome::Skipped { why } | Outcome::Failed { why } => why.contains(part),
            _ => false,
        })
    };
    assert!(why("it is called precious:1, renamed:1 now"), "{receipt:#?}");
    assert!(why("it is not listed any more"), "{receipt:#?}");
    assert!(why("in use, skipped: it is running now"), "{receipt:#?}");
    // Its container runs: the daemon itself refuses.
    assert!(why("docker says: "), "{receipt:#?}");
    let left = dockerd.run(&["image", "ls", "--format", "{{.Repository}}"]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["precious", "renamed", "taken"]);
    dockerd.run(&["rm", "--force", "started"]);
}

#[test]
fn podman_and_buildah_are_pruned_together() {
    if !need(&["podman", "buildah", "busybox"]) || !alone("podman_and_buildah_are_pruned_together") {
        return;
    }
    let podman = Podman::new();
    podman.build("localhost/again:1");
    podman.run("podman", &["tag", "localhost/again:1", "localhost/other:1"]);
    podman.run("podman", &["create", "--name", "stopped", "localhost/again:1", "/bin/busybox"]);
    podman.run("buildah", &["from", "--name", "working", "localhost/again:1"]);
    podman.run("podman", &["untag", "localhost/other:1"]);
    let surroundings = podman.surroundings();
    let world = world_of(&surroundings);

    // Its containers keep the dangling image.
    let plan = world.plan(&request(&surroundings, EngineKind::Podman, PruneLevel::Conservative));
    assert!(plan.is_empty(), "{:?}", shown(&plan));

    let plan = world.plan(&request(&surroundings, EngineKind::Podman, PruneLevel::Standard));
    let lines = shown(&plan);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("buildah --root ")), "{lines:?}");
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    kept_its_promise(&receipt);
    assert_eq!(podman.run("podman", &["images", "--all", "--quiet"]), "");
    assert_eq!(podman.run("podman", &["ps", "--all", "--external", "--quiet"]), "");
}

/// A real journal file, made by systemd's own program.
/// The plan to remove a volume by its name.
fn remove(world: &World, surroundings: &Surroundings, kind: EngineKind, name: &str) -> Plan {
    let engine = engine(surroundings, kind);
    let volumes = engine.content.value().unwrap().volumes.clone();
    let volume = volumes.into_iter().find(|volume| volume.name == name.into()).expect("no such volume");
    world.plan(&Request::RemoveVolume(Box::new(engine), volume))
}

/// Puts so many MiB into a volume, where the engine says that its data is.
fn fill(place: &str, mib: usize) {
    std::fs::write(Path::new(place.trim()).join("data"), vec![7; mib << 20]).unwrap();
}

#[test]
fn a_volume_of_docker_goes_alone_by_its_name_and_never_one_that_is_used() {
    let test = "a_volume_of_docker_goes_alone_by_its_name_and_never_one_that_is_used";
    if !need(&["dockerd", "/usr/bin/docker", "busybox"]) || !alone(test) {
        return;
    }
    let dockerd = Dockerd::start();
    dockerd.build("user:1", 1);
    for name in ["free", "other", "taken", "again", "late"] {
        dockerd.run(&["volume", "create", name]);
    }
    fill(&dockerd.run(&["volume", "inspect", "--format", "{{.Mountpoint}}", "free"]), 12);
    // It has ended, but may start again.
    dockerd.run(&["create", "--network", "none", "--volume", "taken:/x", "user:1", "/bin/busybox", "true"]);
    let surroundings = dockerd.surroundings();
    let world = world_of(&surroundings);
    let make = |name| remove(&world, &surroundings, EngineKind::Docker, name);

    let taken = make("taken");
    assert!(taken.is_empty() && taken.refused[0].why.contains("1 containers use it"), "{:?}", taken.refused);
    let plan = make("free");
    assert!(
        plan.steps[0].why.contains("MB, made today, driver local")
            || plan.steps[0].why.contains("MiB, made today, driver local"),
        "{}",
        plan.steps[0].why
    );
    assert!(shown(&plan)[0].ends_with(" volume rm free"), "{:?}", shown(&plan));
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    kept_its_promise(&receipt);

    // Taken by a container, gone, and another one of that name since it was shown.
    let late = make("late");
    dockerd.run(&[
        "create",
        "--network",
        "none",
        "--name",
        "user",
        "--volume",
        "late:/x",
        "user:1",
        "/bin/busybox",
        "true",
    ]);
    let why = why(&world.run(late));
    assert!(why.contains("in use, skipped: container user has it"), "{why}");
    let mut again = make("again");
    if let Op::Run { target: ToolTarget::Volume { created, .. }, .. } = &mut again.steps[0].op {
        *created = Some(jiff::Timestamp::UNIX_EPOCH);
    }
    assert!(common::why(&world.run(again)).contains("another volume has that name now"));
    let other = make("other");
    dockerd.run(&["volume", "rm", "other"]);
    assert!(common::why(&world.run(other)).contains("not listed any more"));
    let left = dockerd.run(&["volume", "ls", "--quiet"]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["again", "late", "taken"]);
}

#[test]
fn a_volume_of_podman_goes_alone_by_its_name_and_never_one_that_is_used() {
    let test = "a_volume_of_podman_goes_alone_by_its_name_and_never_one_that_is_used";
    if !need(&["podman", "buildah", "busybox"]) || !alone(test) {
        return;
    }
    let podman = Podman::new();
    podman.build("localhost/user:1");
    for name in ["free", "taken", "late"] {
        podman.run("podman", &["volume", "create", name]);
    }
    fill(&podman.run("podman", &["volume", "inspect", "--format", "{{.Mountpoint}}", "free"]), 5);
    podman.run("podman", &["create", "--volume", "taken:/x", "localhost/user:1", "/bin/busybox"]);
    let surroundings = podman.surroundings();
    let world = world_of(&surroundings);
    let make = |name| remove(&world, &surroundings, EngineKind::Podman, name);
    assert!(make("taken").is_empty());
    let late = make("late");
    podman.run(
        "podman",
        &["create", "--name", "user", "--volume", "late:/x", "localhost/user:1", "/bin/busybox"],
    );
    let why = why(&world.run(late));
    assert!(why.contains("in use, skipped: container user has it"), "{why}");
    let plan = make("free");
    assert!(plan.steps[0].why.contains("5.0 MiB, made today, driver local"), "{}", plan.steps[0].why);
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    kept_its_promise(&receipt);
    let left = podman.run("podman", &["volume", "ls", "--quiet"]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["late", "taken"]);
}

fn journal_file(path: &Path) {
    let entries = (1..200).map(|number| {
        format!(
            "__REALTIME_TIMESTAMP=1700000000{number:06}\n__MONOTONIC_TIMESTAMP={number}\n\
             _BOOT_ID=0123456789abcdef0123456789abcdef\nMESSAGE=hello {number}\n\n"
        )
    });
    let made = path.with_file_name("made.journal");
    let mut child = Command::new("/lib/systemd/systemd-journal-remote")
        .arg(format!("--output={}", made.display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(entries.collect::<String>().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::rename(made, path).unwrap();
}

#[test]
fn the_oldest_of_the_journal_goes_and_what_belongs_to_others_stays() {
    let test = "the_oldest_of_the_journal_goes_and_what_belongs_to_others_stays";
    if !need(&["journalctl", "/lib/systemd/systemd-journal-remote"]) || !alone(test) {
        return;
    }
    sh("mount -t tmpfs none /var/log");
    let own = Path::new("/var/log/journal/own");
    let remote = Path::new("/var/log/journal/remote");
    std::fs::create_dir_all(own).unwrap();
    std::fs::create_dir_all(remote).unwrap();
    let name = |number: u32| {
        format!("system@0123456789abcdef0123456789abcdef-{number:016x}-{:016x}.journal", number * 1000)
    };
    for number in 1..=6 {
        journal_file(&own.join(name(number)));
    }
    journal_file(&own.join("system.journal"));
    journal_file(&remote.join(name(1)));

    let mut world = World::new();
    let context = probe::Context {
        environment: &world.environment,
        settings: &world.settings,
        now: jiff::Timestamp::now(),
        memory: None,
        shared: None,
    };
    let journal = probe::logs::look(&context).value().unwrap().journal.clone();
    let archived = journal.dirs.iter().find(|dir| dir.path == own.into()).unwrap().archived;
    world.settings.logs.keep_journal = bytesize::ByteSize(archived.0 / 2);
    let plan = world.plan(&Request::VacuumJournal(journal));
    assert_eq!(plan.steps.len(), 1, "{:?}", shown(&plan));
    assert!(plan.refused.iter().any(|refusal| refusal.why.contains("received from other machines")));
    assert!(plan.refused.iter().any(|refusal| refusal.what.contains("active files")));
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    kept_its_promise(&receipt);
    let left: Vec<bool> = (1..=6).map(|number| own.join(name(number)).exists()).collect();
    // The active file counts, but stays.
    assert_eq!(left, [false, false, false, false, true, true], "the oldest go");
    assert!(own.join("system.journal").exists() && remote.join(name(1)).exists());
}

#[test]
fn without_root_the_journal_stays_and_the_line_is_told() {
    let mut world = World::new();
    world.environment.uid = 1000;
    let dir = unwedge::domain::logs::JournalDir {
        path: "/var/log/journal/x".into(),
        owner: unwedge::domain::logs::JournalOwner::Own,
        journald: None,
        archived: unwedge::domain::size::Bytes(1 << 30),
        archived_files: 8,
        active: unwedge::domain::size::Bytes(0),
        modified: None,
    };
    let journal = unwedge::domain::logs::Journal { dirs: vec![dir] };
    let receipt = world.run(world.plan(&Request::VacuumJournal(journal)));
    let told = why(&receipt);
    assert!(told.contains("sudo journalctl --directory=/var/log/journal/x --vacuum-size=500M"), "{told}");
}
