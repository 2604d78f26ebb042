//! What is mounted at a path or below it, in any mount namespace.
//!
//! Removing a directory here silently detaches what another namespace has mounted on it (measured,
//! SAFETY.md T6; `vfs_rmdir` → `detach_mounts`, fs/namei.c). A path means another thing in another
//! namespace, so mount points are compared by where they are on their file system: the device and the path
//! from the file system's own root.

use std::path::Path;
use std::time::{Duration, Instant};

use super::mount_namespaces::{self, Namespaces};
use super::mount_table::MountTable;
use super::mountinfo::MountEntry;
use super::procfs::Proc;
use crate::domain::identity::{MountId, NamespaceId};
use crate::domain::text::HostPath;

/// How long reading the mounts of all namespaces may take: nodes with thousands of containers need seconds. No server
/// is asked, so that it cannot hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mounts of every namespace, as they are now, for [`at_or_below`].
pub fn read(proc: &Proc) -> Namespaces {
    mount_namespaces::read_all(proc, Instant::now() + PATIENCE)
}

/// A mount at or below a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The namespace, where it is not our own.
    pub elsewhere: Option<NamespaceId>,
    /// Where it is mounted, as its namespace sees it.
    pub point: HostPath,
}

/// What is mounted at or below `path` (as our own namespace sees it, reached through the mount `on`), our own
/// mounts first.
///
/// # Errors
/// A sentence, where the namespaces were not read whole or the place of the path on its file system cannot
/// be told.
pub fn at_or_below(namespaces: &Namespaces, path: &Path, on: MountId) -> Result<Vec<Found>, String> {
    let ours = namespaces.whole()?;
    let (dev, place) = ours
        .mounts
        .by_id(on.id)
        .and_then(|entry| Some((entry.dev, MountTable::inside(entry, path)?)))
        .ok_or_else(|| {
            format!(
                "{} lies on {on}, which is not in our list of mounts (/proc/thread-self/mountinfo), so nobody can \
                 say what is mounted there",
                HostPath::from(path)
            )
        })?;
    let root = Path::new("/");
    let hit = |mounts: &MountTable, entry: &MountEntry| match mounts.seat(entry) {
        Some((under, seat)) => under.dev == dev && seat.starts_with(&place),
        // The mount it is mounted on is out of sight: judge by the path, which may refuse too much.
        None => entry.mount_point.as_path() != root && entry.mount_point.as_path().starts_with(path),
    };
    let found = |entry: &MountEntry, elsewhere| Found { elsewhere, point: entry.mount_point.clone() };
    let mut all: Vec<Found> = ours
        .mounts
        .entries()
        .iter()
        // A mount of our own that is reached by the path counts even where the places differ.
        .filter(|entry| entry.mount_point.as_path().starts_with(path) || hit(&ours.mounts, entry))
        .map(|entry| found(entry, None))
        .collect();
    for other in namespaces.others() {
        let theirs = other.mounts.entries().iter().filter(|entry| hit(&other.mounts, entry));
        all.extend(theirs.map(|entry| found(entry, Some(other.id))));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount_namespaces::tests::namespaces;

    const OWN: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        40 27 254:0 /src /mnt/a\\040b rw - ext4 /dev/vda rw\n\
        41 27 0:30 / /ro ro,nosuid shared:1 - tmpfs tmpfs rw\n";

    fn below(files: &[&str], path: &str, on: u32) -> Result<Vec<Found>, String> {
        at_or_below(&namespaces(files), Path::new(path), MountId { id: on, unique: None })
    }

    fn ours(point: &str) -> Found {
        Found { elsewhere: None, point: point.into() }
    }

    #[test]
    fn a_mount_below_by_path_is_found_and_a_neighbour_is_not() {
        assert_eq!(below(&[OWN], "/mnt", 27).unwrap(), [ours("/mnt/a b")]);
        assert_eq!(below(&[OWN], "/mnt/a b", 40).unwrap(), [ours("/mnt/a b")]);
        assert_eq!(below(&[OWN], "/mnt/a", 27).unwrap(), []);
        assert!(below(&[OWN], "/x", 99).is_err());
        assert!(below(&[], "/x", 27).is_err());
    }

    #[test]
    fn a_mount_seen_through_a_bind_mount_of_ours_is_found() {
        let lines = format!("{OWN}42 27 0:31 / /src/sub/t rw - tmpfs t rw\n");
        assert_eq!(below(&[&lines], "/mnt/a b/sub", 40).unwrap(), [ours("/src/sub/t")]);
        assert_eq!(below(&[&lines], "/mnt/a b/su", 40).unwrap(), []);
    }

    #[test]
    fn another_namespace_is_compared_by_place_not_by_path() {
        // A container whose root is /srv/c of our disk has something mounted on its /data.
        let theirs = "90 89 254:0 /srv/c / rw - ext4 /dev/vda rw\n91 90 0:9 / /data rw - tmpfs t rw\n";
        let both = [OWN, theirs];
        let data = Found { elsewhere: Some(NamespaceId(2)), point: "/data".into() };
        for path in ["/srv/c/data", "/srv"] {
            assert_eq!(below(&both, path, 27).unwrap().as_slice(), std::slice::from_ref(&data), "{path}");
        }
        assert_eq!(below(&both, "/data", 27).unwrap(), [], "their /data is not ours");
    }

    #[test]
    fn where_the_mount_underneath_is_out_of_sight_the_path_decides() {
        // In a chroot that is no mount point only what is below it is shown.
        let theirs = "91 90 0:9 / /data rw - tmpfs t rw\n";
        assert_eq!(below(&[OWN, theirs], "/data", 27).unwrap().len(), 1);
        assert_eq!(below(&[OWN, theirs], "/dat", 27).unwrap(), []);
    }
}
