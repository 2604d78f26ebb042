//! Every setting, with its meaning and default.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::logs::InPlace;

/// Every setting. The reference with all defaults is `assets/config.toml`; a test keeps it equal to this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When a file system is too full.
    pub filesystem: FileSystemSettings,
    /// When there are too many leftover build mounts.
    pub mounts: MountSettings,
    /// When a file system fills up too fast.
    pub growth: GrowthSettings,
    /// When deleted files that are still open matter.
    pub deleted: DeletedSettings,
    /// When a limit of the kernel or of a user is nearly reached.
    pub limits: LimitSettings,
    /// When logs take too much.
    pub logs: LogSettings,
    /// When space that no file a person can list explains is worth telling.
    pub ledger: LedgerSettings,
    /// Container engines.
    pub engines: EngineSettings,
    /// Pruning container engines.
    pub prune: PruneSettings,
    /// Builds and what they send to an engine.
    pub builds: BuildSettings,
    /// Directories for temporary files.
    pub temp: TempSettings,
    /// What a sweep of an over-full directory takes.
    pub sweep: SweepSettings,
    /// When caches and build trees matter.
    pub caches: CacheSettings,
    /// When a directory holds too many entries.
    pub crowded: CrowdedSettings,
    /// How long to wait for the machine.
    pub probe: ProbeSettings,
    /// The directory scanner.
    pub scan: ScanSettings,
    /// What `unwedge snapshot` keeps.
    pub snapshot: SnapshotSettings,
    /// What must never be touched, beside the built-in set.
    pub protect: ProtectSettings,
    /// Ending processes.
    pub process: ProcessSettings,
    /// Where actions are written down.
    pub journal: JournalSettings,
}

/// When a file system is too full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileSystemSettings {
    /// Warn at this share of blocks in use, in percent.
    pub warn_percent: u8,
    /// Critical at this share of blocks in use, in percent.
    pub critical_percent: u8,
    /// Warn at this share of inodes in use, in percent.
    pub inode_warn_percent: u8,
    /// Critical at this share of inodes in use, in percent.
    pub inode_critical_percent: u8,
}

impl Default for FileSystemSettings {
    fn default() -> Self {
        Self { warn_percent: 80, critical_percent: 90, inode_warn_percent: 80, inode_critical_percent: 90 }
    }
}

/// When a file system fills up too fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrowthSettings {
    /// How long to measure, in milliseconds; 0: not at all. The console measures from one look to the next.
    pub interval_ms: u64,
    /// What grows by less in a second is not told.
    #[schemars(with = "String")]
    pub min_per_second: ByteSize,
    /// Warn where a file system will be full in less than so many hours.
    pub warn_hours: u32,
    /// Critical where it will be in less than so many. A look shorter than a second can only warn.
    pub critical_hours: u32,
}

impl Default for GrowthSettings {
    fn default() -> Self {
        Self { interval_ms: 150, min_per_second: ByteSize::mib(1), warn_hours: 24, critical_hours: 1 }
    }
}

/// When there are too many leftover build mounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MountSettings {
    /// Critical above this many; any at all is a warning.
    pub critical_above: u32,
}

impl Default for MountSettings {
    fn default() -> Self {
        Self { critical_above: 10 }
    }
}

/// When deleted files that are still open matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeletedSettings {
    /// Warn when together they take at least this much.
    #[schemars(with = "String")]
    pub warn_size: ByteSize,
    /// As root, have the kernel name the processes to look into, by a program that is run inside it.
    pub bpf: bool,
}

impl Default for DeletedSettings {
    fn default() -> Self {
        Self { warn_size: ByteSize::mib(100), bpf: true }
    }
}

/// When a limit of the kernel or of a user is nearly reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Warn at this share in use, in percent.
    pub warn_percent: u8,
    /// Critical at this share in use, in percent.
    pub critical_percent: u8,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { warn_percent: 80, critical_percent: 95 }
    }
}

/// When logs take too much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Directories for logs.
    pub dirs: Vec<String>,
    /// Warn when all files of systemd's journal together take at least this much.
    #[schemars(with = "String")]
    pub warn_journal: ByteSize,
    /// Leave so much of the journal when it is vacuumed.
    #[schemars(with = "String")]
    pub keep_journal: ByteSize,
    /// Then also remove what is older than so many days; 0: however old it is.
    pub keep_journal_days: u32,
    /// Warn when one log takes at least this much.
    #[schemars(with = "String")]
    pub warn_file: ByteSize,
    /// Warn when all rotated logs together take at least this much.
    #[schemars(with = "String")]
    pub warn_rotated: ByteSize,
    /// Keep so many of the newest rotated files of each log.
    pub keep_rotated: u32,
    /// Keep at least so many lines of a live log that is rotated.
    pub keep_lines: u64,
    /// How the head of a live log goes away while somebody has it open: `punch` or `collapse`.
    pub in_place: InPlace,
    /// Warn when logrotate did not run for more than this many days.
    pub logrotate_days: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            dirs: vec!["/var/log".to_owned()],
            warn_journal: ByteSize::gib(2),
            keep_journal: ByteSize::mib(500),
            keep_journal_days: 0,
            warn_file: ByteSize::mib(500),
            warn_rotated: ByteSize::gib(1),
            keep_rotated: 1,
            keep_lines: 1000,
            in_place: InPlace::Punch,
            logrotate_days: 2,
        }
    }
}

/// When space that no file a person can list explains is worth telling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerSettings {
    /// Warn when deleted, hidden and unexplained space together are at least this share of what is in use, in percent,
    pub warn_percent: u8,
    /// and at least this much.
    #[schemars(with = "String")]
    pub warn_size: ByteSize,
    /// Warn when data under one mount point takes at least this much.
    #[schemars(with = "String")]
    pub warn_hidden: ByteSize,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self { warn_percent: 10, warn_size: ByteSize::gib(1), warn_hidden: ByteSize::mib(10) }
    }
}

/// Container engines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How long a client may take, in milliseconds.
    pub deadline_ms: u64,
    /// Warn when something an engine keeps could give back at least this much.
    #[schemars(with = "String")]
    pub warn_size: ByteSize,
    /// Warn when the log of one container takes at least this much.
    #[schemars(with = "String")]
    pub log_warn_size: ByteSize,
    /// Images are told whose name, or the last part of it, begins otherwise; empty: none are.
    pub image_prefix: String,
    /// The daemon to ask (docker's `--host`); empty: where the client's context leads, if that is on this machine.
    pub docker_host: String,
    /// Docker's data, if it does not answer; empty: as its daemon that runs, its unit or daemon.json says.
    pub docker_root: String,
    /// Podman's store (`--root`); empty: as storage.conf says.
    pub podman_root: String,
    /// Podman's state (`--runroot`) where `podman_root` is set.
    pub podman_runroot: String,
    /// containerd's data; empty: as its daemon that runs or its config.toml says.
    pub containerd_root: String,
    /// The socket that containerd listens on; empty: where it listens by default.
    pub containerd_socket: String,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            deadline_ms: 8000,
            warn_size: ByteSize::gib(1),
            log_warn_size: ByteSize::mib(500),
            image_prefix: String::new(),
            docker_host: String::new(),
            docker_root: String::new(),
            podman_root: String::new(),
            podman_runroot: String::new(),
            containerd_root: String::new(),
            containerd_socket: String::new(),
        }
    }
}

/// Pruning container engines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneSettings {
    /// Dangling images and build cache stay that are younger than so many hours.
    pub hours: u32,
    /// Containers that ended and images that nothing uses stay that are younger than so many hours.
    pub unused_hours: u32,
    /// The same where the file system of the store is full enough to be warned of.
    pub pressure_hours: u32,
}

impl Default for PruneSettings {
    fn default() -> Self {
        Self { hours: 24, unused_hours: 168, pressure_hours: 24 }
    }
}

/// Builds and what they send to an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BuildSettings {
    /// Warn when this many busy builds have their directories on one file system.
    pub warn_competing: u32,
    /// A build is busy when it has used this share of one CPU since it started, in percent, or an engine works for it.
    pub busy_percent: u8,
    /// Warn when a build would send at least this much to an engine.
    #[schemars(with = "String")]
    pub warn_context: ByteSize,
    /// Look at this many entries of a build context at most.
    pub context_entries: u64,
    /// Warn when a lock of a package manager is held by a process that is at least this old, in seconds.
    pub lock_warn_secs: u64,
    /// Directories that are build contexts, beside those of running builds and the one unwedge was started in.
    pub directories: Vec<String>,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self {
            warn_competing: 3,
            busy_percent: 20,
            warn_context: ByteSize::mib(500),
            context_entries: 200_000,
            lock_warn_secs: 600,
            directories: Vec::new(),
        }
    }
}

/// Directories for temporary files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TempSettings {
    /// Which directories.
    pub dirs: Vec<String>,
    /// Warn at this many entries directly in one.
    pub warn_entries: u64,
}

impl Default for TempSettings {
    fn default() -> Self {
        Self { dirs: vec!["/tmp".to_owned(), "/var/tmp".to_owned()], warn_entries: 1000 }
    }
}

/// What a sweep of an over-full directory takes: what is directly in it, by the newest of its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SweepSettings {
    /// Files older than so many hours; never less than one.
    pub file_hours: u32,
    /// Empty directories older than so many hours; never less than one.
    pub empty_dir_hours: u32,
    /// Other directories, with all in them, where nothing in them is younger than so many hours; never less than one.
    pub dir_hours: u32,
    /// Names that always stay, with `*` and `?`, beside the built-in list and the `x` and `X` lines of tmpfiles.d(5).
    pub keep: Vec<String>,
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self { file_hours: 24, empty_dir_hours: 24, dir_hours: 48, keep: Vec::new() }
    }
}

/// When caches and build trees matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// Warn when all of one kind together take at least this much.
    #[schemars(with = "String")]
    pub warn_size: ByteSize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { warn_size: ByteSize::gib(1) }
    }
}

/// When a directory holds too many entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CrowdedSettings {
    /// Warn at this many entries directly in one.
    pub warn_entries: u64,
    /// Warn also where creating an entry takes this many times as long as in a fresh directory.
    pub slow_factor: u32,
}

impl Default for CrowdedSettings {
    fn default() -> Self {
        Self { warn_entries: 100_000, slow_factor: 10 }
    }
}

/// How long to wait for the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeSettings {
    /// How long a single question to a file system or tool may take, in milliseconds.
    pub deadline_ms: u64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { deadline_ms: 2000 }
    }
}

/// The directory scanner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScanSettings {
    /// Worker threads; 0 lets the scanner choose.
    pub threads: u16,
    /// How file systems are read.
    pub method: ScanMethod,
    /// Memory that the tree of a scan may take; 0 lets the scanner choose by what the machine can spare.
    #[schemars(with = "String")]
    pub max_memory: ByteSize,
}

/// What `unwedge snapshot` keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotSettings {
    /// Files and directories that take less are in the size of their directory only. Raised where a snapshot would be
    /// larger than 8 bytes for each entry that was scanned.
    #[schemars(with = "String")]
    pub floor: ByteSize,
    /// So many of one directory are kept where snapshots belong; 0: all.
    pub keep: u32,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self { floor: ByteSize::kib(64), keep: 30 }
    }
}

/// How a file system is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanMethod {
    /// From its device where that works and is exact, else by ordinary calls.
    #[default]
    Auto,
    /// By ordinary calls.
    Calls,
    /// From its device, or not at all.
    Raw,
}

/// What must never be touched, beside the built-in set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProtectSettings {
    /// Files and directories, protected with everything below them.
    pub paths: Vec<String>,
}

/// Ending processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// Seconds between TERM and KILL.
    pub grace_secs: u64,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self { grace_secs: 10 }
    }
}

/// Where actions are written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSettings {
    /// The directory; empty for `/var/log/unwedge` as root, else `unwedge` below the XDG state directory.
    pub dir: String,
}
