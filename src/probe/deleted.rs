//! Files without a name that processes keep open or mapped, and the space they still take.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::fs::{Statx, StatxFlags};

use super::Context;
use super::mounts::{all_namespaces, hidden_processes};
use crate::domain::identity::{DevId, DevIno, FileId, FileKind, Pid};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{DeletedFile, FsClass, Holder};
use crate::domain::text::{HostPath, HostText};
use crate::sys::mount_namespaces::Namespaces;
use crate::sys::process_dir::{self, ProcessDir, Scratch, is_refused};
use crate::sys::procfs::{DELETED, Mapping, Proc, Stat, how_to_look, parse_deleted_maps};
use crate::sys::{file_id, fs_types, nameless};

/// Finds deleted files that are still open, largest first.
pub fn look(context: &Context<'_>) -> Reading<Vec<DeletedFile>> {
    let until = Instant::now() + context.deadline();
    let proc = context.proc();
    let mut pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => return Reading::Unavailable { why: error.to_string() },
    };
    let (holders, namespaces) = thread::scope(|scope| {
        let holders = thread::Builder::new().spawn_scoped(scope, || holders(context, &proc, until));
        let namespaces = all_namespaces(context, until);
        (holders.ok().and_then(|holders| holders.join().ok()).flatten(), namespaces)
    });
    if let Some(holders) = holders {
        pids.retain(|pid| holders.contains(pid));
    }
    let places = Places::new(&namespaces);
    let mut missing: Vec<String> =
        namespaces.ours().and_then(|ours| hidden_processes(context, &ours.mounts)).into_iter().collect();
    let (parts, all) = process_dir::for_all(
        &pids,
        Some(until),
        || Search::new(&places),
        |search, pid, scratch| search.process(&proc, pid, scratch),
    );
    if !all {
        missing.push("not all processes could be looked into in time".to_owned());
    }
    let search = parts.into_iter().fold(Search::new(&places), Search::with);
    missing.extend(search.gaps());
    let mut files: Vec<DeletedFile> = search.found.into_values().collect();
    for file in &mut files {
        file.holders.sort_by_key(|holder| (holder.process.pid, holder.fd));
    }
    files.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| a.key.cmp(&b.key)));
    Reading::with_missing(files, missing)
}

/// The processes that are worth looking into, where the kernel tells; with none of these, all are looked into. Its
/// numbers of processes are of our own pid namespace, which is not always that of `/proc`.
fn holders(context: &Context<'_>, proc: &Proc, until: Instant) -> Option<BTreeSet<Pid>> {
    let environment = context.environment;
    let ours = i32::try_from(std::process::id()).ok().map(Pid);
    let may_ask = context.settings.deleted.bpf
        && environment.is_root()
        && environment.root == Path::new("/")
        && proc.self_pid() == ours;
    may_ask.then(|| nameless::holders(until)).flatten()
}

/// Which file systems hold files that take space here.
struct Places {
    /// By mount id; the ids are the same in all namespaces.
    mounts: HashMap<u32, bool>,
    /// By device, for files opened through a mount that was detached since.
    devices: HashSet<DevId>,
}

impl Places {
    fn new(namespaces: &Namespaces) -> Self {
        let mut places = Self { mounts: HashMap::new(), devices: HashSet::new() };
        for entry in namespaces.all.iter().flat_map(|namespace| namespace.mounts.entries()) {
            let fs_type = entry.fs_type.as_bytes();
            let counts =
                fs_types::holds_files(fs_type) && fs_types::classify(fs_type, entry.dev) == FsClass::Local;
            places.mounts.insert(entry.id, counts);
            if counts {
                places.devices.insert(entry.dev);
            }
        }
        places
    }

    /// Whether a deleted file takes space on a file system of this machine. Files in memory that were never on
    /// a mounted file system do not count: memfd, System V shared memory, `/dev/zero` live on a mount of the
    /// kernel's own (`shm_mnt`, mm/shmem.c) that no namespace shows.
    fn count(&self, stat: &Statx) -> bool {
        let by_mount = (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0)
            .then(|| u32::try_from(stat.stx_mnt_id).ok().and_then(|id| self.mounts.get(&id)))
            .flatten();
        let dev = file_id::dev_ino(stat).dev;
        by_mount.copied().unwrap_or_else(|| dev.major != 0 || self.devices.contains(&dev))
    }
}

/// What one thread has found.
struct Search<'p> {
    places: &'p Places,
    found: BTreeMap<DevIno, DeletedFile>,
    asked: u32,
    refused: u32,
    unsized_maps: u32,
}

/// A file without a name behind a descriptor.
struct Nameless {
    fd: i32,
    stat: Statx,
    path: Vec<u8>,
}

impl<'p> Search<'p> {
    fn new(places: &'p Places) -> Self {
        Self { places, found: BTreeMap::new(), asked: 0, refused: 0, unsized_maps: 0 }
    }

    /// Both together. They have looked at different processes.
    fn with(mut self, other: Self) -> Self {
        for (key, file) in other.found {
            match self.found.entry(key) {
                Entry::Vacant(slot) => {
                    slot.insert(file);
                }
                Entry::Occupied(mut slot) => slot.get_mut().holders.extend(file.holders),
            }
        }
        self.asked += other.asked;
        self.refused += other.refused;
        self.unsized_maps += other.unsized_maps;
        self
    }

    /// Most processes hold nothing of the kind: who they are is asked only of the others.
    fn process(&mut self, proc: &Proc, pid: Pid, scratch: &mut Scratch) {
        let Ok(process) = ProcessDir::open(proc, pid) else { return };
        let mut nameless = Vec::new();
        let places = self.places;
        let listed = process.descriptors(scratch, |open| {
            if is_nameless(&open.stat) && places.count(&open.stat) {
                nameless.push(Nameless { fd: open.fd, stat: open.stat, path: open.path() });
            }
        });
        match listed {
            Ok(()) => self.asked += 1,
            Err(error) if is_refused(error) => {
                let stat = process.stat(scratch);
                if stat.is_some_and(|stat| !stat.is_kernel_thread() && !stat.is_dead()) {
                    self.asked += 1;
                    self.refused += 1;
                }
            }
            // It ended meanwhile.
            Err(_) => return,
        }
        let mapped: Vec<Mapping> = match process.read("maps", scratch) {
            Ok(maps) if listed.is_ok() => parse_deleted_maps(maps).filter(is_candidate).collect(),
            _ => Vec::new(),
        };
        if nameless.is_empty() && mapped.is_empty() {
            return;
        }
        let Some(stat) = process.stat(scratch) else { return };
        for file in nameless {
            let Ok(id) = process.identity(&format!("fd/{}", file.fd)) else { continue };
            // It was closed meanwhile, and another one has its number.
            if id.key == file_id::dev_ino(&file.stat) && id.links == 0 {
                self.add(&stat, &file.stat, id, &file.path, Some(file.fd));
            }
        }
        self.mappings(&process, &stat, &mapped);
    }

    /// Files that are only mapped, and marks on holders that have the file mapped beside their descriptor.
    fn mappings(&mut self, dir: &ProcessDir, process: &Stat, mapped: &[Mapping]) {
        let mut seen: HashSet<DevIno> = HashSet::new();
        for mapping in mapped.iter().filter(|mapping| seen.insert(mapping.key)) {
            if let Ok(stat) = dir.target(&format!("map_files/{}", mapping.range)) {
                if is_nameless(&stat) && self.places.count(&stat) {
                    let id = dir.identity(&format!("map_files/{}", mapping.range)).unwrap_or_default();
                    self.mark_mapped(process, &stat, id, mapping);
                }
            } else if self.mark_known(process, mapping.key).is_none()
                && (mapping.key.dev.major != 0 || self.places.devices.contains(&mapping.key.dev))
            {
                // map_files needs CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
                self.unsized_maps += 1;
            }
        }
    }

    fn mark_mapped(&mut self, process: &Stat, stat: &Statx, id: FileId, mapping: &Mapping) {
        if self.mark_known(process, file_id::dev_ino(stat)).is_none() {
            self.add(process, stat, id, mapping.path.as_bytes(), None);
        }
    }

    /// Marks the descriptors through which the process holds a file as mapped; none where it holds it through none.
    fn mark_known(&mut self, process: &Stat, key: DevIno) -> Option<()> {
        let mut marked = None;
        for holder in
            self.found.get_mut(&key)?.holders.iter_mut().filter(|holder| holder.process == process.id())
        {
            holder.mapped = true;
            marked = Some(());
        }
        marked
    }

    fn add(&mut self, process: &Stat, stat: &Statx, id: FileId, path: &[u8], fd: Option<i32>) {
        let key = file_id::dev_ino(stat);
        let file = self.found.entry(key).or_insert_with(|| DeletedFile {
            key,
            id,
            last_path: HostPath::from_bytes(path.strip_suffix(DELETED).unwrap_or(path)),
            apparent: Bytes(stat.stx_size),
            // Blocks of statx(2) are 512 bytes whatever the file system uses.
            allocated: Bytes(stat.stx_blocks.saturating_mul(512)),
            holders: Vec::new(),
        });
        file.holders.push(Holder {
            process: process.id(),
            name: HostText::new(process.comm.as_bytes()),
            fd,
            mapped: fd.is_none(),
        });
    }

    fn gaps(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.refused > 0 {
            missing.push(format!(
                "{} of {} processes could not be looked into: {}",
                self.refused,
                self.asked,
                how_to_look()
            ));
        }
        if self.unsized_maps > 0 {
            missing.push(format!(
                "{} deleted files that are only mapped could not be sized: {}",
                self.unsized_maps,
                how_to_look()
            ));
        }
        missing
    }
}

fn is_nameless(stat: &Statx) -> bool {
    stat.stx_nlink == 0 && file_id::kind_of(stat.stx_mode) == FileKind::File
}

/// Whether a mapping may be of a deleted file on a mounted file system.
fn is_candidate(mapping: &Mapping) -> bool {
    let path = mapping.path.as_bytes();
    path.ends_with(DELETED)
        && path.starts_with(b"/")
        && !path.starts_with(b"/memfd:")
        && !path.starts_with(b"/SYSV")
        && !path.starts_with(b"/dev/zero")
}
