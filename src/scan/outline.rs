//! The large part of a tree, as a baseline to compare with later. Goes only into directories that are large enough.

use jiff::Timestamp;

use crate::domain::baseline::{Baseline, Builder};
use crate::domain::size::Bytes;

use super::Scan;
use super::cell::{self, DirId};
use super::codec::{self, Body};
use super::tree::Tree;

/// What is still to be written down.
enum Step {
    Directory { name: Vec<u8>, dir: DirId },
    File { name: Vec<u8>, allocated: u64 },
    Close,
}

impl Scan {
    /// Directories and files that take at least `floor`, as they are known now. Exact when the scan is over. A file with
    /// several names is at the one where it is counted.
    pub fn baseline(&self, taken_at: Timestamp, floor: Bytes) -> Baseline {
        let tree = self.tree();
        let unreadable = self.progress().unreadable;
        let mut builder = Builder::new(taken_at, self.path(self.root()), floor, unreadable);
        let mut steps = vec![Step::Directory { name: Vec::new(), dir: DirId::ROOT }];
        while let Some(step) = steps.pop() {
            match step {
                Step::Directory { name, dir } => {
                    let (totals, _) = tree.live(dir);
                    builder.open(&name, totals.allocated, totals.entries);
                    steps.push(Step::Close);
                    // The last is taken first.
                    steps.extend(large(tree, dir, floor).into_iter().rev());
                }
                Step::File { name, allocated } => builder.file(&name, allocated),
                Step::Close => builder.close(),
            }
        }
        builder.finish()
    }
}

/// What takes at least `floor` in a directory, in order.
fn large(tree: &Tree, dir: DirId, floor: Bytes) -> Vec<Step> {
    let mut found = Vec::new();
    tree.each_entry(dir, |_, entry| match entry.body {
        Body::Leaf(leaf) if leaf.allocated >= floor.0 && !entry.has(codec::ELSEWHERE) => {
            found.push((entry.name.to_vec(), None, leaf.allocated));
        }
        // What is not listed is in the sum of its directory.
        Body::Leaf(_) | Body::Folded(..) => {}
        Body::Dir(child) => {
            let there = tree.dir(child).is_some_and(|cell| !cell.has(cell::REMOVED));
            if there && tree.live(child).0.allocated >= floor.0 {
                found.push((entry.name.to_vec(), Some(child), 0));
            }
        }
    });
    let key = |one: &(Vec<u8>, Option<DirId>, u64)| (one.0.clone(), one.1.is_some());
    found.sort_by(|a, b| (&a.0, a.1.is_some()).cmp(&(&b.0, b.1.is_some())));
    // A name that was seen twice while a directory changed.
    found.dedup_by_key(|one| key(one));
    let step = |(name, dir, allocated)| match dir {
        Some(dir) => Step::Directory { name, dir },
        None => Step::File { name, allocated },
    };
    found.into_iter().map(step).collect()
}
