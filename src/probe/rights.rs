//! Whether a change can be made by who we are.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::Context;
use crate::domain::op::Op;

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

/// Whether entries of a directory can be made and removed.
fn may_change(dir: &Path) -> bool {
    accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}
