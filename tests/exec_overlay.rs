//! On overlayfs, as in a container, what is of a lower layer becomes hidden: nothing is copied up, and no space is promised.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/filesystems.rs"]
mod filesystems;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use common::{World, inside_mount_namespace, leftovers, sh, why};
use unwedge::actions::Request;
use unwedge::domain::finding::Reclaim;
use unwedge::domain::receipt::Receipt;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{ChosenFile, Layer};
use unwedge::engine::Engine;
use unwedge::journal::Journal;

const MIB: u64 = 1 << 20;

/// An overlay at `m/root` whose layers are on one file system of their own at `m`.
struct Overlay {
    world: World,
    disk: PathBuf,
    root: PathBuf,
}

impl Overlay {
    /// `lower` makes what is in the lower layer, before the upper one is made.
    fn new(lower: &str, options: &str) -> Self {
        let world = World::new();
        let disk = world.path("m");
        filesystems::mount("ext4", &disk, 128);
        // The kernel takes the time of a new file from its last tick.
        sh(&format!(
            "cd {}; mkdir lower root; cd lower; {lower}\n cd ..; sleep 0.05; mkdir upper work; \
             mount -t overlay o -o {options}lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work root",
            disk.display()
        ));
        let root = disk.join("root");
        Self { world, disk, root }
    }

    /// Frozen as the program does it.
    fn choose(&self, name: &str) -> ChosenFile {
        let world = &self.world;
        let journal = Journal::open(&world.environment, &world.settings);
        let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
        engine.choose(&self.root.join(name), Bytes(8 * MIB), Bytes(8 * MIB), 1).unwrap()
    }

    /// Deletes what was chosen; what was promised, and by how much the disk was emptier afterwards.
    fn delete(&self, chosen: ChosenFile) -> (Receipt, Reclaim, i64) {
        let plan = self.world.plan(&Request::Delete(vec![chosen]));
        assert!(plan.refused.is_empty(), "{plan:?}");
        let promised = plan.reclaim;
        let before = self.free();
        let receipt = self.world.run(plan);
        (receipt, promised, self.free() - before)
    }

    fn free(&self) -> i64 {
        sh(&format!("sync -f {}", self.disk.display()));
        let figures = rustix::fs::statvfs(&self.disk).unwrap();
        i64::try_from(figures.f_bfree * figures.f_frsize).unwrap()
    }

    fn is_hidden(&self, name: &str) -> bool {
        let whiteout = self.disk.join("upper").join(name).symlink_metadata();
        !self.root.join(name).exists()
            && self.disk.join("lower").join(name).exists()
            && whiteout.is_ok_and(|whiteout| whiteout.file_type().is_char_device())
    }
}

/// Makes a file of 8 MiB.
fn made(name: &str) -> String {
    format!("dd if=/dev/urandom of={name} bs=1M count=8 status=none")
}

const NOTHING: Reclaim = Reclaim::Exact { bytes: Bytes::ZERO };
const ALL: Reclaim = Reclaim::Exact { bytes: Bytes(8 * MIB) };
const MAYBE: Reclaim = Reclaim::Range { low: Bytes::ZERO, high: Bytes(8 * MIB) };

fn near(changed: i64, mib: i64) -> bool {
    (changed - mib * 1_048_576).abs() < 1_048_576
}

#[test]
fn a_file_of_a_lower_layer_is_hidden_and_nothing_is_copied_or_promised() {
    if !inside_mount_namespace("a_file_of_a_lower_layer_is_hidden_and_nothing_is_copied_or_promised") {
        return;
    }
    // As on the host, and as in a container, in which the path of the upper directory leads nowhere or elsewhere.
    for inside in [false, true] {
        let lower = format!("{}; {}; {}; ln -s x link", made("image"), made("full"), made("changed"));
        let overlay = Overlay::new(&lower, "");
        sh(&format!("cd {}; {}; echo more >> changed; sync", overlay.root.display(), made("new")));
        if inside {
            sh(&format!("mount --bind {0}/lower {0}/upper", overlay.disk.display()));
        }
        let changed = if inside { (Layer::Unknown, MAYBE) } else { (Layer::Own, ALL) };
        for (name, layer, promise, emptier) in [
            ("image", Layer::Lower, NOTHING, 0),
            ("link", Layer::Lower, NOTHING, 0),
            ("new", Layer::Own, ALL, 8),
            ("changed", changed.0, changed.1, 8),
        ] {
            let chosen = overlay.choose(name);
            assert_eq!(chosen.layer, layer, "{name}, inside: {inside}");
            let (receipt, promised, change) = overlay.delete(chosen);
            assert!(receipt.is_clean(), "{name}, inside: {inside}: {:?}", receipt.steps);
            assert_eq!(promised, promise, "{name}, inside: {inside}");
            assert!(near(change, emptier), "{name}, inside: {inside}: {change} bytes");
            assert!(overlay.root.join(name).symlink_metadata().is_err());
        }
        // On a full disk there is no room for a copy.
        let fill = format!("dd if=/dev/zero of={}/fill bs=64K status=none || true", overlay.disk.display());
        sh(&fill);
        let (receipt, ..) = overlay.delete(overlay.choose("full"));
        assert!(receipt.is_clean() && !overlay.root.join("full").exists(), "{:?}", receipt.steps);
        assert!(leftovers(&overlay.root).is_empty());
        if !inside {
            assert!(["image", "full", "changed"].iter().all(|name| overlay.is_hidden(name)));
        }
    }
}

#[test]
fn a_file_of_a_lower_layer_stays_if_it_could_be_swapped_or_was_replaced() {
    if !inside_mount_namespace("a_file_of_a_lower_layer_stays_if_it_could_be_swapped_or_was_replaced") {
        return;
    }
    let lower = format!(
        "mkdir open sticky; chmod 777 open; chmod 1777 sticky; {}; {}; {}; chown 1000 sticky/theirs; {}",
        made("open/file"),
        made("sticky/ours"),
        made("sticky/theirs"),
        made("file")
    );
    let overlay = Overlay::new(&lower, "");
    for name in ["open/file", "sticky/theirs"] {
        let (receipt, _, change) = overlay.delete(overlay.choose(name));
        assert!(why(&receipt).contains("of a lower layer"), "{name}: {receipt:?}");
        assert!(overlay.root.join(name).exists() && near(change, 0), "{name}: {change} bytes");
    }
    let (receipt, _, change) = overlay.delete(overlay.choose("sticky/ours"));
    assert!(receipt.is_clean() && near(change, 0) && overlay.is_hidden("sticky/ours"), "{:?}", receipt.steps);
    // What others own in the upper layer goes as everywhere.
    let theirs = overlay.root.join("sticky/new");
    fs::write(&theirs, "x").unwrap();
    chown(&theirs, Some(1000), Some(1000)).unwrap();
    assert!(overlay.delete(overlay.choose("sticky/new")).0.is_clean() && !theirs.exists());

    let chosen = overlay.choose("file");
    sh(&format!("cd {}; mv file old; echo new > file", overlay.root.display()));
    let (receipt, ..) = overlay.delete(chosen);
    assert!(why(&receipt).contains("changed, skipped"), "{receipt:?}");
    assert_eq!(fs::read_to_string(overlay.root.join("file")).unwrap(), "new\n");
}

#[test]
fn a_tree_of_a_lower_layer_goes_in_place_and_gives_back_what_the_upper_one_has_of_it() {
    if !inside_mount_namespace(
        "a_tree_of_a_lower_layer_goes_in_place_and_gives_back_what_the_upper_one_has_of_it",
    ) {
        return;
    }
    for options in ["redirect_dir=off,", "redirect_dir=on,"] {
        let lower = format!(
            "mkdir -p tree/a/b mixed/a; {}; echo x > tree/a/f; ln -s f tree/a/link; {}; chmod 1777 mixed",
            made("tree/a/b/file"),
            made("mixed/a/file")
        );
        let overlay = Overlay::new(&lower, options);
        sh(&format!(
            "cd {}; {}; mkdir own; {}",
            overlay.root.display(),
            made("mixed/a/new"),
            made("own/new")
        ));
        let own = if options.contains("on") { (Layer::Unknown, MAYBE) } else { (Layer::Own, ALL) };
        for (name, layer, promise, emptier) in [
            ("tree", Layer::Lower, NOTHING, 0),
            ("mixed", Layer::Unknown, MAYBE, 8),
            ("own", own.0, own.1, 8),
        ] {
            let chosen = overlay.choose(name);
            assert_eq!(chosen.layer, layer, "{options} {name}");
            let (receipt, promised, change) = overlay.delete(chosen);
            assert!(receipt.is_clean(), "{options} {name}: {:?}", receipt.steps);
            assert_eq!(promised, promise, "{options} {name}");
            assert!(near(change, emptier), "{options} {name}: {change} bytes");
        }
        assert!(
            overlay.is_hidden("tree") && overlay.is_hidden("mixed") && !overlay.root.join("own").exists()
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&overlay.disk.join("lower/mixed")), 0o1777, "the lower layer is not touched");
    }
}

#[test]
fn a_sweep_copies_nothing_up_and_says_what_stays() {
    if !inside_mount_namespace("a_sweep_copies_nothing_up_and_says_what_stays") {
        return;
    }
    let overlay = Overlay::new(&format!("mkdir tmp; {}", made("tmp/old")), "");
    sh(&format!("umount {}", overlay.root.display()));
    filesystems::age(&overlay.disk, &["upper", "work"]);
    sh(&format!(
        "cd {}; mount -t overlay o -o lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work root",
        overlay.disk.display()
    ));
    let target = overlay.world.to_sweep(&overlay.root.join("tmp"));
    let before = overlay.free();
    let receipt = overlay.world.run(overlay.world.plan(&Request::Sweep(vec![target])));
    assert!(format!("{:?}", receipt.steps).contains("old: it is of a lower layer"), "{receipt:?}");
    assert!(near(overlay.free() - before, 0) && overlay.root.join("tmp/old").exists());
    assert!(!overlay.disk.join("upper/tmp/old").exists() && leftovers(&overlay.root.join("tmp")).is_empty());
}
