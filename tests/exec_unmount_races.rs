//! Unmounting while somebody else mounts there, and while another namespace shares what is unmounted. Each race has a
//! naive control in the same test that must lose.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{World, inside_mount_namespace, sh};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree};
use unwedge::actions::Request;
use unwedge::domain::identity::{DevId, FileId, NamespaceId};
use unwedge::domain::receipt::{Outcome, Receipt};
use unwedge::domain::snapshot::{BuildMount, Evidence, Verdict};
use unwedge::sys::procfs::Proc;
use unwedge::sys::{file_id, mounted_on};

fn identity(path: &Path) -> FileId {
    file_id::of_fd(File::open(path).unwrap()).unwrap()
}

/// The mount that is on top at a path, as the probe would tell it.
fn top(path: &Path) -> BuildMount {
    BuildMount {
        mount: identity(path).mount,
        parent: 0,
        mount_point: path.into(),
        root: "/a".into(),
        fs_type: "tmpfs".into(),
        source: "none".into(),
        dev: DevId::default(),
        namespace: NamespaceId(Proc::new("/proc").own_mount_namespace().unwrap().0),
        via: None,
        copies: Vec::new(),
        verdict: Verdict::Orphan,
        evidence: vec![Evidence::new("made by the test", "the test")],
    }
}

fn unmount(world: &World, mount: &BuildMount) -> Receipt {
    world.run(world.plan(&Request::Unmount(vec![mount.clone()])))
}

fn is_mounted(unique: u64) -> bool {
    mounted_on::is_covered(unique).is_ok()
}

/// A file system of the test's own with a directory to show and one to show it at.
struct Fixture {
    world: World,
    point: PathBuf,
}

impl Fixture {
    fn new(propagation: &str) -> Self {
        let world = World::in_memory();
        let dir = world.dir.display();
        sh(&format!(
            "mkdir {dir}/fs; mount -t tmpfs fs {dir}/fs; mount --make-{propagation} {dir}/fs; \
             mkdir {dir}/fs/a {dir}/fs/b {dir}/fs/buildkit-mount1; echo kept > {dir}/fs/a/file"
        ));
        let point = world.path("fs/buildkit-mount1");
        Self { world, point }
    }

    /// Mounts what is to be unmounted.
    fn mount(&self) -> BuildMount {
        let source = self.world.path("fs/a");
        sh(&format!("mount --bind --make-private {} {}", source.display(), self.point.display()));
        top(&self.point)
    }
}

/// Somebody who mounts at a place and unmounts again, over and over, and counts how often that was done for him.
struct Stacker<'a> {
    point: &'a Path,
    source: PathBuf,
    /// Whether he may.
    go: AtomicBool,
    /// Whether he has nothing mounted there.
    idle: AtomicBool,
    end: AtomicBool,
    mounted: AtomicU32,
    robbed: AtomicU32,
}

impl<'a> Stacker<'a> {
    fn new(fixture: &'a Fixture) -> Self {
        Self {
            point: &fixture.point,
            source: fixture.world.path("fs/b"),
            go: false.into(),
            idle: true.into(),
            end: false.into(),
            mounted: 0.into(),
            robbed: 0.into(),
        }
    }

    fn work(&self) {
        while !self.end.load(Ordering::SeqCst) {
            self.idle.store(false, Ordering::SeqCst);
            if self.go.load(Ordering::SeqCst) {
                self.once();
            } else {
                self.idle.store(true, Ordering::SeqCst);
                std::thread::yield_now();
            }
        }
    }

    fn once(&self) {
        let copy = open_tree(CWD, &self.source, OpenTreeFlags::OPEN_TREE_CLONE).unwrap();
        let id = file_id::of_fd(&copy).unwrap().mount.unique.unwrap();
        let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        // The place may be gone, or on its way elsewhere, in this moment.
        if move_mount(&copy, "", CWD, self.point, how).is_err() {
            return;
        }
        drop(copy);
        self.mounted.fetch_add(1, Ordering::SeqCst);
        for _ in 0..20 {
            std::hint::spin_loop();
        }
        while is_mounted(id) {
            // What is his is on top, unless it is just being put back.
            if file_id::of_path(&path_of(self.point), false).is_ok_and(|top| top.mount.unique == Some(id))
                && rustix::mount::unmount(self.point, UnmountFlags::DETACH).is_ok()
                && !is_mounted(id)
            {
                return;
            }
        }
        self.robbed.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets him work while something is done, and waits until he has stopped.
    fn during(&self, work: impl FnOnce()) {
        self.go.store(true, Ordering::SeqCst);
        work();
        self.go.store(false, Ordering::SeqCst);
        while !self.idle.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

fn path_of(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.to_str().unwrap()).unwrap()
}

/// What is done by hand: a look, and then a call with the path.
fn naive(point: &Path, unique: u64, how: UnmountFlags) -> bool {
    let on_top = file_id::of_path(&path_of(point), false).is_ok_and(|top| top.mount.unique == Some(unique));
    on_top && rustix::mount::unmount(point, how | UnmountFlags::NOFOLLOW).is_ok()
}

/// Unmounts everything that is left at the place.
fn clear(fixture: &Fixture) {
    while rustix::mount::unmount(&fixture.point, UnmountFlags::DETACH).is_ok() {}
    fs::create_dir_all(&fixture.point).unwrap();
}

/// Runs rounds against somebody who mounts there all the time: first the naive way, which must hit his mount once, then
/// ours, which never may. `busy`: the mount is in use.
fn race(fixture: &Fixture, busy: bool) {
    let stacker = Stacker::new(fixture);
    let how = if busy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    std::thread::scope(|scope| {
        scope.spawn(|| stacker.work());
        let patience = Instant::now() + Duration::from_mins(1);
        while stacker.robbed.load(Ordering::SeqCst) == 0 && Instant::now() < patience {
            let id = fixture.mount().mount.unique.unwrap();
            stacker.during(|| {
                let until = Instant::now() + Duration::from_millis(200);
                while is_mounted(id) && Instant::now() < until {
                    naive(&fixture.point, id, how);
                }
            });
            clear(fixture);
        }
        let lost = stacker.robbed.swap(0, Ordering::SeqCst);
        let (mut gone, mut rounds) = (0, 0);
        let until = Instant::now() + Duration::from_secs(5);
        stacker.mounted.store(0, Ordering::SeqCst);
        while Instant::now() < until {
            let mount = fixture.mount();
            let user = busy.then(|| File::open(&fixture.point).unwrap());
            stacker.during(|| {
                for _ in 0..10 {
                    let receipt = unmount(&fixture.world, &mount);
                    if !is_mounted(mount.mount.unique.unwrap()) {
                        gone += 1;
                        break;
                    }
                    assert!(!matches!(receipt.steps[0].outcome, Outcome::Done { .. }), "{receipt:?}");
                }
            });
            drop(user);
            rounds += 1;
            clear(fixture);
        }
        stacker.end.store(true, Ordering::SeqCst);
        let (mounted, robbed) =
            (stacker.mounted.load(Ordering::SeqCst), stacker.robbed.load(Ordering::SeqCst));
        eprintln!("{rounds} rounds, {gone} unmounted, against {mounted} mounts; the naive way hit {lost}");
        assert_eq!(robbed, 0, "of {mounted} in {rounds} rounds");
        assert!(lost > 0, "the control never lost: the race is none");
        assert!(gone > 0 && mounted > 10, "{gone} of {rounds} went, against {mounted} mounts");
    });
    assert_eq!(fs::read(fixture.world.path("fs/a/file")).unwrap(), b"kept\n");
}

#[test]
fn what_is_mounted_on_top_between_the_look_and_the_call_is_not_hit() {
    if !inside_mount_namespace("what_is_mounted_on_top_between_the_look_and_the_call_is_not_hit") {
        return;
    }
    race(&Fixture::new("private"), false);
}

#[test]
fn what_is_mounted_on_top_of_a_busy_mount_is_not_hit() {
    if !inside_mount_namespace("what_is_mounted_on_top_of_a_busy_mount_is_not_hit") {
        return;
    }
    race(&Fixture::new("private"), true);
}

#[test]
fn what_is_mounted_on_top_of_a_busy_mount_that_is_shared_is_not_hit() {
    if !inside_mount_namespace("what_is_mounted_on_top_of_a_busy_mount_that_is_shared_is_not_hit") {
        return;
    }
    race(&Fixture::new("shared"), true);
}

/// A process in another namespace whose mounts are peers of ours, in a directory.
fn peer(fixture: &Fixture, dir: &Path) -> Child {
    let ready = fixture.world.path("ready");
    let _ = fs::remove_file(&ready);
    let script = format!("cd {}; touch {}; exec sleep 1000", dir.display(), ready.display());
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "unchanged", "sh", "-euc", &script])
        .spawn()
        .unwrap();
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the other namespace broke off");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The mount points at or below the fixture's file system that a process sees.
fn points(pid: &str, fixture: &Fixture) -> Vec<String> {
    let top = fixture.world.path("fs");
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let points = text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
    points.filter(|point| Path::new(point).starts_with(&top)).collect()
}

#[test]
fn a_copy_in_another_namespace_that_is_in_use_there_stays() {
    if !inside_mount_namespace("a_copy_in_another_namespace_that_is_in_use_there_stays") {
        return;
    }
    let fixture = Fixture::new("shared");
    let point = fixture.point.display().to_string();
    let sees = |child: &Child| points(&child.id().to_string(), &fixture);
    let cwd = |child: &Child| fs::read_to_string(format!("/proc/{}/cwd/file", child.id()));
    let by_path = |child: &Child| fs::read_to_string(format!("/proc/{}/root{point}/file", child.id()));

    // The naive way takes it from the other one.
    fixture.mount();
    let child = peer(&fixture, &fixture.point);
    assert_eq!(sees(&child).len(), 2);
    sh(&format!("umount --lazy {point}"));
    assert_eq!(sees(&child).len(), 1, "the control must lose");
    assert!(by_path(&child).is_err());
    end(child);

    let mount = fixture.mount();
    let child = peer(&fixture, &fixture.point);
    let before = sees(&child);
    let receipt = unmount(&fixture.world, &mount);
    let Outcome::Skipped { why } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    assert!(why.contains("another namespace"), "{why}");
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 1 }, "{receipt:?}");
    assert_eq!(points("self", &fixture), [fixture.world.path("fs").display().to_string()]);
    assert_eq!(sees(&child), before, "and nothing of ours stays there");
    assert_eq!(cwd(&child).unwrap(), "kept\n");
    assert_eq!(by_path(&child).unwrap(), "kept\n");
    // What is mounted from now on is shared as before.
    fixture.mount();
    assert_eq!(sees(&child).len(), 3);
    end(child);
    clear(&fixture);
}

#[test]
fn a_copy_in_another_namespace_that_nobody_uses_goes_along() {
    if !inside_mount_namespace("a_copy_in_another_namespace_that_nobody_uses_goes_along") {
        return;
    }
    let fixture = Fixture::new("shared");
    let mount = fixture.mount();
    let child = peer(&fixture, Path::new("/"));
    let receipt = unmount(&fixture.world, &mount);
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 1 }, "{receipt:?}");
    assert_eq!(points(&child.id().to_string(), &fixture).len(), 1);
    end(child);
}
