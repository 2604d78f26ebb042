//! What is mounted at a path or below it, in any mount namespace.
//!
//! Removing a directory here silently detaches what another namespace has mounted on it (measured,
//! SAFETY.md T6; `vfs_rmdir` → `detach_mounts`, fs/namei.c). A path means another thing in another
//! namespace, so mount points are compared by where they are on their file system: the device and the path
//! from the file system's own root.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mount_namespaces::{self, Namespaces};
use super::mount_table::MountTable;
use super::mountinfo::MountEntry;
use super::procfs::Proc;
use crate::domain::identity::{DevId, MountId, NamespaceId};
use crate::domain::text::HostPath;

/// How long reading the mounts of all namespaces may take: nodes with thousands of containers need seconds. No server
/// is asked, so that it cannot hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mounts of every namespace, as they are now, those that no process is in included, for [`Below`].
pub fn read(proc: &Proc) -> Namespaces {
    let until = Instant::now() + PATIENCE;
    let mut found = mount_namespaces::read_all(proc, until);
    mount_namespaces::read_kept(proc, until, &mut found);
    found
}

/// What a mount has to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It is mounted at the path or below.
    On,
    /// It shows the path or something below it elsewhere: a bind mount, a volume of a container. Whoever uses that sees
    /// what becomes of the path.
    Source,
}

/// A mount that what is done to a path would reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The namespace, where it is not our own.
    pub elsewhere: Option<NamespaceId>,
    /// Where it is mounted, as its namespace sees it.
    pub point: HostPath,
    /// What it has to do with the path.
    pub how: How,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elsewhere, point, how } = self;
        match (how, elsewhere) {
            (How::On, None) => write!(f, "something is mounted at {point}; unmount it first"),
            (How::On, Some(namespace)) => write!(
                f,
                "in another mount namespace ({}) something is mounted on it, seen there as {point}; removing it would unmount \
                 that silently",
                namespace.0
            ),
            (How::Source, None) => {
                write!(
                    f,
                    "{point} shows it or a part of it (a bind mount) and would be empty; unmount that first"
                )
            }
            (How::Source, Some(namespace)) => write!(
                f,
                "in another mount namespace ({}, a container or a service) {point} shows it or a part of it and would be empty; \
                 end that first",
                namespace.0
            ),
        }
    }
}

/// The mounts of every namespace by the places they have to do with. There can be tens of thousands of mounts and as many
/// questions, so they are sorted once.
pub struct Below {
    ours: Result<MountTable, String>,
    /// Where something is mounted, and what is mounted elsewhere: device and path from the root of the file system.
    by_place: Vec<(DevId, PathBuf, Found)>,
    /// Where something is mounted by our own paths, or by those of a namespace that does not show what it is mounted on.
    by_path: Vec<(PathBuf, Found)>,
}

impl Below {
    /// Sorts them.
    pub fn new(namespaces: &Namespaces) -> Self {
        let mut below = Self {
            ours: namespaces.whole().map(|ours| ours.mounts.clone()),
            by_place: Vec::new(),
            by_path: Vec::new(),
        };
        let ours = namespaces.ours().into_iter().map(|ours| (ours, None));
        for (namespace, elsewhere) in ours.chain(namespaces.elsewhere().map(|other| (other, Some(other.id))))
        {
            for entry in namespace.mounts.entries() {
                below.add(&namespace.mounts, entry, elsewhere);
            }
        }
        below.by_place.sort();
        below.by_path.sort();
        below
    }

    fn add(&mut self, mounts: &MountTable, entry: &MountEntry, elsewhere: Option<NamespaceId>) {
        let root = Path::new("/");
        let found = |how| Found { elsewhere, point: entry.mount_point.clone(), how };
        let point = entry.mount_point.as_path();
        let seat = mounts.seat(entry);
        // A mount of our own that is reached by the path counts even where the places differ. Where the mount that it is
        // mounted on is out of sight, the path decides, which may refuse too much.
        if (elsewhere.is_none() || seat.is_none()) && point != root {
            self.by_path.push((point.to_path_buf(), found(How::On)));
        }
        if let Some((under, seat)) = seat {
            self.by_place.push((under.dev, seat, found(How::On)));
        }
        if let Some(source) = MountTable::source(entry).filter(|source| *source != root) {
            self.by_place.push((entry.dev, source.to_path_buf(), found(How::Source)));
        }
    }

    /// Our own mounts, where everything was read.
    ///
    /// # Errors
    /// What is not known, as a sentence.
    pub fn ours(&self) -> Result<&MountTable, String> {
        self.ours.as_ref().map_err(Clone::clone)
    }

    /// What is mounted at or below `path` (as our own namespace sees it, reached through the mount `on`), and what of it
    /// is mounted elsewhere; what is on it first, and of that our own mounts.
    ///
    /// # Errors
    /// A sentence, where the namespaces were not read whole or the place of the path on its file system cannot
    /// be told.
    pub fn at_or_below(&self, path: &Path, on: MountId) -> Result<Vec<Found>, String> {
        let ours = self.ours()?;
        let (dev, place) = ours
            .by_id(on.id)
            .and_then(|entry| Some((entry.dev, MountTable::inside(entry, path)?)))
            .ok_or_else(|| {
                format!(
                    "{} lies on {on}, which is not in our list of mounts (/proc/thread-self/mountinfo), so nobody can \
                     say what is mounted there",
                    HostPath::from(path)
                )
            })?;
        // A path comes right before all that is below it.
        let first = self.by_place.partition_point(|(other, there, _)| (*other, there) < (dev, &place));
        let by_place = self.by_place.get(first..).unwrap_or_default().iter();
        let by_place = by_place
            .take_while(|(other, there, _)| *other == dev && there.starts_with(&place))
            .map(|row| &row.2);
        let first = self.by_path.partition_point(|(there, _)| there.as_path() < path);
        let by_path = self.by_path.get(first..).unwrap_or_default().iter();
        let by_path = by_path.take_while(|(there, _)| there.starts_with(path)).map(|row| &row.1);
        let mut all: Vec<Found> = by_place.chain(by_path).cloned().collect();
        all.sort_by(|a, b| (a.how, a).cmp(&(b.how, b)));
        // A bind mount at the path both sits there and shows it.
        let mut seen = BTreeSet::new();
        all.retain(|one| seen.insert((one.elsewhere, one.point.clone())));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount_namespaces::tests::namespaces;

    const OWN: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        40 27 254:0 /src /mnt/a\\040b rw - ext4 /dev/vda rw\n\
        41 27 0:30 / /ro ro,nosuid shared:1 - tmpfs tmpfs rw\n";

    fn below(files: &[&str], path: &str, on: u32) -> Result<Vec<Found>, String> {
        Below::new(&namespaces(files)).at_or_below(Path::new(path), MountId { id: on, unique: None })
    }

    fn ours(point: &str) -> Found {
        Found { elsewhere: None, point: point.into(), how: How::On }
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
        let found = |point: &str, how| Found { elsewhere: Some(NamespaceId(2)), point: point.into(), how };
        let data = found("/data", How::On);
        assert_eq!(below(&both, "/srv/c/data", 27).unwrap(), std::slice::from_ref(&data));
        // Its root lies there too.
        assert_eq!(below(&both, "/srv", 27).unwrap(), [data, found("/", How::Source)]);
        assert_eq!(below(&both, "/data", 27).unwrap(), [], "their /data is not ours");
    }

    #[test]
    fn what_is_mounted_elsewhere_is_found_by_where_it_comes_from() {
        let theirs = "91 90 254:0 /data/vol /vol rw - ext4 /dev/vda rw\n\
                      92 90 254:0 /data/gone//deleted /gone rw - ext4 /dev/vda rw\n\
                      93 90 254:1 /data /other rw - ext4 /dev/vdb rw\n";
        let own = format!("{OWN}42 27 254:0 /data/home /home rw - ext4 /dev/vda rw\n");
        let both = [own.as_str(), theirs];
        let home = Found { elsewhere: None, point: "/home".into(), how: How::Source };
        let vol = Found { elsewhere: Some(NamespaceId(2)), point: "/vol".into(), how: How::Source };
        assert_eq!(below(&both, "/data", 27).unwrap(), [home.clone(), vol.clone()]);
        assert_eq!(below(&both, "/data/home", 27).unwrap(), [home]);
        assert_eq!(below(&both, "/data/vol", 27).unwrap(), [vol]);
        for path in ["/data/vol/x", "/data/volx", "/data/gone", "/data/home/al"] {
            assert_eq!(below(&both, path, 27).unwrap(), [], "{path}");
        }
        assert_eq!(below(&both, "/home/al", 42).unwrap(), [], "reached through the mount itself");
    }

    #[test]
    fn where_the_mount_underneath_is_out_of_sight_the_path_decides() {
        // In a chroot that is no mount point only what is below it is shown.
        let theirs = "91 90 0:9 / /data rw - tmpfs t rw\n";
        assert_eq!(below(&[OWN, theirs], "/data", 27).unwrap().len(), 1);
        assert_eq!(below(&[OWN, theirs], "/dat", 27).unwrap(), []);
    }
}
