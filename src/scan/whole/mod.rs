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
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::batch::own_totals;
use super::cell::DirId;
use super::ext4::Orphan;
use super::glance::glance;
use super::method::Reading;
use super::open;
use super::reason;
use super::worker::Crew;

pub(super) use prepare::{Source, passages, prepare};

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

/// Reads the whole file system into the crew's tree, that has nothing but its root yet.
///
/// # Errors
/// Why it cannot be; then the tree is as it was. Also where it was cancelled.
pub(super) fn read(
    source: &Source,
    crew: &Crew,
    threads: Threads,
    cancelled: &AtomicBool,
) -> Result<Whole, String> {
    let (tree, mount, root) = (&crew.shared.tree, &*crew.mount, crew.root.as_fd());
    let (harvest, seen) = thread::scope(|scope| {
        // Beside the rest: with a cold cache it waits for the disk, too.
        let seen = thread::Builder::new().spawn_scoped(scope, || glance(crew));
        let harvest = prepare::flush(&tree.root, cancelled)
            .and_then(|()| feed::harvest(source, tree, threads, cancelled));
        // Without a thread for it there is nothing to see before the end.
        let seen = seen.ok().and_then(|seen| seen.join().unwrap_or_else(|panic| resume_unwind(panic)));
        (harvest, seen)
    });
    let read = harvest.and_then(|harvest| {
        // Now, so that what was mounted a moment ago is known, too.
        let mount_points = prepare::mount_points(&tree.root, source.mount, mount.passages())?;
        let file = mount.root_file();
        let start = (seen.as_deref(), file);
        let later = graft::graft(tree, &harvest, &mount_points, start, threads.working, cancelled);
        Ok((later, harvest.orphans, harvest.since))
    });
    tree.store.discard_strays();
    tree.counters.ahead.clear();
    let checked = read.and_then(|(later, orphans, since)| {
        let (device, root_is_known) = (&source.device, seen.is_some());
        let sample = check::Checker { tree, mount, root, device, root_is_known, since }.check(cancelled)?;
        Ok((later, orphans, sample))
    });
    match checked {
        Ok((later, orphans, sample)) => {
            let reading = source.reading(later.dirs.len(), sample);
            Ok(Whole { reading, later, orphans })
        }
        Err(why) => {
            // What is there stays, where nobody will read on.
            if !cancelled.load(Ordering::Relaxed) && !tree.is_bare() {
                let own = open::stat_fd(root).map_err(|error| reason::start(&error.into()))?;
                tree.abandon();
                tree.empty(DirId::ROOT, own_totals(&own));
            }
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
