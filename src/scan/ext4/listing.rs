//! Every path of a file system, put together the simple way: the reference for tests and for small file systems.

use std::collections::{HashMap, HashSet};

use super::ROOT;
use super::directory::Entry;
use super::orphan::Orphan;
use super::read::{Ext4, Options, Sink};
use super::table::{Inodes, Record};
use super::trouble::Trouble;
use super::why::Why;
use crate::domain::identity::FileKind;
use crate::domain::text::HostPath;
use crate::sys::block_device::ReadAt;

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The path below the directory that the listing starts at; empty for that itself.
    pub path: HostPath,
    /// Its inode.
    pub ino: u32,
    /// What is known of the inode.
    pub record: Record,
}

/// All paths below a directory.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Every path, in no particular order.
    pub paths: Vec<Listed>,
    /// Names whose inode is not in use or not to be trusted.
    pub unknown: Vec<(HostPath, u32)>,
    /// Directories that were named more than once, at each name but the first.
    pub repeated: Vec<(HostPath, u32)>,
    /// Directories with entries that no path led to, where the listing starts at the root: one that was moved
    /// while it was read, or damage.
    pub unreached: Vec<u32>,
    /// Inodes in use without a name, of the whole file system.
    pub orphans: Vec<Orphan>,
    /// What has to be looked at by ordinary calls, in the whole file system.
    pub troubles: Vec<Trouble>,
}

type Children = Vec<(Vec<u8>, u32)>;

/// Collects names by directory.
struct Collect;

impl Sink for Collect {
    type Worker = HashMap<u32, Children>;

    fn start(&self, _: &Inodes) -> Self::Worker {
        HashMap::new()
    }

    fn entries(&self, worker: &mut Self::Worker, _: &Inodes, directory: u32, entries: &[Entry<'_>]) {
        let names = entries.iter().map(|entry| (entry.name.to_vec(), entry.ino));
        worker.entry(directory).or_default().extend(names);
    }
}

/// Lists every path below the directory with inode `start` ([`ROOT`] for all). Unlike [`Ext4::read`] it keeps every path
/// whole, so its memory has no bound.
///
/// # Errors
/// See [`Why`].
pub fn listing<D: ReadAt>(ext4: &Ext4<D>, options: &Options<'_>, start: u32) -> Result<Listing, Why> {
    let census = ext4.read(options, &Collect)?;
    let mut children: HashMap<u32, Children> = HashMap::new();
    for worker in census.workers {
        for (directory, names) in worker {
            children.entry(directory).or_default().extend(names);
        }
    }
    let mut listing = Listing { orphans: census.orphans, troubles: census.troubles, ..Listing::default() };
    let mut seen = HashSet::from([start]);
    let mut waiting = vec![(Vec::new(), start)];
    while let Some((path, ino)) = waiting.pop() {
        let Some(record) = census.inodes.get(ino) else {
            listing.unknown.push((HostPath::from_bytes(path), ino));
            continue;
        };
        if record.kind == FileKind::Directory {
            for (name, child) in children.remove(&ino).unwrap_or_default() {
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(&name);
                let directory =
                    census.inodes.get(child).is_some_and(|record| record.kind == FileKind::Directory);
                if directory && !seen.insert(child) {
                    listing.repeated.push((HostPath::from_bytes(below), child));
                } else {
                    waiting.push((below, child));
                }
            }
        }
        listing.paths.push(Listed { path: HostPath::from_bytes(path), ino, record });
    }
    if start == ROOT {
        listing.unreached.extend(children.into_keys());
        listing.unreached.sort_unstable();
    }
    Ok(listing)
}
