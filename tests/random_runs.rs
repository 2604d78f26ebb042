//! Runs of every kind that are killed or cancelled at random moments, and taken back, beside a model of what must be there:
//! nothing that was not chosen is touched, what is left of what was chosen is where and as it was, and nothing lies elsewhere.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/filesystems.rs"]
mod filesystems;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{World, choose, inside_own_namespaces, process, sh};
use rustix::process::{Signal, getpid, kill_process};
use unwedge::actions::Request;
use unwedge::domain::identity::{DevId, DevIno, Inode, MountId, NamespaceId};
use unwedge::domain::logs::{LogOwner, LogTarget};
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{BuildMount, DeletedFile, Evidence, Holder, Verdict};
use unwedge::engine::Engine;
use unwedge::journal::Journal;
use unwedge::sys::file_id;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Many files, one by one.
    Files,
    /// A tree with directories that nobody may enter or write to.
    Tree,
    /// A tree with more levels than directories are kept open.
    Deep,
    /// A tree on a file system without a free inode, which can only be sealed.
    Sealed,
    /// A directory full of old things.
    Sweep,
    /// Files to another file system, out of a private directory.
    Move,
    /// A log that nobody writes.
    Rotate,
    /// A log that somebody has open.
    RotateOpen,
    /// Bind mounts.
    Unmount,
    /// A deleted file that somebody has open.
    Truncate,
}

const KINDS: [Kind; 10] = [
    Kind::Files,
    Kind::Tree,
    Kind::Deep,
    Kind::Sealed,
    Kind::Sweep,
    Kind::Move,
    Kind::Rotate,
    Kind::RotateOpen,
    Kind::Unmount,
    Kind::Truncate,
];

/// Carries what a child runs: the directory, the number of the kind or `undo`, how it ends, after how many microseconds.
const ORDERS: &str = "UNWEDGE_TEST_RANDOM_RUN";
/// Lines of a log, and those that are kept.
const LINES: usize = 60_000;
const KEPT: usize = 1000;
/// Bytes of the deleted file.
const DELETED: u64 = 1 << 20;
/// Somebody else.
const OTHER: u32 = 1000;

/// Numbers by chance (Knuth's MMIX generator, The Art of Computer Programming, volume 2, 3.3.4).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }
}

/// What is seen of one name.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:o} {:?} {} bytes", self.kind | self.mode, self.owner, self.content.len())
    }
}

type Seens = BTreeMap<PathBuf, Seen>;

/// Everything below a directory, itself left out.
fn look(dir: &Path) -> Seens {
    let mut all = BTreeMap::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                stack.push(path.clone());
            }
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let mode = meta.permissions().mode();
            let seen = Seen {
                kind: mode & libc_type(),
                mode: mode & 0o7777,
                owner: (meta.uid(), meta.gid()),
                content,
            };
            all.insert(path, seen);
        }
    }
    all
}

/// `S_IFMT` (inode(7)).
const fn libc_type() -> u32 {
    0o170_000
}

/// A case: what is there, and what of it is chosen.
struct Case {
    kind: Kind,
    dir: PathBuf,
    before: Seens,
    /// The file that the child removes and empties.
    deleted: Option<File>,
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn numbered(lines: usize) -> String {
    (0..lines).fold(String::new(), |mut text, line| {
        writeln!(text, "line {line:09}").unwrap();
        text
    })
}

impl Case {
    fn make(kind: Kind, dir: &Path) -> Self {
        let at = |name: &str| dir.join(name);
        match kind {
            Kind::Sealed => {
                filesystems::mount("ext4", dir, 16);
            }
            Kind::Sweep => filesystems::mount("ext4", dir, 48),
            _ => fs::create_dir(dir).unwrap(),
        }
        write(&at("keep/a"), b"keep");
        write(&at("keep/sub/b"), b"keep too");
        match kind {
            Kind::Files => (0..60).for_each(|n| write(&at(&format!("chosen/f{n}")), b"chosen")),
            Kind::Tree | Kind::Sealed => {
                for number in 0..40 {
                    for file in 0..8 {
                        write(
                            &at(&format!("chosen/d{number}/sub/f{file}")),
                            format!("{number} {file}").as_bytes(),
                        );
                    }
                }
                let owned = at("chosen");
                sh(&format!("chown -R {OTHER}:{OTHER} {0}; chmod 0770 {0}", owned.display()));
                for (number, mode) in [(1, 0o500), (2, 0o000), (3, 0o700), (4, 0o555)] {
                    let one = at(&format!("chosen/d{number}"));
                    fs::set_permissions(one, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            Kind::Deep => {
                let mut path = at("chosen");
                for level in 0..150 {
                    write(&path.join("f"), format!("level {level}").as_bytes());
                    write(&path.join("g/h"), format!("beside {level}").as_bytes());
                    path = path.join("d");
                }
            }
            Kind::Sweep => {
                for number in 0..150 {
                    write(&at(&format!("chosen/old{number}")), format!("old {number}").as_bytes());
                    write(&at(&format!("chosen/dir{number}/f")), format!("in {number}").as_bytes());
                    write(&at(&format!("chosen/deep{number}/sub/f")), format!("below {number}").as_bytes());
                }
                write(&at("chosen/young"), b"young");
                filesystems::age(dir, &["chosen/young", "keep"]);
            }
            Kind::Move => {
                for number in 0..3 {
                    let content: Vec<u8> = (0..700_000u32).map(|byte| (byte % 251) as u8 + number).collect();
                    write(&at(&format!("private/m{number}")), &content);
                    chown(at(&format!("private/m{number}")), Some(OTHER), Some(OTHER)).unwrap();
                }
                chown(at("private"), Some(OTHER), Some(OTHER)).unwrap();
                fs::set_permissions(at("private"), fs::Permissions::from_mode(0o700)).unwrap();
                fs::create_dir(at("there")).unwrap();
                sh(&format!("mount -t tmpfs -o mode=755,size=64M none {}", at("there").display()));
            }
            Kind::Rotate | Kind::RotateOpen => write(&at("chosen.log"), numbered(LINES).as_bytes()),
            Kind::Unmount => {
                for number in 0..5 {
                    write(&at(&format!("source{number}/f")), b"source");
                    let point = at(&format!("buildkit-mount{number}"));
                    fs::create_dir(&point).unwrap();
                    sh(&format!(
                        "mount --bind {} {}",
                        at(&format!("source{number}")).display(),
                        point.display()
                    ));
                }
            }
            Kind::Truncate => write(&at("chosen"), &vec![7; usize::try_from(DELETED).unwrap()]),
        }
        if kind == Kind::Sealed {
            // No inode is left, so no directory can be made.
            let mut number = 0;
            while fs::write(at(&format!("keep/fill{number}")), b"").is_ok() {
                number += 1;
            }
        }
        let deleted = (kind == Kind::Truncate).then(|| File::open(at("chosen")).unwrap());
        Self { kind, dir: dir.to_path_buf(), before: look(dir), deleted }
    }

    /// What is wrong now. `undone` tells that what could be taken back was.
    fn wrong(&self, undone: bool, empties: &mut u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut now = look(&self.dir);
        // An empty directory that a killed run had made for what it sets aside.
        let named =
            |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with(".unwedge-quarantine-");
        let made: Vec<PathBuf> = now.keys().filter(|path| named(path) && path.is_dir()).cloned().collect();
        for path in made {
            if fs::remove_dir(&path).is_ok() {
                *empties += 1;
                now.remove(&path);
            }
        }
        for (path, was) in &self.before {
            let inside = path.strip_prefix(&self.dir).unwrap();
            match (now.remove(path), self.may_go(inside, undone)) {
                (Some(is), _) if is == *was => {}
                (Some(is), _) if self.may_be(inside, was, &is) => {}
                (Some(is), _) => wrong.push(format!("{} is {is:?}, was {was:?}", inside.display())),
                (None, true) => {}
                (None, false) => wrong.push(format!("{} is gone ({was:?})", inside.display())),
            }
        }
        for (path, is) in now {
            let inside = path.strip_prefix(&self.dir).unwrap();
            let whole = self.moved_from(inside).and_then(|from| self.before.get(&from));
            if undone || whole.is_none_or(|was| was.content != is.content) {
                wrong.push(format!("{} lies there: {is:?}", inside.display()));
            }
        }
        if let Some(length) = self.deleted.as_ref().map(|file| file.metadata().unwrap().len())
            && ![0, DELETED].contains(&length)
        {
            wrong.push(format!("the deleted file has {length} bytes"));
        }
        if self.kind == Kind::Move {
            for number in 0..3 {
                let here = self.dir.join(format!("private/m{number}")).exists();
                let there = self.dir.join(format!("there/m{number}")).exists();
                if !here && !there {
                    wrong.push(format!("m{number} is nowhere"));
                }
            }
        }
        wrong
    }

    /// Whether something may be gone.
    fn may_go(&self, inside: &Path, undone: bool) -> bool {
        match self.kind {
            Kind::Files | Kind::Tree | Kind::Deep | Kind::Sealed => inside.starts_with("chosen"),
            Kind::Sweep => {
                inside.starts_with("chosen") && inside != Path::new("chosen") && !inside.ends_with("young")
            }
            Kind::Move => inside.starts_with("private/") && inside != Path::new("private") && !undone,
            Kind::Unmount => inside.to_string_lossy().starts_with("buildkit-mount"),
            Kind::Truncate => inside == Path::new("chosen"),
            Kind::Rotate | Kind::RotateOpen => false,
        }
    }

    /// Whether something may have become this.
    fn may_be(&self, inside: &Path, was: &Seen, is: &Seen) -> bool {
        let same = |is: &Seen| (is.kind, is.mode, is.owner) == (was.kind, was.mode, was.owner);
        match self.kind {
            Kind::Rotate | Kind::RotateOpen if inside == Path::new("chosen.log") => {
                let start = is.content.iter().position(|&byte| byte != 0).unwrap_or(is.content.len());
                let text = &is.content[start..];
                let lines = text.split(|&byte| byte == b'\n').count() - 1;
                same(is) && was.content.ends_with(text) && text.starts_with(b"line ") && lines >= KEPT
            }
            _ => false,
        }
    }

    fn moved_from(&self, inside: &Path) -> Option<PathBuf> {
        (self.kind == Kind::Move)
            .then(|| inside.strip_prefix("there").ok())??
            .to_str()
            .map(|name| self.dir.join("private").join(name))
    }

    fn end(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(&self.dir)) {
            sh(&format!("umount --lazy {point}"));
        }
        fs::remove_dir_all(&self.dir).unwrap();
        for end in ["img", "script", "err"] {
            let _ = fs::remove_file(self.dir.with_extension(end));
        }
    }
}

/// What the child of a kind runs.
fn request(world: &World, kind: Kind, dir: &Path) -> Request {
    let at = |name: &str| dir.join(name);
    let all = |dir: PathBuf| {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| choose(path)).collect::<Vec<_>>()
    };
    match kind {
        Kind::Files => Request::Delete(all(at("chosen"))),
        Kind::Tree | Kind::Deep | Kind::Sealed => Request::Delete(vec![choose(&at("chosen"))]),
        Kind::Sweep => Request::Sweep(vec![world.to_sweep(&at("chosen"))]),
        Kind::Move => Request::Evacuate {
            files: all(at("private")),
            to: at("there").as_path().into(),
            unfit: None,
            one_way: Vec::new(),
        },
        Kind::Rotate | Kind::RotateOpen => {
            let id = choose(&at("chosen.log")).id;
            Request::RotateLog(vec![LogTarget {
                path: at("chosen.log").as_path().into(),
                id,
                allocated: Bytes(id.size),
                writers: Vec::new(),
                owner: LogOwner::Program,
                keep_lines: None,
            }])
        }
        Kind::Unmount => Request::Unmount(build_mounts(dir)),
        Kind::Truncate => unreachable!("it needs the file"),
    }
}

fn build_mounts(dir: &Path) -> Vec<BuildMount> {
    let namespace = NamespaceId(fs::metadata("/proc/self/ns/mnt").unwrap().ino());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| Path::new(fields[4]).starts_with(dir) && fields[4].contains("/buildkit-mount"))
        .map(|fields| BuildMount {
            mount: MountId { id: fields[0].parse().unwrap(), unique: None },
            parent: fields[1].parse().unwrap(),
            mount_point: fields[4].into(),
            root: fields[3].into(),
            fs_type: "ext4".into(),
            source: "none".into(),
            dev: DevId::default(),
            namespace,
            via: None,
            copies: Vec::new(),
            verdict: Verdict::Orphan,
            evidence: vec![Evidence::new("made by the test", "the test")],
        })
        .collect()
}

/// The child: one run, which ends in the middle. It does nothing unless it was started by [`Runs`].
#[test]
fn one_run() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<&str> = orders.split('|').collect();
    let [place, what, how, micros] = orders[..] else { panic!("{orders:?}") };
    let mut world = World::new();
    world.settings.journal.dir = format!("{place}/journal");
    let world = &*Box::leak(Box::new(world));
    let dir = Path::new(place).join("case");
    let wait = Duration::from_micros(micros.parse().unwrap());
    let kills = match how {
        "kill" => Some(true),
        "cancel" => Some(false),
        _ => None,
    };
    let end = move || {
        let Some(kills) = kills else { return };
        std::thread::spawn(move || {
            std::thread::sleep(wait);
            if kills {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            world.cancel.store(true, Ordering::SeqCst);
        });
    };
    let began;
    if what == "undo" {
        let journal = Journal::open(&world.environment, &world.settings);
        let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
        let undoing = engine.undo(None, &world.snapshot()).unwrap();
        began = Instant::now();
        end();
        if !undoing.basket.is_empty() {
            world.run_all(undoing.basket, &|_| {});
        }
    } else {
        let kind = KINDS[what.parse::<usize>().unwrap()];
        let held = (kind == Kind::RotateOpen)
            .then(|| File::options().append(true).open(dir.join("chosen.log")).unwrap());
        let deleted = (kind == Kind::Truncate).then(|| {
            let file = File::open(dir.join("chosen")).unwrap();
            fs::remove_file(dir.join("chosen")).unwrap();
            file
        });
        let request = match &deleted {
            Some(file) => Request::FreeDeleted(vec![of_us(file, &dir.join("chosen"))]),
            None => request(world, kind, &dir),
        };
        let plan = world.plan(&request);
        assert!(!plan.steps.is_empty(), "{kind:?}: {:?}", plan.refused);
        began = Instant::now();
        end();
        let receipt = world.run(plan);
        if how == "whole" {
            eprintln!("outcome {:?}", receipt.standing());
        }
        drop((held, deleted));
    }
    eprintln!("took {}", began.elapsed().as_micros());
    // A timer of it may not end what comes next.
    std::process::exit(0);
}

fn of_us(file: &File, path: &Path) -> DeletedFile {
    let meta = file.metadata().unwrap();
    DeletedFile {
        key: DevIno {
            dev: DevId { major: rustix::fs::major(meta.dev()), minor: rustix::fs::minor(meta.dev()) },
            ino: Inode(meta.ino()),
        },
        id: file_id::of_fd(file).unwrap(),
        last_path: path.into(),
        apparent: Bytes(meta.len()),
        allocated: Bytes(meta.blocks() * 512),
        holders: vec![Holder {
            process: process(std::process::id()),
            name: "test".into(),
            fd: Some(file.as_raw_fd()),
            mapped: false,
        }],
    }
}

/// What was done, for the report.
#[derive(Default, Debug)]
struct Counts {
    runs: u64,
    kills: u64,
    cancels: u64,
    undos: u64,
    undos_killed: u64,
    /// Empty directories that a killed run had made.
    empties: u64,
}

struct Runs {
    place: tempfile::TempDir,
    chance: Chance,
    /// How long a whole run takes, in microseconds.
    took: BTreeMap<String, u64>,
    counts: BTreeMap<Kind, Counts>,
}

impl Runs {
    /// Runs a child. Whether it was killed.
    fn child(&mut self, what: &str, how: &str) -> bool {
        let most = self.took.get(what).copied().unwrap_or(20_000);
        let micros = self.chance.below(most * 11 / 10 + 50);
        let place = self.place.path().canonicalize().unwrap();
        let temp = place.join("temp");
        fs::create_dir_all(&temp).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["one_run", "--exact", "--nocapture"])
            .env(ORDERS, format!("{}|{what}|{how}|{micros}", place.display()))
            .env("TMPDIR", &temp)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let killed = output.status.signal() == Some(9);
        assert!(
            killed || output.status.success(),
            "{what} {how}: {said}{}",
            String::from_utf8_lossy(&output.stdout)
        );
        if how == "whole"
            && let Some(took) = said.lines().find_map(|line| line.strip_prefix("took ")?.parse().ok())
        {
            self.took.insert(what.to_owned(), took);
        }
        let _ = fs::remove_dir_all(&temp);
        killed
    }

    fn case(&mut self, kind: Kind) {
        let place = self.place.path().canonicalize().unwrap();
        let number = KINDS.iter().position(|one| *one == kind).unwrap().to_string();
        let case = Case::make(kind, &place.join("case"));
        let mut counts = self.counts.remove(&kind).unwrap_or_default();
        counts.runs += 1;
        let how = match (counts.runs, self.chance.below(3)) {
            (1, _) => "whole",
            (_, 0) => "cancel",
            (_, _) => "kill",
        };
        let killed = self.child(&number, how);
        counts.kills += u64::from(killed);
        let mut wrong = Vec::new();
        if !killed {
            counts.cancels += u64::from(how == "cancel");
            wrong = case.wrong(false, &mut counts.empties);
        }
        if wrong.is_empty() && (killed || self.chance.below(3) == 0) {
            if self.chance.below(3) == 0 {
                counts.undos_killed += u64::from(self.child("undo", "kill"));
            }
            self.child("undo", "whole");
            counts.undos += 1;
            wrong = case.wrong(true, &mut counts.empties);
        }
        assert!(
            wrong.is_empty(),
            "{kind:?}, {how}, killed: {killed}, {counts:?}: {} wrong: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(8)]
        );
        self.counts.insert(kind, counts);
        case.end();
        let _ = fs::remove_dir_all(place.join("journal"));
    }
}

fn at_random(enough: impl Fn(u64, Duration) -> bool) {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut runs = Runs {
        place: tempfile::tempdir().unwrap(),
        chance: Chance(seed),
        took: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    let (began, mut round) = (Instant::now(), 0);
    let mut ran = BTreeSet::new();
    while !enough(round, began.elapsed()) {
        for kind in KINDS {
            runs.case(kind);
            ran.insert(kind);
        }
        round += 1;
    }
    let sum = |of: fn(&Counts) -> u64| runs.counts.values().map(of).sum::<u64>();
    eprintln!(
        "T12, T38 (seed {seed}): {} runs, {} killed, {} cancelled, {} undone, {} of these undos killed: nothing lost, nothing \
         displaced; {} empty directories of killed runs",
        sum(|counts| counts.runs),
        sum(|counts| counts.kills),
        sum(|counts| counts.cancels),
        sum(|counts| counts.undos),
        sum(|counts| counts.undos_killed),
        sum(|counts| counts.empties)
    );
    for (kind, counts) in &runs.counts {
        eprintln!("{kind:?}: {counts:?}");
    }
    assert_eq!(ran.len(), KINDS.len());
}

#[test]
fn whatever_ends_a_run_nothing_is_lost_or_displaced() {
    if inside_own_namespaces("whatever_ends_a_run_nothing_is_lost_or_displaced") {
        at_random(|round, _| round == 4);
    }
}

#[test]
#[ignore = "takes half an hour; run with --ignored"]
fn random_runs_for_half_an_hour() {
    if inside_own_namespaces("random_runs_for_half_an_hour") {
        at_random(|_, elapsed| elapsed > Duration::from_mins(30));
    }
}
