//! Caches of the catalogue, crowded directories and inodes, found in a world of real files.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests start programs and write files in their own temporary directory"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use unwedge::domain::caches::CacheKind;
use unwedge::domain::finding::{Finding, Reclaim};
use unwedge::domain::reading::Reading;
use unwedge::domain::scanned::{CreateCost, Scanned};
use unwedge::domain::snapshot::Snapshot;
use unwedge::engine::Engine;
use unwedge::journal::Journal;
use unwedge::rules;
use unwedge::scan::Scan;

mod common;

use common::World;

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n";

fn file(path: impl AsRef<Path>, size: usize) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![7; size]).unwrap();
}

fn text(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What GNU du counts.
fn du(path: &Path, options: &[&str]) -> u64 {
    let output = Command::new("du").args(["-s", "-x"]).args(options).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}

fn allocated(paths: &[&Path]) -> u64 {
    paths.iter().map(|path| du(path, &["--block-size=1"])).sum()
}

/// Scans the world and finds what is in it.
fn survey(world: &World) -> (Scanned, Snapshot, Engine) {
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    let scan = engine.scan(&world.dir).unwrap();
    assert!(scan.wait().finished);
    let mut snapshot = world.snapshot();
    let reading = engine.scanned(&[&scan], &snapshot);
    snapshot.scanned = reading.clone();
    (reading.value().unwrap().clone(), snapshot, engine)
}

/// A kind as found below the world; places of the machine that the test runs on have no size and do not matter.
fn kind<'s>(scanned: &'s Scanned, id: &str) -> Option<&'s CacheKind> {
    scanned.caches.iter().find(|kind| kind.entry == id && kind.found > kind.unsized_places)
}

fn paths(kind: &CacheKind) -> Vec<&Path> {
    kind.places.iter().filter(|place| place.size.is_some()).map(|place| place.path.as_path()).collect()
}

fn finding(snapshot: &Snapshot, world: &World, id: &str) -> Option<Finding> {
    let mut settings = world.settings.clone();
    settings.caches.warn_size = bytesize::ByteSize::kib(64);
    rules::assess(snapshot, &settings).into_iter().find(|finding| finding.id == id)
}

#[test]
fn real_ones_are_found_with_their_exact_size_and_lookalikes_are_not() {
    let mut world = World::new();
    let at = |name: &str| world.dir.join(name);
    // Cargo: a real one; one of another make; one that is only named so; a link to one.
    text(at("a/Cargo.toml"), "[package]");
    text(at("a/target/CACHEDIR.TAG"), TAG);
    text(at("a/target/.rustc_info.json"), "{}");
    file(at("a/target/debug/lib.rlib"), 300_000);
    file(at("b/target/notes"), 300_000);
    text(at("c/target/CACHEDIR.TAG"), "Signature: something else");
    text(at("c/target/.rustc_info.json"), "{}");
    fs::create_dir_all(at("d")).unwrap();
    symlink(at("a/target"), at("d/target")).unwrap();
    // A tag that is a link is not read.
    fs::create_dir_all(at("e/target/debug")).unwrap();
    symlink(at("a/target/CACHEDIR.TAG"), at("e/target/CACHEDIR.TAG")).unwrap();
    // A program waits forever for whoever opens a pipe.
    fs::create_dir_all(at("f/target/debug")).unwrap();
    common::sh(&format!("mkfifo {}", at("f/target/CACHEDIR.TAG").display()));

    // npm: a project, one in it, a workspace below its lock file, an installed program without one.
    text(at("web/package.json"), "{}");
    text(at("web/package-lock.json"), "{}");
    file(at("web/node_modules/x/index.js"), 200_000);
    text(at("web/node_modules/x/package.json"), "{}");
    file(at("web/node_modules/x/node_modules/y/index.js"), 1000);
    text(at("web/packages/p/package.json"), "{}");
    file(at("web/packages/p/node_modules/z/index.js"), 100_000);
    text(at("program/package.json"), "{}");
    file(at("program/node_modules/q/index.js"), 100_000);

    // Python, with a name that steers terminals and is not UTF-8.
    let hostile = world.dir.join(OsStr::from_bytes(b"py-\x1b[2J\n\xff'"));
    file(hostile.join("__pycache__/m.cpython-311.pyc"), 70_000);
    file(at("plain/__pycache__/keep.txt"), 70_000);
    // In what is protected nothing is offered by its name.
    file(at("keep/__pycache__/m.pyc"), 70_000);
    text(at("keep/target/CACHEDIR.TAG"), TAG);

    // A store: nothing in it is offered, whatever its name and marks.
    let store = at("home/.local/share/containers/storage");
    text(store.join("overlay/l/web/package.json"), "{}");
    text(store.join("overlay/l/web/yarn.lock"), "");
    file(store.join("overlay/l/web/node_modules/x.js"), 50_000);

    // Fixed places: a real one, one that is a link out of the home to what another user owns, one that is a file.
    file(at("home/.cache/pip/http-v2/a"), 123_456);
    symlink("/etc", at("home/.cache/pre-commit")).unwrap();
    file(at("home/.cache/helm"), 10);
    let keep = at("keep");
    world.protect(&keep);

    let (scanned, snapshot, _) = survey(&world);
    let at = |name: &str| world.dir.join(name);
    let expect = |id: &str, want: &[&Path]| {
        let found = kind(&scanned, id).unwrap_or_else(|| panic!("{id} was not found"));
        assert_eq!(paths(found), want, "{id}");
        assert_eq!(found.size.allocated.0, allocated(want), "{id}: not what du counts");
        assert_eq!(found.size.entries, want.iter().map(|path| du(path, &["--inodes"])).sum::<u64>());
    };
    expect("cargo-target", &[&at("a/target")]);
    expect("node-modules", &[&at("web/node_modules"), &at("web/packages/p/node_modules")]);
    expect("python-bytecode", &[&hostile.join("__pycache__")]);
    expect("pip-cache", &[&at("home/.cache/pip")]);
    expect("podman", &[&store]);
    for id in ["pre-commit", "helm-cache", "maven-target"] {
        assert_eq!(kind(&scanned, id), None, "{id}");
    }
    let uid = fs::metadata(at("home/.cache/pip")).unwrap().uid();
    assert_eq!(kind(&scanned, "pip-cache").unwrap().places[0].uid, uid);

    let found = finding(&snapshot, &world, "cache:node-modules").unwrap();
    assert!(found.title.starts_with("node_modules: 2 directories, "), "{}", found.title);
    // Hard links into a store may keep some of it.
    assert!(matches!(found.reclaim, Reclaim::Range { .. }));
    let found = finding(&snapshot, &world, "cache:cargo-target").unwrap();
    assert_eq!(found.reclaim, Reclaim::exact(unwedge::domain::size::Bytes(allocated(&[&at("a/target")]))));
    let manifest = format!("cargo clean --manifest-path {}", at("a/Cargo.toml").display());
    assert!(found.advice.contains(&manifest), "{}", found.advice);
    let found = finding(&snapshot, &world, "cache:python-bytecode").unwrap();
    assert!(!format!("{found:?}").contains('\x1b'));
    // Below the threshold nothing is said.
    assert!(rules::assess(&snapshot, &world.settings).iter().all(|finding| finding.rule != "cache"));
}

#[test]
fn what_is_locked_by_its_owner_is_said_and_not_offered_now() {
    let world = World::new();
    text(world.path("home/.cache/uv/CACHEDIR.TAG"), TAG);
    file(world.path("home/.cache/uv/archive/x"), 100_000);
    let lock = fs::File::create(world.path("home/.cache/uv/.lock")).unwrap();
    lock.lock().unwrap();
    let (scanned, snapshot, _) = survey(&world);
    let busy = &kind(&scanned, "uv-cache").unwrap().busy;
    assert!(busy.iter().any(|reason| reason.fact.contains("is locked by pid")), "{busy:?}");
    let found = finding(&snapshot, &world, "cache:uv-cache").unwrap();
    assert!(found.advice.starts_with("Not now"), "{}", found.advice);
}

#[test]
fn without_a_scan_fixed_places_are_known_and_their_size_is_not() {
    let world = World::new();
    file(world.path("home/.cache/pip/http-v2/a"), 100_000);
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    let snapshot = engine.snapshot();
    let kinds = snapshot.caches.value().unwrap();
    let pip = kinds.iter().find(|kind| kind.entry == "pip-cache").unwrap();
    let place = pip.places.iter().find(|place| place.path.as_path().starts_with(&world.dir)).unwrap();
    assert_eq!(place.size, None);
    assert!(matches!(snapshot.scanned, Reading::Pending));
    assert!(finding(&snapshot, &world, "cache:pip-cache").is_none());
}

#[test]
fn crowded_directories_are_measured_and_inodes_ranked() {
    let mut world = World::new();
    let crowd = world.path("many/crowd");
    fs::create_dir_all(&crowd).unwrap();
    file(world.path("few/one"), 1);
    for i in 0..12_000 {
        fs::write(crowd.join(format!("entry-{i}")), b"").unwrap();
    }
    for i in 0..300 {
        fs::hard_link(world.path("few/one"), world.path(&format!("few/again-{i}"))).unwrap();
    }
    world.settings.crowded.warn_entries = 12_000;
    // Before the probe: the entry that it creates for a moment may be the one that needs another block.
    let size = fs::metadata(&crowd).unwrap().size();
    let (scanned, snapshot, _) = survey(&world);
    let dir = scanned.crowded.iter().find(|dir| dir.path.as_path() == crowd).expect("the crowd");
    assert_eq!(dir.entries, 12_000);
    assert_eq!(dir.directory_size.0, size);
    assert!(matches!(dir.create.value(), Some(CreateCost::Works { .. })), "{dir:?}");
    assert_eq!(fs::read_dir(&crowd).unwrap().count(), 12_000, "nothing is left of the test");

    let first = &scanned.most_entries[0];
    // What is all in one directory is that directory.
    assert_eq!(first.path.as_path(), crowd);
    assert_eq!(first.inodes, du(&crowd, &["--inodes"]));
    let few = scanned.most_entries.iter().find(|hog| hog.path.as_path() == world.path("few")).unwrap();
    assert_eq!(few.inodes, 2, "a file with many names is one inode");

    let id = format!("crowded-dir:{}", crowd.display());
    let found =
        rules::assess(&snapshot, &world.settings).into_iter().find(|finding| finding.id == id).unwrap();
    assert!(found.evidence.iter().any(|one| one.fact.contains("in a fresh one")), "{found:?}");
}

#[test]
fn a_path_is_found_in_the_tree_and_nothing_that_is_not_in_it() {
    let world = World::new();
    file(world.path("a/b/c"), 5);
    symlink(world.path("a"), world.path("link")).unwrap();
    let scan = Scan::start(&world.dir, &unwedge::scan::Options::default()).unwrap();
    scan.wait();
    assert_eq!(scan.find(&world.path("a/b/c")).unwrap().apparent.0, 5);
    assert_eq!(scan.find(&world.dir).unwrap().node, scan.root());
    for path in ["a/b/d", "a/b/c/d", "link/b", "a/../a"] {
        assert_eq!(scan.find(&world.path(path)), None, "{path}");
    }
    assert_eq!(scan.find(Path::new("/")), None);
    scan.forget(scan.find(&world.path("a")).unwrap().node);
    assert_eq!(scan.find(&world.path("a/b/c")), None);
    let mut named = 0;
    scan.each_named(&[b"a", b"b", b"c"], |_, _| named += 1);
    assert_eq!(named, 0);
}
