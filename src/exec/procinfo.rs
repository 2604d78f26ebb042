//! What tells one process from another, read from its directory in proc.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::domain::identity::{DevId, DevIno, Inode, Pid, ProcId};

/// `PF_KTHREAD` (include/linux/sched.h): a thread of the kernel.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields of `/proc/PID/stat` (proc(5)) that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter; `Z` is a process that has ended and waits for its parent.
    pub state: char,
    /// Its parent (field 4).
    pub parent: Pid,
    /// Whether it is a thread of the kernel (field 9).
    pub kernel: bool,
    /// When it started, in clock ticks since boot (field 22).
    pub start: u64,
}

/// The directory of a process.
pub fn dir(proc_root: &Path, pid: Pid) -> PathBuf {
    proc_root.join(pid.to_string())
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name in parentheses may hold anything, parentheses and newlines too: count from the last one.
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = Pid(fields.next()?.parse().ok()?);
    let flags: u64 = fields.nth(4)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    Some(Stat { state, parent, kernel: flags & PF_KTHREAD != 0, start })
}

/// Reads the stat file of a process.
///
/// # Errors
/// What reading says.
pub fn stat(proc_root: &Path, pid: Pid) -> std::io::Result<Stat> {
    let text = std::fs::read(dir(proc_root, pid).join("stat"))?;
    parse_stat(&text).ok_or_else(|| std::io::Error::other("its stat file makes no sense"))
}

/// Whether the process is still the one that was meant.
///
/// # Errors
/// Why not, as a sentence.
pub fn same(proc_root: &Path, id: ProcId) -> Result<Stat, String> {
    match stat(proc_root, id.pid) {
        Ok(now) if now.start == id.start => Ok(now),
        Ok(_) => Err(format!("{id} is another process now: the one that was shown has ended")),
        Err(error) => Err(format!("{id} cannot be looked at, it may have ended: {error}")),
    }
}

/// The executable of a process.
///
/// # Errors
/// What stat(2) says; a kernel thread has none.
pub fn exe(proc_root: &Path, pid: Pid) -> std::io::Result<DevIno> {
    std::fs::metadata(dir(proc_root, pid).join("exe")).map(|meta| key_of(&meta))
}

/// Device and inode of a file.
pub fn key_of(meta: &std::fs::Metadata) -> DevIno {
    let dev = meta.dev();
    DevIno {
        dev: DevId { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) },
        ino: Inode(meta.ino()),
    }
}

/// The cgroup paths of a process, one per hierarchy (cgroups(7)).
///
/// # Errors
/// What reading says.
pub fn cgroups(proc_root: &Path, pid: Pid) -> std::io::Result<Vec<Vec<u8>>> {
    let text = std::fs::read(dir(proc_root, pid).join("cgroup"))?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.splitn(3, |&byte| byte == b':').nth(2).map(<[u8]>::to_vec))
        .collect())
}

/// The effective user of a process: the owner of its directory in proc (proc(5)); of one that is not dumpable
/// that is root, so the status file is asked first.
///
/// # Errors
/// What reading says.
pub fn uid(proc_root: &Path, pid: Pid) -> std::io::Result<BTreeSet<u32>> {
    let text = std::fs::read(dir(proc_root, pid).join("status"))?;
    let line = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Uid:"))
        .ok_or_else(|| std::io::Error::other("its status file has no Uid line"))?;
    // Real, effective, saved and file system uid.
    Ok(String::from_utf8_lossy(line).split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// This process and everything above it.
pub fn ourselves(proc_root: &Path) -> Vec<Pid> {
    let mut line = Vec::new();
    let mut pid = Pid(i32::try_from(std::process::id()).unwrap_or(0));
    // A ring cannot be, but a fixture may lie.
    while pid.0 > 0 && !line.contains(&pid) {
        line.push(pid);
        match stat(proc_root, pid) {
            Ok(stat) => pid = stat.parent,
            Err(_) => break,
        }
    }
    line
}

/// The pids of all processes.
///
/// # Errors
/// Where proc cannot be read.
pub fn all(proc_root: &Path) -> std::io::Result<Vec<Pid>> {
    Ok(std::fs::read_dir(proc_root)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let text = b"12 (a) R 1 (x) S 7 1 1 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', parent: Pid(7), kernel: true, start: 4242 }));
        assert_eq!(parse_stat(b"12 (a"), None);
    }

    #[test]
    fn we_are_our_own_ancestor_and_so_is_the_first_process() {
        let line = ourselves(Path::new("/proc"));
        assert_eq!(line[0].0, i32::try_from(std::process::id()).unwrap());
        assert_eq!(line.last(), Some(&Pid(1)));
    }
}
