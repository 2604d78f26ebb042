//! Caches of the catalogue are cleaned by their owner's own command as the right user, or deleted where it is missing.
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
use std::process::Command;

use common::{World, inside_own_namespaces, sh, skip};
use unwedge::actions::{Request, request_for};
use unwedge::domain::finding::ActionId;
use unwedge::domain::plan::Plan;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::snapshot::Snapshot;
use unwedge::engine::Engine;
use unwedge::journal::Journal;
use unwedge::rules;

/// Runs a test in namespaces of its own, with users of its own: root, and al with number 4242.
fn alone(test: &str) -> bool {
    let inside = inside_own_namespaces(test);
    if inside {
        sh("mount -t tmpfs -o size=1g none /tmp
            mkdir -p /tmp/homes/root /tmp/homes/al
            chown 4242:4243 /tmp/homes/al
            printf 'root:x:0:0::/tmp/homes/root:/bin/sh\\nal:x:4242:4243::/tmp/homes/al:/bin/sh\\n' > /tmp/passwd
            mount --bind /tmp/passwd /etc/passwd");
    }
    inside
}

fn is_installed(program: &str) -> bool {
    let there = Path::new("/usr/bin").join(program).exists();
    if !there {
        skip(&format!("this test needs {program}"));
    }
    there
}

/// A look at everything below a directory, as the program itself looks.
fn survey(world: &World, root: &Path) -> (Engine, Snapshot) {
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    let scan = engine.scan(root).unwrap();
    assert!(scan.wait().finished);
    let mut snapshot = world.snapshot();
    snapshot.scanned = engine.scanned(&[&scan], &snapshot);
    (engine, snapshot)
}

/// The plan that the finding about an entry leads to.
#[track_caller]
fn plan(world: &World, engine: &Engine, snapshot: &Snapshot, entry: &str) -> Plan {
    let mut settings = world.settings.clone();
    settings.caches.warn_size = bytesize::ByteSize::kib(16);
    let findings = rules::assess(snapshot, &settings);
    let finding = findings
        .iter()
        .find(|finding| finding.id == format!("cache:{entry}"))
        .unwrap_or_else(|| panic!("no cache:{entry} in {findings:#?}"));
    let request = request_for(ActionId::CleanCache, finding, snapshot).unwrap();
    engine.plan(&request, snapshot)
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.op.words()).collect()
}

fn size(path: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn npm_cleans_the_cache_of_the_user_it_belongs_to() {
    if !is_installed("npm") || !alone("npm_cleans_the_cache_of_the_user_it_belongs_to") {
        return;
    }
    sh("mkdir -p /tmp/package && cd /tmp/package
        printf '{\"name\":\"x\",\"version\":\"1.0.0\"}' > package.json
        head -c 3000000 /dev/urandom > big
        tar -C /tmp -czf /tmp/x.tgz package && chmod 644 /tmp/x.tgz
        cd /
        setpriv --reuid 4242 --regid 4243 --clear-groups env HOME=/tmp/homes/al npm cache add /tmp/x.tgz
        HOME=/tmp/homes/root npm cache add /tmp/x.tgz");
    let mut world = World::new();
    // As after sudo: root works, with the home of the person.
    world.environment.home = "/tmp/homes/al".into();
    let (engine, mut snapshot) = survey(&world, Path::new("/tmp"));
    let roots = Path::new("/tmp/homes/root/.npm/_cacache");
    let als = Path::new("/tmp/homes/al/.npm/_cacache");
    let (before, others) = (size(als), size(roots));
    assert!(before > 2_000_000 && others > 2_000_000, "{before} {others}");
    let kinds = snapshot.scanned.value().unwrap().clone();
    let both = plan(&world, &engine, &snapshot, "npm-cache");
    let mut lines = shown(&both);
    lines.sort();
    assert_eq!(
        lines,
        ["HOME=/tmp/homes/root npm cache clean --force", "sudo -u al -H npm cache clean --force"]
    );
    // Only al's.
    let mut only = kinds;
    only.caches
        .iter_mut()
        .find(|kind| kind.entry == "npm-cache")
        .unwrap()
        .places
        .retain(|one| one.uid == 4242);
    snapshot.scanned = unwedge::domain::reading::Reading::ready(only);
    let receipt = world.run(plan(&world, &engine, &snapshot, "npm-cache"));
    assert!(receipt.is_clean(), "{receipt:#?}");
    assert!(!als.exists() || size(als) < 100_000, "{}", size(als));
    assert_eq!(size(roots), others, "root's cache was touched");
}

#[test]
fn apt_cleans_its_archives_and_not_while_they_are_locked() {
    if !is_installed("apt-get") || !alone("apt_cleans_its_archives_and_not_while_they_are_locked") {
        return;
    }
    sh("mount -t tmpfs -o size=64m none /var/cache/apt
        mkdir -p /var/cache/apt/archives/partial
        touch /var/cache/apt/archives/lock
        head -c 5000000 /dev/urandom > /var/cache/apt/archives/x_1_amd64.deb");
    let deb = Path::new("/var/cache/apt/archives/x_1_amd64.deb");
    let world = World::new();
    let (engine, snapshot) = survey(&world, Path::new("/var/cache/apt"));
    let planned = plan(&world, &engine, &snapshot, "apt-archives");
    assert_eq!(shown(&planned), ["apt-get clean"]);

    // A lock that is held since the plan was made, and one that was held before.
    let script = "touch /tmp/locked; exec sleep 1000";
    let mut holder =
        Command::new("flock").args(["/var/cache/apt/archives/lock", "sh", "-c", script]).spawn().unwrap();
    while !Path::new("/tmp/locked").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let receipt = world.run(planned);
    assert!(
        matches!(&receipt.steps[0].outcome, Outcome::Skipped { why } if why.contains("archives/lock is locked by pid")),
        "{receipt:#?}"
    );
    let refused = plan(&world, &engine, &snapshot, "apt-archives");
    assert!(refused.is_empty() && refused.refused[0].why.contains("locked"), "{:?}", refused.refused);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(deb.exists());

    let receipt = world.run(plan(&world, &engine, &snapshot, "apt-archives"));
    assert!(receipt.is_clean(), "{receipt:#?}");
    assert!(!deb.exists());
    assert!(receipt.freed().0 >= 4_900_000, "{receipt:#?}");
}

#[test]
fn where_the_owner_is_missing_its_place_is_deleted_with_all_guards() {
    if !alone("where_the_owner_is_missing_its_place_is_deleted_with_all_guards") {
        return;
    }
    // Gradle has no command; its lock is in the cache.
    sh("mkdir -p /tmp/homes/al/.gradle/caches/journal-1 /tmp/homes/al/.gradle/keep
        touch /tmp/homes/al/.gradle/caches/journal-1/journal-1.lock
        head -c 3000000 /dev/urandom > /tmp/homes/al/.gradle/caches/big
        chown -R 4242:4243 /tmp/homes/al");
    let cache = Path::new("/tmp/homes/al/.gradle/caches");
    let world = World::new();
    let (engine, snapshot) = survey(&world, Path::new("/tmp"));
    let planned = || plan(&world, &engine, &snapshot, "gradle-caches");
    let lines = shown(&planned());
    assert_eq!(lines, ["delete /tmp/homes/al/.gradle/caches and all in it"]);
    assert_eq!(planned().risk, unwedge::domain::plan::Risk::Disruptive, "as the catalogue says");

    // Its program starts after the plan was made, and takes its lock.
    let made = planned();
    let lock = std::fs::File::open(cache.join("journal-1/journal-1.lock")).unwrap();
    lock.lock().unwrap();
    let receipt = world.run(made);
    assert!(
        matches!(&receipt.steps[0].outcome, Outcome::Skipped { why } if why.contains("is locked by pid")),
        "{receipt:#?}"
    );
    assert!(planned().is_empty());
    drop(lock);

    // Another directory took its place.
    let made = planned();
    sh("mv /tmp/homes/al/.gradle/caches /tmp/homes/al/.gradle/old && mkdir /tmp/homes/al/.gradle/caches");
    let receipt = world.run(made);
    assert!(matches!(&receipt.steps[0].outcome, Outcome::Skipped { .. }), "{receipt:#?}");
    let refused = planned();
    assert!(refused.is_empty(), "{:?}", shown(&refused));
    sh("rmdir /tmp/homes/al/.gradle/caches && mv /tmp/homes/al/.gradle/old /tmp/homes/al/.gradle/caches");

    let receipt = world.run(planned());
    assert!(receipt.is_clean(), "{receipt:#?}");
    assert!(!cache.exists() && cache.with_file_name("keep").exists());
    assert!(receipt.freed().0 >= 2_900_000, "{receipt:#?}");
}

#[test]
fn a_cache_in_a_home_that_belongs_to_somebody_else_is_not_cleaned_with_either_home() {
    let test = "a_cache_in_a_home_that_belongs_to_somebody_else_is_not_cleaned_with_either_home";
    if !is_installed("npm") || !alone(test) {
        return;
    }
    // What `sudo npm` leaves in the home of the person.
    sh("mkdir -p /tmp/homes/al/.npm/_cacache && head -c 100000 /dev/urandom > /tmp/homes/al/.npm/_cacache/x");
    let world = World::new();
    let (engine, snapshot) = survey(&world, Path::new("/tmp"));
    let planned = plan(&world, &engine, &snapshot, "npm-cache");
    assert!(planned.is_empty(), "{:?}", shown(&planned));
    assert!(planned.refused[0].why.contains("but belongs to root, whose home is"), "{:?}", planned.refused);
}

#[test]
fn without_root_the_line_for_sudo_is_told() {
    let mut world = World::new();
    world.environment.uid = 4242;
    let mut kind = unwedge::domain::caches::CacheKind {
        entry: "apt-archives".to_owned(),
        title: "packages downloaded by apt".to_owned(),
        found: 1,
        unsized_places: 0,
        size: unwedge::domain::caches::CacheSize::default(),
        places: Vec::new(),
        busy: Vec::new(),
    };
    kind.places.push(unwedge::domain::caches::CachePlace {
        path: "/var/cache/apt/archives".into(),
        key: unwedge::domain::identity::DevIno::default(),
        home: None,
        uid: 0,
        user: Some("root".into()),
        size: None,
        modified: None,
        protected: None,
    });
    let means = unwedge::domain::reading::Reading::ready(unwedge::domain::caches::Means::default());
    let clean = unwedge::domain::caches::CacheToClean { kind, means };
    let mut snapshot = world.snapshot();
    snapshot.host.uid = 4242;
    let plan = unwedge::actions::plan(&Request::CleanCache(Box::new(clean)), &snapshot, &world.settings);
    assert!(plan.is_empty(), "{:?}", shown(&plan));
    assert!(plan.refused[0].why.contains("sudo apt-get clean"), "{:?}", plan.refused);
}
