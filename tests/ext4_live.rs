//! Reading ext4 file systems that are in use: deleted but open files, changes meanwhile, encrypted parts, refusals.
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

#[path = "common/ext4.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Image, assert_equal, assert_same_lines, can_mount, facts, oracle, populate, read, run};
use rustix::fs::{Mode, OFlags};
use unwedge::scan::ext4::{Mounted, TroubleKind, Why};
use unwedge::sys::block_device::{self, open_for};

#[test]
fn deleted_but_open_files_are_found_with_their_sizes() {
    if !can_mount() {
        return;
    }
    let chain: &[&str] = &["-t", "ext4"];
    let file: &[&str] = &["-t", "ext4", "-O", "orphan_file"];
    let ext3: &[&str] = &["-t", "ext3", "-b", "1024"];
    let no_list: &[&str] = &["-t", "ext4", "-O", "^has_journal"];
    let ext2: &[&str] = &["-t", "ext2"];
    for (mkfs, listed) in [(chain, true), (file, true), (ext3, true), (no_list, false), (ext2, false)] {
        let mut image = Image::make(64, mkfs);
        image.mount("");
        let root = image.root();
        fs::write(root.join("stays"), b"here").unwrap();
        let mut open = Vec::new();
        for at in 0..40_usize {
            let path = root.join(format!("victim-{at}"));
            fs::write(&path, vec![b'v'; at * 3000]).unwrap();
            open.push(fs::File::open(&path).unwrap());
            fs::remove_file(&path).unwrap();
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let nameless = fs::File::from(rustix::fs::open(&root, flags, Mode::from_raw_mode(0o600)).unwrap());
        nameless.set_len(12_345).unwrap();
        open.push(nameless);
        // Deleted and closed: must not be found.
        fs::write(root.join("gone"), vec![b'g'; 9000]).unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        image.syncfs();
        let expected: BTreeSet<(u32, u64, u64)> = open
            .iter()
            .map(|file| file.metadata().unwrap())
            .map(|meta| (u32::try_from(meta.ino()).unwrap(), meta.len(), meta.blocks() * 512))
            .collect();
        let listing = image.read_mounted().unwrap();
        let found: BTreeSet<(u32, u64, u64)> = listing
            .orphans
            .iter()
            .map(|orphan| (orphan.ino, orphan.record.apparent.0, orphan.record.allocated.0))
            .collect();
        assert_eq!(found, expected, "{mkfs:?}");
        assert!(
            listing.orphans.iter().all(|orphan| orphan.listed == listed),
            "{mkfs:?}: {:?}",
            listing.orphans
        );
        assert_equal("with orphans", &oracle(&root), &listing);
        drop(open);
        // A sync(2) elsewhere on the machine holds inodes for a moment (wait_sb_inodes): then they still are in use.
        let gone = (0..200).any(|_| {
            let gone = image.read_mounted().unwrap().orphans.is_empty();
            if !gone {
                thread::sleep(std::time::Duration::from_millis(20));
            }
            gone
        });
        assert!(gone, "{mkfs:?}");
    }
}

/// Changes a directory without rest until told to stop.
fn churn(dir: &Path, stop: &AtomicBool) {
    fs::create_dir_all(dir).unwrap();
    for round in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let path = dir.join(format!("file-{}", round % 700));
        fs::write(&path, vec![b'c'; round % 10_000]).unwrap();
        match round % 5 {
            0 => fs::rename(&path, dir.join(format!("renamed-{}", round % 90))).unwrap(),
            1 => fs::remove_file(&path).unwrap(),
            2 => {
                let _ = symlink("target", dir.join(format!("link-{round}")));
                let _ = fs::remove_file(dir.join(format!("link-{}", round.saturating_sub(50))));
            }
            _ => {
                let sub = dir.join(format!("sub-{}", round % 300));
                let _ = fs::create_dir(&sub);
                let _ = fs::remove_dir(dir.join(format!("sub-{}", (round + 150) % 300)));
            }
        }
    }
}

#[test]
fn what_does_not_change_is_exact_while_the_rest_does() {
    if !can_mount() {
        return;
    }
    for mkfs in
        [&["-t", "ext4", "-N", "40000"][..], &["-t", "ext4", "-N", "40000", "-O", "inline_data,orphan_file"]]
    {
        let mut image = Image::make(256, mkfs);
        image.mount("");
        let still = image.root().join("still");
        fs::create_dir(&still).unwrap();
        populate(&still, 4000);
        image.syncfs();
        let stop = AtomicBool::new(false);
        let (mut read, mut refused, mut unknown) = (0, 0, 0);
        let mut troubles: BTreeMap<String, usize> = BTreeMap::new();
        thread::scope(|scope| {
            for at in 0..2 {
                let dir = image.root().join(format!("churn-{at}"));
                let stop = &stop;
                scope.spawn(move || churn(&dir, stop));
            }
            // Also stops the writers where an assertion fails.
            let _stop = StopOnDrop(&stop);
            let expected = under_still(
                &oracle(&still).into_iter().map(|(p, f)| ([b"still/", &p[..]].concat(), f)).collect(),
            );
            for _ in 0..30 {
                match image.read_mounted() {
                    Ok(listing) => {
                        read += 1;
                        for trouble in &listing.troubles {
                            *troubles.entry(format!("{:?}", trouble.kind)).or_default() += 1;
                        }
                        unknown += listing.unknown.len();
                        let mut found = BTreeMap::new();
                        for listed in &listing.paths {
                            if listed.path.as_bytes().starts_with(b"still/") {
                                let one = unwedge::scan::ext4::Listing {
                                    paths: vec![listed.clone()],
                                    ..Default::default()
                                };
                                found.extend(facts(&one));
                            }
                        }
                        assert_same_lines("the still part", &expected, &found);
                        let still: BTreeSet<u64> = expected.values().map(|facts| facts.0).collect();
                        assert!(listing.troubles.iter().all(|trouble| !still.contains(&trouble.ino.into())));
                        // What came with more than one path was counted with as many links, or is in the churn.
                        assert!(
                            listing.repeated.iter().all(|(path, _)| path.as_bytes().starts_with(b"churn-"))
                        );
                    }
                    Err(why) => {
                        eprintln!("given up: {why}");
                        refused += 1;
                    }
                }
            }
        });
        eprintln!(
            "{mkfs:?}: {read} readings under load, {refused} given up, {unknown} unknown names, {troubles:?}"
        );
        assert!(read > 0);
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Lines = BTreeMap<Vec<u8>, common::Facts>;

fn under_still(all: &Lines) -> Lines {
    all.iter().filter(|(path, _)| path.len() > 6).map(|(path, facts)| (path.clone(), *facts)).collect()
}

#[test]
fn directories_that_changed_are_told_from_those_that_did_not() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(64, &["-t", "ext4"]);
    image.mount("");
    let root = image.root();
    let dirs = ["quiet", "from", "to", "from/moves"].map(|name| root.join(name));
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), b"x").unwrap();
    }
    let inos = dirs.each_ref().map(|dir| u32::try_from(fs::metadata(dir).unwrap().ino()).unwrap());
    thread::sleep(std::time::Duration::from_millis(2100));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // The kernel's clock lags by a tick.
    thread::sleep(std::time::Duration::from_millis(50));
    fs::rename(root.join("from/moves"), root.join("to/moves")).unwrap();
    let ext4 = unwedge::scan::ext4::open(open_for(image.dev()).unwrap(), Mounted::Yes).unwrap();
    let cancel = AtomicBool::new(false);
    let options = unwedge::scan::ext4::Options {
        threads: 2,
        cold_threads: 2,
        cancel: &cancel,
        memory: unwedge::domain::size::Bytes(1 << 24),
        changed_since: None,
        seen: None,
    };
    let changed = ext4.changed(&options, &inos, u32::try_from(now).unwrap()).unwrap();
    // What is moved to another directory changes itself, too: its `..`.
    let expected: BTreeSet<u32> = inos[1..].iter().copied().collect();
    assert_eq!(changed.into_iter().collect::<BTreeSet<_>>(), expected);
    // A directory of several blocks that just changed is handed back only where changes are asked for.
    for at in 0..400 {
        fs::write(root.join("to").join(format!("a-name-of-some-length-{at}")), b"").unwrap();
    }
    image.syncfs();
    let read = |since| {
        unwedge::scan::ext4::listing(
            &ext4,
            &unwedge::scan::ext4::Options { changed_since: since, ..options },
            unwedge::scan::ext4::ROOT,
        )
    };
    assert_eq!(read(None).unwrap().troubles.len(), 0);
    let troubles = read(Some(u32::try_from(now).unwrap())).unwrap().troubles;
    assert_eq!(troubles.iter().map(|trouble| trouble.ino).collect::<Vec<_>>(), [inos[2]]);
}

#[test]
fn encrypted_directories_are_handed_back() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(64, &["-t", "ext4", "-O", "encrypt", "-N", "16000"]);
    image.mount("");
    populate(&image.root(), 1000);
    image.unmount();
    image.mount("test_dummy_encryption");
    let secret = image.root().join("secret");
    fs::create_dir_all(secret.join("inner")).unwrap();
    for at in 0..50 {
        fs::write(secret.join(format!("hidden-{at}")), vec![b'h'; at * 100]).unwrap();
    }
    symlink("hidden target", secret.join("link")).unwrap();
    symlink("hidden target", image.root().join("encrypted-link")).unwrap();
    image.syncfs();
    let check = |image: &Image| {
        let listing = image.read_mounted().unwrap();
        let ino =
            |path: &str| u32::try_from(fs::symlink_metadata(image.root().join(path)).unwrap().ino()).unwrap();
        let secret = ino("secret");
        assert!(listing.troubles.iter().all(|trouble| trouble.kind == TroubleKind::Encrypted));
        assert!(listing.troubles.iter().any(|trouble| trouble.ino == secret));
        assert_eq!(listing.troubles.len(), 2, "{:?}", listing.troubles);
        let unknown: Vec<u32> = listing.unknown.iter().map(|(_, ino)| *ino).collect();
        assert_eq!(unknown, [ino("encrypted-link")]);
        let visible: Lines = oracle(&image.root())
            .into_iter()
            .filter(|(path, _)| !path.starts_with(b"secret/") && path != b"encrypted-link")
            .collect();
        assert!(visible.contains_key(&b"secret"[..]) && visible.len() > 1000);
        assert_same_lines("the plain part", &visible, &facts(&listing));
    };
    check(&image);
    // Without the key, names and the sizes of links look different, and nothing else.
    image.unmount();
    image.mount("");
    check(&image);
}

#[test]
fn space_counted_in_blocks_is_understood() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(32, &["-t", "ext4", "-O", "^metadata_csum"]);
    image.mount("");
    fs::write(image.root().join("file"), vec![b'x'; 40_000]).unwrap();
    image.unmount();
    // EXT4_HUGE_FILE_FL beside EXT4_EXTENTS_FL: the kernel sets it only beyond 128 PiB.
    let path = image.path();
    run(
        "/sbin/debugfs",
        &["-w".as_ref(), "-R".as_ref(), "sif file flags 0xc0000".as_ref(), path.as_os_str()],
    );
    image.mount("");
    let lines = oracle(&image.root());
    assert_eq!(lines[&b"file"[..]].2, 80 * 8);
    assert_equal("mounted", &lines, &image.read_mounted().unwrap());
}

#[test]
fn a_journal_that_was_not_replayed_is_refused_unless_mounted() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(64, &["-t", "ext4"]);
    image.mount("");
    fs::write(image.root().join("file"), b"x").unwrap();
    image.syncfs();
    // As after a crash: a copy of the image while it is mounted.
    let copy = image.path().with_extension("copy");
    fs::copy(image.path(), &copy).unwrap();
    let result = read(block_device::ImageFile::open(&copy).unwrap(), Mounted::No);
    assert!(matches!(result, Err(Why::NeedsRecovery)), "{result:?}");
    image.read_mounted().unwrap();
}

#[test]
fn a_user_without_the_right_is_told_so() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(32, &["-t", "ext4"]);
    image.mount("");
    let dev = image.dev();
    let why = thread::spawn(move || {
        // For this thread only; drops the right to read any file with it (capabilities(7)).
        nix::unistd::setfsgid(nix::unistd::Gid::from_raw(65_534));
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        open_for(dev).unwrap_err()
    })
    .join()
    .unwrap();
    assert!(matches!(why, block_device::Why::NoPrivilege { .. }), "{why}");
    assert!(why.to_string().contains("needs root"), "{why}");
}

/// An mtime set by a program with nanoseconds before 1970, and one far ahead, come out as stat(2) shows them.
#[test]
fn times_outside_of_32_bits_are_exact_in_both_inode_sizes() {
    if !can_mount() {
        return;
    }
    for size in ["128", "256"] {
        let mut image = Image::make(32, &["-t", "ext4", "-I", size]);
        image.mount("");
        let path = image.root().join("file");
        for stamp in ["@-1000.5", "@4294967296.25", "@15032385535", "@-2147483648"] {
            fs::write(&path, b"").unwrap();
            assert!(
                Command::new("/usr/bin/touch").args(["-d", stamp]).arg(&path).status().unwrap().success()
            );
            image.syncfs();
            let meta = fs::metadata(&path).unwrap();
            let listing = image.read_mounted().unwrap();
            let found = facts(&listing)[&b"file"[..]].3;
            assert_eq!(found, meta.mtime(), "{size} {stamp}");
        }
    }
}
