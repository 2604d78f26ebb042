//! What the probes saw, as one plain value.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builds::Builds;
use super::caches::CacheKind;
use super::engines::Engine;
use super::growth::Growth;
use super::identity::{CommandLine, DevId, DevIno, FileId, MountId, NamespaceId, Pid, ProcId};
use super::ledger::{HiddenData, Ledger};
use super::limits::Limits;
use super::logs::Logs;
use super::protect::ProtectSet;
use super::reading::Reading;
use super::scanned::Scanned;
use super::size::{Bytes, Percent};
use super::text::{HostPath, HostText};

/// Everything known about the machine at one moment, except the directory tree (a scan is a live thing
/// of its own; see `scan`).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// When the probes ran.
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    /// The machine and who is looking.
    pub host: Host,
    /// Mounted file systems that hold files, each once.
    pub filesystems: Reading<Vec<FileSystem>>,
    /// Mounts over all reachable mount namespaces.
    pub mounts: Reading<MountCensus>,
    /// Build and package processes.
    pub processes: Reading<Vec<BuildProcess>>,
    /// The directories for temporary files.
    pub temp_dirs: Vec<TempDir>,
    /// Files without a name that still take space.
    pub deleted: Reading<Vec<DeletedFile>>,
    /// Container engines and what they keep.
    pub engines: Reading<Vec<Engine>>,
    /// How fast file systems fill up, and who writes.
    pub growth: Reading<Growth>,
    /// Builds that run, their contexts, locks and places.
    pub builds: Reading<Builds>,
    /// Limits that look like a full disk.
    pub limits: Reading<Limits>,
    /// Logs: the journal, the log directories, logrotate.
    pub logs: Reading<Logs>,
    /// Caches and other known things at fixed places, without sizes.
    pub caches: Reading<Vec<CacheKind>>,
    /// What scans found beside sizes; pending until one is over.
    pub scanned: Reading<Scanned>,
    /// Data under mount points, largest first.
    pub hidden: Reading<Vec<HiddenData>>,
    /// Where the space went, for each file system that was scanned as a whole.
    pub ledgers: Vec<Ledger>,
    /// What must never be touched.
    #[serde(skip)]
    pub protect: ProtectSet,
}

/// The machine and who is looking at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Host name (uname(2)).
    pub name: HostText,
    /// Name of the effective user, or the number where it has none.
    pub user: HostText,
    /// Effective user id.
    pub uid: u32,
    /// Kernel release (uname(2)).
    pub kernel: HostText,
}

/// How a file system may behave when it is asked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FsClass {
    /// On this machine: a block device or memory. Answers at once.
    Local,
    /// On a server (NFS, SMB, 9p, …): may never answer.
    Remote,
    /// Served by a user process: may never answer.
    Fuse,
}

/// A mounted file system that holds files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileSystem {
    /// Where it is mounted, and what it is called by: the mount of its root if that is seen, else of its top subvolume
    /// (btrfs), else of the largest part that is seen.
    pub mount_point: HostPath,
    /// What is mounted: a device, a server path, a name.
    pub source: HostText,
    /// The file system type (`ext4`, `tmpfs`).
    pub fs_type: HostText,
    /// The mount at `mount_point`.
    pub mount: MountId,
    /// The device number of its superblock, by which mountinfo names it.
    pub dev: DevId,
    /// How it may behave.
    pub class: FsClass,
    /// Whether nothing can be changed on it.
    pub read_only: bool,
    /// Its figures.
    pub usage: Reading<Usage>,
    /// Where else it is seen, and how much of it.
    #[serde(default)]
    pub seen: Seen,
}

impl FileSystem {
    /// Whether files with this device number take space on it.
    pub fn has_device(&self, dev: DevId) -> bool {
        self.dev == dev || self.seen.devices.contains(&dev)
    }

    /// Whether this is one of its mounts.
    pub fn has_mount(&self, mount: MountId) -> bool {
        self.mount.same_mount(mount) || self.seen.mounts.iter().any(|at| at.mount.same_mount(mount))
    }

    /// Where its directories are seen, itself first.
    pub fn mount_points(&self) -> impl Iterator<Item = &HostPath> {
        std::iter::once(&self.mount_point).chain(self.seen.mounts.iter().map(|at| &at.mount_point))
    }
}

/// How much of a file system is seen through its mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Its root is mounted: all of it.
    #[default]
    Whole,
    /// Subvolumes of a btrfs pool. There can be others that are mounted nowhere.
    Subvolumes,
    /// Directories of it, or a view made of several file systems (overlay). Its figures are of more than can be seen.
    Part,
}

/// Where a file system is seen, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// How much of it.
    pub extent: Extent,
    /// Directories beside its mount point that have to be looked at as well to see all that can be seen.
    pub parts: Vec<HostPath>,
    /// Other device numbers of files that take space on it: subvolumes (btrfs), and overlays whose upper directory is
    /// on it.
    pub devices: Vec<DevId>,
    /// All its mounts that can be reached.
    #[serde(skip)]
    pub mounts: Vec<SeenAt>,
}

/// A mount of a file system.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenAt {
    /// Where.
    pub mount_point: HostPath,
    /// Which.
    pub mount: MountId,
    /// Whether nothing can be written through it.
    pub read_only: bool,
}

/// The figures of a file system as statvfs(3) gives them, in bytes and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Size of the file system.
    pub total: Bytes,
    /// Not in use by anything.
    pub free: Bytes,
    /// Free for users other than root; what `df` calls available.
    pub available: Bytes,
    /// Inodes in all; zero where they are made on demand (btrfs).
    pub inodes: u64,
    /// Inodes not in use.
    pub inodes_free: u64,
}

impl Usage {
    /// Bytes in use.
    pub fn used(&self) -> Bytes {
        self.total.saturating_sub(self.free)
    }

    /// Free, but kept for root.
    pub fn reserved(&self) -> Bytes {
        self.free.saturating_sub(self.available)
    }

    /// The share in use of what users can have, as `df` computes it: used of used plus available.
    pub fn used_share(&self) -> Percent {
        Percent::of(self.used().0, (self.used() + self.available).0)
    }

    /// Inodes in use.
    pub fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }

    /// The share of inodes in use; zero where they are made on demand.
    pub fn inodes_share(&self) -> Percent {
        Percent::of(self.inodes_used(), self.inodes)
    }
}

/// Mounts over all mount namespaces that could be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MountCensus {
    /// Distinct mount namespaces read.
    pub namespaces: u32,
    /// Mounts in all of them together.
    pub total: u64,
    /// Build mounts that look left over, deepest first.
    pub build_mounts: Vec<BuildMount>,
}

/// What is known of something that may be left over. Every verdict is shown with its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Left over: nobody uses it and nobody will clean it up.
    Orphan,
    /// Somebody uses it.
    InUse,
    /// It belongs to a service that is meant to run.
    Service,
    /// It cannot be told.
    Unknown,
}

/// A fact and where it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The fact, as a sentence.
    pub fact: String,
    /// Where it was read: a file, a system call, a command.
    pub source: String,
}

impl Evidence {
    /// A fact and where it was read.
    pub fn new(fact: impl Into<String>, source: impl Into<String>) -> Self {
        Self { fact: fact.into(), source: source.into() }
    }
}

/// A mount made by `BuildKit` for a build step (`…/buildkit-mount*`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildMount {
    /// Which mount.
    pub mount: MountId,
    /// The mount it is mounted on.
    pub parent: u32,
    /// Where it is mounted, as seen in its namespace.
    pub mount_point: HostPath,
    /// What of the source is mounted (the root field of mountinfo: a directory of the source's file system).
    pub root: HostPath,
    /// The file system type.
    pub fs_type: HostText,
    /// The mount source.
    pub source: HostText,
    /// The device number.
    pub dev: DevId,
    /// The mount namespace it lives in.
    pub namespace: NamespaceId,
    /// A process in that namespace, by which it can be reached. None for our own namespace.
    pub via: Option<ProcId>,
    /// Its copies at other places, here or in other namespaces, that an unmount takes along.
    #[serde(default)]
    pub copies: Vec<MountCopy>,
    /// Whether it is left over.
    pub verdict: Verdict,
    /// Why.
    pub evidence: Vec<Evidence>,
}

/// A copy of a mount that shares what becomes of it (`mount_namespaces(7)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MountCopy {
    /// Its id in mountinfo.
    pub id: u32,
    /// The mount namespace it lives in.
    pub namespace: NamespaceId,
    /// Where it is mounted, as seen there.
    pub mount_point: HostPath,
}

/// A process that builds or installs software.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildProcess {
    /// Which process.
    pub id: ProcId,
    /// The tool, as matched (`buildkitd`, `apt-get`).
    pub tool: HostText,
    /// Its command line, secrets redacted.
    pub command: HostText,
    /// Its parent.
    pub parent: Pid,
    /// The user it runs as.
    pub uid: u32,
    /// Its cgroup path.
    pub cgroup: HostText,
    /// The inode and device of its executable, where readable.
    pub exe: Option<DevIno>,
    /// Its whole command line, for comparison only. Nothing is ended that was read from a file, where it is not in.
    #[serde(skip)]
    pub arguments: CommandLine,
    /// Seconds since it started.
    pub age_secs: u64,
    /// Share of one CPU, in percent.
    pub cpu: Percent,
    /// Resident memory.
    pub memory: Bytes,
    /// Whether it is left over.
    pub verdict: Verdict,
    /// Why.
    pub evidence: Vec<Evidence>,
}

/// A directory for temporary files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TempDir {
    /// Which directory.
    pub path: HostPath,
    /// Its identity; none where it could not be asked for.
    pub id: Option<FileId>,
    /// What it holds.
    pub census: Reading<TempCensus>,
    /// Whether a directory can be created and removed in it.
    pub create_test: Reading<CreateTest>,
}

/// What a directory for temporary files holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TempCensus {
    /// Entries directly in it.
    pub entries: u64,
    /// Of these, entries whose newest time is more than a day ago.
    pub older_than_day: u64,
    /// Size of the directory's own metadata (`st_size` of the directory).
    pub directory_size: Bytes,
    /// Inodes used on its file system.
    pub inodes_used: u64,
    /// Inodes of its file system; zero where they are made on demand.
    pub inodes: u64,
}

/// The live test that a build needs to pass: create a directory, remove it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CreateTest {
    /// Both worked.
    Works {
        /// How long they took, in microseconds.
        micros: u64,
    },
    /// One failed.
    Fails {
        /// The system's reason (`No space left on device`).
        why: String,
        /// The same as a number (errno(3)).
        errno: i32,
    },
}

/// A file without a name (`st_nlink` 0) that a process keeps open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeletedFile {
    /// Which file.
    pub key: DevIno,
    /// What tells it from the next file that gets its inode number: a process that makes one temporary file after another
    /// may get the same descriptor too.
    #[serde(default)]
    pub id: FileId,
    /// The name it had, as the kernel remembers it.
    pub last_path: HostPath,
    /// Apparent size.
    pub apparent: Bytes,
    /// Space it takes.
    pub allocated: Bytes,
    /// Who keeps it open.
    pub holders: Vec<Holder>,
}

/// A process that keeps a deleted file open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// Which process.
    pub process: ProcId,
    /// Its name (`comm`).
    pub name: HostText,
    /// The descriptor, or none where the file is only mapped.
    pub fd: Option<i32>,
    /// Whether the process has mapped the file into memory: truncating it would kill the process (SIGBUS).
    pub mapped: bool,
}

/// A file or directory a person chose in the tree, frozen when it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChosenFile {
    /// Where it is.
    pub path: HostPath,
    /// Which file.
    pub id: FileId,
    /// Apparent size of it and all below.
    pub apparent: Bytes,
    /// Space that it and all below take.
    pub allocated: Bytes,
    /// Entries in it and below, itself included.
    pub entries: u64,
    /// The directories above it, nearest first, up to the root.
    pub above: Vec<DevIno>,
    /// What is mounted on it or below it, or shows it elsewhere, in any mount namespace; and what the kernel uses of it:
    /// sentences that say why it must stay.
    #[serde(default)]
    pub held: Vec<String>,
    /// Processes that have it, or something below it, open: its space comes back when they close it.
    #[serde(default)]
    pub open_by: Vec<String>,
    /// Which layer of an overlay it is of.
    #[serde(default)]
    pub layer: Layer,
}

/// Where the contents of a file are, if its file system shows others: in a container all but what was written there are of
/// its image, which a delete hides and does not touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// In the file system itself, or in the upper layer of an overlay: its space comes back.
    #[default]
    Own,
    /// In a lower layer, with all below it: no space comes back.
    Lower,
    /// It, or something below it, may be of a lower layer.
    Unknown,
}

/// One probe's part of a snapshot. Probes run side by side and each delivers as soon as it is done.
#[derive(Clone, Debug)]
pub enum SnapshotPart {
    /// The machine and who is looking.
    Host(Host),
    /// Mounted file systems.
    FileSystems(Reading<Vec<FileSystem>>),
    /// Mounts.
    Mounts(Reading<MountCensus>),
    /// Build processes.
    Processes(Reading<Vec<BuildProcess>>),
    /// Directories for temporary files.
    TempDirs(Vec<TempDir>),
    /// Deleted files that are still open.
    Deleted(Reading<Vec<DeletedFile>>),
    /// Container engines and what they keep.
    Engines(Reading<Vec<Engine>>),
    /// How fast file systems fill up, and who writes.
    Growth(Reading<Growth>),
    /// Builds that run, their contexts, locks and places.
    Builds(Reading<Builds>),
    /// Limits that look like a full disk.
    Limits(Reading<Limits>),
    /// Logs.
    Logs(Reading<Logs>),
    /// Caches at fixed places.
    Caches(Reading<Vec<CacheKind>>),
    /// What scans found.
    Scanned(Reading<Scanned>),
    /// Data under mount points.
    Hidden(Reading<Vec<HiddenData>>),
    /// The ledger of one file system. Comes after a scan of it, in place of the one before.
    Ledger(Box<Ledger>),
    /// What must never be touched.
    Protect(ProtectSet),
}

impl Snapshot {
    /// A snapshot before any probe has answered.
    pub fn pending(taken_at: Timestamp) -> Self {
        Self {
            taken_at,
            host: Host::default(),
            filesystems: Reading::Pending,
            mounts: Reading::Pending,
            processes: Reading::Pending,
            temp_dirs: Vec::new(),
            deleted: Reading::Pending,
            engines: Reading::Pending,
            growth: Reading::Pending,
            builds: Reading::Pending,
            limits: Reading::Pending,
            logs: Reading::Pending,
            caches: Reading::Pending,
            scanned: Reading::Pending,
            hidden: Reading::Pending,
            ledgers: Vec::new(),
            protect: ProtectSet::default(),
        }
    }

    /// Nothing more will come from the probes: whatever has not answered by now was not looked at. What scans tell is
    /// still to come.
    pub fn settle(&mut self) {
        fn close<T>(reading: &mut Reading<T>) {
            if matches!(reading, Reading::Pending) {
                let why = "it was not looked at; try again".to_owned();
                *reading = Reading::Unavailable { why };
            }
        }
        close(&mut self.filesystems);
        close(&mut self.mounts);
        close(&mut self.processes);
        close(&mut self.deleted);
        close(&mut self.engines);
        close(&mut self.growth);
        close(&mut self.builds);
        close(&mut self.limits);
        close(&mut self.logs);
        close(&mut self.caches);
        close(&mut self.hidden);
    }

    /// Takes in what one probe saw.
    pub fn merge(&mut self, part: SnapshotPart) {
        match part {
            SnapshotPart::Host(host) => self.host = host,
            SnapshotPart::FileSystems(reading) => self.filesystems = reading,
            SnapshotPart::Mounts(reading) => self.mounts = reading,
            SnapshotPart::Processes(reading) => self.processes = reading,
            SnapshotPart::TempDirs(dirs) => self.temp_dirs = dirs,
            SnapshotPart::Deleted(reading) => self.deleted = reading,
            SnapshotPart::Engines(reading) => self.engines = reading,
            SnapshotPart::Growth(reading) => self.growth = reading,
            SnapshotPart::Builds(reading) => self.builds = reading,
            SnapshotPart::Limits(reading) => self.limits = reading,
            SnapshotPart::Logs(reading) => self.logs = reading,
            SnapshotPart::Caches(reading) => self.caches = reading,
            SnapshotPart::Scanned(reading) => self.scanned = reading,
            SnapshotPart::Hidden(reading) => self.hidden = reading,
            SnapshotPart::Ledger(ledger) => {
                self.ledgers.retain(|old| old.mount_point != ledger.mount_point);
                self.ledgers.push(*ledger);
                self.ledgers.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
            }
            SnapshotPart::Protect(set) => self.protect = set,
        }
    }
}
