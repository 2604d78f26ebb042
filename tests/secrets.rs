//! No secret of a command line or an address leaves in a report: not from a Dockerfile, the build cache, a mount, or a
//! process.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::duplicate_mod,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/engines.rs"]
mod engines;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{inside_own_namespaces, sh};
use engines::{Dockerd, need};

const CANARY: &str = "c4n4ryXQZ7";

/// A program that runs until it is dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn audit(dir: &Path, dockerd: &Dockerd, format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["--audit", "--format", format, "--set", "engines.deadline_ms=60000"])
        .args(["--set", &format!("engines.docker_host=\"{}\"", dockerd.address())])
        .args(["--set", &format!("engines.docker_root=\"{}\"", dockerd.path("data").display())])
        .arg(dir)
        .current_dir(dir)
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn no_canary_is_in_a_report() {
    if !inside_own_namespaces("no_canary_is_in_a_report") || !need(&["dockerd", "/usr/bin/docker", "busybox"])
    {
        return;
    }
    let temp = common::MountDir::new();
    let at = |name: &str| temp.path().join(name);
    // Build cache: what BuildKit writes of each step.
    let dockerd = Dockerd::start();
    let image = at("image");
    fs::create_dir(&image).unwrap();
    sh(&format!("cp $(command -v busybox) {}/busybox", image.display()));
    let run = |words: &str| format!("RUN [\"/bin/busybox\", \"echo\", {words}]\n");
    let steps =
        [run(&format!("\"curl\", \"-u\", \"me:{CANARY}\"")), run(&format!("\"--password={CANARY}\""))];
    fs::write(
        image.join("Dockerfile"),
        format!("FROM scratch\nCOPY busybox /bin/busybox\n{}", steps.concat()),
    )
    .unwrap();
    dockerd.build_from("x", &image, true);
    // Mounts, one of them with something below it.
    let place = at("place");
    fs::create_dir_all(place.join("share")).unwrap();
    fs::create_dir(place.join("dav")).unwrap();
    fs::write(place.join("share/hidden"), vec![1; 1 << 20]).unwrap();
    sh(&format!(
        "mount -t tmpfs -o size=1M //me:{CANARY}@host/share {0}/share; \
         mount -t tmpfs -o size=1M 'https://me:{CANARY}@dav.example/?token={CANARY}' {0}/dav",
        place.display()
    ));
    // A Dockerfile, and a process.
    fs::write(
        place.join("Dockerfile"),
        format!(
            "FROM debian\nRUN curl -sSu me:{CANARY} https://h/x && apt-get update && apt-get install -y y\n"
        ),
    )
    .unwrap();
    sh(&format!("cp $(command -v bash) {0}/pip", temp.path().display()));
    let _pip = Running(
        Command::new(at("pip"))
            .args([
                "-c",
                "read x; :",
                "pip",
                "install",
                "--index-url",
                &format!("https://me:{CANARY}@h/simple"),
            ])
            .stdin(Stdio::piped())
            .current_dir(&place)
            .spawn()
            .unwrap(),
    );
    let json = audit(&place, &dockerd, "json");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|why| panic!("{why}: {json}"));
    // All of it is there, or nothing was shown.
    for told in [
        "mount / from exec /bin/busybox echo curl -u [redacted]",
        "mount / from exec /bin/busybox echo --password=[redacted]",
        "//[redacted]@host/share",
        "https://[redacted]@dav.example/?token=[redacted]",
        "curl -sSu [redacted] https://h/x && apt-get update",
        "install --index-url https://[redacted]@h/simple",
    ] {
        assert!(json.contains(told), "{told} is not in {report:#}");
    }
    for report in [json, audit(&place, &dockerd, "text")] {
        assert!(!report.contains(CANARY), "{report}");
    }
}
