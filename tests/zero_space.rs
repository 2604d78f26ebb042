//! Nothing is free, neither blocks nor inodes, /tmp and the journal's directory included (SAFETY.md T13): the program
//! starts, lists and plans, and every change that frees space does so.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::manual_assert,
    clippy::duplicate_mod,
    clippy::similar_names,
    clippy::print_stderr,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/filesystems.rs"]
mod filesystems;
#[allow(dead_code, reason = "this file uses a part of it")]
#[path = "common/tui.rs"]
mod tui;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use common::{World, choose, inside_own_namespaces, process, sh};
use rustix::io::Errno;
use unwedge::actions::Request;
use unwedge::domain::identity::{DevId, DevIno, Inode};
use unwedge::domain::logs::{LogOwner, LogTarget, RotatedFile};
use unwedge::domain::receipt::Receipt;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{DeletedFile, Holder};
use unwedge::journal::{Journal, RunState};
use unwedge::sys::{beneath, file_id};

/// Entries that are made at most to use the inodes up: XFS and btrfs make inodes on demand.
const MOST_INODES: u32 = 3000;

/// Uses up every byte and every inode. Says whether the last file could not even be created.
fn fill(point: &Path) -> bool {
    let mut created = true;
    for number in 0..MOST_INODES {
        let name = point.join(format!("filler/{number}"));
        if name.exists() {
            continue;
        }
        created = File::create(name).is_ok();
        if !created {
            break;
        }
    }
    let file = File::options().append(true).open(point.join("ballast")).unwrap();
    for size in [8 << 20, 256 << 10, 4096, 512, 1] {
        loop {
            // What is reserved is used, and takes no time.
            let end = file.metadata().unwrap().len();
            let flags = rustix::fs::FallocateFlags::empty();
            let grown = if size >= 4096 {
                rustix::fs::fallocate(&file, flags, end, size).map_err(std::io::Error::from)
            } else {
                (&file).write_all(&vec![b'x'; usize::try_from(size).unwrap()])
            };
            match grown {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(_) => break,
            }
        }
    }
    let _ = file.sync_all();
    !created
}

fn identity(path: &Path) -> unwedge::domain::identity::FileId {
    let located = beneath::open_parent(path).unwrap();
    file_id::of_entry(&located.parent, &located.name).unwrap()
}

/// Blocks that are free, whoever they are kept for.
fn free(point: &Path) -> u64 {
    let figures = rustix::fs::statvfs(point).unwrap();
    figures.f_bfree * figures.f_frsize
}

fn lines(count: usize) -> String {
    (0..count).map(|line| format!("line {line:06} of a log that nobody rotates\n")).collect()
}

/// Runs a request on the full file system: it must work, and free something.
#[track_caller]
fn frees(world: &World, point: &Path, kind: &str, least: u64, request: &Request) -> Receipt {
    let no_inode = fill(point);
    let before = free(point);
    let receipt = world.run(world.plan(request));
    assert!(receipt.is_clean(), "{kind}: {:#?}", receipt.steps);
    // The beginning went to /run; when the end was written there may have been room again.
    assert!(fs::metadata("/run/unwedge/journal.jsonl").unwrap().len() > 0, "{kind}: {}", receipt.journal);
    let history = Journal::open(&world.environment, &world.settings).history();
    let records = history.value().unwrap();
    let last = records.last().unwrap();
    assert_eq!((&last.summary, last.state), (&receipt.summary, RunState::Complete), "{kind}: {history:?}");
    let mut freed = 0;
    // XFS and btrfs give space back in the background.
    for _ in 0..100 {
        sh(&format!("sync -f {}", point.display()));
        freed = free(point).saturating_sub(before);
        if freed >= least {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    eprintln!(
        "{kind}: {}: {before} bytes free before, inodes gone: {no_inode}; freed {freed}",
        receipt.summary
    );
    assert!(freed >= least, "{kind}: {}", receipt.summary);
    receipt
}

fn at_zero(kind: &str) {
    // Not below /tmp, which something else is mounted on later.
    let mut world = World::in_memory();
    sh("mount -t tmpfs none /run");
    let point = world.path("full");
    filesystems::mount(kind, &point, 16);
    if kind == "tmpfs" {
        sh(&format!("mount -o remount,nr_inodes=1500 {}", point.display()));
    }
    // /tmp is on it too, and what the journal would be written to.
    fs::set_permissions(&point, fs::Permissions::from_mode(0o1777)).unwrap();
    world.settings.journal.dir = point.join("journal").display().to_string();
    world.environment.run_dir = "/run".into();
    let at = |name: &str| point.join("data").join(name);
    fs::create_dir_all(at("tree")).unwrap();
    fs::create_dir(point.join("filler")).unwrap();
    fs::write(point.join("ballast"), b"").unwrap();
    for number in 0..100 {
        fs::write(at("tree").join(number.to_string()), vec![1; 8 << 10]).unwrap();
    }
    fs::write(at("big"), vec![1; 2 << 20]).unwrap();
    fs::write(at("app.log"), lines(20_000)).unwrap();
    fs::write(at("idle.log"), lines(20_000)).unwrap();
    fs::write(at("app.log.1"), lines(10_000)).unwrap();
    fs::write(at("app.log.2"), lines(10_000)).unwrap();
    let mut deleted = File::options().read(true).write(true).create_new(true).open(at("deleted")).unwrap();
    deleted.write_all(&vec![1; 1 << 20]).unwrap();
    let key = identity(&at("deleted"));
    fs::remove_file(at("deleted")).unwrap();
    let mut writer = File::options().append(true).open(at("app.log")).unwrap();
    sh(&format!("sync -f {}", point.display()));

    fill(&point);
    let probe = point.join("data/probe");
    let refused = fs::write(&probe, b"data").is_err();
    assert!(refused, "{kind} is not full");
    let _ = fs::remove_file(&probe);
    fill(&point);
    looks_and_plans(&world, &point, kind);

    let log = |path: &Path| {
        let id = identity(path);
        let (path, allocated) = (path.into(), Bytes(id.size));
        Request::RotateLog(vec![LogTarget {
            path,
            id,
            allocated,
            writers: Vec::new(),
            owner: LogOwner::Program,
            keep_lines: None,
        }])
    };
    let meta = deleted.metadata().unwrap();
    let dev = DevId { major: rustix::fs::major(meta.dev()), minor: rustix::fs::minor(meta.dev()) };
    assert_eq!(Inode(meta.ino()), key.key.ino);
    let holder = Holder {
        process: process(std::process::id()),
        name: "test".into(),
        fd: Some(deleted.as_raw_fd()),
        mapped: false,
    };
    let request = Request::FreeDeleted(vec![DeletedFile {
        key: DevIno { dev, ino: Inode(meta.ino()) },
        id: unwedge::sys::file_id::of_fd(&deleted).unwrap(),
        last_path: at("deleted").as_path().into(),
        apparent: Bytes(meta.len()),
        allocated: Bytes(meta.blocks() * 512),
        holders: vec![holder],
    }]);
    frees(&world, &point, kind, 1 << 19, &request);
    // On btrfs a hole needs a free block of its own: only what is removed or cut to nothing helps there.
    if kind == "btrfs" {
        fill(&point);
        let receipt = world.run(world.plan(&log(&at("app.log"))));
        eprintln!("{kind}: {}: {:?}", receipt.summary, receipt.steps[0].outcome);
        assert!(common::why(&receipt).contains("free something else first"));
        assert_eq!(fs::read_to_string(at("app.log")).unwrap(), lines(20_000));
    } else {
        frees(&world, &point, kind, 1 << 19, &log(&at("app.log")));
        // Nobody has it open: there is no room for a copy of its last lines, so it is done in place.
        frees(&world, &point, kind, 1 << 19, &log(&at("idle.log")));
    }
    let rotated = |name: &str| RotatedFile {
        live: at("app.log").as_path().into(),
        path: at(name).as_path().into(),
        id: identity(&at(name)),
        allocated: Bytes(400_000),
    };
    let request = Request::RemoveRotated(vec![rotated("app.log.1"), rotated("app.log.2")]);
    frees(&world, &point, kind, 1 << 18, &request);
    frees(&world, &point, kind, 1 << 18, &Request::Delete(vec![choose(&at("tree"))]));
    frees(&world, &point, kind, 1 << 20, &Request::Delete(vec![choose(&at("big"))]));
    // And then there is room again.
    fs::write(&probe, b"data").unwrap();
    writer.write_all(b"still written\n").unwrap();
    let receipt = world.run(world.plan(&log(&at("app.log"))));
    assert!(receipt.is_clean(), "{kind}: {receipt:?}");
    let text = fs::read(at("app.log")).unwrap();
    assert!(text.ends_with(b"of a log that nobody rotates\nstill written\n"));
    drop(writer);
    sh("umount /run");
}

/// The report and the console on the full file system.
fn looks_and_plans(world: &World, point: &Path, kind: &str) {
    let home = world.path("home");
    fs::create_dir_all(&home).unwrap();
    sh(&format!("mount --bind {} /tmp", point.display()));
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["--audit", "/tmp", "--format", "json"])
        .env_clear()
        .env("HOME", &home)
        .current_dir("/tmp")
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{kind}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap();
    let critical = findings.iter().filter(|finding| finding["severity"] == "critical");
    assert!(critical.count() > 0, "{kind}: {findings:?}");

    let mut console = tui::Console::start(100, 30, &home, &["/tmp/data"]);
    console.see("big");
    console.press("d");
    console.see("data");
    console.see("What runs");
    console.press("\u{1b}");
    console.press("q");
    assert_eq!(console.ended(), 0, "{kind}");
    sh("umount /tmp");
}

/// One test for each kind, so that each says for itself what is wrong.
macro_rules! at_zero {
    ($($name:ident, $kind:literal;)*) => {$(
        #[test]
        fn $name() {
            if inside_own_namespaces(stringify!($name)) {
                at_zero($kind);
            }
        }
    )*};
}

at_zero! {
    a_full_ext4_can_be_emptied, "ext4";
    a_full_xfs_can_be_emptied, "xfs";
    a_full_btrfs_can_be_emptied, "btrfs";
    a_full_tmpfs_can_be_emptied, "tmpfs";
}
