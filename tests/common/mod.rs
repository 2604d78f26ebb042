//! What the integration tests share: a run of a plan on this machine with everything it writes in a
//! temporary directory, and re-execution of one test in a namespace of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]

mod again;
pub mod processes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use unwedge::actions::{self, Request};
use unwedge::config::{Environment, Settings, TerminalTraits};
use unwedge::domain::basket::Basket;
use unwedge::domain::consent::{Approved, ApprovedBasket, Consent, ConsentRequest};
use unwedge::domain::identity::{Pid, ProcId};
use unwedge::domain::plan::Plan;
use unwedge::domain::protect::{ProtectSet, Protected, Reach};
use unwedge::domain::reading::Reading;
use unwedge::domain::receipt::{BasketReceipt, Outcome, Receipt};
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{ChosenFile, Snapshot};
use unwedge::domain::sweep::{SweepRule, SweepTarget};
use unwedge::domain::text::HostPath;
use unwedge::exec::{self, Progress};
use unwedge::journal::Journal;
use unwedge::sys::{beneath, file_id};

#[allow(unused_imports, reason = "not every test file runs tests again")]
pub use again::*;

/// A run's surroundings. The journal and everything else are below `dir`, which goes away with it.
pub struct World {
    temp: tempfile::TempDir,
    /// The temporary directory, without symbolic links in it.
    pub dir: PathBuf,
    pub environment: Environment,
    pub settings: Settings,
    pub protect: ProtectSet,
    pub cancel: AtomicBool,
    pub skip: exec::Skip,
}

impl World {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// On a file system in memory, where an attacker is not slowed down by a disk.
    pub fn in_memory() -> Self {
        Self::at(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    fn at(temp: tempfile::TempDir) -> Self {
        let dir = temp.path().canonicalize().unwrap();
        let environment = Environment {
            root: "/".into(),
            uid: rustix::process::geteuid().as_raw(),
            person: rustix::process::geteuid().as_raw(),
            home: dir.join("home"),
            state_home: dir.join("state"),
            config_home: dir.join("config"),
            run_dir: dir.join("run"),
            self_exe: std::env::current_exe().unwrap(),
            config_files: Vec::new(),
            config: None,
            engine_variables: std::collections::BTreeMap::new(),
            terminal: TerminalTraits { colour: false, unicode: true },
        };
        let mut settings = Settings::default();
        settings.journal.dir = format!("{}/journal", dir.display());
        let mut world = Self {
            temp,
            dir,
            environment,
            settings,
            protect: ProtectSet::default(),
            cancel: false.into(),
            skip: exec::Skip::default(),
        };
        // A plan never runs with nothing protected.
        world.protect(Path::new("/etc"));
        world
    }

    /// Protects a directory with everything in it, and what it is in.
    pub fn protect(&mut self, path: &Path) {
        let (key, above) = identity(path);
        let shown = HostPath::from(path);
        let what =
            Protected { path: shown.clone(), reach: Reach::Everything, why: "the test says so".to_owned() };
        self.protect.protect(key.key, what);
        for dir in above {
            self.protect.protect_ancestor(dir, &shown);
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::pending(jiff::Timestamp::now());
        snapshot.protect = self.protect.clone();
        snapshot
    }

    pub fn plan(&self, request: &Request) -> Plan {
        actions::plan(request, &self.snapshot(), &self.settings)
    }

    /// A directory that is to be swept, looked at.
    pub fn to_sweep(&self, path: &Path) -> SweepTarget {
        self.to_sweep_by(path, None)
    }

    /// The same, by a rule of its own.
    pub fn to_sweep_by(&self, path: &Path, rule: Option<SweepRule>) -> SweepTarget {
        let (id, _) = identity(path);
        let mut target = SweepTarget { path: path.into(), id, rule, list: Reading::Pending };
        let context = unwedge::probe::Context {
            environment: &self.environment,
            settings: &self.settings,
            now: jiff::Timestamp::now(),
            memory: None,
            shared: None,
        };
        target.list = unwedge::probe::sweep::look(&context, &target, &self.protect);
        target
    }

    pub fn run(&self, plan: Plan) -> Receipt {
        self.run_with(plan, &|_| {})
    }

    pub fn run_with(&self, plan: Plan, progress: &dyn Fn(Progress)) -> Receipt {
        self.within(progress, |context| exec::run(agree(plan), context))
    }

    /// Puts plans together as they are and runs them with whatever consent they ask for.
    pub fn run_all(&self, basket: Basket, progress: &dyn Fn(Progress)) -> BasketReceipt {
        self.within(progress, |context| exec::run_all(agree_to_all(basket), context))
    }

    fn within<T>(&self, progress: &dyn Fn(Progress), run: impl FnOnce(&exec::Context<'_>) -> T) -> T {
        run(&exec::Context {
            environment: &self.environment,
            settings: &self.settings,
            protect: &self.protect,
            journal: &Journal::open(&self.environment, &self.settings),
            bounds: &exec::Bounds::new(false, None),
            cancel: &self.cancel,
            skip: &self.skip,
            first: 0,
            progress,
        })
    }

    /// Plans and runs the removal of these.
    pub fn delete(&self, paths: &[&Path]) -> Receipt {
        self.run(self.plan(&Request::Delete(paths.iter().map(|path| choose(path)).collect())))
    }
}

impl Drop for World {
    /// What a test has mounted below its own directory goes first, or the directory could not.
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(&self.dir)) {
            let _ = Command::new("umount").args(["--lazy", "--", point]).status();
        }
    }
}

/// Gives whatever consent the plan asks for.
pub fn agree(plan: Plan) -> Approved {
    let consent = match plan.consent_request() {
        ConsentRequest::Key => Consent::Key,
        ConsentRequest::Word(word) => Consent::Typed(word.to_owned()),
        ConsentRequest::Name(name) => Consent::Typed(name),
    };
    plan.approve(&consent).unwrap()
}

/// Gives whatever consent the basket asks for.
pub fn agree_to_all(basket: Basket) -> ApprovedBasket {
    let consent = match basket.consent_request() {
        ConsentRequest::Key => Consent::Key,
        ConsentRequest::Word(word) => Consent::Typed(word.to_owned()),
        ConsentRequest::Name(name) => Consent::Typed(name),
    };
    basket.approve(&consent).unwrap()
}

fn identity(path: &Path) -> (unwedge::domain::identity::FileId, Vec<unwedge::domain::identity::DevIno>) {
    let located = beneath::open_parent(path).unwrap();
    let id = file_id::of_entry(&located.parent, &located.name).unwrap();
    (id, beneath::with_ancestors(&located.parent).unwrap())
}

/// Freezes a file as the chooser of the console does.
pub fn choose(path: &Path) -> ChosenFile {
    let (id, above) = identity(path);
    ChosenFile {
        path: HostPath::from(path),
        id,
        apparent: Bytes(id.size),
        allocated: Bytes(id.size),
        entries: 1,
        above,
        held: Vec::new(),
        open_by: Vec::new(),
        layer: unwedge::domain::snapshot::Layer::Own,
    }
}

/// The identity of a living process.
pub fn process(pid: u32) -> ProcId {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = &text[text.rfind(')').unwrap() + 2..];
    let start = fields.split(' ').nth(19).unwrap().parse().unwrap();
    ProcId { pid: Pid(i32::try_from(pid).unwrap()), start }
}

/// Why the only step of a run was not done.
#[track_caller]
pub fn why(receipt: &Receipt) -> String {
    match &receipt.steps[0].outcome {
        Outcome::Skipped { why } | Outcome::Failed { why } => why.clone(),
        other => panic!("it was done: {other:?}"),
    }
}

/// Names in a directory that a run made and did not clean up.
pub fn leftovers(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".unwedge-"))
        .collect()
}

/// Runs a program and insists that it works.
#[track_caller]
pub fn sh(script: &str) {
    let status = Command::new("/bin/sh").args(["-euc", script]).status().unwrap();
    assert!(status.success(), "{script}: {status}");
}
