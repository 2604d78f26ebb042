//! Real file systems of their own for a test, on loop devices or in memory.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

use super::sh;

/// The file systems on which the changes are tried.
pub const ALL: [&str; 4] = ["ext4", "xfs", "btrfs", "tmpfs"];

/// Makes a file system of this kind in an image beside `point` and mounts it there. `mib` is rounded up to what the
/// kind needs at least. To be called in a mount namespace of the test's own; the loop device goes with the mount.
#[track_caller]
pub fn mount(kind: &str, point: &Path, mib: u64) {
    std::fs::create_dir(point).unwrap();
    let shown = point.display();
    let image = format!("{shown}.img");
    // mkfs.xfs wants 300 MiB, mkfs.btrfs some 109 MiB.
    let (least, make) = match kind {
        "tmpfs" => return sh(&format!("mount -t tmpfs -o size={mib}M,mode=755 none {shown}")),
        "ext4" => (8, "mkfs.ext4 -q -F -i 16384"),
        "xfs" => (300, "mkfs.xfs -q -f"),
        "btrfs" => (128, "mkfs.btrfs -q -f"),
        other => panic!("no file system {other}"),
    };
    let mib = mib.max(least);
    sh(&format!("truncate -s {mib}M {image} && {make} {image} && mount -o loop {image} {shown}"));
}
