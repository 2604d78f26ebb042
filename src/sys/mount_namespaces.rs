//! The mounts of every mount namespace that can be reached through a process.

use std::collections::BTreeMap;
use std::time::Instant;

use super::mount_table::MountTable;
use super::mountinfo;
use super::procfs::{Proc, how_to_look};
use crate::domain::identity::{NamespaceId, Pid, ProcId};

/// One mount namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Which.
    pub id: NamespaceId,
    /// A process in it, by which it can be reached. None for our own.
    pub via: Option<ProcId>,
    /// The process whose mountinfo was read.
    pub seen_by: ProcId,
    /// Its mounts.
    pub mounts: MountTable,
}

/// All mount namespaces that could be reached.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// Each once, ours first.
    pub all: Vec<Namespace>,
    /// What could not be read, as sentences.
    pub missing: Vec<String>,
    /// Whether the namespace of pid 1 could not be read. Not in `missing`: init keeps more capabilities than a login in
    /// many containers and virtual machines, and is in the namespace of others that can be read.
    pub init_refused: bool,
}

impl Namespaces {
    /// Our own namespace.
    pub fn ours(&self) -> Option<&Namespace> {
        self.all.iter().find(|namespace| namespace.via.is_none())
    }
}

/// Reads the mounts of every reachable mount namespace once. Stops at `until` and says so.
pub fn read_all(proc: &Proc, until: Instant) -> Namespaces {
    let mut found = Namespaces::default();
    let pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => {
            found.missing.push(format!("mount namespaces are not known: {error}"));
            return found;
        }
    };
    let ours = proc.self_pid().and_then(|pid| proc.mount_namespace(pid).ok());
    let (mut refused, mut asked) = (0u32, 0u32);
    let mut members: BTreeMap<NamespaceId, Vec<ProcId>> = BTreeMap::new();
    for pid in pids {
        if Instant::now() >= until {
            found
                .missing
                .push("not all processes could be asked for their mount namespace in time".to_owned());
            break;
        }
        let Ok(stat) = proc.stat(pid) else { continue };
        if stat.is_kernel_thread() || stat.is_dead() {
            continue;
        }
        asked += 1;
        match proc.mount_namespace(pid) {
            Ok(id) => members.entry(id).or_default().push(stat.id()),
            Err(error) if error.is_denied() && pid == Pid(1) => found.init_refused = true,
            Err(error) if error.is_denied() => refused += 1,
            // It ended meanwhile.
            Err(_) => {}
        }
    }
    if refused > 0 {
        found.missing.push(format!(
            "the mount namespaces of {refused} of {asked} processes could not be looked into: {}",
            how_to_look()
        ));
    }
    let mut order: Vec<(NamespaceId, Vec<ProcId>)> = members.into_iter().collect();
    order.sort_by_key(|(id, _)| Some(*id) != ours);
    for (id, processes) in order {
        read_one(proc, id, &processes, ours, until, &mut found);
    }
    found
}

fn read_one(
    proc: &Proc,
    id: NamespaceId,
    processes: &[ProcId],
    ours: Option<NamespaceId>,
    until: Instant,
    found: &mut Namespaces,
) {
    if Instant::now() >= until {
        found.missing.push(format!("the mounts of namespace {} could not be read in time", id.0));
        return;
    }
    // Where it is ours, our own view is wanted: a process in a chroot sees only a part.
    let own = proc.self_pid().filter(|_| ours == Some(id));
    let rooted = processes.iter().filter(|process| Some(process.pid) == own);
    let unconfined = processes.iter().filter(|process| is_unconfined(proc, process));
    for process in rooted.chain(unconfined).chain(processes) {
        let Ok(bytes) = proc.read(process.pid, "mountinfo") else { continue };
        if bytes.is_empty() {
            continue;
        }
        let parsed = mountinfo::parse(&bytes);
        if parsed.malformed > 0 {
            found.missing.push(format!(
                "{} lines of {} are not in the format of proc(5)",
                parsed.malformed,
                proc.file(process.pid, "mountinfo").display()
            ));
        }
        found.all.push(Namespace {
            id,
            via: (ours != Some(id)).then_some(*process),
            seen_by: *process,
            mounts: MountTable::new(parsed),
        });
        return;
    }
    found
        .missing
        .push(format!("the mounts of namespace {} could not be read: its processes ended or refuse", id.0));
}

/// Whether the process sees its namespace from the top: one in a chroot is shown only what is below its root
/// (`proc_pid_mountinfo(5)`).
fn is_unconfined(proc: &Proc, process: &ProcId) -> bool {
    proc.link(process.pid, "root").is_ok_and(|root| root == b"/")
}
