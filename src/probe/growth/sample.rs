//! One look at what file systems hold and what processes have written.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

use super::super::Context;
use super::super::filesystems::{mount_id, needs_child, superblocks};
use crate::domain::identity::{DevId, DevIno, FileKind, MountId, ProcId};
use crate::domain::size::Bytes;
use crate::domain::snapshot::FsClass;
use crate::domain::text::{HostPath, HostText};
use crate::sys::mount_table::MountTable;
use crate::sys::procfs::{Proc, ProcError, Stat};
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
    pub(super) fn everything(&mut self) -> Result<Sample, String> {
        self.look(None)
    }

    /// Looks at all processes, and at what those have open that wrote since a sample.
    ///
    /// # Errors
    /// A sentence that says why processes cannot be read.
    pub(super) fn after(&mut self, before: &Sample) -> Result<Sample, String> {
        self.look(Some(before))
    }

    fn look(&mut self, before: Option<&Sample>) -> Result<Sample, String> {
        let mut sample = Sample {
            at: Instant::now(),
            filesystems: self.filesystems(),
            processes: HashMap::new(),
            asked: 0,
            refused: 0,
            cut_short: false,
        };
        for pid in self.proc.pids().map_err(|error| error.to_string())? {
            if Instant::now() >= self.until {
                sample.cut_short = true;
                break;
            }
            let Ok(stat) = self.proc.stat(pid) else { continue };
            if stat.is_dead() {
                continue;
            }
            sample.asked += 1;
            match self.process(&stat, before.and_then(|before| before.processes.get(&stat.id()))) {
                Ok(process) => drop(sample.processes.insert(stat.id(), process)),
                Err(error) if error.is_denied() => sample.refused += 1,
                // It ended meanwhile.
                Err(_) => {}
            }
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

    fn process(&self, stat: &Stat, before: Option<&ProcSample>) -> Result<ProcSample, ProcError> {
        let at = Instant::now();
        let io = self.proc.io(stat.pid)?;
        let mut now = ProcSample {
            at,
            name: stat.comm.clone(),
            written: io.written,
            handed_over: io.handed_over,
            files: BTreeMap::new(),
        };
        match before {
            // Who wrote nothing since made no file grow: its files are as they were.
            Some(before) if (before.written, before.handed_over) == (now.written, now.handed_over) => {
                now.files.clone_from(&before.files);
            }
            _ if stat.is_kernel_thread() => {}
            _ => self.files(stat, &mut now.files),
        }
        Ok(now)
    }

    fn files(&self, process: &Stat, files: &mut BTreeMap<DevIno, FileSample>) {
        for fd in self.proc.descriptors(process.pid).unwrap_or_default() {
            let link = format!("fd/{fd}");
            let path = self.proc.file(process.pid, &link);
            let at = Instant::now();
            // No server is asked.
            let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
            let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::INO | StatxFlags::MNT_ID;
            let Ok(stat) = statx(CWD, &path, flags, mask) else { continue };
            if file_id::kind_of(stat.stx_mode) != FileKind::File
                || !self.is_local(&stat)
                || !is_writable(&path)
            {
                continue;
            }
            let mount = mount_of(&stat);
            files.entry(file_id::dev_ino(&stat)).or_insert_with(|| FileSample {
                at,
                fd,
                path: HostPath::from_bytes(self.proc.link(process.pid, &link).unwrap_or_default()),
                mount,
                size: stat.stx_size,
            });
        }
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

/// Whether a descriptor is open for writing: the link has a mode that says so (`proc_pid_fd(5)`).
fn is_writable(link: &std::path::Path) -> bool {
    statx(CWD, link, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::MODE)
        .is_ok_and(|stat| u32::from(stat.stx_mode) & libc::S_IWUSR != 0)
}
