//! Deleting a tree beside `rm -rf`: one command makes the trees, runs both in turn and prints the ratio.
//!
//! ```console
//! # cargo bench --bench delete                             # as root: on a fresh ext4 on a loop device
//! # UNWEDGE_BENCH_PLACE=/var/tmp cargo bench --bench delete  # in a directory of your own
//! # UNWEDGE_BENCH_ENTRIES=50000 UNWEDGE_BENCH_ROUNDS=15 cargo bench --bench delete
//! ```
//!
//! Then it deletes 1,000 files that were chosen one by one (`UNWEDGE_BENCH_PICKS`).
//!
//! Ours is the whole run as the console makes it: plan, approval, every guard, quarantine, removal, verification.
//! Without root the trees are made below `target/`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a benchmark starts programs, makes trees below target/ and prints"
)]

mod common;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use common::{environment, number};
use unwedge::actions::{self, Request};
use unwedge::config::{Environment, Settings};
use unwedge::domain::consent::{Consent, ConsentRequest};
use unwedge::domain::protect::{ProtectSet, Protected, Reach};
use unwedge::domain::receipt::Outcome;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{ChosenFile, Snapshot};
use unwedge::domain::text::HostPath;
use unwedge::engine::Engine;
use unwedge::exec;
use unwedge::journal::Journal;
use unwedge::sys::{beneath, file_id};

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let entries = number("UNWEDGE_BENCH_ENTRIES", 200_000);
    let rounds = number("UNWEDGE_BENCH_ROUNDS", 9).max(1);
    let place = Place::new(&target, entries);
    let dir = place.dir.join("bench-delete");
    let template = make_tree(&dir, entries);
    let surroundings = Surroundings::new(&dir);
    let (mut rm, mut ours) = (Vec::new(), Vec::new());
    // Round 0 warms up and is not counted. Whoever is first in a round is second in the next.
    for round in 0..=rounds {
        let mut times = [0.0; 2];
        for turn in [round % 2, (round + 1) % 2] {
            let tree = dir.join("tree");
            run("cp", &["-a"], &[&template, &tree]);
            run("sync", &["-f"], &[&dir]);
            let began = Instant::now();
            if turn == 0 {
                run("rm", &["-rf"], &[&tree]);
            } else {
                surroundings.delete(&tree);
            }
            if let Some(time) = times.get_mut(turn) {
                *time = began.elapsed().as_secs_f64();
            }
            assert!(!tree.exists(), "it was not deleted");
        }
        eprintln!("round {round} of {rounds}: rm -rf {:.3} s, unwedge {:.3} s", times[0], times[1]);
        if round > 0 {
            rm.push(times[0]);
            ours.push(times[1]);
        }
    }
    let picks = picks(&surroundings, &dir, number("UNWEDGE_BENCH_PICKS", 1_000), rounds);
    let ratios: Vec<f64> = ours.iter().zip(&rm).map(|(ours, rm)| ours / rm).collect();
    println!("\nMedians of {rounds} rounds in turn, {entries} entries, in {}:\n", place.what);
    println!("| program | wall s | ratio to rm -rf | least | most |\n|---|--:|--:|--:|--:|");
    println!("| rm -rf | {:.2} | 1.00 | | |", median(rm));
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(a, b), &r| (a.min(r), b.max(r)));
    println!("| unwedge | {:.2} | {:.2} | {least:.2} | {most:.2} |", median(ours), median(ratios));
    println!("\n{picks}");
    run("rm", &["-rf"], &[&dir]);
}

/// Chooses single files, plans and deletes them, as the console does with what was marked: each with all that is asked of
/// the machine.
fn picks(surroundings: &Surroundings, dir: &Path, count: usize, rounds: usize) -> String {
    let picks = dir.join("picks");
    let times = (0..=rounds).map(|_| {
        fs::create_dir_all(&picks).expect("making the directory");
        let files: Vec<PathBuf> = (0..count).map(|number| picks.join(format!("file-{number}"))).collect();
        for file in &files {
            fs::write(file, b"x").expect("making a file");
        }
        let began = Instant::now();
        surroundings.delete_each(&files);
        let time = began.elapsed().as_secs_f64();
        assert!(files.iter().all(|file| !file.exists()), "not all were deleted");
        time
    });
    let times: Vec<f64> = times.skip(1).collect();
    format!("{count} files chosen one by one, planned and deleted: {:.3} s", median(times))
}

#[track_caller]
fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let status = Command::new(program).args(options).arg("--").args(paths).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {options:?} failed");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Where the trees are made.
struct Place {
    dir: PathBuf,
    what: String,
    /// An image that was made and mounted for this.
    image: Option<PathBuf>,
}

impl Place {
    fn new(target: &Path, entries: usize) -> Self {
        if let Some(dir) = env::var_os("UNWEDGE_BENCH_PLACE").map(PathBuf::from) {
            return Self { what: dir.display().to_string(), dir, image: None };
        }
        let (dir, image) = (target.join("bench-delete-mount"), target.join("bench-delete.ext4"));
        fs::create_dir_all(&dir).expect("making the mount point");
        // Room for the template and a copy of it.
        let inodes = entries * 3 + 10_000;
        let script = format!(
            "truncate -s 4G \"$1\" && mkfs.ext4 -q -F -N {inodes} \"$1\" && mount -o loop \"$1\" \"$2\""
        );
        let made =
            Command::new("sh").args(["-euc", &script, "sh"]).args([&image, &dir]).status().expect("no sh");
        if made.success() {
            Self { dir, what: "ext4 on a loop device".to_owned(), image: Some(image) }
        } else {
            eprintln!("no loop device or no right to mount one: the trees are made in target/");
            let _ = fs::remove_file(image);
            Self { dir: target.to_owned(), what: "target/".to_owned(), image: None }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(image) = &self.image {
            let _ = Command::new("umount").arg(&self.dir).status();
            let _ = fs::remove_file(image);
        }
    }
}

/// What a run of a plan needs.
struct Surroundings {
    environment: Environment,
    settings: Settings,
    protect: ProtectSet,
}

impl Surroundings {
    fn new(dir: &Path) -> Self {
        let environment = environment(&dir.join("home"));
        let mut settings = Settings::default();
        settings.journal.dir = format!("{}/journal", dir.display());
        // Nothing runs where nothing is protected.
        let mut protect = ProtectSet::default();
        let etc = choose(Path::new("/etc"));
        let what = Protected { path: etc.path, reach: Reach::Everything, why: "the system".to_owned() };
        protect.protect(etc.id.key, what);
        Self { environment, settings, protect }
    }

    fn delete(&self, tree: &Path) {
        self.run(vec![choose(tree)]);
    }

    fn delete_each(&self, files: &[PathBuf]) {
        let journal = Journal::open(&self.environment, &self.settings);
        let engine = Engine::new(self.environment.clone(), self.settings.clone(), journal);
        let around = engine.look_around();
        let choose = |file: &PathBuf| {
            engine.choose_among(&around, file, Bytes(1), Bytes(4096), 1).expect("not to be looked at")
        };
        self.run(files.iter().map(choose).collect());
    }

    fn run(&self, chosen: Vec<ChosenFile>) {
        let mut snapshot = Snapshot::pending(jiff::Timestamp::now());
        snapshot.protect = self.protect.clone();
        let plan = actions::plan(&Request::Delete(chosen), &snapshot, &self.settings);
        let consent = match plan.consent_request() {
            ConsentRequest::Key => Consent::Key,
            ConsentRequest::Word(word) => Consent::Typed(word.to_owned()),
            ConsentRequest::Name(name) => Consent::Typed(name),
        };
        let journal = Journal::open(&self.environment, &self.settings);
        let context = exec::Context {
            bounds: &exec::Bounds::new(false, None),
            environment: &self.environment,
            settings: &self.settings,
            protect: &self.protect,
            journal: &journal,
            cancel: &AtomicBool::new(false),
            skip: &exec::Skip::default(),
            first: 0,
            progress: &|_| {},
        };
        let receipt = exec::run(plan.approve(&consent).expect("not agreed"), &context);
        let done = receipt.steps.iter().all(|step| matches!(step.outcome, Outcome::Done { .. }));
        assert!(done, "{:?}", receipt.steps);
    }
}

/// Freezes a directory as the chooser of the console does.
fn choose(path: &Path) -> ChosenFile {
    let located = beneath::open_parent(path).expect("not reached");
    let id = file_id::of_entry(&located.parent, &located.name).expect("not there");
    let (apparent, allocated) = (Bytes(id.size), Bytes(id.size));
    let above = beneath::with_ancestors(&located.parent).expect("no way up");
    ChosenFile {
        path: HostPath::from(path),
        id,
        apparent,
        allocated,
        entries: 1,
        above,
        held: Vec::new(),
        open_by: Vec::new(),
        layer: unwedge::domain::snapshot::Layer::Own,
    }
}

/// A tree like those of package registries: packages of 15 entries in groups, every third file with contents.
fn make_tree(dir: &Path, entries: usize) -> PathBuf {
    let tree = dir.join("template");
    eprintln!("making {entries} entries in {}", tree.display());
    let mut made = 0;
    let mut number = 0;
    while made < entries {
        let package = tree.join(format!("group-{}/package-{number}", number / 400));
        fs::create_dir_all(package.join("src")).expect("making the tree");
        for at in 0..13 {
            let contents = if at % 3 == 0 { vec![b'x'; 5000] } else { Vec::new() };
            let below = if at < 4 { "" } else { "src/" };
            fs::write(package.join(format!("{below}file-{}-{at}.rs", number * 7919 % 1000)), contents)
                .expect("making the tree");
        }
        made += 15;
        number += 1;
    }
    tree
}
