//! Build and package processes, with a verdict on each.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::thread;
use std::time::Instant;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::build_tools::{self, Life, Tool};
use super::cgroups::{self, Keeper};
use super::mounts::hidden_processes;
use super::process_verdict::{Known, World};
use super::{Context, filesystems};
use crate::domain::identity::Pid;
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::BuildProcess;
use crate::domain::text::HostText;
use crate::sys::procfs::{Proc, Stat, parse_inner_pid};

/// A process that was recognised, before the verdict.
struct Candidate {
    tool: Tool,
    arguments: Vec<Vec<u8>>,
}

/// Finds build processes, left-over ones first.
pub fn look(context: &Context<'_>) -> Reading<Vec<BuildProcess>> {
    let until = Instant::now() + context.deadline();
    let proc = context.proc();
    let pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => return Reading::Unavailable { why: error.to_string() },
    };
    let mut missing: Vec<String> = filesystems::own_mounts(context)
        .ok()
        .and_then(|(mounts, _)| hidden_processes(context, &mounts))
        .into_iter()
        .collect();
    let mut world = World::default();
    for pid in pids {
        if Instant::now() >= until {
            missing.push("not all processes could be looked at in time".to_owned());
            break;
        }
        let Ok(stat) = proc.stat(pid) else { continue };
        if !stat.is_dead() {
            world.stats.insert(pid, stat);
        }
    }
    let spared: BTreeSet<Pid> = proc.ourselves().into_iter().chain([Pid(1)]).collect();
    let candidates = recognise_all(&proc, &world.stats, &spared);
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

fn recognise_all(
    proc: &Proc,
    stats: &BTreeMap<Pid, Stat>,
    spared: &BTreeSet<Pid>,
) -> BTreeMap<Pid, Candidate> {
    let mut candidates = BTreeMap::new();
    for (pid, stat) in stats {
        if stat.is_kernel_thread() || spared.contains(pid) {
            continue;
        }
        let Ok(arguments) = proc.arguments(*pid) else { continue };
        let exe = proc.exe_path(*pid).ok();
        if let Some(mut tool) = build_tools::recognise(exe.as_deref(), &arguments) {
            // Rootless podman before 4.4 keeps its namespaces alive by a process of its own that names itself so.
            if tool.name == "podman" && stat.comm.as_bytes().starts_with(b"podman pause") {
                tool.life = Life::Daemon;
            }
            candidates.insert(*pid, Candidate { tool, arguments });
        }
    }
    candidates
}

/// Reads what the verdicts need beyond stat.
fn know(proc: &Proc, world: &mut World, candidates: &BTreeMap<Pid, Candidate>) {
    let ours =
        proc.self_pid().and_then(|pid| proc.read(pid, "cgroup").ok()).map(|bytes| cgroups::keeper(&bytes));
    for (pid, candidate) in candidates {
        let cgroup = proc.read(*pid, "cgroup").unwrap_or_default();
        let keeper = match cgroups::keeper(&cgroup) {
            // We are in that container ourselves: here it is the whole machine.
            container @ Keeper::Container(_) if ours.as_ref() == Some(&container) => Keeper::Nobody,
            other => other,
        };
        let listens = listens(proc, *pid);
        world.known.insert(*pid, Known { tool: candidate.tool, keeper, listens });
        if let Some(parent) = world.stats.get(pid).map(|stat| stat.parent) {
            let status = proc.read(parent, "status").unwrap_or_default();
            if parse_inner_pid(&status) == Some(1) {
                world.inner_inits.insert(parent);
            }
        }
    }
}

/// Whether a process owns a listening socket; none where its descriptors or sockets could not be read.
fn listens(proc: &Proc, pid: Pid) -> Option<bool> {
    let mut sockets: HashSet<Vec<u8>> = HashSet::new();
    for fd in proc.descriptors(pid).ok()? {
        let link = match proc.link(pid, &format!("fd/{fd}")) {
            Ok(link) => link,
            Err(error) if error.is_denied() => return None,
            // It was closed meanwhile.
            Err(_) => continue,
        };
        if let Some(inode) = link.strip_prefix(b"socket:[").and_then(|rest| rest.strip_suffix(b"]")) {
            sockets.insert(inode.to_vec());
        }
    }
    if sockets.is_empty() {
        return Some(false);
    }
    // State 0A is TCP_LISTEN (include/net/tcp_states.h) and the inode field 9 of 0; in net/unix the flag 00010000
    // is __SO_ACCEPTCON and the inode field 6 (proc_pid_net(5)).
    let tcp =
        ["net/tcp", "net/tcp6"].into_iter().filter_map(|name| proc.read(pid, name).ok()).collect::<Vec<_>>();
    let unix = proc.read(pid, "net/unix").ok();
    if tcp.is_empty() && unix.is_none() {
        return None;
    }
    let field = |line: &[u8], index: usize| {
        line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(index).map(<[u8]>::to_vec)
    };
    let on_tcp = tcp.iter().flat_map(|bytes| bytes.split(|&byte| byte == b'\n')).any(|line| {
        field(line, 3).as_deref() == Some(b"0A")
            && field(line, 9).is_some_and(|inode| sockets.contains(&inode))
    });
    let on_unix = unix.iter().flat_map(|bytes| bytes.split(|&byte| byte == b'\n')).any(|line| {
        field(line, 3).as_deref() == Some(b"00010000")
            && field(line, 6).is_some_and(|inode| sockets.contains(&inode))
    });
    Some(on_tcp || on_unix)
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
    fn a_listener_is_told_from_a_process_with_a_plain_socket() {
        let proc = Proc::new("/proc");
        let me = proc.self_pid().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listens(&proc, me), Some(true));
        drop(listener);
    }

    #[test]
    fn ages_are_in_seconds_since_the_start() {
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(age_secs(100 * ticks, 160.9), 60);
        assert_eq!(age_secs(200 * ticks, 160.0), 0);
    }
}
