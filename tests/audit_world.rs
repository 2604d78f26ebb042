//! A world with one of each fault, made of real mounts, processes and files in namespaces of its own, and what
//! `--audit` says of it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests start programs and write files in their own temporary directory"
)]

use std::process::Command;

use serde_json::Value;

mod common;

/// Makes the world below `$1` and runs the rest of the arguments in it. As pid 1 of its own pid namespace, so
/// that whatever it starts dies with it and nothing of the host is seen.
const WORLD: &str = r#"
set -eu
world=$1; shift
mount --make-rprivate /
mount -t tmpfs -o size=400m world "$world"
mkdir "$world/layer" "$world/t"
echo precious >"$world/layer/data"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    mkdir -p "$world/docker/tmp/buildkit-mount$i"
    mount --bind "$world/layer" "$world/docker/tmp/buildkit-mount$i"
done
cp "$(command -v sleep)" "$world/pip"
(setsid "$world/pip" 300 </dev/null >/dev/null 2>&1 &)
exec 7>"$world/gone.log"
head -c 150000000 /dev/zero >&7
rm "$world/gone.log"
for i in $(seq 1000); do : >"$world/t/$i"; done
code=0
"$@" 7>&- || code=$?
[ "$(cat "$world/layer/data")" = precious ]
exit "$code"
"#;

#[test]
fn every_fault_is_found_with_its_evidence_and_remedy() {
    if !common::is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let temp_dirs = format!("temp.dirs=[\"{}/t\"]", dir.path().display());
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", WORLD, "world"])
        .arg(dir.path())
        .args([env!("CARGO_BIN_EXE_unwedge"), "--audit", "--format", "json", "--set", &temp_dirs])
        .arg(dir.path())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(2), "{report:#}");
    let finding = |id: &str| {
        report["findings"].as_array().unwrap().iter().find(|f| f["id"] == id).unwrap_or_else(|| {
            panic!("{id} was not found: {:#}", report["findings"]);
        })
    };
    let commands = |id: &str| -> Vec<String> {
        let all = finding(id)["remedies"][0]["commands"].as_array().unwrap();
        all.iter().map(|command| command.as_str().unwrap().to_owned()).collect()
    };

    let mounts = finding("build-mounts");
    assert_eq!(mounts["severity"], "critical");
    assert!(mounts["title"].as_str().unwrap().starts_with("12 build mounts"));
    for i in 1..=12 {
        let path = format!("{}/docker/tmp/buildkit-mount{i}", dir.path().display());
        let of_it: Vec<String> = commands("build-mounts")
            .into_iter()
            .filter(|c| c.split([' ', ';']).any(|word| word == path))
            .collect();
        assert_eq!(
            of_it,
            [
                format!("unmount {path}"),
                format!("detach {path}; it goes when its last user is gone"),
                format!("remove the empty directory {path}")
            ]
        );
    }

    let orphans = finding("orphan-processes");
    assert!(orphans["title"].as_str().unwrap().starts_with("1 build process"), "{orphans:#}");
    assert!(commands("orphan-processes")[0].starts_with("send TERM to pid "));
    assert!(orphans["evidence"].as_array().unwrap().len() > 1, "{orphans:#}");

    let deleted = finding("deleted-open");
    assert!(deleted["reclaim"]["bytes"].as_u64().unwrap() >= 150_000_000, "{deleted:#}");
    assert!(commands("deleted-open")[0].contains(" through descriptor 7 of pid 1"));

    assert_eq!(finding(&format!("temp-entries:{}/t", dir.path().display()))["severity"], "warning");
    // What is mounted inside is not counted twice.
    assert_eq!(report["scans"][0]["value"]["entries"].as_u64().unwrap(), 1 + 2 + 1 + 2 + 12 + 1 + 1000);
}
