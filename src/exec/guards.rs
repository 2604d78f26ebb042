//! The checks made just before a change, on the machine as it is then: one function per [`Guard`].
//!
//! A plan lists its guards so that they can be shown; [`required`] says which ones hold for a change whatever
//! the plan lists.

use std::os::fd::AsFd;
use std::path::Path;

use crate::config::{Environment, load};
use crate::domain::command::ToolTarget;
use crate::domain::identity::{DevIno, FileId, FileKind, MountId, Pid, ProcId};
use crate::domain::op::{Op, ProcessTarget};
use crate::domain::plan::Guard;
use crate::domain::protect::ProtectSet;
use crate::domain::text::HostPath;
use crate::probe;
use crate::sys::mount_table::MountTable;
use crate::sys::mounts_below::Below;
use crate::sys::procfs::{Proc, ProcError, Stat};
use crate::sys::{beneath, file_id};

/// The guards that hold for a change, whatever its plan lists.
pub fn required(op: &Op) -> &'static [Guard] {
    match op {
        Op::RemoveFile { .. } | Op::RemoveTree { .. } => {
            &[Guard::SameFile, Guard::NotProtected, Guard::NoMountsBelow, Guard::Writable]
        }
        Op::PutBack { over: None, .. } => &[Guard::SameFile, Guard::NameFree, Guard::Writable],
        Op::RestoreAccess { .. } => &[Guard::SameFile, Guard::Writable],
        Op::PutBack { over: Some(_), .. } => &[Guard::SameFile, Guard::NotInUse, Guard::Writable],
        Op::Signal { .. } | Op::SignalGroup { .. } => &[Guard::SameProcess, Guard::NotOurselves],
        Op::Run { target, .. } => match target {
            ToolTarget::Chosen => &[],
            ToolTarget::Image { .. } | ToolTarget::Container { .. } => {
                &[Guard::NothingBuilds, Guard::StillUnused]
            }
            ToolTarget::Volume { .. } => &[Guard::StillUnused],
            ToolTarget::Cache { .. } => &[Guard::NotBusy],
        },
        Op::Unmount { .. } => &[Guard::TopMount],
        Op::RemoveEmptyDir { .. } => &[Guard::NotProtected, Guard::NoMountsBelow],
        Op::Evacuate { .. } => {
            &[Guard::SameFile, Guard::NotProtected, Guard::NoMountsBelow, Guard::Writable, Guard::NotInUse]
        }
        Op::Sweep { .. } => &[
            Guard::NotProtected,
            Guard::NoMountsBelow,
            Guard::Writable,
            Guard::NotInUse,
            Guard::Old,
            Guard::Bounded,
        ],
        Op::RotateLog { .. } => &[Guard::SameLog, Guard::NotProtected, Guard::Writable],
        Op::KeepName { .. } => &[Guard::Writable, Guard::OwnConfig],
        Op::TruncateDeleted { .. } => &[Guard::StillDeleted],
    }
}

/// [`Guard::SameFile`].
///
/// # Errors
/// What changed, as a sentence.
pub fn same_file(planned: &FileId, now: &FileId) -> Result<(), String> {
    planned.matches_untouched(now).map_err(|why| format!("changed, skipped: {why}"))
}

/// [`Guard::SameLog`].
///
/// # Errors
/// What changed or what is wrong with it, as a sentence.
pub fn same_log(planned: &FileId, now: &FileId, parent: impl std::os::fd::AsFd) -> Result<(), String> {
    planned.matches_inode(now).map_err(|why| format!("changed, skipped: {why}"))?;
    if now.kind != FileKind::File {
        return Err("it is not a regular file".to_owned());
    }
    if now.links != 1 {
        return Err(format!("it has {} names (hard links); another program may count on it", now.links));
    }
    beneath::only_system_renames(parent)
}

/// [`Guard::OwnConfig`] of a directory, as far as it is there, and all above it.
///
/// # Errors
/// What is wrong with which, as a sentence.
pub fn own_config(environment: &Environment, dir: &Path) -> Result<(), String> {
    load::safe_dir(environment, dir)
}

/// [`Guard::OwnConfig`] of a file or directory that is open.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn own_config_part(environment: &Environment, part: impl AsFd) -> Result<(), String> {
    let opened = part.as_fd().try_clone_to_owned().map(std::fs::File::from);
    let meta = opened
        .and_then(|file| file.metadata())
        .map_err(|error| format!("it cannot be looked at: {error}"))?;
    load::safe_part(environment, &meta)
}

/// [`Guard::NotProtected`] for the log of a container, which lies in a store that is protected with everything in it.
/// Cutting its log is what the engine does itself (`--log-opt max-size`), so only what has the name of one may be cut.
///
/// # Errors
/// Why it is refused, as a sentence.
pub fn container_log(protect: &ProtectSet, key: DevIno, name: &std::ffi::CStr) -> Result<(), String> {
    protect.check(key, &[])?;
    let name = name.to_bytes();
    if name.ends_with(b"-json.log") || name == b"ctr.log" {
        return Ok(());
    }
    Err("it does not have the name of a container's log".to_owned())
}

/// An opened directory with all that it is in, for the guards that ask what something is in.
///
/// # Errors
/// That it could not be looked at, as a sentence.
pub fn with_ancestors(dir: impl std::os::fd::AsFd) -> Result<Vec<DevIno>, String> {
    beneath::with_ancestors(dir).map_err(|error| {
        format!(
            "the directories above it could not be looked at, so nobody can say that it is not protected: {error}"
        )
    })
}

/// [`Guard::NotProtected`]: the thing, and every directory above it by every name the mounts of this namespace
/// give it. `above` are the directories above it by the name that it was found by.
///
/// # Errors
/// Why it is refused, as a sentence.
pub fn not_protected(
    protect: &ProtectSet,
    key: DevIno,
    above: &[DevIno],
    path: &HostPath,
    mount: MountId,
    own: &MountTable,
) -> Result<(), String> {
    protect.check(key, above)?;
    // A bind mount gives the same file another line of ancestors: look at those too.
    for alias in own.other_names(path.as_path(), mount.id) {
        let alias = HostPath::from(alias);
        let Ok(located) = beneath::open_parent(alias.as_path()) else { continue };
        // Something mounted on top may hide it there; then that name means another file.
        if !file_id::of_entry(&located.parent, &located.name).is_ok_and(|id| id.key == key) {
            continue;
        }
        protect
            .check(key, &with_ancestors(&located.parent)?)
            .map_err(|why| format!("it is also {alias}, and {why}"))?;
    }
    Ok(())
}

/// [`Guard::NoMountsBelow`].
///
/// # Errors
/// What is mounted where, as a sentence.
pub fn no_mounts_below(below: &Below, path: &HostPath, mount: MountId) -> Result<(), String> {
    below.at_or_below(path.as_path(), mount)?.first().map_or(Ok(()), |found| Err(found.to_string()))
}

/// [`Guard::SameProcess`]. To be asked only after the pidfd is open (SAFETY.md T16).
///
/// # Errors
/// What changed, as a sentence.
pub fn same_process(proc: &Proc, target: &ProcessTarget) -> Result<(), String> {
    let pid = target.id.pid;
    let cannot = |what: &str, error: ProcError| {
        format!(
            "{} of {} cannot be read, so nobody can say that it is the same process: {error}",
            what, target.id
        )
    };
    let stat = still_there(proc, target.id)?;
    if stat.is_dead() {
        return Err(format!("{} has ended already and waits for its parent, pid {}", target.id, stat.parent));
    }
    if let Some(exe) = target.exe {
        let now = proc.exe(pid).map_err(|error| cannot("the executable", error))?;
        if now != exe {
            return Err(format!("{} runs another program now", target.id));
        }
    }
    if !target.cgroup.is_empty() {
        let now = proc.cgroup(pid).map_err(|error| cannot("the cgroup", error))?;
        if now != target.cgroup {
            return Err(format!("{} was moved to another cgroup", target.id));
        }
    }
    // One interpreter, or one busybox, is many programs; the name that it was known by is in its arguments.
    let arguments = proc.command_line(pid).map_err(|error| cannot("the command line", error))?;
    if arguments != target.arguments {
        return Err(format!("{} runs another command line now", target.id));
    }
    let user = proc.uid(pid).map_err(|error| cannot("the user", error))?;
    if user == target.uid { Ok(()) } else { Err(format!("{} runs as another user now", target.id)) }
}

/// [`Guard::SameProcess`]: whether a pidfd that was opened by number is of the process that `/proc` shows under that
/// number. It is not where `/proc` is that of another pid namespace than ours.
///
/// # Errors
/// A sentence.
pub fn same_numbers(proc: &Proc, id: ProcId, pidfd: impl std::os::fd::AsFd) -> Result<(), String> {
    match proc.pid_of(pidfd) {
        Ok(pid) if pid == id.pid => Ok(()),
        Ok(Pid(-1)) => Err(format!("{id} has ended already")),
        Ok(_) => Err(format!(
            "another process has the number of {id} for us: /proc is that of another pid namespace; mount the right one \
             (mount -t proc proc /proc), or run unwedge outside"
        )),
        Err(error) => Err(format!("nobody can say which process {id} is for us: {error}")),
    }
}

/// Whether a process is still the one that was meant, by when it started.
///
/// # Errors
/// Why not, as a sentence.
pub fn still_there(proc: &Proc, id: ProcId) -> Result<Stat, String> {
    match proc.stat(id.pid) {
        Ok(now) if now.start == id.start => Ok(now),
        Ok(_) => Err(format!("{id} is another process now: the one that was shown has ended")),
        Err(error) => Err(format!("{id} cannot be looked at, it may have ended: {error}")),
    }
}

/// [`Guard::NotOurselves`].
///
/// # Errors
/// What it is, as a sentence.
pub fn not_ourselves(proc: &Proc, pid: Pid) -> Result<(), String> {
    if pid.0 <= 1 {
        return Err(format!("pid {pid} is the first process of the machine; it is never ended"));
    }
    let line = proc.ourselves();
    let Some(us) = line.first() else {
        return Err(
            "which process this program is cannot be read: /proc is that of another pid namespace; mount \
                    the right one (mount -t proc proc /proc)"
                .to_owned(),
        );
    };
    if *us == pid {
        return Err(format!("pid {pid} is this program"));
    }
    if line.contains(&pid) {
        return Err(format!("pid {pid} started this program; ending it would end your session"));
    }
    if proc.stat(pid).is_ok_and(|stat| stat.is_kernel_thread()) {
        return Err(format!("pid {pid} is a thread of the kernel"));
    }
    Ok(())
}

/// [`Guard::NotBusy`].
///
/// # Errors
/// What is busy, as a sentence.
pub fn not_busy(
    context: &probe::Context<'_>,
    entry: &str,
    path: &Path,
    home: Option<&Path>,
) -> Result<(), String> {
    match probe::caches::busy(context, entry, path, home)?.first() {
        None => Ok(()),
        Some(reason) => Err(format!("not now: {}", reason.fact)),
    }
}

/// [`Guard::NotBusy`] of something that is deleted: judged by every entry of the catalogue that it may belong to.
///
/// # Errors
/// What is busy, as a sentence.
pub fn not_busy_at(context: &probe::Context<'_>, path: &Path) -> Result<(), String> {
    match probe::caches::busy_at(context, path)?.first() {
        None => Ok(()),
        Some(reason) => Err(format!("not now: {}", reason.fact)),
    }
}

/// [`Guard::TopMount`]: `now` is the mount seen at the mount point.
///
/// # Errors
/// What is there instead, as a sentence.
pub fn top_mount(
    planned: MountId,
    point: &HostPath,
    now: MountId,
    mounts: &MountTable,
) -> Result<(), String> {
    if planned.same_mount(now) {
        return Ok(());
    }
    Err(if mounts.by_id(planned.id).is_none() {
        format!("nothing to do: {planned} is not mounted at {point} any more")
    } else {
        format!("another mount ({}) is on top at {point}; that one is not touched", now.id)
    })
}
