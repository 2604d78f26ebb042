//! Real file systems of their own for a test, on loop devices or in memory.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fmt::Write as _;
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

/// Makes everything below a fresh ext4 mount old, but for these and what is in them. No system call sets the change and
/// birth time of a file, so they are written into the file system while it is not mounted.
#[track_caller]
pub fn age(point: &Path, young: &[&str]) {
    let mut script = String::new();
    let mut stack = vec![point.to_path_buf()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(point).unwrap().to_str().unwrap();
            if young.contains(&inside) {
                continue;
            }
            for field in ["atime", "mtime", "ctime", "crtime"] {
                writeln!(script, "set_inode_field \"/{inside}\" {field} 20200101000000").unwrap();
            }
            if path.symlink_metadata().unwrap().is_dir() {
                stack.push(path);
            }
        }
    }
    let list = format!("{}.script", point.display());
    std::fs::write(&list, script).unwrap();
    sh(&format!(
        "umount {0} && debugfs -w -f {list} {0}.img >/dev/null 2>{0}.err && mount -o loop,noatime {0}.img {0}",
        point.display()
    ));
}
