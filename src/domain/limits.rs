//! Limits that look like a full disk, and what is used of them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::MountId;
use super::size::Percent;
use super::snapshot::Evidence;
use super::text::{HostPath, HostText};

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Mounts in one mount namespace (`fs.mount-max`, proc(5)).
    Mounts,
    /// inotify watches of one user (`fs.inotify.max_user_watches`, inotify(7)). One more fails with ENOSPC.
    InotifyWatches,
    /// inotify instances of one user (`fs.inotify.max_user_instances`, inotify(7)). One more fails with EMFILE.
    InotifyInstances,
    /// Memory cgroups of the kernel: 65,535 at most (`MEM_CGROUP_ID_MAX`, include/linux/memcontrol.h). One more fails
    /// with ENOSPC.
    MemoryCgroups,
    /// Open files of the whole machine (`fs.file-max`, proc(5)). One more fails with ENFILE.
    OpenFiles,
    /// Processes and threads of the whole machine (`kernel.pid_max` or `kernel.threads-max`, proc(5)).
    Tasks,
    /// Processes and threads of one cgroup (`pids.max`, Documentation/admin-guide/cgroup-v2.rst).
    CgroupTasks,
    /// Space that one user or group may take on a file system (quotactl(2)), in bytes. More fails with EDQUOT.
    QuotaSpace,
    /// Inodes that one user or group may take on a file system (quotactl(2)). More fails with EDQUOT.
    QuotaInodes,
    /// Data of a thin pool, in its blocks (Documentation/admin-guide/device-mapper/thin-provisioning.rst).
    ThinPoolData,
    /// Metadata of a thin pool, in its blocks.
    ThinPoolMetadata,
}

impl LimitKind {
    /// Its name in ids of findings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mounts => "mounts",
            Self::InotifyWatches => "inotify-watches",
            Self::InotifyInstances => "inotify-instances",
            Self::MemoryCgroups => "memory-cgroups",
            Self::OpenFiles => "open-files",
            Self::Tasks => "tasks",
            Self::CgroupTasks => "cgroup-tasks",
            Self::QuotaSpace => "quota-space",
            Self::QuotaInodes => "quota-inodes",
            Self::ThinPoolData => "thin-pool-data",
            Self::ThinPoolMetadata => "thin-pool-metadata",
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mounts => "mounts",
            Self::InotifyWatches => "inotify watches",
            Self::InotifyInstances => "inotify instances",
            Self::MemoryCgroups => "memory cgroups",
            Self::OpenFiles => "open files",
            Self::Tasks => "processes and threads",
            Self::CgroupTasks => "processes and threads of a cgroup",
            Self::QuotaSpace => "space by quota",
            Self::QuotaInodes => "inodes by quota",
            Self::ThinPoolData => "data of a thin pool",
            Self::ThinPoolMetadata => "metadata of a thin pool",
        })
    }
}

/// A limit and what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// What it is on.
    pub kind: LimitKind,
    /// Whose it is (a user, a cgroup, a file system); empty for the machine's own.
    pub of: HostText,
    /// In use.
    pub used: u64,
    /// At most.
    pub limit: u64,
    /// Where both were read.
    pub source: String,
}

impl Limit {
    /// The share in use.
    pub fn share(&self) -> Percent {
        Percent::of(self.used, self.limit)
    }
}

/// A file system that should be writable and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadOnly {
    /// Which mount.
    pub mount: MountId,
    /// Where it is mounted.
    pub mount_point: HostPath,
    /// Why it is taken for an accident.
    pub evidence: Vec<Evidence>,
}

/// All limits that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Those on counts, the fullest first.
    pub counts: Vec<Limit>,
    /// File systems that went read-only.
    pub read_only: Vec<ReadOnly>,
}
