//! Takes out of a plan what only root, or another user, can do, and says how it is done: nothing asks for a password.

use crate::domain::finding::Reclaim;
use crate::domain::op::Op;
use crate::domain::plan::{Plan, Refusal, When};
use crate::domain::text::shell_quote;

/// The line to paste where this user cannot make a change; none where that is not known beforehand.
fn line(op: &Op, uid: u32) -> Option<String> {
    match op {
        _ if uid == 0 => None,
        Op::Run { command, .. } => command.for_sudo(uid),
        // mount(2), umount2(2): CAP_SYS_ADMIN.
        Op::Unmount { .. } | Op::RemoveEmptyDir { .. } => Some(format!("sudo {op}")),
        // kill(2): the same user.
        Op::Signal { target, .. } | Op::SignalGroup { leader: target, .. } => {
            (target.uid != uid).then(|| format!("sudo {op}"))
        }
        // Whom the file, or its directory, belongs to is seen when it is opened.
        Op::RemoveFile { .. }
        | Op::RemoveTree { .. }
        | Op::PutBack { .. }
        | Op::Evacuate { .. }
        | Op::RotateLog { .. }
        | Op::Sweep { .. }
        | Op::TruncateDeleted { .. } => None,
    }
}

/// Moves the steps to what is refused that this user cannot run whatever the machine is like.
pub(super) fn refuse(plan: &mut Plan, uid: u32) {
    refuse_where(plan, |op| line(op, uid));
}

/// The line to paste for a change that only root can make here.
pub fn for_root(op: &Op, uid: u32) -> String {
    match op {
        Op::Run { command, .. } => command.for_sudo(uid).unwrap_or_else(|| format!("sudo {op}")),
        // Lines of several commands.
        Op::Evacuate { .. } | Op::RotateLog { .. } | Op::SignalGroup { .. } => {
            format!("sudo sh -c {}", shell_quote(op.to_string().as_bytes()))
        }
        _ => format!("sudo {op}"),
    }
}

/// Moves the steps to what is refused for which there is a line to paste.
pub fn refuse_where(plan: &mut Plan, line: impl Fn(&Op) -> Option<String>) {
    let before = plan.steps.len();
    let mut kept = Vec::new();
    for step in std::mem::take(&mut plan.steps) {
        match line(&step.op) {
            None => kept.push(step),
            // What depends on the first step of its group is not worth a line of its own.
            Some(line) if step.when == When::Always => plan.refused.push(Refusal {
                what: step.why,
                why: format!("only root can do that; run unwedge with sudo, or: {line}"),
            }),
            Some(_) => {}
        }
    }
    plan.steps = kept;
    if plan.steps.len() == before {
        return;
    }
    if plan.steps.is_empty() {
        plan.reclaim = Reclaim::Nothing;
        plan.verify.clear();
    } else if let Reclaim::Exact { bytes } | Reclaim::Range { high: bytes, .. } = plan.reclaim {
        plan.reclaim = Reclaim::Range { low: crate::domain::size::Bytes::ZERO, high: bytes };
    }
}
