//! The directory that is swept, and the verdict on each of its entries. A plan and its run ask the same question here.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use globset::GlobBuilder;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::unit::{Blocked, Unit, Uses, open_dir};
use crate::config::load::keep_list;
use crate::domain::identity::{DevIno, FileId, FileKind};
use crate::domain::protect::ProtectSet;
use crate::domain::size::Bytes;
use crate::domain::sweep::{Candidate, Class, Entry, KeepList, Stays, SweepRule, judge, precious};
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::probe::temp_dirs::reason;
use crate::sys::around::Around;
use crate::sys::{beneath, file_id, tmpfiles};

/// The directory that is swept.
pub struct Place {
    path: HostPath,
    top: OwnedFd,
    id: FileId,
    /// Itself and what is above it, nearest first.
    above: Vec<DevIno>,
    /// Whether everybody can write to it.
    shared: bool,
    rule: SweepRule,
    keep: KeepList,
}

/// What a sweep makes of one entry.
pub enum Verdict {
    /// It is old as a whole, unused and kept by no list.
    Goes(Box<Candidate>),
    /// It stays.
    Stays(Stays),
    /// It could not be looked at, or is beyond one sweep: a sentence.
    Problem(String),
    /// It is not there any more.
    Gone,
}

impl From<Blocked> for Verdict {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::InUse => Self::Stays(Stays::InUse),
            Blocked::Locked => Self::Stays(Stays::Locked),
            Blocked::Problem(why) => Self::Problem(why),
        }
    }
}

/// Whether one of these patterns names it.
pub(super) fn names(patterns: &[String], name: &[u8]) -> bool {
    let name = OsStr::from_bytes(name);
    patterns.iter().any(|pattern| {
        let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
        glob.is_ok_and(|glob| glob.compile_matcher().is_match(name))
    })
}

/// Seconds since the epoch.
fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

impl Place {
    /// Opens the planned directory, and asks what holds for all of it.
    ///
    /// # Errors
    /// Why nothing in it may be swept, as a sentence.
    pub fn open(
        context: &Context<'_>,
        (path, planned): (&HostPath, &FileId),
        rule: &SweepRule,
        protect: &ProtectSet,
        around: &Around,
    ) -> Result<Self, String> {
        let fail = |errno| format!("{path} cannot be looked at: {}", reason(errno));
        let located = beneath::open_parent(path.as_path()).map_err(|error| error.to_string())?;
        // A file system of its own may be mounted there, as on /tmp: so across mounts, but through no link.
        let top = open_dir(&located.parent, &located.name).map_err(|errno| match errno {
            Errno::NOENT => format!("{path} is not there any more"),
            Errno::NOTDIR | Errno::LOOP => format!("{path} is no directory, or a link to one"),
            errno => fail(errno),
        })?;
        let id = file_id::of_fd(&top).map_err(fail)?;
        planned.matches_inode(&id).map_err(|why| format!("{path} changed: {why}"))?;
        let above = beneath::with_ancestors(&top).map_err(fail)?;
        if let Some(found) = protect.covers(id.key, &above) {
            return Err(format!("{} is protected with everything in it: {}", found.path, found.why));
        }
        around.writable(id.mount)?;
        let kept = tmpfiles::kept_paths(|path| context.environment.rooted(path));
        // Anew: what was kept since the program began, or since the plan, stays too.
        let names = [keep_list(context.environment, context.settings)?, rule.keep.clone()].concat();
        let keep = KeepList::new(path, &names, &kept)?;
        let shared = rustix::fs::fstat(&top).map_err(fail)?.st_mode & 0o002 != 0;
        Ok(Self { path: path.clone(), top, id, above, shared, rule: rule.clone(), keep })
    }

    /// The directory, opened.
    pub fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// Itself and what is above it, nearest first.
    pub fn above(&self) -> &[DevIno] {
        &self.above
    }

    /// Where an entry is.
    pub fn path_of(&self, name: &CStr) -> HostPath {
        HostPath::from(self.path.as_path().join(OsStr::from_bytes(name.to_bytes())))
    }

    /// Whether a file is still older than the rule wants, by the newest of its times.
    pub fn is_old_file(&self, kind: FileKind, newest: i64) -> bool {
        let entry = Entry { kind, newest, empty: false, of_root: false, holds_special: false };
        judge(&entry, &self.rule.ages, now(), self.shared).is_ok()
    }

    /// Whether what is in a directory, the newest of which has this time, is still older than the rule wants.
    pub fn is_old_content(&self, newest: i64) -> bool {
        let kind = FileKind::Directory;
        let entry = Entry { kind, newest, empty: false, of_root: false, holds_special: false };
        judge(&entry, &self.rule.ages, now(), false).is_ok()
    }

    /// Whether a keep list names it.
    pub fn keeps(&self, name: &CStr) -> bool {
        self.keep.keeps(name.to_bytes())
    }

    /// What to make of an entry. What is left out of what goes is for the caller to say.
    pub fn judge(&self, name: &CStr, protect: &ProtectSet, around: &Around, uses: &mut dyn Uses) -> Verdict {
        if self.keeps(name) {
            return Verdict::Stays(Stays::Kept);
        }
        let aged = match file_id::aged(&self.top, name) {
            Ok(aged) => aged,
            Err(Errno::NOENT) => return Verdict::Gone,
            Err(errno) => return Verdict::Problem(reason(errno)),
        };
        let id = aged.id;
        if !id.mount.same_mount(self.id.mount) {
            return Verdict::Stays(Stays::Mounted);
        }
        if protect.check(id.key, &self.above).is_err() {
            return Verdict::Stays(Stays::Protected);
        }
        let directory = id.kind == FileKind::Directory;
        let mut entry = Entry {
            kind: id.kind,
            newest: aged.newest,
            empty: directory,
            of_root: directory && aged.uid == 0,
            holds_special: false,
        };
        // Before it is walked: what is young by itself, or special, is not looked into.
        let by_itself = judge(&entry, &self.rule.ages, now(), self.shared);
        if let Err(why @ (Stays::Young | Stays::Special)) = by_itself {
            return Verdict::Stays(why);
        }
        if around.not_held(self.path_of(name).as_path(), &id, &self.above).is_err() {
            return Verdict::Stays(Stays::Mounted);
        }
        let mut unit = Unit::of(name.to_bytes(), &aged);
        let looked = if directory {
            self.walk(name, &id, &mut unit, uses)
        } else if id.kind == FileKind::File {
            uses.file(&self.top, name, id.key)
        } else {
            Ok(())
        };
        if let Err(blocked) = looked {
            return blocked.into();
        }
        entry.newest = unit.newest;
        entry.empty = directory && unit.entries == 1;
        entry.of_root |= unit.of_root;
        entry.holds_special = unit.special;
        let of_root = match judge(&entry, &self.rule.ages, now(), self.shared) {
            Ok(()) => false,
            Err(Stays::OfRoot) => true,
            Err(why) => return Verdict::Stays(why),
        };
        let class = match (directory, entry.empty) {
            (false, _) => Class::OldFile,
            (true, true) => Class::EmptyDir,
            (true, false) => Class::OldDir,
        };
        Verdict::Goes(Box::new(Candidate {
            name: HostText::new(name.to_bytes()),
            id,
            class,
            entries: unit.entries,
            bytes: Bytes(unit.bytes),
            linked: Bytes(unit.linked),
            newest: unit.newest,
            precious: unit.precious,
            of_root,
            left_out: None,
        }))
    }

    fn walk(&self, name: &CStr, id: &FileId, unit: &mut Unit, uses: &mut dyn Uses) -> Result<(), Blocked> {
        let dir = open_dir(&self.top, name)
            .map_err(|errno| Blocked::Problem(format!("it cannot be opened: {}", reason(errno))))?;
        // Let go when `dir` is closed. Some file systems have no locks.
        if let Err(Errno::WOULDBLOCK) = flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            return Err(Blocked::Locked);
        }
        unit.walk(&dir, id, uses)?;
        uses.directory(id.key)
    }
}

impl Unit {
    /// An entry of the swept directory, before anything in it.
    fn of(name: &[u8], aged: &file_id::Aged) -> Self {
        let mut unit = Self { newest: aged.newest, ..Self::default() };
        unit.add(name, aged);
        unit.entries = 1;
        if precious(name) {
            unit.precious = Some(HostText::new(name));
        }
        unit
    }
}
