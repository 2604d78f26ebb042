//! Sets a file or tree aside before it is removed, so that what is removed is what was looked at
//! (SAFETY.md T2) and nobody can move parts of it away meanwhile (T2b).
//!
//! Three ways, tried in this order:
//!
//! 1. **Quarantine**: a directory of mode 0700, ours, made beside the target (the same directory, so the same
//!    mount), and the target renamed into it. The name of the quarantine carries the id of the run, which is in
//!    the journal before the first change; a killed run can be told from a living one.
//! 2. **Hidden**, where no directory can be made (a full file system: measured on ext4, xfs, btrfs and tmpfs)
//!    or the target may not change its parent (overlayfs): the target is renamed to a name with chance in it
//!    within its own directory. For a file this is as good against replacement: an accidental writer does not
//!    know the name, and whoever puts something else under it on purpose could have removed that himself. A
//!    tree is then sealed ([`super::seal::Seal`]): its top becomes ours with mode 0700, which needs no block
//!    and keeps others out by path just as a quarantine does.
//! 3. **In place**, where not even that rename has room (full btrfs): a file only where nobody else can write to
//!    the directory; a tree sealed, or, where that fails too, only those of its directories that nobody else can
//!    write to.
//!
//! On overlayfs a rename copies a file of a lower layer up first: the disk gets fuller, and the copy has another birth time.
//! What is not of the upper layer alone is therefore taken in place, as in 3: removing it takes the room of one entry.
//!
//! After the rename the identity is compared again. Another file than the planned one is put back under its
//! name; if that name was taken meanwhile it is kept beside it under a name that says so.
//!
//! What remains: somebody who holds a *descriptor* of a directory inside the tree can still move entries out
//! of it while they are removed. Where the kernel has Landlock, what was moved out is out of reach then
//! ([`crate::sys::confine`]); elsewhere nothing stops that.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes; see the module's text")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, RenameFlags, linkat, mkdirat, renameat, renameat_with, statat, unlinkat};
use rustix::io::{self, Errno, retry_on_intr};

use super::NotDone;
use super::unused::is_overlay;
use crate::domain::identity::{FileId, FileKind};
use crate::domain::text::HostText;
use crate::exec::words::{could_not, explain};
use crate::sys::beneath::{Located, is_exclusive, open_child_dir};
use crate::sys::file_id;
use crate::sys::layers::is_of_upper_only;

/// The name of the target inside its quarantine.
const ITEM: &CStr = c"item";

/// A mode without a bit for the group or others ends in this many zeros.
const NO_OTHERS: u32 = 6;

/// How a target was set aside.
enum How {
    Quarantine { dir: OwnedFd, name: CString },
    Hidden { name: CString },
    InPlace,
}

/// A target that was set aside and is the planned one.
pub struct Held<'a> {
    located: &'a Located,
    kind: FileKind,
    step_name: String,
    how: How,
}

pub(super) fn make_quarantine(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    retry_on_intr(|| mkdirat(parent, name, Mode::RWXU))?;
    let opened = open_child_dir(parent, name).and_then(|dir| {
        let stat = rustix::fs::fstat(&dir)?;
        // Somebody who may rename in the parent could have put another directory there.
        let ours =
            stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode.trailing_zeros() >= NO_OTHERS;
        if ours { Ok(dir) } else { Err(Errno::PERM) }
    });
    if opened.is_err() {
        // Empty if it is ours; rmdir removes nothing else.
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
    opened
}

/// Renames to a name that only this run uses.
pub(super) fn rename_away(parent: &OwnedFd, name: &CStr, dir: impl AsFd, new: &CStr) -> io::Result<()> {
    match retry_on_intr(|| renameat_with(parent, name, dir.as_fd(), new, RenameFlags::NOREPLACE)) {
        // The file system does not know NOREPLACE (old NFS). Nobody else makes this name, so there is nothing
        // to be replaced.
        Err(Errno::INVAL) => retry_on_intr(|| renameat(parent, name, dir.as_fd(), new)),
        other => other,
    }
}

/// Renames back to a name that somebody may have taken meanwhile; never replaces anything.
pub fn rename_back(
    from: BorrowedFd<'_>,
    old: &CStr,
    parent: &OwnedFd,
    name: &CStr,
    kind: FileKind,
) -> io::Result<()> {
    match retry_on_intr(|| renameat_with(from, old, parent, name, RenameFlags::NOREPLACE)) {
        // A directory can only replace an empty directory (rename(2)).
        Err(Errno::INVAL) if kind == FileKind::Directory => {
            retry_on_intr(|| renameat(from, old, parent, name))
        }
        Err(Errno::INVAL) => {
            linkat(from, old, parent, name, AtFlags::empty())?;
            unlinkat(from, old, AtFlags::empty())
        }
        other => other,
    }
}

/// No room for the change, or this file system cannot do it: another way may work.
fn may_work_otherwise(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOSPC
            | Errno::DQUOT
            | Errno::XDEV
            | Errno::MLINK
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NOENT
            | Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::NAMETOOLONG
    )
}

/// Whether what is there now is what was planned: [`FileId::matches`], or a more lenient question.
pub type Compare = fn(&FileId, &FileId) -> Result<(), String>;

/// Sets the target aside and compares its identity again.
///
/// # Errors
/// Skipped where it is gone or another file has its name; failed where the kernel says no.
pub fn set_aside<'a>(
    located: &'a Located,
    planned: &FileId,
    same: Compare,
    set_aside: &str,
    step: usize,
) -> Result<Held<'a>, NotDone> {
    let step_name = format!("{set_aside}-{step}");
    let name = CString::new(step_name.as_str()).map_err(|_| NotDone::Fail("bad name".to_owned()))?;
    let how = choose(located, planned, name)?;
    let held = Held { located, kind: planned.kind, step_name, how };
    let (dir, name) = held.place();
    let now = file_id::of_entry(dir, name);
    let verdict = match &now {
        Ok(now) => same(planned, now),
        Err(errno) => Err(explain(*errno)),
    };
    match verdict {
        Ok(()) => Ok(held),
        Err(why) => {
            let kind = now.map_or(planned.kind, |now| now.kind);
            let back = Held { kind, ..held }.put_back();
            Err(match back {
                Ok(None) => NotDone::Skip(format!("changed, skipped: {why}; it was put back")),
                Ok(Some(kept)) | Err(kept) => NotDone::Fail(format!("changed, skipped: {why}; {kept}")),
            })
        }
    }
}

fn choose(located: &Located, planned: &FileId, name: CString) -> Result<How, NotDone> {
    let gone = || NotDone::Skip("it is not there any more".to_owned());
    let there = || file_id::of_entry(&located.parent, &located.name).is_ok();
    if must_stay_in_place(located, planned)? {
        return Ok(How::InPlace);
    }
    if let Ok(dir) = make_quarantine(&located.parent, &name) {
        match rename_away(&located.parent, &located.name, &dir, ITEM) {
            Ok(()) => return Ok(How::Quarantine { dir, name }),
            Err(errno) => {
                drop(dir);
                let _ = unlinkat(&located.parent, &name, AtFlags::REMOVEDIR);
                if errno == Errno::NOENT && !there() {
                    return Err(gone());
                }
                if !may_work_otherwise(errno) {
                    return Err(NotDone::Fail(could_not("set it aside", errno)));
                }
            }
        }
    }
    match rename_away(&located.parent, &located.name, &located.parent, &name) {
        Ok(()) => Ok(How::Hidden { name }),
        Err(Errno::NOENT) => Err(gone()),
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => Err(NotDone::Fail(could_not("remove it", errno))),
        Err(errno) if may_work_otherwise(errno) => {
            if planned.kind != FileKind::Directory && !is_exclusive(&located.parent) {
                return Err(NotDone::Fail(format!(
                    "it cannot be set aside ({}) and other users can write to its directory, so it could be \
                     swapped for another file at the last moment; free something else first",
                    explain(errno)
                )));
            }
            Ok(How::InPlace)
        }
        Err(errno) => Err(NotDone::Fail(could_not("set it aside", errno))),
    }
}

/// Whether a rename would copy it up from a lower layer of an overlay.
fn must_stay_in_place(located: &Located, planned: &FileId) -> Result<bool, NotDone> {
    let Located { parent, name } = located;
    if !is_overlay(parent) {
        return Ok(false);
    }
    match is_of_upper_only(parent, name) {
        // A tree is sealed, or only those of its directories emptied that nobody else can write to.
        Some(false) | None if planned.kind == FileKind::Directory || only_we_replace(parent, name) => Ok(true),
        // If the kernel does not say: nearly everything that lies where others can write was made there.
        Some(true) | None => Ok(false),
        Some(false) => Err(NotDone::Fail(
            "it is of a lower layer, such as a container's image, so it cannot be set aside without a copy of it, and other \
             users can write to its directory, so it could be swapped for another file at the last moment; free something \
             else first"
                .to_owned(),
        )),
    }
}

/// Whether nobody but us and root can put another file in the place of this one: by the directory, or because it is sticky
/// and the file ours or root's (`S_ISVTX` in inode(7)).
fn only_we_replace(parent: &OwnedFd, name: &CStr) -> bool {
    let ours = |uid: u32| uid == 0 || uid == rustix::process::geteuid().as_raw();
    let of_sticky = || {
        let above = rustix::fs::fstat(parent)?;
        let file = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok::<_, Errno>(above.st_mode & libc::S_ISVTX != 0 && ours(above.st_uid) && ours(file.st_uid))
    };
    is_exclusive(parent) || of_sticky().unwrap_or(false)
}

impl Held<'_> {
    /// Where the target is now: a directory and the name in it.
    pub fn place(&self) -> (BorrowedFd<'_>, &CStr) {
        match &self.how {
            How::Quarantine { dir, .. } => (dir.as_fd(), ITEM),
            How::Hidden { name } => (self.located.parent.as_fd(), name),
            How::InPlace => (self.located.parent.as_fd(), &self.located.name),
        }
    }

    /// Whether it is where others cannot reach it by path.
    pub fn is_shut_off(&self) -> bool {
        matches!(self.how, How::Quarantine { .. })
    }

    /// Puts the target back under its name.
    ///
    /// # Errors
    /// `Ok(Some)` where the name was taken and it is kept under another one, `Err` where it stays where it was
    /// set aside: a sentence that says where.
    pub fn put_back(self) -> Result<Option<String>, String> {
        let (from, old) = self.place();
        let Located { parent, name } = self.located;
        let result = match self.how {
            How::InPlace => return Ok(None),
            How::Quarantine { .. } | How::Hidden { .. } => rename_back(from, old, parent, name, self.kind),
        };
        let kept = match result {
            Ok(()) => None,
            Err(errno) => {
                Some(keep_beside((from, old), (parent, name), self.kind, (&self.step_name, errno))?)
            }
        };
        let _ = self.close();
        Ok(kept)
    }

    /// Removes the emptied quarantine.
    ///
    /// # Errors
    /// A sentence that says what is left.
    pub fn close(self) -> Result<(), String> {
        let How::Quarantine { dir, name } = &self.how else { return Ok(()) };
        remove_emptied(&self.located.parent, dir, name)
    }
}

/// Gives something that was set aside another name beside its old one, which was taken meanwhile. Says which.
pub(super) fn keep_beside(
    (from, old): (BorrowedFd<'_>, &CStr),
    (parent, name): (&OwnedFd, &CStr),
    kind: FileKind,
    (step_name, errno): (&str, Errno),
) -> Result<String, String> {
    // Room for the suffix in the 255 bytes that a name may have (NAME_MAX, linux/limits.h).
    let bytes = name.to_bytes();
    let head = bytes.get(..bytes.len().min(180)).unwrap_or_default();
    let other = [head, b".kept", step_name.as_bytes()].concat();
    let shown = HostText::new(other.clone());
    let other = CString::new(other).unwrap_or_default();
    match rename_back(from, old, parent, &other, kind) {
        Ok(()) => Ok(format!("its name was taken meanwhile, so it is kept beside it as {shown}")),
        Err(_) => Err(format!(
            "it could not be put back ({}) and is kept beside its old place in {step_name}",
            explain(errno)
        )),
    }
}

/// Removes an emptied quarantine.
pub(super) fn remove_emptied(parent: &OwnedFd, dir: &OwnedFd, name: &CStr) -> Result<(), String> {
    let shown = HostText::new(name.to_bytes());
    let same = file_id::of_fd(dir)
        .and_then(|ours| Ok(ours.key == file_id::of_entry(parent, name)?.key))
        .unwrap_or(false);
    if !same {
        return Err(format!("somebody moved the empty directory {shown} away"));
    }
    retry_on_intr(|| unlinkat(parent, name, AtFlags::REMOVEDIR))
        .map_err(|errno| format!("the directory {shown} is left beside it: {}", explain(errno)))
}
