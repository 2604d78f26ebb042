//! Takes out of a plan what only root, or another user, can do, and says how it is done: nothing asks for a password.

use super::not_now::refuse_steps;
use crate::domain::op::Op;
use crate::domain::own_command::OwnCommand;
use crate::domain::plan::Plan;

/// Whether this user cannot make a change whatever the machine is like.
fn needs_another(op: &Op, uid: u32) -> bool {
    match op {
        _ if uid == 0 => false,
        Op::Run { command, .. } => command.for_sudo(uid).is_some(),
        // mount(2), umount2(2): CAP_SYS_ADMIN.
        Op::Unmount { .. } | Op::RemoveEmptyDir { .. } => true,
        // kill(2): the same user.
        Op::Signal { target, .. } | Op::SignalGroup { leader: target, .. } => target.uid != uid,
        // Whom the file, or its directory, belongs to is seen when it is opened.
        Op::RemoveFile { .. }
        | Op::RemoveTree { .. }
        | Op::PutBack { .. }
        | Op::RestoreAccess { .. }
        | Op::Evacuate { .. }
        | Op::RotateLog { .. }
        | Op::Sweep { .. }
        | Op::KeepName { .. }
        | Op::TruncateDeleted { .. } => false,
    }
}

/// Moves the steps to what is refused that this user cannot run whatever the machine is like.
pub fn refuse(plan: &mut Plan, uid: u32) {
    refuse_where(plan, uid, |op| needs_another(op, uid));
}

/// The line to paste for a change that only root can make here: the owner's own command, or one of ours that keeps every
/// guard. None if no line says exactly this.
pub fn for_root(op: &Op, again: Option<&OwnCommand>, uid: u32) -> Option<String> {
    let own = match op {
        Op::Run { command, .. } => {
            return Some(command.for_sudo(uid).unwrap_or_else(|| format!("sudo {command}")));
        }
        Op::RemoveFile { path, .. } | Op::RemoveTree { path, .. } => OwnCommand::delete(vec![path.clone()]),
        Op::Sweep { path, sweep, .. } => Some(sweep.command(path)),
        Op::PutBack { .. }
        | Op::RestoreAccess { .. }
        | Op::Signal { .. }
        | Op::SignalGroup { .. }
        | Op::Unmount { .. }
        | Op::RemoveEmptyDir { .. }
        | Op::Evacuate { .. }
        | Op::RotateLog { .. }
        | Op::KeepName { .. }
        | Op::TruncateDeleted { .. } => None,
    };
    own.as_ref().or(again).map(OwnCommand::as_root)
}

/// Moves the steps to what is refused that need another user, each with the line to paste.
pub fn refuse_where(plan: &mut Plan, uid: u32, needs_another: impl Fn(&Op) -> bool) {
    refuse_steps(plan, |plan, step| {
        needs_another(&step.op).then(|| {
            let how = for_root(&step.op, plan.again.as_ref(), uid).map_or_else(
                || "run unwedge with sudo and choose it there".to_owned(),
                |line| format!("run unwedge with sudo, or: {line}"),
            );
            format!("only root can do that; {how}")
        })
    });
}
