//! Whether a path leads to a file system that may never answer, found without going there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::mount_table::MountTable;
use super::mountinfo::MountEntry;

/// Symbolic links followed, as the kernel does (`MAXSYMLINKS`, include/linux/namei.h).
const MAX_LINKS: u32 = 40;

/// What looking at a path, following symbolic links, would come across.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// Only file systems of this machine.
    Local,
    /// This mount first: it asks a server or a FUSE program, or it mounts something (autofs).
    Through(&'a MountEntry),
    /// That cannot be told: the mounts are not known, the path is relative, or its links go in circles.
    Unknown,
}

/// Whether looking at a path could hang or mount something.
pub fn may_hang(mounts: &MountTable, path: &Path) -> bool {
    !matches!(way(mounts, path), Way::Local)
}

/// What looking at a path would come across. Each component is looked at only after it is known to be on a file
/// system of this machine.
pub fn way<'a>(mounts: &'a MountTable, path: &Path) -> Way<'a> {
    if !path.is_absolute() || mounts.at(Path::new("/")).is_none() {
        return Way::Unknown;
    }
    if !mounts.any_may_hang() {
        return Way::Local;
    }
    let mut left: VecDeque<OsString> = components(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    loop {
        if let Some(entry) = mounts.risk_on_the_way(&at) {
            return Way::Through(entry);
        }
        let Some(name) = left.pop_front() else { return Way::Local };
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        if let Some(entry) = mounts.risk_on_the_way(&at) {
            return Way::Through(entry);
        }
        // What is not there, or no link, is gone on with; a missing one ends the walk at the next system call.
        if let Ok(target) = std::fs::read_link(&at) {
            links += 1;
            if links > MAX_LINKS {
                return Way::Unknown;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in components(&target).into_iter().rev() {
                left.push_front(part);
            }
        }
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    #[test]
    fn a_link_to_a_dead_server_is_seen_without_going_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        #[allow(clippy::disallowed_methods)]
        std::fs::create_dir(at("net")).unwrap();
        std::os::unix::fs::symlink("net/home", at("home")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let lines = format!(
            "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / {} rw - nfs4 s:/ rw\n",
            at("net").to_str().unwrap()
        );
        let table = MountTable::new(mountinfo::parse(lines.as_bytes()));
        assert!(may_hang(&table, &at("home/al/.ssh")));
        assert!(may_hang(&table, &at("net")));
        assert!(may_hang(&table, &at("loop")));
        assert!(!may_hang(&table, &at("missing/x")));
        assert!(may_hang(&table, Path::new("relative")));
        let local = MountTable::new(mountinfo::parse(b"1 0 8:1 / / rw - ext4 /dev/a rw\n"));
        assert!(!may_hang(&local, &at("home/al")));
    }
}
