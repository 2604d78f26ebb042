//! The mounts of every mount namespace that can be reached through a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::mount_table::MountTable;
use super::mountinfo::{self, Parsed};
use super::process_dir;
use super::procfs::{Proc, ProcError, how_to_look};
use super::raw::{self, Direction};
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
    /// Those that no process is in, but something else keeps: a bind mount of their file, or an open descriptor.
    /// Filled in by [`read_kept`].
    pub kept: Vec<Namespace>,
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

    /// All but our own, those that no process is in included.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Namespace> {
        self.others().chain(&self.kept)
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
    let mut others = members(proc, &pids, until, &mut found);
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

/// What one thread was told of namespaces.
#[derive(Default)]
struct Told {
    members: Vec<(NamespaceId, ProcId)>,
    asked: u32,
    refused: u32,
    init_refused: bool,
    unsure: Vec<String>,
}

/// The processes of each namespace, in the order of their numbers.
fn members(
    proc: &Proc,
    pids: &[Pid],
    until: Instant,
    found: &mut Namespaces,
) -> BTreeMap<NamespaceId, Vec<ProcId>> {
    let (parts, all) =
        process_dir::for_all(pids, Some(until), Told::default, |told, pid, _| process(proc, pid, told));
    if !all {
        found.unsure("not all processes could be asked for their mount namespace in time".to_owned());
    }
    let (mut refused, mut asked) = (0, 0);
    let mut members: BTreeMap<NamespaceId, Vec<ProcId>> = BTreeMap::new();
    for told in parts {
        asked += told.asked;
        refused += told.refused;
        found.init_refused |= told.init_refused;
        for why in told.unsure {
            found.unsure(why);
        }
        for (id, process) in told.members {
            members.entry(id).or_default().push(process);
        }
    }
    for processes in members.values_mut() {
        processes.sort_unstable();
    }
    if refused > 0 {
        found.missing.push(format!(
            "the mount namespaces of {refused} of {asked} processes could not be looked into: {}",
            how_to_look()
        ));
    }
    members
}

fn process(proc: &Proc, pid: Pid, told: &mut Told) {
    let stat = match proc.stat(pid) {
        Ok(stat) => stat,
        Err(error) => {
            if !error.is_gone() && !error.is_denied() {
                told.unsure.push(error.to_string());
            }
            return;
        }
    };
    if stat.is_kernel_thread() || stat.is_dead() {
        return;
    }
    told.asked += 1;
    let mut first = None;
    if !stat.has_first_thread_ended() {
        match proc.mount_namespace(pid) {
            Ok(id) => {
                first = Some(id);
                told.members.push((id, stat.id()));
            }
            Err(error) if error.is_denied() && pid == Pid(1) => told.init_refused = true,
            Err(error) if error.is_denied() => told.refused += 1,
            Err(error) if error.is_gone() => {}
            Err(error) => told.unsure.push(error.to_string()),
        }
    }
    if stat.threads > 1 {
        threads(proc, pid, first, told);
    }
}

/// The threads of a process that are in another namespace than its first one; all of them if that has ended.
fn threads(proc: &Proc, pid: Pid, first: Option<NamespaceId>, told: &mut Told) {
    let Ok(threads) = proc.threads(pid) else { return };
    for thread in threads.into_iter().filter(|thread| *thread != pid) {
        // One that refuses or has ended does so as its process does, which is counted there.
        let Ok(id) = proc.mount_namespace(thread) else { continue };
        if Some(id) != first
            && let Ok(stat) = proc.stat(thread)
        {
            told.members.push((id, stat.id()));
        }
    }
}

fn read_one(proc: &Proc, id: NamespaceId, processes: &[ProcId], until: Instant, found: &mut Namespaces) {
    if Instant::now() >= until {
        found.unsure(format!("the mounts of namespace {} could not be read in time", id.0));
        return;
    }
    let unconfined: Vec<&ProcId> = processes.iter().filter(|process| is_unconfined(proc, process)).collect();
    let mut failed = None;
    if unconfined.is_empty() && read_through_chroot(proc, id, processes, found) {
        return;
    }
    for process in unconfined.into_iter().chain(processes) {
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

/// Reads a namespace whose every process is in a chroot, and is shown only what is below its root, from its top. False where
/// nothing could be read at all.
fn read_through_chroot(proc: &Proc, id: NamespaceId, processes: &[ProcId], found: &mut Namespaces) -> bool {
    let mut refused = None;
    for process in processes {
        let Ok(file) = File::open(proc.file(process.pid, "ns/mnt")) else { continue };
        match inside(proc, &file) {
            Ok((seen, parsed)) if seen == id => {
                add(proc, id, Some(*process), *process, parsed, found);
                return true;
            }
            // The process is another one by now.
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
    }
    if let Some(error) = refused {
        let why = format!(
            "the processes of mount namespace {} are in a chroot and do not show all of its mounts, and it cannot be \
             entered: {error}",
            id.0
        );
        // Without root nobody may enter, and refusing for that would refuse always.
        if rustix::process::geteuid().is_root() { found.unsure(why) } else { found.missing.push(why) }
    }
    false
}

/// The mounts of a namespace as a process at its top sees them. A thread goes there and comes to its end there.
fn inside(proc: &Proc, namespace: &File) -> io::Result<(NamespaceId, Parsed)> {
    let id = NamespaceId(namespace.metadata()?.ino());
    // Our own /proc may be out of sight there.
    let dir = proc.open()?;
    let read = || -> io::Result<Vec<u8>> {
        // A thread that shares its working directory may not leave (setns(2)).
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat(&dir, c"thread-self/mountinfo", flags, Mode::empty())?);
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    let text = thread::scope(|scope| {
        let thread = thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, read)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread for it broke off")))
    })?;
    Ok((id, mountinfo::parse(&text)))
}

/// Reads the mounts of namespaces that no process is in. The kernel tells them all (Linux 6.12); before, those are found
/// whose file is mounted somewhere (`unshare --mount=FILE`).
pub fn read_kept(proc: &Proc, until: Instant, found: &mut Namespaces) {
    let known: BTreeSet<NamespaceId> = found.all.iter().map(|namespace| namespace.id).collect();
    for file in all_files(proc, &known).unwrap_or_else(|| mounted_files(found)) {
        let Ok(meta) = file.metadata() else { continue };
        let id = NamespaceId(meta.ino());
        if known.contains(&id) || found.kept.iter().any(|other| other.id == id) {
            continue;
        }
        if Instant::now() >= until {
            found.unsure(format!("the mounts of namespace {} could not be read in time", id.0));
            return;
        }
        match inside(proc, &file) {
            Ok((id, parsed)) if parsed.malformed == 0 => {
                let (via, seen_by, mounts) = (None, ProcId::default(), MountTable::new(parsed));
                found.kept.push(Namespace { id, via, seen_by, mounts });
            }
            other => {
                let why = match other {
                    Ok(_) => "its list is not in the format of proc(5)".to_owned(),
                    Err(error) => error.to_string(),
                };
                let why =
                    format!("the mounts of namespace {}, which no process is in, are not known: {why}", id.0);
                if rustix::process::geteuid().is_root() { found.unsure(why) } else { found.missing.push(why) }
            }
        }
    }
}

/// The files of all other mount namespaces that we may administer; none where the kernel cannot tell.
fn all_files(proc: &Proc, known: &BTreeSet<NamespaceId>) -> Option<Vec<File>> {
    /// More than any machine has; a bound for a kernel that goes in circles.
    const MOST: usize = 100_000;
    let own = File::open(proc.own_file("ns/mnt")).ok()?;
    let mut all = Vec::new();
    for direction in [Direction::Older, Direction::Newer] {
        let mut here = own.try_clone().ok()?;
        for _ in 0..MOST {
            match raw::next_mount_namespace(here.as_fd(), direction) {
                Ok(next) => {
                    here = File::from(next);
                    // Most have processes, and were read through those.
                    if !known.contains(&NamespaceId(here.metadata().ok()?.ino())) {
                        all.push(here.try_clone().ok()?);
                    }
                }
                Err(Errno::NOENT) => break,
                Err(_) => return None,
            }
        }
    }
    Some(all)
}

/// The files of mount namespaces that are mounted somewhere in our own.
fn mounted_files(found: &Namespaces) -> Vec<File> {
    let Some(ours) = found.ours() else { return Vec::new() };
    let entries = ours.mounts.entries().iter();
    let kept = entries.filter(|entry| {
        entry.fs_type.as_bytes() == b"nsfs"
            && entry.root.as_bytes().starts_with(b"mnt:[")
            && !ours.mounts.may_hang(entry.mount_point.as_path())
    });
    kept.filter_map(|entry| {
        let id = entry.root.as_bytes().strip_prefix(b"mnt:[")?.strip_suffix(b"]")?;
        let id: u64 = std::str::from_utf8(id).ok()?.parse().ok()?;
        let file = File::open(entry.mount_point.as_path()).ok()?;
        (file.metadata().ok()?.ino() == id).then_some(file)
    })
    .collect()
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
