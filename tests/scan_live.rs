//! Looking at a scan while it runs, and keeping its tree right when things are deleted or change.
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

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{Dice, all_rows, check_against_walkdir, grow, node, scanned};
use proptest::prelude::*;
use unwedge::domain::identity::FileKind;
use unwedge::scan::{Options, Scan, SortKey, Window};

/// Removes an entry and puts the time of its directory back, so that only the entry is missing. Says whether
/// the directory itself changed its size by that, as it does on some file systems.
fn remove(path: &Path) -> bool {
    let parent = path.parent().unwrap();
    let before = fs::symlink_metadata(parent).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
    let time = rustix::fs::Timespec { tv_sec: before.mtime(), tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, parent, &times, rustix::fs::AtFlags::empty()).unwrap();
    let after = fs::symlink_metadata(parent).unwrap();
    (before.len(), before.blocks()) != (after.len(), after.blocks())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn after_deletions_and_rescans_the_tree_is_as_walkdir_says(seed in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        grow(dir.path(), seed, 250);
        let scan = scanned(dir.path(), 2);
        let mut dice = Dice::new(seed);
        for _ in 0..12 {
            let rows = all_rows(&scan);
            let paths: Vec<&PathBuf> = rows.keys().filter(|path| *path != dir.path()).collect();
            if paths.is_empty() {
                break;
            }
            let path = paths[dice.below(paths.len())];
            let parent = path.parent().unwrap();
            match dice.below(4) {
                0 => {
                    // Something grew in a directory.
                    let sub = parent.join(format!("new-{}", dice.below(1_000_000)));
                    fs::create_dir(&sub).unwrap();
                    grow(&sub, seed.wrapping_add(77), 20);
                    scan.rescan(rows[parent].node).unwrap();
                    scan.wait();
                    prop_assert!(all_rows(&scan).len() > rows.len());
                }
                1 => {
                    remove(path);
                    scan.rescan(rows[parent].node).unwrap();
                    scan.wait();
                }
                _ => {
                    let changed = remove(path);
                    scan.forget(rows[path].node);
                    prop_assert!(scan.row(rows[path].node).is_none());
                    prop_assert!(scan.path(rows[path].node).as_bytes().is_empty());
                    if changed {
                        scan.rescan(rows[parent].node).unwrap();
                        scan.wait();
                    }
                }
            }
            let root = scan.row(scan.root()).unwrap();
            let end = scan.progress();
            prop_assert_eq!((end.allocated, end.apparent, end.entries), (root.allocated, root.apparent, root.entries));
            let dirs = all_rows(&scan).values().filter(|row| row.kind == FileKind::Directory).count();
            prop_assert_eq!(end.directories, u64::try_from(dirs).unwrap());
            prop_assert_eq!(root.allocated.0, common::du(dir.path()).0);
        }
        // A file that lost its other names still carries the mark of having several: read all again.
        let mut kept = all_rows(&scan);
        for (path, row) in &mut kept {
            let meta = fs::symlink_metadata(path).unwrap();
            row.flags.hard_link = !meta.is_dir() && meta.nlink() > 1;
        }
        check_against_walkdir(dir.path(), &kept);
        scan.rescan(scan.root()).unwrap();
        scan.wait();
        check_against_walkdir(dir.path(), &all_rows(&scan));
    }
}

#[test]
fn a_running_scan_can_be_looked_at_and_never_shows_more_than_there_is() {
    let usr = Path::new("/usr");
    let end = scanned(usr, 2).progress();
    let scan = Scan::start(usr, &Options { threads: Some(2), ..Options::default() }).unwrap();
    let mut looks = 0;
    let mut partial = 0;
    while !scan.progress().finished {
        let listing = scan.list(scan.root(), SortKey::Allocated, false).unwrap();
        assert!(listing.dir.allocated <= end.allocated && listing.dir.entries <= end.entries);
        assert!(listing.rows.windows(2).all(|pair| pair[0].allocated >= pair[1].allocated));
        partial += u64::from(listing.dir.flags.scanning && listing.dir.entries > 100);
        if looks % 16 == 0 {
            let dirs = scan.largest_dirs(5);
            assert!(
                dirs.windows(2)
                    .all(|pair| pair[0].1.allocated >= pair[1].1.allocated || !scan.progress().finished)
            );
            assert!(scan.largest_files(5).len() <= 5);
        }
        looks += 1;
    }
    assert!(partial > 0, "{looks} looks");
    let listing = scan.list(scan.root(), SortKey::Allocated, false).unwrap();
    assert_eq!((listing.dir.allocated, listing.dir.entries), (end.allocated, end.entries));
    assert!(!listing.dir.flags.scanning);
}

#[test]
fn every_order_is_kept_and_can_be_turned_round() {
    let dir = tempfile::tempdir().unwrap();
    for (name, size, time) in [("b", 9000, 30), ("a", 100, 10), ("c", 50_000, 20)] {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        for number in 0..=size / 9000 {
            fs::write(path.join(format!("{number}")), vec![0; size]).unwrap();
        }
        let time = rustix::fs::Timespec { tv_sec: time, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap().path();
            rustix::fs::utimensat(rustix::fs::CWD, entry, &times, rustix::fs::AtFlags::empty()).unwrap();
        }
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    }
    let scan = scanned(dir.path(), 2);
    let names = |sort, reverse| {
        let rows = scan.list(scan.root(), sort, reverse).unwrap().rows;
        rows.iter().map(|row| row.name.to_string()).collect::<String>()
    };
    assert_eq!(names(SortKey::Allocated, false), "cba");
    assert_eq!(names(SortKey::Apparent, false), "cba");
    assert_eq!(names(SortKey::Entries, false), "cba");
    assert_eq!(names(SortKey::Age, false), "acb");
    assert_eq!(names(SortKey::Name, false), "abc");
    assert_eq!(names(SortKey::Name, true), "cba");
    assert_eq!(names(SortKey::Age, true), "bca");
}

/// What a window shows is cut out of what the whole listing shows, whatever is in its middle.
#[test]
fn a_page_is_a_part_of_the_listing() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..500_usize {
        fs::write(dir.path().join(format!("file-{number:03}")), vec![b'x'; number * 37 % 101]).unwrap();
    }
    let scan = scanned(dir.path(), 2);
    for (sort, reverse) in [(SortKey::Apparent, false), (SortKey::Apparent, true), (SortKey::Name, false)] {
        let all = scan.list(scan.root(), sort, reverse).unwrap();
        let page = |window: &Window| {
            let page = scan.page(scan.root(), sort, reverse, window).unwrap();
            assert_eq!(page.total, 500);
            assert_eq!(page.most_apparent.0, 100);
            assert_eq!((&page.listing.dir, &page.listing.path), (&all.dir, &all.path));
            assert_eq!(page.listing.rows[..], all.rows[page.first..][..page.listing.rows.len()]);
            page
        };
        for (index, margin) in [(0, 10), (3, 10), (250, 10), (495, 10), (499, 1), (9999, 7), (250, 400)] {
            let place: usize = index.min(499);
            let (first, end) = (place.saturating_sub(margin), (place + margin).min(500));
            let by_index = page(&Window { index, margin, ..Window::default() });
            assert_eq!((by_index.first, by_index.listing.rows.len()), (first, end - first));
            let row = &all.rows[place];
            let by_node = page(&Window { node: Some(row.node), index: 7, margin, ..Window::default() });
            assert_eq!(by_node, by_index);
            // A node that is not there, and a name that is.
            let by_name = page(&Window {
                node: Some(scan.root()),
                name: Some(row.name.clone()),
                index: 7,
                margin,
                names: vec!["file-123".into(), "no such file".into()],
            });
            assert_eq!((by_name.first, &by_name.listing.rows), (first, &by_index.listing.rows));
            let named: Vec<_> = by_name.named.values().map(Option::as_ref).collect();
            let expected = all.rows.iter().find(|row| row.name.as_bytes() == b"file-123");
            assert_eq!(named, [expected, None]);
        }
    }
}

#[test]
fn the_other_names_of_a_file_are_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("far")).unwrap();
    fs::write(dir.path().join("far/first"), vec![0; 10_000]).unwrap();
    fs::hard_link(dir.path().join("far/first"), dir.path().join("near")).unwrap();
    let scan = scanned(dir.path(), 2);
    let rows = all_rows(&scan);
    assert!(
        rows[&dir.path().join("far/first")].flags.counted_elsewhere,
        "the name nearest to the root counts"
    );
    let names = scan.other_names(node(&scan, &dir.path().join("near")));
    assert_eq!(
        names.iter().map(unwedge::domain::text::HostPath::as_path).collect::<Vec<_>>(),
        [dir.path().join("far/first")]
    );
    // The counted name goes: the other one counts.
    let before = scan.progress().allocated;
    fs::remove_file(dir.path().join("near")).unwrap();
    scan.forget(rows[&dir.path().join("near")].node);
    assert_eq!(scan.progress().allocated, before);
    assert!(!scan.row(rows[&dir.path().join("far/first")].node).unwrap().flags.counted_elsewhere);
}

#[test]
fn a_cancelled_scan_can_be_taken_up_again() {
    let usr = Path::new("/usr");
    let scan = Scan::start(usr, &Options { threads: Some(2), ..Options::default() }).unwrap();
    while scan.progress().entries < 500 {
        std::thread::yield_now();
    }
    scan.cancel();
    assert!(scan.wait().cancelled);
    scan.rescan(scan.root()).unwrap();
    let end = scan.wait();
    assert!(end.finished && !end.cancelled);
    assert_eq!(end.allocated.0, common::du(usr).0);
}

#[test]
fn what_is_forgotten_or_scanned_again_while_the_scan_runs_leaves_the_sums_right() {
    let dir = tempfile::tempdir().unwrap();
    grow(dir.path(), 3, 3000);
    let mut met = 0;
    for round in 0..60 {
        let mut dice = Dice::new(round);
        let scan = Scan::start(dir.path(), &Options { threads: Some(3), ..Options::default() }).unwrap();
        for _ in 0..12 {
            // Some way down the tree as it is known now.
            let mut at = scan.root();
            for _ in 0..=dice.below(4) {
                let Some(listing) = scan.list(at, SortKey::Entries, false) else { break };
                if listing.rows.is_empty() {
                    break;
                }
                at = listing.rows[dice.below(listing.rows.len())].node;
            }
            met += u32::from(!scan.progress().finished);
            if dice.below(3) == 0 {
                let _ = scan.rescan(at);
            } else {
                scan.forget(at);
            }
        }
        let end = scan.wait();
        assert!(end.finished && !end.cancelled);
        let rows = all_rows(&scan);
        let root = &rows[dir.path()];
        assert_eq!((end.allocated, end.apparent, end.entries), (root.allocated, root.apparent, root.entries));
        assert_eq!(end.entries, u64::try_from(rows.len()).unwrap(), "round {round}");
        let dirs = rows.values().filter(|row| row.kind == FileKind::Directory).count();
        assert_eq!(end.directories, u64::try_from(dirs).unwrap());
        assert!(rows.values().all(|row| !row.flags.scanning && !row.flags.unreadable));
        let own: u64 = rows
            .iter()
            .filter(|(_, row)| !row.flags.counted_elsewhere)
            .map(|(path, _)| fs::symlink_metadata(path).unwrap().blocks() * 512)
            .sum();
        assert_eq!(root.allocated.0, own, "round {round}");
    }
    assert!(met > 20, "most of it happened after the end: {met}");
}

#[test]
fn what_is_gone_or_no_directory_is_not_scanned_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("file"), b"x").unwrap();
    let scan = scanned(dir.path(), 2);
    let (sub, file) = (node(&scan, &dir.path().join("sub")), node(&scan, &dir.path().join("file")));
    assert!(scan.rescan(file).unwrap_err().to_string().contains("not a directory"));
    fs::remove_dir(dir.path().join("sub")).unwrap();
    assert!(scan.rescan(sub).unwrap_err().to_string().contains("does not exist"));
    scan.forget(sub);
    assert!(scan.rescan(sub).unwrap_err().to_string().contains("no longer part"));
    assert_eq!(scan.progress().entries, 2);
    scan.forget(scan.root());
    assert_eq!(scan.progress().entries, 2, "the root stays");
}
