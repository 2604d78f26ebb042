//! One look at what file systems hold and what processes have written.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{Statx, StatxFlags};

use super::super::Context;
use super::super::filesystems::{mount_id, needs_child, superblocks};
use crate::domain::identity::{DevId, DevIno, FileKind, MountId, Pid, ProcId};
use crate::domain::size::Bytes;
use crate::domain::snapshot::FsClass;
use crate::domain::text::{HostPath, HostText};
use crate::sys::mount_table::MountTable;
use crate::sys::process_dir::{self, ProcessDir, Scratch, is_refused};
use crate::sys::procfs::{Proc, parse_io};
use crate::sys::{file_id, fs_types, statvfs};

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When the look began.
    pub(super) at: Instant,
    /// Local file systems that can be written to.
    pub(super) filesystems: BTreeMap<DevId, FsSample>,
    pub(super) processes: HashMap<ProcId, ProcSample>,
    /// Processes asked for their counters.
    pub(super) asked: u32,
    /// Those that refused.
    pub(super) refused: u32,
    /// Whether time ran out.
    pub(super) cut_short: bool,
}

/// A file system at one moment, sizes in bytes.
#[derive(Clone, Debug)]
pub(super) struct FsSample {
    pub(super) at: Instant,
    pub(super) mount_point: HostPath,
    pub(super) mount: MountId,
    pub(super) used: u64,
    pub(super) available: Bytes,
}

/// A process at one moment, sizes in bytes since it started.
#[derive(Clone, Debug)]
pub(super) struct ProcSample {
    pub(super) at: Instant,
    pub(super) name: HostText,
    /// To devices.
    pub(super) written: u64,
    /// To write(2) and its like, whatever it is on.
    pub(super) handed_over: u64,
    /// Regular files on local file systems that it has open for writing.
    pub(super) files: BTreeMap<DevIno, FileSample>,
}

/// An open file at one moment.
#[derive(Clone, Debug)]
pub(super) struct FileSample {
    pub(super) at: Instant,
    pub(super) fd: i32,
    pub(super) path: HostPath,
    pub(super) mount: Option<u32>,
    pub(super) size: u64,
}

/// What one thread has seen of processes.
#[derive(Default)]
struct Part {
    processes: Vec<(ProcId, ProcSample)>,
    asked: u32,
    refused: u32,
}

/// Takes samples.
pub(super) struct Sampler<'a> {
    proc: Proc,
    table: &'a MountTable,
    /// Where to ask for the figures of each file system.
    places: Vec<(DevId, PathBuf, HostPath, MountId)>,
    until: Instant,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(context: &Context<'_>, table: &'a MountTable, until: Instant) -> Self {
        let places = superblocks(context, table)
            .into_iter()
            .map(|one| one.named)
            .filter(|entry| !entry.is_read_only() && !needs_child(table, entry))
            .map(|entry| {
                let place = context.environment.rooted(entry.mount_point.as_path());
                let mount = mount_id(entry, Some(&place));
                (entry.dev, place, entry.mount_point.clone(), mount)
            })
            .collect();
        Self { proc: context.proc(), table, places, until }
    }

    /// Looks at all processes, and at all that they have open.
    ///
    /// # Errors
    /// A sentence that says why processes cannot be read.
    pub(super) fn everything(&self) -> Result<Sample, String> {
        self.look(None)
    }

    /// Looks at all processes, and at what those have open that wrote since a sample.
    ///
    /// # Errors
    /// A sentence that says why processes cannot be read.
    pub(super) fn after(&self, before: &Sample) -> Result<Sample, String> {
        self.look(Some(before))
    }

    fn look(&self, before: Option<&Sample>) -> Result<Sample, String> {
        let at = Instant::now();
        let filesystems = self.filesystems();
        let pids = self.proc.pids().map_err(|error| error.to_string())?;
        let known: HashMap<Pid, (ProcId, &ProcSample)> = before
            .into_iter()
            .flat_map(|before| &before.processes)
            .map(|(id, process)| (id.pid, (*id, process)))
            .collect();
        let (parts, all) =
            process_dir::for_all(&pids, Some(self.until), Part::default, |part, pid, scratch| {
                self.process(part, pid, known.get(&pid).copied(), scratch);
            });
        let mut sample =
            Sample { at, filesystems, processes: HashMap::new(), asked: 0, refused: 0, cut_short: !all };
        for part in parts {
            sample.processes.extend(part.processes);
            sample.asked += part.asked;
            sample.refused += part.refused;
        }
        Ok(sample)
    }

    fn filesystems(&self) -> BTreeMap<DevId, FsSample> {
        let one = |(dev, place, mount_point, mount): &(DevId, PathBuf, HostPath, MountId)| {
            let at = Instant::now();
            // Local ones do not let anybody wait.
            let usage = *statvfs::usage_of(place, FsClass::Local, std::time::Duration::ZERO).value()?;
            let (used, available) = (usage.used().0, usage.available);
            Some((*dev, FsSample { at, mount_point: mount_point.clone(), mount: *mount, used, available }))
        };
        self.places.iter().filter_map(one).collect()
    }

    fn process(
        &self,
        part: &mut Part,
        pid: Pid,
        before: Option<(ProcId, &ProcSample)>,
        scratch: &mut Scratch,
    ) {
        let Ok(process) = ProcessDir::open(&self.proc, pid) else { return };
        let at = Instant::now();
        let io = process.read("io", scratch).map(parse_io);
        // Who wrote nothing since made no file grow: its files are as they were. Nor did another one that has its number by
        // now and has written just as much: most that is nothing.
        if let (Ok(Some(io)), Some((id, before))) = (io, before)
            && (before.written, before.handed_over) == (io.written, io.handed_over)
        {
            part.asked += 1;
            part.processes.push((id, ProcSample { at, ..before.clone() }));
            return;
        }
        let Some(stat) = process.stat(scratch).filter(|stat| !stat.is_dead()) else { return };
        part.asked += 1;
        let io = match io {
            Ok(Some(io)) => io,
            Err(error) if is_refused(error) => {
                part.refused += 1;
                return;
            }
            // It ended meanwhile.
            Ok(None) | Err(_) => return,
        };
        let files = if stat.is_kernel_thread() { BTreeMap::new() } else { self.files(&process, scratch) };
        let name = stat.comm.clone();
        let (written, handed_over) = (io.written, io.handed_over);
        part.processes.push((stat.id(), ProcSample { at, name, written, handed_over, files }));
    }

    fn files(&self, process: &ProcessDir, scratch: &mut Scratch) -> BTreeMap<DevIno, FileSample> {
        let mut files = BTreeMap::new();
        // What may not be looked at, or has ended meanwhile, has none that are known.
        let _ = process.descriptors(scratch, |open| {
            let at = Instant::now();
            if file_id::kind_of(open.stat.stx_mode) != FileKind::File
                || !self.is_local(&open.stat)
                || !open.is_writable()
            {
                return;
            }
            files.entry(file_id::dev_ino(&open.stat)).or_insert_with(|| FileSample {
                at,
                fd: open.fd,
                path: HostPath::from_bytes(open.path()),
                mount: mount_of(&open.stat),
                size: open.stat.stx_size,
            });
        });
        files
    }

    /// Whether growth of a file takes space of this machine. Files in memory that were never on a mounted file system
    /// (memfd) are on no mount that is shown.
    fn is_local(&self, stat: &Statx) -> bool {
        match mount_of(stat).and_then(|id| self.table.by_id(id)) {
            Some(entry) => {
                let fs_type = entry.fs_type.as_bytes();
                fs_types::holds_files(fs_type) && fs_types::classify(fs_type, entry.dev) == FsClass::Local
            }
            // Another mount namespace's: devices of disks are numbered, those of all else are not.
            None => stat.stx_dev_major != 0,
        }
    }
}

fn mount_of(stat: &Statx) -> Option<u32> {
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then(|| u32::try_from(stat.stx_mnt_id).ok()).flatten()
}
