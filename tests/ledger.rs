//! The ledger closes: on real file systems with data under a mount point, a deleted file that is still open, and blocks
//! kept for root, every byte in use has a name. Each test runs again in mount and pid namespaces of its own.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests mount, start programs and write files in their own temporary directory"
)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{MountDir, inside_own_namespaces, skip};
use serde_json::Value;
use unwedge::domain::text::HostPath;

#[path = "common/again.rs"]
mod common;

const MIB: u64 = 1 << 20;
/// What the worlds below hold, in MiB.
const SEEN: u64 = 60;
const DELETED: u64 = 30;
const HIDDEN: u64 = 20;

#[track_caller]
fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) {
    let mut command = Command::new(program);
    command.args(arguments);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn write(path: &Path, mib: u64) {
    let mut file = File::create(path).unwrap();
    let mut piece = vec![7; usize::try_from(MIB).unwrap()];
    for number in 0..mib {
        // No two blocks alike: nothing here can be shared.
        for (at, block) in piece.chunks_exact_mut(4096).enumerate() {
            block[..8].copy_from_slice(&number.to_le_bytes());
            block[8..16].copy_from_slice(&at.to_le_bytes());
        }
        file.write_all(&piece).unwrap();
    }
}

/// A file system on a loop device or in memory, mounted in a namespace that goes with the test.
struct World {
    dir: MountDir,
    /// Keeps a file open that was deleted.
    _deleted: File,
}

impl World {
    /// None where the program that makes the file system is not there.
    fn new(fs_type: &str, mkfs: &[&str], options: &str) -> Option<Self> {
        let dir = MountDir::new();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        if fs_type == "tmpfs" {
            run("mount", ["-t", "tmpfs", "-o", "size=400m", "none", root.to_str().unwrap()]);
        } else {
            let program = format!("/usr/sbin/mkfs.{fs_type}");
            if !Path::new(&program).exists() {
                skip(&format!("{program} is missing"));
                return None;
            }
            let image = dir.path().join("image");
            File::create(&image).unwrap().set_len(400 * MIB).unwrap();
            let arguments: Vec<&OsStr> =
                mkfs.iter().map(OsStr::new).chain([OsStr::new("-q"), image.as_os_str()]).collect();
            run(&program, arguments);
            let options = format!("loop,{options}");
            run("mount", ["-t", fs_type, "-o", &options, image.to_str().unwrap(), root.to_str().unwrap()]);
        }
        fs::create_dir(root.join("many")).unwrap();
        for number in 0..200 {
            fs::write(root.join(format!("many/{number}")), vec![7; 10_000]).unwrap();
        }
        write(&root.join("large"), SEEN);
        // Under a mount point: a directory with something in it, and one with nothing.
        for name in ["covered/deep", "empty"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        write(&root.join("covered/deep/hidden"), HIDDEN);
        for name in ["covered", "empty"] {
            run("mount", ["-t", "tmpfs", "above", root.join(name).to_str().unwrap()]);
        }
        write(&root.join("gone"), DELETED);
        let deleted = File::open(root.join("gone")).unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        rustix::fs::syncfs(&deleted).unwrap();
        Some(Self { dir, _deleted: deleted })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }
}

fn audit(wrapper: &[&str], root: &Path, more: &[&str]) -> Value {
    let program = [env!("CARGO_BIN_EXE_unwedge")];
    let mut words = wrapper.iter().chain(&program);
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args(["--audit", "--format", "json"])
        .args(more)
        .arg(root)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn sum(ledger: &Value, kind: &str) -> u64 {
    let parts = ledger["parts"].as_array().unwrap().iter();
    parts.filter(|part| part["kind"] == kind).map(|part| part["bytes"].as_u64().unwrap()).sum()
}

fn used(ledger: &Value) -> u64 {
    ledger["usage"]["total"].as_u64().unwrap() - ledger["usage"]["free"].as_u64().unwrap()
}

/// Ids and places of all mounts. Their options may change meanwhile: of file systems that others use, too.
fn mounts() -> Vec<(u32, HostPath)> {
    let parsed = unwedge::sys::mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap());
    parsed.entries.into_iter().map(|entry| (entry.id, entry.mount_point)).collect()
}

/// Audits the world and checks every line of its ledger; the residual may be this many thousandths of what is used.
#[track_caller]
fn closes(world: &World, thousandths: u64) -> Value {
    let root = world.root();
    let before = mounts();
    let report = audit(&[], &root, &["--set", "ledger.warn_size=1 MiB"]);
    assert_eq!(mounts(), before, "nothing was mounted or unmounted");

    let [ledger] = &report["ledgers"].as_array().unwrap()[..] else { panic!("{report:#}") };
    assert_eq!(report["unaccounted"], serde_json::json!([]));
    let used = used(ledger);
    let residual = ledger["residual"]["bytes"].as_i64().unwrap();
    eprintln!("{} used, residual {residual}, {:#}", used, ledger["parts"]);
    assert!(residual.unsigned_abs() * 1000 <= used * thousandths, "{residual} of {used}: {ledger:#}");
    let parts: i64 =
        ledger["parts"].as_array().unwrap().iter().filter_map(|part| part["bytes"].as_i64()).sum();
    assert_eq!(i64::try_from(used).unwrap(), parts + residual);

    // Not exactly: file systems map large files with blocks that count, and XFS rounds up what is open for writing.
    let about = |bytes: u64, mib: u64| bytes >= mib * MIB && bytes < (mib + 3) * MIB;
    let files = 200 * 10_000 / MIB;
    assert!(about(sum(ledger, "files"), SEEN + files), "{ledger:#}");
    assert!(about(sum(ledger, "deleted"), DELETED), "{ledger:#}");
    assert!(about(sum(ledger, "hidden"), HIDDEN), "{ledger:#}");
    let [hidden] = &ledger["hidden"].as_array().unwrap()[..] else { panic!("{ledger:#}") };
    assert_eq!(
        hidden["mount_point"]["text"].as_str().or(hidden["mount_point"].as_str()).unwrap(),
        root.join("covered").to_str().unwrap()
    );
    assert_eq!(hidden["entries"], 2);

    let findings = report["findings"].as_array().unwrap();
    let finding = |id: String| {
        findings.iter().find(|found| found["id"] == id).unwrap_or_else(|| panic!("{id}: {findings:#?}"))
    };
    let title = finding(format!("hidden-under-mount:{}/covered", root.display()))["title"].as_str().unwrap();
    assert!(title.starts_with("20.") && title.contains("MiB hidden under the mount on"), "{title}");
    let advice = finding(format!("df-du-differ:{}", root.display()))["advice"].as_str().unwrap();
    assert!(
        advice.contains("deleted files that are still open") && advice.contains("hidden under"),
        "{advice}"
    );
    assert_eq!(
        findings.iter().filter(|found| found["rule"] == "hidden-under-mount").count(),
        1,
        "{findings:#?}"
    );

    // Nothing is left of the look under the mounts: the file system can be unmounted but for the deleted file.
    run("umount", [root.join("covered")]);
    assert_eq!(fs::metadata(root.join("covered/deep/hidden")).unwrap().len(), HIDDEN * MIB);
    ledger.clone()
}

macro_rules! closes {
    ($($name:ident: $fs_type:literal $mkfs:expr, $options:literal, $thousandths:literal, $check:expr;)+) => {
        $(#[test]
        fn $name() {
            if inside_own_namespaces(stringify!($name))
                && let Some(world) = World::new($fs_type, &$mkfs, $options)
            {
                let ledger = closes(&world, $thousandths);
                let check: fn(&Value) = $check;
                check(&ledger);
            }
        })+
    };
}

/// Blocks that are free and not available.
fn reserved(ledger: &Value) -> u64 {
    ledger["usage"]["free"].as_u64().unwrap() - ledger["usage"]["available"].as_u64().unwrap()
}

closes! {
    tmpfs_closes: "tmpfs" [], "", 0, |ledger| assert_eq!(sum(ledger, "metadata"), 0);
    ext4_closes: "ext4" ["-F", "-m", "5"], "defaults", 0, |ledger| {
        assert!(reserved(ledger) >= 18 * MIB, "blocks are kept for root: {ledger:#}");
        assert!(ledger["outside"].as_u64().unwrap() > 4 * MIB, "journal and tables: {ledger:#}");
    };
    ext4_with_an_orphan_file_closes: "ext4" ["-F", "-O", "orphan_file"], "defaults", 0, |ledger| {
        assert!(sum(ledger, "metadata") > 4096, "{ledger:#}");
    };
    ext4_that_counts_its_tables_closes: "ext4" ["-F"], "minixdf", 1, |ledger| {
        assert!(sum(ledger, "metadata") > 4 * MIB, "journal and tables: {ledger:#}");
    };
    ext2_closes: "ext2" ["-F"], "defaults", 0, |_| ();
    xfs_closes: "xfs" ["-f", "-m", "rmapbt=0"], "defaults", 5, |ledger| {
        assert!(sum(ledger, "metadata") > MIB, "what it keeps free: {ledger:#}");
    };
    xfs_with_a_reverse_map_closes: "xfs" ["-f", "-m", "rmapbt=1,reflink=1"], "defaults", 1, |ledger| {
        assert!(sum(ledger, "metadata") > MIB, "what it keeps free: {ledger:#}");
    };
    btrfs_closes: "btrfs" ["-f"], "defaults", 10, |ledger| {
        assert!(sum(ledger, "metadata") > MIB, "trees and the global reserve: {ledger:#}");
    };
}

#[test]
fn what_another_mount_shows_is_not_called_hidden() {
    if !inside_own_namespaces("what_another_mount_shows_is_not_called_hidden") {
        return;
    }
    let Some(world) = World::new("tmpfs", &[], "") else { return };
    let root = world.root();
    run("umount", [root.join("covered")]);
    let covered = root.join("covered");
    run("mount", [OsStr::new("--bind"), covered.as_os_str(), covered.as_os_str()]);
    // A file that a file is mounted on.
    run("mount", [OsStr::new("--bind"), root.join("many/1").as_os_str(), root.join("large").as_os_str()]);
    let report = audit(&[], &root, &[]);
    let ledger = &report["ledgers"][0];
    let hidden: Vec<String> =
        ledger["hidden"].as_array().unwrap().iter().map(|one| one["mount_point"].to_string()).collect();
    assert_eq!(hidden.len(), 1, "{hidden:?}");
    assert!(hidden[0].contains("/large"), "{hidden:?}");
    assert_eq!(sum(ledger, "hidden"), SEEN * MIB);
    assert_eq!(ledger["residual"]["bytes"], 0, "what is bound to itself is counted as files: {ledger:#}");
}

#[test]
fn without_privilege_the_ledger_says_what_it_lacks() {
    if !inside_own_namespaces("without_privilege_the_ledger_says_what_it_lacks") {
        return;
    }
    let Some(world) = World::new("tmpfs", &[], "") else { return };
    let root = world.root();
    run("chmod", [OsStr::new("0755"), world.dir.path().as_os_str(), root.as_os_str()]);
    fs::create_dir(root.join("secret")).unwrap();
    write(&root.join("secret/file"), 5);
    run("chmod", [OsStr::new("0700"), root.join("secret").as_os_str()]);
    // The program must be reached by a user who may not enter our build directory.
    let program = world.dir.path().join("unwedge");
    fs::copy(env!("CARGO_BIN_EXE_unwedge"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--audit", "--format", "json"])
        .arg(&root)
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["hidden"]["state"], "denied", "{:#}", report["hidden"]);
    let ledger = &report["ledgers"][0];
    let of = |kind: &str| {
        ledger["parts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|part| part["kind"] == kind)
            .unwrap_or_else(|| panic!("{kind}: {ledger:#}"))
    };
    assert!(of("hidden")["bytes"].is_null() && of("unreadable")["bytes"].is_null(), "{ledger:#}");
    assert!(ledger["residual"]["bytes"].as_u64().unwrap() >= (DELETED + HIDDEN + 5) * MIB, "{ledger:#}");
    let why = ledger["residual"]["explanations"].to_string();
    for word in ["deleted files that are still open", "under mount points", "could not be read"] {
        assert!(why.contains(word), "{word}: {why}");
    }
}

#[test]
fn a_part_of_a_file_system_has_no_ledger_and_the_report_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let report = audit(&[], dir.path(), &[]);
    assert_eq!(report["ledgers"], serde_json::json!([]));
    assert!(
        report["unaccounted"][0].as_str().unwrap().contains("is only a part of the file system at"),
        "{report:#}"
    );
}
