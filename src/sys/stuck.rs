//! Tells a thread of this program that a file system holds from one that works on.
//!
//! A server that stopped answering leaves its caller in one system call for good; no signal ends that wait, and neither
//! does KILL. What can be seen from outside is the call itself: `/proc/PID/task/TID/syscall` (proc(5), Linux 2.6.27)
//! shows its number, its arguments and the stack pointer, and they stay the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long one call may take before its thread counts as held. What waits longer on a disk of this machine is only
/// taken for held: nothing is ended because of this, see `tui::supervise`.
const HELD: Duration = Duration::from_millis(400);

/// Calls that wait for a file system. Others (futex, poll, wait4, nanosleep …) wait for something of ours.
const CALLS: [libc::c_long; 36] = [
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_faccessat,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lgetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_syncfs,
    libc::SYS_umount2,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
];

/// What the threads were in when they were looked at last.
#[derive(Debug, Default)]
pub struct Watch {
    seen: HashMap<String, (String, Instant)>,
}

impl Watch {
    /// Looks at every thread. Whether one of them has been in the same call of a file system for longer than `HELD`;
    /// false where that cannot be seen. Asks only `/proc`.
    pub fn held(&mut self) -> bool {
        let now = Instant::now();
        let mut seen = HashMap::new();
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        for task in tasks {
            let Ok(call) = std::fs::read_to_string(task.path().join("syscall")) else { continue };
            if !waits_for_files(&call) {
                continue;
            }
            let thread = task.file_name().to_string_lossy().into_owned();
            let since = match self.seen.get(&thread) {
                Some((before, since)) if *before == call => *since,
                Some(_) | None => now,
            };
            seen.insert(thread, (call, since));
        }
        self.seen = seen;
        self.seen.values().any(|(_, since)| now.duration_since(*since) >= HELD)
    }
}

fn waits_for_files(call: &str) -> bool {
    call.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .is_some_and(|number: libc::c_long| CALLS.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_of_a_file_system_counts() {
        let line = |number: libc::c_long| format!("{number} 0x3 0x7f67 0x0 0x0 0x0 0x0 0x7ffe 0x7f67\n");
        assert!(waits_for_files(&line(libc::SYS_unlinkat)));
        assert!(waits_for_files(&line(libc::SYS_getdents64)));
        assert!(!waits_for_files(&line(libc::SYS_futex)));
        assert!(!waits_for_files("running\n"));
        assert!(!waits_for_files("-1 0x7ffe 0x7f67\n"));
    }
}
