//! The scanner against other walkers: walkdir entry by entry, du in total.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make their own trees and may panic"
)]

#[path = "common/scan.rs"]
mod common;

use std::path::Path;

use common::{all_rows, check_against_walkdir, du, du_counts_apparent_directories, grow, scanned};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn every_entry_of_a_random_tree_is_as_walkdir_says(seed in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        grow(dir.path(), seed, 300);
        let one = all_rows(&scanned(dir.path(), 1));
        check_against_walkdir(dir.path(), &one);
        // More workers find the same, whoever comes first to a file with several names.
        let four = scanned(dir.path(), 4);
        let rows = all_rows(&four);
        prop_assert_eq!(one.len(), rows.len());
        for (path, row) in &rows {
            let mut other = one[path].clone();
            other.node = row.node;
            prop_assert_eq!(row, &other);
        }
        // The sums on the way are those at the end.
        let (end, root) = (four.progress(), &rows[dir.path()]);
        prop_assert_eq!((end.allocated, end.apparent, end.entries), (root.allocated, root.apparent, root.entries));
        let (allocated, apparent) = du(dir.path());
        prop_assert_eq!(root.allocated.0, allocated);
        if du_counts_apparent_directories() {
            prop_assert_eq!(root.apparent.0, apparent);
        }
    }
}

#[test]
fn usr_takes_what_du_says() {
    let usr = Path::new("/usr");
    let scan = scanned(usr, 2);
    let (allocated, apparent) = du(usr);
    assert_eq!(scan.progress().allocated.0, allocated);
    if du_counts_apparent_directories() {
        assert_eq!(scan.progress().apparent.0, apparent);
    }
}

#[test]
fn a_wide_directory_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..30_000 {
        let path = dir.path().join(format!("entry number {number}"));
        if number % 10 == 0 {
            std::fs::create_dir(path).unwrap();
        } else {
            std::fs::File::create(path).unwrap();
        }
    }
    for threads in [1, 3] {
        check_against_walkdir(dir.path(), &all_rows(&scanned(dir.path(), threads)));
    }
}

#[test]
fn the_largest_are_those_a_full_sort_finds() {
    let dir = tempfile::tempdir().unwrap();
    grow(dir.path(), 7, 600);
    let scan = scanned(dir.path(), 2);
    let rows = all_rows(&scan);
    let sizes = |directories: bool| {
        let mut sizes: Vec<u64> = rows
            .iter()
            .filter(|(path, row)| {
                (row.kind == unwedge::domain::identity::FileKind::Directory) == directories
                    && *path != dir.path()
                    && !row.flags.counted_elsewhere
            })
            .map(|(_, row)| row.allocated.0)
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.truncate(10);
        sizes
    };
    let files = scan.largest_files(10);
    assert_eq!(files.iter().map(|(_, row)| row.allocated.0).collect::<Vec<_>>(), sizes(false));
    for (path, row) in &files {
        assert_eq!(&rows[path.as_path()], row);
    }
    let dirs = scan.largest_dirs(10);
    assert_eq!(dirs.iter().map(|(_, row)| row.allocated.0).collect::<Vec<_>>(), sizes(true));
}
