//! Files without a name that processes keep open or mapped, and the space they still take.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use rustix::io::Errno;

use super::Context;
use super::mounts::hidden_processes;
use crate::domain::identity::{DevId, DevIno, FileKind, Pid};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{DeletedFile, FsClass, Holder};
use crate::domain::text::{HostPath, HostText};
use crate::sys::mount_namespaces::{self, Namespaces};
use crate::sys::procfs::{DELETED, Mapping, Proc, Stat, how_to_look, parse_maps};
use crate::sys::{file_id, fs_types};

/// Finds deleted files that are still open, largest first.
pub fn look(context: &Context<'_>) -> Reading<Vec<DeletedFile>> {
    let until = Instant::now() + context.deadline();
    let proc = context.proc();
    let pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => return Reading::Unavailable { why: error.to_string() },
    };
    let namespaces = mount_namespaces::read_all(&proc, until);
    let mut search = Search {
        proc,
        places: Places::new(&namespaces),
        found: BTreeMap::new(),
        refused: 0,
        unsized_maps: 0,
        asked: 0,
    };
    let mut missing: Vec<String> =
        namespaces.ours().and_then(|ours| hidden_processes(context, &ours.mounts)).into_iter().collect();
    for pid in pids {
        if Instant::now() >= until {
            missing.push("not all processes could be looked into in time".to_owned());
            break;
        }
        search.process(pid);
    }
    missing.extend(search.gaps());
    let mut files: Vec<DeletedFile> = search.found.into_values().collect();
    files.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| a.key.cmp(&b.key)));
    Reading::with_missing(files, missing)
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

/// Permission to look into a process was refused.
#[derive(PartialEq, Eq)]
struct Refused;

struct Search {
    proc: Proc,
    places: Places,
    found: BTreeMap<DevIno, DeletedFile>,
    asked: u32,
    refused: u32,
    unsized_maps: u32,
}

impl Search {
    fn process(&mut self, pid: Pid) {
        let Ok(stat) = self.proc.stat(pid) else { return };
        if stat.is_kernel_thread() || stat.is_dead() {
            return;
        }
        self.asked += 1;
        match self.proc.descriptors(pid) {
            Ok(fds) => {
                // Listing them can be allowed where looking at them is not.
                if fds.into_iter().any(|fd| self.descriptor(&stat, fd) == Err(Refused)) {
                    self.refused += 1;
                    return;
                }
            }
            Err(error) if error.is_denied() => {
                self.refused += 1;
                return;
            }
            // It ended meanwhile.
            Err(_) => return,
        }
        self.mappings(&stat);
    }

    fn descriptor(&mut self, process: &Stat, fd: i32) -> Result<(), Refused> {
        let link = format!("fd/{fd}");
        // No server is asked.
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        match statx(CWD, self.proc.file(process.pid, &link), flags, MASK) {
            Ok(stat) => {
                if is_nameless(&stat) && self.places.count(&stat) {
                    let path = self.proc.link(process.pid, &link).unwrap_or_default();
                    self.add(process, &stat, &path, Some(fd));
                }
                Ok(())
            }
            Err(Errno::ACCESS | Errno::PERM) => Err(Refused),
            // It was closed meanwhile.
            Err(_) => Ok(()),
        }
    }

    /// Files that are only mapped, and marks on holders that have the file mapped beside their descriptor.
    fn mappings(&mut self, process: &Stat) {
        let Ok(bytes) = self.proc.read(process.pid, "maps") else { return };
        let mut seen: HashSet<DevIno> = HashSet::new();
        for mapping in parse_maps(&bytes) {
            if !is_candidate(&mapping) || !seen.insert(mapping.key) {
                continue;
            }
            let file = self.proc.file(process.pid, format!("map_files/{}", mapping.range));
            let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
            if let Ok(stat) = statx(CWD, &file, flags, MASK) {
                if is_nameless(&stat) && self.places.count(&stat) {
                    self.mark_mapped(process, &stat, &mapping);
                }
            } else if self.mark_known(process, mapping.key).is_none()
                && (mapping.key.dev.major != 0 || self.places.devices.contains(&mapping.key.dev))
            {
                // map_files needs CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
                self.unsized_maps += 1;
            }
        }
    }

    fn mark_mapped(&mut self, process: &Stat, stat: &Statx, mapping: &Mapping) {
        if self.mark_known(process, file_id::dev_ino(stat)).is_none() {
            self.add(process, stat, mapping.path.as_bytes(), None);
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

    fn add(&mut self, process: &Stat, stat: &Statx, path: &[u8], fd: Option<i32>) {
        let key = file_id::dev_ino(stat);
        let file = self.found.entry(key).or_insert_with(|| DeletedFile {
            key,
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

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

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
