//! Mounts of every mount namespace that can be reached, read just before something is removed.
//!
//! Removing a directory here silently detaches what another namespace has mounted on it (measured,
//! SAFETY.md T6; `vfs_rmdir` → `detach_mounts`, fs/namei.c). A path means another thing in another
//! namespace, so mount points are compared by where they are on their file system: the device and the path
//! from the file system's own root.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::domain::identity::{DevId, MountId, NamespaceId};
use crate::domain::text::HostPath;

/// One line of mountinfo (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mount's reusable id.
    pub id: u32,
    /// The mount it is mounted on.
    pub parent: u32,
    /// The device of the file system.
    pub dev: DevId,
    /// What of the file system is mounted.
    pub root: Vec<u8>,
    /// Where it is mounted, below the root of the process that was read.
    pub point: Vec<u8>,
    /// Whether the mount or the file system is read-only.
    pub read_only: bool,
}

/// The mounts of one namespace.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Which namespace.
    pub namespace: NamespaceId,
    /// Its mounts.
    pub entries: Vec<Entry>,
}

/// Undoes the octal escapes of mountinfo (`\040`; proc(5)).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\'
            && let Some((digits, later)) = after.split_first_chunk::<3>()
            && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            let value = digits.iter().fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
            out.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
            rest = later;
            continue;
        }
        out.push(byte);
        rest = after;
    }
    out
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = fields.next()?;
    let colon = device.iter().position(|&byte| byte == b':')?;
    let dev = DevId { major: number(device.get(..colon)?)?, minor: number(device.get(colon + 1..)?)? };
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let ro = |options: &[u8]| options.split(|&byte| byte == b',').any(|option| option == b"ro");
    let mut read_only = ro(fields.next()?);
    let mut after = fields.skip_while(|field| *field != b"-").skip(3);
    if let Some(options) = after.next() {
        read_only |= ro(options);
    }
    Some(Entry { id, parent, dev, root, point, read_only })
}

/// Parses mountinfo. Lines that are none are left out: the kernel writes only whole lines.
pub fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `path` without the directory `dir` in front, with a leading slash; nothing where it is not in `dir`.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    let rest = path.strip_prefix(dir)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

fn join(root: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut out = root.strip_suffix(b"/").unwrap_or(root).to_vec();
    out.extend_from_slice(rest.strip_suffix(b"/").unwrap_or(rest));
    out
}

impl Entry {
    /// Where the path (seen in the same namespace) is on this mount's file system.
    fn place(&self, path: &[u8]) -> Option<(DevId, Vec<u8>)> {
        Some((self.dev, join(&self.root, below(path, &self.point)?)))
    }
}

impl Listing {
    /// The mounts of the process whose directory in proc this is.
    ///
    /// # Errors
    /// What reading says.
    pub fn read(process: &Path) -> std::io::Result<Self> {
        let namespace = namespace_of(process)?;
        let entries = parse(&std::fs::read(process.join("mountinfo"))?);
        Ok(Self { namespace, entries })
    }

    /// The mount with this id.
    pub fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Where on its file system the mount point of `entry` is; nothing for the root of the namespace, or
    /// where the mount below it cannot be seen.
    fn place_of_point(&self, entry: &Entry) -> Option<(DevId, Vec<u8>)> {
        let under = self.entry(entry.parent).filter(|under| under.id != entry.id)?;
        under.place(&entry.point)
    }
}

/// The mount namespace of the process whose directory in proc this is.
///
/// # Errors
/// What stat(2) says.
pub fn namespace_of(process: &Path) -> std::io::Result<NamespaceId> {
    Ok(NamespaceId(std::fs::metadata(process.join("ns/mnt"))?.ino()))
}

/// Every mount namespace some process lives in, our own first; each once. Processes that may not be
/// looked at are left out: as root that is none.
///
/// # Errors
/// Where our own cannot be read.
pub fn all(proc_root: &Path) -> std::io::Result<Vec<Listing>> {
    // The thread, not the process: unwedge's own threads may live in another namespace than its first one.
    let own = Listing::read(&proc_root.join("thread-self"))?;
    let mut seen = BTreeSet::from([own.namespace.0]);
    let mut listings = vec![own];
    for entry in std::fs::read_dir(proc_root)? {
        let Ok(entry) = entry else { continue };
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = entry.path();
        let Ok(namespace) = namespace_of(&process) else { continue };
        if seen.contains(&namespace.0) {
            continue;
        }
        if let Ok(listing) = Listing::read(&process) {
            seen.insert(namespace.0);
            listings.push(listing);
        }
    }
    Ok(listings)
}

/// Other paths of this namespace that reach the same file through another mount of its file system.
pub fn other_names(own: &Listing, path: &[u8], on: MountId) -> Vec<Vec<u8>> {
    let Some((dev, place)) = own.entry(on.id).and_then(|entry| entry.place(path)) else {
        return Vec::new();
    };
    own.entries
        .iter()
        .filter(|entry| entry.id != on.id && entry.dev == dev)
        .filter_map(|entry| Some(join(&entry.point, below(&place, &entry.root)?)))
        .filter(|name| name != path)
        .collect()
}

/// A mount at or below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is mounted, as its namespace sees it.
    pub point: HostPath,
    /// The namespace, where it is not our own.
    pub elsewhere: Option<NamespaceId>,
}

/// What is mounted at or below `path` (on the mount `on`, seen from the first listing), in any of the listings.
///
/// # Errors
/// A sentence, where the place of the path on its file system cannot be told.
pub fn at_or_below(listings: &[Listing], path: &[u8], on: MountId) -> Result<Option<Found>, String> {
    let Some((own, others)) = listings.split_first() else {
        return Err("no mount namespace could be read".to_owned());
    };
    let here = own.entry(on.id).and_then(|entry| entry.place(path)).ok_or_else(|| {
        format!("{on} is not in /proc/self/mountinfo, so nobody can say what is mounted there")
    })?;
    let hit = |listing: &Listing, entry: &Entry| match listing.place_of_point(entry) {
        Some((dev, place)) => dev == here.0 && below(&place, &here.1).is_some(),
        // The mount it is mounted on is out of sight: judge by the path, which may refuse too much.
        None => entry.point != b"/" && below(&entry.point, path).is_some(),
    };
    // A mount of our own that is reached by the path counts even where the places differ.
    let by_path = own.entries.iter().find(|entry| below(&entry.point, path).is_some());
    if let Some(entry) = by_path.or_else(|| own.entries.iter().find(|entry| hit(own, entry))) {
        return Ok(Some(Found { point: HostPath::from_bytes(entry.point.clone()), elsewhere: None }));
    }
    for listing in others {
        if let Some(entry) = listing.entries.iter().find(|entry| hit(listing, entry)) {
            let point = HostPath::from_bytes(entry.point.clone());
            return Ok(Some(Found { point, elsewhere: Some(listing.namespace) }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        40 27 254:0 /src /mnt/a\\040b rw - ext4 /dev/vda rw\n\
        41 27 0:30 / /ro ro,nosuid shared:1 - tmpfs tmpfs rw\n";

    fn own() -> Listing {
        Listing { namespace: NamespaceId(1), entries: parse(OWN) }
    }

    fn on(id: u32) -> MountId {
        MountId { id, unique: None }
    }

    #[test]
    fn lines_are_read_with_escapes_and_options() {
        let entries = own().entries;
        assert_eq!(entries[1].point, b"/mnt/a b");
        assert_eq!(entries[1].root, b"/src");
        assert!(!entries[0].read_only && entries[2].read_only);
    }

    #[test]
    fn a_mount_below_by_path_is_found_and_a_neighbour_is_not() {
        assert!(at_or_below(&[own()], b"/mnt", on(27)).unwrap().is_some());
        assert!(at_or_below(&[own()], b"/mnt/a b", on(27)).unwrap().is_some());
        assert_eq!(at_or_below(&[own()], b"/mnt/a", on(27)).unwrap(), None);
        assert!(at_or_below(&[own()], b"/x", on(99)).is_err());
    }

    #[test]
    fn another_namespace_is_compared_by_place_not_by_path() {
        // A container whose root is /srv/c of our disk has something mounted on its /data.
        let text = b"90 89 254:0 /srv/c / rw - ext4 /dev/vda rw\n91 90 0:9 / /data rw - tmpfs t rw\n";
        let theirs = Listing { namespace: NamespaceId(2), entries: parse(text) };
        let both = [own(), theirs];
        let found = at_or_below(&both, b"/srv/c/data", on(27)).unwrap().unwrap();
        assert_eq!(found.elsewhere, Some(NamespaceId(2)));
        assert!(at_or_below(&both, b"/srv", on(27)).unwrap().is_some());
        assert_eq!(at_or_below(&both, b"/data", on(27)).unwrap(), None, "their /data is not ours");
    }
}
