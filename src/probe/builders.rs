//! What runs of BuildKit: daemons, their clients, and steps of builds, each with the daemon whose work it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::build_tools::{self, Life, Role};
use super::{cgroups, sockets};
use crate::domain::identity::{NamespaceId, Pid};
use crate::domain::snapshot::Evidence;
use crate::domain::text::sanitise;
use crate::sys::procfs::{Proc, Stat};

/// A daemon that mounts what it builds.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    /// Its process.
    pub(super) pid: Pid,
    /// Whether it does nothing but build, or is the engine of a machine.
    pub(super) role: Role,
    /// Its mount namespace; none where that cannot be read.
    namespace: Option<NamespaceId>,
    /// Its root directory; none where that cannot be read.
    root: Option<PathBuf>,
    /// Whether it works for somebody now; none where nobody can say.
    pub(super) works: Option<bool>,
    /// That it runs.
    pub(super) fact: Evidence,
}

impl Daemon {
    /// Whether it could have made a mount: it is in one of the namespaces that show it, and its root directory leads there.
    pub(super) fn could_own(&self, mount_point: &Path, shown_in: impl Fn(NamespaceId) -> bool) -> bool {
        self.namespace.is_none_or(shown_in)
            && self.root.as_ref().is_none_or(|root| mount_point.starts_with(root))
    }
}

/// Whose work a step of a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This daemon's.
    Daemon(Pid),
    /// Nobody's: its daemon ended, and init has adopted it.
    Nobody,
    /// Nobody can say: something else stands between it and its daemon.
    Unknown,
}

/// A process of a step of a build.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// Its process.
    pub(super) pid: Pid,
    /// Whose work it is.
    pub(super) owner: Owner,
    /// Its cgroup.
    cgroup: Vec<u8>,
    /// That it runs.
    pub(super) fact: Evidence,
}

impl Work {
    /// Whether it is of the step with this id, which names its cgroup.
    pub(super) fn is_in(&self, id: &[u8]) -> bool {
        !id.is_empty() && self.cgroup.windows(id.len()).any(|part| part == id)
    }
}

/// What runs of `BuildKit`.
#[derive(Clone, Debug, Default)]
pub(super) struct Builders {
    /// Daemons.
    pub(super) daemons: Vec<Daemon>,
    /// Those that ask a daemon to build.
    pub(super) clients: Vec<Evidence>,
    /// Steps of builds.
    pub(super) steps: Vec<Work>,
}

impl Builders {
    /// Takes in a process.
    pub(super) fn see(&mut self, proc: &Proc, stat: &Stat) {
        let pid = stat.pid;
        let arguments = proc.arguments(pid).unwrap_or_default();
        let exe = proc.exe_path(pid).ok();
        let name = sanitise(stat.comm.as_bytes()).into_owned();
        let command = format!("/proc/{pid}/cmdline");
        match build_tools::role(exe.as_deref(), &arguments) {
            Some(Role::Client) => self.clients.push(Evidence::new(
                format!("a build may be running: pid {pid} ({name}) is a build client"),
                command,
            )),
            Some(Role::Step) => {
                let fact = format!("a build step is running: pid {pid} ({name})");
                self.step(proc, stat, Evidence::new(fact, command));
            }
            Some(role @ (Role::BuildDaemon | Role::Engine)) => {
                let root = proc.link(pid, "root").ok().map(|root| PathBuf::from(OsStr::from_bytes(&root)));
                self.daemons.push(Daemon {
                    pid,
                    role,
                    namespace: proc.mount_namespace(pid).ok(),
                    root,
                    works: works(proc, pid),
                    fact: Evidence::new(format!("pid {pid} ({name}) is running"), command),
                });
            }
            None => {
                if cgroups::is_build_step(&proc.read(pid, "cgroup").unwrap_or_default()) {
                    let fact = format!("a build step is running: pid {pid} ({name}) is in a BuildKit cgroup");
                    self.step(proc, stat, Evidence::new(fact, format!("/proc/{pid}/cgroup")));
                }
            }
        }
    }

    fn step(&mut self, proc: &Proc, stat: &Stat, fact: Evidence) {
        let cgroup = proc.read(stat.pid, "cgroup").unwrap_or_default();
        self.steps.push(Work { pid: stat.pid, owner: owner(proc, stat), cgroup, fact });
    }
}

/// Whether a daemon works for somebody: `BuildKit` builds only while a client is connected, and ends the build where that goes.
fn works(proc: &Proc, pid: Pid) -> Option<bool> {
    // One without a socket that listens is none that is known here.
    sockets::look(proc, pid).filter(|sockets| sockets.listens).map(|sockets| sockets.serves)
}

/// Whose work a step is, by the processes above it.
pub(super) fn owner(proc: &Proc, step: &Stat) -> Owner {
    /// A bound for a /proc that is read over time and may go in circles.
    const LEVELS: u32 = 64;
    let mut above = step.parent;
    for _ in 0..LEVELS {
        if above <= Pid(1) {
            return if above == Pid(1) { Owner::Nobody } else { Owner::Unknown };
        }
        let Ok(stat) = proc.stat(above) else { return Owner::Unknown };
        let arguments = proc.arguments(above).unwrap_or_default();
        let exe = proc.exe_path(above).ok();
        if matches!(build_tools::role(exe.as_deref(), &arguments), Some(Role::BuildDaemon | Role::Engine)) {
            return Owner::Daemon(above);
        }
        let tool = build_tools::recognise(exe.as_deref(), &arguments);
        // containerd's shim has init as its parent from the start; its daemon is elsewhere.
        if tool.is_some_and(|tool| tool.life == Life::Supervisor) {
            return Owner::Unknown;
        }
        above = stat.parent;
    }
    Owner::Unknown
}
