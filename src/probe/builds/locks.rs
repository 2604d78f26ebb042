//! Locks of dpkg and apt, with who holds them.

use super::running::age_ticks;
use crate::domain::builds::{HeldLock, LockHolder};
use crate::domain::identity::Pid;
use crate::domain::redact;
use crate::domain::text::HostPath;
use crate::probe::{Context, busy};
use crate::sys::deadline::c_path;
use crate::sys::file_id;

/// The files that dpkg(1) and apt lock, by fcntl(2).
const LOCKS: [&str; 4] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
];

/// Those that are held now.
pub(super) fn look(context: &Context<'_>) -> Vec<HeldLock> {
    let locked = busy::locks(context);
    if locked.is_empty() {
        return Vec::new();
    }
    let held = LOCKS.into_iter().filter_map(|lock| {
        let path = context.environment.rooted(lock);
        let key = file_id::of_path(&c_path(&path).ok()?, false).ok()?.key;
        let pid = locked.get(&key)?;
        Some(HeldLock { path: HostPath::from(lock), holder: holder(context, *pid) })
    });
    held.collect()
}

fn holder(context: &Context<'_>, pid: Pid) -> Option<LockHolder> {
    let proc = context.proc();
    let stat = (pid.0 > 0).then(|| proc.stat(pid).ok())??;
    let ticks = age_ticks(&stat, proc.uptime().ok());
    Some(LockHolder {
        process: stat.id(),
        command: redact::command_line(&proc.arguments(pid).unwrap_or_default()),
        age_secs: ticks / rustix::param::clock_ticks_per_second().max(1),
        stopped: matches!(stat.state, b'T' | b't'),
    })
}
