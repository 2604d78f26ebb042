//! What of the catalogue is on this machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command::ToolUser;
use super::identity::DevIno;
use super::reading::Reading;
use super::size::Bytes;
use super::snapshot::{ChosenFile, Evidence};
use super::text::{HostPath, HostText};

/// Everything on this machine that one entry of the catalogue describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheKind {
    /// The entry's id.
    pub entry: String,
    /// What it is.
    pub title: String,
    /// Places found.
    pub found: u64,
    /// Of these, places that no scan has seen: their size is not known.
    pub unsized_places: u64,
    /// Space that the others take; nothing is counted twice.
    pub size: CacheSize,
    /// The places, largest first, those without a size last. At most [`CacheKind::PLACES`].
    pub places: Vec<CachePlace>,
    /// Why they must be left alone for now; empty where nothing speaks against cleaning.
    pub busy: Vec<Evidence>,
}

impl CacheKind {
    /// How many places of one kind are named; all are counted.
    pub const PLACES: usize = 200;
}

/// Figures of a place, as the scan counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheSize {
    /// Space taken.
    pub allocated: Bytes,
    /// Apparent size.
    pub apparent: Bytes,
    /// Entries.
    pub entries: u64,
}

impl CacheSize {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.allocated += other.allocated;
        self.apparent += other.apparent;
        self.entries = self.entries.saturating_add(other.entries);
    }
}

/// One place that an entry of the catalogue describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CachePlace {
    /// The directory: absolute, without symbolic links.
    pub path: HostPath,
    /// Which directory that was.
    pub key: DevIno,
    /// The home directory it was found in; none where it is not in one.
    pub home: Option<HostPath>,
    /// The user it belongs to.
    pub uid: u32,
    /// That user's name; none where the user has none.
    pub user: Option<HostText>,
    /// Its size; none where no scan has seen it.
    pub size: Option<CacheSize>,
    /// Newest modification time in it, in seconds since the epoch; none where no scan has seen it.
    pub modified: Option<i64>,
    /// Why this program would not remove it itself (it is protected); the owner's command may still clean it.
    pub protected: Option<String>,
}

/// A kind of cache that shall be cleaned.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheToClean {
    /// What.
    pub kind: CacheKind,
    /// What it can be cleaned with here; looked at just before the plan is made.
    pub means: Reading<Means>,
}

/// What a kind of cache can be cleaned with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Means {
    /// Why the owner's command cannot be run here; none where it can.
    pub missing: Option<String>,
    /// Why it must be left alone now.
    pub busy: Vec<Evidence>,
    /// Whom its places belong to.
    pub users: Vec<ToolUser>,
    /// What would be deleted instead of the owner's command, frozen.
    pub frozen: Vec<FrozenPlace>,
}

/// What would be deleted of one place.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenPlace {
    /// The place.
    pub place: HostPath,
    /// The directory itself, or what is in it; or why it could not be looked at.
    pub files: Result<Vec<ChosenFile>, String>,
}
