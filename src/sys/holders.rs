//! Who has a file or directory in use, asked of every thread of every process.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Statx;

use super::mount_table::MountTable;
use super::process_dir::{self, ProcessDir, Scratch, is_refused};
use super::procfs::{Proc, parse_maps};
use super::{file_id, raw};
use crate::domain::identity::{DevId, DevIno, FileId, FileKind, Pid};
use crate::domain::text::{HostPath, sanitise};

/// How long looking at all processes may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What processes have open, mapped, run, or stand in.
pub struct Opened {
    /// One process that uses it, by file.
    pub users: HashMap<DevIno, Pid>,
    /// Files that are open with their paths, where that was asked for.
    files: Vec<OpenFile>,
    /// Whether every process could be looked at.
    pub all: bool,
}

impl Opened {
    /// Whether a process has this file or directory in use.
    ///
    /// # Errors
    /// That this cannot be said of every process, as a sentence.
    pub fn uses(&self, key: DevIno) -> Result<bool, String> {
        if self.users.contains_key(&key) {
            return Ok(true);
        }
        if self.all {
            return Ok(false);
        }
        Err("not every process could be asked whether it has it open; run unwedge as root".to_owned())
    }

    /// Who has a file, or files below a directory, open, as sentences; empty if nobody has. Processes that may not be asked
    /// do not count.
    pub fn by(&self, proc: &Proc, path: &Path, id: &FileId) -> Vec<String> {
        let name = |pid: Pid| match proc.stat(pid) {
            Ok(stat) => format!("{} (pid {pid})", sanitise(stat.comm.as_bytes())),
            Err(_) => format!("pid {pid}"),
        };
        if id.kind != FileKind::Directory {
            return self.users.get(&id.key).map(|pid| vec![name(*pid)]).unwrap_or_default();
        }
        let below = |file: &&OpenFile| file.dev == id.key.dev && file.path.starts_with(path);
        let mut holders: Vec<(Pid, &PathBuf)> =
            self.files.iter().filter(below).map(|file| (file.pid, &file.path)).collect();
        holders.sort();
        holders.dedup_by(|later, earlier| later.0 == earlier.0);
        holders
            .into_iter()
            .map(|(pid, file)| format!("{} ({})", name(pid), HostPath::from(file.as_path())))
            .collect()
    }
}

struct OpenFile {
    dev: DevId,
    path: PathBuf,
    pid: Pid,
}

#[derive(Default)]
struct Part {
    users: HashMap<DevIno, Pid>,
    files: Vec<OpenFile>,
    refused: bool,
}

impl Part {
    fn uses(&mut self, stat: &Statx, pid: Pid) {
        self.users.entry(file_id::dev_ino(stat)).or_insert(pid);
    }
}

/// Looks at every thread of every other process.
///
/// # Errors
/// A sentence: `/proc` cannot be listed.
pub fn opened(proc: &Proc, with_paths: bool) -> Result<Opened, String> {
    let ours = proc.self_pid();
    let mut pids = proc.pids().map_err(|error| format!("nobody can say what is in use: {error}"))?;
    pids.retain(|pid| Some(*pid) != ours);
    // kcmp(2) takes numbers of our own pid namespace.
    let same_numbers = ours == i32::try_from(std::process::id()).ok().map(Pid);
    let (parts, all) =
        process_dir::for_all(&pids, Some(Instant::now() + PATIENCE), Part::default, |part, pid, scratch| {
            process(proc, part, pid, scratch, with_paths, same_numbers);
        });
    // Root may look at every process but those with more capabilities than it was left (the first process of a container);
    // refusing for those would refuse always.
    let root = rustix::process::geteuid().is_root();
    let hidden = !root && proc.own_mountinfo().map_or(true, |own| MountTable::new(own).hides_processes());
    let mut found = Opened { users: HashMap::new(), files: Vec::new(), all: all && !hidden };
    for part in parts {
        found.users.extend(part.users);
        found.files.extend(part.files);
        found.all &= root || !part.refused;
    }
    Ok(found)
}

fn process(
    proc: &Proc,
    part: &mut Part,
    pid: Pid,
    scratch: &mut Scratch,
    with_paths: bool,
    same_numbers: bool,
) {
    let Ok(first) = ProcessDir::open(proc, pid) else { return };
    let Some(stat) = first.stat(scratch).filter(|stat| !stat.is_kernel_thread() && !stat.is_dead()) else {
        return;
    };
    let mut listed: Option<Pid> = None;
    if !stat.has_first_thread_ended() {
        thread(part, &first, pid);
        descriptors(part, &first, pid, scratch, with_paths);
        memory(part, &first, pid, scratch);
        listed = Some(pid);
    }
    if stat.threads <= 1 {
        return;
    }
    // Threads share their memory always, descriptors and directories nearly always (clone(2)).
    for tid in proc.threads(pid).unwrap_or_default().into_iter().filter(|tid| *tid != pid) {
        let Ok(dir) = ProcessDir::open(proc, tid) else { continue };
        thread(part, &dir, pid);
        if listed.is_none() {
            memory(part, &dir, pid, scratch);
        }
        if !listed.is_some_and(|known| same_numbers && raw::share_descriptors(known.0, tid.0)) {
            descriptors(part, &dir, pid, scratch, with_paths);
        }
        listed = listed.or(Some(tid));
    }
}

/// Where a thread stands, and what it runs.
fn thread(part: &mut Part, dir: &ProcessDir, pid: Pid) {
    for link in ["cwd", "root", "exe"] {
        if let Ok(stat) = dir.target(link) {
            part.uses(&stat, pid);
        }
    }
}

fn descriptors(part: &mut Part, dir: &ProcessDir, pid: Pid, scratch: &mut Scratch, with_paths: bool) {
    let listed = dir.descriptors(scratch, |open| {
        part.uses(&open.stat, pid);
        if with_paths && file_id::kind_of(open.stat.stx_mode) == FileKind::File && open.stat.stx_nlink > 0 {
            let path = PathBuf::from(OsStr::from_bytes(&open.path()));
            part.files.push(OpenFile { dev: file_id::dev_ino(&open.stat).dev, path, pid });
        }
    });
    part.refused |= listed.is_err_and(is_refused);
}

fn memory(part: &mut Part, dir: &ProcessDir, pid: Pid, scratch: &mut Scratch) {
    let Ok(maps) = dir.read("maps", scratch) else { return };
    let mut seen = HashSet::new();
    for mapping in parse_maps(maps) {
        // A program maps each of its files in several pieces.
        if !seen.insert((mapping.key, mapping.path.clone())) {
            continue;
        }
        // The device in maps is not always that of stat(2); where the link may not be followed it has to do.
        let key = dir
            .target(&format!("map_files/{}", mapping.range))
            .map_or(mapping.key, |stat| file_id::dev_ino(&stat));
        part.users.entry(key).or_insert(pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_files_are_not_looked_at() {
        let file = tempfile::tempfile().unwrap();
        let key = file_id::of_fd(&file).unwrap().key;
        assert!(!opened(&Proc::new("/proc"), false).unwrap().users.contains_key(&key));
    }
}
