//! Drops all but the last lines of live logs.

use super::{counted, file_name, space_check, typed_name};
use crate::config::Settings;
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::logs::{InPlace, LogOwner, LogTarget};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;

/// What the lines that stay take, about: a guess, because nobody has counted them yet.
const KEPT: Bytes = Bytes(1 << 20);

/// Makes the plan.
pub fn plan(logs: &[LogTarget], snapshot: &Snapshot, settings: &Settings) -> Plan {
    let kept = |log: &LogTarget| log.keep_lines.unwrap_or(settings.logs.keep_lines);
    let mut refused = Vec::new();
    let mut rotated: Vec<&LogTarget> = Vec::new();
    for log in logs {
        if log.id.links > 1 {
            let why = format!("it has {} names (hard links); another program may count on it", log.id.links);
            refused.push(Refusal { what: log.path.to_string(), why });
        } else if rotated.iter().all(|other| other.id.key != log.id.key) {
            rotated.push(log);
        }
    }
    rotated.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| a.path.cmp(&b.path)));
    let mut verify = Vec::new();
    for log in &rotated {
        let check = space_check(snapshot, log.id.key.dev, Some(log.id.mount), &log.path);
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let reclaim = rotated.iter().fold(Reclaim::exact(Bytes::ZERO), |sum, log| sum.plus(frees(log)));
    let names: Vec<&[u8]> = rotated.iter().map(|log| file_name(&log.path)).collect();
    Plan {
        action: ActionId::RotateLog,
        summary: match rotated.as_slice() {
            [] => "rotate no log".to_owned(),
            [one] => format!("drop all but the last {} lines of {} ({reclaim})", kept(one), one.path),
            [first, ..] => {
                let count = counted(u64::try_from(rotated.len()).unwrap_or(u64::MAX), "log", "logs");
                let same = rotated.iter().all(|log| kept(log) == kept(first));
                let lines = if same {
                    format!("the last {} lines", kept(first))
                } else {
                    "the last lines".to_owned()
                };
                format!("drop all but {lines} of {count} ({reclaim})")
            }
        },
        // The lines before are gone.
        risk: Risk::Destructive,
        steps: rotated.iter().zip(0u32..).map(|(log, group)| step(log, group, settings)).collect(),
        refused,
        reclaim,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify,
        name: typed_name("rotate", &names),
        again: None,
    }
}

fn frees(log: &LogTarget) -> Reclaim {
    Reclaim::Range { low: log.allocated.saturating_sub(KEPT), high: log.allocated }
}

fn step(log: &LogTarget, group: u32, settings: &Settings) -> Step {
    let writers = match log.writers.as_slice() {
        [] => "nobody was seen writing to it".to_owned(),
        some => format!("written to by {}, which goes on undisturbed", some.join(", ")),
    };
    Step {
        op: Op::RotateLog {
            path: log.path.clone(),
            id: log.id,
            keep_lines: log.keep_lines.unwrap_or(settings.logs.keep_lines),
            // Engines read their logs back line by line, and a hole is no line.
            in_place: match log.owner {
                LogOwner::Program => settings.logs.in_place,
                LogOwner::Container => InPlace::Collapse,
            },
            owner: log.owner,
        },
        why: format!("{} in it; {writers}", log.allocated),
        group,
        when: When::Always,
        guards: vec![Guard::SameLog, Guard::NotProtected, Guard::Writable],
        on_error: OnError::Continue,
        frees: frees(log),
        on: Some(log.id.key.dev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevIno, FileId, Inode};
    use jiff::Timestamp;

    fn target(path: &str, ino: u64, mib: u64, links: u32) -> LogTarget {
        let id = FileId { key: DevIno { ino: Inode(ino), ..DevIno::default() }, links, ..FileId::default() };
        let allocated = Bytes(mib << 20);
        LogTarget {
            path: path.into(),
            id,
            allocated,
            writers: Vec::new(),
            owner: LogOwner::Program,
            keep_lines: None,
        }
    }

    #[test]
    fn the_largest_comes_first_each_once_and_a_hard_link_is_refused() {
        let snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let logs = [
            target("/l/a", 1, 10, 1),
            target("/l/b", 2, 20, 1),
            target("/l/c", 3, 30, 2),
            target("/l/b", 2, 20, 1),
        ];
        let plan = super::plan(&logs, &snapshot, &Settings::default());
        let paths: Vec<String> = plan
            .steps
            .iter()
            .map(|step| match &step.op {
                Op::RotateLog { path, keep_lines: 1000, .. } => path.to_string(),
                other => panic!("{}", other.words()),
            })
            .collect();
        assert_eq!(paths, ["/l/b", "/l/a"]);
        assert_eq!(plan.reclaim, Reclaim::Range { low: Bytes(28 << 20), high: Bytes(30 << 20) });
        assert!(plan.refused[0].why.contains("2 names"));
        assert_eq!(plan.risk, Risk::Destructive);
        assert!(plan.summary.starts_with("drop all but the last 1000 lines of 2 logs"), "{}", plan.summary);
        let few = LogTarget { keep_lines: Some(7), ..target("/l/a", 1, 10, 1) };
        let few = super::plan(&[few], &snapshot, &Settings::default());
        assert!(matches!(few.steps[0].op, Op::RotateLog { keep_lines: 7, .. }));
        assert!(few.summary.starts_with("drop all but the last 7 lines of /l/a"), "{}", few.summary);
    }
}
