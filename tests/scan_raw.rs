//! The scanner reading whole ext4 file systems from their device against the same scanner by ordinary calls: every row
//! must be the same.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_sign_loss,
    reason = "tests make and change their own images in a temporary directory"
)]

#[path = "common/scan.rs"]
mod common;
#[path = "common/ext4.rs"]
mod image;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{all_rows, argument, chain, du, inside_mount_namespace, node, run_again};
use image::{Image, can_mount, populate};
use unwedge::domain::identity::FileKind;
use unwedge::domain::text::HostPath;
use unwedge::scan::{Method, NodeId, Options, Reading, Row, Sample, Scan, SortKey};

/// Directories changed in the last two seconds are not trusted where they have several blocks: wait until none is.
const SETTLED: Duration = Duration::from_millis(3100);

fn scanned(path: &Path, method: Method) -> Scan {
    let scan = Scan::start(path, &Options { threads: Some(3), method, ..Options::default() }).unwrap();
    let end = scan.wait();
    assert!(end.finished && !end.cancelled, "{end:?}");
    scan
}

/// Rows without what differs from scan to scan.
fn rows(scan: &Scan) -> BTreeMap<PathBuf, Row> {
    all_rows(scan).into_iter().map(|(path, row)| (path, Row { node: NodeId(0), ..row })).collect()
}

#[track_caller]
fn assert_same_rows(what: &str, expected: &BTreeMap<PathBuf, Row>, found: &BTreeMap<PathBuf, Row>) {
    let mut differences = Vec::new();
    for path in expected.keys().chain(found.keys().filter(|path| !expected.contains_key(*path))) {
        let row =
            |rows: &BTreeMap<PathBuf, Row>| rows.get(path).map(|row| Row { node: NodeId(0), ..row.clone() });
        let (one, other) = (row(expected), row(found));
        if one != other {
            differences
                .push(format!("{}:\n  calls {one:?}\n  raw   {other:?}", HostPath::from(path.as_path())));
        }
    }
    assert!(
        differences.is_empty(),
        "{what}: {} of {} rows differ:\n{}",
        differences.len(),
        expected.len(),
        differences.iter().take(8).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[track_caller]
fn assert_same(what: &str, calls: &Scan, raw: &Scan) {
    assert_same_rows(what, &rows(calls), &rows(raw));
    let sums = |scan: &Scan| {
        let end = scan.progress();
        (end.entries, end.directories, end.unreadable, end.allocated, end.apparent)
    };
    assert_eq!(sums(calls), sums(raw), "{what}");
    let sizes = |found: Vec<(HostPath, Row)>| -> Vec<u64> {
        found.into_iter().map(|(_, row)| row.allocated.0).collect()
    };
    assert_eq!(sizes(calls.largest_files(20)), sizes(raw.largest_files(20)), "{what}");
    assert_eq!(sizes(calls.largest_dirs(20)), sizes(raw.largest_dirs(20)), "{what}");
}

#[track_caller]
fn by_calls(scan: &Scan) -> usize {
    match scan.reading() {
        Reading::Raw { by_calls, .. } => by_calls,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn mount(arguments: &[&str], source: &Path, target: &Path) {
    let status = Command::new("mount").args(arguments).arg(source).arg(target).status().unwrap();
    assert!(status.success());
}

const KINDS: [&[&str]; 5] = [
    &["-t", "ext4", "-N", "40000"],
    &["-t", "ext4", "-N", "40000", "-O", "inline_data,large_dir,ea_inode,orphan_file"],
    &["-t", "ext4", "-N", "40000", "-O", "^metadata_csum,uninit_bg"],
    &["-t", "ext3", "-b", "1024", "-N", "40000"],
    &["-t", "ext2", "-N", "40000", "-I", "128"],
];

#[test]
fn every_row_is_as_by_ordinary_calls() {
    if !can_mount() || !inside_mount_namespace("every_row_is_as_by_ordinary_calls") {
        return;
    }
    for mkfs in KINDS {
        let mut image = Image::make(256, mkfs);
        image.mount("");
        let root = image.root();
        populate(&root, 3000);
        // Names of one file at many depths: which of them counts must not depend on the way of reading.
        for (at, dir) in ["tree", "tree/d00", "few/60", "odd/deep/0/1/2", ""].into_iter().enumerate() {
            fs::hard_link(root.join("tree/d11/f039"), root.join(dir).join(format!("another-{at}"))).unwrap();
        }
        let gone = root.join("gone");
        fs::write(&gone, vec![7; 300_000]).unwrap();
        let open = fs::File::open(&gone).unwrap();
        fs::remove_file(&gone).unwrap();
        // Blocks that are only reserved so far count less by ordinary calls (delayed allocation).
        image.syncfs();
        thread::sleep(SETTLED);
        let what = format!("{mkfs:?}");
        let (calls, raw) = (scanned(&root, Method::Calls), scanned(&root, Method::Raw));
        assert_eq!(by_calls(&raw), 0, "{what}: nothing needs ordinary calls");
        assert_same(&what, &calls, &raw);
        assert_eq!(raw.progress().allocated.0, du(&root).0, "{what}");
        assert!(rows(&raw).keys().any(|path| path.as_os_str().as_bytes().contains(&0xff)));
        drop(open);

        // The tree can be changed as one that was made by calls.
        for scan in [&calls, &raw] {
            scan.forget(node(scan, &root.join("another-4")));
            scan.forget(node(scan, &root.join("tree/d03")));
        }
        assert_same(&format!("{what} after forgetting"), &calls, &raw);
        let names = |scan: &Scan| scan.other_names(node(scan, &root.join("tree/another-0")));
        assert_eq!(names(&calls), names(&raw));
        assert_eq!(names(&raw).len(), 4);
        for path in [root.clone(), root.join("tree")] {
            raw.rescan(node(&raw, &path)).unwrap();
            raw.wait();
            assert_same(&format!("{what} after a rescan"), &scanned(&root, Method::Calls), &raw);
        }
    }
}

#[test]
fn what_is_mounted_in_it_is_a_boundary() {
    if !can_mount() || !inside_mount_namespace("what_is_mounted_in_it_is_a_boundary") {
        return;
    }
    let mut image = Image::make(128, KINDS[0]);
    image.mount("");
    let root = image.root();
    populate(&root, 800);
    for dir in ["itself", "over/tmpfs", "over/part"] {
        fs::create_dir_all(root.join(dir).join("hidden")).unwrap();
        fs::write(root.join(dir).join("hidden/file"), vec![1; 70_000]).unwrap();
    }
    // One of its two names is hidden: the size counts at the other.
    fs::write(root.join("over/linked"), vec![1; 90_000]).unwrap();
    fs::hard_link(root.join("over/linked"), root.join("itself/hidden/linked")).unwrap();
    fs::write(root.join("over/single"), vec![1; 10_000]).unwrap();
    let odd = root.join("over").join(OsStr::from_bytes(b"n\xff\n \\040"));
    fs::create_dir(&odd).unwrap();
    image.syncfs();
    thread::sleep(SETTLED);
    mount(&["--bind"], &root, &root.join("itself"));
    mount(&["-t", "tmpfs"], Path::new("none"), &root.join("over/tmpfs"));
    mount(&["-t", "tmpfs"], Path::new("none"), &odd);
    mount(&["--bind"], &root.join("tree"), &root.join("over/part"));
    mount(&["--bind"], Path::new("/dev/null"), &root.join("over/single"));
    fs::create_dir(root.join("over/tmpfs/inner")).unwrap();
    mount(&["-t", "tmpfs"], Path::new("none"), &root.join("over/tmpfs/inner"));

    let (calls, raw) = (scanned(&root, Method::Calls), scanned(&root, Method::Raw));
    assert_same("mounts", &calls, &raw);
    assert_eq!(by_calls(&raw), 1, "over; the root always is, and not counted");
    let seen = rows(&raw);
    let points: Vec<_> = seen.iter().filter(|(_, row)| row.flags.mount_point).map(|(path, _)| path).collect();
    assert_eq!(points.len(), 5, "{points:?}");
    assert!(seen.keys().all(|path| !path.as_os_str().as_bytes().ends_with(b"hidden")));
    assert!(!seen[&root.join("over/linked")].flags.counted_elsewhere);

    // Through the bind mount it is not the whole file system: an ordinary scan, and the same sums.
    let part = scanned(&root.join("over/part"), Method::Auto);
    assert!(part.reading().to_string().contains("only a part of the ext4 file system"), "{}", part.reading());
    for path in ["itself", "over/part", "over/tmpfs/inner", "over/tmpfs", "over/single"] {
        assert!(Command::new("umount").arg(root.join(path)).status().unwrap().success());
    }
    assert!(Command::new("umount").arg(&odd).status().unwrap().success());
}

#[test]
fn what_was_just_changed_is_there() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(128, KINDS[0]);
    image.mount("");
    let root = image.root();
    for round in 0..4 {
        let dir = root.join(format!("round-{round}"));
        fs::create_dir(&dir).unwrap();
        for at in 0..500_usize {
            fs::write(dir.join(format!("{at}-{}", "n".repeat(at % 200))), vec![1; at * 20]).unwrap();
        }
        // Written a moment ago, not on the disk yet: without syncfs(2) they would have no blocks.
        let raw = scanned(&root, Method::Raw);
        assert!(by_calls(&raw) > 0, "directories of several blocks that just changed are read by calls");
        assert_same("just changed", &scanned(&root, Method::Calls), &raw);
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Changes a directory without rest until told to stop.
fn churn(dir: &Path, stop: &AtomicBool) {
    // Of one block each but for `files` and `subs`: these are not trusted as soon as they change.
    for sub in ["a/b", "files", "subs"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    for round in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let path = dir.join(format!("files/{}-{}", round % 900, "x".repeat(round % 90)));
        fs::write(&path, vec![b'c'; round % 10_000]).unwrap();
        match round % 6 {
            0 => fs::rename(&path, dir.join(format!("a/renamed-{}", round % 90))).unwrap(),
            1 => fs::remove_file(&path).unwrap(),
            2 => {
                // A directory with something in it that moves to and fro.
                let (one, other) = (dir.join("mover"), dir.join("a/b/mover"));
                let _ = fs::create_dir(&one);
                let _ = fs::write(one.join(format!("{}", round % 20)), b"moves");
                let _ = fs::rename(&one, &other).or_else(|_| fs::rename(&other, &one));
            }
            3 => {
                let _ = fs::hard_link(&path, dir.join(format!("a/link-{}", round % 70)));
            }
            _ => {
                let sub = dir.join(format!("subs/{}", round % 300));
                let _ = fs::create_dir(&sub);
                let _ = fs::write(sub.join("in"), b"x");
                let old = dir.join(format!("subs/{}", (round + 150) % 300));
                let _ = fs::remove_file(old.join("in")).and_then(|()| fs::remove_dir(old));
            }
        }
    }
}

#[test]
fn what_does_not_change_is_exact_while_the_rest_does() {
    if !can_mount() {
        return;
    }
    for mkfs in [KINDS[0], KINDS[3]] {
        let mut image = Image::make(256, mkfs);
        image.mount("");
        let root = image.root();
        let still = root.join("still");
        fs::create_dir(&still).unwrap();
        populate(&still, 2000);
        image.syncfs();
        thread::sleep(SETTLED);
        let below = |scan: &Scan| -> BTreeMap<PathBuf, Row> {
            rows(scan).into_iter().filter(|(path, _)| path.starts_with(&still)).collect()
        };
        let expected = below(&scanned(&root, Method::Calls));
        let stop = AtomicBool::new(false);
        let (mut given_up, mut samples) = (0, Sample::default());
        let mut last = None;
        thread::scope(|scope| {
            for at in 0..2 {
                let (dir, stop) = (root.join(format!("churn-{at}")), &stop);
                scope.spawn(move || churn(&dir, stop));
            }
            let _stop = StopOnDrop(&stop);
            for _ in 0..15 {
                let scan = scanned(&root, Method::Auto);
                given_up += usize::from(!scan.reading().is_raw());
                if let Reading::Raw { sample, .. } = scan.reading() {
                    samples.checked += sample.checked;
                    samples.equal += sample.equal;
                    samples.changed += sample.changed;
                }
                let what = format!("the still part, {}", scan.reading());
                assert_same_rows(&what, &expected, &below(&scan));
                // Sums hold together whatever happened.
                let (end, top) = (scan.progress(), scan.row(scan.root()).unwrap());
                assert_eq!((end.entries, end.allocated), (top.entries, top.allocated), "{}", scan.reading());
                last = Some(scan);
            }
        });
        eprintln!("{mkfs:?}: {given_up} of 15 given up; {samples:?}; {}", last.as_ref().unwrap().reading());
        assert!(samples.checked > 0 && samples.differing() * 100 <= samples.checked, "{samples:?}");
        assert!(given_up < 15);
        let last = last.unwrap();
        image.syncfs();
        last.rescan(last.root()).unwrap();
        last.wait();
        let calls = scanned(&root, Method::Calls);
        assert_same("after it stopped and a rescan", &calls, &last);
        thread::sleep(SETTLED);
        let raw = scanned(&root, Method::Raw);
        assert_same("after it stopped", &calls, &raw);
        assert_eq!(by_calls(&raw), 0);
    }
}

#[test]
fn sixty_thousand_levels_are_read_from_the_device_with_256_descriptors() {
    const DEPTH: u64 = 60_000;
    let Some(root) = argument().map(PathBuf::from) else {
        if !can_mount() {
            return;
        }
        let mut image = Image::make(512, &["-t", "ext4", "-N", "140000"]);
        image.mount("");
        // It goes with its image.
        let _deep = ManuallyDrop::new(chain(&image.root().join("chain"), DEPTH.try_into().unwrap(), 0));
        image.syncfs();
        let name = "sixty_thousand_levels_are_read_from_the_device_with_256_descriptors";
        let exe = std::env::current_exe().unwrap();
        run_again(&["prlimit", "--nofile=256:256"], &exe, name, image.root());
        return;
    };
    let scan = scanned(&root, Method::Raw);
    let end = scan.progress();
    // With the root, lost+found, and the file at the bottom.
    assert_eq!((end.directories, end.entries), (DEPTH + 3, 2 * DEPTH + 4));
    assert_eq!((end.unreadable, end.vanished, end.allocated.0), (0, 0, du(&root).0));
    let (path, _) = scan.largest_files(1).remove(0);
    assert!(
        path.as_bytes()
            .ends_with(&["/deeper".repeat(DEPTH.try_into().unwrap()).as_bytes(), b"/bottom"].concat())
    );
}

#[test]
fn what_is_encrypted_is_read_by_calls() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(64, &["-t", "ext4", "-O", "encrypt", "-N", "16000"]);
    image.mount("");
    populate(&image.root(), 500);
    image.unmount();
    image.mount("test_dummy_encryption");
    let root = image.root();
    fs::create_dir_all(root.join("odd/secret/inner")).unwrap();
    for at in 0..50 {
        fs::write(root.join(format!("odd/secret/hidden-{at}")), vec![b'h'; at * 100]).unwrap();
    }
    image.syncfs();
    thread::sleep(SETTLED);
    let raw = scanned(&root, Method::Raw);
    assert_eq!(by_calls(&raw), 1);
    assert_same("encrypted", &scanned(&root, Method::Calls), &raw);
}

#[test]
fn what_cannot_be_read_as_a_whole_is_said() {
    if !can_mount() || !inside_mount_namespace("what_cannot_be_read_as_a_whole_is_said") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs"], Path::new("none"), dir.path());
    fs::write(dir.path().join("file"), b"x").unwrap();
    let raw = Options { threads: None, method: Method::Raw, ..Options::default() };
    let error = Scan::start(dir.path(), &raw).unwrap_err().to_string();
    assert!(error.contains("is on tmpfs") && error.contains("from its device"), "{error}");
    let auto = scanned(dir.path(), Method::Auto);
    assert!(auto.reading().to_string().starts_with("ordinary calls: ") && auto.progress().entries == 2);
    assert!(auto.reading().to_string().contains("is on tmpfs"), "{}", auto.reading());
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());

    let mut image = Image::make(64, KINDS[0]);
    image.mount("");
    let root = image.root();
    populate(&root, 300);
    let sub = Scan::start(&root.join("tree"), &raw).unwrap_err().to_string();
    assert!(sub.contains("only a part of the ext4 file system"), "{sub}");
    // Without the right to read the device, for this thread and those it starts (credentials(7)).
    let reading = thread::spawn(move || {
        nix::unistd::setfsgid(nix::unistd::Gid::from_raw(65_534));
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        let scan =
            Scan::start(&root, &Options { threads: Some(2), method: Method::Auto, ..Options::default() })
                .unwrap();
        assert!(scan.wait().entries > 300);
        scan.reading()
    });
    let reading = reading.join().unwrap();
    assert!(reading.to_string().contains("needs root"), "{reading}");
}

#[test]
fn a_damaged_file_system_is_read_by_calls() {
    if !can_mount() {
        return;
    }
    // Marked as having errors: the kernel still mounts it.
    let mut image = Image::make(64, KINDS[0]);
    image.mount("");
    populate(&image.root(), 300);
    image.unmount();
    let path = image.path();
    image::run("/sbin/debugfs", &["-w".as_ref(), "-R".as_ref(), "ssv state 2".as_ref(), path.as_os_str()]);
    image.mount("");
    let auto = scanned(&image.root(), Method::Auto);
    assert!(auto.reading().to_string().contains("marked as having errors"), "{}", auto.reading());
    assert_same("marked", &scanned(&image.root(), Method::Calls), &auto);
}

/// The device says something else than the kernel about files that nobody changed: nothing of it is kept.
#[test]
fn what_disagrees_with_statx_is_thrown_away() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(128, KINDS[2]);
    image.mount("");
    let root = image.root();
    populate(&root, 600);
    image.syncfs();
    thread::sleep(SETTLED);
    // The kernel keeps the inodes in memory from here on.
    let calls = scanned(&root, Method::Calls);
    let device = format!("/dev/loop{}", image.dev().minor);
    let requests = tempfile::NamedTempFile::new().unwrap();
    let files = rows(&calls).into_iter().filter(|(_, row)| row.kind == FileKind::File);
    let text: Vec<String> = files
        .map(|(path, _)| {
            let ino = std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(&path).unwrap());
            format!("sif <{ino}> mtime @0x5000000\n")
        })
        .collect();
    assert!(text.len() > 300, "{}", text.len());
    fs::write(requests.path(), text.concat()).unwrap();
    image::run(
        "/sbin/debugfs",
        &["-w".as_ref(), "-f".as_ref(), requests.path().as_os_str(), device.as_ref()],
    );
    let auto = scanned(&root, Method::Auto);
    let reading = auto.reading().to_string();
    assert!(reading.starts_with("ordinary calls: /dev/loop") && reading.contains("disagree"), "{reading}");
    assert_same("thrown away", &calls, &auto);
}

#[test]
fn a_file_system_mounted_read_only_is_read_from_its_device() {
    if !can_mount() {
        return;
    }
    for mkfs in KINDS {
        let mut image = Image::make(128, mkfs);
        image.mount("");
        populate(&image.root(), 500);
        image.unmount();
        image.mount("ro");
        let (calls, raw) = (scanned(&image.root(), Method::Calls), scanned(&image.root(), Method::Raw));
        assert!(raw.reading().is_raw(), "{}", raw.reading());
        assert_same("read-only", &calls, &raw);
    }
}

#[test]
fn deleted_files_that_are_still_open_are_found() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(128, KINDS[0]);
    image.mount("");
    let root = image.root();
    populate(&root, 100);
    let path = root.join("deleted");
    fs::write(&path, vec![1; 300_000]).unwrap();
    let open = fs::File::open(&path).unwrap();
    let ino = std::os::unix::fs::MetadataExt::ino(&open.metadata().unwrap());
    image.syncfs();
    fs::remove_file(&path).unwrap();
    let raw = scanned(&root, Method::Raw);
    let orphans: Vec<_> =
        raw.orphans().unwrap().iter().map(|one| (u64::from(one.ino), one.record.allocated.0)).collect();
    assert_eq!(orphans, [(ino, 303_104)]);
    drop(open);
    assert_eq!(scanned(&root, Method::Raw).orphans().unwrap(), []);
    assert!(scanned(&root, Method::Calls).orphans().is_none());
}

#[test]
fn a_cancelled_reading_ends_with_a_tree_that_says_so() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(128, KINDS[0]);
    image.mount("");
    populate(&image.root(), 6000);
    for wait in 0..12 {
        let scan = Scan::start(
            &image.root(),
            &Options { threads: Some(2), method: Method::Raw, ..Options::default() },
        )
        .unwrap();
        thread::sleep(Duration::from_millis(wait * 3));
        scan.cancel();
        let end = scan.wait();
        assert!(end.finished);
        let root = scan.row(scan.root()).unwrap();
        assert_eq!(end.cancelled, root.flags.unreadable || root.flags.unreadable_below, "{end:?} {root:?}");
        assert_eq!((end.entries, end.allocated), (root.entries, root.allocated));
        scan.rescan(scan.root()).unwrap();
        scan.wait();
        assert_same("after a rescan", &scanned(&image.root(), Method::Calls), &scan);
    }
}

#[test]
fn what_is_in_the_root_is_there_before_the_device_has_been_read() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(128, KINDS[0]);
    image.mount("");
    populate(&image.root(), 6000);
    image.syncfs();
    thread::sleep(SETTLED);
    let calls = scanned(&image.root(), Method::Calls);
    let names = |scan: &Scan| -> Vec<_> {
        let rows = scan.list(scan.root(), SortKey::Name, false).unwrap().rows;
        rows.into_iter().map(|row| (row.name, row.kind)).collect()
    };
    let all = names(&calls);
    let mut seen = false;
    // Whoever looks may be late: then the next scan.
    for _ in 0..200 {
        let options = Options { threads: Some(2), method: Method::Raw, ..Options::default() };
        let scan = Scan::start(&image.root(), &options).unwrap();
        while !seen && scan.orphans().is_none() && !scan.progress().finished {
            let rows = scan.list(scan.root(), SortKey::Name, false).unwrap();
            // Orphans come with what the device tells.
            seen = !rows.rows.is_empty() && rows.dir.flags.scanning && scan.orphans().is_none();
            if seen {
                assert_eq!(rows.rows.into_iter().map(|row| (row.name, row.kind)).collect::<Vec<_>>(), all);
            }
        }
        scan.wait();
        if seen {
            assert_same("in the end", &calls, &scan);
            return;
        }
    }
    panic!("nothing was seen before the end");
}

#[test]
fn the_commands_read_the_device_by_default() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(64, KINDS[0]);
    image.mount("");
    populate(&image.root(), 300);
    image.syncfs();
    thread::sleep(SETTLED);
    let ask = |args: &[&str]| -> serde_json::Value {
        let out = Command::new(env!("CARGO_BIN_EXE_unwedge")).args(args).arg(image.root()).output().unwrap();
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)))
    };
    let device = format!("read from /dev/loop{}", image.dev().minor);
    for scan in [
        &ask(&["scan", "--format", "json"])["scan"]["value"],
        &ask(&["scan", "--format", "json", "--method", "raw"])["scan"]["value"],
        &ask(&["--audit", "--format", "json"])["scans"][0]["value"],
    ] {
        assert_eq!(scan["method"], "raw", "{scan:#}");
        let why = scan["method_why"].as_str().unwrap();
        assert!(why.starts_with(&format!("{device}; checked ")), "{why}");
        assert_eq!(scan["allocated"].as_u64().unwrap(), du(&image.root()).0);
    }
    let calls = &ask(&["scan", "--format", "json", "--method", "calls"])["scan"]["value"];
    assert_eq!(
        (&calls["method"], &calls["method_why"]),
        (&"calls".into(), &"ordinary calls, as asked".into())
    );
}

#[test]
#[ignore = "a comparison, run by hand with UNWEDGE_EXT4 set to where a file system is mounted that nothing writes to"]
fn every_row_of_a_given_file_system_is_as_by_ordinary_calls() {
    let root = PathBuf::from(std::env::var_os("UNWEDGE_EXT4").expect("UNWEDGE_EXT4 names a mount point"));
    let mut longest = Duration::ZERO;
    for wait in (0..400).step_by(20) {
        let scan = Scan::start(&root, &Options { threads: None, method: Method::Raw, ..Options::default() })
            .unwrap();
        thread::sleep(Duration::from_millis(wait));
        let seen = scan.progress();
        let asked = std::time::Instant::now();
        scan.cancel();
        scan.wait();
        longest = longest.max(asked.elapsed());
        eprintln!("after {wait} ms: {} entries seen, cancelled in {:?}", seen.entries, asked.elapsed());
    }
    eprintln!("longest time to cancel: {longest:?}");
    let (calls, raw) = (scanned(&root, Method::Calls), scanned(&root, Method::Raw));
    eprintln!("{}; {} rows", raw.reading(), raw.progress().entries);
    assert_same("given", &calls, &raw);
}
