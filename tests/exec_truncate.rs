//! Giving back the space of deleted files that are still open.
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
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use common::{World, process, sh, why};
use unwedge::actions::Request;
use unwedge::domain::identity::{DevId, DevIno, Inode};
use unwedge::domain::receipt::Outcome;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{DeletedFile, Holder};

/// An open file as the probe would tell it.
fn describe(file: &fs::File, path: &Path, pid: u32, fd: i32) -> DeletedFile {
    let meta = file.metadata().unwrap();
    DeletedFile {
        key: DevIno {
            dev: DevId { major: rustix::fs::major(meta.dev()), minor: rustix::fs::minor(meta.dev()) },
            ino: Inode(meta.ino()),
        },
        id: unwedge::sys::file_id::of_fd(file).unwrap(),
        last_path: path.into(),
        apparent: Bytes(meta.len()),
        allocated: Bytes(meta.blocks() * 512),
        holders: vec![Holder { process: process(pid), name: "test".into(), fd: Some(fd), mapped: false }],
    }
}

fn own(file: &fs::File, path: &Path) -> DeletedFile {
    describe(file, path, std::process::id(), file.as_raw_fd())
}

fn free(world: &World, file: DeletedFile) -> unwedge::domain::receipt::Receipt {
    world.run(world.plan(&Request::FreeDeleted(vec![file])))
}

/// A file with something in it, opened for reading.
fn big(world: &World) -> (std::path::PathBuf, fs::File) {
    let path = world.path("big");
    fs::write(&path, vec![1u8; 8 << 20]).unwrap();
    let file = fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    (path, file)
}

#[test]
fn a_deleted_file_gives_its_space_back_while_its_holder_lives_on() {
    // Others may not look at what every process has mapped, and are refused for that.
    if !common::is_root() {
        return;
    }
    let world = World::new();
    let (path, file) = big(&world);
    fs::remove_file(&path).unwrap();
    let receipt = free(&world, own(&file, &path));
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 1 }, "{receipt:?}");
    let meta = file.metadata().unwrap();
    assert_eq!((meta.len(), meta.blocks()), (0, 0));
}

#[test]
fn a_file_that_has_another_name_is_refused() {
    let world = World::new();
    let (path, file) = big(&world);
    fs::hard_link(&path, world.path("elsewhere")).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(why(&free(&world, own(&file, &path))).contains("still has a name"));
    assert_eq!(fs::metadata(world.path("elsewhere")).unwrap().len(), 8 << 20);
}

#[test]
fn another_file_descriptor_or_process_is_refused() {
    let world = World::new();
    let (path, file) = big(&world);
    fs::remove_file(&path).unwrap();
    let right = own(&file, &path);
    let mut other_file = right.clone();
    other_file.id.key.ino.0 += 1;
    let mut other_process = right.clone();
    other_process.holders[0].process.start += 1;
    let mut no_descriptor = right.clone();
    no_descriptor.holders[0].fd = Some(9999);
    for (wrong, reason) in
        [(other_file, "another file"), (other_process, "another process"), (no_descriptor, "any more")]
    {
        assert!(why(&free(&world, wrong)).contains(reason));
    }
    assert_eq!(file.metadata().unwrap().len(), 8 << 20);
}

#[test]
fn a_memfd_and_a_fifo_are_refused() {
    let world = World::new();
    let memory: fs::File =
        rustix::fs::memfd_create("precious", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
    memory.set_len(4096).unwrap();
    assert!(why(&free(&world, own(&memory, Path::new("/memfd:precious")))).contains("memory"));
    assert_eq!(memory.metadata().unwrap().len(), 4096);

    let path = world.path("fifo");
    sh(&format!("mkfifo {}", path.display()));
    let fifo = fs::File::options().read(true).write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(why(&free(&world, own(&fifo, &path))).contains("not a regular file"));
}

#[test]
fn a_mapped_file_is_refused_whoever_has_mapped_it() {
    // Others may not look at what every process has mapped, and are refused for that.
    if !common::is_root() {
        return;
    }
    // Any shared library does: a process that preloads a copy of it has that copy mapped.
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(library) = library else { return common::skip("no libm.so.6 to map was found") };
    let world = World::new();
    let copy = world.path("copy.so");
    fs::copy(library, &copy).unwrap();
    let file = fs::File::open(&copy).unwrap();
    let mut child = Command::new("/bin/sleep").arg("1000").env("LD_PRELOAD", &copy).spawn().unwrap();
    let maps = format!("/proc/{}/maps", child.id());
    while !fs::read_to_string(&maps).unwrap().contains("copy.so") {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let length = file.metadata().unwrap().len();
    fs::remove_file(&copy).unwrap();
    // The probe is made to have missed the mapping.
    let reason = why(&free(&world, own(&file, &copy)));
    assert!(reason.contains(&format!("pid {}", child.id())) && reason.contains("SIGBUS"), "{reason}");
    assert_eq!(file.metadata().unwrap().len(), length);
    child.kill().unwrap();
    child.wait().unwrap();
    // With the mapping gone it works.
    assert!(free(&world, own(&file, &copy)).is_clean());
    assert_eq!(file.metadata().unwrap().len(), 0);
}
