//! What a test needs of the machine, and running one test again in other surroundings.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so loudly")]

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Carries the argument of the run in other surroundings, and tells it from the first one.
const INNER: &str = "UNWEDGE_TEST_INNER";

/// Prints loudly that a test cannot run here; panics where everything must run.
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    let required = std::env::var_os("UNWEDGE_TEST_REQUIRE").is_some_and(|value| value == "all");
    assert!(!required, "UNWEDGE_TEST_REQUIRE=all, but: {why}");
}

/// Whether we are root and may make namespaces and mounts: root of an ordinary container may not.
pub fn is_root() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let can = *CAN.get_or_init(|| {
        rustix::process::geteuid().is_root()
            && Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success())
    });
    if !can {
        skip("this test needs root and namespaces (unshare --mount); run it with sudo");
    }
    can
}

/// Runs one test of a test binary again below `wrapper`, and insists that it ran and passed.
#[track_caller]
pub fn run_again(wrapper: &[&str], exe: &Path, test: &str, argument: impl AsRef<OsStr>) {
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(exe)
        .args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(INNER, argument)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    eprintln!("{said}");
    assert!(output.status.success(), "{test} failed inside {wrapper:?}");
    assert!(said.contains("1 passed"), "{test} did not run inside {wrapper:?}");
}

/// The argument of a run in other surroundings; none in the first run.
pub fn argument() -> Option<OsString> {
    std::env::var_os(INNER)
}

/// Runs the named test of this binary again below `wrapper`, as root. True in the inner run, which does the work;
/// false in the outer one, after the inner one passed, and where it had to be skipped.
#[track_caller]
pub fn inside(wrapper: &[&str], test: &str) -> bool {
    if argument().is_some_and(|name| name == test) {
        return true;
    }
    if is_root() {
        run_again(wrapper, &std::env::current_exe().unwrap(), test, test);
    }
    false
}

/// Runs one test again in a mount namespace of its own, from which nothing leaks out.
#[track_caller]
pub fn inside_mount_namespace(test: &str) -> bool {
    inside(&["unshare", "--mount", "--propagation", "private"], test)
}

/// Runs the named test again in mount and pid namespaces of its own, where it can mount what it likes and sees no
/// process but its own.
#[track_caller]
pub fn inside_own_namespaces(test: &str) -> bool {
    let wrapper = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
        "--",
    ];
    inside(&wrapper, test)
}

/// A temporary directory that a test mounts things in: they are taken away before it, also when the test fails.
pub struct MountDir(tempfile::TempDir);

impl MountDir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for MountDir {
    fn drop(&mut self) {
        unmount_below(self.0.path());
    }
}

/// Takes away everything that is mounted on a directory or below it.
pub fn unmount_below(dir: &Path) {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = unwedge::sys::mountinfo::parse(&text).entries;
    // Later ones are on top of earlier ones.
    for entry in mounts.iter().rev().filter(|entry| entry.mount_point.as_path().starts_with(dir)) {
        let _ = nix::mount::umount2(entry.mount_point.as_path(), nix::mount::MntFlags::MNT_DETACH);
    }
}
