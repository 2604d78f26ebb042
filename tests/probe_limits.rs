//! Limits that look like a full disk, really reached.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/probe.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::{MountDir, Surroundings, inside_own_namespaces};
use unwedge::domain::limits::LimitKind;
use unwedge::probe::limits;

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an ext4 file system in `dir` and mounts it there; `mount` frees the loop device with the mount.
fn ext4(dir: &Path, options: &str) -> std::path::PathBuf {
    let (image, at) = (dir.join("image"), dir.join("fs"));
    std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    std::fs::create_dir(&at).unwrap();
    run("/sbin/mkfs.ext4", &["-q", image.to_str().unwrap()]);
    run("mount", &["-o", options, image.to_str().unwrap(), at.to_str().unwrap()]);
    at
}

#[test]
fn a_file_system_that_went_read_only_after_an_error_is_told() {
    if !inside_own_namespaces("a_file_system_that_went_read_only_after_an_error_is_told") {
        return;
    }
    let dir = MountDir::new();
    let at = ext4(dir.path(), "loop,errors=remount-ro");
    let surroundings = Surroundings::real();
    let look = || limits::look(&surroundings.context()).value().unwrap().read_only.clone();
    assert_eq!(look(), [], "healthy");
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap();
    let device = Path::new(line.split(' ').next().unwrap()).file_name().unwrap().to_owned();
    // The kernel's own way to provoke an error (Documentation/ABI/testing/sysfs-fs-ext4).
    std::fs::write(Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error"), b"a test").unwrap();
    assert!(std::fs::write(at.join("file"), b"x").is_err());
    let found = look();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].mount_point.as_path(), at);
    assert!(found[0].evidence[0].fact.contains("1 errors were found"), "{found:?}");
}

#[test]
fn too_many_mounts_for_the_kernel_are_counted() {
    if !inside_own_namespaces("too_many_mounts_for_the_kernel_are_counted") {
        return;
    }
    let dir = MountDir::new();
    let mounts = || {
        let reading = limits::look(&Surroundings::real().context());
        reading.value().unwrap().counts.iter().find(|limit| limit.kind == LimitKind::Mounts).unwrap().used
    };
    let before = mounts();
    for number in 0..50 {
        let at = dir.path().join(number.to_string());
        std::fs::create_dir(&at).unwrap();
        run("mount", &["-t", "tmpfs", "none", at.to_str().unwrap()]);
    }
    assert_eq!(mounts(), before + 50);
}
