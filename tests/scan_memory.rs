//! Scans that may not take as much memory as their tree needs: what is not listed still counts.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests make their own trees and may panic"
)]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use unwedge::domain::identity::FileKind;
use unwedge::domain::size::Bytes;
use unwedge::scan::{Method, Options, Row, Scan, SortKey};

#[path = "common/scan.rs"]
mod common;

use common::{du, scanned};

fn bounded(path: &Path, threads: u16, max_memory: u64) -> Scan {
    let options = Options {
        threads: Some(threads),
        method: Method::Calls,
        max_memory: Some(Bytes(max_memory)),
        ..Options::default()
    };
    let scan = Scan::start(path, &options).unwrap();
    scan.wait();
    scan
}

/// Hostile names of all lengths, hard links across directories, symbolic links, and a few large files.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for dir in 0..20u8 {
        let below = root.path().join(format!("dir-{}/below-{dir}", dir % 4));
        fs::create_dir_all(&below).unwrap();
        for number in 0..100u8 {
            let mut name = vec![0xff - number % 7; usize::from(number) + 100];
            name.extend([b'a' + dir, b'0' + number / 10, b'0' + number % 10]);
            name.resize(if number == 99 { 255 } else { name.len() }, 0xfe);
            fs::write(below.join(OsStr::from_bytes(&name)), vec![1; usize::from(number) * 50]).unwrap();
        }
        fs::write(below.join("linked"), vec![2; 9000]).unwrap();
        fs::hard_link(below.join("linked"), root.path().join(format!("also-{dir}"))).unwrap();
        std::os::unix::fs::symlink("linked", below.join("symbolic")).unwrap();
        fs::write(below.join("large"), vec![3; (1 << 20) + usize::from(dir)]).unwrap();
    }
    root
}

/// Checks every directory: its totals are those of its rows and of what is not listed. Returns how many files are not.
fn check(scan: &Scan) -> u64 {
    let mut not_listed = 0;
    let mut open = vec![scan.root()];
    while let Some(dir) = open.pop() {
        let listing = scan.list(dir, SortKey::Name, false).unwrap();
        assert!(
            listing.rows.iter().all(|row| !row.name.as_bytes().is_empty()),
            "what is not listed is no row"
        );
        let own = fs::symlink_metadata(listing.path.as_path()).unwrap();
        let counted = |row: &&Row| !row.flags.counted_elsewhere;
        let rows = listing.rows.iter().filter(counted);
        let mut sum: u64 = rows.map(|row| row.allocated.0).sum();
        let mut entries: u64 = 1 + listing.rows.iter().map(|row| row.entries).sum::<u64>();
        if let Some(folded) = listing.folded {
            assert!(folded.files > 0);
            not_listed += folded.files;
            sum += folded.allocated.0;
            entries += folded.files;
            assert!(listing.dir.modified >= folded.modified);
        }
        assert_eq!(listing.dir.entries, entries, "{}", listing.path);
        assert_eq!(listing.dir.allocated.0, sum + own.blocks() * 512, "{}", listing.path);
        open.extend(listing.rows.iter().filter(|row| row.kind == FileKind::Directory).map(|row| row.node));
    }
    not_listed
}

#[test]
fn whatever_is_not_listed_still_counts() {
    let root = tree();
    let expected = du(root.path());
    let whole = scanned(root.path(), 2);
    assert_eq!((check(&whole), whole.progress().folded), (0, 0));
    let mut seen = HashSet::new();
    for (threads, bounds) in [(1, &[64, 128, 320, 640, 1280][..]), (3, &[400, 640, 1280][..])] {
        for &kib in bounds {
            let scan = bounded(root.path(), threads, kib << 10);
            let end = scan.progress();
            assert_eq!(end.unreadable, 0, "{kib} KiB are enough for directories");
            assert_eq!((end.allocated.0, end.entries), (expected.0, whole.progress().entries), "{kib} KiB");
            assert_eq!(end.apparent, whole.progress().apparent);
            assert_eq!(end.directories, whole.progress().directories);
            assert_eq!(scan.row(scan.root()).unwrap().allocated.0, expected.0);
            assert_eq!(check(&scan), end.folded, "{kib} KiB");
            seen.insert(end.folded.min(1));
            if kib == 64 {
                assert!(end.folded > 1000, "{end:?}");
            }
            // Hard links are always listed: else they could not count once.
            let links = scan.list(scan.root(), SortKey::Name, false).unwrap();
            assert_eq!(links.rows.iter().filter(|row| row.flags.hard_link).count(), 20);
        }
    }
    assert_eq!(seen.len(), 2, "some had enough, some had not");
}

#[test]
fn large_files_stay_listed_for_longer() {
    let root = tree();
    let whole = bounded(root.path(), 1, 1 << 30).largest_files(20);
    assert!(whole.iter().all(|(_, row)| row.apparent.0 >= 1 << 20));
    let scan = bounded(root.path(), 1, 160 << 10);
    assert!(scan.progress().folded > 0);
    assert_eq!(scan.largest_files(20).len(), 20);
    assert_eq!(
        scan.largest_files(20).into_iter().map(|(path, _)| path).collect::<Vec<_>>(),
        whole.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
}

#[test]
fn a_directory_that_is_scanned_again_gets_room() {
    let root = tree();
    let scan = bounded(root.path(), 1, 160 << 10);
    let expected = scan.progress();
    let folded = |scan: &Scan| {
        let mut open = vec![scan.root()];
        while let Some(dir) = open.pop() {
            let listing = scan.list(dir, SortKey::Name, false).unwrap();
            if listing.folded.is_some() {
                return listing;
            }
            open.extend(
                listing.rows.iter().filter(|row| row.kind == FileKind::Directory).map(|row| row.node),
            );
        }
        panic!("everything is listed");
    };
    let listing = folded(&scan);
    scan.rescan(listing.dir.node).unwrap();
    scan.wait();
    let again = scan.list(listing.dir.node, SortKey::Name, false).unwrap();
    assert!(again.rows.len() > listing.rows.len());
    assert_eq!(again.dir.allocated, listing.dir.allocated);
    let now = scan.progress();
    assert!(now.folded < expected.folded);
    assert_eq!(
        (now.allocated, now.entries, now.apparent),
        (expected.allocated, expected.entries, expected.apparent)
    );
    assert_eq!(check(&scan), now.folded);
    // Taking a directory out takes what is not listed with it.
    let listing = folded(&scan);
    let gone = listing.folded.unwrap().files;
    scan.forget(listing.dir.node);
    assert_eq!(scan.progress().folded, now.folded - gone);
    assert_eq!(scan.progress().entries, now.entries - listing.dir.entries);
}

#[test]
fn when_there_is_room_for_nothing_directories_are_said_not_to_be_read() {
    let root = tree();
    for threads in [1, 2] {
        let scan = bounded(root.path(), threads, 1000);
        let end = scan.progress();
        assert!(end.finished && !end.cancelled && end.unreadable > 0, "{end:?}");
        let (_, why) = scan.unreadable(1).remove(0);
        assert!(why.contains("scan.max_memory"), "{why}");
        assert!(scan.list(scan.root(), SortKey::Name, false).unwrap().dir.flags.unreadable_below);
    }
}
