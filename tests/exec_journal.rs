//! The journal is vacuumed by whoever writes it: real journalds of two namespaces, and what a real
//! systemd-journal-remote received.
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

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{World, inside_own_namespaces, sh};
use engines::{need, wait_until};
use unwedge::actions::Request;
use unwedge::domain::finding::Reclaim;
use unwedge::domain::logs::{Journal, JournalDir, JournalOwner};
use unwedge::domain::snapshot::Snapshot;
use unwedge::{probe, rules};

const JOURNALD: &str = "/lib/systemd/systemd-journald";
const REMOTE: &str = "/lib/systemd/systemd-journal-remote";
const OTHER: &str = "0123456789abcdef0123456789abcdef";
const MIB: u64 = 1 << 20;

/// A journald of a namespace, or the one of all others. The end of the test ends it.
struct Journald(Child);

impl Journald {
    /// Starts it and has it write so many MiB.
    fn start(namespace: Option<&str>, mib: u64) -> Self {
        let child = Command::new(JOURNALD).args(namespace).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let journald = Self(child.expect("systemd-journald starts"));
        let socket = match namespace {
            Some(namespace) => format!("/run/systemd/journal.{namespace}/socket"),
            None => "/run/systemd/journal/socket".to_owned(),
        };
        wait_until("journald listens", || Path::new(&socket).exists());
        let to = UnixDatagram::unbound().unwrap();
        to.connect(&socket).unwrap();
        let mut random = std::fs::File::open("/dev/urandom").unwrap();
        // It does not get smaller by compression.
        let mut noise = vec![0; 60_000];
        for _ in 0..mib * MIB / 60_000 {
            random.read_exact(&mut noise).unwrap();
            for byte in &mut noise {
                *byte = *byte % 94 + 33;
            }
            let message = [b"PRIORITY=6\nSYSLOG_IDENTIFIER=ci\nMESSAGE=", noise.as_slice(), b"\n"].concat();
            to.send(&message).unwrap();
        }
        journald
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that systemd-journal-remote closed, in a directory.
fn received(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let made = dir.join("remote-host.journal");
    let mut child = Command::new(REMOTE)
        .arg(format!("--output={}", made.display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let entry = format!(
        "__REALTIME_TIMESTAMP=1700000000000001\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID={OTHER}\nMESSAGE=hello\n\n"
    );
    child.stdin.take().unwrap().write_all(entry.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let closed = dir.join(format!("remote-host@{OTHER}-0000000000000001-00060a24181e4001.journal"));
    std::fs::rename(made, &closed).unwrap();
    closed
}

fn look(world: &World) -> Snapshot {
    let context = probe::Context {
        environment: &world.environment,
        settings: &world.settings,
        now: jiff::Timestamp::now(),
        memory: None,
        shared: None,
    };
    let mut snapshot = Snapshot::pending(context.now);
    snapshot.logs = probe::logs::look(&context);
    snapshot
}

fn journal(snapshot: &Snapshot) -> Journal {
    snapshot.logs.value().unwrap().journal.clone()
}

fn at<'j>(journal: &'j Journal, path: &Path) -> &'j JournalDir {
    journal.dirs.iter().find(|dir| dir.path.as_path() == path).unwrap_or_else(|| panic!("{journal:#?}"))
}

/// Nothing of the machine is touched: its logs, settings and runtime files are others in here.
fn own_logs() -> String {
    sh("mount -t tmpfs -o size=400m none /var/log && mkdir -p /var/log/journal
        mount -t tmpfs none /run && mkdir -p /run/systemd/system /run/systemd/journal
        : > /run/systemd/journal/flushed
        test -e /etc/machine-id || touch /etc/machine-id
        mkdir /run/etc && echo 3d1219c7c4c5404aaa1f6d2a48adfda4 > /run/etc/machine-id
        mount --bind /run/etc/machine-id /etc/machine-id
        mkdir -p /etc/systemd && mount -t tmpfs none /etc/systemd
        printf '[Journal]\nStorage=persistent\nSystemMaxFileSize=8M\nSystemMaxUse=300M\nForwardToSyslog=no\n' \
            > /etc/systemd/journald.conf
        cp /etc/systemd/journald.conf /etc/systemd/journald@jobs.conf");
    "3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned()
}

#[test]
fn each_namespace_is_vacuumed_by_its_own_journald_and_what_was_received_stays() {
    let test = "each_namespace_is_vacuumed_by_its_own_journald_and_what_was_received_stays";
    if !need(&["journalctl", JOURNALD, REMOTE]) || !inside_own_namespaces(test) {
        return;
    }
    let id = own_logs();
    let home = Path::new("/var/log/journal");
    let (main, jobs) = (home.join(&id), home.join(format!("{id}.jobs")));
    let foreign = received(&home.join(OTHER));
    let remote = received(&home.join("remote"));
    let copied = received(&home.join("copied here"));
    let running = [Journald::start(None, 80), Journald::start(Some("jobs"), 80)];
    let mut world = World::new();
    world.settings.logs.keep_journal = bytesize::ByteSize::mib(20);
    world.settings.logs.warn_journal = bytesize::ByteSize::mib(50);
    let written = |dir: &Path| {
        let journal = journal(&look(&world));
        journal
            .dirs
            .iter()
            .find(|known| known.path.as_path() == dir)
            .is_some_and(|dir| dir.size().0 > 50 * MIB)
    };
    wait_until("both have written it down", || written(&main) && written(&jobs));

    let snapshot = look(&world);
    let before = journal(&snapshot);
    let journald = |path: &Path| {
        let journald = at(&before, path).journald.clone();
        journald.map(|journald| (journald.namespace.map(|name| name.as_bytes().to_vec()), journald.running))
    };
    assert_eq!(journald(&main), Some((None, true)));
    assert_eq!(journald(&jobs), Some((Some(b"jobs".to_vec()), true)));
    for (file, owner) in
        [(&foreign, JournalOwner::Other), (&remote, JournalOwner::Remote), (&copied, JournalOwner::Own)]
    {
        let dir = file.parent().unwrap();
        assert_eq!((at(&before, dir).owner, journald(dir)), (owner, None));
    }

    let findings = rules::assess(&snapshot, &world.settings);
    let advice = &findings.iter().find(|found| found.rule == "journal-large").unwrap().advice;
    for line in [
        "journalctl --rotate --vacuum-size=20M closes",
        "journalctl --namespace=jobs --rotate --vacuum-size=20M closes",
        "journalctl --directory=/var/log/journal/remote --vacuum-size=20M, if nobody needs",
        "journalctl --directory='/var/log/journal/copied here' --vacuum-size=20M.",
        "SystemMaxUse=20M below [Journal] in /etc/systemd/journald.conf, then systemctl restart systemd-journald;",
        "in /etc/systemd/journald@jobs.conf, then systemctl restart systemd-journald@jobs;",
        "MaxUse=20M below [Remote] in /etc/systemd/journal-remote.conf",
    ] {
        assert!(advice.contains(line), "{line} is not in {advice}");
    }

    let plan = world.plan(&Request::VacuumJournal(before.clone()));
    let mut shown: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "journalctl '--directory=/var/log/journal/copied here' --vacuum-size=20M",
            "journalctl --namespace=jobs --rotate --vacuum-size=20M",
            "journalctl --rotate --vacuum-size=20M",
        ]
    );
    assert!(plan.refused.iter().any(|refused| refused.why.contains("received from other machines")));
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    let Reclaim::Range { low, high } = receipt.promised else { panic!("{receipt:#?}") };
    // All three directories are on one file system, and this plan knows of none.
    let freed = receipt.space[0].freed();
    assert!(freed >= low && freed <= high, "{receipt:#?}");
    let after = journal(&look(&world));
    for dir in [&main, &jobs] {
        assert!(at(&after, dir).size().0 <= 30 * MIB, "{after:#?}");
    }
    assert!(foreign.exists() && remote.exists() && copied.exists());
    drop(running);
}

#[test]
fn a_namespace_whose_journald_is_gone_loses_only_closed_files() {
    let test = "a_namespace_whose_journald_is_gone_loses_only_closed_files";
    if !need(&["journalctl", JOURNALD]) || !inside_own_namespaces(test) {
        return;
    }
    let jobs = Path::new("/var/log/journal").join(format!("{}.jobs", own_logs()));
    let journald = Journald::start(Some("jobs"), 80);
    let mut world = World::new();
    world.settings.logs.keep_journal = bytesize::ByteSize::mib(20);
    wait_until("it has written it down", || {
        journal(&look(&world)).dirs.iter().any(|dir| dir.size().0 > 50 * MIB)
    });
    drop(journald);
    // As after `systemctl stop systemd-journald@jobs.socket systemd-journald-varlink@jobs.socket`.
    sh("rm -r /run/systemd/journal.jobs");
    let before = journal(&look(&world));
    let plan = world.plan(&Request::VacuumJournal(before.clone()));
    let shown: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
    assert_eq!(shown, ["journalctl --namespace=jobs --vacuum-size=20M"]);
    assert!(plan.refused[0].why.contains("only the journald of the namespace jobs"), "{:?}", plan.refused);
    let receipt = world.run(plan);
    assert!(receipt.is_clean(), "{receipt:#?}");
    let after = journal(&look(&world));
    assert_eq!(at(&after, &jobs).active, at(&before, &jobs).active);
    assert!(at(&after, &jobs).size().0 <= 20 * MIB && at(&after, &jobs).archived_files > 0, "{after:#?}");
}
