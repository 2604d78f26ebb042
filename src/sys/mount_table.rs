//! The mounts of one namespace as a tree: which mount a path ends up on, and which mounts are covered by others.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::fs_types;
use super::mountinfo::{MountEntry, Parsed};
use crate::domain::identity::MountId;
use crate::domain::snapshot::FsClass;
use crate::domain::text::HostPath;

/// The mounts of one namespace.
#[derive(Clone, Debug)]
pub struct MountTable {
    entries: Vec<MountEntry>,
    /// Position by mount id.
    by_id: HashMap<u32, usize>,
    /// Position by parent id and mount point; no parent for those whose parent is not shown: the root, and in a
    /// chroot all that is mounted directly below it. The kernel mounts a second mount at a place on the
    /// first, so that there is one per pair.
    children: HashMap<(Option<u32>, Vec<u8>), usize>,
    /// Positions by parent id.
    mounted_on: HashMap<u32, Vec<usize>>,
    /// See [`Self::any_may_hang`].
    any_may_hang: bool,
}

impl Default for MountTable {
    fn default() -> Self {
        Self::new(Parsed::default())
    }
}

impl MountTable {
    /// Builds the tree.
    pub fn new(parsed: Parsed) -> Self {
        let entries = parsed.entries;
        let by_id: HashMap<u32, usize> =
            entries.iter().enumerate().map(|(index, entry)| (entry.id, index)).collect();
        let mut children = HashMap::with_capacity(entries.len());
        let mut mounted_on: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let parent =
                Some(entry.parent).filter(|parent| *parent != entry.id && by_id.contains_key(parent));
            if let Some(parent) = parent {
                mounted_on.entry(parent).or_default().push(index);
            }
            children.entry((parent, entry.mount_point.as_bytes().to_vec())).or_insert(index);
        }
        let mut table = Self { entries, by_id, children, mounted_on, any_may_hang: true };
        // Once: it is asked for every path, and there can be tens of thousands of mounts.
        table.any_may_hang = !table.knows_root() || table.entries.iter().any(is_risky);
        table
    }

    /// All mounts, in the kernel's order.
    pub fn entries(&self) -> &[MountEntry] {
        &self.entries
    }

    /// The mount with this id.
    pub fn by_id(&self, id: u32) -> Option<&MountEntry> {
        self.by_id.get(&id).and_then(|&index| self.entries.get(index))
    }

    /// Whether a mount can be written. Mount options are asked, not the file system: a dead server cannot hang this.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn writable(&self, mount: MountId) -> Result<(), String> {
        match self.by_id(mount.id) {
            Some(entry) if entry.is_read_only() => Err(format!(
                "the file system at {} is read-only; look into the kernel log for why",
                entry.mount_point
            )),
            Some(_) => Ok(()),
            None => Err(format!("{mount} is not mounted here any more")),
        }
    }

    /// The mount that an absolute path without symbolic links and `..` ends up on: what the kernel's path walk
    /// reaches, with the topmost of stacked mounts.
    pub fn at(&self, path: &Path) -> Option<&MountEntry> {
        self.on_the_way(path).last().flatten()
    }

    /// The mounts that a path without symbolic links and `..` leads through, one for `/` and one for each component.
    fn on_the_way<'s>(&'s self, path: &Path) -> impl Iterator<Item = Option<&'s MountEntry>> {
        let bytes = path.as_os_str().as_bytes();
        let ends = (2..=bytes.len()).filter(|&end| end == bytes.len() || bytes.get(end) == Some(&b'/'));
        let prefixes = ends.filter_map(|end| bytes.get(..end));
        std::iter::once(&b"/"[..]).chain(prefixes).scan(None, |current, prefix| {
            *current = self.topmost(*current, prefix);
            Some(*current)
        })
    }

    /// Follows mounts stacked at one place to the last.
    fn topmost<'a>(&'a self, mut current: Option<&'a MountEntry>, place: &[u8]) -> Option<&'a MountEntry> {
        // The bound is for a hostile table that goes in circles.
        for _ in 0..self.entries.len() {
            let next = self.children.get(&(current.map(|entry| entry.id), place.to_vec()));
            match next.and_then(|&index| self.entries.get(index)) {
                Some(entry) => current = Some(entry),
                None => break,
            }
        }
        current
    }

    /// Whether the root directory lies on a mount that is shown. It does not in a chroot to a directory that is
    /// no mount point, and nothing is known of the file system there.
    fn knows_root(&self) -> bool {
        self.at(Path::new("/")).is_some()
    }

    /// Whether `/proc` leaves out the processes of other users (`hidepid`, proc(5)). Root sees them all the same, as long as
    /// it may trace them.
    pub fn hides_processes(&self) -> bool {
        self.at(Path::new("/proc"))
            .and_then(|entry| entry.super_option(b"hidepid"))
            .is_some_and(|hidepid| hidepid != b"0" && hidepid != b"off")
    }

    /// Whether the mount is the one seen at its mount point, covered by no other.
    pub fn is_visible(&self, entry: &MountEntry) -> bool {
        self.at(entry.mount_point.as_path()).is_some_and(|top| top.id == entry.id)
    }

    /// How the file system at a path may behave. Without a table everything is taken for remote.
    pub fn class_at(&self, path: &Path) -> FsClass {
        self.at(path).map_or(FsClass::Remote, |entry| fs_types::classify(entry.fs_type.as_bytes(), entry.dev))
    }

    /// Whether there is any mount here that may never answer, or an automount.
    pub fn any_may_hang(&self) -> bool {
        self.any_may_hang
    }

    /// The first mount at or on the way to a path without symbolic links that could hang, or mount something: remote,
    /// FUSE or autofs. See [`super::safe_path`] for paths that may have links.
    pub fn risk_on_the_way(&self, path: &Path) -> Option<&MountEntry> {
        self.on_the_way(path).flatten().find(|entry| is_risky(entry))
    }

    /// Whether looking at a path without symbolic links could hang or mount something.
    pub fn may_hang(&self, path: &Path) -> bool {
        !self.knows_root() || self.risk_on_the_way(path).is_some()
    }

    /// Where a path lies inside its file system: the mount's root joined with the rest of the path. Two paths with
    /// the same device and the same place inside it name the same file, whatever mount shows it.
    pub fn inside(entry: &MountEntry, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(entry.mount_point.as_path()).ok()?;
        let mut inside = Self::root_of(entry).to_path_buf();
        if !below.as_os_str().is_empty() {
            inside.push(below);
        }
        Some(inside)
    }

    /// What of its file system a mount shows; none where that was removed.
    pub fn source(entry: &MountEntry) -> Option<&Path> {
        (!entry.root.as_bytes().ends_with(b"//deleted")).then(|| entry.root.as_path())
    }

    /// The directory on which a mount sits, as a place inside the file system that holds that directory.
    pub fn seat(&self, entry: &MountEntry) -> Option<(&MountEntry, PathBuf)> {
        let parent = self.by_id(entry.parent).filter(|parent| parent.id != entry.id)?;
        Some((parent, Self::inside(parent, entry.mount_point.as_path())?))
    }

    /// The mounts that sit on a mount, in the kernel's order.
    pub fn mounted_on(&self, id: u32) -> impl Iterator<Item = &MountEntry> {
        let of_it = self.mounted_on.get(&id).map_or(&[][..], Vec::as_slice);
        of_it.iter().filter_map(|&index| self.entries.get(index))
    }

    /// The mount that sits on another one at a mount point, the lowest where several are stacked there.
    pub fn first_at(&self, on: u32, point: &Path) -> Option<&MountEntry> {
        let index = self.children.get(&(Some(on), point.as_os_str().as_bytes().to_vec()))?;
        self.entries.get(*index)
    }

    /// Whether a mount shows the very directory that it sits on: mounted on itself it hides nothing and adds nothing.
    pub fn shows_its_seat(&self, entry: &MountEntry) -> bool {
        self.seat(entry).is_some_and(|(under, seat)| under.dev == entry.dev && seat == Self::root_of(entry))
    }

    /// What of the file system is mounted, without the mark for a directory that was removed.
    pub fn root_of(entry: &MountEntry) -> &Path {
        Self::root_of_path(&entry.root)
    }

    /// [`Self::root_of`], of the path in the list.
    pub fn root_of_path(root: &HostPath) -> &Path {
        let root = root.as_bytes();
        Path::new(OsStr::from_bytes(root.strip_suffix(b"//deleted").unwrap_or(root)))
    }

    /// Other paths that lead to the same file through another mount of its file system. `on` is the id of the mount
    /// that `path` was reached through. What is mounted on top may hide the file there.
    pub fn other_names<'t>(&'t self, path: &'t Path, on: u32) -> impl Iterator<Item = PathBuf> + 't {
        let place = self.by_id(on).and_then(|entry| Some((entry.dev, Self::inside(entry, path)?)));
        let mounts = self.entries.iter().filter(move |entry| entry.id != on);
        mounts
            .filter_map(move |entry| {
                let (_, place) = place.as_ref().filter(|(dev, _)| *dev == entry.dev)?;
                let below = place.strip_prefix(Self::root_of(entry)).ok()?;
                let point = entry.mount_point.as_path();
                Some(if below.as_os_str().is_empty() { point.to_path_buf() } else { point.join(below) })
            })
            .filter(move |name| name != path)
    }
}

fn is_risky(entry: &MountEntry) -> bool {
    let fs_type = entry.fs_type.as_bytes();
    fs_types::is_autofs(fs_type) || fs_types::classify(fs_type, entry.dev) != FsClass::Local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn table(lines: &str) -> MountTable {
        MountTable::new(mountinfo::parse(lines.as_bytes()))
    }

    fn at(table: &MountTable, path: &str) -> u32 {
        table.at(Path::new(path)).unwrap().id
    }

    #[test]
    fn paths_end_up_where_the_kernel_would_go() {
        let table = table(
            "1 0 8:1 / / rw - ext4 /dev/a rw\n\
             2 1 8:2 / /a/b rw - ext4 /dev/b rw\n\
             3 1 8:3 / /a rw - ext4 /dev/c rw\n\
             4 3 0:9 / /a/c rw - tmpfs t rw\n\
             5 4 0:10 / /a/c rw - tmpfs t rw\n",
        );
        assert_eq!(at(&table, "/"), 1);
        assert_eq!(at(&table, "/ab"), 1);
        assert_eq!(at(&table, "/a"), 3);
        // /a/b was mounted first and is covered by the mount on /a.
        assert_eq!(at(&table, "/a/b"), 3);
        assert_eq!(at(&table, "/a/c/x"), 5);
        let visible: Vec<u32> =
            table.entries().iter().filter(|entry| table.is_visible(entry)).map(|entry| entry.id).collect();
        assert_eq!(visible, [1, 3, 5]);
    }

    #[test]
    fn a_dead_server_on_the_way_may_hang() {
        let table = table(
            "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /net rw - nfs4 s:/ rw\n3 2 0:6 / /net/t rw - tmpfs t rw\n",
        );
        assert!(table.may_hang(Path::new("/net/t")));
        assert!(!table.may_hang(Path::new("/network")));
        assert_eq!(table.class_at(Path::new("/net/x")), FsClass::Remote);
    }

    #[test]
    fn in_a_chroot_the_root_is_not_shown() {
        let table = table("5 1 0:9 / /tmp rw - tmpfs t rw\n6 5 0:10 / /tmp/x rw - tmpfs t rw\n");
        assert!(table.at(Path::new("/usr")).is_none() && table.may_hang(Path::new("/usr")));
        assert_eq!((at(&table, "/tmp"), at(&table, "/tmp/x/y")), (5, 6));
        assert!(table.entries().iter().all(|entry| table.is_visible(entry)));
    }

    #[test]
    fn a_table_in_circles_ends() {
        let table =
            table("1 0 8:1 / / rw - ext4 a rw\n2 3 8:1 / / rw - ext4 a rw\n3 2 8:1 / / rw - ext4 a rw\n");
        assert_eq!(at(&table, "/x"), 1);
        let all = "1 0 8:1 / / rw - ext4 a rw\n1 1 8:1 / / rw - ext4 a rw\n";
        assert!(super::MountTable::new(mountinfo::parse(all.as_bytes())).at(Path::new("/")).is_some());
    }

    #[test]
    fn a_file_has_a_name_in_every_mount_that_shows_it() {
        let table = table(
            "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /src /b rw - ext4 a rw\n3 1 8:1 /src/x /c rw - ext4 a rw\n\
             4 1 8:1 /srcx /d rw - ext4 a rw\n5 1 8:2 / /e rw - ext4 b rw\n",
        );
        let names = |path: &str, on| table.other_names(Path::new(path), on).collect::<Vec<PathBuf>>();
        assert_eq!(names("/src/x/y", 1), [Path::new("/b/x/y"), Path::new("/c/y")]);
        assert_eq!(names("/c", 3), [Path::new("/src/x"), Path::new("/b/x")]);
        assert_eq!(names("/src/x/y", 9), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_seat_of_a_mount_is_found_inside_its_file_system() {
        let table = table("1 0 8:1 /sub / rw - btrfs a rw\n2 1 8:2 / /a/b rw - ext4 b rw\n");
        let (parent, place) = table.seat(table.by_id(2).unwrap()).unwrap();
        assert_eq!((parent.id, place.as_path()), (1, Path::new("/sub/a/b")));
    }
}
