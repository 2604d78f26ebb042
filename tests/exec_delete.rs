//! Deleting files and trees: what must go goes, and nothing else ever does.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use common::{World, choose, inside, inside_mount_namespace, leftovers, sh, why};
use rustix::fs::{Mode, OFlags};
use unwedge::actions::Request;
use unwedge::domain::finding::Reclaim;
use unwedge::domain::op::Op;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::size::Bytes;
use unwedge::domain::text::HostPath;

fn fill(dir: &Path, files: usize) {
    fs::create_dir_all(dir).unwrap();
    for index in 0..files {
        fs::write(dir.join(format!("f{index}")), b"x").unwrap();
    }
}

#[test]
fn files_trees_links_and_strange_names_go_and_their_neighbours_stay() {
    let world = World::new();
    let tree = world.path("tree");
    fill(&tree.join("a/b"), 600);
    symlink("/etc", tree.join("link-to-etc")).unwrap();
    symlink("absent", tree.join("a/dangling")).unwrap();
    sh(&format!("mkfifo {}/a/fifo", tree.display()));
    for name in [&[0xff; 255][..], b"new\nline", b"\x1b[2J", b"-rf", b" ", b"..."] {
        fs::write(tree.join(OsStr::from_bytes(name)), b"x").unwrap();
    }
    let odd = world.dir.join(OsStr::from_bytes(b"odd\xff\n"));
    fs::write(&odd, b"x").unwrap();
    let link = world.path("link");
    symlink(world.path("neighbour"), &link).unwrap();
    fill(&world.path("neighbour"), 3);

    let receipt = world.delete(&[&tree, &odd, &link]);

    assert!(receipt.is_clean(), "{:?}", receipt.steps);
    let counts: u64 = receipt
        .steps
        .iter()
        .map(|step| match step.outcome {
            Outcome::Done { count } => count,
            _ => 0,
        })
        .sum();
    assert_eq!(counts, 600 + 3 + 3 + 6 + 2, "files, directories, links and fifo, names, the other two");
    assert!(!tree.exists() && !odd.exists() && link.symlink_metadata().is_err());
    assert_eq!(fs::read_dir(world.path("neighbour")).unwrap().count(), 3);
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn a_file_that_changed_since_it_was_shown_is_skipped_and_stays() {
    let world = World::new();
    let (file, other) = (world.path("f"), world.path("g"));
    fs::write(&file, b"old").unwrap();
    let plan = world.plan(&Request::Delete(vec![choose(&file)]));
    fs::write(&other, b"new").unwrap();
    fs::rename(&other, &file).unwrap();
    let receipt = world.run(plan);
    assert!(why(&receipt).contains("changed, skipped"), "{receipt:?}");
    assert_eq!(fs::read(&file).unwrap(), b"new");

    let gone = world.plan(&Request::Delete(vec![choose(&file)]));
    fs::remove_file(&file).unwrap();
    assert!(why(&world.run(gone)).contains("not there any more"));
}

#[test]
fn a_cancelled_delete_puts_the_rest_back_under_its_name() {
    let world = World::new();
    let tree = world.path("tree");
    fill(&tree.join("deep/er"), 4000);
    let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
    let receipt = world.run_with(plan, &|progress| {
        if progress.done >= 1000 {
            world.cancel.store(true, Ordering::Relaxed);
        }
    });
    let Outcome::Cancelled { count } = receipt.steps[0].outcome else { panic!("{:?}", receipt.steps) };
    let left = fs::read_dir(tree.join("deep/er")).unwrap().count();
    assert!(left > 0 && count >= 1000);
    assert_eq!(u64::try_from(left).unwrap() + count, 4000);
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn a_run_that_is_killed_leaves_what_can_be_found_and_deleted() {
    const PLACE: &str = "UNWEDGE_TEST_KILLED";
    let mut world = World::new();
    if let Some(place) = std::env::var_os(PLACE) {
        // The inner run: it is killed in the middle.
        world.dir = place.into();
        world.settings.journal.dir = format!("{}/journal", world.dir.display());
        world.run_with(world.plan(&Request::Delete(vec![choose(&world.path("tree"))])), &|progress| {
            if progress.done >= 1000 {
                sh(&format!("kill -KILL {}", std::process::id()));
            }
        });
        panic!("it was not killed");
    }
    fill(&world.path("tree/sub"), 4000);
    fs::write(world.path("f"), b"x").unwrap();
    let killed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["a_run_that_is_killed_leaves_what_can_be_found_and_deleted", "--exact"])
        .env(PLACE, &world.dir)
        // It cannot clean up after itself: its own temporary directory goes with ours.
        .env("TMPDIR", &world.dir)
        .output()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9));
    let left = leftovers(&world.dir);
    assert_eq!(left.len(), 1);
    let journal = unwedge::journal::Journal::open(&world.environment, &world.settings);
    let history = journal.history();
    let record = &history.value().unwrap()[0];
    assert_eq!(record.state, unwedge::journal::RunState::Interrupted);
    let named = record.outcome.rsplit(' ').next().unwrap().trim_end_matches('*');
    assert!(left[0].starts_with(named), "{left:?} against {record}");
    let receipt = world.delete(&[&world.path("f")]);
    assert!(receipt.findings[0].title.contains(&left[0]), "{:?}", receipt.findings);
    assert!(world.delete(&[&world.path(&left[0])]).is_clean());
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn what_a_killed_run_left_is_told() {
    let world = World::new();
    let left = world.path(".unwedge-quarantine-1-99999999999-00000000000000aa-0");
    let empty = world.path(".unwedge-quarantine-1-99999999999-00000000000000bb-0");
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&left).unwrap();
    fs::write(left.join("item"), b"x").unwrap();
    fs::write(world.path("f"), b"x").unwrap();
    let receipt = world.delete(&[&world.path("f")]);
    assert!(receipt.is_clean());
    assert!(receipt.findings[0].title.contains("00aa-0"), "{:?}", receipt.findings);
    assert!(left.join("item").exists(), "it is told, not touched");
    assert!(!empty.exists(), "nothing is in it");
}

#[test]
fn space_that_is_still_held_open_is_told_with_its_holder() {
    // A file system of its own: what others free meanwhile would blur the figures.
    if !inside_mount_namespace("space_that_is_still_held_open_is_told_with_its_holder") {
        return;
    }
    let world = World::new();
    let place = world.path("m");
    fs::create_dir(&place).unwrap();
    sh(&format!("mount -t tmpfs none {}", place.display()));
    let file = place.join("big");
    fs::write(&file, vec![1u8; 8 << 20]).unwrap();
    let held = fs::File::open(&file).unwrap();
    let receipt = world.delete(&[&file]);
    assert_eq!(receipt.promised, Reclaim::exact(Bytes(8 << 20)));
    assert_eq!(receipt.freed(), Bytes::ZERO);
    let finding = &receipt.findings[0];
    assert!(finding.title.contains(&format!("pid {}", std::process::id())), "{finding:?}");
    drop(held);
    fs::write(&file, vec![1u8; 8 << 20]).unwrap();
    let receipt = world.delete(&[&file]);
    assert_eq!((receipt.freed(), receipt.findings.len()), (Bytes(8 << 20), 0));
    sh(&format!("umount {}", place.display()));
}

/// Every way to spell a directory that may come out of a config, a shell or a symlink.
fn spellings(world: &World, target: &Path) -> Vec<PathBuf> {
    let text = target.to_str().unwrap().to_owned();
    let name = target.file_name().unwrap().to_str().unwrap().to_owned();
    let parent = target.parent().unwrap().to_str().unwrap().to_owned();
    symlink(target, world.path("via-link")).unwrap();
    symlink(target.parent().unwrap(), world.path("via-parent")).unwrap();
    let links = world.path("via-link").to_str().unwrap().to_owned();
    let parents = world.path("via-parent").to_str().unwrap().to_owned();
    let mut bases = vec![
        text.clone(),
        links,
        format!("{parents}/{name}"),
        format!("{parent}/../{}/{name}", target.parent().unwrap().file_name().unwrap().to_str().unwrap()),
        format!("{parent}/./{name}"),
        format!("{parent}//{name}"),
        format!("{text}/sub/.."),
        format!("{text}/sub/../../{name}"),
        format!("/proc/self/root{text}"),
        format!("/proc/thread-self/root{text}"),
        format!("/proc/1/root{text}"),
        format!("/proc/self/cwd{}{text}", "/..".repeat(30)),
        format!("/..{text}"),
        format!("/../..{text}"),
        format!("/{text}"),
        format!("//{text}"),
        format!("/.{text}"),
    ];
    for base in bases.clone() {
        for end in ["/", "//", "/.", "/./", "/sub/..", "/../", "/..", "/./.", "/sub/../", "/sub/./.."] {
            bases.push(format!("{base}{end}"));
        }
        bases.push(base.replace('/', "//"));
        bases.push(base.replace('/', "/./"));
    }
    bases.sort();
    bases.dedup();
    bases.into_iter().map(PathBuf::from).collect()
}

#[test]
fn no_spelling_of_a_protected_directory_gets_through() {
    let mut world = World::new();
    let store = world.path("safe/store");
    fill(&store.join("sub"), 3);
    world.protect(&store);
    let (inside, around) = (choose(&store.join("sub")), choose(&world.path("safe")));
    let itself = choose(&store);
    let spelled = spellings(&world, &store);
    assert!(spelled.len() >= 200, "only {} spellings", spelled.len());
    let template = world.plan(&Request::Delete(vec![choose(&world.path("via-link"))]));
    let mut tried = 0;
    for path in spelled {
        // The plan is made up: as if every check before the hands had failed.
        for id in [itself.id, inside.id, around.id] {
            let mut plan = template.clone();
            plan.steps[0].op = Op::RemoveTree { path: HostPath::from(path.as_path()), id, entries: 1 };
            let receipt = world.run(plan);
            assert!(matches!(receipt.steps[0].outcome, Outcome::Skipped { .. }), "{path:?}: {receipt:?}");
            tried += 1;
        }
    }
    // And the plain paths, with the reason.
    for (chosen, reason) in [(itself, "is protected"), (inside, "inside"), (around, "contains")] {
        let mut plan = template.clone();
        plan.steps[0].op = Op::RemoveTree { path: chosen.path.clone(), id: chosen.id, entries: 1 };
        let receipt = world.run(plan);
        assert!(why(&receipt).contains(reason), "{receipt:?}");
        let plan = world.plan(&Request::Delete(vec![chosen]));
        assert!(plan.is_empty() && plan.refused[0].why.contains(reason));
    }
    assert_eq!(fs::read_dir(store.join("sub")).unwrap().count(), 3, "after {tried} attempts");
}

#[test]
fn a_bind_mount_is_no_way_around_protection() {
    if !inside_mount_namespace("a_bind_mount_is_no_way_around_protection") {
        return;
    }
    let mut world = World::new();
    let store = world.path("store");
    fill(&store.join("sub"), 3);
    world.protect(&store);
    let door = world.path("door");
    fs::create_dir(&door).unwrap();
    sh(&format!("mount --bind {0}/sub {1}", store.display(), door.display()));
    let template = world.plan(&Request::Delete(vec![choose(&world.dir)]));
    assert!(template.is_empty(), "the directory around it");
    let chosen = choose(&door.join("f1"));
    assert!(why(&world.run(world.plan(&Request::Delete(vec![chosen])))).contains("it is also"));
    assert_eq!(fs::read_dir(store.join("sub")).unwrap().count(), 3);
    sh(&format!("umount {}", door.display()));
}

#[test]
fn a_bind_mount_in_a_tree_keeps_its_source() {
    if !inside_mount_namespace("a_bind_mount_in_a_tree_keeps_its_source") {
        return;
    }
    let world = World::new();
    let (tree, source) = (world.path("tree"), world.path("source"));
    fill(&tree.join("sub/inner"), 3);
    fill(&source, 5);
    sh(&format!("mount --bind {} {}/sub/inner", source.display(), tree.display()));
    let receipt = world.delete(&[&tree]);
    assert!(why(&receipt).contains("something is mounted at"), "{receipt:?}");
    assert!(why(&receipt).contains("sub/inner"));
    assert_eq!(fs::read_dir(&source).unwrap().count(), 5);
    // The mount point itself.
    assert!(why(&world.delete(&[&tree.join("sub")])).contains("mounted"));
    sh(&format!("umount {}/sub/inner", tree.display()));
    assert!(world.delete(&[&tree]).is_clean());
    assert!(!tree.exists());
}

#[test]
fn a_mount_that_appears_during_the_delete_is_not_entered() {
    if !inside_mount_namespace("a_mount_that_appears_during_the_delete_is_not_entered") {
        return;
    }
    let world = World::new();
    let (tree, source) = (world.path("tree"), world.path("source"));
    fill(&tree.join("sub/inner"), 3);
    fill(&tree, 3);
    fill(&source, 5);
    let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
    let mounted = Cell::new(false);
    let receipt = world.run_with(plan, &|_| {
        // The first word of progress comes before the guards, the next when the tree is set aside.
        if let Some(name) = leftovers(&world.dir).first()
            && !mounted.replace(true)
        {
            let inner = world.path(name).join("item/sub/inner");
            sh(&format!("mount --bind {} {}", source.display(), inner.display()));
        }
    });
    assert!(mounted.get());
    let Outcome::Partly { problems, .. } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    assert!(problems[0].contains("mounted"), "{problems:?}");
    assert_eq!(fs::read_dir(&source).unwrap().count(), 5);
    assert_eq!(fs::read_dir(tree.join("sub/inner")).unwrap().count(), 5, "what remains has its name again");
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
    sh(&format!("umount {}/sub/inner", tree.display()));
}

#[test]
fn a_mount_of_another_namespace_is_seen_and_survives() {
    if !inside_mount_namespace("a_mount_of_another_namespace_is_seen_and_survives") {
        return;
    }
    let world = World::new();
    let (tree, source, ready) = (world.path("tree"), world.path("source"), world.path("ready"));
    fill(&tree.join("sub"), 0);
    fill(&source, 5);
    let script = format!(
        "mount --bind {} {}/sub && touch {} && exec sleep 1000",
        source.display(),
        tree.display(),
        ready.display()
    );
    let mut other = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
        .spawn()
        .unwrap();
    while !ready.exists() {
        assert!(other.try_wait().unwrap().is_none(), "the other namespace broke off");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let receipt = world.delete(&[&tree]);
    assert!(why(&receipt).contains("another mount namespace"), "{receipt:?}");
    let there = fs::read_to_string(format!("/proc/{}/mountinfo", other.id())).unwrap();
    assert!(there.contains("tree/sub"), "it was unmounted there");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(world.delete(&[&tree]).is_clean());
}

/// A chain of directories, made through descriptors: no path reaches that deep.
fn chain(top: &Path, levels: usize) {
    fs::create_dir(top).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        rustix::fs::mkdirat(&dir, c"d", Mode::RWXU).unwrap();
        if level % 1000 == 0 {
            rustix::fs::openat(&dir, c"f", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RWXU)
                .unwrap();
        }
        dir = rustix::fs::openat(&dir, c"d", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn a_tree_of_60_000_levels_goes_with_256_descriptors() {
    let test = "a_tree_of_60_000_levels_goes_with_256_descriptors";
    if !inside(&["prlimit", "--nofile=256"], test) {
        return;
    }
    let world = World::in_memory();
    let tree = world.path("deep");
    chain(&tree, 60_000);
    let receipt = world.delete(&[&tree]);
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 60_061 });
    assert!(!tree.exists());
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn a_deep_tree_that_is_cancelled_loses_nothing_more() {
    let world = World::new();
    let tree = world.path("deep");
    chain(&tree, 3000);
    let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
    let receipt = world.run_with(plan, &|progress| {
        if progress.done > 0 {
            world.cancel.store(true, Ordering::Relaxed);
        }
    });
    let count = match &receipt.steps[0].outcome {
        Outcome::Cancelled { count } | Outcome::Partly { count, .. } => *count,
        other => panic!("{other:?}"),
    };
    world.cancel.store(false, Ordering::Relaxed);
    let names: Vec<_> = fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "d" || name == "f"), "nothing of it lies elsewhere: {names:?}");
    let again = world.delete(&[&tree]);
    let Outcome::Done { count: rest } = again.steps[0].outcome else { panic!("{again:?}") };
    assert_eq!(count + rest, 3001 + 3, "each entry once");

    // And a third time, cancelled late.
    chain(&tree, 3000);
    for stop in [200, 900] {
        let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
        world.run_with(plan, &|progress| world.cancel.store(progress.done >= stop, Ordering::Relaxed));
        world.cancel.store(false, Ordering::Relaxed);
        assert!(tree.exists());
    }
    assert!(world.delete(&[&tree]).is_clean());
}

/// Fills a file system to the last block and inode: with large files, then small ones, then directories.
fn fill_up(dir: &Path) {
    use std::io::Write;
    for (name, chunk) in [("filler", 1 << 16), ("more", 512)] {
        let Ok(mut file) = fs::File::create(dir.join(name)) else { break };
        while file.write(&vec![7u8; chunk]).is_ok_and(|count| count == chunk) {}
        let _ = file.sync_all();
    }
    // Small files and directories take metadata, which btrfs keeps apart.
    for index in 0..300_000 {
        if fs::write(dir.join(format!("small-{index}-{}", "n".repeat(200))), [7u8; 1500]).is_err() {
            break;
        }
    }
    for index in 0..100_000 {
        if fs::create_dir(dir.join(format!("x{index}"))).is_err() {
            break;
        }
    }
    let _ = std::process::Command::new("sync").arg("-f").arg(dir).status();
}

fn empties_when_full(mount: &Path) {
    // Its own directory, and with it the journal, is elsewhere: on the sick one is only what is deleted.
    let world = World::new();
    let tree = mount.join("tree");
    fill(&tree.join("a/b"), 20);
    fs::write(mount.join("f"), vec![1u8; 100 << 10]).unwrap();
    fs::write(tree.join("a/g"), vec![1u8; 100 << 10]).unwrap();
    sh(&format!("chown -R 1000:1000 {}", tree.display()));
    fill_up(mount);
    let probe = fs::create_dir(mount.join("probe"));
    eprintln!("{}: mkdir when full: {:?}", mount.display(), probe.as_ref().err().map(ToString::to_string));
    assert!(fs::write(mount.join("probe2"), vec![0u8; 65536]).is_err(), "it is not full");
    let before = rustix::fs::statvfs(mount).unwrap().f_bfree;
    for target in [mount.join("f"), tree.clone()] {
        let receipt = world.delete(&[&target]);
        assert!(receipt.is_clean(), "{}: {:?}", target.display(), receipt.steps);
        assert!(target.symlink_metadata().is_err());
    }
    sh(&format!("sync -f {}", mount.display()));
    let after = rustix::fs::statvfs(mount).unwrap().f_bfree;
    assert!(after > before, "nothing came back: {before} to {after} blocks free");
    assert_eq!(leftovers(mount), Vec::<String>::new());
}

#[test]
fn a_full_tmpfs_gives_its_space_back() {
    if !inside_mount_namespace("a_full_tmpfs_gives_its_space_back") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    sh(&format!("mount -t tmpfs -o size=1m,nr_inodes=200 none {}", place.path().display()));
    empties_when_full(place.path());
    sh(&format!("umount {}", place.path().display()));
}

fn full_loop(kind: &str, megabytes: u32, mkfs: &str) {
    if !Path::new("/dev/loop-control").exists() {
        return common::skip("no loop devices here");
    }
    let place = tempfile::tempdir().unwrap();
    let at = place.path().display();
    let script =
        format!("truncate -s {megabytes}M {at}/image && {mkfs} {at}/image >/dev/null && mkdir {at}/m");
    let made = std::process::Command::new("sh").args(["-euc", &script]).status().unwrap();
    if !made.success() {
        return common::skip(&format!("no mkfs for {kind} here"));
    }
    sh(&format!("mount -o loop {at}/image {at}/m"));
    empties_when_full(&place.path().join("m"));
    sh(&format!("umount {at}/m"));
}

#[test]
fn a_full_ext4_gives_its_space_back() {
    if inside_mount_namespace("a_full_ext4_gives_its_space_back") {
        full_loop("ext4", 16, "mkfs.ext4 -q -m 0 -N 300");
    }
}

#[test]
fn a_full_btrfs_gives_its_space_back() {
    if inside_mount_namespace("a_full_btrfs_gives_its_space_back") {
        full_loop("btrfs", 120, "mkfs.btrfs -q");
    }
}

#[test]
fn a_full_xfs_gives_its_space_back() {
    if inside_mount_namespace("a_full_xfs_gives_its_space_back") {
        full_loop("xfs", 300, "mkfs.xfs -q");
    }
}

#[test]
fn whoever_owns_a_tree_and_whatever_its_mode_it_goes_and_its_neighbours_stay() {
    if !inside_mount_namespace("whoever_owns_a_tree_and_whatever_its_mode_it_goes_and_its_neighbours_stay") {
        return;
    }
    let world = World::new();
    // Where there is room it is set aside, else it is sealed.
    for full in [false, true] {
        for (owner, above) in [(0, 0), (0, 1000), (1000, 0), (1000, 1000), (1000, 1001)] {
            for (mode, mode_above) in [("0", "755"), ("555", "1777"), ("2777", "700"), ("1700", "1770")] {
                let place = world.path("m");
                fs::create_dir(&place).unwrap();
                let shown = place.display();
                sh(&format!("mount -t tmpfs -o size=1m,nr_inodes=400 none {shown}"));
                let home = place.join("home");
                fill(&home.join("tree/sub"), 100);
                fs::write(home.join("neighbour"), b"precious").unwrap();
                sh(&format!(
                    "cd {shown}/home; chown -R {owner}:{owner} tree; chmod {mode} tree tree/sub tree/sub/*
                     chown {above}:{above} . neighbour; chmod {mode_above} ."
                ));
                if full {
                    fill_up(&place);
                }
                let what = format!("{owner} {mode} in {above} {mode_above}, full: {full}");
                let receipt = world.delete(&[&home.join("tree")]);
                assert!(matches!(receipt.steps[0].outcome, Outcome::Done { .. }), "{what}: {receipt:?}");
                let left: Vec<_> =
                    fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert_eq!(left, ["neighbour"], "{what}");
                let meta = fs::metadata(&home).unwrap();
                assert_eq!(meta.uid(), above, "{what}");
                assert_eq!(format!("{:o}", meta.mode() & 0o7777), mode_above, "{what}");
                assert_eq!(fs::read(home.join("neighbour")).unwrap(), b"precious", "{what}");
                sh(&format!("umount {shown}; rmdir {shown}"));
            }
        }
    }
}

#[test]
fn a_sealed_tree_gets_its_owner_back_when_it_is_cancelled() {
    let test = "a_sealed_tree_gets_its_owner_back_when_it_is_cancelled";
    if !inside_mount_namespace(test) {
        return;
    }
    let world = World::new();
    let place = world.path("m");
    fs::create_dir(&place).unwrap();
    sh(&format!("mount -t tmpfs -o size=4m,nr_inodes=4000 none {}", place.display()));
    let tree = place.join("tree");
    fill(&tree.join("sub"), 1000);
    sh(&format!("chown 1000:1001 {0}; chmod 2755 {0}", tree.display()));
    fill_up(&place);
    let seen = Cell::new(0);
    let receipt = world.run_with(world.plan(&Request::Delete(vec![choose(&tree)])), &|progress| {
        if progress.done > 0 {
            let name = leftovers(&place);
            let meta = fs::metadata(place.join(&name[0])).unwrap();
            seen.set(meta.mode() & 0o7777);
            assert_eq!(meta.uid(), 0, "it is not shut off from its owner");
            world.cancel.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(receipt.steps[0].outcome, Outcome::Cancelled { .. }), "{receipt:?}");
    assert_eq!(seen.get() & 0o777, 0o700, "it was not sealed, so this test shows nothing");
    let meta = fs::metadata(&tree).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1000, 1001, 0o2755));
    sh(&format!("umount {}", place.display()));
}

#[test]
fn a_read_only_file_system_is_refused() {
    if !inside_mount_namespace("a_read_only_file_system_is_refused") {
        return;
    }
    let world = World::new();
    let place = world.path("m");
    fs::create_dir(&place).unwrap();
    sh(&format!("mount -t tmpfs none {0}; touch {0}/f; mount -o remount,ro {0}", place.display()));
    assert!(why(&world.delete(&[&place.join("f")])).contains("read-only"));
    sh(&format!("umount {}", place.display()));
}

#[test]
fn nothing_runs_on_a_recorded_machine_or_with_nothing_protected() {
    let mut world = World::new();
    let file = world.path("f");
    fs::write(&file, b"x").unwrap();
    let plan = world.plan(&Request::Delete(vec![choose(&file)]));
    let mut bare = plan.clone();
    bare.steps[0].guards.clear();
    assert!(why(&world.run(bare)).contains("does not list a guard"));
    world.protect = unwedge::domain::protect::ProtectSet::default();
    assert!(why(&world.run(plan.clone())).contains("not known yet"));
    let mut world = World::new();
    world.environment.root = world.path("fixture");
    assert!(why(&world.run(plan)).contains("recorded machine"));
    assert!(file.exists());
}

#[test]
fn a_second_process_changes_nothing_while_the_first_does() {
    const PLACE: &str = "UNWEDGE_TEST_SECOND";
    let mut world = World::new();
    if let Some(place) = std::env::var_os(PLACE) {
        // The inner run, while the outer one is in the middle of its own.
        world.dir = place.into();
        world.environment.run_dir = world.path("run");
        println!("{}", why(&world.delete(&[&world.path("second")])));
        return;
    }
    world.environment.run_dir = world.path("run");
    fs::create_dir(world.path("run")).unwrap();
    fs::write(world.path("first"), b"x").unwrap();
    fs::write(world.path("second"), b"x").unwrap();
    let plan = world.plan(&Request::Delete(vec![choose(&world.path("first"))]));
    let said = Cell::new(String::new());
    let receipt = world.run_with(plan, &|_| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_second_process_changes_nothing_while_the_first_does", "--exact", "--nocapture"])
            .env(PLACE, &world.dir)
            .output()
            .unwrap();
        said.set(String::from_utf8(output.stdout).unwrap());
    });
    assert!(receipt.is_clean());
    let said = said.take();
    assert!(said.contains(&format!("another unwedge (pid {})", std::process::id())), "{said}");
    assert!(world.path("second").exists());
    // The lock goes with the run, its file stays.
    assert!(world.delete(&[&world.path("second")]).is_clean());
    assert!(world.path("run/unwedge/lock").exists());
}

/// Plans the move of a file into a directory and runs it.
fn evacuate(world: &World, path: &Path, to: &Path) -> unwedge::domain::receipt::Receipt {
    world.run(world.plan(&Request::Evacuate {
        files: vec![choose(path)],
        to: HostPath::from(to),
        unfit: None,
        one_way: Vec::new(),
    }))
}

#[test]
fn a_file_moves_to_another_file_system_whole_and_only_when_nobody_uses_it() {
    if !inside_mount_namespace("a_file_moves_to_another_file_system_whole_and_only_when_nobody_uses_it") {
        return;
    }
    let world = World::new();
    let (big, other) = (world.path("big"), world.path("other"));
    fs::create_dir(&other).unwrap();
    sh(&format!("mount -t tmpfs -o mode=755,size=64M none {}", other.display()));
    let content: Vec<u8> = (0..20 << 20).map(|byte: u32| (byte % 251) as u8).collect();
    fs::write(&big, &content).unwrap();
    sh(&format!("chown 12:34 {0} && chmod 640 {0} && touch -d 2020-02-02 {0}", big.display()));
    rustix::fs::setxattr(&big, "user.test", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let before = fs::metadata(&big).unwrap();

    let held = fs::File::open(&big).unwrap();
    assert!(why(&evacuate(&world, &big, &other)).contains("in use"));
    drop(held);
    let link = world.path("link");
    fs::hard_link(&big, &link).unwrap();
    let refused = world.plan(&Request::Evacuate {
        files: vec![choose(&big)],
        to: HostPath::from(other.as_path()),
        unfit: None,
        one_way: Vec::new(),
    });
    assert!(refused.is_empty());
    fs::remove_file(&link).unwrap();
    fs::write(other.join("big"), b"somebody else's").unwrap();
    assert!(why(&evacuate(&world, &big, &other)).contains("has that name"));
    assert_eq!(fs::read(other.join("big")).unwrap(), b"somebody else's");
    fs::remove_file(other.join("big")).unwrap();
    fs::create_dir(world.path("near")).unwrap();
    assert!(why(&evacuate(&world, &big, &world.path("near"))).contains("same file system"));
    assert_eq!(fs::read(&big).unwrap(), content);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0, "no half copy stays");

    let receipt = evacuate(&world, &big, &other);
    assert!(receipt.is_clean(), "{receipt:?}");
    assert!(!big.exists());
    let moved = other.join("big");
    let after = fs::metadata(&moved).unwrap();
    assert_eq!(fs::read(&moved).unwrap(), content);
    assert_eq!(
        (after.uid(), after.gid(), after.mode(), after.mtime()),
        (before.uid(), before.gid(), before.mode(), before.mtime())
    );
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&moved, "user.test", &mut value).unwrap();
    assert_eq!(&value[..length], b"kept");

    // No room: the file stays, and no half copy.
    fs::write(world.path("huge"), vec![1; 60 << 20]).unwrap();
    assert!(why(&evacuate(&world, &world.path("huge"), &other)).contains("could not copy it"));
    assert_eq!(fs::metadata(world.path("huge")).unwrap().len(), 60 << 20);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}
