//! Builds that run, what they would send to an engine, the locks they wait for, and where they put their data.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caches::FrozenPlace;
use super::command::ToolUser;
use super::dockerfile::UncachedStep;
use super::identity::{DevIno, ProcId};
use super::reading::Reading;
use super::size::{Bytes, Percent};
use super::snapshot::Usage;
use super::text::{HostPath, HostText};

/// What was seen of builds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Builds {
    /// Builds that run, oldest first.
    pub running: Vec<RunningBuild>,
    /// Build contexts: of builds that run, and of directories that were asked for.
    pub contexts: Vec<BuildContext>,
    /// Locks of package managers that are held.
    pub locks: Vec<HeldLock>,
    /// Where builds put their data.
    pub places: Vec<BuildPlace>,
    /// What buildx keeps in home directories.
    pub buildx: Vec<BuildxState>,
}

/// A build: a process that builds or installs, with all it started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunningBuild {
    /// The process that the others descend from.
    pub root: ProcId,
    /// Its tool (`cargo`, `docker`).
    pub tool: HostText,
    /// Its command line, secrets redacted.
    pub command: HostText,
    /// Its working directory as its own mount namespace names it; none where it may not be read.
    pub directory: Option<HostPath>,
    /// Which directory that is.
    pub directory_key: Option<DevIno>,
    /// Whether it sees the same mounts as we do, so that its paths are ours.
    pub same_mounts: bool,
    /// Seconds since it started.
    pub age_secs: u64,
    /// Processes of it that run now.
    pub processes: u32,
    /// CPU time of all its processes, ended ones included, by its age: 100 % is one CPU all the time.
    pub cpu: Percent,
    /// Whether an engine does its work, whose CPU time is not in `cpu`.
    pub by_engine: bool,
    /// Whether another of its kind in the same directory must wait for it or disturbs it.
    pub exclusive: bool,
}

/// What a build sends to an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildContext {
    /// The directory.
    pub directory: HostPath,
    /// Why it was looked at.
    pub because: ContextReason,
    /// The Dockerfile or Containerfile, where there is one.
    pub dockerfile: Option<HostPath>,
    /// The file with the patterns of what is left out, where there is one.
    pub ignore_file: Option<HostPath>,
    /// What `COPY .` would send.
    pub content: Reading<ContextContent>,
    /// Steps of the Dockerfile that fetch packages without a cache mount.
    pub uncached: Vec<UncachedStep>,
}

/// Why a build context was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ContextReason {
    /// A build with it runs.
    Running {
        /// Which.
        build: ProcId,
    },
    /// It is in the settings or was named on the command line.
    Asked,
    /// unwedge was started in it.
    Here,
}

/// The content of a build context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContextContent {
    /// Files, links included.
    pub files: u64,
    /// Their apparent size, each hard link as a file of its own: as they are sent.
    pub size: Bytes,
    /// Entries that were looked at, left-out ones included.
    pub looked_at: u64,
    /// The largest files, largest first.
    pub largest: Vec<ContextFile>,
    /// Directories in it that seldom belong there, largest first.
    pub unwanted: Vec<ContextFile>,
}

/// A file or directory in a build context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextFile {
    /// Its path below the context.
    pub path: HostPath,
    /// Its apparent size; of a directory, of what of it is sent.
    pub size: Bytes,
}

/// A lock of a package manager that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldLock {
    /// The lock file.
    pub path: HostPath,
    /// Who holds it; none where it is a process of another pid namespace, or it ended meanwhile.
    pub holder: Option<LockHolder>,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockHolder {
    /// Which process.
    pub process: ProcId,
    /// Its command line, secrets redacted.
    pub command: HostText,
    /// Seconds since it started.
    pub age_secs: u64,
    /// Whether it is stopped (SIGSTOP, a debugger): it cannot let go.
    pub stopped: bool,
}

/// A place where builds put their data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildPlace {
    /// What for, as a few words.
    pub what: String,
    /// The directory.
    pub path: HostPath,
    /// Where its file system is mounted; none where that is not known.
    pub mount_point: Option<HostPath>,
    /// The figures of that file system.
    pub usage: Reading<Usage>,
}

/// What a process of a build step is called that outlived its daemon: its program can be any.
pub const STEP: &str = "a step of a build";

/// What buildx keeps in a home directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildxState {
    /// The directory (`~/.docker/buildx`).
    pub path: HostPath,
    /// Builders with a definition of their own.
    pub instances: u64,
    /// When builders were last used.
    pub activity: Vec<BuildxActivity>,
    /// Files that an update of these left half written: `.tmp-*`, and empty ones.
    pub half_written: u64,
    /// Files in `activity` that the owner of the home directory does not own, so that this person's builds fail.
    pub foreign: u64,
    /// Why nothing of it can be written, if so: a file system that is read-only, a directory that is immutable.
    #[serde(default)]
    pub not_writable: Option<HostText>,
    /// Files of it that buildx cannot read, and fails on.
    #[serde(default)]
    pub damaged: Vec<HostPath>,
    /// Where this person's docker leads by default, if that is another machine: a new builder would be made there.
    #[serde(default)]
    pub elsewhere: Option<HostText>,
}

/// What builds can be repaired with here; looked at just before the plan is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RepairMeans {
    /// What builds or pulls now; none where nothing does.
    pub work: Option<String>,
    /// Whether systemd runs.
    pub systemd: bool,
    /// Which of docker's units it has.
    pub units: Vec<String>,
    /// Whether docker has buildx.
    pub buildx: bool,
    /// Whose builders there are.
    pub users: Vec<ToolUser>,
    /// The `activity` directories, and what buildx cannot read, frozen.
    pub activity: Vec<FrozenPlace>,
}

/// When a builder was last used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildxActivity {
    /// What it builds with: an address, or a context of docker; none if it has no definition of its own.
    #[serde(default)]
    pub endpoint: Option<HostText>,
    /// The address of that, if it is another machine's.
    #[serde(default)]
    pub elsewhere: Option<HostText>,
    /// The builder.
    pub builder: HostText,
    /// When, as the file says.
    #[schemars(with = "Option<String>")]
    pub last: Option<Timestamp>,
    /// Whether there is a definition of this builder.
    pub exists: bool,
}
