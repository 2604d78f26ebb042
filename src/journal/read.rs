//! Reads the journal back, from every place it may be in.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::FILE_NAME;
use super::record::{Record, RecordStep, RunId, RunState, Wire, is_well};
use crate::domain::reading::Reading;
use crate::domain::text::{HostPath, sanitise};
use crate::sys::procfs::Proc;

/// Every run, in order of time. A line that cannot be read is counted and left out: a full disk tears lines.
pub fn history(places: &[PathBuf], proc: &Proc) -> Reading<Vec<Record>> {
    let mut runs: BTreeMap<RunId, Record> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut denied = 0;
    for place in places {
        let path = place.join(FILE_NAME);
        let shown = HostPath::from(path.as_path());
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                denied += usize::from(error.kind() == ErrorKind::PermissionDenied);
                missing.push(format!("{shown} could not be read: {error}; run unwedge as its owner"));
                continue;
            }
        };
        let mut torn = 0u64;
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Wire>(line) {
                Ok(wire) => take(&mut runs, wire),
                Err(_) => torn += 1,
            }
        }
        if torn > 0 {
            missing.push(format!("{torn} lines of {shown} are torn or of another version and were left out"));
        }
    }
    if runs.is_empty() && denied > 0 && denied == missing.len() {
        return Reading::Denied { hint: missing.join("; ") };
    }
    let mut records: Vec<Record> = runs.into_values().collect();
    for record in &mut records {
        finish(record, proc);
    }
    records.sort_by_key(|record| record.time);
    Reading::with_missing(records, missing)
}

fn clean(text: &str) -> String {
    sanitise(text.as_bytes()).into_owned()
}

fn take(runs: &mut BTreeMap<RunId, Record>, wire: Wire) {
    let ends = wire.record == "end";
    let record = runs.entry(wire.run.clone()).or_insert_with(|| Record {
        run: wire.run.to_string(),
        time: wire.at,
        ended: None,
        uid: wire.uid,
        action: String::new(),
        summary: clean(&wire.summary),
        outcome: String::new(),
        freed: None,
        steps: Vec::new(),
        // Until an end says otherwise; `finish` looks whether it still runs.
        state: RunState::Running,
    });
    if !ends {
        record.time = wire.at;
        record.action = clean(&wire.action);
        if record.steps.is_empty() {
            record.steps =
                wire.ops.iter().map(|op| RecordStep { op: clean(op), outcome: String::new() }).collect();
        }
        return;
    }
    record.ended = Some(wire.at);
    record.freed = wire.freed;
    record.state = wire.state.unwrap_or(RunState::Interrupted);
    if let Some(receipt) = wire.receipt {
        let all = receipt.steps.len();
        let well = receipt.steps.iter().filter(|step| is_well(&step.outcome)).count();
        record.outcome = if well == all { "done".to_owned() } else { format!("{well} of {all} steps done") };
        record.steps = receipt
            .steps
            .iter()
            .map(|step| RecordStep { op: clean(&step.op), outcome: step.outcome.to_string() })
            .collect();
    }
}

fn finish(record: &mut Record, proc: &Proc) {
    if record.state == RunState::Running && !RunId::parse(&record.run).is_some_and(|run| run.is_alive(proc)) {
        record.state = RunState::Interrupted;
    }
    record.outcome = match record.state {
        RunState::Complete if !record.outcome.is_empty() => return,
        RunState::Complete => "done".to_owned(),
        RunState::Running => "still running".to_owned(),
        RunState::Interrupted => format!(
            "broke off; what it had set aside is beside its targets, named {}{}-*",
            crate::journal::SET_ASIDE,
            record.run
        ),
    };
}
