//! Who can write to a file, and where in it: asked of every thread of every process.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::mount_table::MountTable;
use super::process_dir::{self, ProcessDir, Scratch, is_refused};
use super::procfs::{Proc, parse_maps, parse_open_flags, parse_position};
use super::{file_id, raw};
use crate::domain::identity::{DevIno, Pid, ProcId};
use crate::domain::text::HostText;

/// How long looking at all processes may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a process writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// At its end, wherever that is by then (`O_APPEND`).
    Appends,
    /// At this offset, and on from there.
    At(u64),
    /// At this offset; it reads as well, like a program that copies a log and then cuts it.
    ReadsAndWritesAt(u64),
    /// Anywhere: it has it mapped.
    Mapped,
}

/// One way in which one process can write to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// Which process.
    pub process: ProcId,
    /// Its name (`comm`).
    pub name: HostText,
    /// How it writes.
    pub way: Way,
}

#[derive(Default)]
struct Part {
    found: Vec<Writing>,
    refused: bool,
}

/// Every descriptor and mapping that other processes can write to a file through.
///
/// # Errors
/// That this cannot be said of every process, as a sentence.
pub fn of(proc: &Proc, key: DevIno) -> Result<Vec<Writing>, String> {
    let mut pids = proc.pids().map_err(|error| format!("nobody can say who writes to it: {error}"))?;
    let ours = proc.self_pid();
    pids.retain(|pid| Some(*pid) != ours);
    // kcmp(2) takes numbers of our own pid namespace.
    let same_numbers = ours == i32::try_from(std::process::id()).ok().map(Pid);
    let until = Some(Instant::now() + PATIENCE);
    let (parts, all) = process_dir::for_all(&pids, until, Part::default, |part, pid, scratch| {
        process(proc, part, (pid, same_numbers), key, scratch);
    });
    // As for what is in use (`super::holders`): root may look at every process but those with more capabilities.
    let root = rustix::process::geteuid().is_root();
    let hidden = !root && proc.own_mountinfo().map_or(true, |own| MountTable::new(own).hides_processes());
    if !all || hidden || (!root && parts.iter().any(|part| part.refused)) {
        return Err("not every process could be asked where it writes to it; run unwedge as root".to_owned());
    }
    Ok(parts.into_iter().flat_map(|part| part.found).collect())
}

fn process(
    proc: &Proc,
    part: &mut Part,
    (pid, same_numbers): (Pid, bool),
    key: DevIno,
    scratch: &mut Scratch,
) {
    let Ok(first) = ProcessDir::open(proc, pid) else { return };
    let Some(stat) = first.stat(scratch).filter(|stat| !stat.is_kernel_thread() && !stat.is_dead()) else {
        return;
    };
    let mut listed: Option<Pid> = None;
    if !stat.has_first_thread_ended() {
        ways(part, &first, (stat.id(), &stat.comm), key, scratch, true);
        listed = Some(pid);
    }
    if stat.threads <= 1 {
        return;
    }
    // Threads share their memory always, descriptors nearly always (clone(2)).
    for tid in proc.threads(pid).unwrap_or_default().into_iter().filter(|tid| *tid != pid) {
        if listed.is_some_and(|known| same_numbers && raw::share_descriptors(known.0, tid.0)) {
            continue;
        }
        let Ok(dir) = ProcessDir::open(proc, tid) else { continue };
        ways(part, &dir, (stat.id(), &stat.comm), key, scratch, listed.is_none());
        listed = listed.or(Some(tid));
    }
}

fn ways(
    part: &mut Part,
    dir: &ProcessDir,
    (process, name): (ProcId, &HostText),
    key: DevIno,
    scratch: &mut Scratch,
    with_memory: bool,
) {
    let mut descriptors = Vec::new();
    let listed = dir.descriptors(scratch, |open| {
        if file_id::dev_ino(&open.stat) == key {
            descriptors.push(open.fd);
        }
    });
    part.refused |= listed.is_err_and(is_refused);
    let mut found = HashSet::new();
    for fd in descriptors {
        // One that fails was closed meanwhile.
        let Ok(info) = dir.read(format!("fdinfo/{fd}"), scratch) else { continue };
        found.extend(way(info));
    }
    if with_memory && let Ok(maps) = dir.read("maps", scratch) {
        let mappings: Vec<_> = parse_maps(maps).into_iter().filter(|one| one.writes_to_file).collect();
        let mapped = mappings.iter().any(|mapping| {
            // The device in maps is not always that of stat(2); if the link may not be followed it has to do.
            dir.target(&format!("map_files/{}", mapping.range))
                .map_or(mapping.key, |stat| file_id::dev_ino(&stat))
                == key
        });
        found.extend(mapped.then_some(Way::Mapped));
    }
    part.found.extend(found.into_iter().map(|way| Writing { process, name: name.clone(), way }));
}

/// How a descriptor writes, by its `fdinfo`; none if it only reads. One whose offset is not told may be anywhere.
fn way(info: &[u8]) -> Option<Way> {
    let flags = parse_open_flags(info).unwrap_or(libc::O_RDWR.unsigned_abs());
    let mode = flags & libc::O_ACCMODE.unsigned_abs();
    if mode == libc::O_RDONLY.unsigned_abs() {
        return None;
    }
    if flags & libc::O_APPEND.unsigned_abs() != 0 {
        return Some(Way::Appends);
    }
    let at = parse_position(info).unwrap_or(0);
    Some(if mode == libc::O_RDWR.unsigned_abs() { Way::ReadsAndWritesAt(at) } else { Way::At(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_offset_say_how_a_descriptor_writes() {
        let info = |flags: &str| format!("pos:\t4096\nflags:\t{flags}\nmnt_id:\t29\n").into_bytes();
        assert_eq!(way(&info("0100000")), None);
        assert_eq!(way(&info("0102001")), Some(Way::Appends));
        assert_eq!(way(&info("0100001")), Some(Way::At(4096)));
        assert_eq!(way(&info("0100002")), Some(Way::ReadsAndWritesAt(4096)));
        assert_eq!(way(b""), Some(Way::ReadsAndWritesAt(0)), "what is not known may be anything");
    }
}
