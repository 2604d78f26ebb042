//! Which disk, seen through which mounts: installers' layouts of btrfs, binds shorter than their disk, containers, merged
//! system extensions, stores mounted on themselves. Each test runs again in mount and pid namespaces of its own, most in
//! a small system of their own (chroot), and asks the program as a script would.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests mount, start programs and write files in their own temporary directory"
)]

#[path = "common/again.rs"]
mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{MountDir, inside_own_namespaces, skip};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Runs a script and insists that it works.
#[track_caller]
fn sh(script: &str) {
    let output = Command::new("/bin/sh").args(["-euc", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has(program: &str) -> bool {
    let found =
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !found {
        skip(&format!("{program} is missing"));
    }
    found
}

/// Writes a file of which no two blocks are alike.
fn write(path: &Path, mib: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    let mut piece = vec![7; usize::try_from(MIB).unwrap()];
    for number in 0..mib {
        for (at, block) in piece.chunks_exact_mut(4096).enumerate() {
            block[..8].copy_from_slice(&number.to_le_bytes());
            block[8..16].copy_from_slice(&at.to_le_bytes());
        }
        file.write_all(&piece).unwrap();
    }
    rustix::fs::syncfs(&file).unwrap();
}

/// Puts a small system into a directory: the program with its libraries, and two users.
fn system(root: &Path) {
    for dir in
        ["bin", "etc", "tmp", "var/log", "var/tmp", "proc", "sys", "dev", "root", "home", "run", "lib64"]
    {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
        .unwrap();
    let program = env!("CARGO_BIN_EXE_unwedge");
    fs::copy(program, root.join("bin/unwedge")).unwrap();
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(library, target).unwrap();
    }
}

/// Mounts what every system has.
fn kernel(root: &Path) {
    let root = root.display();
    sh(&format!(
        "mount -t proc proc {root}/proc; mount -t sysfs sysfs {root}/sys; mount -t tmpfs dev {root}/dev"
    ));
    sh(&format!("mknod -m 666 {root}/dev/null c 1 3"));
}

/// Runs the program in a system.
fn inside(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("chroot");
    command.arg(root).arg("/bin/unwedge").args(arguments).args(["--set", "growth.interval_ms=0"]);
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn audit(root: &Path) -> Value {
    json(&inside(root, &["--audit", "--format", "json"]))
}

fn text(value: &Value) -> &str {
    value["text"].as_str().or(value.as_str()).unwrap_or_default()
}

fn file_systems(report: &Value) -> Vec<&Value> {
    report["filesystems"]["value"].as_array().unwrap().iter().collect()
}

/// Those of a type.
fn named<'r>(report: &'r Value, fs_type: &str) -> Vec<&'r str> {
    let of_type = |fs: &&&Value| text(&fs["fs_type"]) == fs_type;
    file_systems(report).iter().filter(of_type).map(|fs| text(&fs["mount_point"])).collect()
}

fn findings(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|found| found["id"].as_str().unwrap()).collect()
}

fn ledger<'r>(report: &'r Value, mount_point: &str) -> Option<&'r Value> {
    report["ledgers"].as_array().unwrap().iter().find(|ledger| text(&ledger["mount_point"]) == mount_point)
}

fn sum(ledger: &Value, kind: &str) -> u64 {
    let parts = ledger["parts"].as_array().unwrap().iter();
    parts.filter(|part| part["kind"] == kind).map(|part| part["bytes"].as_u64().unwrap()).sum()
}

/// What was scanned, by path.
fn scanned(report: &Value, path: &str) -> u64 {
    let all = report["scans"].as_array().unwrap().iter().map(|scan| &scan["value"]);
    let one = all.clone().find(|scan| text(&scan["path"]) == path);
    one.unwrap_or_else(|| panic!("{path} was not scanned: {:#}", report["scans"]))["allocated"]
        .as_u64()
        .unwrap()
}

/// The mount point that a dry run of a reclaim is for, and what it would do.
fn reclaim(root: &Path, on: &str) -> (String, Vec<String>) {
    let arguments =
        ["reclaim", "20M", "--on", on, "--dry-run", "--max-risk", "disruptive", "--format", "json"];
    let report = json(&inside(root, &arguments));
    let parts = report["choice"]["basket"]["parts"].as_array().unwrap();
    let steps = parts.iter().flat_map(|part| part["steps"].as_array().unwrap());
    let paths = steps.map(|step| step["op"].to_string()).collect();
    (text(&report["goal"]["mount_point"]).to_owned(), paths)
}

/// A pool with a system in the subvolume `@`, homes in `@home` and a nested subvolume, as installers lay it.
fn installed_on_btrfs(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    let shown = dir.display();
    sh(&format!(
        "truncate -s 1G {shown}/img; mkfs.btrfs -q -f {shown}/img >&2; mkdir {shown}/top {shown}/root; \
         mount -o loop {shown}/img {shown}/top; \
         btrfs -q subvolume create {shown}/top/@; btrfs -q subvolume create {shown}/top/@home; \
         device=$(losetup -n -O NAME -j {shown}/img); \
         mount -o subvol=@ $device {shown}/root; mkdir {shown}/root/home; mount -o subvol=@home $device {shown}/root/home; \
         umount {shown}/top"
    ));
    system(&root);
    let shown = root.display();
    sh(&format!("mkdir -p {shown}/var/lib/machines; btrfs -q subvolume create {shown}/var/lib/machines/vm"));
    write(&root.join("var/lib/machines/vm/disk"), 40);
    write(&root.join("home/ann/.cache/pip/http/wheel"), 50);
    root
}

#[test]
fn a_pool_of_subvolumes_is_one_file_system_and_is_scanned_whole() {
    if !inside_own_namespaces("a_pool_of_subvolumes_is_one_file_system_and_is_scanned_whole")
        || !has("mkfs.btrfs")
    {
        return;
    }
    let dir = MountDir::new();
    let root = installed_on_btrfs(dir.path());
    kernel(&root);
    let report = audit(&root);
    assert_eq!(named(&report, "btrfs"), ["/"]);
    let fs = file_systems(&report).into_iter().find(|fs| text(&fs["fs_type"]) == "btrfs").unwrap().clone();
    assert_eq!((&fs["seen"]["extent"], text(&fs["seen"]["parts"][0])), (&"subvolumes".into(), "/home"));
    let all = scanned(&report, "/");
    assert!(all >= 90 * MIB, "{all}: the homes and the nested subvolume are in it");
    assert!(
        report["scans"].as_array().unwrap().iter().all(|scan| text(&scan["value"]["path"]) != "/home"),
        "once"
    );
    let ledger = ledger(&report, "/").unwrap();
    let residual = ledger["residual"]["bytes"].as_i64().unwrap();
    assert!(residual.unsigned_abs() < 10 * MIB, "{ledger:#}");
    assert!(!findings(&report).iter().any(|id| id.starts_with("df-du-differ")), "{:?}", findings(&report));
    for on in ["/", "/home", "/home/ann/.cache"] {
        let (mount_point, steps) = reclaim(&root, on);
        assert_eq!(mount_point, "/", "{on}");
        assert!(steps.iter().any(|step| step.contains("/home/ann/.cache/pip")), "{on}: {steps:?}");
    }
    let missing = inside(&root, &["reclaim", "1M", "--on", "/home/nobody", "--dry-run"]);
    assert_eq!(missing.status.code(), Some(66), "{}", String::from_utf8_lossy(&missing.stderr));
}

#[test]
fn a_pool_whose_subvolumes_are_mounted_side_by_side_is_counted_once() {
    if !inside_own_namespaces("a_pool_whose_subvolumes_are_mounted_side_by_side_is_counted_once")
        || !has("mkfs.btrfs")
    {
        return;
    }
    let dir = MountDir::new();
    let shown = dir.path().display();
    // b lies in a, and is mounted elsewhere as well; both are below a tmpfs, so that no scan comes from one to the other.
    sh(&format!(
        "mkdir {shown}/t; mount -t tmpfs t {shown}/t; mkdir {shown}/t/top {shown}/t/a {shown}/t/b {shown}/t/c; \
         truncate -s 400M {shown}/img; mkfs.btrfs -q -f {shown}/img >&2; mount -o loop {shown}/img {shown}/t/top; \
         btrfs -q subvolume create {shown}/t/top/a; btrfs -q subvolume create {shown}/t/top/a/b; \
         btrfs -q subvolume create {shown}/t/top/c; device=$(losetup -n -O NAME -j {shown}/img); \
         for name in a a/b c; do mount -o subvol=$name $device {shown}/t/${{name#a/}}; done; umount {shown}/t/top"
    ));
    for name in ["a", "b", "c"] {
        write(&dir.path().join("t").join(name).join("file"), 20);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["--audit", "--format", "json", "--set", "growth.interval_ms=0"])
        .output()
        .unwrap();
    let report = json(&output);
    let name = dir.path().join("t/a");
    let ledger = ledger(&report, name.to_str().unwrap()).unwrap();
    let files = sum(ledger, "files");
    assert!((60 * MIB..61 * MIB).contains(&files), "{files}: {ledger:#}");
}

#[test]
fn a_snapshot_is_neither_counted_nor_deleted_with_what_is_around_it() {
    if !inside_own_namespaces("a_snapshot_is_neither_counted_nor_deleted_with_what_is_around_it")
        || !has("mkfs.btrfs")
    {
        return;
    }
    let dir = MountDir::new();
    let shown = dir.path().display();
    sh(&format!(
        "mkdir {shown}/m; truncate -s 400M {shown}/img; mkfs.btrfs -q -f {shown}/img >&2; \
         mount -o loop {shown}/img {shown}/m; btrfs -q subvolume create {shown}/m/plain; mkdir {shown}/m/d"
    ));
    let top = dir.path().join("m");
    write(&top.join("plain/file"), 10);
    sh(&format!(
        "btrfs -q subvolume snapshot {shown}/m/plain {shown}/m/d/snapshot; btrfs -q subvolume create {shown}/m/d/inner"
    ));
    write(&top.join("d/inner/file"), 5);
    let scan = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["scan", "--format", "json"])
        .arg(&top)
        .output()
        .unwrap();
    let report = json(&scan);
    let allocated = report["scan"]["value"]["allocated"].as_u64().unwrap();
    assert!((15 * MIB..16 * MIB).contains(&allocated), "{report:#}");
    assert_eq!((scan.status.code(), &report["scan"]["value"]["snapshots"]), (Some(3), &1.into()));
    assert_eq!(
        text(&report["scan"]["value"]["snapshot_examples"][0]),
        top.join("d/snapshot").to_str().unwrap()
    );

    // The hands go where the scan went, and not where it did not.
    let fd = |path: &Path| File::open(path).unwrap();
    let open = |name: &std::ffi::CStr| unwedge::sys::beneath::open_child_dir(fd(&top.join("d")), name);
    assert_eq!(open(c"snapshot").unwrap_err(), rustix::io::Errno::XDEV);
    assert!(open(c"inner").is_ok());
}

#[test]
fn a_bind_that_is_shorter_than_its_disk_does_not_stand_for_it() {
    if !inside_own_namespaces("a_bind_that_is_shorter_than_its_disk_does_not_stand_for_it")
        || !has("mkfs.ext4")
    {
        return;
    }
    let dir = MountDir::new();
    let root = dir.path().join("root");
    let shown = dir.path().display();
    sh(&format!(
        "mkdir {shown}/root; mount -t tmpfs -o size=500m system {shown}/root; mkdir -p {shown}/root/srv/storage"
    ));
    system(&root);
    sh(&format!(
        "truncate -s 400M {shown}/img; mkfs.ext4 -q -F {shown}/img; mount -o loop {shown}/img {shown}/root/srv/storage; \
         mkdir {shown}/root/srv/storage/home; mount --bind {shown}/root/srv/storage/home {shown}/root/home"
    ));
    write(&root.join("root/.npm/_cacache/x"), 40);
    write(&root.join("srv/storage/big"), 100);
    write(&root.join("home/ann/.cache/pip/x"), 30);
    kernel(&root);
    let report = audit(&root);
    assert_eq!(named(&report, "ext4"), ["/srv/storage"]);
    assert!(scanned(&report, "/srv/storage") >= 130 * MIB);
    for on in ["/srv/storage", "/srv/storage/big", "/home", "/home/ann"] {
        let (mount_point, steps) = reclaim(&root, on);
        assert_eq!(mount_point, "/srv/storage", "{on}");
        // Nothing on the other disk, whatever it is.
        assert!(
            steps.iter().all(|step| step.contains("/.cache/pip") && !step.contains("_cacache")),
            "{on}: {steps:?}"
        );
        assert!(!steps.is_empty(), "{on}");
    }
    let (mount_point, steps) = reclaim(&root, "/root");
    assert_eq!(mount_point, "/");
    assert!(steps.iter().any(|step| step.contains("/root/.npm")), "{steps:?}");
}

#[test]
fn a_disk_under_a_read_only_view_is_called_by_its_root_and_cleaned_where_it_can_be_written() {
    let name = "a_disk_under_a_read_only_view_is_called_by_its_root_and_cleaned_where_it_can_be_written";
    if !inside_own_namespaces(name) || !has("mkfs.ext4") {
        return;
    }
    // As ostree with composefs: / is an overlay without an upper directory, the disk is read-only at /sysroot, and parts
    // of it can be written at /etc and /var.
    let dir = MountDir::new();
    let shown = dir.path().display();
    sh(&format!(
        "mkdir {shown}/disk {shown}/root {shown}/image; truncate -s 500M {shown}/img; mkfs.ext4 -q -F {shown}/img; \
         mount -o loop {shown}/img {shown}/disk; mkdir -p {shown}/disk/deploy/etc {shown}/disk/deploy/var {shown}/empty"
    ));
    system(&dir.path().join("image"));
    sh(&format!(
        "mkdir {shown}/image/sysroot; mv {shown}/image/var/* {shown}/disk/deploy/var; \
         mv {shown}/image/etc/passwd {shown}/disk/deploy/etc; \
         mount -t overlay composefs -o ro,lowerdir={shown}/image:{shown}/empty {shown}/root; \
         mount --bind {shown}/disk {shown}/root/sysroot; mount -o remount,bind,ro {shown}/root/sysroot; \
         mount --bind {shown}/disk/deploy/etc {shown}/root/etc; mount --bind {shown}/disk/deploy/var {shown}/root/var; \
         umount {shown}/disk"
    ));
    let root = dir.path().join("root");
    write(&root.join("var/srv/app/__pycache__/module.cpython-311.pyc"), 30);
    write(&root.join("var/data/large"), 60);
    kernel(&root);
    let report = audit(&root);
    assert_eq!((named(&report, "ext4"), named(&report, "overlay")), (vec!["/sysroot"], vec!["/"]));
    assert!(scanned(&report, "/sysroot") >= 90 * MIB);
    assert!(ledger(&report, "/sysroot").is_some() && ledger(&report, "/").is_none());
    for on in ["/var", "/etc", "/sysroot"] {
        let (mount_point, steps) = reclaim(&root, on);
        assert_eq!(mount_point, "/sysroot", "{on}");
        assert!(steps.iter().any(|step| step.contains("\"/var/srv/app/__pycache__")), "{on}: {steps:?}");
    }
    let output = inside(&root, &["reclaim", "20M", "--on", "/var", "--max-risk", "disruptive", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!root.join("var/srv/app/__pycache__").exists() && root.join("var/data/large").exists());
}

/// The root of a container: an overlay, a volume and two files from the disk that the overlay is on as well.
fn container(dir: &Path) -> PathBuf {
    let shown = dir.display();
    sh(&format!(
        "mkdir {shown}/disk {shown}/root; truncate -s 600M {shown}/img; mkfs.ext4 -q -F {shown}/img; \
         mount -o loop {shown}/img {shown}/disk; mkdir -p {shown}/disk/lower/data {shown}/disk/upper {shown}/disk/work"
    ));
    let disk = dir.join("disk");
    system(&disk.join("lower"));
    for file in ["etc/hosts", "etc/resolv.conf"] {
        fs::write(disk.join("lower").join(file), "").unwrap();
    }
    write(&disk.join("others/large"), 200);
    write(&disk.join("volumes/v/_data/file"), 20);
    sh(&format!(
        "cd {shown}/disk; echo 127.0.0.1 localhost > hosts; echo > resolv; \
         mount -t overlay overlay -o lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work {shown}/root; \
         mount --bind hosts {shown}/root/etc/hosts; mount --bind resolv {shown}/root/etc/resolv.conf; \
         mount --bind volumes/v/_data {shown}/root/data"
    ));
    dir.join("root")
}

#[test]
fn from_a_container_a_part_is_not_held_against_the_whole_disk() {
    if !inside_own_namespaces("from_a_container_a_part_is_not_held_against_the_whole_disk")
        || !has("mkfs.ext4")
    {
        return;
    }
    let dir = MountDir::new();
    let root = container(dir.path());
    kernel(&root);
    let report = audit(&root);
    assert_eq!((named(&report, "ext4"), named(&report, "overlay")), (vec!["/data"], vec!["/"]));
    for place in ["/", "/data"] {
        assert!(ledger(&report, place).is_none(), "{place}");
        let said = report["unaccounted"].as_array().unwrap().iter().any(|why| {
            why.as_str()
                .unwrap()
                .starts_with(&format!("only a part of the file system at {place} can be seen"))
        });
        assert!(said, "{:#}", report["unaccounted"]);
    }
    assert!(scanned(&report, "/data") >= 20 * MIB);
    let unexpected: Vec<&str> = findings(&report)
        .into_iter()
        .filter(|id| id.contains("hosts") || id.starts_with("df-du-differ"))
        .collect();
    assert_eq!(unexpected, Vec::<&str>::new());
    let output = inside(&root, &["reclaim", "1M", "--dry-run"]);
    assert!(output.status.code() < Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_deleted_file_of_a_container_counts_on_the_disk_of_its_upper_directory() {
    let name = "a_deleted_file_of_a_container_counts_on_the_disk_of_its_upper_directory";
    if !inside_own_namespaces(name) || !has("mkfs.ext4") {
        return;
    }
    let dir = MountDir::new();
    let root = container(dir.path());
    write(&root.join("tmp/gone"), 50);
    let kept = File::open(root.join("tmp/gone")).unwrap();
    fs::remove_file(root.join("tmp/gone")).unwrap();
    // Once the overlay is in our own table, once only in that of who has the file open.
    for hide in [false, true] {
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sleep", "1000"])
            .stdin(Stdio::from(kept.try_clone().unwrap()))
            .spawn()
            .unwrap();
        let namespace = format!("/proc/{}/ns/mnt", holder.id());
        while fs::read_link(&namespace).unwrap() == fs::read_link("/proc/self/ns/mnt").unwrap() {
            std::thread::yield_now();
        }
        if hide {
            sh(&format!("umount -l {}", root.display()));
        }
        let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
            .args(["--audit", "--format", "json", "--set", "growth.interval_ms=0"])
            .arg(dir.path().join("disk"))
            .output()
            .unwrap();
        let report = json(&output);
        let ledger = ledger(&report, dir.path().join("disk").to_str().unwrap()).unwrap();
        let deleted = sum(ledger, "deleted");
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!((50 * MIB..51 * MIB).contains(&deleted), "hidden {hide}: {ledger:#}");
        assert!(ledger["residual"]["bytes"].as_i64().unwrap().unsigned_abs() < MIB, "{ledger:#}");
    }
}

#[test]
fn a_merged_system_extension_hides_nothing() {
    if !inside_own_namespaces("a_merged_system_extension_hides_nothing") || !has("mkfs.ext4") {
        return;
    }
    let dir = MountDir::new();
    let shown = dir.path().display();
    sh(&format!(
        "mkdir {shown}/m; truncate -s 400M {shown}/img; mkfs.ext4 -q -F {shown}/img; mount -o loop {shown}/img {shown}/m; \
         mkdir -p {shown}/m/usr {shown}/m/lib {shown}/ext/usr {shown}/second"
    ));
    let top = dir.path().join("m");
    write(&top.join("usr/program"), 60);
    write(&top.join("lib/module"), 20);
    sh(&format!(
        "mount -t overlay sysext -o ro,lowerdir={shown}/ext/usr:{shown}/m/usr {shown}/m/usr; \
         mount -t overlay over -o ro,lowerdir={shown}/ext/usr:{shown}/second {shown}/m/lib"
    ));
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args([
            "--audit",
            "--format",
            "json",
            "--set",
            "growth.interval_ms=0",
            "--set",
            "ledger.warn_hidden=1 MiB",
        ])
        .arg(&top)
        .output()
        .unwrap();
    let report = json(&output);
    let hidden =
        findings(&report).into_iter().filter(|id| id.starts_with("hidden-under-mount")).collect::<Vec<_>>();
    // The control: an overlay that does not have the directory among its layers does hide what is there.
    assert_eq!(hidden, [format!("hidden-under-mount:{}", top.join("lib").display())]);
    let ledger = ledger(&report, top.to_str().unwrap()).unwrap();
    assert!((20 * MIB..21 * MIB).contains(&sum(ledger, "hidden")), "{ledger:#}");
    assert!(ledger["residual"]["bytes"].as_i64().unwrap().unsigned_abs() < MIB, "{ledger:#}");
}

#[test]
fn a_store_that_is_mounted_on_itself_is_counted_where_it_is() {
    if !inside_own_namespaces("a_store_that_is_mounted_on_itself_is_counted_where_it_is") || !has("mkfs.ext4")
    {
        return;
    }
    let dir = MountDir::new();
    let shown = dir.path().display();
    sh(&format!(
        "mkdir {shown}/m; truncate -s 400M {shown}/img; mkfs.ext4 -q -F {shown}/img; mount -o loop {shown}/img {shown}/m; \
         mkdir -p {shown}/m/store/overlay/merged {shown}/m/source {shown}/m/elsewhere"
    ));
    let top = dir.path().join("m");
    write(&top.join("store/overlay/layer"), 40);
    write(&top.join("source/file"), 10);
    sh(&format!(
        "cd {shown}/m; mount --bind store/overlay store/overlay; mount -t tmpfs none store/overlay/merged; \
         mount --bind source elsewhere"
    ));
    write(&top.join("store/overlay/merged/other"), 5);
    for method in ["calls", "raw"] {
        let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
            .args(["scan", "--format", "json", "--method", method])
            .arg(&top)
            .output()
            .unwrap();
        let report = json(&output);
        let allocated = report["scan"]["value"]["allocated"].as_u64().unwrap();
        assert!((50 * MIB..51 * MIB).contains(&allocated), "{method}: {report:#}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["--audit", "--format", "json", "--set", "growth.interval_ms=0"])
        .arg(&top)
        .output()
        .unwrap();
    let report = json(&output);
    let ledger = ledger(&report, top.to_str().unwrap()).unwrap();
    assert_eq!((ledger["residual"]["bytes"].as_i64(), sum(ledger, "hidden")), (Some(0), 0), "{ledger:#}");
}

#[test]
fn at_the_limit_of_processes_nothing_is_called_well_that_was_not_looked_at() {
    let name = "at_the_limit_of_processes_nothing_is_called_well_that_was_not_looked_at";
    if !inside_own_namespaces(name) || !has("setpriv") || !has("prlimit") {
        return;
    }
    let dir = MountDir::new();
    sh(&format!("chmod 755 {}", dir.path().display()));
    // The limit counts the processes of the user: one that nobody else is.
    for limit in 1..=24 {
        let limit = format!("--nproc={limit}");
        let output = Command::new("setpriv")
            .args(["--reuid=54329", "--regid=54329", "--clear-groups", "prlimit", &limit])
            .args([env!("CARGO_BIN_EXE_unwedge"), "--audit", "--set", "growth.interval_ms=0"])
            .arg(dir.path())
            .env("HOME", dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("panicked"), "{limit}: {error}");
        assert!(!said.contains("still looking"), "{limit}: {said}");
        // What was found counts as found. If nothing was, the report says so only if it has looked.
        let nothing = !said.contains("[warning]") && !said.contains("[critical]");
        let blind =
            said.contains("[unknown]") || said.contains("no thread") || said.contains("not looked at");
        let code = output.status.code().unwrap();
        assert_eq!(code == 3, nothing && blind, "{limit}: {said}{error}");
        assert!(code <= 3, "{limit}: {error}");
    }
}
