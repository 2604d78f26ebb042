use jiff::Timestamp;

use super::*;
use crate::domain::caches::{CacheKind, CachePlace, CacheSize};
use crate::domain::identity::{DevId, DevIno, Inode, MountId, NamespaceId, Pid, ProcId};
use crate::domain::ledger::tests::ledger;
use crate::domain::ledger::{HiddenData, PartKind};
use crate::domain::reading::Reading;
use crate::domain::scanned::{CreateCost, CrowdedDir, EntryHog, Scanned};
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::{
    BuildMount, BuildProcess, CreateTest, DeletedFile, FileSystem, FsClass, Holder, MountCensus, TempCensus,
    TempDir, Usage, Verdict,
};

const GIB: u64 = 1 << 30;

fn quiet() -> Snapshot {
    let mut snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
    snapshot.filesystems = Reading::ready(Vec::new());
    snapshot.mounts = Reading::ready(MountCensus::default());
    snapshot.processes = Reading::ready(Vec::new());
    snapshot.deleted = Reading::ready(Vec::new());
    snapshot.caches = Reading::ready(Vec::new());
    snapshot.hidden = Reading::ready(Vec::new());
    snapshot
}

fn fs(used_percent: u64, inodes_used: u64) -> FileSystem {
    FileSystem {
        mount_point: "/data".into(),
        source: "/dev/sdb1".into(),
        fs_type: "ext4".into(),
        mount: MountId::default(),
        dev: DevId::default(),
        class: FsClass::Local,
        read_only: false,
        usage: Reading::ready(Usage {
            total: Bytes(100 * GIB),
            free: Bytes((100 - used_percent) * GIB),
            available: Bytes((100 - used_percent) * GIB),
            inodes: 100,
            inodes_free: 100 - inodes_used,
        }),
        seen: crate::domain::snapshot::Seen::default(),
    }
}

fn severities(snapshot: &Snapshot) -> Vec<(String, Severity)> {
    assess(snapshot, &Settings::default()).into_iter().map(|f| (f.id, f.severity)).collect()
}

#[test]
fn a_quiet_machine_has_no_findings() {
    assert_eq!(severities(&quiet()), []);
}

#[test]
fn blocks_warn_at_80_and_are_critical_at_90() {
    let mut snapshot = quiet();
    for (used, expected) in [(79, None), (80, Some(Severity::Warning)), (90, Some(Severity::Critical))] {
        snapshot.filesystems = Reading::ready(vec![fs(used, 0)]);
        let want: Vec<_> = expected.into_iter().map(|s| ("filesystem-full:/data".to_owned(), s)).collect();
        assert_eq!(severities(&snapshot), want, "at {used} %");
    }
}

#[test]
fn thresholds_come_from_the_settings() {
    let mut snapshot = quiet();
    snapshot.filesystems = Reading::ready(vec![fs(50, 0)]);
    let mut settings = Settings::default();
    settings.filesystem.warn_percent = 50;
    assert_eq!(assess(&snapshot, &settings).len(), 1);
}

#[test]
fn inodes_are_judged_apart_from_blocks() {
    let mut snapshot = quiet();
    snapshot.filesystems = Reading::ready(vec![fs(10, 95)]);
    assert_eq!(severities(&snapshot), [("inodes-full:/data".to_owned(), Severity::Critical)]);
}

#[test]
fn a_full_image_that_is_read_only_is_no_finding() {
    let mut snapshot = quiet();
    snapshot.filesystems = Reading::ready(vec![FileSystem { read_only: true, ..fs(100, 100) }]);
    assert_eq!(severities(&snapshot), []);
}

fn build_mount(verdict: Verdict) -> BuildMount {
    BuildMount {
        mount: MountId { id: 40, unique: None },
        parent: 1,
        mount_point: "/var/lib/docker/tmp/buildkit-mount1".into(),
        root: "/layer".into(),
        fs_type: "ext4".into(),
        source: "/dev/sda1".into(),
        dev: DevId::default(),
        namespace: NamespaceId(1),
        via: None,
        copies: Vec::new(),
        verdict,
        evidence: vec![Evidence::new("no process uses it", "/proc/*/fdinfo")],
    }
}

#[test]
fn more_than_ten_leaked_mounts_are_critical_and_mounts_in_use_count_for_nothing() {
    let mut snapshot = quiet();
    let with = |leaked: usize, used: usize| {
        let mut mounts = vec![build_mount(Verdict::Orphan); leaked];
        mounts.extend(vec![build_mount(Verdict::InUse); used]);
        Reading::ready(MountCensus { namespaces: 1, total: 100, build_mounts: mounts })
    };
    for (leaked, used, expected) in [
        (0, 20, None),
        (1, 0, Some(Severity::Warning)),
        (10, 9, Some(Severity::Warning)),
        (11, 0, Some(Severity::Critical)),
    ] {
        snapshot.mounts = with(leaked, used);
        let want: Vec<_> = expected.into_iter().map(|s| ("build-mounts".to_owned(), s)).collect();
        assert_eq!(severities(&snapshot), want, "{leaked} leaked, {used} used");
    }
}

#[test]
fn only_orphans_among_build_processes_are_found() {
    let process = |verdict| BuildProcess {
        id: ProcId { pid: Pid(7), start: 1 },
        tool: "pip".into(),
        command: "pip install x".into(),
        parent: Pid(1),
        uid: 0,
        cgroup: "/".into(),
        exe: None,
        arguments: crate::domain::identity::CommandLine::default(),
        age_secs: 5,
        cpu: Percent(0.0),
        memory: Bytes(GIB),
        verdict,
        evidence: Vec::new(),
    };
    let mut snapshot = quiet();
    snapshot.processes =
        Reading::ready([Verdict::InUse, Verdict::Service, Verdict::Unknown].map(process).to_vec());
    assert_eq!(severities(&snapshot), []);
    snapshot.processes = Reading::ready(vec![process(Verdict::Orphan)]);
    assert_eq!(severities(&snapshot), [("orphan-processes".to_owned(), Severity::Warning)]);
}

#[test]
fn deleted_files_count_together() {
    let file = |mib: u64| DeletedFile {
        key: DevIno { dev: DevId::default(), ino: Inode(1) },
        id: crate::domain::identity::FileId::default(),
        last_path: "/var/log/big".into(),
        apparent: Bytes(mib << 20),
        allocated: Bytes(mib << 20),
        holders: vec![Holder {
            process: ProcId { pid: Pid(7), start: 1 },
            name: "java".into(),
            fd: Some(3),
            mapped: false,
        }],
    };
    let mut snapshot = quiet();
    snapshot.deleted = Reading::ready(vec![file(60), file(39)]);
    assert_eq!(severities(&snapshot), []);
    snapshot.deleted = Reading::ready(vec![file(60), file(40)]);
    let found = assess(&snapshot, &Settings::default());
    assert_eq!(found[0].reclaim, Reclaim::exact(Bytes(100 << 20)));
    assert!(found[0].evidence[0].fact.contains("java"));
}

#[test]
fn a_temp_dir_is_judged_by_entries_and_by_the_live_test() {
    let dir = |entries, test| TempDir {
        id: None,
        path: "/tmp".into(),
        census: Reading::ready(TempCensus { entries, ..TempCensus::default() }),
        create_test: Reading::ready(test),
    };
    let mut snapshot = quiet();
    snapshot.temp_dirs = vec![dir(999, CreateTest::Works { micros: 5 })];
    assert_eq!(severities(&snapshot), []);
    snapshot.temp_dirs =
        vec![dir(1000, CreateTest::Fails { why: "No space left on device".to_owned(), errno: 28 })];
    assert_eq!(
        severities(&snapshot),
        [
            ("temp-create:/tmp".to_owned(), Severity::Critical),
            ("temp-entries:/tmp".to_owned(), Severity::Warning)
        ]
    );
    // What to do goes by the error's number: its words differ from one libc and language to the next.
    for (errno, advice) in [(28, "Free blocks or inodes"), (30, "findmnt --target")] {
        snapshot.temp_dirs = vec![dir(1, CreateTest::Fails { why: "lecture seule".to_owned(), errno })];
        let found = assess(&snapshot, &Settings::default());
        assert!(found[0].advice.contains(advice), "{found:?}");
    }
}

#[test]
fn what_was_not_seen_is_said() {
    let mut snapshot = quiet();
    snapshot.deleted = Reading::Denied { hint: "run as root".to_owned() };
    assert_eq!(severities(&snapshot), [("not-seen:deleted".to_owned(), Severity::Unknown)]);
    snapshot.filesystems = Reading::ready(vec![FileSystem {
        usage: Reading::TimedOut { after: crate::domain::reading::Millis(2000) },
        ..fs(0, 0)
    }]);
    assert!(severities(&snapshot).contains(&("not-seen:filesystem:/data".to_owned(), Severity::Unknown)));
}

#[test]
fn what_is_still_being_looked_at_is_no_finding() {
    assert_eq!(severities(&Snapshot::pending(Timestamp::UNIX_EPOCH)), []);
}

fn scanned(crowded: Vec<CrowdedDir>, most_entries: Vec<EntryHog>) -> Reading<Scanned> {
    Reading::ready(Scanned { crowded, most_entries, ..Scanned::default() })
}

#[test]
fn a_crowded_directory_is_judged_by_entries_and_by_the_live_test() {
    let dir = |entries, create| CrowdedDir {
        id: None,
        path: "/srv/spool".into(),
        entries,
        directory_size: Bytes(1 << 20),
        holds: None,
        create,
    };
    let works = |here_micros, fresh_micros| Reading::ready(CreateCost::Works { here_micros, fresh_micros });
    let fails = Reading::ready(CreateCost::Fails { why: "No space left on device".to_owned() });
    let unknown = Reading::Denied { hint: "run as root".to_owned() };
    for (entries, create, expected) in [
        (99_999, works(20, 10), None),
        // A factor of next to nothing is noise.
        (99_999, works(900, 1), None),
        (10_000, works(50_000, 5_000), Some(Severity::Warning)),
        (10_000, works(49_999, 5_000), None),
        (100_000, works(20, 20), Some(Severity::Warning)),
        (100_000, unknown.clone(), Some(Severity::Warning)),
        (10_000, unknown, None),
        (10_000, fails, Some(Severity::Critical)),
    ] {
        let mut snapshot = quiet();
        snapshot.scanned = scanned(vec![dir(entries, create.clone())], Vec::new());
        let want: Vec<_> = expected.into_iter().map(|s| ("crowded-dir:/srv/spool".to_owned(), s)).collect();
        assert_eq!(severities(&snapshot), want, "{entries} {create:?}");
    }
    // A directory for temporary files has rules of its own.
    let mut snapshot = quiet();
    snapshot.scanned = scanned(vec![dir(1 << 20, works(20, 20))], Vec::new());
    snapshot.temp_dirs = vec![TempDir {
        id: None,
        path: "/srv/spool".into(),
        census: Reading::ready(TempCensus::default()),
        create_test: Reading::ready(CreateTest::Works { micros: 20 }),
    }];
    assert_eq!(severities(&snapshot), []);
}

#[test]
fn inodes_are_ranked_only_where_they_run_out() {
    let hog = |mount: &str| EntryHog {
        path: "/data/spool".into(),
        mount_point: mount.into(),
        inodes: 60,
        allocated: Bytes(4096),
    };
    let mut snapshot = quiet();
    snapshot.filesystems = Reading::ready(vec![fs(10, 79)]);
    snapshot.scanned = scanned(Vec::new(), vec![hog("/data")]);
    assert_eq!(severities(&snapshot), []);
    snapshot.filesystems = Reading::ready(vec![fs(10, 80)]);
    let found = assess(&snapshot, &Settings::default());
    let hogs = found.iter().find(|finding| finding.id == "inode-hog:/data").unwrap();
    assert!(hogs.title.contains("/data/spool: 60"), "{}", hogs.title);
    assert!(hogs.evidence.iter().any(|one| one.fact.contains("75% of those in use")), "{:?}", hogs.evidence);
    // From a container the figures are of more than can be seen.
    let mut part = fs(10, 80);
    part.seen.extent = crate::domain::snapshot::Extent::Part;
    snapshot.filesystems = Reading::ready(vec![part]);
    let found = assess(&snapshot, &Settings::default());
    let hogs = found.iter().find(|finding| finding.id == "inode-hog:/data").unwrap();
    assert!(hogs.title.starts_with("most inodes of what is seen of /data"), "{}", hogs.title);
    assert!(hogs.evidence.iter().all(|one| !one.fact.contains("of those in use")), "{:?}", hogs.evidence);
    snapshot.scanned = scanned(Vec::new(), vec![hog("/other")]);
    assert_eq!(assess(&snapshot, &Settings::default()).len(), 1, "nothing is known of that file system");
}

fn cache(entry: &str, allocated: u64) -> CacheKind {
    let size = CacheSize { allocated: Bytes(allocated), apparent: Bytes(allocated), entries: 3 };
    let place = |path: &str, user: &str, uid| CachePlace {
        path: path.into(),
        key: DevIno { dev: DevId::default(), ino: Inode(1) },
        home: Some("/home/al".into()),
        uid,
        user: Some(user.into()),
        size: Some(size),
        modified: None,
        protected: None,
    };
    CacheKind {
        entry: entry.to_owned(),
        title: "caches".to_owned(),
        found: 2,
        unsized_places: 0,
        size,
        places: vec![place("/home/al/x", "al;rm", 1000), place("/root/x", "root", 0)],
        busy: Vec::new(),
    }
}

#[test]
fn caches_count_by_kind_and_name_the_owners_command_as_the_right_user() {
    let mut snapshot = quiet();
    let with = |kinds| Reading::ready(Scanned { caches: kinds, ..Scanned::default() });
    snapshot.scanned = with(vec![cache("pip-cache", GIB - 1)]);
    assert_eq!(severities(&snapshot), []);
    snapshot.scanned = with(vec![cache("pip-cache", GIB), cache("no-longer-in-the-catalogue", GIB)]);
    let found = assess(&snapshot, &Settings::default());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, "cache:pip-cache");
    assert_eq!(found[0].reclaim, Reclaim::exact(Bytes(GIB)));
    // One user's name is hostile: it stays one word.
    assert!(
        found[0].advice.contains("sudo -Hu 'al;rm' pip cache purge; pip cache purge."),
        "{}",
        found[0].advice
    );
    // What its owner keeps in part is promised up to its size, and what is only reported not at all.
    snapshot.scanned = with(vec![cache("uv-cache", GIB), cache("docker", GIB)]);
    let found = assess(&snapshot, &Settings::default());
    assert_eq!(found[0].reclaim, Reclaim::Range { low: Bytes::ZERO, high: Bytes(GIB) });
    assert_eq!(found[1].reclaim, Reclaim::Unknown);
    assert!(found[1].advice.contains("Never delete files in it by hand."), "{}", found[1].advice);
}

#[test]
fn every_entry_of_the_catalogue_makes_a_finding_that_says_what_to_do() {
    for entry in crate::assets::catalogue().unwrap().entries() {
        let mut snapshot = quiet();
        let caches = vec![cache(&entry.id, GIB)];
        snapshot.scanned = Reading::ready(Scanned { caches, ..Scanned::default() });
        let found = assess(&snapshot, &Settings::default());
        // Those that a rule of its own finds are told by that.
        assert_eq!(found.is_empty(), entry.rule.is_some(), "{}", entry.id);
        let Some(found) = found.first() else { continue };
        assert_eq!(found.severity == Severity::Info, entry.is_report_only(), "{}", entry.id);
        let advice = &found.advice;
        assert!(!advice.is_empty() && !advice.contains(['{', '}']), "{}: {advice}", entry.id);
    }
}

fn hidden(mib: u64) -> HiddenData {
    HiddenData {
        on: "/".into(),
        dev: DevId::default(),
        mount_point: "/mnt/backup".into(),
        covered_by: "nfs4 nas:/backup".into(),
        allocated: Bytes(mib << 20),
        own: Bytes(4096),
        entries: 3,
        shown_at: None,
        incomplete: None,
    }
}

#[test]
fn data_under_a_mount_point_warns_at_the_setting() {
    let mut snapshot = quiet();
    for (mib, expected) in [(9, 0), (10, 1)] {
        snapshot.hidden = Reading::ready(vec![hidden(mib)]);
        assert_eq!(assess(&snapshot, &Settings::default()).len(), expected, "{mib} MiB");
    }
    let found = &assess(&snapshot, &Settings::default())[0];
    assert_eq!(found.id, "hidden-under-mount:/mnt/backup");
    assert_eq!(found.title, "10.0 MiB hidden under the mount on /mnt/backup");
    assert!(found.evidence[0].fact.contains("nfs4 nas:/backup covers"), "{found:?}");
    snapshot.hidden = Reading::ready(vec![HiddenData { shown_at: Some("/b".into()), ..hidden(99) }]);
    assert_eq!(assess(&snapshot, &Settings::default()), []);
}

#[test]
fn df_and_du_differ_where_size_and_share_are_over_the_settings() {
    let mut settings = Settings::default();
    let mut snapshot = quiet();
    for (deleted, size, percent, expected) in
        [(99, "1 MiB", 10, 0), (100, "1 MiB", 10, 1), (100, "101 MiB", 10, 0), (100, "1 MiB", 11, 0)]
    {
        snapshot.ledgers = vec![ledger(&[(PartKind::Files, 1000 - deleted), (PartKind::Deleted, deleted)])];
        settings.ledger.warn_size = size.parse().unwrap();
        settings.ledger.warn_percent = percent;
        let found = assess(&snapshot, &settings);
        assert_eq!(found.len(), expected, "{deleted} MiB, {size}, {percent} %");
    }
    settings.ledger.warn_percent = 10;
    snapshot.ledgers =
        vec![ledger(&[(PartKind::Files, 700), (PartKind::Deleted, 100), (PartKind::Hidden, 100)])];
    let found = &assess(&snapshot, &settings)[0];
    assert_eq!(found.id, "df-du-differ:/data");
    assert_eq!(found.title, "300.0 MiB of 1000.0 MiB used on /data are in no file that can be listed");
    assert!(found.advice.contains("What is not explained") || found.advice.contains("what is not explained"));
}

#[test]
fn what_engines_keep_is_told_by_kind_and_a_silent_engine_is_no_empty_one() {
    use crate::domain::engines::*;
    use crate::domain::text::HostText;

    let image = |names: &[&str], containers| Image {
        id: HostText::from("0123456789abcdef"),
        names: names.iter().map(|name| HostText::from(*name)).collect(),
        size: Bytes(2 << 30),
        unique: None,
        created: None,
        containers,
        read_only: false,
    };
    let record = |in_use, shared| CacheRecord {
        id: HostText::from("x"),
        description: HostText::from("RUN"),
        size: Bytes(3 << 30),
        in_use,
        shared,
        last_used: None,
    };
    let log = ContainerLog { path: "/c/log".into(), id: None, allocated: Bytes(1 << 30) };
    let content = Content {
        images: vec![image(&[], 0), image(&["old/thing:1"], 0), image(&["reg.example/used:1"], 2)],
        containers: vec![
            Container {
                id: HostText::from("c1"),
                name: HostText::from("web"),
                image: HostText::from("used:1"),
                image_id: None,
                state: ContainerState::Running,
                layer: Some(Bytes(9 << 30)),
                created: None,
                log: Some(log),
            },
            Container {
                id: HostText::from("c2"),
                name: HostText::from("done"),
                image: HostText::from("used:1"),
                image_id: None,
                state: ContainerState::Stopped,
                layer: Some(Bytes(5 << 30)),
                created: None,
                log: None,
            },
        ],
        volumes: vec![Volume {
            name: HostText::from("v"),
            size: Some(Bytes(4 << 30)),
            used_by: Some(0),
            driver: None,
            created: None,
        }],
        cache: vec![record(false, false), record(true, false), record(false, true)],
    };
    let engine = |kind, content| Engine {
        kind,
        store: "/var/lib/x".into(),
        store_size: Reading::ready(Bytes(7)),
        content,
        ..Engine::new(kind, "".into())
    };
    let mut snapshot = Snapshot::pending(jiff::Timestamp::UNIX_EPOCH);
    snapshot.engines = Reading::ready(vec![
        engine(EngineKind::Docker, Reading::ready(content)),
        engine(EngineKind::Podman, Reading::TimedOut { after: crate::domain::reading::Millis(8000) }),
    ]);
    let mut settings = Settings::default();
    settings.engines.image_prefix = "reg.example/".to_owned();
    let found = assess(&snapshot, &settings);
    let mut ids: Vec<&str> = found.iter().map(|finding| &*finding.id).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        [
            "build-cache:docker",
            "container-log:docker:web",
            "containers-stopped:docker",
            "engine-silent:podman",
            "images-dangling:docker",
            "images-foreign:docker",
            "images-unused:docker",
            "volumes-unused:docker",
        ]
    );
    let cache = found.iter().find(|finding| finding.rule == "build-cache").unwrap();
    assert_eq!(cache.reclaim, Reclaim::exact(Bytes(3 << 30)), "neither what is in use nor what is shared");
}

#[test]
fn every_rule_that_the_catalogue_names_is_there() {
    let catalogue = crate::assets::catalogue().unwrap();
    let named: Vec<&String> = catalogue.entries().iter().filter_map(|entry| entry.rule.as_ref()).collect();
    assert!(!named.is_empty());
    for name in named {
        assert!(RULES.iter().any(|rule| rule.id == name), "{name}");
    }
}

/// What is found of an engine whose file system has this much room, in thousandths.
fn of_engine(engine: crate::domain::engines::Engine, available: u64) -> Finding {
    let mut snapshot = Snapshot::pending(jiff::Timestamp::UNIX_EPOCH);
    let usage = crate::domain::snapshot::Usage {
        total: Bytes(1000),
        free: Bytes(available),
        available: Bytes(available),
        ..crate::domain::snapshot::Usage::default()
    };
    snapshot.filesystems = Reading::ready(vec![FileSystem {
        mount_point: "/var".into(),
        source: "x".into(),
        fs_type: "ext4".into(),
        mount: MountId::default(),
        dev: DevId::default(),
        class: FsClass::Local,
        read_only: false,
        usage: Reading::ready(usage),
        seen: crate::domain::snapshot::Seen::default(),
    }]);
    snapshot.engines = Reading::ready(vec![engine]);
    let mut found = assess(&snapshot, &Settings::default());
    found.retain(|one| one.rule == "engine-silent");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn each_trouble_of_an_engine_has_its_own_sentence_and_remedy() {
    use crate::domain::engines::{Elsewhere, Engine, EngineKind, LockedBy, Trouble};
    let with = |kind, trouble, content| {
        let mut engine = Engine::new(kind, "/var/lib/x".into());
        engine.trouble = Some(trouble);
        engine.content = content;
        engine
    };
    let gone = || Reading::NotHere { why: "why".to_owned() };
    let partly = || Reading::with_missing(Content::default(), vec!["why".to_owned()]);
    let docker = EngineKind::Docker;
    let holder = Some(LockedBy { pid: Pid(812), command: "podman build .".into() });
    let locked = Trouble::Locked { lock: "/x/storage.lock".into(), holder };
    for (engine, severity, title, advice) in [
        (
            with(docker, Trouble::NoClient, gone()),
            Severity::Warning,
            "docker is not installed",
            "volumes first",
        ),
        (with(docker, Trouble::ClientIsPodman, gone()), Severity::Warning, "docker is podman", "docker-cli"),
        (
            with(docker, Trouble::NotRunning { socket: "/s".into() }, gone()),
            Severity::Warning,
            "docker does not run",
            "systemctl start docker",
        ),
        (
            with(docker, Trouble::Busy, partly()),
            Severity::Unknown,
            "somebody else asks",
            "Look again in a minute",
        ),
        (
            with(docker, Trouble::Versions, gone()),
            Severity::Unknown,
            "do not understand each other",
            "DOCKER_API_VERSION",
        ),
        (
            with(docker, Trouble::Forbidden, gone()),
            Severity::Unknown,
            "does not let this user in",
            "sudo unwedge",
        ),
        (with(EngineKind::Podman, locked, gone()), Severity::Warning, "locked by pid 812", "podman build ."),
        (
            with(docker, Trouble::Silent, gone()),
            Severity::Warning,
            "docker does not answer",
            "systemctl status docker",
        ),
        (with(docker, Trouble::Silent, partly()), Severity::Unknown, "disk usage in time", "deadline_ms"),
        (
            with(EngineKind::Podman, Trouble::Silent, gone()),
            Severity::Warning,
            "podman does not answer",
            "debug images",
        ),
        (with(docker, Trouble::Settings, gone()), Severity::Unknown, "do not name an engine", "context ls"),
    ] {
        let finding = of_engine(engine, 500);
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.title.contains(title), "{finding:?}");
        assert!(finding.advice.contains(advice), "{finding:?}");
        assert!(!finding.advice.contains("full"), "the disk has room: {finding:?}");
    }
    // A daemon that is down on a full disk is down for want of room, and only then.
    let full = of_engine(with(docker, Trouble::NotRunning { socket: "/s".into() }, gone()), 0);
    assert!(full.advice.contains("/var is full, which keeps it from starting"), "{full:?}");
    // Another machine's is no trouble of this one.
    let mut engine = Engine::new(docker, "/var/lib/x".into());
    engine.elsewhere = Some(Elsewhere {
        named_by: "docker's context `prod`".into(),
        endpoint: "tcp://10.0.0.2:2375".into(),
    });
    engine.content = gone();
    let prod = of_engine(engine, 500);
    assert_eq!(prod.severity, Severity::Info);
    assert_eq!(
        prod.title,
        "docker's context `prod` is tcp://10.0.0.2:2375: another machine; nothing of it is on this disk"
    );
}

#[test]
fn a_prefix_is_that_of_the_name_or_of_its_last_component() {
    let has = |name: &str, prefix: &str| crate::domain::engines::has_prefix(&name.into(), prefix);
    assert!(has("localhost/xnai-base:1", "xnai-") && has("xnai-base:1", "xnai-"));
    assert!(has("localhost/xnai-base:1", "localhost/") && has("reg:5000/team/xnai-base:1", "xnai-"));
    assert!(!has("localhost/xnai-base:1", "base") && !has("xnai-x/other:1", "xnai-o"));
    assert!(!has("reg.example.org/a:1", "reg.example.com/"));
}
