//! Memory that this process can take without harm to the machine: what the kernel can spare (`MemAvailable`, proc(5)),
//! and what its control groups leave it (cgroups(7)).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::domain::size::Bytes;

/// Where the kernel does not say.
const UNKNOWN: Bytes = Bytes(128 << 20);

/// Half of what can be spared: other programs want memory, too.
pub fn share() -> Bytes {
    Bytes(spare(Path::new("/")).unwrap_or(UNKNOWN).0 / 2)
}

/// What can be spared, as the files below `root` say: `proc` and `sys`. None where they do not.
pub fn spare(root: &Path) -> Option<Bytes> {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let machine = read(root.join("proc/meminfo")).and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.map(|kib: u64| kib.saturating_mul(1024));
    let groups = read(root.join("proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            group_left(&root.join("sys/fs/cgroup"), path, &V2)
        } else {
            let memory = controllers.split(',').any(|name| name == "memory");
            memory.then(|| group_left(&root.join("sys/fs/cgroup/memory"), path, &V1))?
        }
    });
    left.chain(machine).min().map(Bytes)
}

/// The files of a memory controller.
struct Files {
    limits: &'static [&'static str],
    used: &'static str,
    /// In `memory.stat`: what the kernel takes back first, page cache that was not used of late.
    cache: &'static str,
}

/// Documentation/admin-guide/cgroup-v2.rst.
const V2: Files =
    Files { limits: &["memory.max", "memory.high"], used: "memory.current", cache: "inactive_file" };
/// Documentation/admin-guide/cgroup-v1/memory.rst.
const V1: Files =
    Files { limits: &["memory.limit_in_bytes"], used: "memory.usage_in_bytes", cache: "total_inactive_file" };

/// What a group and those above it leave. None where none of them has a limit.
fn group_left(mounted: &Path, path: &str, files: &Files) -> Option<u64> {
    let path = Path::new(path.trim_start_matches('/'));
    let within = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    // In a container the path may be the host's, and its own group is what is mounted.
    let path = if within { path } else { Path::new("") };
    path.ancestors().filter_map(|group| left(&mounted.join(group), files)).min()
}

fn left(group: &Path, files: &Files) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    // "max" is no number, and no limit.
    let number = |name: &&str| read(name)?.trim().parse::<u64>().ok();
    let limit = files.limits.iter().filter_map(number).min()?;
    let used = number(&files.used)?;
    let cache = read("memory.stat").and_then(|text| field(&text, files.cache)).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

/// The number after a word at the start of a line.
fn field<T: FromStr>(text: &str, name: &str) -> Option<T> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "in a directory of its own")]
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4096 kB\n");

    #[test]
    fn without_groups_the_machine_decides() {
        assert_eq!(spare(machine(&[MEMINFO]).path()), Some(Bytes(4 << 20)));
        assert_eq!(spare(machine(&[]).path()), None);
        let root =
            machine(&[MEMINFO, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")]);
        assert_eq!(spare(root.path()), Some(Bytes(4 << 20)));
    }

    #[test]
    fn the_tightest_group_above_counts_less_what_it_uses() {
        let root = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.high", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "900000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 300000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "800000\n"),
            ("sys/fs/cgroup/a/b/memory.current", "100000\n"),
        ]);
        assert_eq!(spare(root.path()), Some(Bytes(400_000)));
    }

    #[test]
    fn the_older_groups_count_as_well() {
        let root = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/7f\n0::/x\n"),
            // In a container only the group itself is mounted.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "600000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 200000\n"),
        ]);
        assert_eq!(spare(root.path()), Some(Bytes(100_000)));
    }

    #[test]
    fn a_path_that_leads_out_is_not_followed() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/../../other\n"),
            ("other/memory.max", "1\n"),
            ("other/memory.current", "0\n"),
            ("sys/fs/cgroup/memory.max", "70\n"),
            ("sys/fs/cgroup/memory.current", "30\n"),
        ]);
        assert_eq!(spare(root.path()), Some(Bytes(40)));
    }
}
