//! The mounts of every mount namespace that can be reached through a process.

use std::collections::BTreeMap;
use std::time::Instant;

use super::mount_table::MountTable;
use super::mountinfo::{self, Parsed};
use super::procfs::{Proc, ProcError, how_to_look};
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
    /// The one that the thread is in.
    ours: Option<NamespaceId>,
    /// What could not be read, as sentences.
    pub missing: Vec<String>,
    /// The first of these that is neither a lack of permission nor the end of a process.
    unsure: Option<String>,
    /// Whether the namespace of pid 1 could not be read. Not in `missing`: init keeps more capabilities than a login in
    /// many containers and virtual machines, and is in the namespace of others that can be read.
    pub init_refused: bool,
}

impl Namespaces {
    /// Our own namespace.
    pub fn ours(&self) -> Option<&Namespace> {
        self.all.iter().find(|namespace| Some(namespace.id) == self.ours)
    }

    /// All but our own.
    pub fn others(&self) -> impl Iterator<Item = &Namespace> {
        self.all.iter().filter(|namespace| Some(namespace.id) != self.ours)
    }

    /// Our own namespace, where everything was read that this login may read: nothing was cut short, failed or made
    /// no sense. What permission hides, and what no process lives in any more, does not count: refusing for those
    /// would refuse always.
    ///
    /// # Errors
    /// What is not known, as a sentence.
    pub fn whole(&self) -> Result<&Namespace, String> {
        match (&self.unsure, self.ours()) {
            (None, Some(ours)) => Ok(ours),
            (Some(why), _) => Err(format!("what is mounted where is not known: {why}")),
            (None, None) => {
                Err("what is mounted where is not known: our own mounts could not be read; is /proc \
                                 mounted? (mount -t proc proc /proc)"
                    .to_owned())
            }
        }
    }

    /// Makes the namespace ours that the thread has entered, with its mounts as they are now.
    ///
    /// # Errors
    /// It was not seen from outside.
    pub fn enter(&mut self, id: NamespaceId, mounts: MountTable) -> Result<(), String> {
        let entered = self
            .all
            .iter_mut()
            .find(|namespace| namespace.id == id)
            .ok_or_else(|| format!("mount namespace {} was not among those that could be read", id.0))?;
        entered.mounts = mounts;
        self.ours = Some(id);
        Ok(())
    }

    /// Notes what could not be read.
    fn unsure(&mut self, why: String) {
        self.unsure.get_or_insert_with(|| why.clone());
        self.missing.push(why);
    }
}

/// Reads the mounts of every reachable mount namespace once, our own (that of the calling thread) first. Stops at
/// `until` and says so.
pub fn read_all(proc: &Proc, until: Instant) -> Namespaces {
    let mut found = Namespaces::default();
    let pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => {
            found.unsure(format!("mount namespaces are not known: {error}"));
            return found;
        }
    };
    if let Err(error) = read_own(proc, &mut found) {
        found.unsure(format!("our own mounts could not be read: {error}"));
    }
    let mut others = members(proc, pids, until, &mut found);
    if let Some(ours) = found.ours {
        others.remove(&ours);
    }
    for (id, processes) in others {
        read_one(proc, id, &processes, until, &mut found);
    }
    found
}

fn read_own(proc: &Proc, found: &mut Namespaces) -> Result<(), ProcError> {
    let id = proc.own_mount_namespace()?;
    // What our process sees is wanted, not what another one does: that may be in a chroot.
    let parsed = proc.own_mountinfo()?;
    let seen_by = match proc.self_pid() {
        Some(pid) => proc.stat(pid)?.id(),
        None => ProcId::default(),
    };
    found.ours = Some(id);
    add(proc, id, None, seen_by, parsed, found);
    Ok(())
}

/// Takes in the mounts that a process sees.
fn add(
    proc: &Proc,
    id: NamespaceId,
    via: Option<ProcId>,
    seen_by: ProcId,
    parsed: Parsed,
    found: &mut Namespaces,
) {
    if let Some(gap) = parsed.gap(&proc.file(seen_by.pid, "mountinfo")) {
        found.unsure(gap);
    }
    found.all.push(Namespace { id, via, seen_by, mounts: MountTable::new(parsed) });
}

/// The processes of each namespace.
fn members(
    proc: &Proc,
    pids: Vec<Pid>,
    until: Instant,
    found: &mut Namespaces,
) -> BTreeMap<NamespaceId, Vec<ProcId>> {
    let (mut refused, mut asked) = (0u32, 0u32);
    let mut members: BTreeMap<NamespaceId, Vec<ProcId>> = BTreeMap::new();
    for pid in pids {
        if Instant::now() >= until {
            found.unsure("not all processes could be asked for their mount namespace in time".to_owned());
            break;
        }
        let stat = match proc.stat(pid) {
            Ok(stat) => stat,
            Err(error) => {
                if !error.is_gone() && !error.is_denied() {
                    found.unsure(error.to_string());
                }
                continue;
            }
        };
        if stat.is_kernel_thread() || stat.is_dead() {
            continue;
        }
        asked += 1;
        match proc.mount_namespace(pid) {
            Ok(id) => members.entry(id).or_default().push(stat.id()),
            Err(error) if error.is_denied() && pid == Pid(1) => found.init_refused = true,
            Err(error) if error.is_denied() => refused += 1,
            Err(error) if error.is_gone() => {}
            Err(error) => found.unsure(error.to_string()),
        }
    }
    if refused > 0 {
        found.missing.push(format!(
            "the mount namespaces of {refused} of {asked} processes could not be looked into: {}",
            how_to_look()
        ));
    }
    members
}

fn read_one(proc: &Proc, id: NamespaceId, processes: &[ProcId], until: Instant, found: &mut Namespaces) {
    if Instant::now() >= until {
        found.unsure(format!("the mounts of namespace {} could not be read in time", id.0));
        return;
    }
    let unconfined = processes.iter().filter(|process| is_unconfined(proc, process));
    let mut failed = None;
    for process in unconfined.chain(processes) {
        let bytes = match proc.read(process.pid, "mountinfo") {
            Ok(bytes) => bytes,
            Err(error) => {
                failed = failed.or_else(|| (!error.is_gone() && !error.is_denied()).then_some(error));
                continue;
            }
        };
        // One whose root directory lies on no mount that is left is shown none.
        if bytes.is_empty() {
            continue;
        }
        add(proc, id, Some(*process), *process, mountinfo::parse(&bytes), found);
        return;
    }
    match failed {
        Some(error) => found.unsure(format!("the mounts of namespace {} could not be read: {error}", id.0)),
        None => found.missing.push(format!(
            "the mounts of namespace {} could not be read: its processes ended or refuse",
            id.0
        )),
    }
}

/// Whether the process sees its namespace from the top: one in a chroot is shown only what is below its root
/// (`proc_pid_mountinfo(5)`).
fn is_unconfined(proc: &Proc, process: &ProcId) -> bool {
    proc.link(process.pid, "root").is_ok_and(|root| root == b"/")
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// Our namespace and others, numbered from 1, with these mountinfo files.
    pub(in crate::sys) fn namespaces(files: &[&str]) -> Namespaces {
        let all = (1..)
            .zip(files)
            .map(|(id, file)| Namespace {
                id: NamespaceId(id),
                via: None,
                seen_by: ProcId::default(),
                mounts: MountTable::new(mountinfo::parse(file.as_bytes())),
            })
            .collect();
        Namespaces { all, ours: Some(NamespaceId(1)), ..Namespaces::default() }
    }

    #[test]
    fn this_machine_is_read_and_nothing_is_unsure() {
        let proc = Proc::new("/proc");
        let found = read_all(&proc, Instant::now() + Duration::from_mins(1));
        let ours = found.whole().unwrap();
        assert_eq!(ours.id, proc.own_mount_namespace().unwrap());
        assert!(
            ours.via.is_none() && ours.mounts.entries().iter().any(|entry| entry.mount_point == "/".into())
        );
        assert!(found.others().all(|other| other.id != ours.id && other.via.is_some()));
    }

    #[test]
    fn what_was_cut_short_is_not_whole() {
        let found = read_all(&Proc::new("/proc"), Instant::now());
        assert!(found.whole().unwrap_err().contains("in time"), "{:?}", found.missing);
        assert!(read_all(&Proc::new("/no/such"), Instant::now()).whole().is_err());
    }

    #[test]
    fn the_namespace_that_was_entered_is_ours_and_ours_is_another() {
        let mut found = namespaces(&["1 0 8:1 / / rw - ext4 a rw\n", "2 0 8:2 / / rw - ext4 b rw\n"]);
        found.enter(NamespaceId(2), MountTable::default()).unwrap();
        assert!(found.ours().unwrap().mounts.entries().is_empty());
        assert_eq!(found.others().map(|other| other.id).collect::<Vec<_>>(), [NamespaceId(1)]);
        assert!(found.enter(NamespaceId(3), MountTable::default()).is_err());
    }
}
