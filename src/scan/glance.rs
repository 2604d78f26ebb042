//! What is directly in the root, put into the tree while the device is being read: there is something to see, and a
//! place for what the device tells of each directory, long before that ends.

use std::os::fd::AsFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::batch::Batch;
use super::cell::DirId;
use super::links::PathHash;
use super::share::Names;
use super::store::Writer;
use super::worker::{BUFFER, Crew, Visit, kind_listed};

/// Roots with more names are left to the device: each name costs a call, and with a cold cache a look at the disk.
const MOST: usize = 500;

/// A name directly in the root.
pub(super) struct Seen {
    pub(super) name: Box<[u8]>,
    /// The inode that the root says it has.
    pub(super) ino: u64,
    /// That of a directory of this scan, still to be read.
    pub(super) dir: Option<DirId>,
}

/// Lists the root by ordinary calls, into the tree. Returns the names in it; none where it was not listed, and then
/// nothing was put into the tree.
pub(super) fn glance(crew: &Crew) -> Option<Vec<Seen>> {
    let tree = &crew.shared.tree;
    // Its own: reading a directory moves the position in it.
    let own = crew.mount.open(crew.root.as_fd(), c".", &mut true).ok()?;
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut entries = RawDir::new(own.as_fd(), buffer.spare_capacity_mut());
    let (mut names, mut count) = (Names::default(), 0);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => names.push(entry.file_name(), entry.ino(), kind_listed(entry.file_type())),
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        count += 1;
        if count > MOST {
            return None;
        }
    }
    let base = tree.dir(DirId::ROOT)?.totals().newest;
    let mut batch = Batch::new(tree);
    batch.begin(base);
    let mut seen = Vec::new();
    let (fd, dir, hash) = (own.as_fd(), DirId::ROOT, PathHash::ROOT);
    let mut visit = Visit { crew, fd, dir, depth: 0, hash, base, batch: &mut batch };
    for (name, ino, kind) in names.iter() {
        if crew.run.is_cancelled() {
            return None;
        }
        let before = visit.batch.dirs.len();
        visit.see(name, kind);
        let dir = visit.batch.dirs.get(before).map(|&(_, dir)| dir);
        seen.push(Seen { name: name.to_bytes().into(), ino, dir });
    }
    let steady = crew.steady()?;
    let mut writer = Writer::default();
    if !batch.is_empty() {
        tree.publish(&steady, &mut writer, DirId::ROOT, &mut batch);
    }
    tree.store.give_back(&mut writer);
    Some(seen)
}
