//! Readers of `/proc`, given the directory that holds it so that a fixture can take its place.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::{Errno, read};

use super::file_id;
use super::mountinfo::{self, Parsed};
use crate::domain::identity::{CommandLine, DevIno, NamespaceId, Pid, ProcId};
use crate::domain::text::HostText;

/// Bit of `flags` in `/proc/PID/stat` that marks a kernel thread (`PF_KTHREAD`, include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// What the kernel adds to the path of a file without a name (`d_path`, `fs/d_path.c`). A file may really be named so;
/// only the link count decides.
pub const DELETED: &[u8] = b" (deleted)";

/// A path as the kernel shows it, without the mark of a file that has no name any more.
pub fn without_mark(mut path: Vec<u8>) -> Vec<u8> {
    if path.ends_with(DELETED) {
        path.truncate(path.len().saturating_sub(DELETED.len()));
    }
    path
}

/// A failed read, with the file it was about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct ProcError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl ProcError {
    /// Whether permission was refused, as against a process that ended.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether this kernel cannot tell.
    pub fn is_unsupported(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }

    /// Whether there is no such process any more: it is gone (ENOENT, ESRCH), or it is on its way out and has let go
    /// of what was asked for (EINVAL: `mounts_open_common` in `fs/proc_namespace.c`).
    pub fn is_gone(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EINVAL))
    }

    fn malformed(path: PathBuf) -> Self {
        Self { path, source: io::Error::new(io::ErrorKind::InvalidData, "not in the format of proc(5)") }
    }
}

/// What to do about processes that refuse to be looked into, as the end of a sentence.
pub fn how_to_look() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "even as root, because they have capabilities that this login lacks or live in a user namespace above it (capabilities(7))"
    } else {
        "run as root (sudo unwedge) to see them"
    }
}

/// The fields of `/proc/PID/stat` that are used here (`proc_pid_stat(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Pid, field 1.
    pub pid: Pid,
    /// Name, field 2: at most 15 bytes, any of them, parentheses and spaces included.
    pub comm: HostText,
    /// State letter, field 3 (`Z` zombie).
    pub state: u8,
    /// Parent, field 4.
    pub parent: Pid,
    /// Process group, field 5; 0 where it is of another pid namespace.
    pub group: Pid,
    /// Session, field 6: the pid of its leader, dead or alive.
    pub session: Pid,
    /// Controlling terminal, field 7; 0 for none.
    pub tty: i32,
    /// Kernel flags, field 9.
    pub flags: u64,
    /// CPU time in clock ticks of the process and of its children that have ended, fields 14 to 17.
    pub cpu_ticks: u64,
    /// Threads, field 20; the first one counts also after it has ended.
    pub threads: u64,
    /// Start time in clock ticks since boot, field 22.
    pub start: u64,
}

impl Stat {
    /// The identity of the process.
    pub fn id(&self) -> ProcId {
        ProcId { pid: self.pid, start: self.start }
    }

    /// Whether it is a thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it has ended and only waits to be reaped. One whose first thread has ended lives on in the others, and
    /// only they show what it uses.
    pub fn is_dead(&self) -> bool {
        self.has_first_thread_ended() && self.threads <= 1
    }

    /// Whether its first thread has ended: what `/proc/PID` shows beyond stat and status is empty then.
    pub fn has_first_thread_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Parses `/proc/PID/stat`. The name is in parentheses and can itself hold any of them: it ends at the last.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let comm = bytes.get(open.checked_add(1)?..close)?;
    let rest = std::str::from_utf8(bytes.get(close.checked_add(1)?..)?).ok()?;
    // Field 3 is the first after the name.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| number.checked_sub(3).and_then(|index| fields.get(index)).copied();
    // The times of children are signed.
    let ticks = |number| field(number)?.parse::<i64>().ok().map(|ticks| u64::try_from(ticks).unwrap_or(0));
    let cpu = [ticks(14)?, ticks(15)?, ticks(16)?, ticks(17)?];
    Some(Stat {
        pid: Pid(std::str::from_utf8(bytes.get(..open)?).ok()?.trim().parse().ok()?),
        comm: HostText::new(comm),
        state: *field(3)?.as_bytes().first()?,
        parent: Pid(field(4)?.parse().ok()?),
        group: Pid(field(5)?.parse().ok()?),
        session: Pid(field(6)?.parse().ok()?),
        tty: field(7)?.parse().ok()?,
        flags: field(9)?.parse().ok()?,
        cpu_ticks: cpu.into_iter().fold(0, u64::saturating_add),
        threads: field(20)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
    })
}

/// One line of `/proc/PID/maps` that maps a file (`proc_pid_maps(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The address range as written, which is also its name in `map_files`.
    pub range: HostText,
    /// Device and inode as the kernel's memory manager sees them; on btrfs the device is not that of stat(2).
    pub key: DevIno,
    /// The path, newlines escaped; ends in ` (deleted)` where it has no name any more (or is really named so).
    pub path: HostText,
    /// Whether what is written to the memory goes to the file: it is writable and shared.
    pub writes_to_file: bool,
}

/// Parses `/proc/PID/maps`, skipping what maps no file.
pub fn parse_maps(bytes: &[u8]) -> Vec<Mapping> {
    bytes.split(|&byte| byte == b'\n').filter_map(parse_mapping).collect()
}

/// Parses only the lines of `/proc/PID/maps` that end like that of a file without a name: most processes have none.
pub fn parse_deleted_maps(bytes: &[u8]) -> impl Iterator<Item = Mapping> {
    bytes.split(|&byte| byte == b'\n').filter(|line| line.ends_with(DELETED)).filter_map(parse_mapping)
}

fn parse_mapping(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let range = fields.next()?;
    let permissions = fields.next()?;
    let device = fields.nth(1)?;
    let ino: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    if ino == 0 {
        return None;
    }
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    let dev = crate::domain::identity::DevId {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
    };
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    Some(Mapping {
        range: HostText::new(range),
        key: DevIno { dev, ino: crate::domain::identity::Inode(ino) },
        path: HostText::new(mountinfo::unescape(path).into_owned()),
        writes_to_file: permissions.contains(&b'w') && permissions.contains(&b's'),
    })
}

/// The effective user in `/proc/PID/status` (`Uid:` real, effective, saved, file system).
pub fn parse_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What a process has written since it started (`/proc/PID/io`, `proc_pid_io(5)`), in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// Given to write(2) and its like, whatever that was on (`wchar`).
    pub handed_over: u64,
    /// That the kernel wrote or will write to devices for it: `write_bytes` less `cancelled_write_bytes`, which is
    /// what it had written to files before it truncated or removed them.
    pub written: u64,
}

/// Parses `/proc/PID/io`.
pub fn parse_io(bytes: &[u8]) -> Option<Io> {
    let number = |name: &[u8]| -> Option<u64> {
        let line = bytes.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        std::str::from_utf8(line).ok()?.trim().parse().ok()
    };
    let cancelled = number(b"cancelled_write_bytes:")?;
    Some(Io { handed_over: number(b"wchar:")?, written: number(b"write_bytes:")?.saturating_sub(cancelled) })
}

/// The arguments in `/proc/PID/cmdline` (`proc_pid_cmdline(5)`).
pub fn parse_arguments(cmdline: &[u8]) -> Vec<Vec<u8>> {
    // Programs that rewrite their title leave a tail of NULs.
    let end = cmdline.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
    let used = cmdline.get(..end).unwrap_or_default();
    if used.is_empty() {
        return Vec::new();
    }
    used.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// The path in `/proc/PID/cgroup` that says most: lines are `id:controllers:path`; version 2 has `0::path`.
pub fn cgroup_path(bytes: &[u8]) -> HostText {
    let lines: Vec<(&[u8], &[u8])> = bytes
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            fields.next()?;
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    let of = |controllers: &[u8]| lines.iter().find(|(name, path)| *name == controllers && *path != b"/");
    let deepest = || lines.iter().max_by_key(|(_, path)| path.len());
    let found = of(b"").or_else(|| of(b"name=systemd")).or_else(deepest);
    HostText::new(found.map_or(&b""[..], |(_, path)| path))
}

/// The pid of a process in the innermost pid namespace it is in (`NSpid:` in `/proc/PID/status`); 1 marks the init
/// of a pid namespace.
pub fn parse_inner_pid(status: &[u8]) -> Option<i32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().last()?.parse().ok()
}

/// The mount id in `/proc/PID/fdinfo/N`.
pub fn parse_mount_id(fdinfo: &[u8]) -> Option<u32> {
    let line = fdinfo.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"mnt_id:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// The flags a file was opened with (`O_WRONLY`, `O_APPEND`), in `/proc/PID/fdinfo/N` (octal).
pub fn parse_open_flags(fdinfo: &[u8]) -> Option<u32> {
    let line = fdinfo.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"flags:"))?;
    u32::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 8).ok()
}

/// The offset that a descriptor reads or writes at next, in `/proc/PID/fdinfo/N`.
pub fn parse_position(fdinfo: &[u8]) -> Option<u64> {
    let line = fdinfo.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"pos:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// The process behind a pidfd, in `/proc/PID/fdinfo/N`.
pub fn parse_pidfd(fdinfo: &[u8]) -> Option<Pid> {
    let line = fdinfo.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Pid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok().map(Pid)
}

/// The whole of a file of `/proc`. These say that they are empty, and most have a few hundred bytes: with room for them
/// from the start it takes two reads, where `fs::read` feels its way in five.
fn whole(path: &Path) -> io::Result<Vec<u8>> {
    const ROOM: usize = 4096;
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (mut bytes, mut length) = (Vec::new(), 0);
    loop {
        bytes.resize(length + ROOM.max(length), 0);
        match read(&file, bytes.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// A `/proc` directory.
#[derive(Clone, Debug)]
pub struct Proc {
    dir: PathBuf,
}

impl Proc {
    /// Takes the directory: `/proc`, or a fixture.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// A file of a process.
    pub fn file(&self, pid: Pid, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(pid.to_string()).join(name)
    }

    /// Our own pid as this `/proc` shows it, which is another than getpid(2) gives if it was mounted in another pid
    /// namespace.
    pub fn self_pid(&self) -> Option<Pid> {
        fs::read_link(self.dir.join("self")).ok()?.to_str()?.parse().ok().map(Pid)
    }

    /// This program and everything that it descends from, nearest first: the shell, the terminal, this login's sshd,
    /// init. Ends early where a process may not be seen, and is empty where this `/proc` does not show us.
    pub fn ourselves(&self) -> Vec<Pid> {
        let mut line = Vec::new();
        let mut next = self.self_pid();
        // A ring cannot be, but a fixture may lie.
        while let Some(pid) = next.filter(|pid| pid.0 > 0 && !line.contains(pid)) {
            line.push(pid);
            next = self.stat(pid).ok().map(|stat| stat.parent);
        }
        line
    }

    /// A file of the thread that asks; of its process where the kernel is older than 3.17 or this is a fixture.
    /// Threads can be in other namespaces than the first thread of their process (setns(2)).
    pub fn own_file(&self, name: &str) -> PathBuf {
        let of_thread = self.dir.join("thread-self").join(name);
        if of_thread.symlink_metadata().is_ok() { of_thread } else { self.dir.join("self").join(name) }
    }

    /// The mountinfo file of the thread that asks.
    ///
    /// # Errors
    /// `/proc` is not mounted, or is that of another pid namespace.
    pub fn own_mountinfo(&self) -> Result<Parsed, ProcError> {
        let path = self.own_file("mountinfo");
        whole(&path).map(|bytes| mountinfo::parse(&bytes)).map_err(|source| ProcError { path, source })
    }

    /// The mount namespace of the thread that asks.
    ///
    /// # Errors
    /// `/proc` is not mounted, or is that of another pid namespace.
    pub fn own_mount_namespace(&self) -> Result<NamespaceId, ProcError> {
        namespace_at(self.own_file("ns/mnt"))
    }

    /// The pids of all processes, in order.
    ///
    /// # Errors
    /// Where the directory cannot be read: `/proc` is not mounted.
    pub fn pids(&self) -> Result<Vec<Pid>, ProcError> {
        let fail = |source| ProcError { path: self.dir.clone(), source };
        let mut pids = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                pids.push(Pid(pid));
            }
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// The threads of a process, the first one included. Each has a directory of its own by its number (`/proc/TID`,
    /// proc(5)), though no list shows that.
    ///
    /// # Errors
    /// The process ended.
    pub fn threads(&self, pid: Pid) -> Result<Vec<Pid>, ProcError> {
        let path = self.file(pid, "task");
        let fail = |source| ProcError { path: path.clone(), source };
        let mut threads = Vec::new();
        for entry in fs::read_dir(&path).map_err(fail)? {
            let Ok(entry) = entry else { break };
            threads.extend(entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid));
        }
        Ok(threads)
    }

    /// The directory itself, opened: it shows this machine also from inside another mount namespace.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(CWD, &self.dir, flags, Mode::empty())?)
    }

    /// The whole of a file of a process.
    ///
    /// # Errors
    /// What the system says: the process ended, or permission is refused.
    pub fn read(&self, pid: Pid, name: &str) -> Result<Vec<u8>, ProcError> {
        let path = self.file(pid, name);
        whole(&path).map_err(|source| ProcError { path, source })
    }

    /// State, parent, session and start time.
    ///
    /// # Errors
    /// The process ended, or the file is not as proc(5) says.
    pub fn stat(&self, pid: Pid) -> Result<Stat, ProcError> {
        parse_stat(&self.read(pid, "stat")?).ok_or_else(|| ProcError::malformed(self.file(pid, "stat")))
    }

    /// The effective user.
    ///
    /// # Errors
    /// The process ended, or the file is not as proc(5) says.
    pub fn uid(&self, pid: Pid) -> Result<u32, ProcError> {
        parse_uid(&self.read(pid, "status")?).ok_or_else(|| ProcError::malformed(self.file(pid, "status")))
    }

    /// The arguments; none for a kernel thread or a zombie.
    ///
    /// # Errors
    /// The process ended.
    pub fn arguments(&self, pid: Pid) -> Result<Vec<Vec<u8>>, ProcError> {
        self.read(pid, "cmdline").map(|bytes| parse_arguments(&bytes))
    }

    /// The command line as it is, for comparison.
    ///
    /// # Errors
    /// The process ended.
    pub fn command_line(&self, pid: Pid) -> Result<CommandLine, ProcError> {
        self.read(pid, "cmdline").map(CommandLine::new)
    }

    /// The process that a pidfd of ours stands for, as this `/proc` numbers it: -1 once it has ended
    /// (`pidfd_show_fdinfo`, fs/pidfs.c).
    ///
    /// # Errors
    /// `/proc` does not show us, or the file is not as `pidfd_open(2)` says.
    pub fn pid_of(&self, pidfd: impl AsFd) -> Result<Pid, ProcError> {
        let path = self.own_file(&format!("fdinfo/{}", pidfd.as_fd().as_raw_fd()));
        let bytes = whole(&path).map_err(|source| ProcError { path: path.clone(), source })?;
        parse_pidfd(&bytes).ok_or_else(|| ProcError::malformed(path))
    }

    /// The path of the executable as the kernel remembers it, without the ` (deleted)` that is added to one whose
    /// name is gone.
    ///
    /// # Errors
    /// The process ended, has no executable, or permission is refused.
    pub fn exe_path(&self, pid: Pid) -> Result<Vec<u8>, ProcError> {
        let path = self.file(pid, "exe");
        let target = fs::read_link(&path).map_err(|source| ProcError { path, source })?;
        Ok(without_mark(OsString::from(target).into_vec()))
    }

    /// Device and inode of the executable.
    ///
    /// # Errors
    /// The process ended, has no executable, or permission is refused.
    pub fn exe(&self, pid: Pid) -> Result<DevIno, ProcError> {
        self.target(pid, "exe")
    }

    /// Device and inode of what a link of a process (`exe`, `fd/3`, `map_files/RANGE`) leads to. No server is asked.
    ///
    /// # Errors
    /// The process ended, has no such link, or permission is refused.
    pub fn target(&self, pid: Pid, link: &str) -> Result<DevIno, ProcError> {
        let path = self.file(pid, link);
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        statx(CWD, &path, flags, StatxFlags::INO)
            .map(|stat| file_id::dev_ino(&stat))
            .map_err(|error| ProcError { path, source: error.into() })
    }

    /// The cgroup a person would name: the unified one, else systemd's, else the deepest (cgroups(7)). Empty where
    /// there is none.
    ///
    /// # Errors
    /// The process ended.
    pub fn cgroup(&self, pid: Pid) -> Result<HostText, ProcError> {
        self.read(pid, "cgroup").map(|bytes| cgroup_path(&bytes))
    }

    /// Device, inode and mount id of what a link of a process (`cwd`, `root`, `exe`) leads to. No server is asked.
    ///
    /// # Errors
    /// The process ended, or permission is refused.
    pub fn identity_of(&self, pid: Pid, link: &str) -> Result<(DevIno, u32), ProcError> {
        let path = self.file(pid, link);
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        match statx(CWD, &path, flags, StatxFlags::INO | StatxFlags::MNT_ID) {
            // Before Linux 5.8 the mount id is missing; 0 must not be taken for one.
            Ok(stat) if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 => {
                Err(ProcError { path, source: io::ErrorKind::Unsupported.into() })
            }
            Ok(stat) => Ok((file_id::dev_ino(&stat), u32::try_from(stat.stx_mnt_id).unwrap_or(u32::MAX))),
            Err(error) => Err(ProcError { path, source: error.into() }),
        }
    }

    /// The open descriptors, in order.
    ///
    /// # Errors
    /// The process ended, or permission is refused.
    pub fn descriptors(&self, pid: Pid) -> Result<Vec<i32>, ProcError> {
        let path = self.file(pid, "fd");
        let entries = fs::read_dir(&path).map_err(|source| ProcError { path: path.clone(), source })?;
        let mut fds = Vec::new();
        for entry in entries {
            // A process that ends while we read is as good as one without descriptors.
            let Ok(entry) = entry else { break };
            if let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                fds.push(fd);
            }
        }
        fds.sort_unstable();
        Ok(fds)
    }

    /// Where a link of a process leads, as the kernel prints it.
    ///
    /// # Errors
    /// The process ended, or permission is refused.
    pub fn link(&self, pid: Pid, name: &str) -> Result<Vec<u8>, ProcError> {
        let path = self.file(pid, name);
        match fs::read_link(&path) {
            Ok(target) => Ok(target.as_os_str().as_bytes().to_vec()),
            Err(source) => Err(ProcError { path, source }),
        }
    }

    /// The mount namespace of a process.
    ///
    /// # Errors
    /// The process ended, or permission is refused.
    pub fn mount_namespace(&self, pid: Pid) -> Result<NamespaceId, ProcError> {
        namespace_at(self.file(pid, "ns/mnt"))
    }

    /// Seconds since boot (`/proc/uptime`).
    ///
    /// # Errors
    /// It cannot be read, or is not as proc(5) says.
    pub fn uptime(&self) -> Result<f64, ProcError> {
        let path = self.dir.join("uptime");
        let text = fs::read_to_string(&path).map_err(|source| ProcError { path: path.clone(), source })?;
        text.split_ascii_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| ProcError::malformed(path))
    }
}

/// The namespace a link leads to. It reads `mnt:[4026531841]`; the number is the inode (namespaces(7)).
fn namespace_at(path: PathBuf) -> Result<NamespaceId, ProcError> {
    let link = fs::read_link(&path).map_err(|source| ProcError { path: path.clone(), source })?;
    link.to_str()
        .and_then(|text| text.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok())
        .map(NamespaceId)
        .ok_or_else(|| ProcError::malformed(path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_cancelled_is_not_written() {
        let io = b"rchar: 1\nwchar: 900\nsyscr: 1\nsyscw: 2\nread_bytes: 0\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n";
        assert_eq!(parse_io(io), Some(Io { handed_over: 900, written: 4096 }));
        assert_eq!(parse_io(b"wchar: 900\n"), None);
    }

    #[test]
    fn a_name_with_parentheses_spaces_and_newlines_does_not_shift_the_fields() {
        let mut line = b"812 (a) (b) R 1\n".to_vec();
        line.extend(b"\xff) S 1 812 700 34816 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10\n");
        let stat = parse_stat(&line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.session), (Pid(812), Pid(1), Pid(700)));
        assert_eq!((stat.tty, stat.start, stat.state), (34816, 98765, b'S'));
        assert_eq!(stat.cpu_ticks, 5 + 6 + 7 + 8);
        assert_eq!(stat.comm.as_bytes(), b"a) (b) R 1\n\xff");
        assert!(!stat.is_kernel_thread());
    }

    #[test]
    fn our_own_files_are_read() {
        let proc = Proc::new("/proc");
        let me = proc.self_pid().unwrap();
        assert_eq!(me.0.unsigned_abs(), std::process::id());
        let stat = proc.stat(me).unwrap();
        assert!(stat.start > 0 && !stat.is_dead());
        assert_eq!(proc.uid(me).unwrap(), rustix::process::geteuid().as_raw());
        assert_eq!(
            proc.exe(me).unwrap(),
            file_id::of_fd(std::fs::File::open(std::env::current_exe().unwrap()).unwrap()).unwrap().key
        );
        let arguments: Vec<Vec<u8>> = std::env::args_os().map(|arg| arg.as_bytes().to_vec()).collect();
        assert_eq!(proc.arguments(me).unwrap(), arguments);
        assert!(proc.descriptors(me).unwrap().contains(&2));
        assert!(proc.pids().unwrap().contains(&me));
        assert!(proc.mount_namespace(me).unwrap().0 > 0);
        assert_eq!(proc.own_mount_namespace().unwrap(), proc.mount_namespace(me).unwrap());
        let maps = parse_maps(&proc.read(me, "maps").unwrap());
        let exe = proc.exe_path(me).unwrap();
        assert!(maps.iter().any(|mapping| mapping.path.as_bytes() == exe));
    }

    #[test]
    fn we_are_our_own_ancestor_and_so_is_the_first_process() {
        let line = Proc::new("/proc").ourselves();
        assert_eq!(line[0].0.unsigned_abs(), std::process::id());
        assert_eq!(line.last(), Some(&Pid(1)));
        assert_eq!(Proc::new("/no/such").ourselves(), []);
    }

    #[test]
    fn an_error_names_the_file() {
        let error = Proc::new("/proc").stat(Pid(0)).unwrap_err();
        assert!(error.to_string().starts_with("/proc/0/stat: "), "{error}");
        assert!(!error.is_denied() && error.is_gone());
    }

    #[test]
    fn the_cgroup_that_says_most() {
        assert_eq!(cgroup_path(b"0::/system.slice/a.service\n"), "/system.slice/a.service".into());
        assert_eq!(
            cgroup_path(b"9:name=systemd:/user.slice\n4:memory:/longer/than/that\n0::/\n"),
            "/user.slice".into()
        );
        assert_eq!(cgroup_path(b"9:name=systemd:/\n4:memory:/x/y\n0::/\n"), "/x/y".into());
        assert_eq!(cgroup_path(b""), "".into());
    }

    #[test]
    fn mappings_of_files_only() {
        let maps = b"7f00-7f01 r--p 00000000 fd:02 1234                       /a b\\012c (deleted)\n\
                     7f02-7f03 rw-p 00000000 00:00 0                          [heap]\n";
        let found = parse_maps(maps);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path.as_bytes(), b"/a b\nc (deleted)");
        assert_eq!((found[0].key.dev.major, found[0].key.ino.0), (0xfd, 1234));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse_stat(&bytes);
            parse_maps(&bytes);
            parse_uid(&bytes);
            cgroup_path(&bytes);
            parse_inner_pid(&bytes);
            parse_mount_id(&bytes);
            parse_pidfd(&bytes);
        }

        #[test]
        fn any_name_is_read_back(comm in proptest::collection::vec(1u8..=255, 0..16), start: u64, threads in 0u64..4) {
            let mut line = b"7 (".to_vec();
            line.extend(&comm);
            line.extend(
                format!(") Z 2 3 4 5 6 2097152 8 9 10 11 12 13 14 15 16 17 {threads} 19 {start} 0").bytes(),
            );
            let stat = parse_stat(&line).unwrap();
            prop_assert_eq!(stat.comm.as_bytes(), &comm[..]);
            prop_assert_eq!(stat.start, start);
            prop_assert!(stat.has_first_thread_ended() && stat.is_kernel_thread());
            prop_assert_eq!(stat.is_dead(), threads <= 1);
        }
    }
}
