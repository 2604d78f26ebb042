//! `pids.max` of cgroups, by the processes that are in them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::number;
use crate::domain::limits::{Limit, LimitKind};
use crate::domain::text::HostText;
use crate::probe::{Context, process_list};

/// Where the pids controller is mounted: cgroup v2, v2 beside v1, v1 (cgroups(7), systemd's choices).
const MOUNTED: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"];

/// Each cgroup with a process in it and its ancestors, as far as they have a limit.
pub(super) fn look(context: &Context<'_>) -> Vec<Limit> {
    let Ok(processes) = process_list::processes(context) else { return Vec::new() };
    // Most processes share theirs with others.
    let listed: BTreeSet<&[u8]> = processes.all().map(|process| process.cgroup.as_slice()).collect();
    let paths: BTreeSet<Vec<u8>> = listed.into_iter().flat_map(pids_cgroups).collect();
    let mut seen = BTreeSet::new();
    let mut limits = Vec::new();
    for path in paths {
        let mut at: &[u8] = &path;
        while at.len() > 1 && seen.insert(at.to_vec()) {
            limits.extend(limit(context, at));
            at = at
                .iter()
                .rposition(|&byte| byte == b'/')
                .and_then(|slash| at.get(..slash))
                .unwrap_or_default();
        }
    }
    limits
}

/// Paths in the hierarchy of the pids controller: v2 (`0::PATH`) or v1 (`N:pids:PATH`), see cgroups(7).
fn pids_cgroups(lines: &[u8]) -> Vec<Vec<u8>> {
    lines
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let ours = (number == b"0" && controllers.is_empty())
                || controllers.split(|&byte| byte == b',').any(|one| one == b"pids");
            // A path with ".." is outside our cgroup namespace (cgroup_namespaces(7)).
            let inside =
                path.starts_with(b"/") && !path.split(|&byte| byte == b'/').any(|part| part == b"..");
            (ours && inside).then(|| path.to_vec())
        })
        .collect()
}

fn limit(context: &Context<'_>, path: &[u8]) -> Option<Limit> {
    use std::os::unix::ffi::OsStrExt as _;
    let below = std::ffi::OsStr::from_bytes(path.strip_prefix(b"/")?);
    MOUNTED.into_iter().find_map(|mounted| {
        let dir: PathBuf = context.environment.rooted(mounted).join(below);
        // "max" is no number: no limit.
        let most = number(&dir.join("pids.max"))?;
        let used = number(&dir.join("pids.current"))?;
        let of = HostText::new(path);
        let source = format!("{mounted}{of}/pids.current and pids.max");
        Some(Limit { kind: LimitKind::CgroupTasks, of, used, limit: most, source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_the_controller_are_found_in_both_versions() {
        let lines = b"13:cpu,pids:/a/b\n0::/system.slice/x.service\n4:memory:/no\n0::/../out\nbad\n";
        assert_eq!(pids_cgroups(lines), [b"/a/b".to_vec(), b"/system.slice/x.service".to_vec()]);
    }
}
