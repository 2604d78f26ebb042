use jiff::Timestamp;

use super::*;
use crate::domain::identity::{DevId, DevIno, Inode, MountId, NamespaceId, Pid, ProcId};
use crate::domain::reading::Reading;
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
        path: "/tmp".into(),
        census: Reading::ready(TempCensus { entries, ..TempCensus::default() }),
        create_test: Reading::ready(test),
    };
    let mut snapshot = quiet();
    snapshot.temp_dirs = vec![dir(999, CreateTest::Works { micros: 5 })];
    assert_eq!(severities(&snapshot), []);
    snapshot.temp_dirs = vec![dir(1000, CreateTest::Fails { why: "No space left on device".to_owned() })];
    assert_eq!(
        severities(&snapshot),
        [
            ("temp-create:/tmp".to_owned(), Severity::Critical),
            ("temp-entries:/tmp".to_owned(), Severity::Warning)
        ]
    );
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
