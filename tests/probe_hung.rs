//! A FUSE file system whose server stopped answering: every probe still comes back.
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
#[path = "common/hung.rs"]
mod hung;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use common::{MountDir, Surroundings, inside_own_namespaces};
use hung::mount_hung;
use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;
use unwedge::domain::reading::Reading;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{CreateTest, FsClass, SnapshotPart};
use unwedge::probe::{self, chosen, filesystems, protect};
use unwedge::sys::statvfs;

#[test]
fn a_server_that_is_gone_takes_nothing_with_it() {
    if !inside_own_namespaces("a_server_that_is_gone_takes_nothing_with_it") {
        return;
    }
    let dir = MountDir::new();
    let dead = dir.path().join("dead");
    std::fs::create_dir(&dead).unwrap();
    let _server = mount_hung(&dead);
    // A link to it, as /home is one to a server in many places.
    std::os::unix::fs::symlink(dead.join("home"), dir.path().join("home")).unwrap();

    let mut surroundings = Surroundings::real();
    surroundings.settings.probe.deadline_ms = 700;
    let reading = filesystems::look(&surroundings.context());
    let Reading::Ready { value: found } = &reading else { panic!("{reading:?}") };
    let hung = found.iter().find(|fs| fs.mount_point.as_path() == dead).unwrap();
    assert_eq!(hung.class, FsClass::Fuse);
    assert!(matches!(hung.usage, Reading::TimedOut { .. }), "{hung:?}");
    let root = found.iter().find(|fs| fs.mount_point == "/".into()).unwrap();
    assert!(matches!(root.usage, Reading::Ready { .. }), "{root:?}");

    assert!(matches!(
        statvfs::usage_of(&dead, FsClass::Fuse, surroundings.context().deadline()),
        Reading::TimedOut { .. }
    ));

    // The child that asked cannot be killed: this is the sleep that a thread of ours must never be in.
    let asleep = Command::new("ps").args(["-eo", "stat="]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&asleep.stdout).lines().any(|state| state.starts_with('D')),
        "nothing hung"
    );

    // What a person chooses there is refused, not waited for.
    for path in [dead.join("file"), dir.path().join("home/al")] {
        let refused = chosen::freeze(&surroundings.context(), &path, Bytes(0), Bytes(0), 1).unwrap_err();
        assert!(refused.contains("does not answer"), "{refused}");
    }

    // A descriptor on it, which the searches for deleted files and for users of build mounts come across.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let _held = rustix::fs::open(&dead, flags, rustix::fs::Mode::empty()).unwrap();
    let leaked = dir.path().join("buildkit-mount1");
    std::fs::create_dir(&leaked).unwrap();
    mount(Some("none"), &leaked, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();

    // Homes, temporary files and protected paths on it, and all probes at once.
    surroundings.settings.probe.deadline_ms = 2_500;
    surroundings.environment.home = dir.path().join("home/al");
    surroundings.settings.protect.paths = vec![dead.join("keep").to_str().unwrap().to_owned()];
    surroundings.settings.temp.dirs = vec!["/tmp".to_owned(), dead.to_str().unwrap().to_owned()];
    let parts = Mutex::new(BTreeMap::new());
    probe::run_all(&surroundings.context(), &|part| {
        let (name, fine) = match part {
            SnapshotPart::Host(host) => ("host", host.kernel != "".into()),
            SnapshotPart::FileSystems(reading) => ("file systems", reading.value().is_some()),
            SnapshotPart::Mounts(reading) => {
                ("mounts", reading.value().is_some_and(|census| census.build_mounts.len() == 1))
            }
            SnapshotPart::Processes(reading) => ("processes", reading.value().is_some()),
            SnapshotPart::Deleted(reading) => ("deleted", reading.value().is_some()),
            SnapshotPart::Engines(reading) => ("engines", reading.value().is_some()),
            SnapshotPart::Growth(reading) => ("growth", reading.value().is_some()),
            SnapshotPart::Builds(reading) => ("builds", reading.value().is_some()),
            SnapshotPart::Limits(reading) => ("limits", reading.value().is_some()),
            SnapshotPart::Logs(reading) => ("logs", reading.value().is_some()),
            SnapshotPart::Caches(reading) => {
                let gaps = reading.sentences();
                ("caches", reading.value().is_some() && gaps.iter().any(|gap| gap.contains("home/al")))
            }
            SnapshotPart::Scanned(_) => ("scanned", false),
            SnapshotPart::TempDirs(dirs) => {
                let works = Reading::ready(());
                let alive =
                    dirs[0].create_test.clone().map(|test| assert!(matches!(test, CreateTest::Works { .. })));
                let hung = matches!(dirs[1].create_test, Reading::TimedOut { .. })
                    && matches!(dirs[1].census, Reading::TimedOut { .. });
                ("temp dirs", alive == works && hung)
            }
            SnapshotPart::Protect(set) => {
                let root = std::fs::File::open("/").unwrap();
                let root = unwedge::sys::file_id::of_fd(root).unwrap();
                ("protect", set.check(root.key, &[]).is_err())
            }
            SnapshotPart::Hidden(_) | SnapshotPart::Ledger(_) => ("no probe", false),
        };
        parts.lock().unwrap().insert(name, fine);
    });
    let parts = parts.into_inner().unwrap();
    assert_eq!(parts.len(), probe::COUNT, "{parts:?}");
    assert!(parts.values().all(|fine| *fine), "{parts:?}");
    assert!(!protect::look(&surroundings.context()).is_empty());
}

/// The program, as it is started at night: `timeout` ends it where it would wait for ever.
fn unwedge(arguments: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_unwedge");
    let output = Command::new("timeout")
        .args(["--signal=KILL", "60", program, "--audit"])
        .args(arguments)
        .args(["--set", "probe.deadline_ms=700"])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_reports_the_silent_server_and_ends() {
    if !inside_own_namespaces("the_program_reports_the_silent_server_and_ends") {
        return;
    }
    let dir = MountDir::new();
    let (dead, alive) = (dir.path().join("dead"), dir.path().join("alive"));
    std::fs::create_dir(&dead).unwrap();
    std::fs::create_dir(&alive).unwrap();
    let _server = mount_hung(&dead);
    // What is beside it, and what it is in: the mount is shown as a boundary and not entered.
    for path in [alive.as_path(), dir.path()] {
        let (code, report, _) = unwedge(&[path.to_str().unwrap()]);
        assert!(code.is_some_and(|code| (1..=3).contains(&code)), "{code:?}: {report}");
        let silent = format!("{}: no answer within 700 ms", dead.display());
        assert!(report.contains(&silent), "{report}");
    }
    // It itself, and what would be below it.
    for path in [dead.clone(), dead.join("below")] {
        let (code, report, said) = unwedge(&[path.to_str().unwrap()]);
        assert_eq!(code, Some(66), "{report}{said}");
        assert!(said.contains("does not answer"), "{said}");
    }
}
