//! `unwedge reclaim` on a small file system of its own: what it chooses, runs, and leaves alone.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests start programs and write files in their own temporary directory"
)]

mod common;
#[path = "common/filesystems.rs"]
mod filesystems;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{inside_own_namespaces, sh};
use serde_json::Value;

const MIB: usize = 1 << 20;
/// The person who calls sudo.
const PERSON: u32 = 1234;

/// A file system of 160 MiB with the homes of root and of one person, known to this mount namespace only.
struct World {
    _temp: common::MountDir,
    dir: PathBuf,
    journal: PathBuf,
}

impl World {
    fn new(mount: impl FnOnce(&Path)) -> Self {
        let temp = common::MountDir::new();
        let dir = temp.path().canonicalize().unwrap().join("small");
        let journal = temp.path().join("journal");
        fs::create_dir(&dir).unwrap();
        // The lock of runs, that of other tests, is there.
        sh("mount -t tmpfs none /run");
        mount(&dir);
        let passwd = temp.path().join("passwd");
        let shown = dir.display();
        fs::write(
            &passwd,
            format!("root:x:0:0::{shown}/root:/bin/sh\nal:x:{PERSON}:{PERSON}::{shown}/al:/bin/sh\n"),
        )
        .unwrap();
        sh(&format!("mount --bind {} /etc/passwd", passwd.display()));
        let world = Self { _temp: temp, dir, journal };
        world.fill("al/.cache/thumbnails", 8, PERSON);
        world.fill("al/.cache/debuginfod_client", 16, PERSON);
        world.fill("al/.cache/torch", 24, PERSON);
        world.fill("root/.cache/thumbnails", 12, 0);
        world.fill("al/.cache/own-data", 4, PERSON);
        fs::write(world.dir.join("al/thesis.txt"), vec![7; MIB]).unwrap();
        world
    }

    fn fill(&self, name: &str, mib: usize, uid: u32) {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        for number in 0..mib {
            fs::write(dir.join(format!("f{number}")), vec![1; MIB]).unwrap();
        }
        sh(&format!("chown -R {uid}:{uid} {}", self.dir.join(name.split('/').next().unwrap()).display()));
    }

    /// As sudo calls it.
    fn reclaim(&self, goal: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_unwedge"))
            .args(["reclaim", goal, "--on", self.dir.to_str().unwrap()])
            .args(more)
            .args(["--set", &format!("journal.dir={}", self.journal.display())])
            .env("SUDO_UID", PERSON.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn json(&self, goal: &str, more: &[&str]) -> (Value, i32) {
        let output = self.reclaim(goal, &[&["--format", "json"], more].concat());
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (value, output.status.code().unwrap())
    }

    fn has(&self, name: &str) -> bool {
        self.dir.join(name).read_dir().is_ok_and(|mut entries| entries.next().is_some())
    }

    /// What must never be touched.
    #[track_caller]
    fn bystanders_are_well(&self) {
        assert_eq!(fs::read(self.dir.join("al/thesis.txt")).unwrap(), vec![7; MIB]);
        assert_eq!(fs::read_dir(self.dir.join("al/.cache/own-data")).unwrap().count(), 4);
        assert!(self.has("root/.cache/thumbnails"), "root's caches are not the person's");
    }
}

fn summaries(report: &Value) -> Vec<&str> {
    report["choice"]["basket"]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["summary"].as_str().unwrap())
        .collect()
}

/// Promise and receipt of a run, in bytes.
fn figures(report: &Value) -> (u64, u64) {
    let promised = report["choice"]["promised"]["bytes"].as_u64().unwrap();
    let space = &report["receipt"]["space"][0];
    let free = |when: &str| space[when]["value"]["free"].as_u64().unwrap();
    (promised, free("after") - free("before"))
}

/// Everything that is asked of one such file system.
fn check(world: &World) {
    // Without a terminal and without --yes nothing happens.
    let refused = world.reclaim("10M", &[]);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes agrees without asking"));

    // What is enough alone, and no more; exactly what would run, with its size.
    let (plan, code) = world.json("10M", &["--dry-run"]);
    assert_eq!((code, summaries(&plan).len()), (0, 1), "{plan:#}");
    assert!(summaries(&plan)[0].contains("debuginfod"), "{plan:#}");
    let text = world.reclaim("10M", &["--dry-run"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let command = format!("delete {}/al/.cache/debuginfod_client and all in it", world.dir.display());
    let line = text.lines().find(|line| line.contains(&command)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("16.0 MiB"), "{line}");
    assert!(world.has("al/.cache/debuginfod_client") && world.has("al/.cache/thumbnails"));

    // More than routine steps can do: said, with the next riskier one.
    let (plan, code) = world.json("30M", &["--dry-run"]);
    assert_eq!((code, &plan["choice"]["reaches"]), (1, &Value::Bool(false)));
    assert_eq!(plan["choice"]["next"]["risk"], "disruptive", "{plan:#}");
    let text = String::from_utf8_lossy(&world.reclaim("30M", &["--dry-run"]).stdout).into_owned();
    assert!(text.contains("allow it with --max-risk disruptive"), "{text}");
    world.bystanders_are_well();

    // Run: both routine ones, and what comes back is what was promised.
    let (done, code) = world.json("20M", &["--yes"]);
    assert_eq!((code, summaries(&done).len()), (0, 2), "{done:#}");
    let (promised, freed) = figures(&done);
    assert!(freed.abs_diff(promised) * 20 <= promised, "promised {promised}, freed {freed}");
    assert!(!world.has("al/.cache/debuginfod_client") && !world.has("al/.cache/thumbnails"));
    assert!(world.has("al/.cache/torch"), "what disrupts was not allowed");
    world.bystanders_are_well();

    // What disrupts has to be allowed.
    let (nothing, code) = world.json("20M", &["--yes"]);
    assert_eq!((code, summaries(&nothing).len()), (1, 0), "{nothing:#}");
    let (done, code) = world.json("20M", &["--yes", "--max-risk", "disruptive"]);
    assert_eq!(code, 0, "{done:#}");
    let (promised, freed) = figures(&done);
    assert!(freed.abs_diff(promised) * 20 <= promised, "promised {promised}, freed {freed}");
    assert!(!world.has("al/.cache/torch"));
    world.bystanders_are_well();

    // It is on record, each part by itself.
    let history = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["history", "--format", "json"])
        .args(["--set", &format!("journal.dir={}", world.journal.display())])
        .output()
        .unwrap();
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(history["records"].as_array().unwrap().len(), 3);
    assert!(history["records"][0]["promised"]["bytes"].as_u64() > Some(0), "{history:#}");
    assert_eq!(history["records"][0]["space"].as_array().unwrap().len(), 1);
}

#[test]
fn the_safest_steps_reach_the_goal_in_memory() {
    if inside_own_namespaces("the_safest_steps_reach_the_goal_in_memory") {
        check(&World::new(|dir| sh(&format!("mount -t tmpfs -o size=160m none {}", dir.display()))));
    }
}

#[test]
fn the_safest_steps_reach_the_goal_on_ext4() {
    if inside_own_namespaces("the_safest_steps_reach_the_goal_on_ext4") {
        check(&World::new(|dir| {
            let image = dir.with_extension("img");
            sh(&format!(
                "truncate -s 160M {image} && mkfs.ext4 -q {image} && mount -o loop {image} {dir}",
                image = image.display(),
                dir = dir.display()
            ));
        }));
    }
}

/// With no byte free, and nothing beside the full file system but `/run`.
fn from_zero(kind: &str) {
    let world = World::new(|dir| {
        fs::remove_dir(dir).unwrap();
        filesystems::mount(kind, dir, 160);
    });
    fs::create_dir(world.dir.join("state")).unwrap();
    let filler = fs::File::create(world.dir.join("al/filler")).unwrap();
    for piece in [MIB, 4096, 1] {
        while (&filler).write(&vec![7; piece]).is_ok_and(|count| count > 0) {}
        let _ = filler.sync_all();
    }
    let size = filler.metadata().unwrap().len();
    drop(filler);
    let refused = fs::write(world.dir.join("al/more"), vec![7; MIB]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull, "{kind}");
    // The journal belongs on the full file system, too.
    let journal = format!("journal.dir={}/state", world.dir.display());
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["reclaim", "20M", "--on", world.dir.to_str().unwrap(), "--yes", "--format", "json"])
        .args(["--set", &journal])
        .env("SUDO_UID", PERSON.to_string())
        .env("TMPDIR", &world.dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let done: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{kind}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(0), "{kind}: {done:#}");
    let (promised, freed) = figures(&done);
    assert!(freed.abs_diff(promised) * 20 <= promised, "{kind}: promised {promised}, freed {freed}");
    assert!(!world.has("al/.cache/debuginfod_client") && world.has("al/.cache/torch"), "{kind}");
    world.bystanders_are_well();
    assert_eq!(fs::metadata(world.dir.join("al/filler")).unwrap().len(), size, "{kind}");
    fs::write(world.dir.join("al/more"), vec![7; 16 * MIB]).unwrap();
}

/// One test for each kind, so that each says for itself what is wrong.
macro_rules! from_zero {
    ($($name:ident, $kind:literal;)*) => {$(
        #[test]
        fn $name() {
            if inside_own_namespaces(stringify!($name)) {
                from_zero($kind);
            }
        }
    )*};
}

from_zero! {
    the_goal_is_reached_on_a_full_ext4, "ext4";
    the_goal_is_reached_on_a_full_xfs, "xfs";
    the_goal_is_reached_on_a_full_btrfs, "btrfs";
    the_goal_is_reached_on_a_full_tmpfs, "tmpfs";
}

#[test]
fn a_goal_that_makes_no_sense_is_refused() {
    for (goal, said) in [
        ("0G", "nothing is wanted"),
        ("8", "8 has no unit: try 8G"),
        ("lots", "try 8G"),
        ("-3G", "unexpected argument"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_unwedge")).args(["reclaim", goal]).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(said), "{goal}: {message}");
    }
}
