//! Sensors: each looks at one side of the machine, changes nothing and cannot hang.
//!
//! The one exception to "changes nothing" is asked for: [`temp_dirs`] creates and removes one empty directory.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::{Environment, Settings};
use crate::domain::protect::ProtectSet;
use crate::domain::reading::Reading;
use crate::domain::snapshot::{Host, SnapshotPart};
use crate::sys::procfs::Proc;

mod answers;
pub mod build_mounts;
pub mod build_tools;
mod builders;
pub mod builds;
mod busy;
pub mod caches;
mod cgroups;
pub mod changed;
pub mod chosen;
pub mod crowded;
pub mod deleted;
pub mod engines;
pub mod filesystems;
pub mod growth;
pub mod host;
pub mod leftovers;
pub mod limits;
pub mod logs;
pub mod means;
pub mod mounts;
mod process_list;
mod process_verdict;
pub mod processes;
pub mod protect;
mod protected_paths;
pub mod repair;
pub mod rights;
mod sockets;
pub mod sweep;
pub mod temp_dirs;

pub use answers::{Looking, answers, answers_among};

/// What every probe is given.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The surroundings of the run.
    pub environment: &'a Environment,
    /// The settings.
    pub settings: &'a Settings,
    /// The moment the probes started, for ages.
    pub now: Timestamp,
    /// The last look, for what is told by comparing two; none where there is nobody to keep it.
    pub memory: Option<&'a growth::Memory>,
    /// What is read once for all that look at the same moment; none if each reads for itself.
    pub shared: Option<&'a Shared>,
}

/// What several probes of one snapshot look at. Each part is read by whoever asks for it first; the others wait for it.
#[derive(Debug, Default)]
pub struct Shared {
    /// The mounts of our own namespace.
    mounts: filesystems::OwnMounts,
    /// Those of all namespaces.
    namespaces: mounts::Once,
    /// The processes.
    processes: process_list::Once,
}

impl Context<'_> {
    /// How long one question may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.settings.probe.deadline_ms)
    }

    /// The kernel's view of processes.
    pub fn proc(&self) -> Proc {
        Proc::new(self.environment.rooted("/proc"))
    }
}

/// What a probe may take beyond the deadline of its questions, to put its answer together.
const GRACE: Duration = Duration::from_millis(500);

/// The probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Probe {
    Host,
    FileSystems,
    Mounts,
    Processes,
    TempDirs,
    Deleted,
    Engines,
    Growth,
    Builds,
    Limits,
    Logs,
    Caches,
    Protect,
}

/// How many probes there are: as many parts are delivered.
pub const COUNT: usize = Probe::ALL.len();

impl Probe {
    const ALL: [Self; 13] = [
        Self::Host,
        Self::FileSystems,
        Self::Mounts,
        Self::Processes,
        Self::TempDirs,
        Self::Deleted,
        Self::Engines,
        Self::Growth,
        Self::Builds,
        Self::Limits,
        Self::Logs,
        Self::Caches,
        Self::Protect,
    ];

    /// What tells of a change of files where it is, what uses it and what must never be touched.
    const FOR_FILES: [Self; 6] =
        [Self::Host, Self::FileSystems, Self::Mounts, Self::TempDirs, Self::Deleted, Self::Protect];

    /// How long its questions may take.
    fn deadline(self, context: &Context<'_>) -> Duration {
        match self {
            Self::Engines => engines::deadline(context),
            Self::Growth => growth::deadline(context),
            // Without it nothing can be changed. Servers are asked within the deadline; all else is work of our own, which
            // takes a while where there are tens of thousands of mounts and every processor is busy.
            Self::Protect => context.deadline().saturating_mul(5),
            Self::Host
            | Self::FileSystems
            | Self::Mounts
            | Self::Processes
            | Self::TempDirs
            | Self::Deleted
            | Self::Builds
            | Self::Limits
            | Self::Logs
            | Self::Caches => context.deadline(),
        }
    }

    fn look(self, context: &Context<'_>) -> SnapshotPart {
        match self {
            Self::Host => SnapshotPart::Host(host::look(context)),
            Self::FileSystems => SnapshotPart::FileSystems(filesystems::look(context)),
            Self::Mounts => SnapshotPart::Mounts(mounts::look(context)),
            Self::Processes => SnapshotPart::Processes(processes::look(context)),
            Self::TempDirs => SnapshotPart::TempDirs(temp_dirs::look(context)),
            Self::Deleted => SnapshotPart::Deleted(deleted::look(context)),
            Self::Engines => SnapshotPart::Engines(engines::look(context)),
            Self::Growth => SnapshotPart::Growth(growth::look(context)),
            Self::Builds => SnapshotPart::Builds(builds::look(context)),
            Self::Limits => SnapshotPart::Limits(limits::look(context)),
            Self::Logs => SnapshotPart::Logs(logs::look(context)),
            Self::Caches => SnapshotPart::Caches(caches::look(context)),
            Self::Protect => SnapshotPart::Protect(protect::look(context)),
        }
    }

    /// The part of a probe that did not answer.
    fn without_answer(self, context: &Context<'_>, silence: Silence) -> SnapshotPart {
        let after = self.deadline(context);
        match self {
            Self::Host => SnapshotPart::Host(Host::default()),
            Self::FileSystems => SnapshotPart::FileSystems(silence.reading(after)),
            Self::Mounts => SnapshotPart::Mounts(silence.reading(after)),
            Self::Processes => SnapshotPart::Processes(silence.reading(after)),
            Self::TempDirs => SnapshotPart::TempDirs(temp_dirs::without_answer(context, silence)),
            Self::Deleted => SnapshotPart::Deleted(silence.reading(after)),
            Self::Engines => SnapshotPart::Engines(silence.reading(after)),
            Self::Growth => SnapshotPart::Growth(silence.reading(after)),
            Self::Builds => SnapshotPart::Builds(silence.reading(after)),
            Self::Limits => SnapshotPart::Limits(silence.reading(after)),
            Self::Logs => SnapshotPart::Logs(silence.reading(after)),
            Self::Caches => SnapshotPart::Caches(silence.reading(after)),
            // Nothing is run with an empty set (see ProtectSet::is_empty).
            Self::Protect => SnapshotPart::Protect(ProtectSet::default()),
        }
    }
}

/// Why a probe did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    TimedOut,
    Failed,
}

impl Silence {
    fn reading<T>(self, after: Duration) -> Reading<T> {
        match self {
            Self::TimedOut => Reading::TimedOut { after: after.into() },
            Self::Failed => Reading::Unavailable {
                why: "the probe failed, which is a fault in unwedge: please report it".to_owned(),
            },
        }
    }
}

/// Runs every probe, each in a thread of its own, and hands over each part as soon as it is there.
/// Returns when all have answered or run out of time. `deliver` is called in the calling thread.
pub fn run_all(context: &Context<'_>, deliver: &(dyn Fn(SnapshotPart) + Sync)) {
    run(context, &Probe::ALL, deliver);
}

/// The same with those only that a change of files needs.
pub fn run_for_files(context: &Context<'_>, deliver: &(dyn Fn(SnapshotPart) + Sync)) {
    run(context, &Probe::FOR_FILES, deliver);
}

fn run(context: &Context<'_>, probes: &[Probe], deliver: &(dyn Fn(SnapshotPart) + Sync)) {
    let began = Instant::now();
    // Threads that may outlive this call own what they look at.
    let memory = context.memory.cloned();
    let parts = Shared::default();
    let shared =
        Arc::new((context.environment.clone(), context.settings.clone(), context.now, memory, parts));
    let (sender, receiver) = mpsc::channel();
    let mut pending: BTreeSet<Probe> = BTreeSet::new();
    let mut alone = Vec::new();
    for &probe in probes {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        let spawned = thread::Builder::new().name(format!("{probe:?}")).spawn(move || {
            let (environment, settings, now, memory, parts) = &*shared;
            let part = probe.look(&Context {
                environment,
                settings,
                now: *now,
                memory: memory.as_ref(),
                shared: Some(parts),
            });
            // Nobody listens any more where the deadline has passed.
            let _ = sender.send((probe, part));
        });
        match spawned {
            Ok(_) => {
                pending.insert(probe);
            }
            Err(_) => alone.push(probe),
        }
    }
    drop(sender);
    // At the limit of processes nobody can be hired: then this thread looks. It cannot be given up, but what could hang
    // is asked in a child in any case.
    for probe in alone {
        let (environment, settings, now, memory, parts) = &*shared;
        let own = Context { environment, settings, now: *now, memory: memory.as_ref(), shared: Some(parts) };
        let part = catch_unwind(AssertUnwindSafe(|| probe.look(&own)));
        deliver(part.unwrap_or_else(|_| probe.without_answer(context, Silence::Failed)));
    }
    while let Some(until) = pending.iter().map(|probe| began + probe.deadline(context) + GRACE).min() {
        let silence = match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((probe, part)) => {
                pending.remove(&probe);
                deliver(part);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => Silence::TimedOut,
            // Every thread has ended: those that are left panicked.
            Err(RecvTimeoutError::Disconnected) => Silence::Failed,
        };
        let now = Instant::now();
        let given_up =
            |probe: &Probe| silence == Silence::Failed || now >= began + probe.deadline(context) + GRACE;
        for probe in pending.extract_if(.., given_up) {
            deliver(probe.without_answer(context, silence));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::config::TerminalTraits;

    /// Surroundings of a test.
    pub(crate) struct Surroundings {
        pub(crate) environment: Environment,
        pub(crate) settings: Settings,
        pub(crate) now: Timestamp,
    }

    impl Surroundings {
        /// This machine.
        pub(crate) fn real() -> Self {
            Self::fixture(Path::new("/"))
        }

        /// A directory that stands for `/`.
        pub(crate) fn fixture(root: &Path) -> Self {
            let home = root.join("root");
            let environment = Environment {
                root: root.to_path_buf(),
                uid: rustix::process::geteuid().as_raw(),
                person: rustix::process::geteuid().as_raw(),
                state_home: home.join(".local/state"),
                config_home: home.join(".config"),
                run_dir: home.join(".run"),
                home,
                self_exe: std::env::current_exe().unwrap(),
                config_files: Vec::new(),
                config: None,
                engine_variables: std::collections::BTreeMap::new(),
                terminal: TerminalTraits { colour: false, unicode: true },
            };
            // Long enough for a machine that is busy: no test here waits for it.
            let mut settings = Settings::default();
            settings.probe.deadline_ms = 20_000;
            Self { environment, settings, now: Timestamp::now() }
        }

        pub(crate) fn context(&self) -> Context<'_> {
            Context {
                environment: &self.environment,
                settings: &self.settings,
                now: self.now,
                memory: None,
                shared: None,
            }
        }
    }

    #[test]
    fn every_part_is_delivered_once() {
        let surroundings = Surroundings::real();
        let parts = Mutex::new(Vec::new());
        run_all(&surroundings.context(), &|part| {
            let (name, known) = match part {
                SnapshotPart::Host(host) => ("host", !host.name.is_empty()),
                SnapshotPart::FileSystems(reading) => ("file systems", reading.value().is_some()),
                SnapshotPart::Mounts(reading) => ("mounts", reading.value().is_some()),
                SnapshotPart::Processes(reading) => ("processes", reading.value().is_some()),
                SnapshotPart::TempDirs(dirs) => ("temp dirs", dirs.len() == 2),
                SnapshotPart::Deleted(reading) => ("deleted", reading.value().is_some()),
                SnapshotPart::Engines(reading) => ("engines", reading.value().is_some()),
                SnapshotPart::Growth(reading) => ("growth", reading.value().is_some()),
                SnapshotPart::Builds(reading) => ("builds", reading.value().is_some()),
                SnapshotPart::Limits(reading) => ("limits", reading.value().is_some()),
                SnapshotPart::Logs(reading) => ("logs", reading.value().is_some()),
                SnapshotPart::Caches(reading) => ("caches", reading.value().is_some()),
                SnapshotPart::Scanned(_) => ("scanned", false),
                SnapshotPart::Protect(set) => ("protect", !set.is_empty()),
                SnapshotPart::Hidden(_) | SnapshotPart::Ledger(_) => ("no probe", false),
            };
            assert!(known, "{name}");
            parts.lock().unwrap().push(name);
        });
        let mut parts = parts.into_inner().unwrap();
        parts.sort_unstable();
        assert_eq!(
            parts,
            [
                "builds",
                "caches",
                "deleted",
                "engines",
                "file systems",
                "growth",
                "host",
                "limits",
                "logs",
                "mounts",
                "processes",
                "protect",
                "temp dirs"
            ]
        );
    }

    #[test]
    fn a_probe_without_an_answer_says_so() {
        let surroundings = Surroundings::real();
        let context = surroundings.context();
        for probe in Probe::ALL {
            match probe.without_answer(&context, Silence::TimedOut) {
                SnapshotPart::FileSystems(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Mounts(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Processes(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Deleted(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Engines(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Growth(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Builds(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Limits(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Logs(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::TempDirs(dirs) => {
                    assert!(dirs.iter().all(|dir| matches!(dir.create_test, Reading::TimedOut { .. })));
                }
                SnapshotPart::Caches(reading) => assert!(matches!(reading, Reading::TimedOut { .. })),
                SnapshotPart::Scanned(_) => panic!("no probe scans"),
                SnapshotPart::Protect(set) => assert!(set.is_empty()),
                SnapshotPart::Host(host) => assert!(host.name.is_empty()),
                SnapshotPart::Hidden(_) | SnapshotPart::Ledger(_) => unreachable!("no probe makes these"),
            }
        }
    }
}
