//! Scanning a whole ext4 file system from its device instead of directory by directory.
//!
//! `prepare` decides whether that is possible, `feed` packs the entries of directories into the store while the
//! device is read, in the order of the disk, and `graft` then makes them a tree from the root down. What could not
//! be read exactly, and names on which something is mounted, is left to the workers' ordinary calls. Before that
//! `check` compares a sample with what statx(2) says, and nothing is kept where they disagree.

mod check;
mod feed;
mod graft;
mod known;
mod mount_points;
mod prepare;

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::batch::own_totals;
use super::cell::DirId;
use super::ext4::Orphan;
use super::method::Reading;
use super::open::{self, Mount};
use super::reason;
use super::tree::Tree;

pub(super) use prepare::{Source, prepare};

/// Names of one directory.
pub(super) type Names = Vec<Box<[u8]>>;

/// What is left for ordinary calls.
#[derive(Default)]
pub(super) struct Later {
    /// Directories to read; of those in `names` the rest is in the tree already.
    pub(super) dirs: Vec<DirId>,
    /// Names to look at, by directory.
    pub(super) names: HashMap<DirId, Names>,
}

/// What reading a whole file system gave, beside the tree.
pub(super) struct Whole {
    pub(super) reading: Reading,
    pub(super) later: Later,
    pub(super) orphans: Vec<Orphan>,
}

/// Names left for ordinary calls, until a worker takes them.
pub(super) type LeftNames = Mutex<HashMap<DirId, Names>>;

/// Reads the whole file system into a tree that has nothing but its root yet. `root` is that root, opened.
///
/// # Errors
/// Why it cannot be; then the tree is as it was. Also where it was cancelled.
pub(super) fn read(
    source: &Source,
    tree: &Tree,
    (mount, root): (&Mount, BorrowedFd<'_>),
    threads: Threads,
    cancelled: &AtomicBool,
) -> Result<Whole, String> {
    prepare::flush(&tree.root, cancelled)?;
    let read = feed::harvest(source, tree, threads, cancelled).and_then(|harvest| {
        // Now, so that what was mounted a moment ago is known, too.
        let mount_points = prepare::mount_points(&tree.root, source.mount)?;
        let file = mount.root_file();
        let later = graft::graft(tree, &harvest, &mount_points, file, threads.working, cancelled);
        Ok((later, harvest.orphans, harvest.since))
    });
    tree.store.discard_strays();
    tree.counters.ahead.clear();
    let (later, orphans, since) = read?;
    let device = &source.device;
    match (check::Checker { tree, mount, root, device, since }).check(cancelled) {
        Ok(sample) => {
            let reading = source.reading(later.dirs.len(), sample);
            Ok(Whole { reading, later, orphans })
        }
        Err(why) => {
            let own = open::stat_fd(root).map_err(|error| reason::start(&error.into()))?;
            tree.abandon();
            tree.empty(DirId::ROOT, own_totals(&own));
            Err(why)
        }
    }
}

/// How many threads do what.
#[derive(Clone, Copy)]
pub(super) struct Threads {
    /// Work, also on what is read from the page cache.
    pub(super) working: usize,
    /// Read a device that has to be waited for.
    pub(super) waiting: usize,
}
