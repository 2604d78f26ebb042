//! Ends builds with everything they started: TERM to each member of their process groups, a grace period, KILL.

use super::end_process;
use crate::config::Settings;
use crate::domain::finding::ActionId;
use crate::domain::op::Op;
use crate::domain::plan::Plan;
use crate::domain::snapshot::BuildProcess;

/// Makes the plan: that of ending these processes, each with its group. Several of one group are ended with the first.
pub fn plan(processes: &[BuildProcess], settings: &Settings) -> Plan {
    let mut plan = end_process::plan(processes, settings);
    plan.action = ActionId::EndGroup;
    for step in &mut plan.steps {
        if let Op::Signal { target, signal, wait_secs } = step.op.clone() {
            step.op = Op::SignalGroup { leader: target, signal, wait_secs };
            step.why = format!("with everything in its process group; {}", step.why);
        }
    }
    plan.summary = format!("{}, with everything they started", plan.summary);
    plan
}
