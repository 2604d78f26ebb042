//! The checks made just before a change, on the machine as it is then: one function per [`Guard`].
//!
//! A plan lists its guards so that they can be shown; [`required`] says which ones hold for a change whatever
//! the plan lists.

use std::path::Path;

use crate::domain::identity::{DevIno, FileId, MountId, Pid};
use crate::domain::op::{Op, ProcessTarget};
use crate::domain::plan::Guard;
use crate::domain::protect::ProtectSet;
use crate::domain::text::HostPath;
use crate::exec::mountinfo::{self, Listing};
use crate::exec::procinfo;
use crate::sys::{beneath, file_id};

/// The guards that hold for a change, whatever its plan lists.
pub fn required(op: &Op) -> &'static [Guard] {
    match op {
        Op::RemoveFile { .. } | Op::RemoveTree { .. } => {
            &[Guard::SameFile, Guard::NotProtected, Guard::NoMountsBelow, Guard::Writable]
        }
        Op::Signal { .. } => &[Guard::SameProcess, Guard::NotOurselves],
        Op::Unmount { .. } => &[Guard::TopMount],
        Op::RemoveEmptyDir { .. } => &[Guard::NotProtected, Guard::NoMountsBelow],
        Op::TruncateDeleted { .. } => &[Guard::StillDeleted],
    }
}

/// [`Guard::SameFile`].
///
/// # Errors
/// What changed, as a sentence.
pub fn same_file(planned: &FileId, now: &FileId) -> Result<(), String> {
    planned.matches(now).map_err(|why| format!("changed, skipped: {why}"))
}

/// [`Guard::NotProtected`]: the thing, and every directory above it by every name the mounts of this namespace
/// give it. `parent` is the opened directory above it.
///
/// # Errors
/// Why it is refused, as a sentence.
pub fn not_protected(
    protect: &ProtectSet,
    key: DevIno,
    parent: impl std::os::fd::AsFd,
    path: &HostPath,
    mount: MountId,
    own: &Listing,
) -> Result<(), String> {
    let cannot = |error: rustix::io::Errno| {
        format!(
            "the directories above it could not be looked at, so nobody can say that it is not protected: {error}"
        )
    };
    protect.check(key, &beneath::with_ancestors(parent).map_err(cannot)?)?;
    // A bind mount gives the same file another line of ancestors: look at those too.
    for alias in mountinfo::other_names(own, path.as_bytes(), mount) {
        let alias = HostPath::from_bytes(alias);
        let Ok(located) = beneath::open_parent(alias.as_path()) else { continue };
        // Something mounted on top may hide it there; then that name means another file.
        if !file_id::of_entry(&located.parent, &located.name).is_ok_and(|id| id.key == key) {
            continue;
        }
        protect
            .check(key, &beneath::with_ancestors(&located.parent).map_err(cannot)?)
            .map_err(|why| format!("it is also {alias}, and {why}"))?;
    }
    Ok(())
}

/// [`Guard::NoMountsBelow`].
///
/// # Errors
/// What is mounted where, as a sentence.
pub fn no_mounts_below(listings: &[Listing], path: &HostPath, mount: MountId) -> Result<(), String> {
    match mountinfo::at_or_below(listings, path.as_bytes(), mount)? {
        None => Ok(()),
        Some(found) => Err(match found.elsewhere {
            None => format!("something is mounted at {}; unmount it first", found.point),
            Some(namespace) => format!(
                "in another mount namespace ({}) something is mounted on it, seen there as {}; removing it would \
                 unmount that silently",
                namespace.0, found.point
            ),
        }),
    }
}

/// [`Guard::Writable`]. Mount options are asked, not the file system: a dead server cannot hang this.
///
/// # Errors
/// A sentence.
pub fn writable(own: &Listing, mount: MountId) -> Result<(), String> {
    match own.entry(mount.id) {
        Some(entry) if entry.read_only => Err(format!(
            "the file system at {} is read-only; look into the kernel log for why",
            HostPath::from_bytes(entry.point.clone())
        )),
        Some(_) => Ok(()),
        None => Err(format!("{mount} is not mounted here any more")),
    }
}

/// [`Guard::SameProcess`]. To be asked only after the pidfd is open (SAFETY.md T16).
///
/// # Errors
/// What changed, as a sentence.
pub fn same_process(proc_root: &Path, target: &ProcessTarget) -> Result<(), String> {
    let pid = target.id.pid;
    let cannot = |what: &str, error: std::io::Error| {
        format!(
            "{} of {} cannot be read, so nobody can say that it is the same process: {error}",
            what, target.id
        )
    };
    let stat = procinfo::same(proc_root, target.id)?;
    if stat.state == 'Z' {
        return Err(format!("{} has ended already and waits for its parent, pid {}", target.id, stat.parent));
    }
    if let Some(exe) = target.exe {
        let now = procinfo::exe(proc_root, pid).map_err(|error| cannot("the executable", error))?;
        if now != exe {
            return Err(format!("{} runs another program now", target.id));
        }
    }
    if !target.cgroup.is_empty() {
        let now = procinfo::cgroups(proc_root, pid).map_err(|error| cannot("the cgroup", error))?;
        if !now.iter().any(|path| path == target.cgroup.as_bytes()) {
            return Err(format!("{} was moved to another cgroup", target.id));
        }
    }
    let users = procinfo::uid(proc_root, pid).map_err(|error| cannot("the user", error))?;
    if users.contains(&target.uid) { Ok(()) } else { Err(format!("{} runs as another user now", target.id)) }
}

/// [`Guard::NotOurselves`].
///
/// # Errors
/// What it is, as a sentence.
pub fn not_ourselves(proc_root: &Path, pid: Pid) -> Result<(), String> {
    if pid.0 <= 1 {
        return Err(format!("pid {pid} is the first process of the machine; it is never ended"));
    }
    let line = procinfo::ourselves(proc_root);
    if line.first() == Some(&pid) {
        return Err(format!("pid {pid} is this program"));
    }
    if line.contains(&pid) {
        return Err(format!("pid {pid} started this program; ending it would end your session"));
    }
    if procinfo::stat(proc_root, pid).is_ok_and(|stat| stat.kernel) {
        return Err(format!("pid {pid} is a thread of the kernel"));
    }
    Ok(())
}

/// [`Guard::TopMount`]: `now` is the mount seen at the mount point.
///
/// # Errors
/// What is there instead, as a sentence.
pub fn top_mount(planned: MountId, point: &HostPath, now: MountId, listing: &Listing) -> Result<(), String> {
    if planned.same_mount(now) {
        return Ok(());
    }
    Err(if listing.entry(planned.id).is_none() {
        format!("nothing to do: {planned} is not mounted at {point} any more")
    } else {
        format!("another mount ({}) is on top at {point}; that one is not touched", now.id)
    })
}
