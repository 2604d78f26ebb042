//! Whether a mount that BuildKit made is left over. Conservative: left over only where every process could be looked
//! into, none uses the mount, and no build runs.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::build_tools::{self, Role};
use super::cgroups;
use crate::domain::identity::{DevId, NamespaceId, Pid};
use crate::domain::snapshot::{BuildMount, Evidence, Verdict};
use crate::domain::text::sanitise;
use crate::sys::mount_namespaces::Namespaces;
use crate::sys::procfs::{Proc, Stat, how_to_look, parse_maps, parse_mount_id};

/// Facts shown per mount and side; there can be thousands.
const SHOWN: usize = 5;

/// What was seen in `/proc`.
#[derive(Default)]
struct Seen {
    /// Uses by mount id.
    uses: HashMap<u32, Vec<Evidence>>,
    /// Build clients and running build steps.
    builds: Vec<Evidence>,
    /// Builder daemons, each with its mount namespace where readable.
    daemons: Vec<(Option<NamespaceId>, Role, Evidence)>,
    /// Processes looked into.
    asked: u32,
    /// Of these, refused.
    refused: u32,
    /// Whether time ran out.
    cut_short: bool,
}

/// Fills in verdict and evidence of each mount.
pub(super) fn judge(
    proc: &Proc,
    namespaces: &Namespaces,
    missing: &[String],
    mounts: &mut [(usize, BuildMount)],
    until: Instant,
) {
    let watched = Watched::new(namespaces, mounts);
    let devices: HashSet<DevId> = namespaces
        .all
        .iter()
        .flat_map(|namespace| namespace.mounts.entries())
        .filter(|entry| watched.holds(entry.id))
        .map(|entry| entry.dev)
        .collect();
    let seen = look_around(proc, &watched, &devices, until);
    for (_, mount) in mounts {
        (mount.verdict, mount.evidence) = verdict(mount, &seen, missing);
    }
}

/// The mounts to judge and all that is mounted on them, directly or not: a mount is in use also where something mounted
/// below it is. There can be tens of thousands of them, side by side or one on the other, so that each knows only the next.
struct Watched {
    /// The nearest mount to judge at or above a mount, by its id; ids are the same in all namespaces.
    nearest: HashMap<u32, u32>,
    /// The next mount to judge above one.
    above: HashMap<u32, u32>,
}

impl Watched {
    fn new(namespaces: &Namespaces, mounts: &[(usize, BuildMount)]) -> Self {
        let judged: HashSet<u32> = mounts.iter().map(|(_, mount)| mount.mount.id).collect();
        let mut watched =
            Self { nearest: judged.iter().map(|id| (*id, *id)).collect(), above: HashMap::new() };
        // A parent comes before its children in mountinfo.
        for entry in namespaces.all.iter().flat_map(|namespace| namespace.mounts.entries()) {
            let Some(&parent) = watched.nearest.get(&entry.parent).filter(|_| entry.parent != entry.id)
            else {
                continue;
            };
            if judged.contains(&entry.id) {
                watched.above.insert(entry.id, parent);
            } else {
                watched.nearest.insert(entry.id, parent);
            }
        }
        watched
    }

    fn holds(&self, mount: u32) -> bool {
        self.nearest.contains_key(&mount)
    }

    /// The mounts to judge that are in use where this one is.
    fn of(&self, mount: u32) -> impl Iterator<Item = u32> {
        let nearest = self.nearest.get(&mount).copied();
        // The bound is for a table that goes in circles.
        std::iter::successors(nearest, |id| self.above.get(id).copied()).take(self.nearest.len())
    }
}

fn verdict(mount: &BuildMount, seen: &Seen, missing: &[String]) -> (Verdict, Vec<Evidence>) {
    if let Some(uses) = seen.uses.get(&mount.mount.id) {
        return (Verdict::InUse, uses.iter().take(SHOWN).cloned().collect());
    }
    if !seen.builds.is_empty() {
        return (Verdict::InUse, seen.builds.iter().take(SHOWN).cloned().collect());
    }
    let nobody = Evidence::new(
        format!(
            "none of {} processes has a file, working directory, root, program or mapping on it",
            seen.asked - seen.refused
        ),
        "/proc/*/{fdinfo,cwd,root,exe,maps}",
    );
    let no_build = Evidence::new("no build client and no build step runs", "/proc/*/{cmdline,cgroup}");
    let mut evidence = vec![nobody, no_build];
    // A docker daemon is always there on a docker host; what its clients and steps do was looked at above. A
    // buildkitd takes work from other machines without a client here.
    let mut could_own = false;
    for (namespace, role, fact) in &seen.daemons {
        let same = *namespace == Some(mount.namespace);
        could_own |= *role == Role::BuildDaemon && (same || namespace.is_none());
        if same || *role == Role::Engine {
            evidence.push(fact.clone());
        }
    }
    let mut unknown = Vec::new();
    if seen.refused > 0 {
        unknown.push(Evidence::new(
            format!(
                "{} of {} processes could not be looked into: {}",
                seen.refused,
                seen.asked,
                how_to_look()
            ),
            "/proc/*/fd",
        ));
    }
    if seen.cut_short {
        unknown.push(Evidence::new("not all processes could be looked into in time", "/proc"));
    }
    unknown.extend(missing.iter().map(|gap| Evidence::new(gap.clone(), "/proc")));
    if !unknown.is_empty() {
        unknown.extend(evidence);
        return (Verdict::Unknown, unknown);
    }
    if could_own {
        evidence.push(Evidence::new("that builder may be at work for a client on another machine", "/proc"));
        return (Verdict::Unknown, evidence);
    }
    (Verdict::Orphan, evidence)
}

fn look_around(proc: &Proc, watched: &Watched, devices: &HashSet<DevId>, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let Ok(pids) = proc.pids() else {
        seen.cut_short = true;
        return seen;
    };
    // Other probes of ours open mount points for a moment, and their children inherit that: no use of a mount. Who
    // started us from within one is seen by the working directory of his shell.
    let ours = proc.self_pid();
    for pid in pids {
        if Instant::now() >= until {
            seen.cut_short = true;
            break;
        }
        let Ok(stat) = proc.stat(pid) else { continue };
        // A child that runs our program was forked to ask a file system something; another one was started on purpose.
        let own = ours.is_some_and(|ours| {
            let same = |pid| proc.exe(pid).ok();
            stat.pid == ours || (stat.parent == ours && same(pid).is_some_and(|exe| same(ours) == Some(exe)))
        });
        if stat.is_kernel_thread() || stat.is_dead() || own {
            continue;
        }
        seen.asked += 1;
        look_for_builder(proc, &stat, &mut seen);
        let mut uses = Vec::new();
        if let Err(Refused) = uses_of(proc, &stat, watched, devices, &mut uses) {
            // Init builds nothing; where it is a builder after all, that was seen by its name.
            if stat.pid != Pid(1) {
                seen.refused += 1;
            }
        }
        for (id, evidence) in uses {
            for mount in watched.of(id) {
                seen.uses.entry(mount).or_default().push(evidence.clone());
            }
        }
    }
    seen
}

/// A builder's client, step or daemon among the processes.
fn look_for_builder(proc: &Proc, stat: &Stat, seen: &mut Seen) {
    let arguments = proc.arguments(stat.pid).unwrap_or_default();
    let exe = proc.exe_path(stat.pid).ok();
    let name = sanitise(stat.comm.as_bytes()).into_owned();
    match build_tools::role(exe.as_deref(), &arguments) {
        Some(Role::Client) => seen.builds.push(Evidence::new(
            format!("a build may be running: pid {} ({name}) is a build client", stat.pid),
            format!("/proc/{}/cmdline", stat.pid),
        )),
        Some(Role::Step) => seen.builds.push(Evidence::new(
            format!("a build step is running: pid {} ({name})", stat.pid),
            format!("/proc/{}/cmdline", stat.pid),
        )),
        Some(role @ (Role::BuildDaemon | Role::Engine)) => {
            let namespace = proc.mount_namespace(stat.pid).ok();
            let fact = Evidence::new(
                format!("pid {} ({name}) is running", stat.pid),
                format!("/proc/{}/cmdline", stat.pid),
            );
            seen.daemons.push((namespace, role, fact));
        }
        None => {
            let cgroup = proc.read(stat.pid, "cgroup").unwrap_or_default();
            if cgroups::is_build_step(&cgroup) {
                seen.builds.push(Evidence::new(
                    format!("a build step is running: pid {} ({name}) is in a BuildKit cgroup", stat.pid),
                    format!("/proc/{}/cgroup", stat.pid),
                ));
            }
        }
    }
}

/// Permission was refused: what the process uses is not known.
struct Refused;

/// What of the watched mounts a process uses, by mount id.
fn uses_of(
    proc: &Proc,
    stat: &Stat,
    watched: &Watched,
    devices: &HashSet<DevId>,
    uses: &mut Vec<(u32, Evidence)>,
) -> Result<(), Refused> {
    let pid = stat.pid;
    let name = sanitise(stat.comm.as_bytes()).into_owned();
    for (link, what) in
        [("cwd", "its working directory"), ("root", "its root directory"), ("exe", "its program file")]
    {
        match proc.identity_of(pid, link) {
            Ok((_, mount)) if watched.holds(mount) => {
                let fact = format!("pid {pid} ({name}) has {what} on it");
                uses.push((mount, Evidence::new(fact, format!("/proc/{pid}/{link}"))));
            }
            Err(error) if error.is_denied() || error.is_unsupported() => return Err(Refused),
            Ok(_) | Err(_) => {}
        }
    }
    let descriptors = match proc.descriptors(pid) {
        Ok(descriptors) => descriptors,
        Err(error) if error.is_denied() => return Err(Refused),
        Err(_) => return Ok(()),
    };
    for fd in descriptors {
        let file = format!("fdinfo/{fd}");
        let mount = match proc.read(pid, &file) {
            Ok(bytes) => parse_mount_id(&bytes),
            Err(error) if error.is_denied() => return Err(Refused),
            // It was closed meanwhile.
            Err(_) => None,
        };
        if let Some(mount) = mount.filter(|&mount| watched.holds(mount)) {
            let fact = format!("pid {pid} ({name}) has descriptor {fd} open on it");
            uses.push((mount, Evidence::new(fact, format!("/proc/{pid}/{file}"))));
        }
    }
    mapped(proc, pid, &name, watched, devices, uses)
}

fn mapped(
    proc: &Proc,
    pid: Pid,
    name: &str,
    watched: &Watched,
    devices: &HashSet<DevId>,
    uses: &mut Vec<(u32, Evidence)>,
) -> Result<(), Refused> {
    let maps = match proc.read(pid, "maps") {
        Ok(maps) => maps,
        Err(error) if error.is_denied() => return Err(Refused),
        Err(_) => return Ok(()),
    };
    let mut looked_at = HashSet::new();
    for mapping in parse_maps(&maps) {
        if !devices.contains(&mapping.key.dev) || !looked_at.insert((mapping.key, mapping.path.clone())) {
            continue;
        }
        match proc.identity_of(pid, &format!("map_files/{}", mapping.range)) {
            Ok((_, mount)) if watched.holds(mount) => {
                let fact = format!("pid {pid} ({name}) has {} mapped from it", mapping.path);
                uses.push((mount, Evidence::new(fact, format!("/proc/{pid}/maps"))));
            }
            Err(error) if error.is_denied() => return Err(Refused),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
