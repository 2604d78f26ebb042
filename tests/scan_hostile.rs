//! The scanner where the tree is unfriendly: too deep, unreadable, changing, or not what it seems.
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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{argument, chain, is_root, node, run_again, scanned};
use unwedge::scan::{Options, Scan, SortKey};

#[test]
fn sixty_thousand_levels_are_read_with_256_descriptors() {
    const DEPTH: usize = 60_000;
    let Some(tree) = argument().map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        let deep = chain(&dir.path().join("chain"), DEPTH, 0);
        let name = "sixty_thousand_levels_are_read_with_256_descriptors";
        run_again(&["prlimit", "--nofile=256:256"], &std::env::current_exe().unwrap(), name, &deep.0);
        return;
    };
    let scan = scanned(&tree, 2);
    let end = scan.progress();
    assert_eq!((end.directories, end.entries), (DEPTH as u64 + 1, 2 * DEPTH as u64 + 2));
    assert_eq!((end.unreadable, end.vanished), (0, 0));
    let (path, _) = scan.largest_files(1).remove(0);
    let expected =
        [tree.as_os_str().as_encoded_bytes(), "/deeper".repeat(DEPTH).as_bytes(), b"/bottom"].concat();
    assert_eq!(path.as_bytes(), expected);
    assert_eq!(end.allocated.0, common::du(&tree).0);
}

#[test]
fn a_deep_tree_with_branches_at_every_level_is_read_with_64_descriptors() {
    const DEPTH: usize = 3_000;
    let Some(tree) = argument().map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        let deep = chain(&dir.path().join("comb"), DEPTH, 3);
        let name = "a_deep_tree_with_branches_at_every_level_is_read_with_64_descriptors";
        run_again(&["prlimit", "--nofile=64:64"], &std::env::current_exe().unwrap(), name, &deep.0);
        return;
    };
    let end = scanned(&tree, 2).progress();
    assert_eq!((end.directories, end.entries), (4 * DEPTH as u64 + 1, 5 * DEPTH as u64 + 2));
    assert_eq!((end.unreadable, end.vanished), (0, 0));
}

#[test]
fn what_others_may_not_read_is_counted_and_shown() {
    let Some(tree) = argument().map(PathBuf::from) else {
        if !is_root() {
            return;
        }
        // Not under a temporary directory of mode 0700: the child is another user.
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let tree = dir.path().join("tree");
        for (name, mode) in [("closed", 0o700), ("list-only", 0o744), ("open", 0o755)] {
            let path = tree.join(name);
            fs::create_dir_all(path.join("inside/deep")).unwrap();
            fs::write(path.join("file"), vec![1; 5000]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let exe = dir.path().join("test-binary");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
        run_again(&user, &exe, "what_others_may_not_read_is_counted_and_shown", &tree);
        return;
    };
    assert!(!rustix::process::geteuid().is_root());
    let scan = scanned(&tree, 2);
    let end = scan.progress();
    // closed, list-only, and list-only/inside, whose name is all that can be known of it.
    assert_eq!(end.unreadable, 3);
    let listing = scan.list(scan.root(), SortKey::Name, false).unwrap();
    assert!(listing.dir.flags.unreadable_below && !listing.dir.flags.unreadable);
    let unreadable: Vec<bool> = listing.rows.iter().map(|row| row.flags.unreadable).collect();
    assert_eq!(unreadable, [true, true, false]);
    assert!(!listing.rows[2].flags.unreadable_below);
    assert_eq!(listing.rows[0].entries, 1);
    assert_eq!(listing.rows[1].entries, 3, "names are known where sizes are not");
    let mut told = scan.unreadable(10);
    told.sort();
    let paths: Vec<&Path> = told.iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(paths, [tree.join("closed"), tree.join("list-only"), tree.join("list-only/inside")]);
    assert!(told.iter().all(|(_, why)| why.contains("permission denied") && why.contains("root")));
    assert_eq!(scan.unreadable(1).len(), 1);
    let error = Scan::start(&tree.join("closed"), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("permission denied: run unwedge as root"), "{error}");
}

#[test]
fn a_scan_does_not_start_where_there_is_no_directory_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"x").unwrap();
    std::os::unix::fs::symlink("circle", dir.path().join("circle")).unwrap();
    let error =
        |name: &str| Scan::start(&dir.path().join(name), &Options::default()).unwrap_err().to_string();
    assert!(error("nothing").contains("does not exist"), "{}", error("nothing"));
    assert!(error("file").contains("is a file, not a directory: give its directory"), "{}", error("file"));
    assert!(error("file/below").contains("is a file"), "{}", error("file/below"));
    assert!(error("circle").contains("circle"), "{}", error("circle"));
}

#[test]
fn a_link_to_a_directory_is_followed_at_the_start_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("real/sub")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("real/up")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let scan = scanned(&dir.path().join("link"), 2);
    assert_eq!(scan.path(scan.root()).as_path(), dir.path().join("real").canonicalize().unwrap());
    assert_eq!(scan.progress().entries, 3);
    assert_eq!(scan.list(scan.root(), SortKey::Name, false).unwrap().dir.name.as_bytes(), b"real");
}

#[test]
fn a_tree_that_changes_while_it_is_read_neither_stops_nor_confuses_the_scan() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..40 {
        fs::create_dir_all(tree.join(format!("stays-{number}/a/b"))).unwrap();
        fs::write(tree.join(format!("stays-{number}/a/file")), vec![0; 9000]).unwrap();
    }
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        for hand in 0..2 {
            let (tree, stop, rounds) = (&tree, &stop, &rounds);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..20 {
                        let coming = tree.join(format!("stays-{number}/a/b/goes-{hand}"));
                        fs::create_dir_all(coming.join("x/y")).unwrap();
                        let file = fs::File::create(coming.join("x/shrinks")).unwrap();
                        file.set_len(1 << 20).unwrap();
                        file.set_len(1).unwrap();
                        fs::remove_dir_all(&coming).unwrap();
                        // And a directory becomes a link out of the tree.
                        std::os::unix::fs::symlink("/usr", &coming).unwrap();
                        fs::remove_file(&coming).unwrap();
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut vanished = 0;
        for round in 0..400 {
            let scan = scanned(&tree, 2);
            let end = scan.progress();
            vanished += end.vanished;
            assert_eq!(end.unreadable, 0, "{:?}", scan.unreadable(3));
            assert!(end.entries >= 161 && end.entries < 400, "never /usr: {end:?}");
            let root = scan.list(scan.root(), SortKey::Name, false).unwrap();
            assert_eq!(root.dir.allocated, end.allocated);
            assert_eq!(root.dir.entries, end.entries);
            assert_eq!(root.rows.len(), 40);
            if vanished > 5 && round > 20 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(vanished > 0, "the race was never run: {} rounds of changes", rounds.load(Ordering::Relaxed));
    });
}

#[test]
fn a_cancelled_scan_ends_and_says_what_it_did_not_read() {
    let scan = Scan::start(Path::new("/usr"), &Options { threads: Some(2), ..Options::default() }).unwrap();
    while scan.progress().entries < 200 {
        thread::yield_now();
    }
    scan.cancel();
    let end = scan.wait();
    assert!(end.finished && end.cancelled, "{end:?}");
    let listing = scan.list(scan.root(), SortKey::Allocated, false).unwrap();
    assert!(listing.dir.flags.unreadable_below || listing.dir.flags.unreadable);
    assert!(!listing.dir.flags.scanning && listing.rows.iter().all(|row| !row.flags.scanning));
    assert_eq!(listing.dir.allocated, end.allocated);
    assert_eq!(listing.dir.entries, end.entries);
    let elapsed = scan.progress().elapsed;
    thread::yield_now();
    assert_eq!(scan.progress().elapsed, elapsed, "the clock stands still");
}

#[test]
fn the_last_handle_to_go_cancels_the_scan() {
    // Alone in a process of its own, so that the threads counted are this scan's.
    let Some(_) = argument() else {
        let exe = std::env::current_exe().unwrap();
        run_again(&["env"], &exe, "the_last_handle_to_go_cancels_the_scan", Path::new("/"));
        return;
    };
    let workers = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "unwedge-scan").count()
    };
    let scan = Scan::start(Path::new("/"), &Options { threads: Some(3), ..Options::default() }).unwrap();
    let clone = scan.clone();
    drop(scan);
    // A thread gives itself its name, a moment after it was made.
    while workers() == 0 {
        assert!(!clone.progress().finished, "nothing could be seen of the workers");
        thread::yield_now();
    }
    assert!(!clone.progress().cancelled);
    drop(clone);
    while workers() > 0 {
        thread::yield_now();
    }
}

/// Makes a directory large enough to be shared out among the workers, with this many entries.
fn wide(root: &Path, entries: u32) {
    fs::create_dir(root).unwrap();
    for number in 0..entries {
        fs::File::create(root.join(format!("entry number {number}"))).unwrap();
    }
}

#[test]
fn many_large_directories_are_read_with_64_descriptors() {
    const COUNT: u32 = 12;
    const ENTRIES: u32 = 2_500;
    let Some(tree) = argument().map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..COUNT {
            wide(&dir.path().join(format!("large-{number}")), ENTRIES);
        }
        let name = "many_large_directories_are_read_with_64_descriptors";
        run_again(&["prlimit", "--nofile=64:64"], &std::env::current_exe().unwrap(), name, dir.path());
        return;
    };
    for threads in [2, 16] {
        let end = scanned(&tree, threads).progress();
        assert_eq!(end.directories, u64::from(COUNT) + 1);
        assert_eq!(end.entries, u64::from(COUNT) * u64::from(ENTRIES + 1) + 1);
        assert_eq!((end.unreadable, end.vanished), (0, 0));
    }
}

#[test]
fn a_large_directory_that_may_only_be_listed_counts_once_as_unreadable() {
    let Some(tree) = argument().map(PathBuf::from) else {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        wide(&tree.join("wide"), 5_000);
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(tree.join("wide"), fs::Permissions::from_mode(0o744)).unwrap();
        let exe = dir.path().join("test-binary");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
        run_again(&user, &exe, "a_large_directory_that_may_only_be_listed_counts_once_as_unreadable", &tree);
        return;
    };
    let end = scanned(&tree, 3).progress();
    assert_eq!((end.entries, end.directories, end.unreadable, end.vanished), (5_002, 2, 1, 0));
}

#[test]
fn a_scan_cancelled_within_a_large_directory_keeps_what_it_has_and_no_descriptor() {
    // Alone in a process of its own, so that the descriptors counted are this scan's.
    let Some(tree) = argument().map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        wide(&dir.path().join("wide"), 30_000);
        let exe = std::env::current_exe().unwrap();
        let name = "a_scan_cancelled_within_a_large_directory_keeps_what_it_has_and_no_descriptor";
        run_again(&["env"], &exe, name, dir.path().join("wide"));
        return;
    };
    let open_in_tree = || {
        let fds = fs::read_dir("/proc/self/fd").unwrap();
        fds.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to.starts_with(&tree)))
            .count()
    };
    let mut cut = 0;
    for round in 0..16 {
        let scan = Scan::start(&tree, &Options { threads: Some(3), ..Options::default() }).unwrap();
        while scan.progress().entries < 2_000 * (1 + round % 8) {
            thread::yield_now();
        }
        scan.cancel();
        let end = scan.wait();
        assert!(end.finished);
        let listing = scan.list(scan.root(), SortKey::Name, false).unwrap();
        assert_eq!((listing.dir.entries, listing.dir.allocated), (end.entries, end.allocated));
        assert_eq!(listing.rows.len() as u64 + 1, end.entries);
        assert_eq!(listing.dir.flags.unreadable, end.cancelled);
        assert_eq!(open_in_tree(), 0);
        cut += u32::from(end.cancelled);
        scan.rescan(scan.root()).unwrap();
        let end = scan.wait();
        assert_eq!((end.entries, end.unreadable, end.cancelled), (30_001, 0, false));
    }
    assert!(cut > 0, "no scan was cancelled in time");
}

#[test]
fn a_size_no_disk_could_hold_is_shown_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holes");
    fs::File::create(&path).unwrap().set_len(1 << 43).unwrap();
    let scan = scanned(dir.path(), 2);
    let row = scan.row(node(&scan, &path)).unwrap();
    assert_eq!(row.apparent.0, 1 << 43);
    assert_eq!(row.allocated.0, fs::symlink_metadata(&path).unwrap().blocks() * 512);
}
