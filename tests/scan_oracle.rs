//! The scanner against other walkers: walkdir and dua-core entry by entry, du in total. By ordinary calls and, where
//! an image can be mounted, from the device.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_sign_loss,
    reason = "tests make their own trees and may panic"
)]

#[path = "common/scan.rs"]
mod common;
#[path = "common/ext4.rs"]
mod image;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{all_rows, apparent_as_du_counts, chain_of, check_against_walkdir, du, grow, scanned};
use image::{Image, can_mount};
use proptest::prelude::*;
use unwedge::domain::identity::FileKind;
use unwedge::domain::text::HostPath;
use unwedge::scan::{Method, Options, Row, Scan};

/// Every entry as dua-core sees it: its sizes, each file once in the sum, and every file's other names.
fn check_against_dua(scan: &Scan, root: &Path, rows: &BTreeMap<PathBuf, Row>) {
    let mut files: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    let (mut allocated, mut apparent, mut entries) = (0, 0, 0);
    for entry in dua_core::walk(root, 3, dua_core::Order::Completion, dua_core::Options::default(), |_| true)
    {
        let entry = entry.unwrap();
        let (path, meta) = (entry.path(), entry.metadata.unwrap().unwrap());
        let row = rows.get(&path).unwrap_or_else(|| panic!("missing: {}", path.display()));
        entries += 1;
        assert_eq!(row.kind == FileKind::Directory, meta.is_dir(), "{}", path.display());
        if !meta.is_dir() {
            assert_eq!((row.apparent.0, row.allocated.0), (meta.len(), meta.blocks() * 512));
            let names = files.entry((meta.dev(), meta.ino())).or_default();
            names.push(path);
            if names.len() > 1 {
                continue;
            }
        }
        allocated += meta.blocks() * 512;
        apparent += meta.len();
    }
    let top = &rows[root];
    assert_eq!((top.allocated.0, top.apparent.0, top.entries), (allocated, apparent, entries));
    for names in files.values_mut() {
        names.sort();
        let counted = names.iter().filter(|path| !rows[*path].flags.counted_elsewhere).count();
        assert_eq!(counted, 1, "{names:?}");
        for name in &*names {
            let others: Vec<&Path> =
                names.iter().filter(|other| *other != name).map(PathBuf::as_path).collect();
            let told = scan.other_names(rows[name].node);
            assert_eq!(told.iter().map(HostPath::as_path).collect::<Vec<_>>(), others);
        }
    }
}

fn check_against_du(root: &Path, rows: &BTreeMap<PathBuf, Row>) {
    assert_eq!((rows[root].allocated.0, apparent_as_du_counts(root, rows)), du(root));
}

/// Reads a whole file system from its device.
fn read_raw(root: &Path) -> Scan {
    let scan =
        Scan::start(root, &Options { threads: Some(3), method: Method::Raw, ..Options::default() }).unwrap();
    let end = scan.wait();
    assert!(end.finished && !end.cancelled, "{end:?}");
    assert!(scan.reading().is_raw(), "{}", scan.reading());
    scan
}

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
        check_against_du(dir.path(), &rows);
        check_against_dua(&four, dir.path(), &rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn every_entry_of_a_random_file_system_is_as_others_say_when_read_from_its_device(seed in any::<u64>()) {
        if can_mount() {
            let mut image = Image::make(128, &["-t", "ext4", "-N", "16000"]);
            image.mount("");
            let root = image.root();
            grow(&root, seed, 1000);
            image.syncfs();
            // What changed a moment ago would be read by calls.
            std::thread::sleep(std::time::Duration::from_millis(3100));
            let scan = read_raw(&root);
            let rows = all_rows(&scan);
            check_against_walkdir(&root, &rows);
            check_against_du(&root, &rows);
            check_against_dua(&scan, &root, &rows);
        }
    }
}

#[test]
fn what_is_deeper_than_a_path_may_be_long_counts_in_full() {
    const LEVELS: usize = 5000;
    let check = |root: &Path, scan: &Scan, more: u64| {
        let end = scan.progress();
        assert_eq!((end.directories, end.entries), (LEVELS as u64 + more, 2 * LEVELS as u64 + more + 1));
        assert_eq!((end.allocated.0, end.unreadable), (du(root).0, 0));
        assert!(end.allocated.0 >= 81_920_000, "{}", end.allocated.0);
        let (bottom, _) = scan.largest_files(1).remove(0);
        assert!(
            bottom.as_bytes().ends_with(&[&b"/deeper".repeat(LEVELS)[..], b"/bottom"].concat()),
            "{bottom}"
        );
    };
    let dir = tempfile::tempdir().unwrap();
    let deep = chain_of(&dir.path().join("chain"), LEVELS, 0, &[1; 16_384]);
    check(&deep.0, &scanned(&deep.0, 2), 1);
    if can_mount() {
        let mut image = Image::make(256, &["-t", "ext4", "-N", "20000"]);
        image.mount("");
        let _deep = chain_of(&image.root().join("chain"), LEVELS, 0, &[1; 16_384]);
        image.syncfs();
        // The root, lost+found and the chain's own directory.
        check(&image.root(), &read_raw(&image.root()), 3);
    }
}

#[test]
fn usr_takes_what_du_says() {
    let usr = Path::new("/usr");
    check_against_du(usr, &all_rows(&scanned(usr, 2)));
}

/// A directory large enough to be shared out among the workers: files, directories with a file, and files with a
/// second name in one of those.
fn wide(root: &Path) {
    for number in 0..30_000 {
        let path = root.join(format!("entry number {number}"));
        match number % 10 {
            0 => {
                std::fs::create_dir(&path).unwrap();
                std::fs::File::create(path.join("below")).unwrap().set_len(number).unwrap();
            }
            1 => {
                std::fs::write(&path, [1; 100]).unwrap();
                let before = root.join(format!("entry number {}", number - 1));
                std::fs::hard_link(&path, before.join("other name")).unwrap();
            }
            2 => {
                std::fs::hard_link(root.join(format!("entry number {}", number - 1)), &path).unwrap();
            }
            _ => drop(std::fs::File::create(path).unwrap()),
        }
    }
}

#[test]
fn a_wide_directory_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    wide(dir.path());
    let one = all_rows(&scanned(dir.path(), 1));
    check_against_walkdir(dir.path(), &one);
    for threads in [2, 3, 16] {
        let scan = scanned(dir.path(), threads);
        let rows = all_rows(&scan);
        assert_eq!(one.len(), rows.len());
        for (path, row) in &rows {
            let mut other = one[path].clone();
            other.node = row.node;
            assert_eq!(row, &other, "{threads} threads: the same names count, whoever looked at them");
        }
        let (end, root) = (scan.progress(), &rows[dir.path()]);
        assert_eq!(
            (end.allocated, end.apparent, end.entries, end.unreadable, end.vanished),
            (root.allocated, root.apparent, root.entries, 0, 0)
        );
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
