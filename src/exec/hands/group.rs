//! Ends a process with its whole process group: a build's shell, its compilers and what they started.
//!
//! Every member is opened as a pidfd first and looked at then (SAFETY.md T16, T17): one that is ourselves, an ancestor of
//! ours, another user's or in another cgroup makes it a group that is left alone. Where exactly these processes are a
//! cgroup of their own, KILL goes through `cgroup.kill` (Linux 5.14), which no fork can outrun.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::pidfd_send_signal;

use super::process::{TICK, has_ended, open, wait};
use super::{NotDone, Session};
use crate::domain::identity::{CommandLine, DevIno, Pid, ProcId};
use crate::domain::op::{ProcessTarget, Signal};
use crate::domain::receipt::Outcome;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::sys::procfs::Proc;

/// Where cgroups are (cgroup v2).
const CGROUPS: &str = "/sys/fs/cgroup";

/// A process group whose members are held.
pub struct Members {
    group: Pid,
    held: Vec<Member>,
}

/// A process of a group.
struct Member {
    id: ProcId,
    pidfd: OwnedFd,
    /// What it ran when it was first looked at.
    runs: Program,
}

/// What a process runs: its executable, where readable, and its command line.
#[derive(PartialEq, Eq)]
struct Program(Option<DevIno>, Option<CommandLine>);

impl Program {
    fn of(proc: &Proc, pid: Pid) -> Self {
        Self(proc.exe(pid).ok(), proc.command_line(pid).ok())
    }
}

/// Sends a signal to every member and waits for all to end.
pub fn signal(
    session: &mut Session<'_>,
    leader: &ProcessTarget,
    signal: Signal,
    wait_secs: u64,
    step_group: u32,
) -> Result<Outcome, NotDone> {
    let mut members = match session.groups.remove(&step_group) {
        Some(members) => members,
        None => find(session, leader)?,
    };
    members.held.retain(|member| !has_ended(&member.pidfd));
    if members.held.is_empty() {
        return Err(NotDone::Skip(format!("the group of {} has ended already", leader.id)));
    }
    // While one of them lives, nobody else can have the number of their group.
    add(session, leader, &mut members)?;
    for member in &members.held {
        // One that ends meanwhile is none that could be hit.
        if Program::of(&session.proc, member.id.pid) != member.runs && !has_ended(&member.pidfd) {
            return Err(NotDone::Skip(format!(
                "the whole group is left alone: {} in it runs another program now",
                member.id
            )));
        }
    }
    let number = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    if !(signal == Signal::Kill && kill_cgroup(leader, &members)) {
        for Member { id, pidfd, .. } in &members.held {
            match pidfd_send_signal(pidfd, number) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(NotDone::Fail(could_not(&format!("send {signal} to {id}"), errno))),
            }
        }
    }
    let count = u64::try_from(members.held.len()).unwrap_or(u64::MAX);
    let deadline = Instant::now() + Duration::from_secs(wait_secs);
    loop {
        members.held.retain(|member| !has_ended(&member.pidfd));
        let Some(Member { pidfd: first, .. }) = members.held.first() else {
            return Ok(Outcome::Done { count });
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if session.stop().wanted() {
            return Ok(Outcome::Cancelled { count: 0 });
        }
        wait(first, left.min(TICK));
    }
    let alive: Vec<String> = members.held.iter().map(|member| member.id.to_string()).collect();
    session.groups.insert(step_group, members);
    Err(NotDone::Fail(format!(
        "{signal} was sent, but after {wait_secs} s still alive: {}",
        alive.join(", ")
    )))
}

/// Holds the leader, and says which group it is in.
fn find(session: &Session<'_>, leader: &ProcessTarget) -> Result<Members, NotDone> {
    guards::not_ourselves(&session.proc, leader.id.pid).map_err(NotDone::Skip)?;
    let pidfd = open(&session.proc, leader.id)?;
    guards::same_process(&session.proc, leader).map_err(NotDone::Skip)?;
    let stat = guards::still_there(&session.proc, leader.id).map_err(NotDone::Skip)?;
    if stat.group.0 <= 1 {
        return Err(NotDone::Skip(format!("{} is in no process group that can be named here", leader.id)));
    }
    let group = stat.group;
    let runs = Program(leader.exe, Some(leader.arguments.clone()));
    Ok(Members { group, held: vec![Member { id: leader.id, pidfd, runs }] })
}

/// Holds every process that is in the group now; a group with one in it that must not be hit is left alone.
fn add(session: &Session<'_>, leader: &ProcessTarget, members: &mut Members) -> Result<(), NotDone> {
    let proc = &session.proc;
    let refuse = |why: String| NotDone::Skip(format!("the whole group is left alone: {why}"));
    let pids =
        proc.pids().map_err(|error| NotDone::Skip(format!("who is in the group is not known: {error}")))?;
    for pid in pids {
        let Ok(stat) = proc.stat(pid) else { continue };
        let known = |members: &Members| members.held.iter().any(|member| member.id == stat.id());
        if stat.group != members.group || stat.is_dead() || known(members) {
            continue;
        }
        let pidfd = match open(proc, stat.id()) {
            Ok(pidfd) => pidfd,
            // It has ended.
            Err(_) if !proc.stat(pid).is_ok_and(|now| now.id() == stat.id() && !now.is_dead()) => continue,
            Err(NotDone::Skip(why) | NotDone::Fail(why)) => return Err(refuse(why)),
        };
        let runs = Program::of(proc, pid);
        // Only now the number means this process for as long as it is held.
        if !proc.stat(pid).is_ok_and(|now| now.id() == stat.id() && now.group == members.group) {
            continue;
        }
        guards::not_ourselves(proc, pid).map_err(refuse)?;
        if proc.uid(pid).ok() != Some(leader.uid) {
            return Err(refuse(format!("{} in it runs as another user", stat.id())));
        }
        let cgroup = proc.cgroup(pid).unwrap_or_default();
        let inside = Path::new(std::ffi::OsStr::from_bytes(cgroup.as_bytes()))
            .starts_with(std::ffi::OsStr::from_bytes(leader.cgroup.as_bytes()));
        if !leader.cgroup.is_empty() && !inside {
            return Err(refuse(format!("{} in it is in another cgroup ({cgroup})", stat.id())));
        }
        members.held.push(Member { id: stat.id(), pidfd, runs });
    }
    Ok(())
}

/// Kills a cgroup at once, where it holds exactly these processes.
fn kill_cgroup(leader: &ProcessTarget, members: &Members) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(leader.cgroup.as_bytes()));
    let Ok(inside) = path.strip_prefix("/") else { return false };
    if inside.as_os_str().is_empty() || inside.components().any(|part| part.as_os_str() == "..") {
        return false;
    }
    let dir = Path::new(CGROUPS).join(inside);
    let ours: BTreeSet<i32> = members.held.iter().map(|member| member.id.pid.0).collect();
    processes(&dir).is_some_and(|there| there == ours)
        && OpenOptions::new()
            .write(true)
            .open(dir.join("cgroup.kill"))
            .and_then(|mut file| file.write_all(b"1"))
            .is_ok()
}

/// The processes of a cgroup without cgroups in it.
fn processes(dir: &PathBuf) -> Option<BTreeSet<i32>> {
    let below = std::fs::read_dir(dir).ok()?.flatten().any(|entry| entry.path().is_dir());
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    (!below).then(|| text.lines().filter_map(|line| line.parse().ok()).collect())
}
