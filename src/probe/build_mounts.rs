//! Whether a mount that BuildKit made is left over, each judged by itself. Conservative: left over only where every process
//! could be looked into, none uses the mount or a copy that would go along, no container has it as its root, and no daemon
//! that could have made it is at work. A daemon could have made it only if a namespace shows it that the daemon is in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::build_tools::Role;
use super::builders::{self, Builders, Daemon, Owner};
use crate::domain::identity::{DevId, NamespaceId, Pid};
use crate::domain::snapshot::{BuildMount, Evidence, Verdict};
use crate::domain::text::sanitise;
use crate::sys::mount_namespaces::Namespaces;
use crate::sys::mount_table::MountTable;
use crate::sys::procfs::{Proc, Stat, how_to_look, parse_maps, parse_mount_id};

/// Facts shown per mount and side; there can be thousands.
const SHOWN: usize = 5;

/// What was seen in `/proc`.
#[derive(Default)]
struct Seen {
    /// Uses by mount id.
    uses: HashMap<u32, Vec<Evidence>>,
    /// What builds.
    builders: Builders,
    /// Processes looked into.
    asked: u32,
    /// Of these, refused.
    refused: u32,
    /// Whether time ran out.
    cut_short: bool,
}

impl Seen {
    /// Whether a process is of a step that outlived its daemon.
    fn is_lost_step(&self, pid: Pid) -> bool {
        self.builders.steps.iter().any(|step| step.pid == pid && step.owner == Owner::Nobody)
    }

    /// The step that worked in a mount and goes on without its daemon, judged by the id in the path of both.
    fn lost_step_of(&self, mount: &BuildMount) -> Option<Evidence> {
        let id = executor_id(mount.mount_point.as_bytes())?;
        let step = self.builders.steps.iter().find(|step| step.owner == Owner::Nobody && step.is_in(id))?;
        let fact = format!(
            "its step goes on without a daemon, pid {} with init as its parent; the space comes back when that has ended too",
            step.pid
        );
        Some(Evidence::new(fact, format!("/proc/{}/cgroup", step.pid)))
    }
}

/// How `BuildKit` begins the last component of a place where it mounts a layer for a moment
/// (`os.MkdirTemp("", "buildkit-mount")` in `snapshot/localmounter_unix.go`).
const PREFIX: &[u8] = b"buildkit-mount";

/// Whether a mount point is one that `BuildKit` makes.
pub fn is_place(mount_point: &[u8]) -> bool {
    let last = mount_point.rsplit(|&byte| byte == b'/').next();
    last.is_some_and(|name| name.starts_with(PREFIX)) || executor_id(mount_point).is_some()
}

/// The id of the step whose root directory is mounted at a place: `…/executor/ID/rootfs` below the directory of a daemon
/// (`executor/runcexecutor`; docker's is `DATA/buildkit`, that of buildkitd `ROOT/runc-overlayfs`).
fn executor_id(mount_point: &[u8]) -> Option<&[u8]> {
    let mut components = mount_point.rsplit(|&byte| byte == b'/');
    (components.next()? == b"rootfs").then_some(())?;
    let id = components.next()?;
    (components.next()? == b"executor").then_some(())?;
    let of = components.next()?;
    (of == b"buildkit" || of.starts_with(b"runc-")).then_some(id)
}

/// Fills in verdict and evidence of each mount.
pub(super) fn judge(
    proc: &Proc,
    namespaces: &Namespaces,
    missing: &[String],
    mounts: &mut [(usize, BuildMount)],
    until: Instant,
) {
    let copies = mounts.iter().flat_map(|(_, mount)| &mount.copies).map(|copy| copy.id);
    let judged: HashSet<u32> = mounts.iter().map(|(_, mount)| mount.mount.id).chain(copies).collect();
    let watched = Watched::new(namespaces, &judged);
    let devices: HashSet<DevId> = namespaces
        .all
        .iter()
        .flat_map(|namespace| namespace.mounts.entries())
        .filter(|entry| watched.holds(entry.id))
        .map(|entry| entry.dev)
        .collect();
    let seen = look_around(proc, &watched, &devices, until);
    let world = World::new(proc, namespaces, mounts, &seen, missing);
    let verdicts: Vec<(Verdict, Vec<Evidence>)> =
        mounts.iter().map(|(_, mount)| world.verdict(mount, &seat(namespaces, mount))).collect();
    for ((_, mount), verdict) in mounts.iter_mut().zip(verdicts) {
        (mount.verdict, mount.evidence) = verdict;
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
    fn new(namespaces: &Namespaces, judged: &HashSet<u32>) -> Self {
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

/// Where a mount sits: the device and the place on it, or the path where what it sits on is out of sight. Each namespace that
/// has a mount there shows it: a peer, a follower, or a copy from when the namespace was made.
type Seat = (Option<DevId>, PathBuf);

fn seat(namespaces: &Namespaces, mount: &BuildMount) -> Seat {
    let found =
        namespaces.all.iter().find(|namespace| namespace.id == mount.namespace).and_then(|namespace| {
            let (below, place) = namespace.mounts.seat(namespace.mounts.by_id(mount.mount.id)?)?;
            Some((Some(below.dev), place))
        });
    found.unwrap_or_else(|| (None, mount.mount_point.as_path().to_path_buf()))
}

/// What of the world a verdict is made from.
struct World<'a> {
    seen: &'a Seen,
    /// The namespaces that show what sits at a place.
    shown_in: BTreeMap<Seat, BTreeSet<NamespaceId>>,
    /// The namespaces whose root directory is that of a mount, each with a process in it.
    roots: HashMap<(DevId, PathBuf), Vec<(NamespaceId, Pid)>>,
    /// The namespaces that a daemon made for a step, each with a process in it: what is mounted there goes with that.
    of_steps: BTreeMap<NamespaceId, Pid>,
    missing: &'a [String],
}

impl<'a> World<'a> {
    fn new(
        proc: &Proc,
        namespaces: &Namespaces,
        mounts: &[(usize, BuildMount)],
        seen: &'a Seen,
        missing: &'a [String],
    ) -> Self {
        let mut shown_in: BTreeMap<Seat, BTreeSet<NamespaceId>> = BTreeMap::new();
        for (_, mount) in mounts {
            shown_in.entry(seat(namespaces, mount)).or_default().insert(mount.namespace);
        }
        let mut roots: HashMap<(DevId, PathBuf), Vec<(NamespaceId, Pid)>> = HashMap::new();
        for namespace in &namespaces.all {
            if let Some(root) = namespace.mounts.at(Path::new("/")) {
                let what = (root.dev, MountTable::root_of(root).to_path_buf());
                roots.entry(what).or_default().push((namespace.id, namespace.seen_by.pid));
            }
        }
        let others: BTreeSet<NamespaceId> = mounts.iter().map(|(_, mount)| mount.namespace).collect();
        let of_steps = namespaces
            .others()
            .filter(|namespace| others.contains(&namespace.id))
            .map(|namespace| (namespace.id, namespace.seen_by.pid))
            .filter(|(_, pid)| {
                seen.builders.steps.iter().any(|step| step.pid == *pid)
                    || proc
                        .stat(*pid)
                        .is_ok_and(|stat| matches!(builders::owner(proc, &stat), Owner::Daemon(_)))
            })
            .collect();
        Self { seen, shown_in, roots, of_steps, missing }
    }

    /// The daemons that could have made a mount.
    fn owners(&self, mount: &BuildMount, seat: &Seat) -> Vec<&'a Daemon> {
        let shown_in = self.shown_in.get(seat);
        let shown = |namespace| shown_in.is_some_and(|all| all.contains(&namespace));
        let daemons = self.seen.builders.daemons.iter();
        daemons.filter(|daemon| daemon.could_own(mount.mount_point.as_path(), shown)).collect()
    }

    /// What uses a mount or a copy of it that would go along.
    fn uses(&self, mount: &BuildMount) -> Vec<Evidence> {
        let of = |id: u32| self.seen.uses.get(&id).map(Vec::as_slice).unwrap_or_default();
        let mut uses: Vec<Evidence> = of(mount.mount.id).iter().take(SHOWN).cloned().collect();
        for copy in &mount.copies {
            let more = of(copy.id).iter().take(SHOWN).map(|one| {
                let fact = format!(
                    "{}: on its copy at {} in mount namespace {}, which would go along",
                    one.fact, copy.mount_point, copy.namespace.0
                );
                Evidence::new(fact, one.source.clone())
            });
            uses.extend(more);
        }
        if let Some(pid) = self.of_steps.get(&mount.namespace) {
            let fact = format!("it is in the mount namespace of a step of a build, pid {pid}");
            uses.push(Evidence::new(fact, format!("/proc/{pid}/ns/mnt")));
        }
        // The root directory of a container can be the same tree without being the same mount.
        let what = (mount.dev, MountTable::root_of_path(&mount.root).to_path_buf());
        for (namespace, pid) in self.roots.get(&what).into_iter().flatten() {
            if *namespace != mount.namespace && !self.seen.is_lost_step(*pid) {
                let fact = format!(
                    "it is the root directory of mount namespace {}, where pid {pid} is",
                    namespace.0
                );
                uses.push(Evidence::new(fact, format!("/proc/{pid}/mountinfo")));
            }
        }
        uses.truncate(SHOWN);
        uses
    }

    /// What builds and may be at work in a mount that one of these daemons made.
    fn work(&self, owners: &[&Daemon]) -> Vec<Evidence> {
        let builders = &self.seen.builders;
        let is_theirs = |owner: Owner| match owner {
            Owner::Daemon(pid) => owners.iter().any(|daemon| daemon.pid == pid),
            Owner::Unknown => true,
            Owner::Nobody => false,
        };
        let mut work: Vec<Evidence> = builders
            .steps
            .iter()
            .filter(|step| is_theirs(step.owner))
            .map(|step| step.fact.clone())
            .collect();
        // Whom a client asks is not known: one of these, unless none of them is asked by anybody. Where no daemon is seen at
        // all, it asks one that is not known for one.
        if builders.daemons.is_empty() || owners.iter().any(|daemon| daemon.works != Some(false)) {
            work.extend(builders.clients.iter().cloned());
        }
        let busy =
            owners.iter().filter(|daemon| daemon.role == Role::BuildDaemon && daemon.works == Some(true));
        work.extend(busy.map(|daemon| {
            Evidence::new(
                format!("{}, and a client is connected to it", daemon.fact.fact),
                format!("/proc/{}/fd", daemon.pid),
            )
        }));
        work.truncate(SHOWN);
        work
    }

    fn verdict(&self, mount: &BuildMount, seat: &Seat) -> (Verdict, Vec<Evidence>) {
        let uses = self.uses(mount);
        if !uses.is_empty() {
            return (Verdict::InUse, uses);
        }
        let owners = self.owners(mount, seat);
        let work = self.work(&owners);
        if !work.is_empty() {
            return (Verdict::InUse, work);
        }
        let seen = self.seen;
        let mut evidence = vec![Evidence::new(
            format!(
                "none of {} processes has a file, working directory, root, program or mapping on it",
                seen.asked - seen.refused
            ),
            "/proc/*/{fdinfo,cwd,root,exe,maps}",
        )];
        evidence.push(Evidence::new(
            if seen.builders.clients.is_empty() && seen.builders.steps.is_empty() {
                "no build client and no build step runs"
            } else {
                "what builds now is the work of no daemon that could have mounted it"
            },
            "/proc/*/{cmdline,cgroup,stat}",
        ));
        evidence.extend(seen.lost_step_of(mount));
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
        unknown.extend(self.missing.iter().map(|gap| Evidence::new(gap.clone(), "/proc")));
        // A docker daemon is always there on a docker host; what its clients and steps do was looked at above. A buildkitd
        // takes work from other machines without a client here.
        let mut may_work = false;
        for daemon in owners {
            evidence.push(match (daemon.role, daemon.works) {
                (Role::BuildDaemon, Some(false)) => {
                    let fact = format!("{}, and no client is connected to it", daemon.fact.fact);
                    Evidence::new(fact, format!("/proc/{}/fd", daemon.pid))
                }
                (Role::BuildDaemon, _) => {
                    may_work = true;
                    let fact =
                        format!("{} and may be at work for a client on another machine", daemon.fact.fact);
                    Evidence::new(fact, daemon.fact.source.clone())
                }
                _ => daemon.fact.clone(),
            });
        }
        if !unknown.is_empty() || may_work {
            unknown.extend(evidence);
            return (Verdict::Unknown, unknown);
        }
        (Verdict::Orphan, evidence)
    }
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
        seen.builders.see(proc, &stat);
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
    let name = sanitise(stat.comm.as_bytes()).into_owned();
    // Each thread can have a working directory and a root of its own; the rest they share, and where the first has ended only
    // the others show it.
    let threads = if stat.threads > 1 { proc.threads(stat.pid).unwrap_or_default() } else { Vec::new() };
    let living = |thread: &Pid| proc.stat(*thread).is_ok_and(|stat| !stat.has_first_thread_ended());
    let pid = if stat.has_first_thread_ended() {
        threads.iter().copied().find(living).unwrap_or(stat.pid)
    } else {
        stat.pid
    };
    let directories = [("cwd", "its working directory"), ("root", "its root directory")];
    let links = directories.into_iter().chain([("exe", "its program file")]).map(|link| (pid, link));
    let others = threads.iter().copied().filter(|thread| *thread != pid);
    let links =
        links.chain(others.flat_map(|thread| directories.into_iter().map(move |link| (thread, link))));
    for (thread, (link, what)) in links {
        match proc.identity_of(thread, link) {
            Ok((_, mount)) if watched.holds(mount) => {
                let fact = format!("pid {} ({name}) has {what} on it", stat.pid);
                let one = (mount, Evidence::new(fact, format!("/proc/{thread}/{link}")));
                if !uses
                    .iter()
                    .any(|(other, known): &(u32, Evidence)| *other == mount && known.fact == one.1.fact)
                {
                    uses.push(one);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_buildkit_are_known_by_their_names() {
        for place in [
            "/tmp/buildkit-mount12",
            "/var/lib/docker/buildkit/executor/abc/rootfs",
            "/var/lib/buildkit/runc-overlayfs/executor/abc/rootfs",
        ] {
            assert!(is_place(place.as_bytes()), "{place}");
        }
        for place in [
            "/tmp/my-buildkit-mount1",
            "/srv/executor/abc/rootfs",
            "/a/buildkit/executor/abc/rootfs/x",
            "/rootfs",
        ] {
            assert!(!is_place(place.as_bytes()), "{place}");
        }
    }
}
