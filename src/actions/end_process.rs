//! Ends processes: TERM, a grace period, KILL through the same pidfd.

use super::{because, counted, typed_name};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::{Op, ProcessTarget, Signal};
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::snapshot::{BuildProcess, Verdict};

/// How long the kernel gets to end a process after KILL, in seconds.
const KILL_WAIT_SECS: u64 = 5;

const GUARDS: [Guard; 2] = [Guard::SameProcess, Guard::NotOurselves];

/// The risk of ending it, or why it is not ended.
fn judge(process: &BuildProcess) -> Result<(Risk, String), String> {
    let because = because(&process.evidence);
    match process.verdict {
        Verdict::Orphan => Ok((Risk::Disruptive, format!("left over: {because}"))),
        Verdict::InUse => Ok((Risk::Destructive, format!("IN USE, its work is lost: {because}"))),
        Verdict::Unknown => Ok((
            Risk::Destructive,
            format!("nobody can say whether it is in use, its work is lost: {because}"),
        )),
        Verdict::Service => Err(format!(
            "it belongs to a service that would start it again or break: {because}; use systemctl stop with its unit"
        )),
    }
}

/// Makes the plan.
pub fn plan(processes: &[BuildProcess], settings: &Settings) -> Plan {
    let mut steps = Vec::new();
    let mut refused = Vec::new();
    let mut risk = Risk::Routine;
    let mut ended: Vec<&BuildProcess> = Vec::new();
    for process in processes {
        if ended.iter().any(|other| other.id == process.id) {
            continue;
        }
        match judge(process) {
            Ok((this, why)) => {
                risk = risk.max(this);
                let group = u32::try_from(ended.len()).unwrap_or(u32::MAX);
                steps.extend(pair(process, &why, group, settings.process.grace_secs));
                ended.push(process);
            }
            Err(why) => refused.push(Refusal { what: format!("{} ({})", process.tool, process.id), why }),
        }
    }
    let names: Vec<&[u8]> = ended.iter().map(|process| process.tool.as_bytes()).collect();
    Plan {
        action: ActionId::EndProcess,
        summary: match ended.as_slice() {
            [] => "end no process".to_owned(),
            [one] => format!("end {} ({})", one.tool, one.id),
            many => {
                let count = u64::try_from(many.len()).unwrap_or(u64::MAX);
                format!("end {}", counted(count, "process", "processes"))
            }
        },
        risk,
        steps,
        refused,
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify: Vec::new(),
        name: typed_name("end", &names),
        again: None,
    }
}

fn pair(process: &BuildProcess, why: &str, group: u32, grace_secs: u64) -> [Step; 2] {
    let target = ProcessTarget {
        id: process.id,
        command: process.command.clone(),
        exe: process.exe,
        arguments: process.arguments.clone(),
        cgroup: process.cgroup.clone(),
        uid: process.uid,
    };
    let step = |signal, wait_secs, why: String, when| Step {
        op: Op::Signal { target: target.clone(), signal, wait_secs },
        why,
        group,
        when,
        guards: GUARDS.to_vec(),
        on_error: OnError::Continue,
        frees: Reclaim::Nothing,
        on: None,
    };
    [
        step(Signal::Term, grace_secs, why.to_owned(), When::Always),
        step(
            Signal::Kill,
            KILL_WAIT_SECS,
            format!("only if it is still alive after {grace_secs} s"),
            When::IfPreviousFailed,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{CommandLine, Pid, ProcId};
    use crate::domain::size::{Bytes, Percent};
    use crate::domain::snapshot::Evidence;

    fn process(pid: i32, verdict: Verdict) -> BuildProcess {
        BuildProcess {
            id: ProcId { pid: Pid(pid), start: 7 },
            tool: "apt-get".into(),
            command: "apt-get install".into(),
            parent: Pid(1),
            uid: 0,
            cgroup: "/".into(),
            exe: None,
            arguments: CommandLine::default(),
            age_secs: 9,
            cpu: Percent(0.0),
            memory: Bytes(1),
            verdict,
            evidence: vec![Evidence::new("its parent is pid 1", "/proc")],
        }
    }

    #[test]
    fn risk_follows_the_verdict_and_a_service_is_refused() {
        let plan = |list: &[BuildProcess]| super::plan(list, &Settings::default());
        assert_eq!(plan(&[process(5, Verdict::Orphan)]).risk, Risk::Disruptive);
        for verdict in [Verdict::InUse, Verdict::Unknown] {
            let mixed = plan(&[process(5, Verdict::Orphan), process(6, verdict)]);
            assert_eq!(mixed.risk, Risk::Destructive);
            assert_eq!(mixed.name, "end 2");
        }
        let service = plan(&[process(5, Verdict::Service)]);
        assert!(service.is_empty() && service.refused[0].why.contains("systemctl stop"));
    }

    #[test]
    fn term_comes_first_and_kill_only_if_that_failed() {
        let twice = [process(5, Verdict::Orphan), process(5, Verdict::Orphan)];
        let plan = plan(&twice, &Settings::default());
        let shown: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
        assert_eq!(shown, ["send TERM to pid 5 (apt-get install)", "send KILL to pid 5 (apt-get install)"]);
        assert_eq!(plan.steps[1].when, When::IfPreviousFailed);
        assert_eq!(plan.name, "apt-get");
    }
}
