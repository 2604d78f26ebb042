//! Rotating a log that is written to: every line that was written is either among those that were dropped on purpose or
//! still there.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::format_collect,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/filesystems.rs"]
mod filesystems;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{World, inside_mount_namespace, sh, why};
use rustix::fs::SeekFrom;
use unwedge::actions::Request;
use unwedge::domain::logs::{InPlace, LogOwner, LogTarget};
use unwedge::domain::receipt::{Outcome, Receipt};
use unwedge::domain::size::Bytes;
use unwedge::sys::{beneath, file_id};

fn target(path: &Path, owner: LogOwner) -> LogTarget {
    let located = beneath::open_parent(path).unwrap();
    let id = file_id::of_entry(&located.parent, &located.name).unwrap();
    LogTarget {
        path: path.into(),
        id,
        allocated: Bytes(id.size),
        writers: Vec::new(),
        owner,
        keep_lines: None,
    }
}

fn rotate(world: &World, path: &Path) -> Receipt {
    world.run(world.plan(&Request::RotateLog(vec![target(path, LogOwner::Program)])))
}

/// Carries the orders of a writer process: path, way of writing, its number, lines between two pauses.
const WRITER: &str = "UNWEDGE_TEST_LOG_WRITER";

/// A program that writes a log until it is told to stop; it does nothing unless it was started by [`Writers`].
#[test]
fn writer_process() {
    let Ok(orders) = std::env::var(WRITER) else { return };
    let orders: Vec<&str> = orders.split('|').collect();
    let [path, way, number, burst] = orders[..] else { panic!("{orders:?}") };
    let burst: u32 = burst.parse().unwrap();
    let append = || File::options().append(true).open(path).unwrap();
    let mut open = match way {
        "append" => Some(append()),
        // Goes on at its own offset, wherever the end of the file is.
        "plain" => Some(File::options().write(true).open(path).unwrap()),
        "reopen" => None,
        other => panic!("{other}"),
    };
    let mut stop = [0];
    let mut written = 0;
    rustix::io::ioctl_fionbio(std::io::stdin(), true).unwrap();
    // Until the other end of the pipe is closed.
    while std::io::Read::read(&mut std::io::stdin(), &mut stop).is_err() {
        for _ in 0..burst {
            let text = format!("w{number} {written:07}\n");
            match &mut open {
                Some(file) => file.write_all(text.as_bytes()).unwrap(),
                None => append().write_all(text.as_bytes()).unwrap(),
            }
            written += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("wrote {written}");
}

struct Writers(Vec<Child>);

impl Writers {
    fn start(path: &Path, way: &str, count: usize, burst: usize) -> Self {
        let start = |number| {
            Command::new(std::env::current_exe().unwrap())
                .args(["writer_process", "--exact", "--nocapture"])
                .env(WRITER, format!("{}|{way}|{number}|{burst}", path.display()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        Self((0..count).map(start).collect())
    }

    /// Has them stop. How many lines each has written.
    fn stop(mut self) -> Vec<usize> {
        let stopped = std::mem::take(&mut self.0).into_iter().map(|mut child| {
            drop(child.stdin.take());
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "a writer failed: {said}");
            let written = said.lines().find_map(|line| line.split_once("wrote ")).unwrap().1;
            written.parse().unwrap()
        });
        stopped.collect()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lines that are missing. What rotation drops on purpose is the oldest; so a line is lost where the log has an earlier and
/// a later one of the same writer, or where it does not end with the last one that a writer has written.
struct Lost {
    missing: Vec<BTreeSet<usize>>,
    newest: Vec<Option<usize>>,
}

impl Lost {
    fn new(writers: usize) -> Self {
        Self { missing: vec![BTreeSet::new(); writers], newest: vec![None; writers] }
    }

    /// Looks at the log. Says how many lines are in it.
    fn look(&mut self, path: &Path) -> usize {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        // A head that was dropped is a hole.
        let Ok(begin) = rustix::fs::seek(&file, SeekFrom::Data(0)) else { return 0 };
        let mut bytes = vec![0; usize::try_from(size.saturating_sub(begin)).unwrap()];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], begin + done as u64).unwrap() {
                0 => break,
                count => done += count,
            }
        }
        let mut seen: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.missing.len()];
        for line in bytes[..done].split(|&byte| byte == b'\n') {
            let text: Vec<u8> = line.iter().copied().filter(|&byte| byte != 0).collect();
            let Ok(text) = String::from_utf8(text) else { continue };
            let Some((writer, number)) = text.strip_prefix('w').and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            // The first line may be cut through.
            if let (Ok(writer), Ok(number), 7) =
                (writer.parse::<usize>(), number.parse::<usize>(), number.len())
            {
                seen[writer].insert(number);
            }
        }
        for (writer, seen) in seen.iter().enumerate() {
            if let (Some(first), Some(last)) = (seen.first(), seen.last()) {
                self.missing[writer].extend((*first..*last).filter(|number| !seen.contains(number)));
            }
            self.newest[writer] = self.newest[writer].max(seen.last().copied());
        }
        seen.iter().map(BTreeSet::len).sum()
    }

    /// How many lines were written, so far as they were seen.
    fn written(&self) -> usize {
        self.newest.iter().map(|newest| newest.map_or(0, |newest| newest + 1)).sum()
    }

    fn count(&self, written: &[usize]) -> usize {
        let middle: usize = self.missing.iter().map(BTreeSet::len).sum();
        let end = self.newest.iter().zip(written);
        middle + end.map(|(newest, written)| written - newest.map_or(0, |newest| newest + 1)).sum::<usize>()
    }
}

struct Load {
    way: &'static str,
    writers: usize,
    /// Lines that are written at least.
    lines: usize,
    burst: usize,
    /// Rotations that are made at least.
    rotations: usize,
    keep: usize,
}

/// What came of it.
struct Tally {
    lost: usize,
    written: usize,
    rotations: usize,
}

/// Rotates while the writers write.
fn under_load(path: &Path, load: &Load, mut rotate: impl FnMut() -> bool) -> Tally {
    fs::write(path, b"").unwrap();
    let mut lost = Lost::new(load.writers);
    let writers = Writers::start(path, load.way, load.writers, load.burst);
    let (mut rotations, mut calls) = (0, 0);
    // The naive ways lose so much that lines cannot be counted.
    while rotations < load.rotations || (lost.written() < load.lines && calls < 10 * load.rotations.max(100))
    {
        let did = rotate();
        calls += 1;
        rotations += usize::from(did);
        let kept = lost.look(path);
        assert!(!did || kept >= load.keep, "only {kept} lines were kept");
    }
    let written = writers.stop();
    lost.look(path);
    Tally { lost: lost.count(&written), written: written.iter().sum(), rotations }
}

/// A world that keeps so many lines.
fn world(keep: u64, in_place: InPlace) -> World {
    let mut world = World::new();
    world.settings.logs.keep_lines = keep;
    world.settings.logs.in_place = in_place;
    world
}

/// Whether a rotation dropped something.
fn did(receipt: &Receipt) -> bool {
    match &receipt.steps[0].outcome {
        Outcome::Done { .. } => true,
        Outcome::Skipped { why } if why.contains("nothing to drop") => false,
        other => panic!("{other:?}"),
    }
}

fn on_every_file_system(test: &str, loads: &[(Load, InPlace)]) {
    if !inside_mount_namespace(test) {
        return;
    }
    for kind in filesystems::ALL {
        for (load, in_place) in loads {
            let world = world(load.keep as u64, *in_place);
            let point = world.path(kind);
            filesystems::mount(kind, &point, 256);
            let log = point.join("app.log");
            let Tally { lost, written, rotations } = under_load(&log, load, || did(&rotate(&world, &log)));
            eprintln!(
                "{kind}, {in_place:?}, {} writers ({}): {written} lines, {rotations} rotations, {lost} lost",
                load.writers, load.way
            );
            assert_eq!(lost, 0);
            assert!(rotations >= load.rotations && written >= load.lines);
            assert_eq!(
                fs::read_dir(&point)
                    .unwrap()
                    .filter(|entry| {
                        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".unwedge")
                    })
                    .count(),
                0
            );
        }
    }
}

#[test]
fn no_line_is_lost_on_any_file_system() {
    let load = |way, writers| Load { way, writers, lines: 3000, burst: 10, rotations: 4, keep: 1000 };
    on_every_file_system(
        "no_line_is_lost_on_any_file_system",
        &[
            (load("append", 1), InPlace::Punch),
            (load("append", 8), InPlace::Punch),
            (load("append", 4), InPlace::Collapse),
            (load("plain", 1), InPlace::Collapse),
            (load("reopen", 2), InPlace::Punch),
        ],
    );
}

#[test]
#[ignore = "takes minutes: 4 writers, 1 M lines, 200 rotations on each file system"]
fn no_line_of_a_million_is_lost() {
    let load = || Load { way: "append", writers: 4, lines: 1_000_000, burst: 10, rotations: 200, keep: 1000 };
    let loads = [(load(), InPlace::Punch), (load(), InPlace::Collapse)];
    on_every_file_system("no_line_of_a_million_is_lost", &loads);
}

/// The last lines of a log, as the naive ways keep them.
fn last_lines(path: &Path, keep: usize) -> Vec<u8> {
    let text = fs::read(path).unwrap();
    let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    lines[lines.len().saturating_sub(keep)..].concat()
}

#[test]
fn the_naive_ways_do_lose_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    let new = dir.path().join("new");
    let load = Load { way: "append", writers: 4, lines: 0, burst: 100, rotations: 20, keep: 0 };
    let said = |result: &Tally| {
        format!("{} rotations, {} of {} lines lost", result.rotations, result.lost, result.written)
    };
    // On a machine with other work the moment may be missed.
    let must_lose = |what: &str, naive: &dyn Fn() -> bool| {
        for _ in 0..20 {
            let result = under_load(&log, &load, naive);
            eprintln!("{what}: {}", said(&result));
            if result.lost > 0 {
                return;
            }
        }
        panic!("{what}: the test could not tell");
    };
    must_lose("temporary file and rename", &|| {
        fs::write(&new, last_lines(&log, 20_000)).unwrap();
        fs::rename(&new, &log).unwrap();
        true
    });
    must_lose("copy and truncate", &|| {
        let kept = last_lines(&log, 20_000);
        // As logrotate's copytruncate does, with the copy kept in the log.
        fs::write(&new, kept).unwrap();
        let file = File::options().append(true).open(&log).unwrap();
        file.set_len(0).unwrap();
        (&file).write_all(&fs::read(&new).unwrap()).unwrap();
        true
    });
}

fn numbered(count: usize) -> String {
    (0..count).map(|line| format!("line {line:06}\n")).collect()
}

#[test]
fn a_log_that_nobody_writes_to_gets_short_and_keeps_owner_mode_and_attributes() {
    if !common::is_root() {
        return;
    }
    let world = world(1000, InPlace::Punch);
    let log = world.path("old.log");
    fs::write(&log, numbered(50_000)).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&log, Some(12), Some(34)).unwrap();
    rustix::fs::setxattr(&log, "user.test", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let before = fs::metadata(&log).unwrap();
    let receipt = rotate(&world, &log);
    assert!(did(&receipt), "{receipt:?}");
    let after = fs::metadata(&log).unwrap();
    assert_ne!(before.ino(), after.ino(), "it is a new file");
    assert_eq!((after.uid(), after.gid(), after.mode() & 0o7777), (12, 34, 0o640));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&log, "user.test", &mut value).unwrap();
    assert_eq!(&value[..length], b"kept");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("line 049000\n") && text.ends_with("line 049999\n"), "{}", text.len());
    assert_eq!(text.lines().count(), 1000);
    assert!(why(&rotate(&world, &log)).contains("nothing to drop"));
}

#[test]
fn a_reader_is_enough_to_leave_the_file_as_it_is() {
    let world = world(1000, InPlace::Punch);
    let log = world.path("read.log");
    fs::write(&log, numbered(50_000)).unwrap();
    let held = File::open(&log).unwrap();
    let before = held.metadata().unwrap();
    assert!(did(&rotate(&world, &log)));
    let after = fs::metadata(&log).unwrap();
    assert_eq!((before.ino(), before.len()), (after.ino(), after.len()));
    assert!(after.blocks() < before.blocks() / 10, "{} blocks", after.blocks());
    let text = fs::read(&log).unwrap();
    let begin = text.iter().position(|&byte| byte != 0).unwrap();
    assert!(text[begin..].starts_with(b"line 049000\n"));
}

#[test]
fn the_log_of_a_container_stays_readable_line_by_line() {
    if !inside_mount_namespace("the_log_of_a_container_stays_readable_line_by_line") {
        return;
    }
    let mut world = world(1000, InPlace::Punch);
    let point = world.path("store");
    filesystems::mount("ext4", &point, 64);
    world.protect(&point);
    let log = point.join("abc-json.log");
    let line = |number: usize| format!("{{\"log\":\"line {number}\\n\",\"stream\":\"stdout\"}}\n");
    fs::write(&log, (0..50_000).map(line).collect::<String>()).unwrap();
    let held = File::options().append(true).open(&log).unwrap();
    let before = held.metadata().unwrap().blocks();
    let run = |path: &Path, owner| world.run(world.plan(&Request::RotateLog(vec![target(path, owner)])));
    // As an ordinary log it is out of bounds, and so is everything else in the store.
    assert!(why(&run(&log, LogOwner::Program)).contains("inside"));
    let other = point.join("layer.db");
    fs::write(&other, numbered(5000)).unwrap();
    assert!(why(&run(&other, LogOwner::Container)).contains("name of a container's log"));
    let receipt = run(&log, LogOwner::Container);
    assert!(did(&receipt), "{receipt:?}");
    let after = fs::metadata(&log).unwrap();
    assert!(after.blocks() < before / 10 && after.ino() == held.metadata().unwrap().ino());
    (&held).write_all(line(50_000).as_bytes()).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let read: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    assert!(read.len() >= 1001, "{}", read.len());
    assert_eq!(read.last().unwrap()["log"], "line 50000\n");
}

#[test]
fn links_binaries_places_that_people_may_change_and_other_files_are_left_alone() {
    let world = world(10, InPlace::Punch);
    let path = |name: &str| world.path(name);
    fs::write(path("linked.log"), numbered(1000)).unwrap();
    let plain = target(&path("linked.log"), LogOwner::Program);
    fs::hard_link(path("linked.log"), path("other-name")).unwrap();
    let receipt = world.run(world.plan(&Request::RotateLog(vec![plain.clone()])));
    assert!(why(&receipt).contains("2 names"));

    fs::write(path("btmp"), [[1_u8; 100], [0; 100], [b'\n'; 100]].concat().repeat(100)).unwrap();
    let mut text = fs::read(path("btmp")).unwrap();
    text.extend([0; 50]);
    fs::write(path("btmp"), text).unwrap();
    assert!(why(&rotate(&world, &path("btmp"))).contains("no text"));

    fs::create_dir(path("shared")).unwrap();
    fs::set_permissions(path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(path("shared/a.log"), numbered(1000)).unwrap();
    assert!(why(&rotate(&world, &path("shared/a.log"))).contains("other people"));

    fs::write(path("a.log"), numbered(1000)).unwrap();
    let shown = target(&path("a.log"), LogOwner::Program);
    fs::rename(path("a.log"), path("b.log")).unwrap();
    fs::write(path("a.log"), numbered(2000)).unwrap();
    let receipt = world.run(world.plan(&Request::RotateLog(vec![shown.clone()])));
    assert!(why(&receipt).contains("changed, skipped"));
    fs::remove_file(path("a.log")).unwrap();
    std::os::unix::fs::symlink("b.log", path("a.log")).unwrap();
    let receipt = world.run(world.plan(&Request::RotateLog(vec![shown])));
    assert!(why(&receipt).contains("symbolic link"));
    for (name, lines) in [("linked.log", 1000), ("shared/a.log", 1000), ("b.log", 1000)] {
        assert_eq!(fs::read_to_string(path(name)).unwrap(), numbered(lines));
    }
}

#[test]
fn what_a_killed_rotation_left_is_removed_and_nothing_else() {
    let world = world(10, InPlace::Punch);
    let log = world.path("a.log");
    fs::write(&log, numbered(1000)).unwrap();
    let left = |run: &str| world.path(&format!(".unwedge-rotated-{run}"));
    let ours = left("1-99999999999-00000000000000aa-0");
    let copied = numbered(1000).split_off(5000);
    fs::write(&ours, &copied).unwrap();
    // What somebody wrote to the old part after the exchange is not in the log.
    let unique = left("1-99999999999-00000000000000ab-0");
    fs::write(&unique, copied.clone() + "a line that is nowhere else\n").unwrap();
    let held = left("1-99999999999-00000000000000ac-0");
    fs::write(&held, &copied).unwrap();
    let open = File::open(&held).unwrap();
    assert!(did(&rotate(&world, &log)));
    assert!(!ours.exists() && unique.exists() && held.exists());
    drop(open);
}

/// A program that has the log open through this descriptor and writes nothing to it; it goes when this is dropped.
struct Holder(Child);

impl Holder {
    fn new(file: File) -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn writers_at_offsets_of_their_own_keep_their_newest_lines() {
    if !inside_mount_namespace("writers_at_offsets_of_their_own_keep_their_newest_lines") {
        return;
    }
    let keep = 100;
    let world = world(keep, InPlace::Punch);
    let point = world.path("fs");
    filesystems::mount("ext4", &point, 64);
    let log = point.join("app.log");
    fs::write(&log, numbered(1_000_000)).unwrap();
    // One goes on far behind, the other one begins at 0 and comes after.
    let mut behind = File::options().write(true).open(&log).unwrap();
    std::io::Seek::seek(&mut behind, std::io::SeekFrom::End(0)).unwrap();
    let _behind = Holder::new(behind);
    let writers = Writers::start(&log, "plain", 1, 10);
    let (mut lost, mut refused, mut rotations) = (Lost::new(1), 0, 0);
    let until = std::time::Instant::now() + Duration::from_mins(1);
    while rotations < 3 && std::time::Instant::now() < until {
        match &rotate(&world, &log).steps[0].outcome {
            Outcome::Done { .. } => rotations += 1,
            Outcome::Skipped { why } if why.contains("does not append") => refused += 1,
            other => panic!("{other:?}"),
        }
        lost.look(&log);
    }
    let written = writers.stop();
    let kept = lost.look(&log);
    eprintln!("{rotations} rotations, {refused} refused, {written:?} written, {kept} kept");
    assert_eq!(lost.count(&written), 0);
    assert!(rotations == 3 && kept as u64 >= keep, "{rotations} rotations, {kept} kept");
    // Of the one behind all that is kept is kept.
    let text = fs::read(&log).unwrap();
    assert!(text.ends_with(numbered(1_000_000).split_off(12_000_000 - 1200).as_bytes()));
}

#[test]
fn who_reads_and_writes_a_log_or_has_written_little_is_told_and_nothing_is_dropped() {
    let world = world(100, InPlace::Punch);
    let log = world.path("app.log");
    let before = numbered(5000);
    fs::write(&log, &before).unwrap();
    let mut options = File::options();
    let copier = Holder::new(options.read(true).write(true).open(&log).unwrap());
    assert!(why(&rotate(&world, &log)).contains("copies a log"));
    drop(copier);
    let beginner = Holder::new(File::options().write(true).open(&log).unwrap());
    assert!(why(&rotate(&world, &log)).contains("at byte 0"));
    drop(beginner);
    assert_eq!(fs::read_to_string(&log).unwrap(), before);
    assert!(did(&rotate(&world, &log)));
}
