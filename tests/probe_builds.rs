//! Builds: contexts compared with what a real docker takes, real locks, processes that look like builds.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests make trees and processes of their own in temporary directories, and fail by panicking"
)]

#[path = "common/engines.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Dockerd, Running, Surroundings, disguise, is_root, need, start, wait_until};
use unwedge::domain::builds::{BuildContext, Builds, ContextReason};
use unwedge::domain::dockerignore::{DockerIgnore, Judged};
use unwedge::domain::size::Percent;
use unwedge::probe::builds;
use unwedge::rules::assess;

fn look(surroundings: &Surroundings) -> Builds {
    builds::look(&surroundings.context()).value().unwrap().clone()
}

fn context(surroundings: &mut Surroundings, directory: &Path) -> BuildContext {
    surroundings.settings.builds.directories = vec![directory.to_str().unwrap().to_owned()];
    look(surroundings).contexts.into_iter().find(|context| context.directory.as_path() == directory).unwrap()
}

/// What is found of what the rules say of these builds.
fn findings(surroundings: &Surroundings, builds: Builds) -> Vec<unwedge::domain::finding::Finding> {
    let mut snapshot = unwedge::domain::snapshot::Snapshot::pending(surroundings.now);
    snapshot.builds = unwedge::domain::reading::Reading::ready(builds);
    assess(&snapshot, &surroundings.settings)
}

/// Files of a tree, by path below it.
const TREE: &[&str] = &[
    ".git/HEAD",
    ".git/objects/aa/bb",
    ".hidden",
    "Dockerfile.dev",
    "README.md",
    "README-secret.md",
    "a b/c d.txt",
    "a/b/c/deep.log",
    "a/b/keep.log",
    "a/temp1",
    "a/x/temp2",
    "docs/build/out.html",
    "docs/index.html",
    "docs/index.txt",
    "excluded/keep/this",
    "excluded/keep/not-this",
    "excluded/other",
    "file1",
    "file12",
    "filea",
    "glob/[x].txt",
    "glob/star*.txt",
    "glob/x.txt",
    "lib/one.o",
    "lib/sub/two.o",
    "logs/today.log",
    "node_modules/left/index.js",
    "sub/node_modules/pad/index.js",
    "target/debug/big",
    "tmp",
    "unicode/ä.txt",
    "unicode/ö.txt",
    "!odd",
    "#odd",
];

/// Patterns that all versions of docker take in the same way. (Older ones do not look for `!**/name` below a directory
/// that is left out.)
const IGNORE: &str = "\u{feff}# a comment
#odd
.git
/README*.md
!README.md

**/node_modules/
  */temp*
a/**/deep.log
docs/**
!docs/index.*
excluded
!excluded/keep
excluded/keep/not-this
file?
[x-z]rst
file[^0-9]
glob/\\[x\\].txt
glob/star\\*.txt
lib/../lib/*.o
./logs//
target/*
**/[ä].txt
\\!odd
no/such/thing
";

fn make(directory: &Path, ignore: &str) {
    for (size, path) in TREE.iter().enumerate() {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; size * 100]).unwrap();
    }
    std::os::unix::fs::symlink("file12", directory.join("link")).unwrap();
    fs::create_dir(directory.join("empty")).unwrap();
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    fs::copy(busybox, directory.join("busybox")).unwrap();
    fs::write(directory.join("Dockerfile"), "FROM scratch\nCOPY busybox /bin/busybox\nCOPY . /ctx\n")
        .unwrap();
    fs::write(directory.join(".dockerignore"), ignore).unwrap();
}

/// The files that the patterns leave in, by our own walk over all of the tree.
fn ours(directory: &Path, ignore: &str) -> BTreeSet<String> {
    fn walk(ignore: &DockerIgnore, root: &Path, dir: &Path, above: &Judged, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let below = path.strip_prefix(root).unwrap();
            let (left_out, judged) = ignore.judge(below.as_os_str().as_bytes(), above);
            if entry.file_type().unwrap().is_dir() {
                walk(ignore, root, &path, &judged, found);
            } else if !left_out {
                found.insert(below.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    let ignore = DockerIgnore::parse(ignore.as_bytes()).unwrap();
    walk(&ignore, directory, directory, &Judged::default(), &mut found);
    found
}

#[test]
fn a_context_holds_what_docker_takes() {
    if !is_root() || !need(&["dockerd", "/usr/bin/docker", "busybox"]) {
        return;
    }
    let dockerd = Dockerd::start();
    let mut surroundings = Surroundings::real();
    let everything_but = "*\n!Dockerfile*\n!busybox\n!docs\ndocs/*.txt\n!lib/sub/\n";
    for (name, ignore) in
        [("tricky", IGNORE), ("none", ""), ("allow", everything_but), ("all", "**/*.txt\n**/*.log")]
    {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), ignore);
        let ours = ours(dir.path(), ignore);
        for buildkit in [true, false] {
            dockerd.build_from(name, dir.path(), buildkit);
            let listed = dockerd.run(&[
                "run",
                "--rm",
                "--network",
                "none",
                name,
                "/bin/busybox",
                "find",
                "/ctx",
                "!",
                "-type",
                "d",
            ]);
            let theirs: BTreeSet<String> =
                listed.lines().filter_map(|line| line.strip_prefix("/ctx/")).map(ToOwned::to_owned).collect();
            assert_eq!(theirs, ours, "{name}, buildkit {buildkit}");
        }
        // The probe skips directories that cannot matter, and must come to the same.
        let seen = context(&mut surroundings, dir.path());
        let content = seen.content.value().unwrap();
        let files: u64 = ours
            .iter()
            .map(|path| dir.path().join(path).symlink_metadata().unwrap())
            .map(|meta| if meta.is_file() { meta.len() } else { 0 })
            .sum();
        assert_eq!((content.files, content.size.0), (ours.len() as u64, files), "{name}");
    }
}

#[test]
fn a_large_context_is_told_with_what_makes_it_large() {
    let dir = tempfile::tempdir().unwrap();
    let mut surroundings = Surroundings::real();
    surroundings.settings.builds.warn_context = bytesize::ByteSize::mib(1);
    let at = |path: &str| dir.path().join(path);
    for path in ["target/debug", ".git/objects", "src"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    fs::write(at("target/debug/app"), vec![0; 2 << 20]).unwrap();
    fs::write(at(".git/objects/pack"), vec![0; 1 << 20]).unwrap();
    fs::write(at("src/main.rs"), "x").unwrap();
    fs::write(at("Dockerfile"), "FROM scratch\n\nRUN apt-get update && \\\n  apt-get install -y x\n")
        .unwrap();
    let seen = context(&mut surroundings, dir.path());
    assert_eq!(seen.because, ContextReason::Asked);
    let content = seen.content.value().unwrap();
    let unwanted: Vec<String> = content.unwanted.iter().map(|dir| dir.path.to_string()).collect();
    assert_eq!(unwanted, ["target", ".git"]);
    assert_eq!(content.largest[0].path.as_path(), Path::new("target/debug/app"));
    assert_eq!(seen.uncached[0].line, 3);
    let ids: Vec<String> = findings(&surroundings, Builds { contexts: vec![seen], ..Builds::default() })
        .into_iter()
        .map(|finding| finding.id)
        .collect();
    let shown = dir.path().display();
    assert_eq!(ids, [format!("build-context:{shown}"), format!("dockerfile-no-cache:{shown}/Dockerfile")]);

    fs::write(at(".dockerignore"), "target\n.git\n").unwrap();
    let seen = context(&mut surroundings, dir.path());
    assert!(seen.content.value().unwrap().size.0 < 1000, "{seen:?}");
    fs::write(at(".dockerignore"), "target\n[\n").unwrap();
    let seen = context(&mut surroundings, dir.path());
    assert!(seen.content.sentences()[0].contains("docker refuses"), "{seen:?}");
    // More entries than may be looked at.
    fs::remove_file(at(".dockerignore")).unwrap();
    surroundings.settings.builds.context_entries = 3;
    let seen = context(&mut surroundings, dir.path());
    assert_eq!(seen.content.gaps().len(), 1, "{seen:?}");
}

#[test]
fn builds_that_run_are_grouped_with_their_directory_and_context() {
    if !need(&["/bin/bash"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (work, other) = (dir.path().join("work"), dir.path().join("other"));
    fs::create_dir(&work).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(work.join("Dockerfile"), "FROM scratch\n").unwrap();
    let cargo = disguise(dir.path(), "cargo");
    let in_dir = |program: &Path, place: &Path| {
        let mut command = Command::new(program);
        command.arg("1000").current_dir(place);
        start(&mut command)
    };
    let (first, second, third) = (in_dir(&cargo, &work), in_dir(&cargo, &work), in_dir(&cargo, &other));
    // A client of docker: a shell that names itself so and has a child, which ends with our end of the pipe.
    let mut client = Command::new("/bin/bash");
    client.arg0("docker").args(["-c", "cat; :", "build", "-t", "x", "."]).current_dir(&work);
    let client = Running(client.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());

    let surroundings = Surroundings::real();
    let of = |pid: i32| {
        let builds = look(&surroundings);
        builds.running.into_iter().find(|build| build.root.pid.0 == pid)
    };
    wait_until("all are seen", || {
        [first.pid(), second.pid(), third.pid()].into_iter().all(|pid| of(pid).is_some())
            && of(client.pid()).is_some_and(|build| build.processes == 2)
    });
    let mut seen = look(&surroundings);
    let ours = [first.pid(), second.pid(), third.pid(), client.pid()];
    seen.running.retain(|build| ours.contains(&build.root.pid.0));
    assert_eq!(seen.running.len(), 4);
    assert!(seen.running.iter().all(|build| build.same_mounts && build.directory.is_some()));
    let running = seen.contexts.iter().find(|context| context.directory.as_path() == work).unwrap();
    assert!(matches!(running.because, ContextReason::Running { build } if build.pid.0 == client.pid()));
    assert_eq!(running.content.value().unwrap().files, 1);

    seen.contexts.clear();
    seen.locks.clear();
    // What starting them took can be much of so short a life.
    seen.running.iter_mut().for_each(|build| build.cpu = Percent(0.0));
    let found = findings(&surroundings, seen.clone());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].id, format!("builds-competing:cargo:{}", work.display()));
    assert_eq!(found[0].evidence.len(), 2);
    // Of four, one is busy: an engine works for it. The others sleep.
    let mut strict = Surroundings::real();
    strict.settings.builds.warn_competing = 2;
    assert_eq!(findings(&strict, seen.clone()).len(), 1);
    strict.settings.builds.busy_percent = 0;
    let found = findings(&strict, seen);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[1].evidence.len(), 4);
}

#[test]
fn who_holds_the_lock_of_dpkg_is_told() {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/proc", root.path().join("proc")).unwrap();
    fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
    let path = root.path().join("var/lib/dpkg/lock-frontend");
    let file = fs::File::create(&path).unwrap();
    let mut surroundings = Surroundings::fixture(root.path());
    assert_eq!(look(&surroundings).locks, []);
    // As dpkg does: fcntl(2).
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let builds = look(&surroundings);
    assert_eq!(builds.locks.len(), 1);
    let holder = builds.locks[0].holder.as_ref().unwrap();
    assert_eq!(holder.process.pid.0.unsigned_abs(), std::process::id());
    assert_eq!(builds.locks[0].path.as_path(), Path::new("/var/lib/dpkg/lock-frontend"));
    let only_locks = Builds { locks: builds.locks, ..Builds::default() };
    surroundings.settings.builds.lock_warn_secs = u64::MAX;
    assert_eq!(findings(&surroundings, only_locks.clone()), []);
    surroundings.settings.builds.lock_warn_secs = 0;
    let found = findings(&surroundings, only_locks);
    assert_eq!(found[0].id, "package-lock:/var/lib/dpkg/lock-frontend");
}

#[test]
fn what_buildx_left_in_a_home_is_told() {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/proc", root.path().join("proc")).unwrap();
    let state = root.path().join("root/.docker/buildx");
    for dir in ["instances", "activity"] {
        fs::create_dir_all(state.join(dir)).unwrap();
    }
    fs::write(state.join("instances/kept"), "{}").unwrap();
    for (name, time) in [
        ("kept", "2026-01-02T03:04:05Z"),
        ("gone", "2025-01-02T03:04:05.123Z"),
        ("default", "x"),
        (".tmp-default1", ""),
    ] {
        fs::write(state.join("activity").join(name), time).unwrap();
    }
    let seen = look(&Surroundings::fixture(root.path()));
    assert_eq!(seen.buildx.len(), 1, "{:?}", seen.buildx);
    let state = &seen.buildx[0];
    assert_eq!((state.instances, state.half_written, state.foreign), (1, 1, 0));
    let gone: Vec<String> =
        state.activity.iter().filter(|one| !one.exists).map(|one| one.builder.to_string()).collect();
    assert_eq!(gone, ["gone"]);
    assert!(seen.places.iter().any(|place| place.what == "buildx state" && place.usage.value().is_some()));
}
