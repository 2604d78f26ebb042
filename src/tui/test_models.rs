//! Hand-made machines for the tests of `update` and `view`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::actions::{self, Request};
use crate::config::{Settings, TerminalTraits};
use crate::domain::basket::Basket;
use crate::domain::finding::{ActionId, Finding, Reclaim, Severity, Subject};
use crate::domain::identity::{DevId, DevIno, FileId, FileKind, Inode, MountId, NamespaceId, Pid, ProcId};
use crate::domain::ledger::{HiddenData, Ledger, LedgerPart, PartKind, Residual, SwapFile};
use crate::domain::op::{MountTarget, Op};
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::protect::{ProtectSet, Protected, Reach};
use crate::domain::reading::{Millis, Reading};
use crate::domain::receipt::{BasketReceipt, MountsDelta, Outcome, Receipt, SpaceDelta, StepReceipt};
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::{
    BuildMount, BuildProcess, DeletedFile, Evidence, FileSystem, FsClass, Holder, Host, MountCensus,
    SnapshotPart, Usage, Verdict,
};
use crate::domain::sweep::{Ages, Candidate, Class, Staying, Stays, Sweep, SweepTarget};
use crate::domain::text::{HostPath, HostText};
use crate::scan::{self, Listing, NodeId, Page, Progress, Row, RowFlags};

use super::effect::{Effect, Target};
use super::event::{Event, Listed, Ticket};
use super::model::Model;
use super::overlay::Body;
use super::update::{start, update};

/// Now, for all of these machines: 2026-11-21.
pub const NOW: i64 = 1_795_219_200;
const GIB: u64 = 1 << 30;

pub const COLOUR: TerminalTraits = TerminalTraits { colour: true, unicode: true };
pub const PLAIN: TerminalTraits = TerminalTraits { colour: false, unicode: false };

/// Before anything has answered.
pub fn fresh(size: (u16, u16), terminal: TerminalTraits) -> Model {
    let mut model =
        Model::new("/var/lib".into(), Settings::default(), terminal, Timestamp::from_second(NOW).unwrap());
    model.size = size;
    let effects = start(&mut model);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Scan { .. })));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Probe)));
    model
}

/// A machine in trouble: nearly full, leaked mounts, an orphan, deleted files; the scan is over.
pub fn trouble(size: (u16, u16), terminal: TerminalTraits) -> Model {
    let mut model = fresh(size, terminal);
    for part in parts() {
        update(&mut model, Event::Probed(Box::new(part)));
    }
    update(&mut model, Event::ProbesEnded);
    update(&mut model, Event::Found(findings()));
    let scan = model.tree.scan;
    update(&mut model, Event::ScanStarted { scan, root: NodeId(0) });
    show(&mut model, listing(), true);
    update(&mut model, Event::Probed(Box::new(SnapshotPart::Scanned(Reading::Pending))));
    model
}

/// Shows a listing of the directory that was asked for.
pub fn show(model: &mut Model, listing: Listing, finished: bool) {
    let progress = Progress {
        entries: 1_234_567,
        directories: 45_210,
        unreadable: 3,
        allocated: listing.dir.allocated,
        apparent: listing.dir.apparent,
        elapsed: Duration::from_millis(2350),
        finished,
        ..Progress::default()
    };
    let listed = Listed {
        scan: model.tree.scan,
        dir: listing.dir.node,
        page: Some(Arc::new(page(listing))),
        progress,
        reading: scan::Reading::Calls,
        rescans: model.tree.rescans,
        now: NOW,
    };
    update(model, Event::Listed(listed));
}

/// All rows of a listing.
pub fn page(listing: Listing) -> Page {
    let most = |size: fn(&Row) -> Bytes| listing.rows.iter().map(size).max().unwrap_or_default();
    Page {
        first: 0,
        total: listing.rows.len(),
        most_allocated: most(|row| row.allocated),
        most_apparent: most(|row| row.apparent),
        named: BTreeMap::new(),
        listing,
    }
}

pub fn row(node: u32, name: &str, kind: FileKind, allocated: u64, entries: u64, days: i64) -> Row {
    Row {
        node: NodeId(node),
        name: HostText::from(name),
        kind,
        apparent: Bytes(allocated - allocated / 50),
        allocated: Bytes(allocated),
        entries,
        modified: NOW - days * 86_400,
        flags: RowFlags::default(),
    }
}

/// `/var/lib` with one of everything.
pub fn listing() -> Listing {
    use FileKind::{Directory, File, Socket, Symlink};
    let mut rows = vec![
        row(1, "docker", Directory, 31 * GIB + GIB / 3, 812_345, 0),
        row(2, "buildkit", Directory, 12 * GIB + GIB / 2, 312_004, 3),
        row(3, "journal.img", File, 6 * GIB, 1, 40),
        row(4, "apt", Directory, 740 << 20, 4_211, 12),
        row(5, "日本語のとても長いディレクトリの名前がここにあります", Directory, 512 << 20, 12, 400),
        row(6, "mysql", Directory, 301 << 20, 98, 2000),
        row(
            7,
            "a-name-so-long-that-it-cannot-fit-into-any-column-of-a-small-terminal-and-must-be-cut.log",
            File,
            96 << 20,
            1,
            1,
        ),
        row(8, "evil\u{1b}[2J\nname", File, 17 << 20, 1, 9),
        row(9, "secret", Directory, 4096, 1, 90),
        row(10, "nfs", Directory, 0, 1, 5),
        row(11, "docker.sock", Socket, 0, 1, 5),
        row(12, "current", Symlink, 0, 1, 5),
    ];
    rows[5].flags.unreadable_below = true;
    rows[6].flags.hard_link = true;
    rows[8].flags.unreadable = true;
    rows[9].flags.mount_point = true;
    let total = rows.iter().map(|row| row.allocated.0).sum();
    Listing {
        dir: row(0, "lib", FileKind::Directory, total, 1_234_567, 0),
        path: "/var/lib".into(),
        parent: None,
        rows,
        folded: None,
    }
}

/// `/var/lib/docker`, inside it.
pub fn inside() -> Listing {
    let rows = vec![
        row(21, "overlay2", FileKind::Directory, 30 * GIB, 800_000, 0),
        row(22, "containers", FileKind::Directory, GIB, 12_000, 0),
    ];
    Listing {
        dir: row(1, "docker", FileKind::Directory, 31 * GIB, 812_345, 0),
        path: "/var/lib/docker".into(),
        parent: Some(NodeId(0)),
        rows,
        folded: None,
    }
}

fn usage(total: u64, free: u64, available: u64, inodes: u64, inodes_free: u64) -> Reading<Usage> {
    Reading::ready(Usage {
        total: Bytes(total),
        free: Bytes(free),
        available: Bytes(available),
        inodes,
        inodes_free,
    })
}

fn file_system(mount_point: &str, fs_type: &str, class: FsClass, usage: Reading<Usage>) -> FileSystem {
    FileSystem {
        mount_point: mount_point.into(),
        source: "/dev/vda1".into(),
        fs_type: fs_type.into(),
        mount: MountId { id: 29, unique: None },
        dev: DevId { major: 254, minor: 1 },
        class,
        read_only: false,
        usage,
        seen: crate::domain::snapshot::Seen::default(),
    }
}

pub fn mount(number: u32, verdict: Verdict, via: Option<i32>) -> BuildMount {
    BuildMount {
        mount: MountId { id: number, unique: Some(u64::from(number) + 4000) },
        parent: 29,
        mount_point: format!("/var/lib/docker/tmp/buildkit-mount{}", 3_141_592_600_u32 + number)
            .as_str()
            .into(),
        root: "/var/lib/docker/overlay2/abc/merged".into(),
        fs_type: "ext4".into(),
        source: "/dev/vda1".into(),
        dev: DevId { major: 254, minor: 1 },
        namespace: NamespaceId(4_026_531_841),
        via: via.map(|pid| ProcId { pid: Pid(pid), start: 77 }),
        copies: Vec::new(),
        verdict,
        evidence: vec![Evidence::new(
            "no process has it as root, working directory or open file",
            "/proc/*/fd",
        )],
    }
}

pub fn process(pid: i32, tool: &str, verdict: Verdict) -> BuildProcess {
    BuildProcess {
        id: ProcId { pid: Pid(pid), start: 991 },
        tool: tool.into(),
        command: format!("/usr/bin/{tool} --root /var/lib/{tool} --token=[hidden]").as_str().into(),
        parent: Pid(1),
        uid: 0,
        cgroup: "/user.slice/session-3.scope".into(),
        exe: None,
        arguments: crate::domain::identity::CommandLine::default(),
        age_secs: 93_000,
        cpu: Percent(12.4),
        memory: Bytes(312 << 20),
        verdict,
        evidence: vec![
            Evidence::new("its parent is pid 1", format!("/proc/{pid}/stat")),
            Evidence::new("its session leader 3301 is gone", format!("/proc/{pid}/stat")),
        ],
    }
}

pub fn deleted(ino: u64, allocated: u64, mapped: bool) -> DeletedFile {
    DeletedFile {
        key: DevIno { dev: DevId { major: 254, minor: 1 }, ino: Inode(ino) },
        id: crate::domain::identity::FileId::default(),
        last_path: format!("/var/log/app/archive-{ino}.log").as_str().into(),
        apparent: Bytes(allocated),
        allocated: Bytes(allocated),
        holders: vec![Holder {
            process: ProcId { pid: Pid(812), start: 5 },
            name: "java".into(),
            fd: Some(7),
            mapped,
        }],
    }
}

/// What the probes of the machine in trouble deliver.
pub fn parts() -> Vec<SnapshotPart> {
    let nfs = file_system("/mnt/nfs", "nfs4", FsClass::Remote, Reading::TimedOut { after: Millis(2000) });
    vec![
        SnapshotPart::Host(Host {
            name: "build-07".into(),
            user: "root".into(),
            uid: 0,
            kernel: "6.18.2".into(),
        }),
        SnapshotPart::FileSystems(Reading::ready(vec![
            file_system(
                "/",
                "ext4",
                FsClass::Local,
                usage(58 * GIB, 3 * GIB, GIB / 10, 3_900_000, 1_100_000),
            ),
            file_system("/tmp", "tmpfs", FsClass::Local, usage(8 * GIB, 7 * GIB, 7 * GIB, 1_000_000, 20_000)),
            file_system(
                "/boot/efi",
                "vfat",
                FsClass::Local,
                usage(GIB / 2, GIB / 2 - 7_000_000, GIB / 2 - 7_000_000, 0, 0),
            ),
            nfs,
        ])),
        SnapshotPart::Mounts(Reading::ready(MountCensus {
            namespaces: 23,
            total: 1_204,
            build_mounts: (0..12)
                .map(|number| match number {
                    11 => mount(100 + number, Verdict::InUse, None),
                    3 => mount(100 + number, Verdict::Orphan, Some(4711)),
                    _ => mount(100 + number, Verdict::Orphan, None),
                })
                .collect(),
        })),
        SnapshotPart::Processes(Reading::with_missing(
            vec![
                process(2201, "containerd-shim-runc-v2", Verdict::Service),
                process(48_210, "buildkitd", Verdict::Orphan),
                process(48_377, "apt-get", Verdict::InUse),
            ],
            vec!["14 processes of other users could not be read: run as root to see them".to_owned()],
        )),
        SnapshotPart::Deleted(Reading::ready(vec![deleted(71, 40 << 20, true), deleted(70, 4 * GIB, false)])),
        SnapshotPart::Hidden(Reading::ready(vec![hidden()])),
        protected(),
    ]
}

/// What must never be touched.
pub fn protected() -> SnapshotPart {
    let mut set = ProtectSet::default();
    let key = DevIno { dev: DevId { major: 254, minor: 1 }, ino: Inode(2) };
    set.protect(key, Protected { path: "/".into(), reach: Reach::Itself, why: "a mount point".to_owned() });
    SnapshotPart::Protect(set)
}

/// What a backup wrote while its disk was not mounted.
pub fn hidden() -> HiddenData {
    HiddenData {
        on: "/".into(),
        dev: DevId { major: 254, minor: 1 },
        mount_point: "/mnt/backup".into(),
        covered_by: "nfs4 nas:/backup".into(),
        allocated: Bytes(2 * GIB + GIB / 2),
        own: Bytes(4096),
        entries: 1_204,
        shown_at: None,
        incomplete: None,
    }
}

/// The ledger of the root file system of the machine in trouble.
pub fn ledger() -> Ledger {
    let part = |kind, name: &str, bytes: Option<u64>, source: &str| LedgerPart {
        kind,
        name: name.to_owned(),
        bytes: bytes.map(Bytes),
        source: source.to_owned(),
    };
    let mut ledger = Ledger {
        mount_point: "/".into(),
        mount: MountId { id: 29, unique: None },
        source: "/dev/vda1".into(),
        fs_type: "ext4".into(),
        dev: DevId { major: 254, minor: 1 },
        usage: Usage {
            total: Bytes(58 * GIB),
            free: Bytes(3 * GIB),
            available: Bytes(GIB / 10),
            inodes: 3_900_000,
            inodes_free: 1_100_000,
        },
        parts: vec![
            part(PartKind::Files, "files and directories", Some(48 * GIB + (300 << 20)), "scan"),
            part(PartKind::Deleted, "2 deleted files, still open", Some(4 * GIB + (40 << 20)), "/proc/*/fd"),
            part(PartKind::Hidden, "hidden under mount points", Some(2 * GIB + GIB / 2), "open_tree(2)"),
            part(PartKind::Files, "mount points themselves", Some(40_960), "open_tree(2)"),
            part(PartKind::Metadata, "map of the space kept for growing", Some(4096), "/dev/vda1"),
            part(PartKind::Unreadable, "3 directories that could not be read", None, "scan"),
        ],
        residual: Residual {
            bytes: 0,
            explanations: vec![
                "3 directories could not be read: what they hold is in it. As root they can be read"
                    .to_owned(),
            ],
        },
        hidden: vec![hidden()],
        swap_files: vec![SwapFile { path: "/swapfile".into(), size: Bytes(2 * GIB) }],
        outside: Some(Bytes(GIB)),
    };
    ledger.close();
    ledger
}

pub fn findings() -> Vec<Finding> {
    let mounts = (0..11).map(|number| mount(100 + number, Verdict::Orphan, None).mount).collect();
    vec![
        Finding {
            id: "filesystem-space:/".to_owned(),
            rule: "filesystem-space",
            severity: Severity::Critical,
            subject: Subject::FileSystem { mount: MountId { id: 29, unique: None }, mount_point: "/".into() },
            title: "/ is 100% full: 102.4 MiB left of 58.0 GiB".to_owned(),
            why: "When it is full, nothing on it can be written: builds, logs, logins and package managers fail.",
            evidence: vec![Evidence::new("55.0 GiB of 58.0 GiB are in use", "statvfs /")],
            reclaim: Reclaim::Unknown,
            actions: vec![ActionId::Delete],
            advice: "Look for what is largest and delete what nobody needs.".to_owned(),
        },
        Finding {
            id: "leaked-mounts".to_owned(),
            rule: "leaked-mounts",
            severity: Severity::Critical,
            subject: Subject::BuildMounts { mounts },
            title: "11 leaked build mounts keep build directories busy".to_owned(),
            why: "Each keeps its source from being removed; with many of them builds fail with \"device busy\".",
            evidence: vec![Evidence::new(
                "11 mounts at */buildkit-mount* without a user",
                "/proc/*/mountinfo",
            )],
            reclaim: Reclaim::Nothing,
            actions: vec![ActionId::Unmount],
            advice: String::new(),
        },
        Finding {
            id: "deleted-open".to_owned(),
            rule: "deleted-open",
            severity: Severity::Warning,
            subject: Subject::DeletedFiles { files: vec![deleted(70, 1, false).key] },
            title: "Deleted files hold 4.0 GiB because they are still open".to_owned(),
            why: "The space comes back only when the last process closes them.",
            evidence: vec![Evidence::new("java (pid 812) has inode 70 open as 7", "/proc/812/fd/7")],
            reclaim: Reclaim::exact(Bytes(4 * GIB)),
            actions: vec![ActionId::FreeDeleted],
            advice: "Restart the process, or free the file here.".to_owned(),
        },
        Finding {
            id: "probe:nfs".to_owned(),
            rule: "probe",
            severity: Severity::Unknown,
            subject: Subject::Probe { name: "filesystems" },
            title: "/mnt/nfs did not answer within 2.0 s".to_owned(),
            why: "A dead server hangs every program that touches it.",
            evidence: Vec::new(),
            reclaim: Reclaim::Nothing,
            actions: Vec::new(),
            advice: "Check the server, or unmount /mnt/nfs, lazily".to_owned(),
        },
    ]
}

pub fn delete_step(path: &str, group: u32) -> Step {
    let key = DevIno { dev: DevId::default(), ino: Inode(100 + u64::from(group)) };
    let id = FileId { key, kind: FileKind::Directory, ..FileId::default() };
    Step {
        op: Op::RemoveTree { path: path.into(), id, entries: 10 },
        why: "it was marked".to_owned(),
        group,
        when: When::Always,
        guards: vec![Guard::SameFile, Guard::NotProtected, Guard::NoMountsBelow],
        on_error: OnError::Continue,
        frees: Reclaim::exact(Bytes(6 * GIB)),
        on: None,
    }
}

pub fn delete_plan() -> Plan {
    Plan {
        action: ActionId::Delete,
        summary: "Delete 2 directories, 13.2 GiB".to_owned(),
        risk: Risk::Destructive,
        steps: vec![delete_step("/var/lib/buildkit", 0), delete_step("/var/lib/apt", 1)],
        refused: vec![Refusal {
            what: "/var/lib/mysql".to_owned(),
            why: "it is protected: a database keeps its data there".to_owned(),
        }],
        reclaim: Reclaim::exact(Bytes(13 * GIB + GIB / 4)),
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify: Vec::new(),
        name: "2 items".to_owned(),
        again: None,
    }
}

/// Many steps with a condition each.
pub fn unmount_plan() -> Plan {
    let mut steps = Vec::new();
    for number in 0..12 {
        let one = mount(100 + number, Verdict::Orphan, (number == 3).then_some(4711));
        let target = MountTarget {
            mount: one.mount,
            mount_point: one.mount_point,
            root: one.root,
            namespace: one.namespace,
            via: one.via,
        };
        for (lazy, when) in [(false, When::Always), (true, When::IfPreviousFailed)] {
            steps.push(Step {
                op: Op::Unmount { target: target.clone(), lazy },
                why: if lazy { "it is busy: detach it" } else { "nobody uses it" }.to_owned(),
                group: number,
                when,
                guards: vec![Guard::TopMount],
                on_error: OnError::Continue,
                frees: Reclaim::Nothing,
                on: None,
            });
        }
    }
    Plan {
        action: ActionId::Unmount,
        summary: "Unmount 12 leaked build mounts".to_owned(),
        risk: Risk::Routine,
        steps,
        refused: Vec::new(),
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Regenerates { how: "the next build mounts what it needs".to_owned() },
        verify: Vec::new(),
        name: String::new(),
        again: None,
    }
}

pub fn receipt(plan: &Plan, outcomes: Vec<Outcome>) -> Receipt {
    let space = |free| usage(58 * GIB, free, free, 10, 5);
    Receipt {
        action: plan.action,
        summary: plan.summary.clone(),
        started: Timestamp::from_second(NOW).unwrap(),
        ended: Timestamp::from_second(NOW + 7).unwrap(),
        steps: plan
            .steps
            .iter()
            .zip(outcomes)
            .map(|(step, outcome)| StepReceipt {
                op: step.op.words(),
                why: step.named().to_owned(),
                outcome,
                note: None,
                gone: Vec::new(),
            })
            .collect(),
        promised: plan.reclaim,
        space: vec![SpaceDelta { path: HostPath::from("/"), before: space(GIB), after: space(13 * GIB) }],
        swept: Vec::new(),
        unmounted: None,
        findings: Vec::new(),
        journal: "/var/log/unwedge/journal.jsonl".to_owned(),
    }
}

/// The answer to a wish for a plan.
pub fn planned(ticket: Ticket, plans: Vec<Plan>, targets: Vec<Target>) -> Event {
    Event::Planned {
        ticket,
        basket: Box::new(Basket::new(plans, &[])),
        aim: None,
        targets,
        sweeps: Vec::new(),
    }
}

fn old(name: &str, class: Class, (entries, bytes, days): (u64, u64, i64)) -> Candidate {
    Candidate {
        name: HostText::from(name),
        id: FileId::default(),
        class,
        entries,
        bytes: Bytes(bytes),
        linked: Bytes::ZERO,
        newest: NOW - days * 86_400,
        precious: None,
        of_root: false,
        left_out: None,
    }
}

/// `/tmp` with one of everything that is old.
pub fn to_sweep() -> SweepTarget {
    const MIB: u64 = 1 << 20;
    let precious = |name: &str, why: &str, class, size| Candidate {
        precious: Some(HostText::from(why)),
        ..old(name, class, size)
    };
    let of_root = |name: &str| Candidate { of_root: true, ..old(name, Class::OldDir, (40, 9 * MIB, 30)) };
    let mut candidates = vec![
        old("core.2231", Class::OldFile, (1, 3 * GIB, 699)),
        old("pip-unpack-1x", Class::OldDir, (812, 640 * MIB, 120)),
        precious("deploy", ".env", Class::OldDir, (12, 40 * MIB, 90)),
        old("go-build77", Class::OldDir, (12_345, 4 * GIB, 60)),
        precious("id_rsa", "id_rsa", Class::OldFile, (1, 4096, 45)),
        of_root("systemd-thing"),
        of_root("apt.aC3f"),
        old("mc-root", Class::EmptyDir, (1, 4096, 20)),
        old("hsperfdata_al", Class::EmptyDir, (1, 4096, 19)),
    ];
    let logs =
        (1..=14).map(|number| old(&format!("build-{number}.log"), Class::OldFile, (1, number * MIB, 9)));
    candidates.extend(logs);
    for one in &mut candidates {
        one.left_out = one.by_default(false);
    }
    let staying = |why, count, example: &str| Staying { why, count, example: HostText::from(example) };
    let list = Sweep {
        keep: Vec::new(),
        also: Vec::new(),
        ages: Ages { file_secs: 86_400, empty_dir_secs: 86_400, dir_secs: 172_800 },
        own_root: false,
        entries: 512,
        candidates,
        stays: vec![
            staying(Stays::Young, 480, "tmp.Xy12ab"),
            staying(Stays::InUse, 6, "vscode-ipc"),
            staying(Stays::Kept, 2, "tmux-0"),
            staying(Stays::Special, 1, "agent.sock"),
        ],
        problems: Vec::new(),
    };
    let mut id = FileId::default();
    id.key.ino = Inode(77);
    SweepTarget { path: "/tmp".into(), id, rule: None, list: Reading::ready(list) }
}

/// The answer to a wish to sweep: the plan of the program itself.
pub fn swept(model: &Model, ticket: Ticket, dir: &SweepTarget) -> Event {
    let request = Request::Sweep(vec![dir.clone()]);
    let plan = actions::plan(&request, &model.snapshot, &model.settings);
    Event::Planned {
        ticket,
        basket: Box::new(Basket::new(vec![plan], &[])),
        aim: None,
        targets: Vec::new(),
        sweeps: vec![dir.clone()],
    }
}

/// A console in which the plan to sweep a directory is shown.
pub fn sweeping(size: (u16, u16), dir: &SweepTarget) -> Model {
    let mut model = trouble(size, COLOUR);
    let ticket = model.ticket();
    model.overlays.push(Body::Planning(ticket).into());
    let event = swept(&model, ticket, dir);
    update(&mut model, event);
    update(&mut model, Event::Drawn);
    model
}

pub fn basket_receipt(parts: Vec<Receipt>) -> BasketReceipt {
    let space = parts.iter().flat_map(|part| part.space.clone()).take(1).collect();
    BasketReceipt {
        started: Timestamp::from_second(NOW).unwrap(),
        ended: Timestamp::from_second(NOW + 7).unwrap(),
        parts,
        goal: None,
        not_needed: Vec::new(),
        space,
        mounts: Some(MountsDelta { before: Reading::ready(64), after: Reading::ready(52) }),
    }
}
