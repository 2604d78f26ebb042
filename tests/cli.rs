//! The command line as a script uses it: the real binary, its output and its exit codes.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests start programs and write files in their own temporary directory"
)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod common;

use common::is_root;

/// Base64 of the bytes `bad-\xff\xfe`, made by base64(1).
const BAD_NAME_BASE64_END: &str = "L2JhZC3//g==";

fn unwedge<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unwedge")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn audit(path: &Path, more: &[&str]) -> Output {
    let mut args: Vec<OsString> = vec!["--audit".into(), path.into()];
    args.extend(more.iter().map(OsString::from));
    unwedge(args)
}

fn json(path: &Path, more: &[&str]) -> (Value, i32) {
    let mut args = vec!["--format", "json"];
    args.extend(more);
    let output = audit(path, &args);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (value, output.status.code().unwrap())
}

fn tree() -> tempfile::TempDir {
    // Three components, so that base64 of the path ends at a fixed boundary for any random name.
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("big/inner")).unwrap();
    fs::write(at("big/inner/large.bin"), vec![1; 3 << 20]).unwrap();
    fs::write(at("big/small"), b"x").unwrap();
    fs::hard_link(at("big/inner/large.bin"), at("second-name")).unwrap();
    fs::write(dir.path().join(OsString::from_vec(b"esc-\x1b[2J\n".to_vec())), vec![2; 2 << 20]).unwrap();
    dir
}

#[test]
fn limits_end_in_an_answer_and_never_in_an_abort() {
    let dir = tree();
    for limit in ["-n 16", "-v 60000", "-v 150000", "-v 200000", "-v 300000", "-v 500000"] {
        let script = format!(
            "ulimit {limit}; exec {} --audit {}",
            env!("CARGO_BIN_EXE_unwedge"),
            dir.path().display()
        );
        let output = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        // An address space in which not even the program itself has room is the shell's to tell (126, 127).
        assert!(
            matches!(output.status.code(), Some(0..=3 | 126 | 127)),
            "{limit}: {:?} {said}",
            output.status
        );
        if said.contains("memory allocation of") {
            assert!(said.contains("ulimit -v"), "{limit}: {said}");
        }
    }
}

#[test]
fn the_report_counts_as_du_does() {
    let dir = tree();
    let (report, _) = json(dir.path(), &[]);
    let scan = &report["scans"][0]["value"];
    let du = Command::new("du").args(["-s", "--block-size=1", "-x"]).arg(dir.path()).output().unwrap();
    let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(scan["allocated"].as_u64().unwrap(), du);
    assert_eq!(scan["entries"].as_u64().unwrap(), 7);
    assert_eq!(scan["directories"].as_u64().unwrap(), 3);
    assert_eq!(report["schema_version"], 1);
    let largest = &report["largest_files"][0];
    let path = largest["path"]["text"].as_str().unwrap();
    assert!(path.ends_with("large.bin") || path.ends_with("second-name"), "{path}");
    let size = fs::metadata(dir.path().join("second-name")).unwrap();
    assert_eq!(largest["allocated"].as_u64().unwrap(), size.blocks() * 512);
    assert_eq!(largest["apparent"].as_u64().unwrap(), 3 << 20);
    assert!(report["largest_directories"][0]["path"]["text"].as_str().unwrap().ends_with("/big"));
}

#[test]
fn names_that_are_not_utf8_are_lossless() {
    let dir = tempfile::Builder::new().prefix("u").rand_bytes(6).tempdir_in("/tmp").unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"bad-\xff\xfe")), vec![3; 1 << 20]).unwrap();
    let (report, _) = json(dir.path(), &[]);
    let path = &report["largest_files"][0]["path"];
    assert!(path["text"].as_str().unwrap().ends_with("bad-\u{fffd}\u{fffd}"));
    // "/tmp/uXXXXXX" has 12 bytes, four whole groups of three.
    assert!(path["base64"].as_str().unwrap().ends_with(BAD_NAME_BASE64_END), "{path}");
}

#[test]
fn the_text_report_has_every_part_and_no_escape_sequence() {
    let dir = tree();
    let output = audit(dir.path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "Findings",
        "File systems",
        "Scanned",
        "Largest files",
        "Largest directories",
        // Larger than the name with the escape sequence, at one of its two names.
        "3.0 MiB",
        "mounted on",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(text.contains("esc-\\x1b[2J\\n"), "{text}");
    assert!(!text.contains('\x1b'));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_exit_code_is_the_conclusion() {
    let dir = tree();
    let code = |conclusion: &str| match conclusion {
        "ok" => 0,
        "warning" => 1,
        "critical" => 2,
        "could_not_tell" => 3,
        other => panic!("unknown conclusion {other}"),
    };
    let (report, exit) = json(dir.path(), &[]);
    assert_eq!(exit, code(report["conclusion"].as_str().unwrap()));
    // Every file system is over a limit of 0 %.
    let (report, exit) =
        json(dir.path(), &["--set", "filesystem.warn_percent=0", "--set", "filesystem.critical_percent=0"]);
    assert_eq!((report["conclusion"].as_str().unwrap(), exit), ("critical", 2));
    assert!(report["findings"][0]["id"].as_str().unwrap().starts_with("filesystem-full:"));
    assert!(report["findings"][0]["evidence"][0]["source"].as_str().unwrap().starts_with("statvfs("));
}

#[test]
fn without_a_path_local_file_systems_are_scanned() {
    // In a mount namespace of its own with nothing but small file systems to scan, where that is possible.
    let script = "mount -t tmpfs none /mnt && head -c 5000000 /dev/zero >/mnt/five && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_unwedge"), "--audit", "--format", "json"])
        .output()
        .unwrap();
    if !is_root() {
        return;
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let scanned: Vec<&str> = report["scans"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["value"]["path"]["text"].as_str())
        .collect();
    assert!(scanned.contains(&"/") && scanned.contains(&"/mnt"), "{scanned:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = tree();
    let script = "\"$0\" --audit \"$1\" 2>&1 | head -n 1; exit \"${PIPESTATUS[0]}\"";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_unwedge")])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.status.code().unwrap() <= 3);
}

#[test]
fn output_that_cannot_be_written_is_said() {
    let dir = tree();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .arg("--audit")
        .arg(dir.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the report"));
}

#[test]
fn wrong_paths_are_errors_that_say_what_to_do() {
    let dir = tree();
    let missing = audit(&dir.path().join("nope"), &[]);
    assert_eq!(missing.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nope"));
    let file = audit(&dir.path().join("second-name"), &[]);
    assert_eq!(file.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&file.stderr).contains("file, not a directory"), "{file:?}");
}

#[test]
fn a_directory_that_cannot_be_read_is_said() {
    if !is_root() {
        return;
    }
    let dir = tree();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(dir.path(), 0o755);
    mode(&dir.path().join("big"), 0o700);
    // The binary may lie where only root can go, so it is copied to where everybody can.
    let program = dir.path().join("unwedge");
    fs::copy(env!("CARGO_BIN_EXE_unwedge"), &program).unwrap();
    let run = |path: &Path| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["--audit", "--format", "json"])
            .arg(path)
            .output()
            .unwrap()
    };
    let output = run(dir.path());
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let scan = &report["scans"][0];
    assert_eq!(scan["state"], "partial");
    assert_eq!(scan["value"]["unreadable"], 1);
    assert!(scan["missing"][0].as_str().unwrap().contains("/big"), "{scan}");
    assert!(
        report["deleted"]["state"] == "partial" || report["deleted"]["state"] == "denied",
        "{}",
        report["deleted"]
    );
    assert_ne!(output.status.code(), Some(0), "not everything was seen");
    assert_eq!(run(&dir.path().join("big")).status.code(), Some(66));
}

#[test]
fn settings_stand_before_or_after_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let journal = format!("journal.dir={}", dir.path().display());
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    for args in [["--set", &journal, "history"], ["history", "--set", &journal]] {
        let output = unwedge(args);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let wrong = unwedge(["--set", "journal.dri=x", "history"]);
    assert_eq!(wrong.status.code(), Some(78), "it is read, and says what is wrong with it");
    // One that would be dropped silently.
    let both = unwedge(["--set", &journal, "history", "--set", "scan.threads=1"]);
    assert_eq!(both.status.code(), Some(64));
    assert!(said(&both).contains("before the command or after it"), "{}", said(&both));
    for args in [["--audit", "history"], ["--threads=2", "history"], ["/tmp", "history"]] {
        assert_eq!(unwedge(args).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn wrong_options_and_settings_name_the_nearest_right_one() {
    let output = unwedge(["--audti"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--audit"));
    let output = unwedge(["--audit", "--set", "filesystem.warn_precent=3"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("filesystem.warn_percent"));
}

#[test]
fn the_console_needs_a_terminal_and_says_what_to_use_instead() {
    let dir = tree();
    let output = unwedge([dir.path()]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--audit"));
}

#[test]
fn an_empty_history_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let setting = format!("journal.dir={}", dir.path().display());
    let output = unwedge(["history", "--set", &setting]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing"), "{output:?}");
    let output = unwedge(["history", "--format", "json", "--set", &setting]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["records"].as_array().unwrap().len(), 0);
}

#[test]
fn scan_counts_as_du_does_and_says_how_it_read() {
    let dir = tree();
    let path = dir.path().to_str().unwrap();
    let output = unwedge(["scan", path, "--format", "json", "--top", "1", "--threads", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scan = &report["scan"]["value"];
    let du = Command::new("du").args(["-s", "--block-size=1", "-x", path]).output().unwrap();
    let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(scan["allocated"].as_u64().unwrap(), du);
    assert_eq!(scan["entries"], 7);
    assert_eq!(scan["method"], "calls");
    assert!(scan["method_why"].as_str().unwrap().starts_with("ordinary calls: "), "{scan:#}");
    assert_eq!(report["largest_files"].as_array().unwrap().len(), 1);
    assert_eq!(report["largest_files"][0]["apparent"].as_u64().unwrap(), 3 << 20);

    let text = unwedge(["scan", path, "--method", "calls"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("ordinary calls, as asked") && text.contains(&format!("({du} bytes)")), "{text}");
    assert!(!text.contains('\x1b'), "no escape sequences from names: {text:?}");
    // The setting is the default of the option.
    let set = unwedge(["scan", path, "--set", "scan.method=calls", "--format", "json"]);
    assert!(String::from_utf8_lossy(&set.stdout).contains("as asked"));
    let wrong = unwedge(["scan", path, "--set", "scan.method=quick"]);
    assert_eq!(wrong.status.code(), Some(78), "{}", String::from_utf8_lossy(&wrong.stderr));
}

#[test]
fn files_beyond_the_memory_bound_count_and_are_said_not_to_be_listed() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..600 {
        fs::write(dir.path().join(format!("{number:0200}")), vec![1; 5000]).unwrap();
    }
    let path = dir.path().to_str().unwrap();
    let report = unwedge(["scan", path, "--format", "json", "--max-memory", "64KiB", "--threads", "1"]);
    assert_eq!(report.status.code(), Some(0), "{}", String::from_utf8_lossy(&report.stderr));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let scan = &report["scan"]["value"];
    let not_listed = scan["not_listed"].as_u64().unwrap();
    assert!((100..600).contains(&not_listed), "{scan:#}");
    assert_eq!(scan["entries"], 601);
    let du = Command::new("du").args(["-s", "--block-size=1", "-x", path]).output().unwrap();
    let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(scan["allocated"].as_u64().unwrap(), du);
    for args in [["scan", path], ["--audit", path]] {
        let set = ["--set", "scan.max_memory=64 KiB", "--set", "scan.threads=1"];
        let text = unwedge(args.into_iter().chain(set));
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains(&format!("{not_listed} files are counted, but not listed")), "{text}");
    }
    let all = unwedge(["scan", path, "--format", "json"]);
    assert!(String::from_utf8_lossy(&all.stdout).contains("\"not_listed\": 0"));
}

#[test]
fn scan_from_the_device_fails_where_there_is_none() {
    // /proc never has one.
    let output = unwedge(["scan", "/proc", "--method", "raw"]);
    assert_eq!(output.status.code(), Some(66));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot read /proc from its device: /proc is on proc"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn health_lists_every_probe_and_explain_every_finding() {
    let health = unwedge(["--health", "--format", "json"]);
    let json: Value = serde_json::from_slice(&health.stdout).unwrap();
    let names: Vec<&str> =
        json["probes"].as_array().unwrap().iter().map(|probe| probe["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"limits") && names.contains(&"mounts"), "{names:?}");
    assert!(json["kernel"].as_array().unwrap().iter().any(|layer| layer["name"] == "pidfd"));

    let text = unwedge(["explain", "read-only:/no/such"]);
    assert_eq!(text.status.code(), Some(0));
    let said = String::from_utf8(text.stdout).unwrap();
    assert!(said.starts_with("read-only:/no/such is not found on this machine now."), "{said}");
    let wrong = unwedge(["explain", "raed-only"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8(wrong.stdout).unwrap().contains("read-only"));
}

/// A snapshot of `tree` in a state directory of the test's own, and a comparison with it.
struct Kept {
    state: tempfile::TempDir,
}

impl Kept {
    fn run(&self, args: &[&OsStr]) -> Output {
        let journal = format!("journal.dir={}", self.state.path().display());
        let mut all = args.to_vec();
        all.extend([OsStr::new("--set"), OsStr::new(&journal)]);
        unwedge(all)
    }

    fn json(&self, args: &[&OsStr]) -> Value {
        let mut all = args.to_vec();
        all.extend([OsStr::new("--format"), OsStr::new("json")]);
        let output = self.run(&all);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn as_many_snapshots_of_a_directory_stay_as_are_wanted() {
    let kept = Kept { state: tempfile::tempdir().unwrap() };
    let (one, other) = (tree(), tree());
    let [snapshot, set, keep] = ["snapshot", "--set", "snapshot.keep=2"].map(OsStr::new);
    let file = |taken: &Value| taken["file"]["text"].as_str().unwrap().to_owned();
    let of_other = file(&kept.json(&[snapshot, other.path().as_os_str()]));
    let first = file(&kept.json(&[snapshot, one.path().as_os_str()]));
    // Not named as unwedge names them: somebody wants to have it.
    let named = kept.state.path().join("snapshots/monday.unwedge");
    fs::copy(&first, &named).unwrap();
    let second = file(&kept.json(&[snapshot, set, keep, one.path().as_os_str()]));
    let third = kept.json(&[snapshot, set, keep, one.path().as_os_str()]);
    assert_eq!(third["removed"], 1, "{third}");
    let there = [&of_other, &first, &second, &file(&third)].map(|file| Path::new(file).exists());
    assert_eq!(there, [true, false, true, true]);
    assert!(named.exists());
}

#[test]
fn a_snapshot_is_kept_and_what_changed_since_is_named() {
    let kept = Kept { state: tempfile::tempdir().unwrap() };
    let dir = tree();
    fs::create_dir(dir.path().join("gone")).unwrap();
    fs::write(dir.path().join("gone/with-it"), vec![3; 900 << 10]).unwrap();
    // The large file in big is counted at its other name.
    fs::write(dir.path().join("big/base"), vec![3; 200 << 10]).unwrap();
    let path = dir.path().as_os_str();
    let [snapshot, diff] = ["snapshot", "diff"].map(OsStr::new);
    let none = kept.run(&[diff, path]);
    assert_eq!(none.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&none.stderr).contains("take one with unwedge snapshot"), "{none:?}");

    let taken = kept.json(&[snapshot, path]);
    assert_eq!(taken["entries"], 10);
    let file = taken["file"]["text"].as_str().unwrap();
    assert!(Path::new(file).starts_with(kept.state.path().join("snapshots")), "{file}");
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(kept.state.path().join("snapshots")).unwrap().count(), 1, "nothing is left over");

    // By the directory, by the file, and with the place named: the same.
    assert_eq!(kept.json(&[diff, path])["changes"], Value::Array(Vec::new()));
    fs::remove_dir_all(dir.path().join("gone")).unwrap();
    fs::create_dir(dir.path().join("new")).unwrap();
    for i in 0..4 {
        fs::write(dir.path().join(format!("new/{i}")), vec![4; 600 << 10]).unwrap();
    }
    fs::write(dir.path().join("big/small"), vec![5; 5 << 20]).unwrap();
    let changes = kept.json(&[diff, path])["changes"].take();
    let named: Vec<(String, &str)> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let path = one["path"]["text"].as_str().unwrap();
            (
                path.strip_prefix(dir.path().to_str().unwrap()).unwrap().to_owned(),
                one["how"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [("/big/small", "appeared"), ("/new", "appeared"), ("/gone", "vanished")];
    let last = named.last().unwrap().0.as_str();
    assert!(last == "/gone" || last == "/gone/with-it", "{named:?}");
    let named: Vec<(&str, &str)> =
        named.iter().map(|(path, how)| (path.strip_suffix("/with-it").unwrap_or(path), *how)).collect();
    assert_eq!(named, expected);
    for args in [[diff, OsStr::new(file), path], [diff, path, path]] {
        assert_eq!(kept.json(&args)["changes"], changes);
    }

    // Two files, a part, and text.
    let second = kept.state.path().join("second");
    let second = second.as_os_str();
    let output = OsStr::new("--output");
    kept.json(&[snapshot, path, output, second]);
    assert_eq!(kept.json(&[diff, OsStr::new(file), second])["changes"], changes);
    let part = kept.json(&[diff, OsStr::new(file), dir.path().join("big").as_os_str()]);
    // In this part the large file has one name only, and is counted there.
    let part: Vec<&str> = part["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"]["text"].as_str().unwrap().rsplit('/').next().unwrap())
        .collect();
    assert_eq!(part, ["small", "large.bin"]);
    let text = String::from_utf8(kept.run(&[diff, path]).stdout).unwrap();
    assert!(text.contains("Grown") && text.contains("Shrunk") && text.contains("/big/small"), "{text}");

    // Nothing is written over, and a damaged one is refused.
    let again = kept.run(&[snapshot, path, output, second]);
    assert_eq!(again.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing is written over"), "{again:?}");
    let mut bytes = fs::read(second).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(second, bytes).unwrap();
    let damaged = kept.run(&[diff, second, path]);
    assert_eq!(damaged.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("its checksum is wrong"), "{damaged:?}");
    let stranger = kept.run(&[diff, dir.path().join("second-name").as_os_str(), path]);
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("not a snapshot"), "{stranger:?}");
}
