//! Whether a build process is left over (SAFETY.md T18). Conservative: an orphan needs every sign at once, and one
//! that is missing or not known makes it something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::build_tools::{Life, Tool};
use super::cgroups::Keeper;
use super::sockets::Sockets;
use crate::domain::builds::STEP;
use crate::domain::identity::Pid;
use crate::domain::snapshot::{Evidence, Verdict};
use crate::domain::text::sanitise;
use crate::sys::procfs::{Stat, how_to_look};

/// Names of programs that adopt the children of others: inits and the user's service manager (`PR_SET_CHILD_SUBREAPER`,
/// `prctl(2)`; the kernel does not show who is one).
const REAPERS: &[&[u8]] = &[
    b"catatonit",
    b"docker-init",
    b"dumb-init",
    b"init",
    b"runit",
    b"s6-svscan",
    b"systemd",
    b"tini",
    b"tini-static",
];

/// The daemon that builds and does nothing else. Unlike an engine it holds no containers: without clients nobody needs it.
const BUILDER: &str = "buildkitd";

/// What is known of a process beyond its stat.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The tool it is.
    pub(super) tool: Tool,
    /// Who looks after its cgroup, as against ours.
    pub(super) keeper: Keeper,
    /// What its sockets say; none where they could not be read.
    pub(super) sockets: Option<Sockets>,
}

impl Known {
    fn listens(&self) -> Option<bool> {
        // Whom a step serves is a step of the same build.
        if self.tool.name == STEP { Some(false) } else { self.sockets.map(|sockets| sockets.listens) }
    }
}

/// Everything the verdicts are made from.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    /// All processes that have not ended.
    pub(super) stats: BTreeMap<Pid, Stat>,
    /// The build processes among them.
    pub(super) known: BTreeMap<Pid, Known>,
    /// Processes that are init in a pid namespace of their own.
    pub(super) inner_inits: BTreeSet<Pid>,
    /// Whether systemd runs: then what it started is in the cgroup of a unit.
    pub(super) systemd: bool,
    /// The children of each process, found when they are first asked for.
    children: OnceLock<BTreeMap<Pid, Vec<Pid>>>,
}

/// Shells: what runs a line of a Makefile or a script of a package between a build tool and what it is for.
const SHELLS: &[&[u8]] = &[b"ash", b"bash", b"busybox", b"dash", b"ksh", b"sh", b"zsh"];

impl World {
    /// The verdict on a build process, with its evidence.
    pub(super) fn judge(&self, pid: Pid) -> (Verdict, Vec<Evidence>) {
        self.judge_at_depth(pid, 0)
    }

    fn judge_at_depth(&self, pid: Pid, depth: u32) -> (Verdict, Vec<Evidence>) {
        let (Some(stat), Some(known)) = (self.stats.get(&pid), self.known.get(&pid)) else {
            return (Verdict::Unknown, Vec::new());
        };
        let by = if known.tool.name == STEP { "its cgroup" } else { "the name of its program" };
        let mut evidence = vec![Evidence::new(
            format!("it is {}, by {by}", known.tool.name),
            format!("/proc/{pid}/{}", known.tool.seen_in),
        )];
        let stat_file = format!("/proc/{pid}/stat");
        let cgroup_file = format!("/proc/{pid}/cgroup");
        if let Keeper::Service(name) = &known.keeper {
            evidence.push(Evidence::new(format!("it belongs to {}", sanitise(name)), cgroup_file));
            return (Verdict::Service, evidence);
        }
        if stat.tty != 0 {
            evidence.push(Evidence::new("it has a controlling terminal", stat_file));
            return (Verdict::InUse, evidence);
        }
        if known.tool.life == Life::Supervisor {
            return self.judge_supervisor(stat, evidence);
        }
        if let Some(leader) = self.outside_leader(stat, depth) {
            evidence.push(Evidence::new(
                format!(
                    "the leader of its session, pid {} ({}), is alive",
                    leader.pid,
                    sanitise(leader.comm.as_bytes())
                ),
                stat_file,
            ));
            return (Verdict::InUse, evidence);
        }
        let session = if stat.session == Pid(0) {
            "it has no terminal and the leader of its session is outside our pid namespace".to_owned()
        } else if stat.session == stat.pid {
            "it has no terminal and leads its own session".to_owned()
        } else {
            format!("it has no terminal and the leader of its session, pid {}, has ended", stat.session)
        };
        evidence.push(Evidence::new(session, stat_file.as_str()));
        match self.parent_of(stat, depth) {
            Parent::Ordinary(parent) => {
                evidence.push(Evidence::new(
                    format!(
                        "its parent, pid {} ({}), is alive",
                        parent.pid,
                        sanitise(parent.comm.as_bytes())
                    ),
                    stat_file,
                ));
                (Verdict::InUse, evidence)
            }
            Parent::NotKnown => {
                evidence.push(Evidence::new("its parent cannot be seen from here", stat_file));
                (Verdict::Unknown, evidence)
            }
            // Nobody can tell from here whether that leader is alive.
            Parent::LeftOver(_) | Parent::Reaper(_) if stat.session == Pid(0) => (Verdict::Unknown, evidence),
            Parent::LeftOver(parent) => {
                let fact = format!("its parent, pid {}, is itself left over", parent.pid);
                evidence.push(Evidence::new(fact, stat_file));
                self.judge_abandoned(pid, known, evidence)
            }
            Parent::Reaper(parent) => {
                let fact = format!(
                    "its parent is pid {} ({}), which adopts processes whose parent has ended",
                    parent.pid,
                    sanitise(parent.comm.as_bytes())
                );
                evidence.push(Evidence::new(fact, stat_file));
                self.judge_abandoned(pid, known, evidence)
            }
        }
    }

    /// The verdict on a process that nobody who started it is left of.
    fn judge_abandoned(
        &self,
        pid: Pid,
        known: &Known,
        mut evidence: Vec<Evidence>,
    ) -> (Verdict, Vec<Evidence>) {
        let fd = format!("/proc/{pid}/fd");
        let cgroup = format!("/proc/{pid}/cgroup");
        if known.tool.name == BUILDER {
            return self.judge_builder(pid, known, evidence);
        }
        if known.tool.life == Life::Daemon {
            let fact = format!(
                "{} runs in the background on purpose: init is its parent from the start",
                known.tool.name
            );
            evidence.push(Evidence::new(fact, "its documentation"));
            return (Verdict::Service, evidence);
        }
        if let Some(container) = in_container(pid, known) {
            evidence.push(container);
            return (Verdict::Unknown, evidence);
        }
        match known.listens() {
            None => {
                let fact = format!("whether it listens on a socket could not be read: {}", how_to_look());
                evidence.push(Evidence::new(fact, fd));
                (Verdict::Unknown, evidence)
            }
            Some(true) => {
                evidence.push(Evidence::new("it listens on a socket: somebody may need it", fd));
                (Verdict::Unknown, evidence)
            }
            Some(false) => {
                if let Some(alive) = self.below_at_work(pid) {
                    evidence.push(alive);
                    return (Verdict::Unknown, evidence);
                }
                evidence.push(Evidence::new("it belongs to no service and no container", cgroup));
                evidence.push(Evidence::new("neither it nor a process below it listens on a socket", fd));
                (Verdict::Orphan, evidence)
            }
        }
    }

    /// The verdict on a builder that nobody who started it is left of. It listens by its nature, and works only for who is
    /// connected.
    fn judge_builder(
        &self,
        pid: Pid,
        known: &Known,
        mut evidence: Vec<Evidence>,
    ) -> (Verdict, Vec<Evidence>) {
        let fd = format!("/proc/{pid}/fd");
        let cgroup = format!("/proc/{pid}/cgroup");
        if let Some(container) = in_container(pid, known) {
            evidence.push(container);
            return (Verdict::Unknown, evidence);
        }
        let Some(sockets) = known.sockets else {
            let fact = format!("whether a client is connected could not be read: {}", how_to_look());
            evidence.push(Evidence::new(fact, fd));
            return (Verdict::Unknown, evidence);
        };
        if sockets.serves {
            evidence.push(Evidence::new("a client is connected to it", fd));
            return (Verdict::InUse, evidence);
        }
        if let Some(child) = self.children(pid).iter().find_map(|child| self.stats.get(child)) {
            let name = sanitise(child.comm.as_bytes());
            let fact = format!("a process below it, pid {} ({name}), is alive", child.pid);
            evidence.push(Evidence::new(fact, format!("/proc/{}/stat", child.pid)));
            return (Verdict::InUse, evidence);
        }
        evidence.push(Evidence::new("no client is connected to it and no process is below it", fd));
        let leads = self.stats.get(&pid).is_some_and(|stat| stat.session == pid);
        if leads && !self.systemd {
            let fact = "an init script may have started it: systemd, which puts what it starts into a cgroup, does not run";
            evidence.push(Evidence::new(fact, "/run/systemd/system"));
            return (Verdict::Unknown, evidence);
        }
        evidence.push(Evidence::new("it belongs to no unit and no container", cgroup));
        (Verdict::Orphan, evidence)
    }

    /// What speaks for a process below this one being more than a part of a build: it is no build tool, or it listens. A
    /// server that was started by `npm start` or `make run` is such a one.
    fn below_at_work(&self, pid: Pid) -> Option<Evidence> {
        let mut seen = BTreeSet::from([pid]);
        let mut next: Vec<Pid> = self.children(pid).to_vec();
        while let Some(child) = next.pop() {
            if !seen.insert(child) {
                continue;
            }
            let Some(stat) = self.stats.get(&child) else { continue };
            let name = sanitise(stat.comm.as_bytes());
            let below = self.children(child);
            match self.known.get(&child).map(Known::listens) {
                Some(Some(false)) => {}
                Some(Some(true)) => {
                    let fact = format!(
                        "a process below it, pid {child} ({name}), listens on a socket: somebody may need it"
                    );
                    return Some(Evidence::new(fact, format!("/proc/{child}/fd")));
                }
                Some(None) => {
                    let fact = format!(
                        "whether a process below it, pid {child} ({name}), listens on a socket could not be read: {}",
                        how_to_look()
                    );
                    return Some(Evidence::new(fact, format!("/proc/{child}/fd")));
                }
                None if SHELLS.contains(&stat.comm.as_bytes()) && !below.is_empty() => {}
                None => {
                    let fact = format!(
                        "a process below it, pid {child} ({name}), is no build tool: it may be what all this was started for"
                    );
                    return Some(Evidence::new(fact, format!("/proc/{child}/stat")));
                }
            }
            next.extend(below);
        }
        None
    }

    fn children(&self, pid: Pid) -> &[Pid] {
        let index = self.children.get_or_init(|| {
            let mut index: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
            for stat in self.stats.values() {
                index.entry(stat.parent).or_default().push(stat.pid);
            }
            index
        });
        index.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// A supervisor's parent is init by design, which proves nothing; what it holds does.
    fn judge_supervisor(&self, stat: &Stat, mut evidence: Vec<Evidence>) -> (Verdict, Vec<Evidence>) {
        let children: Vec<&Stat> = self.stats.values().filter(|child| child.parent == stat.pid).collect();
        if let Some(child) = children.first() {
            evidence.push(Evidence::new(
                format!(
                    "it holds a container whose process, pid {} ({}), is alive",
                    child.pid,
                    sanitise(child.comm.as_bytes())
                ),
                format!("/proc/{}/stat", child.pid),
            ));
            return (Verdict::InUse, evidence);
        }
        evidence.push(Evidence::new(
            "it has no live child; that its parent is init is normal. Compare with docker ps -a or podman ps -a",
            format!("/proc/{}/stat", stat.pid),
        ));
        (Verdict::Unknown, evidence)
    }

    /// The leader of its session, if that is another process, is alive, and is not itself left over.
    fn outside_leader(&self, stat: &Stat, depth: u32) -> Option<&Stat> {
        if stat.session == stat.pid {
            return None;
        }
        // A pid is not given out again while a session has its number, so that this is the leader.
        let leader = self.stats.get(&stat.session).filter(|leader| leader.session == leader.pid)?;
        (!self.is_left_over(leader.pid, depth)).then_some(leader)
    }

    fn is_left_over(&self, pid: Pid, depth: u32) -> bool {
        // The bound ends circles that a /proc read over time can show.
        depth < 16
            && self.known.contains_key(&pid)
            && self.judge_at_depth(pid, depth + 1).0 == Verdict::Orphan
    }

    fn parent_of(&self, stat: &Stat, depth: u32) -> Parent<'_> {
        let Some(parent) = self.stats.get(&stat.parent) else { return Parent::NotKnown };
        let is_reaper = parent.pid == Pid(1)
            || self.inner_inits.contains(&parent.pid)
            || REAPERS.contains(&parent.comm.as_bytes());
        if is_reaper {
            Parent::Reaper(parent)
        } else if self.is_left_over(parent.pid, depth) {
            Parent::LeftOver(parent)
        } else {
            Parent::Ordinary(parent)
        }
    }
}

/// What a parent says about a process.
enum Parent<'a> {
    /// It adopts what others leave behind.
    Reaper(&'a Stat),
    /// It is a build process that is itself left over.
    LeftOver(&'a Stat),
    /// It is alive and will wait for its child.
    Ordinary(&'a Stat),
    /// It cannot be seen: it ended just now, or lives outside our pid namespace.
    NotKnown,
}

/// That a process runs in a container, which its engine looks after.
fn in_container(pid: Pid, known: &Known) -> Option<Evidence> {
    let Keeper::Container(name) = &known.keeper else { return None };
    let fact = format!("it runs in a container ({}): ask the engine that runs it", sanitise(name));
    Some(Evidence::new(fact, format!("/proc/{pid}/cgroup")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Builder(World);

    impl Builder {
        fn new() -> Self {
            Self(World::default()).process(1, 0, 1, "init")
        }

        fn process(mut self, pid: i32, parent: i32, session: i32, comm: &str) -> Self {
            let stat = Stat {
                pid: Pid(pid),
                comm: comm.into(),
                state: b'S',
                parent: Pid(parent),
                group: Pid(0),
                session: Pid(session),
                tty: 0,
                flags: 0,
                cpu_ticks: 0,
                threads: 1,
                start: 1,
            };
            self.0.stats.insert(Pid(pid), stat);
            self
        }

        fn tool(mut self, pid: i32, life: Life, keeper: Keeper, listens: Option<bool>) -> Self {
            let tool = Tool { name: "tool", life, seen_in: "exe" };
            let sockets = listens.map(|listens| Sockets { listens, serves: false });
            self.0.known.insert(Pid(pid), Known { tool, keeper, sockets });
            self
        }

        fn builder(mut self, pid: i32, keeper: Keeper, sockets: Option<Sockets>) -> Self {
            let tool = Tool { name: BUILDER, life: Life::Daemon, seen_in: "exe" };
            self.0.known.insert(Pid(pid), Known { tool, keeper, sockets });
            self
        }

        fn job(self, pid: i32) -> Self {
            self.tool(pid, Life::Job, Keeper::Nobody, Some(false))
        }

        fn verdict(&self, pid: i32) -> Verdict {
            let (verdict, evidence) = self.0.judge(Pid(pid));
            assert!(!evidence.is_empty() && evidence.iter().all(|fact| !fact.source.is_empty()));
            verdict
        }
    }

    #[test]
    fn an_orphan_needs_every_sign() {
        let orphan = || Builder::new().process(50, 1, 40, "pip").job(50);
        assert_eq!(orphan().verdict(50), Verdict::Orphan);
        // Its session's shell is alive.
        assert_eq!(orphan().process(40, 1, 40, "bash").verdict(50), Verdict::InUse);
        // Its parent is an ordinary process.
        assert_eq!(orphan().process(50, 9, 40, "pip").process(9, 1, 9, "ci").verdict(50), Verdict::InUse);
        // Its parent is not to be seen.
        assert_eq!(orphan().process(50, 9, 40, "pip").verdict(50), Verdict::Unknown);
        // Its session began outside our pid namespace.
        assert_eq!(orphan().process(50, 1, 0, "pip").verdict(50), Verdict::Unknown);
        // It has a terminal.
        let mut terminal = orphan();
        terminal.0.stats.get_mut(&Pid(50)).unwrap().tty = 34816;
        assert_eq!(terminal.verdict(50), Verdict::InUse);
        let with = |keeper, listens| orphan().tool(50, Life::Job, keeper, listens).verdict(50);
        assert_eq!(with(Keeper::Service(b"ci.service".to_vec()), Some(false)), Verdict::Service);
        assert_eq!(with(Keeper::Container(b"docker-1.scope".to_vec()), Some(false)), Verdict::Unknown);
        assert_eq!(with(Keeper::Nobody, Some(true)), Verdict::Unknown);
        assert_eq!(with(Keeper::Nobody, None), Verdict::Unknown);
    }

    #[test]
    fn adopted_by_a_subreaper_or_the_init_of_a_container_is_an_orphan_too() {
        let by = |comm: &str| Builder::new().process(9, 1, 9, comm).process(50, 9, 40, "pip").job(50);
        assert_eq!(by("systemd").verdict(50), Verdict::Orphan);
        assert_eq!(by("bash").verdict(50), Verdict::InUse);
        let mut inner = by("bash");
        inner.0.inner_inits.insert(Pid(9));
        assert_eq!(inner.verdict(50), Verdict::Orphan);
    }

    #[test]
    fn the_children_of_an_orphan_are_orphans() {
        let tree = Builder::new().process(50, 1, 50, "make").job(50).process(51, 50, 50, "cc1").job(51);
        assert_eq!(tree.verdict(50), Verdict::Orphan);
        assert_eq!(tree.verdict(51), Verdict::Orphan);
    }

    #[test]
    fn a_server_below_a_build_tool_makes_it_unknown() {
        // npm start: node listens. make run: a shell, and below it a program that is no build tool.
        let npm = || Builder::new().process(50, 1, 40, "npm start").job(50);
        assert_eq!(npm().process(51, 50, 40, "node").verdict(50), Verdict::Unknown);
        assert_eq!(npm().process(51, 50, 40, "sh").verdict(50), Verdict::Unknown, "a shell by itself");
        let make = || npm().process(51, 50, 40, "sh").process(52, 51, 40, "cc1");
        assert_eq!(make().verdict(50), Verdict::Unknown, "cc1 is not known for one yet");
        assert_eq!(make().job(52).verdict(50), Verdict::Orphan);
        let listens = |answer| make().tool(52, Life::Job, Keeper::Nobody, answer).verdict(50);
        assert_eq!(listens(Some(true)), Verdict::Unknown);
        assert_eq!(listens(None), Verdict::Unknown);
        let (_, evidence) = npm().process(51, 50, 40, "node").0.judge(Pid(50));
        assert!(
            evidence.iter().any(|fact| fact.fact.contains("pid 51 (node), is no build tool")),
            "{evidence:?}"
        );
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let circle = Builder::new().process(50, 51, 9, "make").job(50).process(51, 50, 9, "cc1").job(51);
        assert_eq!(circle.verdict(50), Verdict::InUse);
    }

    #[test]
    fn a_builder_without_unit_session_and_clients_is_an_orphan() {
        let idle = Some(Sockets { listens: true, serves: false });
        let with = |keeper, sockets| Builder::new().process(50, 1, 40, BUILDER).builder(50, keeper, sockets);
        let orphan = || with(Keeper::Nobody, idle);
        assert_eq!(orphan().verdict(50), Verdict::Orphan);
        assert_eq!(orphan().process(40, 1, 40, "bash").verdict(50), Verdict::InUse, "its session");
        assert_eq!(orphan().process(60, 50, 60, "runc").verdict(50), Verdict::InUse, "a step of a build");
        assert_eq!(
            with(Keeper::Nobody, Some(Sockets { listens: true, serves: true })).verdict(50),
            Verdict::InUse
        );
        assert_eq!(with(Keeper::Nobody, None).verdict(50), Verdict::Unknown);
        assert_eq!(with(Keeper::Service(b"buildkit.service".to_vec()), idle).verdict(50), Verdict::Service);
        assert_eq!(with(Keeper::Container(b"docker-1.scope".to_vec()), idle).verdict(50), Verdict::Unknown);
        // One that leads its own session may have been started by an init script, but not by systemd.
        let mut leader = orphan().process(50, 1, 50, BUILDER);
        assert_eq!(leader.verdict(50), Verdict::Unknown);
        leader.0.systemd = true;
        assert_eq!(leader.verdict(50), Verdict::Orphan);
    }

    #[test]
    fn daemons_and_supervisors_are_not_orphans_because_init_is_their_parent() {
        let daemon =
            Builder::new().process(50, 1, 50, "buildkitd").tool(50, Life::Daemon, Keeper::Nobody, Some(true));
        assert_eq!(daemon.verdict(50), Verdict::Service);
        let shim = || {
            Builder::new().process(50, 1, 40, "containerd-shim").tool(
                50,
                Life::Supervisor,
                Keeper::Nobody,
                Some(true),
            )
        };
        assert_eq!(shim().verdict(50), Verdict::Unknown);
        assert_eq!(shim().process(60, 50, 60, "nginx").verdict(50), Verdict::InUse);
    }
}
