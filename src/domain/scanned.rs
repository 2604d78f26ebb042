//! What a scan tells beside sizes, as one plain value: caches with their sizes, directories with too many entries,
//! and where the inodes are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caches::CacheKind;
use super::identity::FileId;
use super::reading::Reading;
use super::size::Bytes;
use super::text::HostPath;

/// What was found in the trees that were scanned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scanned {
    /// Where the scans started.
    pub roots: Vec<HostPath>,
    /// Caches, build trees and other known things, largest first.
    pub caches: Vec<CacheKind>,
    /// Directories that hold very many entries directly, most first.
    pub crowded: Vec<CrowdedDir>,
    /// Directories with most entries in them and below, most first.
    pub most_entries: Vec<EntryHog>,
}

/// A directory that holds, or once held, very many entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrowdedDir {
    /// Which directory.
    pub path: HostPath,
    /// Its identity; none where it is gone or was not asked for.
    pub id: Option<FileId>,
    /// Entries directly in it.
    pub entries: u64,
    /// Size of the directory's own metadata (`st_size` of the directory).
    pub directory_size: Bytes,
    /// Space that all below it takes, where the scan counted it.
    #[serde(default)]
    pub holds: Option<Bytes>,
    /// What it costs to create an entry in it.
    pub create: Reading<CreateCost>,
}

/// What it costs to create and remove an entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CreateCost {
    /// It works.
    Works {
        /// In this directory, in microseconds: the best of several tries.
        here_micros: u64,
        /// In a fresh directory of the same file system, in microseconds, likewise.
        fresh_micros: u64,
    },
    /// It fails.
    Fails {
        /// The system's reason (`No space left on device`).
        why: String,
    },
}

/// A directory with many entries in it and below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryHog {
    /// Which directory.
    pub path: HostPath,
    /// Where its file system is mounted; the root of the scan where that is not known.
    pub mount_point: HostPath,
    /// Inodes in it and below, itself included: a file with several names counts once.
    pub inodes: u64,
    /// Space that they take.
    pub allocated: Bytes,
}
