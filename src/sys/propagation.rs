//! Which mounts the kernel takes along when one is unmounted.
//!
//! Where the mount below is shared (`shared:N` in mountinfo), what is mounted or unmounted at a place on it is so at the same
//! place on its peers and on what follows them (`master:N`), whatever namespace those are in (`mount_namespaces(7)`;
//! `propagation_next` in fs/pnode.c).

use std::collections::{BTreeSet, HashMap};

use super::mount_namespaces::{Namespace, Namespaces};
use super::mount_table::MountTable;
use super::mountinfo::MountEntry;

/// A mount of one of several namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'n> {
    /// The namespace.
    pub namespace: &'n Namespace,
    /// The mount.
    pub entry: &'n MountEntry,
}

/// The mounts of all namespaces by the groups of peers that they belong to or follow.
pub struct Peers<'n> {
    members: HashMap<u32, Vec<Copy<'n>>>,
}

impl<'n> Peers<'n> {
    /// Sorts them.
    pub fn new(namespaces: &'n Namespaces) -> Self {
        let mut members: HashMap<u32, Vec<Copy<'n>>> = HashMap::new();
        for namespace in &namespaces.all {
            for entry in namespace.mounts.entries() {
                for group in [group(entry, b"shared:"), group(entry, b"master:")].into_iter().flatten() {
                    members.entry(group).or_default().push(Copy { namespace, entry });
                }
            }
        }
        Self { members }
    }

    /// The copies of a mount that an unmount takes along.
    pub fn copies(&self, namespace: &Namespace, entry: &MountEntry) -> Vec<Copy<'n>> {
        let Some((below, place)) = namespace.mounts.seat(entry) else { return Vec::new() };
        let mut groups: Vec<u32> = group(below, b"shared:").into_iter().collect();
        let mut known: BTreeSet<u32> = groups.iter().copied().collect();
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([below.id]);
        while let Some(next) = groups.pop() {
            for peer in self.members.get(&next).map(Vec::as_slice).unwrap_or_default() {
                if !seen.insert(peer.entry.id) {
                    continue;
                }
                groups.extend(group(peer.entry, b"shared:").filter(|group| known.insert(*group)));
                // Where the peer does not show the place, nothing is mounted at it there.
                let Ok(inside) = place.strip_prefix(MountTable::root_of(peer.entry)) else { continue };
                let point = peer.entry.mount_point.as_path();
                let point =
                    if inside.as_os_str().is_empty() { point.to_path_buf() } else { point.join(inside) };
                let copy = peer.namespace.mounts.first_at(peer.entry.id, &point);
                found.extend(copy.map(|entry| Copy { namespace: peer.namespace, entry }));
            }
        }
        found
    }
}

fn group(entry: &MountEntry, kind: &[u8]) -> Option<u32> {
    let number = entry.optional.iter().find_map(|field| field.as_bytes().strip_prefix(kind))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount_namespaces::tests::namespaces;

    fn copies(files: &[&str], id: u32) -> Vec<(u64, u32)> {
        let namespaces = namespaces(files);
        let ours = namespaces.ours().unwrap();
        let peers = Peers::new(&namespaces);
        let mut found: Vec<(u64, u32)> = peers
            .copies(ours, ours.mounts.by_id(id).unwrap())
            .iter()
            .map(|copy| (copy.namespace.id.0, copy.entry.id))
            .collect();
        found.sort_unstable();
        found
    }

    const OWN: &str = "1 0 8:1 / / rw shared:1 - ext4 a rw\n2 1 8:1 /src /tmp/m rw shared:9 - ext4 a rw\n\
                       3 1 0:5 / /run rw - tmpfs t rw\n4 3 8:1 /src /run/m rw shared:9 - ext4 a rw\n";

    #[test]
    fn peers_and_what_follows_them_lose_their_copy() {
        let peer = "11 0 8:1 / / rw shared:1 - ext4 a rw\n12 11 8:1 /src /tmp/m rw - ext4 a rw\n";
        let follower =
            "21 0 8:1 / / rw master:1 shared:2 - ext4 a rw\n22 21 8:1 /src /tmp/m rw - ext4 a rw\n";
        // It follows the follower, and shows a part only.
        let next = "31 0 8:1 /tmp / rw master:2 - ext4 a rw\n32 31 8:1 /src /m rw - ext4 a rw\n";
        let private = "41 0 8:1 / / rw - ext4 a rw\n42 41 8:1 /src /tmp/m rw shared:9 - ext4 a rw\n";
        let all = [OWN, peer, follower, next, private];
        assert_eq!(copies(&all, 2), [(2, 12), (3, 22), (4, 32)]);
        assert_eq!(copies(&all, 4), [], "what it is mounted on is shared with nobody");
    }

    #[test]
    fn a_peer_that_shows_another_part_or_has_nothing_mounted_there_loses_nothing() {
        let other = "11 0 8:1 /home / rw shared:1 - ext4 a rw\n12 11 8:1 /src /m rw - ext4 a rw\n";
        let bare = "21 0 8:1 / / rw shared:1 - ext4 a rw\n22 21 8:1 /src /tmp/n rw - ext4 a rw\n";
        assert_eq!(copies(&[OWN, other, bare], 2), []);
    }

    #[test]
    fn what_is_bound_elsewhere_in_the_same_namespace_loses_its_copy_too() {
        let own = format!(
            "{OWN}5 1 8:1 /tmp /alias rw shared:1 - ext4 a rw\n6 5 8:1 /src /alias/m rw - ext4 a rw\n"
        );
        assert_eq!(copies(&[&own], 2), [(1, 6)]);
    }
}
