//! Whether a change can be made by who we are.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};

use super::Context;
use crate::domain::op::Op;
use crate::sys::beneath::{self, is_exclusive};

/// Whether only root can make this change. A guess from what the directory allows; the change itself may still be
/// refused.
pub fn needs_root(context: &Context<'_>, op: &Op) -> bool {
    if context.environment.is_root() {
        return false;
    }
    match op {
        Op::RemoveFile { path, .. }
        | Op::RemoveTree { path, .. }
        | Op::Evacuate { path, .. }
        | Op::PutBack { to: path, .. } => !may_change(path.as_path().parent().unwrap_or(Path::new("/"))),
        Op::Sweep { path, .. } => !may_change(path.as_path()),
        // chown(2), chmod(2): the owner, who is nobody else; the kernel says no to all others.
        Op::RestoreAccess { .. } => false,
        // What is not there yet is made.
        Op::KeepName { file, .. } => {
            let there = file.as_path().ancestors().skip(1).find(|dir| std::fs::symlink_metadata(dir).is_ok());
            !may_change(there.unwrap_or(Path::new("/")))
        }
        Op::RotateLog { path, .. } => {
            accessat(CWD, path.as_path(), Access::WRITE_OK, AtFlags::EACCESS).is_err()
        }
        Op::Signal { target, .. } | Op::SignalGroup { leader: target, .. } => {
            target.uid != context.environment.uid
        }
        Op::Run { command, .. } => command.for_sudo(context.environment.uid).is_some(),
        // CAP_SYS_ADMIN (umount2(2)).
        Op::Unmount { .. } | Op::RemoveEmptyDir { .. } => true,
        // Shown to its owner and to root only (proc(5)).
        Op::TruncateDeleted { holder, .. } => {
            accessat(CWD, format!("/proc/{}/fd", holder.pid), Access::READ_OK, AtFlags::EACCESS).is_err()
        }
    }
}

/// Why a directory cannot take copies of files; none where nothing speaks against it.
pub fn unfit_for_copies(context: &Context<'_>, dir: &Path) -> Option<String> {
    if let Err(why) = super::answers(context, dir, super::Looking::Into) {
        return Some(why);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, dir, flags, Mode::empty()) {
        Err(errno) => Some(format!("it cannot be opened: {errno}")),
        Ok(_) if !may_change(dir) => {
            Some("only its owner and root can write to it; run unwedge with sudo".to_owned())
        }
        Ok(opened) if !is_exclusive(&opened) => {
            Some("other users can write to it and could swap the copy".to_owned())
        }
        Ok(_) => None,
    }
}

/// Why a file that was moved away could not be moved back into its directory; none if nothing speaks against it.
pub fn no_way_back(path: &Path) -> Option<String> {
    let located = match beneath::open_parent(path) {
        Ok(located) => located,
        Err(error) => return Some(error.to_string()),
    };
    match rustix::fs::statat(&located.parent, &located.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => beneath::takes_back(&located.parent, stat.st_uid).err(),
        Err(errno) => Some(format!("it cannot be looked at: {errno}")),
    }
}

/// Why a file cannot be cut to its last lines; none where nothing speaks against it. The change itself asks again.
pub fn unfit_for_rotation(path: &Path) -> Option<String> {
    match beneath::open_parent(path) {
        Ok(located) => beneath::only_system_renames(&located.parent).err(),
        Err(error) => Some(error.to_string()),
    }
}

/// Whether entries of a directory can be made and removed.
fn may_change(dir: &Path) -> bool {
    accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}
