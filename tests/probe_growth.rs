//! The growth probe against real writers on a file system that nobody else writes to.
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
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{MountDir, Surroundings, inside_own_namespaces, start, wait_until};
use nix::mount::{MsFlags, mount};
use unwedge::domain::growth::{FsGrowth, GrowingFile, Growth};
use unwedge::domain::reading::Reading;
use unwedge::domain::size::Bytes;
use unwedge::probe::Context;
use unwedge::probe::growth::{self, Memory};

const MIB: usize = 1 << 20;

fn look(context: &Context<'_>) -> Growth {
    match growth::look(context) {
        Reading::Ready { value } => value,
        other => panic!("{other:?}"),
    }
}

fn on<'a>(growth: &'a Growth, place: &Path) -> &'a FsGrowth {
    growth.filesystems.iter().find(|fs| fs.mount_point.as_path() == place).unwrap()
}

/// The files at a path that grew, each with the pid of its writer.
fn writes_to<'a>(growth: &'a Growth, path: &Path) -> Vec<(i32, &'a GrowingFile)> {
    let all = growth.writers.iter().flat_map(|one| one.files.iter().map(|file| (one.process.pid.0, file)));
    all.filter(|(_, file)| file.path.as_path() == path).collect()
}

#[test]
fn what_was_written_between_two_looks_and_what_goes_on() {
    if !inside_own_namespaces("what_was_written_between_two_looks_and_what_goes_on") {
        return;
    }
    let dir = MountDir::new();
    let place = dir.path().join("memory");
    std::fs::create_dir(&place).unwrap();
    mount(Some("none"), &place, Some("tmpfs"), MsFlags::empty(), Some("size=256m")).unwrap();
    let path = place.join("app.log");
    let mut log = File::create(&path).unwrap();
    // It inherits nothing and writes nothing, but has the file open for writing, too.
    let idle =
        start(std::process::Command::new("sh").args(["-c", "exec 3>>\"$1\"; sleep 300", "sh"]).arg(&path));
    let me = i32::try_from(std::process::id()).unwrap();

    let mut surroundings = Surroundings::real();
    surroundings.settings.growth.interval_ms = 20;
    let memory = Memory::default();
    let context = Context { memory: Some(&memory), ..surroundings.context() };
    let quiet = look(&context);
    assert_eq!((on(&quiet, &place).change, writes_to(&quiet, &path)), (0, Vec::new()));

    // So much between two looks, and then no more.
    log.write_all(&vec![7; 8 * MIB]).unwrap();
    let after = look(&context);
    let fs = on(&after, &place);
    assert_eq!(fs.change, 8 << 20);
    assert_eq!((fs.per_second, fs.full_in_secs), (Bytes(0), None), "a burst is not a trend");
    let [(writer, file)] = writes_to(&after, &path)[..] else { panic!("{after:?}") };
    assert_ne!(writer, idle.pid());
    assert_eq!((writer, file.grown, file.size), (me, Bytes(8 << 20), Bytes(8 << 20)));
    assert_eq!(file.on.as_ref().unwrap().as_path(), place);

    // A writer that goes on. Nobody keeps the look before: the probe waits between looks of its own.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // 8 MiB/s, until it would be full.
            for _ in 0..3000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                log.write_all(&vec![7; MIB / 16]).unwrap();
                std::thread::sleep(Duration::from_millis(8));
            }
        });
        surroundings.settings.growth.interval_ms = 200;
        wait_until("the file system is seen growing all the time", || {
            let growth = look(&surroundings.context());
            let fs = on(&growth, &place);
            let [(writer, file)] = writes_to(&growth, &path)[..] else { return false };
            writer == me
                && !file.per_second.is_zero()
                && !fs.per_second.is_zero()
                && fs.full_in_secs == Some(fs.available.0 / fs.per_second.0)
        });
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn nothing_is_measured_where_that_is_turned_off() {
    let mut surroundings = Surroundings::real();
    surroundings.settings.growth.interval_ms = 0;
    assert_eq!(look(&surroundings.context()), Growth::default());
}
