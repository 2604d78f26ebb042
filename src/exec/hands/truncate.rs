//! Cuts a deleted file that is still open to nothing, through a holder's descriptor (SAFETY.md T15).
//!
//! `/proc/PID/fd/N` is opened for writing but without `O_TRUNC`, so nothing has happened yet when the file is
//! looked at: it must be the planned one, a regular file without any name, and nobody may have it mapped (a
//! process that touches a page that is gone dies of SIGBUS).
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{NotDone, Session};
use crate::domain::identity::{DevIno, FileId, FileKind, Pid, ProcId};
use crate::domain::receipt::Outcome;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::sys::file_id;
use crate::sys::mount_table::MountTable;
use crate::sys::procfs::{DELETED, Proc, ProcError, parse_maps};

/// Cuts the file to zero bytes.
pub fn deleted(
    session: &mut Session<'_>,
    holder: ProcId,
    fd: i32,
    planned: &FileId,
) -> Result<Outcome, NotDone> {
    let skip = |why: &str| Err(NotDone::Skip(why.to_owned()));
    let proc = &session.proc.clone();
    guards::still_there(proc, holder).map_err(NotDone::Skip)?;
    let name = format!("fd/{fd}");
    let link = proc.link(holder.pid, &name).map_err(|error| {
        NotDone::Skip(format!("{holder} does not hold descriptor {fd} any more: {error}"))
    })?;
    // The kernel's name for memory without a file system (memfd_create(2)).
    if link.starts_with(b"/memfd:") {
        return skip("it is memory (memfd), not a file on disk");
    }
    // NONBLOCK: should it be a fifo, opening it must not wait for a reader.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::open(proc.file(holder.pid, &name), flags, Mode::empty()))
        .map_err(|errno| match errno {
            Errno::NOENT => NotDone::Skip(format!("{holder} does not hold descriptor {fd} any more")),
            Errno::TXTBSY => NotDone::Skip("it is a program that runs; end the process instead".to_owned()),
            errno => NotDone::Fail(could_not("open it", errno)),
        })?;
    let now = file_id::of_fd(&file).map_err(|errno| NotDone::Fail(could_not("look at it", errno)))?;
    if now.key != planned.key {
        return skip("changed, skipped: the descriptor leads to another file now");
    }
    // A process that makes one temporary file after another is given the same inode and the same descriptor. What is
    // written to the file meanwhile changes its times, so they tell only where there is nothing better.
    planned.matches_inode(&now).map_err(|why| NotDone::Skip(format!("changed, skipped: {why}")))?;
    if !planned.is_told_from_others_by(&now) {
        return skip(
            "changed, skipped: it was written to since, and its file system keeps neither birth times nor file handles, so \
             nobody can say that it is the same file",
        );
    }
    if now.kind != FileKind::File {
        return skip("it is not a regular file");
    }
    if now.links != 0 {
        return skip("it still has a name somewhere (a hard link); delete that name instead");
    }
    session.around().kernel.none_holds(now.key, &[]).map_err(NotDone::Skip)?;
    let mode = rustix::fs::fstat(&file).map_or(0o777, |stat| stat.st_mode);
    if let Some(why) = mapped_by(proc, now.key, mode)? {
        return Err(NotDone::Skip(why));
    }
    retry_on_intr(|| rustix::fs::ftruncate(&file, 0))
        .map_err(|errno| NotDone::Fail(could_not("cut it to nothing", errno)))?;
    Ok(Outcome::Done { count: 1 })
}

/// Whether any process has the file mapped: a sentence if so.
fn mapped_by(proc: &Proc, key: DevIno, mode: u32) -> Result<Option<String>, NotDone> {
    let unknown = |error: ProcError| NotDone::Skip(format!("nobody can say whether it is mapped: {error}"));
    // Another user's process can have mapped it only if it was readable to others. Root may look at every process except,
    // where CAP_SYS_PTRACE was taken from it, those with more capabilities (the first process of a container); refusing
    // for those would refuse always.
    let others_may_have_it = !rustix::process::geteuid().is_root() && mode & 0o044 != 0;
    if others_may_have_it && MountTable::new(proc.own_mountinfo().map_err(unknown)?).hides_processes() {
        return Ok(Some(
            "whether it is mapped into memory is not known: processes of other users are hidden (hidepid); run unwedge as root"
                .to_owned(),
        ));
    }
    for pid in proc.pids().map_err(unknown)? {
        match maps(proc, pid, key) {
            Ok(true) => {
                return Ok(Some(format!(
                    "pid {pid} has it mapped into memory and would die of SIGBUS; end or restart that process instead"
                )));
            }
            Err(error) if error.is_denied() && others_may_have_it => {
                return Ok(Some(format!(
                    "whether pid {pid} has it mapped into memory may not be read; run unwedge as root"
                )));
            }
            // Not mapped there; or it has ended meanwhile, or cannot have it.
            Ok(false) | Err(_) => {}
        }
    }
    Ok(None)
}

fn maps(proc: &Proc, pid: Pid, key: DevIno) -> Result<bool, ProcError> {
    // The device in maps is not always the one that stat(2) gives (btrfs, overlayfs), so it is looked up through
    // map_files wherever the inode or a lost name fits.
    // Where its first thread has ended, that one shows no memory, and each of the others shows all of it.
    let mut shown = pid;
    if proc.stat(pid)?.has_first_thread_ended() {
        shown = proc.threads(pid)?.into_iter().find(|thread| *thread != pid).unwrap_or(pid);
    }
    for mapping in parse_maps(&proc.read(shown, "maps")?) {
        let same_inode = mapping.key.ino == key.ino;
        if !same_inode && !mapping.path.as_bytes().ends_with(DELETED) {
            continue;
        }
        match proc.target(shown, &format!("map_files/{}", mapping.range)) {
            Ok(there) if there == key => return Ok(true),
            // It cannot be told apart (map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE): the inode decides.
            Err(_) if same_inode => return Ok(true),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}
