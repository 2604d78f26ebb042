//! Build and package processes, with a verdict on each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::build_tools::{self, Life, Tool};
use super::builders::{self, Owner};
use super::cgroups::{self, Keeper};
use super::mounts::hidden_processes;
use super::process_list::{self, Process, Processes};
use super::process_verdict::{Known, World};
use super::{Context, filesystems, sockets};
use crate::domain::builds::STEP;
use crate::domain::identity::Pid;
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::BuildProcess;
use crate::domain::text::HostText;
use crate::sys::procfs::{Proc, parse_inner_pid};

/// A process that was recognised, before the verdict.
struct Candidate {
    tool: Tool,
    arguments: Vec<Vec<u8>>,
}

/// Finds build processes, left-over ones first.
pub fn look(context: &Context<'_>) -> Reading<Vec<BuildProcess>> {
    let proc = context.proc();
    let processes = match process_list::processes(context) {
        Ok(processes) => processes,
        Err(why) => return Reading::Unavailable { why },
    };
    let mut missing: Vec<String> = filesystems::own_mounts(context)
        .ok()
        .and_then(|(mounts, _)| hidden_processes(context, &mounts))
        .into_iter()
        .collect();
    // sd_booted(3).
    let systemd = context.environment.rooted("/run/systemd/system").is_dir();
    let mut world = World::default();
    world.systemd = systemd;
    let living = processes.all().map(|process| &process.stat).filter(|stat| !stat.is_dead());
    world.stats = living.map(|stat| (stat.pid, stat.clone())).collect();
    let spared: BTreeSet<Pid> = proc.ourselves().into_iter().chain([Pid(1)]).collect();
    let candidates = recognise_all(&proc, &processes, &spared);
    let vitals = Vitals::measure(context, candidates.keys().copied());
    know(&proc, &mut world, &candidates);
    let uptime = match proc.uptime() {
        Ok(uptime) => Some(uptime),
        Err(error) => {
            missing.push(format!("ages are not known: {error}"));
            None
        }
    };
    let mut found: Vec<BuildProcess> = candidates
        .iter()
        .filter_map(|(pid, candidate)| describe(&proc, &world, *pid, candidate, &vitals, uptime))
        .collect();
    found.sort_by_key(|process| (process.verdict, process.id));
    Reading::with_missing(found, missing)
}

fn recognise_all(proc: &Proc, processes: &Processes, spared: &BTreeSet<Pid>) -> BTreeMap<Pid, Candidate> {
    let mut candidates = BTreeMap::new();
    for (process, command) in processes.programs() {
        let stat = &process.stat;
        if spared.contains(&stat.pid) {
            continue;
        }
        if is_lost_step(proc, process) {
            let tool = Tool { name: STEP, life: Life::Job, seen_in: "cgroup" };
            candidates.insert(stat.pid, Candidate { tool, arguments: command.arguments.clone() });
            continue;
        }
        if let Some(mut tool) = build_tools::recognise(command.exe.as_deref(), &command.arguments) {
            // Rootless podman before 4.4 keeps its namespaces alive by a process of its own that names itself so.
            if tool.name == "podman" && stat.comm.as_bytes().starts_with(b"podman pause") {
                tool.life = Life::Daemon;
            }
            candidates.insert(stat.pid, Candidate { tool, arguments: command.arguments.clone() });
        }
    }
    candidates
}

/// Whether it is of a step of a build whose daemon has ended.
fn is_lost_step(proc: &Proc, process: &Process) -> bool {
    cgroups::is_build_step(&process.cgroup) && builders::owner(proc, &process.stat) == Owner::Nobody
}

/// Reads what the verdicts need beyond stat.
fn know(proc: &Proc, world: &mut World, candidates: &BTreeMap<Pid, Candidate>) {
    let ours =
        proc.self_pid().and_then(|pid| proc.read(pid, "cgroup").ok()).map(|bytes| cgroups::keeper(&bytes));
    for (pid, candidate) in candidates {
        let cgroup = proc.read(*pid, "cgroup").unwrap_or_default();
        let keeper = if candidate.tool.name == STEP {
            cgroups::keeper_of_step(&cgroup)
        } else {
            cgroups::keeper(&cgroup)
        };
        let keeper = match keeper {
            // We are in that container ourselves: here it is the whole machine.
            container @ Keeper::Container(_) if ours.as_ref() == Some(&container) => Keeper::Nobody,
            other => other,
        };
        let sockets = sockets::look(proc, *pid);
        world.known.insert(*pid, Known { tool: candidate.tool, keeper, sockets });
        if let Some(parent) = world.stats.get(pid).map(|stat| stat.parent) {
            let status = proc.read(parent, "status").unwrap_or_default();
            if parse_inner_pid(&status) == Some(1) {
                world.inner_inits.insert(parent);
            }
        }
    }
}

fn describe(
    proc: &Proc,
    world: &World,
    pid: Pid,
    candidate: &Candidate,
    vitals: &Vitals,
    uptime: Option<f64>,
) -> Option<BuildProcess> {
    let stat = world.stats.get(&pid)?;
    let (verdict, evidence) = world.judge(pid);
    let (cpu, memory) = vitals.of(pid);
    Some(BuildProcess {
        id: stat.id(),
        tool: HostText::from(candidate.tool.name),
        command: redact::command_line(&candidate.arguments),
        parent: stat.parent,
        // One that ended since it was recognised is not listed.
        uid: proc.uid(pid).ok()?,
        cgroup: proc.cgroup(pid).unwrap_or_default(),
        exe: proc.exe(pid).ok(),
        arguments: proc.command_line(pid).unwrap_or_default(),
        age_secs: uptime.map_or(0, |uptime| age_secs(stat.start, uptime)),
        cpu,
        memory,
        verdict,
        evidence,
    })
}

/// Seconds since a start time in clock ticks since boot.
fn age_secs(start: u64, uptime: f64) -> u64 {
    let started = start / rustix::param::clock_ticks_per_second().max(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "uptime is positive and small"
    )]
    let now = uptime as u64;
    now.saturating_sub(started)
}

/// CPU and memory, from sysinfo.
struct Vitals {
    by_pid: BTreeMap<Pid, (Percent, Bytes)>,
}

impl Vitals {
    /// Measures over the shortest time that gives a CPU figure, 200 ms on Linux.
    fn measure(context: &Context<'_>, pids: impl Iterator<Item = Pid>) -> Self {
        let pids: Vec<sysinfo::Pid> =
            pids.filter_map(|pid| u32::try_from(pid.0).ok()).map(sysinfo::Pid::from_u32).collect();
        let mut by_pid = BTreeMap::new();
        // sysinfo reads the machine's own /proc: its pids mean nothing in a fixture.
        if context.environment.root != Path::new("/") || pids.is_empty() {
            return Self { by_pid };
        }
        let Ok(mut system) = System::new() else { return Self { by_pid } };
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, kind);
        thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, kind);
        for (pid, process) in system.processes() {
            if let Ok(raw) = i32::try_from(pid.as_u32()) {
                let figures = (Percent(f64::from(process.cpu_usage())), Bytes(process.memory()));
                by_pid.insert(Pid(raw), figures);
            }
        }
        Self { by_pid }
    }

    fn of(&self, pid: Pid) -> (Percent, Bytes) {
        self.by_pid.get(&pid).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_seconds_since_the_start() {
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(age_secs(100 * ticks, 160.9), 60);
        assert_eq!(age_secs(200 * ticks, 160.0), 0);
    }
}
