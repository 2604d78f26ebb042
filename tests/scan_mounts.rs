//! The scanner where other file systems, or other parts of the same one, are mounted in the tree. Each test
//! runs again in a mount namespace of its own.
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
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{all_rows, argument, du, is_root, run_again, scanned};
use unwedge::domain::identity::FileKind;
use unwedge::scan::SortKey;

const OWN_MOUNTS: [&str; 4] = ["unshare", "--mount", "--propagation", "private"];

fn mount(arguments: &[&str], source: &Path, target: &Path) {
    let status = Command::new("mount").args(arguments).arg(source).arg(target).status().unwrap();
    assert!(status.success());
}

fn fill(path: &Path) {
    fs::create_dir_all(path.join("sub")).unwrap();
    fs::write(path.join("sub/file"), vec![1; 100_000]).unwrap();
    fs::write(path.join("file"), vec![1; 50_000]).unwrap();
}

#[test]
fn a_bind_mount_of_the_same_file_system_is_a_boundary() {
    let Some(dir) = argument().map(PathBuf::from) else {
        if is_root() {
            let dir = tempfile::tempdir().unwrap();
            let name = "a_bind_mount_of_the_same_file_system_is_a_boundary";
            run_again(&OWN_MOUNTS, &std::env::current_exe().unwrap(), name, dir.path());
        }
        return;
    };
    let (tree, elsewhere) = (dir.join("tree"), dir.join("elsewhere"));
    fill(&tree);
    fill(&elsewhere);
    let before = scanned(&tree, 2).progress();
    assert_eq!((before.allocated.0, before.apparent.0), du(&tree));
    fs::create_dir(tree.join("directory")).unwrap();
    fs::write(tree.join("single"), b"").unwrap();
    // A tree bound into itself has no end for who follows it.
    fs::create_dir(tree.join("itself")).unwrap();
    mount(&["--bind"], &elsewhere, &tree.join("directory"));
    mount(&["--bind"], &elsewhere.join("file"), &tree.join("single"));
    mount(&["--bind"], &tree, &tree.join("itself"));

    let scan = scanned(&tree, 2);
    let end = scan.progress();
    assert_eq!(end.allocated, before.allocated, "nothing that is mounted there is counted");
    assert_eq!(end.entries, before.entries + 3);
    assert_eq!(end.unreadable, 0);
    let listing = scan.list(scan.root(), SortKey::Name, false).unwrap();
    let points: Vec<_> = listing.rows.iter().filter(|row| row.flags.mount_point).collect();
    let shown: Vec<_> = points.iter().map(|row| (row.name.as_bytes(), row.kind, row.entries)).collect();
    assert_eq!(
        shown,
        [
            (&b"directory"[..], FileKind::Directory, 1),
            (b"itself", FileKind::Directory, 1),
            (b"single", FileKind::File, 1)
        ]
    );
    assert!(points.iter().all(|row| row.allocated.is_zero() && row.apparent.is_zero()));
    for point in points {
        assert!(scan.list(point.node, SortKey::Name, false).is_none(), "there is nothing to list");
        assert!(scan.rescan(point.node).is_err());
    }
    // The root of a scan may be a mount point itself.
    let within = scanned(&tree.join("directory"), 2);
    assert_eq!(within.progress().allocated, scanned(&elsewhere, 2).progress().allocated);
}

#[test]
fn another_file_system_is_a_boundary_and_the_total_is_that_of_du() {
    let Some(dir) = argument().map(PathBuf::from) else {
        if is_root() {
            let dir = tempfile::tempdir().unwrap();
            let name = "another_file_system_is_a_boundary_and_the_total_is_that_of_du";
            run_again(&OWN_MOUNTS, &std::env::current_exe().unwrap(), name, dir.path());
        }
        return;
    };
    let tree = dir.join("tree");
    fill(&tree);
    fs::create_dir(tree.join("sub/other")).unwrap();
    mount(&["-t", "tmpfs"], Path::new("none"), &tree.join("sub/other"));
    fill(&tree.join("sub/other"));
    let scan = scanned(&tree, 2);
    let end = scan.progress();
    assert_eq!((end.allocated.0, end.apparent.0), du(&tree));
    let rows = all_rows(&scan);
    assert!(rows[&tree.join("sub/other")].flags.mount_point);
    assert!(!rows.contains_key(&tree.join("sub/other/file")));
}

#[test]
fn what_is_mounted_after_the_listing_is_not_entered_by_a_rescan() {
    let Some(dir) = argument().map(PathBuf::from) else {
        if is_root() {
            let dir = tempfile::tempdir().unwrap();
            let name = "what_is_mounted_after_the_listing_is_not_entered_by_a_rescan";
            run_again(&OWN_MOUNTS, &std::env::current_exe().unwrap(), name, dir.path());
        }
        return;
    };
    let (tree, elsewhere) = (dir.join("tree"), dir.join("elsewhere"));
    fill(&tree);
    fill(&elsewhere);
    let scan = scanned(&tree, 2);
    let sub = common::node(&scan, &tree.join("sub"));
    mount(&["--bind"], &elsewhere, &tree.join("sub"));
    let error = scan.rescan(sub).unwrap_err().to_string();
    assert!(error.contains("something else is mounted there"), "{error}");
    scan.rescan(scan.root()).unwrap();
    let end = scan.wait();
    let rows = all_rows(&scan);
    assert!(rows[&tree.join("sub")].flags.mount_point);
    assert_eq!(end.entries, 3);
    // A finished scan holds nothing open: its file system can be unmounted.
    let status = Command::new("umount").arg(tree.join("sub")).status().unwrap();
    assert!(status.success());
}
