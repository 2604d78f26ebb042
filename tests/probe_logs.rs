//! The logs probe against real journal files, real writers and a real logrotate.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories of their own, and fail by panicking"
)]

#[path = "common/probe.rs"]
mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{Running, Surroundings, inside_own_namespaces, wait_until};
use unwedge::config::Settings;
use unwedge::domain::finding::{Finding, Reclaim};
use unwedge::domain::logs::{JournalOwner, Logs};
use unwedge::domain::snapshot::Snapshot;
use unwedge::probe::logs;
use unwedge::rules;

const OWN: &str = "3d1219c7c4c5404aaa1f6d2a48adfda4";
const OTHER: &str = "0123456789abcdef0123456789abcdef";
const REMOTE: &str = "/lib/systemd/systemd-journal-remote";
const MIB: usize = 1 << 20;

/// A directory that stands for `/`, with logs in it.
struct World {
    dir: tempfile::TempDir,
    surroundings: Surroundings,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut surroundings = Surroundings::fixture(dir.path());
        surroundings.settings.logs.warn_file = bytesize::ByteSize::mib(4);
        surroundings.settings.logs.warn_rotated = bytesize::ByteSize::mib(4);
        surroundings.settings.logs.warn_journal = bytesize::ByteSize::mib(4);
        surroundings.settings.logs.keep_journal = bytesize::ByteSize::mib(1);
        let world = Self { dir, surroundings };
        // Processes are real, whatever else is not.
        std::os::unix::fs::symlink("/proc", world.at("/proc")).unwrap();
        world.write("/etc/machine-id", format!("{OWN}\n").as_bytes());
        std::fs::create_dir_all(world.at("/var/log")).unwrap();
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: &[u8]) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), content).unwrap();
    }

    fn look(&self) -> Logs {
        let reading = logs::look(&self.surroundings.context());
        assert_eq!(reading.sentences(), Vec::<String>::new());
        reading.value().unwrap().clone()
    }

    fn findings(&self) -> Vec<Finding> {
        let mut snapshot = Snapshot::pending(self.surroundings.now);
        snapshot.logs = logs::look(&self.surroundings.context());
        rules::assess(&snapshot, &self.surroundings.settings)
    }

    #[track_caller]
    fn finding(&self, id: &str) -> Finding {
        let all = self.findings();
        all.iter().find(|found| found.id == id).unwrap_or_else(|| panic!("no {id} in {all:#?}")).clone()
    }

    /// A real journal file, made by systemd's own program.
    fn journal(&self, path: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        let entries = (1..200).map(|number| {
            format!(
                "__REALTIME_TIMESTAMP=1700000000{number:06}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={OTHER}\n\
                 MESSAGE=hello {number}\n\n"
            )
        });
        let made = self.at("/made.journal");
        let mut child = Command::new(REMOTE)
            .arg(format!("--output={}", made.display()))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(entries.collect::<String>().as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        std::fs::rename(made, self.at(path)).unwrap();
    }

    /// A process that keeps a file open for writing.
    fn writer(&self, path: &str, redirect: &str) -> Running {
        let child = Command::new("sh")
            .args(["-c", &format!("exec sleep 1000 {redirect}\"$1\""), "sh"])
            .arg(self.at(path))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Running(child);
        let link = format!("/proc/{}/fd/7", running.pid());
        wait_until("it has opened the log", || {
            std::fs::read_link(&link).is_ok_and(|target| target == self.at(path).canonicalize().unwrap())
        });
        running
    }
}

fn has(finding: &Finding, text: &str) -> bool {
    finding.evidence.iter().any(|evidence| evidence.fact.contains(text))
}

/// Whether programs of systemd and logrotate are there. Loud where they are not.
fn tools_are_there(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !Path::new(program).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("UNWEDGE_TEST_REQUIRE").is_none(), "not installed: {missing:?}");
    eprintln!("SKIPPED: not installed: {missing:?}");
    false
}

fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_hours(hours);
    File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn real_journal_files_are_told_apart_and_what_is_advised_frees_what_is_said() {
    if !tools_are_there(&[REMOTE, "/usr/bin/journalctl"]) {
        return;
    }
    let world = World::new();
    let archived = "system@3f3e60717aa441a798e98ff97a56a29b-0000000000000001-00060a24181e4001.journal";
    for (id, name) in [(OWN, "system.journal"), (OWN, archived), (OTHER, "system.journal"), (OTHER, archived)]
    {
        world.journal(&format!("/var/log/journal/{id}/{name}"));
    }
    let journal = world.look().journal;
    let of = |owner| journal.dirs.iter().find(|dir| dir.owner == owner).unwrap();
    assert_eq!((of(JournalOwner::Own).archived_files, of(JournalOwner::Other).archived_files), (1, 1));
    assert!(journal.dirs.iter().all(|dir| !dir.rotates()) && journal.dirs.len() == 2);

    let finding = world.finding("journal-large");
    assert!(has(&finding, "of another machine id") && has(&finding, "last written to on"), "{finding:#?}");
    let path = world.at(&format!("/var/log/journal/{OTHER}"));
    let command = format!("journalctl --directory={} --vacuum-size=1M", path.display());
    assert!(finding.advice.contains(&command), "{}", finding.advice);
    assert!(finding.advice.contains("journalctl --vacuum-size=1M"), "{}", finding.advice);
    let Reclaim::Range { low, high } = finding.reclaim else { panic!("{finding:#?}") };
    assert_eq!(high, of(JournalOwner::Own).archived + of(JournalOwner::Other).archived);

    // What is advised, on what is promised.
    for id in [OWN, OTHER] {
        let dir = format!("--directory={}", world.at(&format!("/var/log/journal/{id}")).display());
        let status =
            Command::new("journalctl").args([&dir, "--vacuum-size=1M"]).stderr(Stdio::null()).status();
        assert!(status.unwrap().success());
    }
    let freed = journal.size().saturating_sub(world.look().journal.size());
    assert!(low <= freed && freed <= high, "{low} {freed} {high}");
    assert!(!freed.is_zero());
    assert!(world.look().journal.dirs.iter().all(|dir| dir.archived_files == 0 && !dir.active.is_zero()));
}

#[test]
fn a_giant_is_told_with_its_writers_and_the_reason() {
    if !inside_own_namespaces("a_giant_is_told_with_its_writers_and_the_reason") {
        return;
    }
    let world = World::new();
    let name = "/var/log/app \u{1b}[2J\n.log";
    world.write(name, &vec![b'x'; 5 * MIB]);
    world.write("/var/log/covered.log", &vec![b'x'; 5 * MIB]);
    world.write("/var/log/small.log", b"fine");
    let config = format!("{}\n{{\nweekly\n}}\n", world.at("/var/log/covered.log").display());
    world.write("/etc/logrotate.conf", config.as_bytes());
    let appends = world.writer(name, "7>>");
    let overwrites = world.writer("/var/log/covered.log", "7<>");
    let reader = world.writer("/var/log/covered.log", "7<");

    let logs = world.look();
    assert_eq!(logs.dirs[0].files, 3);
    let log =
        |path: &str| logs.dirs[0].largest.iter().find(|log| log.path.as_path() == world.at(path)).unwrap();
    let writers = |path: &str| -> Vec<(i32, i32, bool)> {
        log(path).writers.iter().map(|w| (w.process.pid.0, w.fd, w.appends)).collect()
    };
    assert_eq!(writers(name), [(appends.pid(), 7, true)]);
    assert_eq!(writers("/var/log/covered.log"), [(overwrites.pid(), 7, false)], "and not {}", reader.pid());
    assert_eq!(log(name).stanza, None);
    assert_eq!(log("/var/log/covered.log").stanza.as_ref().unwrap().line, 1);

    let all = world.findings();
    let giants: Vec<_> = all.iter().filter(|found| found.rule == "log-giant").collect();
    assert_eq!(giants.len(), 2, "{all:#?}");
    let hostile = giants.iter().find(|found| found.id.contains("app")).unwrap();
    assert!(has(hostile, "no stanza of logrotate names it") && has(hostile, "appends to it"), "{hostile:#?}");
    assert!(hostile.advice.contains("truncate --size=0 $'"), "{}", hostile.advice);
    for text in [&hostile.id, &hostile.title, &hostile.advice] {
        assert!(!text.contains(['\u{1b}', '\n']), "{text:?}");
    }
    let covered = giants.iter().find(|found| found.id.contains("covered")).unwrap();
    assert!(
        has(covered, "logrotate is told to rotate it") && has(covered, "without O_APPEND"),
        "{covered:#?}"
    );
    assert!(covered.advice.contains("logrotate --verbose --force"), "{}", covered.advice);
}

#[test]
fn rotated_siblings_are_grouped_and_one_that_is_still_written_to_is_a_giant() {
    if !inside_own_namespaces("rotated_siblings_are_grouped_and_one_that_is_still_written_to_is_a_giant") {
        return;
    }
    let world = World::new();
    for name in ["syslog.1", "syslog.2.gz", "syslog.3.gz", "kern.log.1", "messages-20261101.xz"] {
        world.write(&format!("/var/log/{name}"), &vec![1; MIB]);
    }
    world.write("/var/log/held.1", &vec![1; 5 * MIB]);
    let before = world.look().dirs[0].clone();
    assert_eq!(before.rotated_size.0, 10 << 20);
    let held = world.writer("/var/log/held.1", "7>>");

    let dir = world.look().dirs[0].clone();
    assert_eq!(dir.rotated_size.0, 5 << 20);
    let groups: Vec<(PathBuf, u64, u64)> =
        dir.rotated.iter().map(|g| (g.live.as_path().to_path_buf(), g.files, g.size.0 >> 20)).collect();
    let at = |name: &str| world.at("/var/log").join(name);
    assert_eq!(groups, [(at("syslog"), 3, 3), (at("kern.log"), 1, 1), (at("messages"), 1, 1)]);
    let finding = world.finding("logs-rotated");
    // The newest of each log stays where unwedge removes them; all go with the command in the advice.
    assert_eq!(
        finding.reclaim,
        Reclaim::Range { low: unwedge::domain::size::Bytes(2 << 20), high: dir.rotated_size }
    );
    assert!(has(&finding, "3 rotated files of"), "{finding:#?}");
    let giant = world.finding(&format!("log-giant:{}", at("held.1").display()));
    assert!(has(&giant, &format!("(pid {})", held.pid())), "{giant:#?}");
}

#[test]
fn a_logrotate_that_has_stopped_is_told_with_its_complaint() {
    if !tools_are_there(&["/usr/sbin/logrotate"]) {
        return;
    }
    let world = World::new();
    let log = world.at("/var/log/big.log");
    world.write("/var/log/big.log", &vec![b'x'; 5 * MIB]);
    let config = format!("{} {{\nweekly\nbogusdirective\n}}\n", log.display());
    world.write("/etc/logrotate.conf", config.as_bytes());
    let state = world.at("/var/lib/logrotate/status");
    world.write("/var/lib/logrotate/status", b"logrotate state -- version 2\n");
    assert!(world.findings().iter().all(|found| found.id != "logrotate-stopped"), "it ran just now");
    age(&state, 10 * 24 + 5);
    let stopped = world.finding("logrotate-stopped");
    assert!(stopped.title.contains("for 10 days"), "{}", stopped.title);
    assert!(has(&stopped, "unknown option 'bogusdirective'") && has(&stopped, "nothing that starts it"));
    let giant = world.finding(&format!("log-giant:{}", log.display()));
    assert!(has(&giant, "logrotate ran last on") && has(&giant, "bogusdirective"), "{giant:#?}");
    // Asking it changed nothing.
    assert_eq!(std::fs::read(&state).unwrap(), b"logrotate state -- version 2\n");
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 5 << 20);
}

#[test]
fn a_quiet_machine_has_no_findings_of_logs() {
    if !inside_own_namespaces("a_quiet_machine_has_no_findings_of_logs") {
        return;
    }
    let world = World::new();
    world.write("/var/log/syslog", b"a line\n");
    world.write("/var/log/syslog.1", b"an older line\n");
    std::os::unix::fs::symlink("/", world.at("/var/log/link")).unwrap();
    let logs = world.look();
    assert_eq!((logs.dirs[0].files, logs.journal.dirs.len(), logs.logrotate), (2, 0, None));
    let of_logs = ["journal-large", "log-giant", "logs-rotated", "logrotate-stopped"];
    assert!(world.findings().iter().all(|found| !of_logs.contains(&found.rule)));
    assert_eq!(Settings::default().logs.dirs, ["/var/log"]);
}
