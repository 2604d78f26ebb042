//! What earlier runs did, as far as it matters for taking it back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::{DevIno, FileId, Inode};
use super::text::{HostPath, HostText};

/// How the name of everything begins that a run sets aside on disk; the id of the run follows, so that the
/// journal tells whose it is.
pub const SET_ASIDE: &str = ".unwedge-quarantine-";

/// The name of a thing in the directory made for it.
pub const ITEM: &str = "item";

/// How the name of a copy begins until it is whole and gets the name of its file; the id of the run and the step follow.
pub const EVACUATED: &str = ".unwedge-evacuated-";

/// How the name of the new file begins until it is the log, and that of the old log from then on until it goes; the id of the
/// run and the step follow.
pub const ROTATED: &str = ".unwedge-rotated-";

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
    /// The logs that it set out to cut.
    #[serde(skip)]
    pub rotated: Vec<Rotated>,
    /// Directories whose owner or mode it changed for its time.
    #[serde(skip)]
    pub changed: Vec<Changed>,
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
    /// What it was and what its copy is; none if it was never copied whole, or that is not on record.
    pub was: Option<Was>,
}

/// What a file was before it was moved, and what its copy is. On record before the copy gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Was {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode (`st_mode & 0o7777`).
    pub mode: u32,
    /// The mode of its copy: without what the directories above the file did not let others do.
    pub given: u32,
    /// Which file the copy is.
    pub copy: FileId,
    /// Whether the run made the copy; one that was there already may be anybody's.
    pub made: bool,
}

/// Whose something is, and what others may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode (`st_mode & 0o7777`).
    pub mode: u32,
}

/// A directory that a run shut off from others, or opened up, for its time. On record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The step, counted from 0. The directory is the one that this step removes.
    pub step: usize,
    /// Which one.
    pub key: DevIno,
    /// What it had.
    pub before: Access,
    /// What the run gave it.
    pub given: Access,
}

/// A log that a run set out to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// What it was and where.
    pub file: Taken,
    /// How many lines were to stay.
    pub keep_lines: u64,
}

/// A log that a rotation made of the last lines of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Over {
    /// Which file.
    pub id: FileId,
    /// How many lines it began with.
    pub keep_lines: u64,
}

/// How something that a run left is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// A run changed its owner or mode for its time: it gets this back.
    Access {
        /// What it had.
        before: Access,
    },
    /// It was set aside on the same file system: it gets its name again.
    Rename,
    /// It is a whole log: it gets its name again from the file with its last lines that has it.
    Whole {
        /// Which file that is.
        over: Over,
    },
    /// It was moved to another file system: it is copied back, compared, then removed there.
    Copy {
        /// What it was where it came from; none if that is not on record.
        was: Option<Was>,
    },
    /// It is a copy or a piece of one, whose file is where it was: it is removed.
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

impl PastRun {
    /// The name that something has which this run had set aside, given its path as it is now and its inode; none if it is
    /// not of this run.
    pub fn name_of(&self, path: &HostPath, inode: Inode) -> Option<HostPath> {
        let mut parts = path.as_path().iter();
        // `DIR/.unwedge-quarantine-RUN-STEP/item/…`, or without `item` if no directory could be made.
        let aside = parts.by_ref().find(|part| part.as_encoded_bytes().starts_with(SET_ASIDE.as_bytes()))?;
        let step = aside.to_str()?.strip_prefix(SET_ASIDE)?.strip_prefix(&self.run)?.strip_prefix('-')?;
        let mut below = parts.as_path();
        if let Some((step, _)) = step.split_once('x') {
            let swept = self.swept.iter().find(|swept| step.parse() == Ok(swept.step))?;
            // The place for files has the name of the quarantine.
            let name = match below.strip_prefix(aside) {
                Ok(_) => swept.names.get(&inode).map(|name| OsStr::from_bytes(name.as_bytes()))?,
                Err(_) => below.as_os_str(),
            };
            return Some(swept.path.as_path().join(name).into());
        }
        let removed = self.taken.iter().chain(self.moved.iter().map(|moved| &moved.file));
        let taken = removed.clone().find(|taken| step.parse() == Ok(taken.step))?;
        below = below.strip_prefix(ITEM).unwrap_or(below);
        let whole = taken.path.as_path();
        Some(if below.as_os_str().is_empty() { taken.path.clone() } else { whole.join(below).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_is_known_by_its_own_name() {
        let run = PastRun {
            run: "7-8-9a".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            action: String::new(),
            summary: String::new(),
            running: false,
            undo: None,
            taken: vec![Taken { step: 3, path: "/d/tree".into(), id: FileId::default() }],
            moved: Vec::new(),
            rotated: Vec::new(),
            changed: Vec::new(),
            swept: vec![Swept {
                step: 0,
                path: "/tmp".into(),
                names: [(Inode(5), HostText::from("old"))].into(),
            }],
        };
        let name = |path: &str| run.name_of(&path.into(), Inode(5)).map(|name| name.to_string());
        assert_eq!(name("/d/.unwedge-quarantine-7-8-9a-3/item").as_deref(), Some("/d/tree"));
        assert_eq!(name("/d/.unwedge-quarantine-7-8-9a-3/item/sub/f").as_deref(), Some("/d/tree/sub/f"));
        assert_eq!(name("/d/.unwedge-quarantine-7-8-9a-3/sub/f").as_deref(), Some("/d/tree/sub/f"));
        let aside = ".unwedge-quarantine-7-8-9a-0x1";
        assert_eq!(name(&format!("/tmp/{aside}/{aside}")).as_deref(), Some("/tmp/old"));
        assert_eq!(name(&format!("/tmp/{aside}/dir/f")).as_deref(), Some("/tmp/dir/f"));
        for other in ["/d/.unwedge-quarantine-1-2-3-3/item", "/d/.unwedge-quarantine-7-8-9a-4/item", "/d/f"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
