//! Scanning a whole ext4 file system from its device instead of directory by directory.
//!
//! `prepare` decides whether that is possible, `feed` packs the entries of directories into the store while the
//! device is read, in the order of the disk, and `graft` then makes them a tree from the root down. What could not
//! be read exactly, and names on which something is mounted, is left to the workers' ordinary calls.

mod feed;
mod graft;
mod mount_points;
mod prepare;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::cell::DirId;
use super::links::LinkKey;
use super::method::Reading;
use super::tree::Tree;

pub(super) use prepare::{Whole, prepare};

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

/// Names left for ordinary calls, until a worker takes them.
pub(super) type LeftNames = Mutex<HashMap<DirId, Names>>;

/// Reads the whole file system into a tree that has nothing but its root yet.
///
/// # Errors
/// Why it cannot be; then the tree is as it was. Also where it was cancelled.
pub(super) fn read(
    whole: &Whole,
    tree: &Tree,
    file: LinkKey,
    threads: usize,
    cancelled: &AtomicBool,
) -> Result<(Reading, Later), String> {
    prepare::flush(&tree.root, cancelled)?;
    let harvested = feed::harvest(whole, tree, threads, cancelled);
    let later = harvested.and_then(|harvest| {
        // Now, so that what was mounted a moment ago is known, too.
        let mount_points = prepare::mount_points(&tree.root, whole.mount)?;
        Ok(graft::graft(tree, &harvest, &mount_points, file, cancelled))
    });
    tree.store.discard_strays();
    tree.counters.ahead.clear();
    let later = later?;
    let reading = whole.reading(later.dirs.len());
    Ok((reading, later))
}
