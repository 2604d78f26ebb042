//! Limits of the whole machine: mounts, memory cgroups, open files, processes.

use super::{numbers, parse_numbers};
use crate::domain::limits::{Limit, LimitKind};
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::mount_table::MountTable;

/// Memory cgroups that the kernel has numbers for (`MEM_CGROUP_ID_MAX`, include/linux/memcontrol.h).
const MEMORY_CGROUPS: u64 = 65_535;

pub(super) fn look(context: &Context<'_>, table: &MountTable) -> Vec<Limit> {
    let machine = |kind, used, limit, source: &str| Limit {
        kind,
        of: HostText::default(),
        used,
        limit,
        source: source.to_owned(),
    };
    let mounts = numbers(context, "/proc/sys/fs/mount-max").and_then(|numbers| {
        let source = "/proc/self/mountinfo and /proc/sys/fs/mount-max";
        Some(machine(LimitKind::Mounts, table.entries().len() as u64, *numbers.first()?, source))
    });
    // Allocated, allocated but unused, at most (proc(5)).
    let files = numbers(context, "/proc/sys/fs/file-nr").and_then(|numbers| match numbers[..] {
        [allocated, unused, most] => Some(machine(
            LimitKind::OpenFiles,
            allocated.saturating_sub(unused),
            most,
            "/proc/sys/fs/file-nr",
        )),
        _ => None,
    });
    let cgroups = std::fs::read(context.environment.rooted("/proc/cgroups"))
        .ok()
        .and_then(|bytes| memory_cgroups(&bytes))
        .map(|used| machine(LimitKind::MemoryCgroups, used, MEMORY_CGROUPS, "/proc/cgroups"));
    [
        mounts,
        files,
        cgroups,
        tasks(context).map(|(used, most)| {
            machine(
                LimitKind::Tasks,
                used,
                most,
                "/proc/loadavg, /proc/sys/kernel/pid_max and /proc/sys/kernel/threads-max",
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The line of the memory controller: name, hierarchy, number of cgroups, enabled (cgroups(7)).
fn memory_cgroups(bytes: &[u8]) -> Option<u64> {
    let line = bytes.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"memory\t"))?;
    match parse_numbers(line)?[..] {
        [_, count, enabled] if enabled != 0 => Some(count),
        _ => None,
    }
}

/// Processes and threads there are, and may be.
fn tasks(context: &Context<'_>) -> Option<(u64, u64)> {
    let load = std::fs::read_to_string(context.environment.rooted("/proc/loadavg")).ok()?;
    // The fourth field: runnable/all (proc(5)).
    let used = load.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let most = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"]
        .into_iter()
        .filter_map(|path| numbers(context, path)?.first().copied())
        .min()?;
    Some((used, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_controller_is_found_among_the_others() {
        let text =
            b"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t9\t1\nmemory\t4\t24\t1\npids\t8\t1\t1\n";
        assert_eq!(memory_cgroups(text), Some(24));
        assert_eq!(memory_cgroups(b"memory\t0\t24\t0\n"), None);
        assert_eq!(memory_cgroups(b"memory\t0\n"), None);
        assert_eq!(memory_cgroups(b""), None);
    }
}
