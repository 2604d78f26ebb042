//! Sweeping an over-full directory beside `systemd-tmpfiles --clean` with the same rule: both in turn on copies of one ext4
//! image, whose files are all old.
//!
//! ```console
//! # cargo bench --bench sweep                                      # as root
//! # UNWEDGE_BENCH_ENTRIES=20000 UNWEDGE_BENCH_ROUNDS=15 cargo bench --bench sweep
//! ```
//!
//! Of a hundred entries `UNWEDGE_BENCH_DIRS` (10) are directories with a file in each, the others files. Ours is told in two parts: the look that makes
//! the plan, and the run with every guard, quarantine, verification and record.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark starts programs, mounts file systems and prints"
)]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::{environment, median, number};
use unwedge::actions::{self, Request};
use unwedge::config::{Environment, Settings};
use unwedge::domain::consent::{Consent, ConsentRequest};
use unwedge::domain::plan::Plan;
use unwedge::domain::protect::{ProtectSet, Protected, Reach};
use unwedge::domain::reading::Reading;
use unwedge::domain::snapshot::Snapshot;
use unwedge::domain::sweep::SweepTarget;
use unwedge::exec;
use unwedge::journal::Journal;
use unwedge::probe;
use unwedge::sys::{beneath, file_id};

fn main() {
    if common::part().is_none() {
        return common::inside_own_namespaces();
    }
    let (entries, rounds) = (number("UNWEDGE_BENCH_ENTRIES", 100_000), number("UNWEDGE_BENCH_ROUNDS", 9));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-sweep");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("target/ can be written");
    let world = World::new(&dir);
    world.make_template(entries);
    let (mut theirs, mut looks, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    // Round 0 warms up. Whoever is first in a round is second in the next.
    for round in 0..=rounds {
        let mut times = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for turn in [round % 2, (round + 1) % 2] {
            world.fresh();
            if turn == 0 {
                times.0 = world.tmpfiles();
            } else {
                (times.1, times.2) = world.ours();
            }
            let left = fs::read_dir(world.swept()).expect("it is mounted").count();
            assert_eq!(
                left,
                0,
                "entries are left after {}",
                if turn == 0 { "systemd-tmpfiles" } else { "ours" }
            );
            run("umount", &[&world.point]);
        }
        if round > 0 {
            theirs.push(times.0);
            looks.push(times.1);
            runs.push(times.2);
        }
    }
    let ratios: Vec<f64> =
        runs.iter().zip(&theirs).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
    println!(
        "{entries} entries, medians of {rounds}: plan {:.2?}, run {:.2?}, systemd-tmpfiles --clean {:.2?}; run / theirs {:.2}",
        median(looks),
        median(runs),
        median(theirs),
        middle(ratios)
    );
    let _ = fs::remove_dir_all(&dir);
}

fn middle(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_unstable_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or_default()
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().expect("it is installed");
    assert!(status.success(), "{program}: {status}");
}

struct World {
    template: PathBuf,
    image: PathBuf,
    point: PathBuf,
    config: PathBuf,
    environment: Environment,
    settings: Settings,
    protect: ProtectSet,
}

impl World {
    fn new(dir: &Path) -> Self {
        let mut settings = Settings::default();
        // Root's journal is not that of a benchmark.
        settings.journal.dir = dir.join("journal").display().to_string();
        let mut protect = ProtectSet::default();
        let root = file_id::of_path(c"/", true).expect("there is a root directory");
        let what = Protected { path: "/".into(), reach: Reach::Itself, why: "the root".to_owned() };
        protect.protect(root.key, what);
        let world = Self {
            template: dir.join("template"),
            image: dir.join("image"),
            point: dir.join("mounted"),
            config: dir.join("tmpfiles.conf"),
            environment: environment(&dir.join("home")),
            settings,
            protect,
        };
        fs::create_dir_all(&world.point).expect("it can be made");
        // The age of a directory is that of the youngest thing in it for both; files of 1 d and directories of 2 d are old.
        fs::write(&world.config, format!("e {} - - - 1d\n", world.swept().display()))
            .expect("it can be written");
        world
    }

    fn swept(&self) -> PathBuf {
        self.point.join("t")
    }

    /// An image with one directory full of old files: no system call sets a change or birth time.
    fn make_template(&self, entries: usize) {
        let size = (entries as u64 * 24 * 1024).max(512 << 20);
        fs::File::create(&self.template).and_then(|file| file.set_len(size)).expect("there is room");
        let quiet = Command::new("mkfs.ext4")
            .args(["-q", "-N", &(entries * 2).to_string()])
            .arg(&self.template)
            .status();
        assert!(quiet.expect("mkfs.ext4 is installed").success());
        self.mount(&self.template);
        let swept = self.swept();
        fs::create_dir(&swept).expect("it can be made");
        let dirs = number("UNWEDGE_BENCH_DIRS", 10);
        let mut inodes = vec![fs::metadata(&swept).expect("it is there").ino()];
        for index in 0..entries {
            let path = swept.join(format!("tmp.{index:06}"));
            if index % 100 < dirs {
                fs::create_dir(&path).expect("it can be made");
                inodes.push(fs::metadata(&path).expect("it is there").ino());
                let inner = path.join("f");
                fs::write(&inner, b"x").expect("it can be written");
                inodes.push(fs::metadata(&inner).expect("it is there").ino());
            } else {
                fs::write(&path, b"x").expect("it can be written");
                inodes.push(fs::metadata(&path).expect("it is there").ino());
            }
        }
        run("chown", &[Path::new("-R"), Path::new("1000:1000"), &swept]);
        run("umount", &[&self.point]);
        let mut script = String::new();
        for inode in inodes {
            for field in ["atime", "mtime", "ctime", "crtime"] {
                writeln!(script, "set_inode_field <{inode}> {field} 20240101000000").expect("memory");
            }
        }
        let list = self.template.with_extension("script");
        fs::write(&list, script).expect("it can be written");
        let output = Command::new("debugfs").arg("-w").arg("-f").arg(&list).arg(&self.template).output();
        assert!(output.expect("debugfs is installed").status.success());
    }

    fn mount(&self, image: &Path) {
        run("mount", &[Path::new("-o"), Path::new("loop,noatime"), image, &self.point]);
    }

    fn fresh(&self) {
        run("cp", &[Path::new("--sparse=always"), &self.template, &self.image]);
        run("sync", &[]);
        self.mount(&self.image);
        // Both begin with the directory in memory.
        run("du", &[Path::new("-s"), &self.swept()]);
    }

    fn tmpfiles(&self) -> Duration {
        let began = Instant::now();
        run("systemd-tmpfiles", &[Path::new("--clean"), &self.config]);
        began.elapsed()
    }

    /// How long the look for the plan took, and the run.
    fn ours(&self) -> (Duration, Duration) {
        let path = self.swept();
        let located = beneath::open_parent(&path).expect("it is there");
        let id = file_id::of_entry(&located.parent, &located.name).expect("it is there");
        let mut target = SweepTarget { path: path.as_path().into(), id, rule: None, list: Reading::Pending };
        let mut snapshot = Snapshot::pending(jiff::Timestamp::now());
        snapshot.protect = self.protect.clone();
        let began = Instant::now();
        let context = probe::Context {
            environment: &self.environment,
            settings: &self.settings,
            now: jiff::Timestamp::now(),
            memory: None,
            shared: None,
        };
        target.list = probe::sweep::look(&context, &target, &self.protect);
        let plan = actions::plan(&Request::Sweep(vec![target]), &snapshot, &self.settings);
        let look = began.elapsed();
        let began = Instant::now();
        self.sweep(plan);
        (look, began.elapsed())
    }

    fn sweep(&self, plan: Plan) {
        let consent = match plan.consent_request() {
            ConsentRequest::Key => Consent::Key,
            ConsentRequest::Word(word) => Consent::Typed(word.to_owned()),
            ConsentRequest::Name(name) => Consent::Typed(name),
        };
        let receipt = exec::run(
            plan.approve(&consent).expect("there is something to do"),
            &exec::Context {
                environment: &self.environment,
                settings: &self.settings,
                protect: &self.protect,
                journal: &Journal::open(&self.environment, &self.settings),
                bounds: &exec::Bounds::new(false, None),
                cancel: &AtomicBool::new(false),
                skip: &exec::Skip::default(),
                first: 0,
                progress: &|_| {},
            },
        );
        assert!(receipt.is_clean(), "{receipt:?}");
    }
}
