//! Unmounting leftover build mounts, from inside and from outside their namespace.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};

use common::{World, inside_mount_namespace, process, sh};
use unwedge::actions::Request;
use unwedge::domain::identity::{DevId, MountId, NamespaceId, ProcId};
use unwedge::domain::receipt::{MountsDelta, Outcome, Receipt, Standing};
use unwedge::domain::snapshot::{BuildMount, Evidence, Verdict};
use unwedge::domain::text::HostPath;
use unwedge::sys::file_id;

/// The build mounts that a process sees, as the probe would tell them. The unique id is left to the caller.
fn build_mounts(pid: &str, via: Option<ProcId>) -> Vec<BuildMount> {
    let namespace = NamespaceId(fs::metadata(format!("/proc/{pid}/ns/mnt")).unwrap().ino());
    fs::read_to_string(format!("/proc/{pid}/mountinfo"))
        .unwrap()
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields[4].contains("/buildkit-mount"))
        .map(|fields| BuildMount {
            mount: MountId { id: fields[0].parse().unwrap(), unique: None },
            parent: fields[1].parse().unwrap(),
            mount_point: fields[4].into(),
            root: fields[3].into(),
            fs_type: "ext4".into(),
            source: "none".into(),
            dev: DevId::default(),
            namespace,
            via,
            copies: Vec::new(),
            verdict: Verdict::Orphan,
            evidence: vec![Evidence::new("made by the test", "the test")],
        })
        .collect()
}

/// A script that makes twelve bind mounts, two of them inside another one.
fn twelve(world: &World) -> String {
    let dir = world.dir.display();
    format!(
        "mkdir -p {dir}/source/sub {dir}/tmp; for i in 1 2 3; do echo $i > {dir}/source/f$i; done; \
         for i in 1 2 3 4 5 6 7 8 9 10; do mkdir -p {dir}/tmp/buildkit-mount$i; \
         mount --bind {dir}/source {dir}/tmp/buildkit-mount$i; done; \
         mkdir -p {dir}/source/sub/deeper; \
         mount --bind {dir}/source {dir}/tmp/buildkit-mount1/sub; \
         mount --bind {dir}/source {dir}/tmp/buildkit-mount2/sub/deeper"
    )
}

fn source_is_whole(world: &World) {
    for index in 1..=3 {
        assert_eq!(
            fs::read_to_string(world.path(&format!("source/f{index}"))).unwrap(),
            format!("{index}\n")
        );
    }
}

fn unmount(world: &World, mounts: Vec<BuildMount>) -> Receipt {
    world.run(world.plan(&Request::Unmount(mounts)))
}

/// Everything in its turn: 12 plain unmounts done, 12 lazy ones not needed.
fn all_plain(receipt: &Receipt) {
    assert!(receipt.is_clean(), "{:#?}", receipt.steps);
    for step in &receipt.steps {
        let done = matches!(step.outcome, Outcome::Done { .. });
        assert!(
            done || step.op.starts_with("detach ") || step.op.starts_with("remove the empty "),
            "{step:?}"
        );
        assert!(!(done && step.op.starts_with("detach ")), "{step:?}");
    }
}

#[test]
fn twelve_leaked_mounts_go_from_inside_and_the_source_stays() {
    if !inside_mount_namespace("twelve_leaked_mounts_go_from_inside_and_the_source_stays") {
        return;
    }
    let world = World::new();
    sh(&twelve(&world));
    let mut mounts = build_mounts("self", None);
    assert_eq!(mounts.len(), 12);
    for mount in &mut mounts {
        // With the id that is never reused, where the kernel has it.
        let top = fs::File::open(mount.mount_point.as_path()).unwrap();
        mount.mount = file_id::of_fd(&top).unwrap().mount;
    }
    let receipt = unmount(&world, mounts);
    all_plain(&receipt);
    let MountsDelta { before, after } = receipt.unmounted.as_ref().unwrap();
    assert_eq!((before.value(), after.value()), (Some(&12), Some(&0)));
    assert_eq!(build_mounts("self", None), []);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0, "the empty directories went too");
    source_is_whole(&world);
    // The two inner mount points were directories of the source, empty ones: they went as such.
    assert!(world.path("source").exists());
}

/// A process in a mount namespace of its own, in which a script has run.
fn elsewhere(world: &World, script: &str) -> Child {
    let ready = world.path("ready");
    let script = format!("{script}; touch {}; exec sleep 1000", ready.display());
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
        .spawn()
        .unwrap();
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the other namespace broke off");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn twelve_leaked_mounts_go_from_outside() {
    if !common::is_root() {
        return;
    }
    let world = World::new();
    let child = elsewhere(&world, &twelve(&world));
    let pid = child.id().to_string();
    assert_eq!(build_mounts("self", None), [], "they are not ours");
    let ours = fs::read("/proc/self/mountinfo").unwrap();
    let mounts = build_mounts(&pid, Some(process(child.id())));
    assert_eq!(mounts.len(), 12);
    let receipt = unmount(&world, mounts);
    all_plain(&receipt);
    assert_eq!(build_mounts(&pid, None), []);
    assert_eq!(fs::read("/proc/self/mountinfo").unwrap(), ours, "our own mounts are as before");
    source_is_whole(&world);
    end(child);
}

#[test]
fn another_process_or_namespace_than_the_planned_one_is_not_entered() {
    if !common::is_root() {
        return;
    }
    let world = World::new();
    let child = elsewhere(&world, &twelve(&world));
    let pid = child.id().to_string();
    let mounts = build_mounts(&pid, Some(process(child.id())));
    let mut reused = mounts.clone();
    let mut moved = mounts.clone();
    for mount in &mut reused {
        mount.via.as_mut().unwrap().start += 1;
    }
    for mount in &mut moved {
        mount.namespace.0 += 1;
    }
    for wrong in [reused, moved] {
        let receipt = unmount(&world, wrong);
        for step in &receipt.steps {
            assert!(matches!(step.outcome, Outcome::Skipped { .. }), "{step:?}");
        }
    }
    assert_eq!(build_mounts(&pid, None).len(), 12);
    end(child);
}

#[test]
fn the_mount_stacked_on_top_is_not_touched() {
    if !inside_mount_namespace("the_mount_stacked_on_top_is_not_touched") {
        return;
    }
    let world = World::new();
    let dir = world.dir.display();
    sh(&format!("mkdir {dir}/a {dir}/b {dir}/buildkit-mount1; mount --bind {dir}/a {dir}/buildkit-mount1"));
    let planned = build_mounts("self", None);
    sh(&format!("mount --bind {dir}/b {dir}/buildkit-mount1"));
    let receipt = unmount(&world, planned.clone());
    let Outcome::Skipped { why } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    assert!(why.contains("on top"), "{why}");
    assert_eq!(build_mounts("self", None).len(), 2);
    // Both chosen: the top one first, then the other one, then the directory.
    let receipt = unmount(&world, build_mounts("self", None));
    assert!(receipt.is_clean(), "{:?}", receipt.steps);
    assert_eq!(build_mounts("self", None), []);
    assert!(!world.path("buildkit-mount1").exists());
    // Again: nothing is there any more. That is no failure, and nothing was done.
    let receipt = unmount(&world, planned);
    assert!(receipt.steps.iter().all(|step| matches!(step.outcome, Outcome::Skipped { .. })), "{receipt:?}");
    assert_eq!(receipt.standing(), Standing::Nothing);
}

#[test]
fn a_busy_mount_is_detached_and_that_is_said() {
    if !inside_mount_namespace("a_busy_mount_is_detached_and_that_is_said") {
        return;
    }
    let world = World::new();
    let dir = world.dir.display();
    sh(&format!("mkdir {dir}/a {dir}/buildkit-mount1; mount --bind {dir}/a {dir}/buildkit-mount1"));
    let mut user =
        Command::new("sleep").arg("1000").current_dir(world.path("buildkit-mount1")).spawn().unwrap();
    let receipt = unmount(&world, build_mounts("self", None));
    let Outcome::Skipped { why } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    assert!(why.contains("busy") && why.contains("the next step did it"), "{why}");
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 1 });
    assert_eq!(receipt.steps[2].outcome, Outcome::Done { count: 1 });
    assert!(receipt.is_clean());
    assert_eq!(build_mounts("self", None), []);
    user.kill().unwrap();
    user.wait().unwrap();
}

#[test]
fn a_busy_mount_of_another_namespace_is_detached_there_and_its_user_keeps_it() {
    if !common::is_root() {
        return;
    }
    let world = World::new();
    let dir = world.dir.display();
    let script = format!(
        "mkdir {dir}/a {dir}/buildkit-mount1; echo kept > {dir}/a/file; mount --bind {dir}/a {dir}/buildkit-mount1; \
         cd {dir}/buildkit-mount1"
    );
    let child = elsewhere(&world, &script);
    let pid = child.id().to_string();
    let before = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap().lines().count();
    let ours = fs::read("/proc/self/mountinfo").unwrap();
    let receipt = unmount(&world, build_mounts(&pid, Some(process(child.id()))));
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 1 }, "{receipt:#?}");
    let after = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(after.lines().count(), before - 1, "it went, and nothing of ours stayed: {after}");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cwd/file")).unwrap(), "kept\n");
    assert_eq!(fs::read("/proc/self/mountinfo").unwrap(), ours, "our own mounts are as before");
    end(child);
}

#[test]
fn what_is_mounted_on_it_is_never_taken_along() {
    if !inside_mount_namespace("what_is_mounted_on_it_is_never_taken_along") {
        return;
    }
    let world = World::new();
    sh(&twelve(&world));
    let outer: Vec<BuildMount> = build_mounts("self", None)
        .into_iter()
        .filter(|mount| mount.mount_point == HostPath::from(world.path("tmp/buildkit-mount1")))
        .collect();
    let receipt = unmount(&world, outer);
    assert!(format!("{receipt:?}").contains("something else is mounted on it"), "{receipt:?}");
    assert_eq!(build_mounts("self", None).len(), 12);
}

#[test]
fn the_directory_stays_where_another_namespace_has_mounted_on_it_or_it_is_not_empty() {
    let test = "the_directory_stays_where_another_namespace_has_mounted_on_it_or_it_is_not_empty";
    if !inside_mount_namespace(test) {
        return;
    }
    let world = World::new();
    let dir = world.dir.display();
    sh(&format!(
        "mkdir {dir}/a {dir}/buildkit-mount1 {dir}/buildkit-mount2; echo precious > {dir}/buildkit-mount2/hidden; \
         for i in 1 2; do mount --bind {dir}/a {dir}/buildkit-mount$i; done"
    ));
    // It inherits a copy of mount 1 and keeps it.
    let child = elsewhere(&world, &format!("umount {dir}/buildkit-mount2"));
    let receipt = unmount(&world, build_mounts("self", None));
    assert!(format!("{:?}", receipt.steps[2]).contains("another mount namespace"), "{receipt:?}");
    assert!(format!("{:?}", receipt.steps[5]).contains("not empty"), "{receipt:?}");
    assert_eq!(build_mounts("self", None), []);
    assert_eq!(build_mounts(&child.id().to_string(), None).len(), 1, "unmounted in the other namespace");
    let hidden = world.path("buildkit-mount2/hidden");
    assert_eq!(fs::read(Path::new(&hidden)).unwrap(), b"precious\n");
    end(child);
}

#[test]
fn an_empty_mount_point_goes_though_it_lies_in_a_store_that_is_protected() {
    if !inside_mount_namespace("an_empty_mount_point_goes_though_it_lies_in_a_store_that_is_protected") {
        return;
    }
    let mut world = World::new();
    let dir = world.dir.display();
    sh(&format!(
        "mkdir -p {dir}/source {dir}/docker/tmp/buildkit-mount1 {dir}/docker/tmp/buildkit-mount2 {dir}/docker/other; \
         echo precious > {dir}/docker/tmp/buildkit-mount2/hidden; \
         for place in tmp/buildkit-mount1 tmp/buildkit-mount2 other; do \
         mount --bind {dir}/source {dir}/docker/$place; done"
    ));
    let mut mounts = build_mounts("self", None);
    let mut other = mounts[0].clone();
    other.mount_point = world.path("docker/other").into();
    other.mount = file_id::of_fd(fs::File::open(world.path("docker/other")).unwrap()).unwrap().mount;
    mounts.push(other);
    world.protect(&world.path("docker"));
    let receipt = unmount(&world, mounts);
    assert!(!world.path("docker/tmp/buildkit-mount1").exists(), "{receipt:?}");
    assert_eq!(fs::read(world.path("docker/tmp/buildkit-mount2/hidden")).unwrap(), b"precious\n");
    // Nobody gives that name to a place where builds mount: it stays as all else in the store does.
    assert!(world.path("docker/other").exists());
    assert!(format!("{receipt:?}").contains("is protected"), "{receipt:?}");
}

#[test]
fn a_symlink_at_the_mount_point_is_not_followed() {
    if !inside_mount_namespace("a_symlink_at_the_mount_point_is_not_followed") {
        return;
    }
    let world = World::new();
    let dir = world.dir.display();
    sh(&format!("mkdir {dir}/a {dir}/buildkit-mount1; mount --bind {dir}/a {dir}/buildkit-mount1"));
    sh(&format!("ln -s {dir}/buildkit-mount1 {dir}/alias; ln -s {dir} {dir}/way"));
    for name in ["alias", "way/buildkit-mount1"] {
        let mut mounts = build_mounts("self", None);
        mounts[0].mount_point = world.path(name).into();
        let receipt = unmount(&world, mounts);
        assert!(matches!(receipt.steps[0].outcome, Outcome::Skipped { .. }), "{receipt:?}");
        assert_eq!(build_mounts("self", None).len(), 1);
    }
}
