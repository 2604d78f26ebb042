//! Sweeping an over-full directory: what is old and nobody's goes, everything else stays.
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
#[path = "common/filesystems.rs"]
mod filesystems;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{World, inside_mount_namespace, leftovers, sh, why};
use unwedge::actions::Request;
use unwedge::domain::finding::Reclaim;
use unwedge::domain::receipt::{Outcome, Receipt};
use unwedge::domain::sweep::SweepTarget;
use unwedge::sys::{beneath, file_id};

fn sweep(world: &World, path: &Path) -> Receipt {
    let located = beneath::open_parent(path).unwrap();
    let id = file_id::of_entry(&located.parent, &located.name).unwrap();
    let target = SweepTarget { path: path.into(), id, entries: None, holds: None };
    world.run(world.plan(&Request::Sweep(vec![target])))
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// A process that ends with the test, and keeps no pipe of it open.
struct Sleeper(Child);

impl Sleeper {
    fn start(command: &mut Command) -> Self {
        Self(command.arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_is_old_and_unused_goes_and_all_else_stays() {
    if !inside_mount_namespace("what_is_old_and_unused_goes_and_all_else_stays") {
        return;
    }
    let mut world = World::new();
    let point = world.path("temp");
    filesystems::mount("ext4", &point, 64);
    let at = |name: &str| point.join(name);
    fs::set_permissions(&point, fs::Permissions::from_mode(0o1777)).unwrap();
    for file in ["old", "open", "kept-1", "touched", "young", "written", "of-root", "protected"] {
        fs::write(at(file), b"x").unwrap();
    }
    for dir in [
        "empty",
        "full/sub",
        "mixed",
        "holds-open",
        "stood-in/sub",
        "holds-fifo",
        "root-dir",
        "holds-root/dir",
        ".snap",
        "systemd-private-7-x",
        "young-dir",
        "store/sub",
        "mounted-on/sub",
        "young-empty",
    ] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    for file in
        ["full/a", "full/sub/b", "mixed/old", "mixed/new", "holds-open/f", "root-dir/f", "store/sub/f"]
    {
        fs::write(at(file), b"x").unwrap();
    }
    symlink("nowhere", at("old-link")).unwrap();
    sh(&format!("mkfifo {0}/fifo {0}/holds-fifo/fifo; mknod {0}/null c 1 3", point.display()));
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"];
    let library = library.into_iter().find(|path| Path::new(path).exists()).unwrap();
    fs::copy(library, at("mapped.so")).unwrap();
    sh(&format!(
        "chown -hR 1000:1000 {0}/*; chown -R 0:0 {0}/root-dir {0}/holds-root/dir {0}/of-root",
        point.display()
    ));
    filesystems::age(&point, &["young", "mixed/new", "young-dir", "young-empty"]);

    // A time that somebody sets is not believed alone.
    sh(&format!("touch -a -m -d 2001-01-01 {}", at("touched").display()));
    fs::write(at("written"), b"again").unwrap();
    let open = File::open(at("open")).unwrap();
    let held = File::open(at("holds-open/f")).unwrap();
    let mapper = Sleeper::start(Command::new("/bin/sleep").env("LD_PRELOAD", at("mapped.so")));
    let stander = Sleeper::start(Command::new("/bin/sleep").current_dir(at("stood-in/sub")));
    let maps = format!("/proc/{}/maps", mapper.0.id());
    while !fs::read_to_string(&maps).unwrap().contains("mapped.so") {
        std::thread::yield_now();
    }
    sh(&format!("mount -t tmpfs none {}", at("mounted-on/sub").display()));
    world.protect(&at("store/sub"));
    world.protect(&at("protected"));
    world.settings.sweep.keep = vec!["kept-*".to_owned()];

    let before = names(&point);
    let receipt = sweep(&world, &point);
    let after = names(&point);
    let gone: Vec<&str> = before.difference(&after).map(String::as_str).collect();
    assert_eq!(gone, ["empty", "full", "of-root", "old", "old-link"], "{receipt:?}");
    // full: itself, sub, and two files.
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 8 }, "{receipt:?}");
    assert_eq!(leftovers(&point), Vec::<String>::new());
    for file in ["mixed/old", "mixed/new", "holds-open/f", "root-dir/f", "store/sub/f", "holds-fifo/fifo"] {
        assert!(at(file).symlink_metadata().is_ok(), "{file}");
    }
    sh(&format!("umount {}", at("mounted-on/sub").display()));
    drop((open, held, mapper, stander));

    // What was in use is not any more; the rest stays for ever.
    let receipt = sweep(&world, &point);
    let last = names(&point);
    let gone: Vec<&str> = after.difference(&last).map(String::as_str).collect();
    assert_eq!(gone, ["holds-open", "mapped.so", "mounted-on", "open", "stood-in"], "{receipt:?}");
    let third = why(&sweep(&world, &point));
    assert!(third.contains("1 directories of root") || third.contains("directories of root"), "{third}");
    assert_eq!(names(&point), last);
}

#[test]
fn what_is_in_use_stays_on_overlayfs_where_leases_do_not_tell_all() {
    if !inside_mount_namespace("what_is_in_use_stays_on_overlayfs_where_leases_do_not_tell_all") {
        return;
    }
    let world = World::new();
    let disk = world.path("disk");
    filesystems::mount("ext4", &disk, 64);
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"];
    let library = library.into_iter().find(|path| Path::new(path).exists()).unwrap();
    for layer in ["lower", "upper"] {
        fs::create_dir(disk.join(layer)).unwrap();
        for name in ["old", "open", "written"] {
            fs::write(disk.join(format!("{layer}/{layer}-{name}")), b"x").unwrap();
        }
        fs::copy(library, disk.join(format!("{layer}/{layer}-mapped.so"))).unwrap();
    }
    fs::create_dir(disk.join("work")).unwrap();
    filesystems::age(&disk, &[]);
    let point = world.path("temp");
    fs::create_dir(&point).unwrap();
    let (shown, disk) = (point.display(), disk.display());
    let layers = format!("noatime,lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work");
    sh(&format!("mount -t overlay -o {layers} none {shown}"));
    let open = ["lower", "upper"].map(|layer| File::open(point.join(format!("{layer}-open"))).unwrap());
    // Opened by another process, and mapped by one that has closed it.
    let mut users = Vec::new();
    for layer in ["lower", "upper"] {
        let copy = point.join(format!("{layer}-mapped.so"));
        let mapper = Sleeper::start(Command::new("/bin/sleep").env("LD_PRELOAD", &copy));
        let maps = format!("/proc/{}/maps", mapper.0.id());
        while !fs::read_to_string(&maps).unwrap().contains("mapped.so") {
            std::thread::yield_now();
        }
        users.push(mapper);
        let file = File::open(point.join(format!("{layer}-written"))).unwrap();
        users.push(Sleeper(Command::new("/bin/sleep").arg("1000").stdin(file).spawn().unwrap()));
    }
    let receipt = sweep(&world, &point);
    // What is in the lower layer is copied up when it is set aside, and the copy is young: it goes back. Its space would
    // not come back anyway.
    let lower = ["lower-mapped.so", "lower-old", "lower-open", "lower-written"];
    let upper = ["upper-mapped.so", "upper-open", "upper-written"];
    assert_eq!(names(&point), lower.into_iter().chain(upper).map(str::to_owned).collect(), "{receipt:?}");
    drop((open, users));
    let receipt = sweep(&world, &point);
    assert_eq!(names(&point), lower.map(str::to_owned).into(), "{receipt:?}");
    let third = why(&sweep(&world, &point));
    assert!(third.contains("4 young"), "{third}");
    sh(&format!("umount {shown}"));
}

#[test]
fn a_run_takes_a_fifth_of_the_file_system_at_most() {
    if !inside_mount_namespace("a_run_takes_a_fifth_of_the_file_system_at_most") {
        return;
    }
    let world = World::new();
    let point = world.path("temp");
    filesystems::mount("ext4", &point, 64);
    let dir = point.join("dir");
    fs::create_dir(&dir).unwrap();
    for number in 0..20 {
        fs::write(dir.join(format!("f{number}")), vec![1; 1 << 20]).unwrap();
    }
    filesystems::age(&point, &[]);
    let (mut runs, mut left) = (0, 20);
    while left > 0 {
        let receipt = sweep(&world, &dir);
        assert_eq!(receipt.promised, Reclaim::Unknown);
        let now = names(&dir).len();
        assert!(left - now <= 12 && now < left, "{left} to {now}: {receipt:?}");
        if now > 0 {
            let Outcome::Partly { problems, .. } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
            assert!(problems[0].contains("20 %"), "{problems:?}");
        }
        (runs, left) = (runs + 1, now);
    }
    assert!(runs >= 2);
}

#[test]
fn a_fresh_file_is_never_swept_whatever_the_settings_say() {
    let mut world = World::new();
    world.settings.sweep.file_hours = 0;
    let dir = world.path("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), b"x").unwrap();
    sh(&format!("touch -d 2001-01-01 {}", dir.join("f").display()));
    assert!(why(&sweep(&world, &dir)).contains("1 young"));
    assert!(dir.join("f").exists());

    // A link in its place, and another directory in its place, are not swept.
    let located = beneath::open_parent(&dir).unwrap();
    let id = file_id::of_entry(&located.parent, &located.name).unwrap();
    let plan = world.plan(&Request::Sweep(vec![SweepTarget {
        path: dir.as_path().into(),
        id,
        entries: None,
        holds: None,
    }]));
    fs::rename(&dir, world.path("moved")).unwrap();
    symlink("moved", &dir).unwrap();
    assert!(why(&world.run(plan.clone())).contains("link"));
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    assert!(why(&world.run(plan)).contains("changed, skipped"));
    world.protect(&world.path("moved"));
    let protected = sweep_made_up(&world, &world.path("moved"));
    assert!(protected.contains("protected"), "{protected}");
}

/// Runs a sweep that the planner would have refused.
fn sweep_made_up(world: &World, path: &Path) -> String {
    let located = beneath::open_parent(path).unwrap();
    let id = file_id::of_entry(&located.parent, &located.name).unwrap();
    let request = Request::Sweep(vec![SweepTarget { path: path.into(), id, entries: None, holds: None }]);
    assert!(world.plan(&request).is_empty());
    let open = unwedge::actions::plan(
        &request,
        &unwedge::domain::snapshot::Snapshot::pending(jiff::Timestamp::now()),
        &world.settings,
    );
    why(&world.run(open))
}
