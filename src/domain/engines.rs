//! Container engines and what they keep on disk.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::{FileId, Pid};
use super::reading::Reading;
use super::size::Bytes;
use super::text::{HostPath, HostText};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Docker, with `BuildKit` in it.
    Docker,
    /// Podman, and buildah, which shares its store.
    Podman,
    /// containerd on its own.
    Containerd,
}

impl EngineKind {
    /// The name of its client.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much of what nothing uses is pruned. Ordered: later takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PruneLevel {
    /// Dangling images and build cache, older than a day.
    Conservative,
    /// Also containers that ended and images that nothing uses, past an age.
    Standard,
    /// As much as can be had again.
    Emergency,
}

impl fmt::Display for PruneLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Conservative => "conservative",
            Self::Standard => "standard",
            Self::Emergency => "emergency",
        })
    }
}

/// An engine that is installed or has a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// Which.
    pub kind: EngineKind,
    /// Where it keeps its data, as it says itself; if it does not answer, as it is set up.
    pub store: HostPath,
    /// Where its images, containers and build cache are, if that is not in `store`: docker with the image store of
    /// containerd.
    #[serde(default)]
    pub images_at: Option<HostPath>,
    /// What the store takes on disk. Known only where the engine itself does not answer: looking takes time.
    pub store_size: Reading<Bytes>,
    /// What its client says.
    pub content: Reading<Content>,
    /// How it is asked, and no other engine.
    #[serde(default)]
    pub reach: Reach,
    /// Why it does not tell all.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// Where its client leads by default, if that is another machine.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
    /// Sockets of other daemons of its kind on this machine. They were not asked.
    #[serde(default)]
    pub others: Vec<HostPath>,
}

impl Engine {
    /// One of which nothing is known yet.
    pub fn new(kind: EngineKind, store: HostPath) -> Self {
        Self {
            kind,
            store,
            images_at: None,
            store_size: Reading::Pending,
            content: Reading::Pending,
            reach: Reach::default(),
            trouble: None,
            elsewhere: None,
            others: Vec::new(),
        }
    }

    /// Where what can be pruned is.
    pub fn room(&self) -> &HostPath {
        self.images_at.as_ref().unwrap_or(&self.store)
    }
}

/// How an engine is asked, and no other: what stands right behind its client's name in every question and every change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reach {
    /// The first arguments.
    pub arguments: Vec<HostText>,
    /// Variables.
    pub environment: Vec<(String, HostText)>,
}

/// The engine of another machine that a client of this one leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Elsewhere {
    /// What names it (``docker's context `prod` ``).
    pub named_by: HostText,
    /// Its address.
    pub endpoint: HostText,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { named_by, endpoint } = self;
        write!(f, "{named_by} is {endpoint}: another machine; nothing of it is on this disk")
    }
}

/// Why an engine does not tell what it keeps, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trouble {
    /// Its client is not installed.
    NoClient,
    /// The program with its client's name is podman's.
    ClientIsPodman,
    /// Nobody listens on its socket.
    NotRunning {
        /// The socket.
        socket: HostPath,
    },
    /// The socket, or the daemon behind it, lets only others in.
    Forbidden,
    /// It answers, but somebody else has asked for its disk usage, which it computes for one at a time.
    Busy,
    /// Client and daemon do not speak the same version of the protocol.
    Versions,
    /// Its store is locked.
    Locked {
        /// The locked file.
        lock: HostPath,
        /// Who holds it, if that is known.
        holder: Option<LockedBy>,
    },
    /// The client's settings cannot be read: a context that is named does not exist.
    Settings,
    /// It was asked and did not answer in time.
    Silent,
    /// It refused for a reason of its own.
    Refuses,
}

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockedBy {
    /// Its number.
    pub pid: Pid,
    /// Its command line, without secrets.
    pub command: HostText,
}

/// What an engine keeps. Sizes are the engine's own figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    /// Images.
    pub images: Vec<Image>,
    /// Containers, running or not.
    pub containers: Vec<Container>,
    /// Volumes: data of people, never removed by this program unless named one by one.
    pub volumes: Vec<Volume>,
    /// Records of the build cache.
    pub cache: Vec<CacheRecord>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// Its id, without the algorithm: 64 hexadecimal digits.
    pub id: HostText,
    /// Its names (`repository:tag`); none for a dangling image.
    pub names: Vec<HostText>,
    /// Its size, layers shared with others included.
    pub size: Bytes,
    /// Of that, what no other image shares, where the engine says it.
    pub unique: Option<Bytes>,
    /// When it was made.
    #[schemars(with = "Option<String>")]
    pub created: Option<Timestamp>,
    /// How many containers, running or not, are made from it.
    pub containers: u64,
    /// It is in a store that the engine only reads (an additional image store): it cannot be removed from here.
    #[serde(default)]
    pub read_only: bool,
}

impl Image {
    /// Whether it has no name, nothing uses it, and it can be removed from here.
    pub fn is_dangling(&self) -> bool {
        self.names.is_empty() && self.containers == 0 && !self.read_only
    }

    /// Whether it has a name, nothing uses it, and it can be removed from here.
    pub fn is_unused(&self) -> bool {
        !self.names.is_empty() && self.containers == 0 && !self.read_only
    }

    /// What removing it alone gives back.
    pub fn own_size(&self) -> Bytes {
        self.unique.unwrap_or(self.size)
    }

    /// What to call it: its first name, else the start of its id.
    pub fn shown(&self) -> String {
        self.names.first().map_or_else(|| short(&self.id), HostText::to_string)
    }
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// It runs, is paused or restarts.
    Running,
    /// It was made or has ended.
    Stopped,
    /// It belongs to another tool on the same store (a build of buildah); podman does not manage it.
    External,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Its id: 64 hexadecimal digits.
    pub id: HostText,
    /// Its name.
    pub name: HostText,
    /// The image it was made from, as the engine names it.
    pub image: HostText,
    /// That image's id, where the engine says it.
    pub image_id: Option<HostText>,
    /// What it is doing.
    pub state: ContainerState,
    /// Its writable layer, where the engine says it.
    pub layer: Option<Bytes>,
    /// When it was made.
    #[schemars(with = "Option<String>")]
    pub created: Option<Timestamp>,
    /// What it has logged into a file of the engine.
    pub log: Option<ContainerLog>,
}

impl Container {
    /// What to call it: its name, else the start of its id.
    pub fn shown(&self) -> String {
        if self.name.is_empty() { short(&self.id) } else { self.name.to_string() }
    }
}

/// The log file of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerLog {
    /// Where it is.
    pub path: HostPath,
    /// Which file; none where it was gone before that could be asked.
    pub id: Option<FileId>,
    /// Space it takes.
    pub allocated: Bytes,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// Its name.
    pub name: HostText,
    /// Its size, where the engine says it.
    pub size: Option<Bytes>,
    /// How many containers use it, running or not, where the engine says it.
    pub used_by: Option<u64>,
    /// What keeps it (`local`), where the engine says it.
    #[serde(default)]
    pub driver: Option<HostText>,
    /// When it was made.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub created: Option<Timestamp>,
}

impl Volume {
    /// Whether no container uses it, not even one that has ended.
    pub fn is_unused(&self) -> bool {
        self.used_by == Some(0)
    }
}

/// A record of the build cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheRecord {
    /// Its id.
    pub id: HostText,
    /// What made it.
    pub description: HostText,
    /// Its size.
    pub size: Bytes,
    /// A build uses it now.
    pub in_use: bool,
    /// An image shares it: removing the record gives nothing back.
    pub shared: bool,
    /// When a build used it last.
    #[schemars(with = "Option<String>")]
    pub last_used: Option<Timestamp>,
}

/// Whether the name of an image begins as `prefix` says: the whole name, or its last component. `localhost/xnai-base:1`
/// belongs to `reg.example/` no more than to `xna/`, but to `xnai-` and to `localhost/`.
pub fn has_prefix(name: &HostText, prefix: &str) -> bool {
    let (name, prefix) = (name.as_bytes(), prefix.as_bytes());
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    name.starts_with(prefix) || last.starts_with(prefix)
}

/// The first 12 digits of an id, as the engines print it.
fn short(id: &HostText) -> String {
    id.to_string().chars().take(12).collect()
}

/// How many things there are and what removing them gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: usize,
    /// Their sizes.
    pub size: Bytes,
}

impl Sum {
    fn of(sizes: impl Iterator<Item = Bytes>) -> Self {
        sizes.fold(Self::default(), |sum, size| Self { count: sum.count + 1, size: sum.size + size })
    }
}

impl Content {
    /// Images without a name that nothing uses.
    pub fn dangling(&self) -> Sum {
        Sum::of(self.images.iter().filter(|image| image.is_dangling()).map(Image::own_size))
    }

    /// Images with a name that no container is made from.
    pub fn unused(&self) -> Sum {
        Sum::of(self.images.iter().filter(|image| image.is_unused()).map(Image::own_size))
    }

    /// Records of the build cache that can go and give something back.
    pub fn reclaimable_cache(&self) -> Sum {
        Sum::of(self.cache.iter().filter(|record| !record.in_use && !record.shared).map(|record| record.size))
    }

    /// Containers that do not run, with their writable layers.
    pub fn stopped(&self) -> Sum {
        self.in_state(ContainerState::Stopped)
    }

    /// Containers of other tools on the store.
    pub fn external(&self) -> Sum {
        self.in_state(ContainerState::External)
    }

    fn in_state(&self, state: ContainerState) -> Sum {
        let those = self.containers.iter().filter(|container| container.state == state);
        Sum::of(those.map(|container| container.layer.unwrap_or_default()))
    }

    /// No more than this is accounted for by what the engine lists: layers that images share are counted for each.
    pub fn accounted_at_most(&self) -> Bytes {
        let images = self.images.iter().map(|image| image.size);
        let containers = self.containers.iter().flat_map(|container| {
            [container.layer, container.log.as_ref().map(|log| log.allocated)].into_iter().flatten()
        });
        let volumes = self.volumes.iter().filter_map(|volume| volume.size);
        images.chain(containers).chain(volumes).chain(self.cache.iter().map(|record| record.size)).sum()
    }

    /// Volumes that no container uses.
    pub fn unused_volumes(&self) -> Sum {
        let unused = self.volumes.iter().filter(|volume| volume.is_unused());
        Sum::of(unused.map(|volume| volume.size.unwrap_or_default()))
    }
}
