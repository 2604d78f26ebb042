//! The deleted-files probe against real descriptors and mappings.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/probe.rs"]
mod common;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{MountDir, Running, Surroundings, disguise, inside_own_namespaces, skip, start, wait_until};
use unwedge::domain::identity::Pid;
use unwedge::domain::reading::Reading;
use unwedge::domain::snapshot::DeletedFile;
use unwedge::probe::deleted;
use unwedge::sys::nameless;

/// What is found where the kernel names the processes, and where all are looked into: the same.
fn look() -> Vec<DeletedFile> {
    let [named, all] = [true, false].map(|bpf| {
        let mut surroundings = Surroundings::real();
        surroundings.settings.deleted.bpf = bpf;
        match deleted::look(&surroundings.context()) {
            Reading::Ready { value } => value,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(named, all);
    named
}

#[test]
fn the_kernel_names_who_holds_a_nameless_file_and_nobody_else() {
    if !inside_own_namespaces("the_kernel_names_who_holds_a_nameless_file_and_nobody_else") {
        return;
    }
    let ask = || nameless::holders(Instant::now() + Duration::from_mins(1));
    let Some(before) = ask() else {
        return skip("this kernel does not name holders (no BTF, no BPF iterators, or not allowed)");
    };
    let dir = MountDir::new();
    let me = Pid(i32::try_from(std::process::id()).unwrap());
    assert!(!before.contains(&me), "{before:?}");
    let idle = start(Command::new("sleep").arg("1000"));
    // Opened, by a child with a number of its own in each pid namespace.
    let file = filled(&dir.path().join("gone"), 10);
    let child = Running(Command::new("sleep").arg("1000").stdin(Stdio::from(file)).spawn().unwrap());
    std::fs::remove_file(dir.path().join("gone")).unwrap();
    // And mapped only.
    let runs = start(Command::new(disguise(dir.path(), "runs")).arg("1000"));
    let maps = format!("/proc/{}/maps", runs.pid());
    wait_until("it is mapped", || std::fs::read_to_string(&maps).unwrap().contains("/runs\n"));
    std::fs::remove_file(dir.path().join("runs")).unwrap();
    let found = ask().unwrap();
    assert!(!found.contains(&Pid(idle.pid())) && !found.contains(&me), "{found:?}");
    assert!(found.contains(&Pid(child.pid())) && found.contains(&Pid(runs.pid())), "{found:?}");
}

fn named<'a>(files: &'a [DeletedFile], path: &Path) -> Option<&'a DeletedFile> {
    files.iter().find(|file| file.last_path.as_path() == path)
}

fn filled(path: &Path, bytes: usize) -> File {
    let mut file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.write_all(&vec![7; bytes]).unwrap();
    file.sync_all().unwrap();
    file
}

#[test]
fn files_without_a_name_that_are_open() {
    if !inside_own_namespaces("files_without_a_name_that_are_open") {
        return;
    }
    let dir = MountDir::new();
    let at = |name: &str| dir.path().join(name);
    let ours = filled(&at("ours"), 300_000);
    std::fs::remove_file(at("ours")).unwrap();
    // A name that lies one way: it is not deleted.
    let _liar = filled(&at("liar (deleted)"), 10);
    // And the other: its first name is gone, a hard link keeps it alive.
    let _linked = filled(&at("linked"), 10);
    std::fs::hard_link(at("linked"), at("other-name")).unwrap();
    std::fs::remove_file(at("linked")).unwrap();
    // Memory that never was on a mounted file system.
    let memory = rustix::fs::memfd_create("scratch", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&memory, &[1; 4096]).unwrap();
    // A child holds one too, and both hold a third.
    let theirs = filled(&at("theirs \u{1b}[2J"), 10);
    let shared = filled(&at("shared"), 10);
    let child = Running(
        Command::new("/bin/sleep")
            .arg("1000")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(shared.try_clone().unwrap()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    std::fs::remove_file(at("theirs \u{1b}[2J")).unwrap();
    std::fs::remove_file(at("shared")).unwrap();
    // A program whose file is gone is only mapped.
    let runs = start(Command::new(disguise(dir.path(), "runs")).arg("1000"));
    // spawn returns before the program is mapped.
    let maps = format!("/proc/{}/maps", runs.pid());
    wait_until("it is mapped", || std::fs::read_to_string(&maps).unwrap().contains("/runs\n"));
    std::fs::remove_file(at("runs")).unwrap();

    let files = look();
    let me = i32::try_from(std::process::id()).unwrap();
    let found = named(&files, &at("ours")).unwrap();
    assert_eq!(found.apparent.0, 300_000);
    assert!(found.allocated.0 >= 300_000, "{found:?}");
    assert_eq!(found.holders.len(), 1);
    assert_eq!((found.holders[0].process.pid.0, found.holders[0].fd), (me, Some(ours.as_raw_fd())));
    assert!(!found.holders[0].mapped);

    let found = named(&files, &at("theirs \u{1b}[2J")).unwrap();
    assert_eq!((found.holders[0].process.pid.0, found.holders[0].fd), (child.pid(), Some(0)));
    assert_eq!(found.holders[0].name, "sleep".into());
    let mut holders: Vec<i32> =
        named(&files, &at("shared")).unwrap().holders.iter().map(|holder| holder.process.pid.0).collect();
    holders.sort_unstable();
    assert_eq!(holders, [me, child.pid()]);

    let found = named(&files, &at("runs")).unwrap();
    assert_eq!((found.holders[0].process.pid.0, found.holders[0].fd), (runs.pid(), None));
    assert!(found.holders[0].mapped && found.apparent.0 > 0);

    assert_eq!(files.len(), 4, "{files:?}");
    assert!(files.is_sorted_by(|a, b| a.allocated >= b.allocated));
}

#[test]
fn a_mounted_tmpfs_counts_and_a_detached_disk_mount_too() {
    if !inside_own_namespaces("a_mounted_tmpfs_counts_and_a_detached_disk_mount_too") {
        return;
    }
    let dir = MountDir::new();
    let mount = |args: &[&str]| {
        assert!(Command::new("mount").args(args).arg(dir.path().join("m")).status().unwrap().success());
    };
    std::fs::create_dir(dir.path().join("m")).unwrap();
    mount(&["-t", "tmpfs", "none"]);
    let _in_memory = filled(&dir.path().join("m/file"), 5000);
    std::fs::remove_file(dir.path().join("m/file")).unwrap();
    let files = look();
    assert_eq!((files.len(), files[0].apparent.0), (1, 5000));

    // A bind mount of the disk that is gone from every mount table while the file is open.
    std::fs::create_dir_all(dir.path().join("source")).unwrap();
    std::fs::create_dir_all(dir.path().join("bound")).unwrap();
    let bound = dir.path().join("bound");
    let status = Command::new("mount").arg("--bind").arg(dir.path().join("source")).arg(&bound).status();
    assert!(status.unwrap().success());
    let _on_disk = filled(&bound.join("file"), 60_000);
    std::fs::remove_file(bound.join("file")).unwrap();
    assert!(Command::new("umount").args(["--lazy"]).arg(&bound).status().unwrap().success());
    let sizes: Vec<u64> = look().iter().map(|file| file.apparent.0).collect();
    assert_eq!(sizes, [60_000, 5000]);
}

#[test]
fn without_privilege_it_says_what_is_missing() {
    if !inside_own_namespaces("without_privilege_it_says_what_is_missing") {
        return;
    }
    // Not ended by us: it cannot be, after this. It goes with its pid namespace.
    std::mem::forget(start(Command::new("/bin/sleep").arg("1000")));
    let nobody = nix::unistd::Uid::from_raw(65_534);
    nix::unistd::setresuid(nobody, nobody, nobody).unwrap();
    let reading = deleted::look(&Surroundings::real().context());
    let gaps = reading.sentences();
    assert!(matches!(reading, Reading::Partial { .. }), "{reading:?}");
    assert!(
        gaps.iter().any(|gap| gap.contains("processes could not be looked into") && gap.contains("sudo")),
        "{gaps:?}"
    );
}
