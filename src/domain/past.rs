//! What earlier runs did, as far as it matters for taking it back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::identity::{FileId, Inode};
use super::text::{HostPath, HostText};

/// How the name of everything begins that a run sets aside on disk; the id of the run follows, so that the
/// journal tells whose it is.
pub const SET_ASIDE: &str = ".unwedge-quarantine-";

/// How the name of a copy begins until it is whole and gets the name of its file; the id of the run and the step follow.
pub const EVACUATED: &str = ".unwedge-evacuated-";

/// A run on record.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PastRun {
    /// Names the run; what it set aside on disk carries this in its name.
    pub run: String,
    /// When it began.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// The action (`delete`).
    pub action: String,
    /// The plan's summary.
    pub summary: String,
    /// Whether it is still under way.
    pub running: bool,
    /// What its plan said of taking it back; none where that is not on record.
    pub undo: Option<String>,
    /// What it set out to remove.
    #[serde(skip)]
    pub taken: Vec<Taken>,
    /// What it set out to move to another file system.
    #[serde(skip)]
    pub moved: Vec<Moved>,
    /// Directories that it set out to sweep.
    #[serde(skip)]
    pub swept: Vec<Swept>,
}

/// Something that a run set out to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The step, counted from 0.
    pub step: usize,
    /// Where it was.
    pub path: HostPath,
    /// Which file it was.
    pub id: FileId,
}

/// A directory that a run set out to sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The step, counted from 0.
    pub step: usize,
    /// The directory.
    pub path: HostPath,
    /// The names of what its plan had found old in it.
    pub names: BTreeMap<Inode, HostText>,
}

/// Something that a run set out to move to another file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it was and where.
    pub file: Taken,
    /// Where it went, its name included.
    pub to: HostPath,
}

/// How something that a run left is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// It was set aside on the same file system: it gets its name again.
    Rename,
    /// It was moved to another file system: it is copied back, compared, then removed there.
    Copy,
    /// It is a piece of a copy, whose file is where it was: it is removed.
    Remove,
}

/// Something that a run left: set aside and never removed, or not all of it; moved away; or copied in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Leftover {
    /// The run.
    pub run: String,
    /// Where it is now.
    pub from: HostPath,
    /// Where it was.
    pub to: HostPath,
    /// Which file it is.
    pub id: FileId,
    /// How it is taken back.
    pub back: Back,
    /// Why it cannot be, where that is known: its old name is taken by now.
    pub hindered: Option<String>,
}
