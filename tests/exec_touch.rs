//! What is in use, protected or another one by now is not touched.
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
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use common::{World, inside_mount_namespace, process, sh, why};
use unwedge::actions::Request;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{DeletedFile, Holder};
use unwedge::sys::file_id;

/// A file system on a loop device, mounted below the world's directory. Without birth times where it is asked for.
fn mounted(world: &World, name: &str, mkfs: &str) -> PathBuf {
    let (image, point) = (world.path(&format!("{name}.img")), world.path(name));
    fs::create_dir(&point).unwrap();
    let (image, at) = (image.display(), point.display());
    sh(&format!("truncate -s 64M {image}; mkfs.{mkfs} {image} >/dev/null 2>&1; mount -o loop {image} {at}"));
    point
}

/// Makes files or directories until one has this inode number, and removes the others.
fn with_inode(dir: &Path, wanted: u64, make: impl Fn(&Path)) -> PathBuf {
    let candidates: Vec<PathBuf> = (0..400).map(|number| dir.join(format!("next-{number}"))).collect();
    for path in &candidates {
        make(path);
        if file_id::of_fd(fs::File::open(path).unwrap()).unwrap().key.ino.0 == wanted {
            return path.clone();
        }
    }
    panic!("inode {wanted} was not given out again");
}

#[test]
fn a_deleted_file_in_the_place_of_the_one_that_was_shown_is_not_cut() {
    if !inside_mount_namespace("a_deleted_file_in_the_place_of_the_one_that_was_shown_is_not_cut") {
        return;
    }
    let world = World::new();
    // An inode of 128 bytes has no room for a birth time.
    let dir = mounted(&world, "m", "ext4 -q -I 128");
    let open = |path: &Path| {
        fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
    };
    let mut shown = open(&dir.join("shown"));
    shown.write_all(&vec![1; 1 << 20]).unwrap();
    fs::remove_file(dir.join("shown")).unwrap();
    let id = file_id::of_fd(&shown).unwrap();
    assert!(id.born.is_none() && id.generation.is_some(), "{id:?}");
    let file = DeletedFile {
        key: id.key,
        id,
        last_path: dir.join("shown").into(),
        apparent: Bytes(1 << 20),
        allocated: Bytes(1 << 20),
        holders: vec![Holder {
            process: process(std::process::id()),
            name: "test".into(),
            fd: Some(shown.as_raw_fd()),
            mapped: false,
        }],
    };
    let plan = world.plan(&Request::FreeDeleted(vec![file.clone()]));
    let number = shown.as_raw_fd();
    drop(shown);
    let path = with_inode(&dir, id.key.ino.0, |path| drop(open(path)));
    let mut next = fs::File::options().read(true).write(true).open(&path).unwrap();
    next.write_all(&vec![2; 1 << 20]).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(next.as_raw_fd(), number, "the same descriptor");
    let now = file_id::of_fd(&next).unwrap();
    // By device and inode nobody could tell.
    assert_eq!((now.key, now.links), (id.key, 0));
    let receipt = world.run(plan);
    assert!(common::why(&receipt).contains("reused for a newer file"), "{receipt:?}");
    assert_eq!(next.metadata().unwrap().len(), 1 << 20);
    // The one that is shown goes, also while it is written to.
    let plan = world.plan(&Request::FreeDeleted(vec![DeletedFile { id: now, ..file }]));
    next.write_all(&vec![3; 1 << 20]).unwrap();
    assert_eq!(world.run(plan).steps[0].outcome, Outcome::Done { count: 1 });
    assert_eq!(next.metadata().unwrap().len(), 0);
    next.rewind().unwrap();
}

#[test]
fn a_directory_in_the_place_of_the_one_that_was_shown_is_not_deleted() {
    if !inside_mount_namespace("a_directory_in_the_place_of_the_one_that_was_shown_is_not_deleted") {
        return;
    }
    let world = World::new();
    for (name, mkfs) in [("a", "ext4 -q -I 128"), ("b", "ext4 -q")] {
        let dir = mounted(&world, name, mkfs);
        let shown = dir.join("shown");
        fs::create_dir(&shown).unwrap();
        let chosen = common::choose(&shown);
        let plan = world.plan(&Request::Delete(vec![chosen.clone()]));
        fs::remove_dir(&shown).unwrap();
        let next = with_inode(&dir, chosen.id.key.ino.0, |path| fs::create_dir(path).unwrap());
        fs::write(next.join("precious"), "x").unwrap();
        fs::rename(&next, &shown).unwrap();
        assert_eq!(common::choose(&shown).id.key, chosen.id.key, "by device and inode nobody could tell");
        let receipt = world.run(plan);
        assert!(common::why(&receipt).contains("reused for a newer file"), "{mkfs}: {receipt:?}");
        assert!(shown.join("precious").exists());
        // The one that is there now can be deleted, also after something came into it.
        let plan = world.plan(&Request::Delete(vec![common::choose(&shown)]));
        fs::write(shown.join("more"), "x").unwrap();
        assert!(world.run(plan).is_clean());
        assert!(!shown.exists());
    }
}

#[test]
fn a_directory_that_is_mounted_elsewhere_is_not_deleted() {
    if !inside_mount_namespace("a_directory_that_is_mounted_elsewhere_is_not_deleted") {
        return;
    }
    let world = World::new();
    let (data, home) = (world.path("data"), world.path("home-of-ann"));
    fs::create_dir_all(data.join("volume")).unwrap();
    fs::write(data.join("volume/precious"), "precious").unwrap();
    fs::create_dir(&home).unwrap();
    sh(&format!("mount --bind {}/volume {}", data.display(), home.display()));
    let receipt = world.delete(&[&data]);
    assert!(why(&receipt).contains("shows it or a part of it"), "{receipt:?}");
    assert_eq!(fs::read(home.join("precious")).unwrap(), b"precious");
    // Without the mount nothing keeps it.
    sh(&format!("umount {}", home.display()));
    world.delete(&[&data]);
    assert!(!data.exists());
}

#[test]
fn mounts_that_only_a_thread_or_only_a_file_keeps_are_not_undone() {
    if !inside_mount_namespace("mounts_that_only_a_thread_or_only_a_file_keeps_are_not_undone") {
        return;
    }
    let world = World::new();
    let (threads, kept, keeper) = (world.path("threads"), world.path("kept"), world.path("keeper"));
    for dir in [&threads, &kept] {
        fs::create_dir_all(dir.join("sub")).unwrap();
    }
    fs::create_dir(&keeper).unwrap();
    let (at, file) = (kept.display(), keeper.display());
    sh(&format!(
        "mount -t tmpfs none {file}; mount --make-private {file}; touch {file}/ns; \
         unshare --mount={file}/ns --propagation private mount -t tmpfs none {at}/sub"
    ));
    let receipt = world.delete(&[&kept]);
    assert!(why(&receipt).contains("in another mount namespace"), "{receipt:?}");
    let still = format!("nsenter --mount={file}/ns grep -q ' {at}/sub ' /proc/self/mountinfo");
    sh(&still);
    let (tell, hear) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let sub = threads.join("sub");
        let inner = scope.spawn(move || {
            // For the calling thread alone (unshare(2)).
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            sh(&format!("mount --make-rprivate /; mount -t tmpfs none {}", sub.display()));
            tell.send(()).unwrap();
            // Its namespace ends with it.
            let _ = left.recv();
            sh(&format!("grep -q ' {} ' /proc/self/mountinfo", sub.display()));
        });
        hear.recv().unwrap();
        let receipt = world.delete(&[&threads]);
        drop(leave);
        inner.join().unwrap();
        assert!(why(&receipt).contains("in another mount namespace"), "{receipt:?}");
    });
}
