//! Reads the journal back, from every place it may be in.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::FILE_NAME;
use super::record::{Record, RecordStep, RunId, RunState, Wire};
use crate::domain::identity::Inode;
use crate::domain::past::{Moved, PastRun, ROTATED, Rotated, Swept, Taken};
use crate::domain::reading::Reading;
use crate::domain::text::{HostPath, sanitise};
use crate::sys::plain_file;
use crate::sys::procfs::Proc;

/// Every run, in order of time. A line that cannot be read is counted and left out: a full disk tears lines.
pub fn history(places: &[PathBuf], proc: &Proc) -> Reading<Vec<Record>> {
    let mut runs: BTreeMap<RunId, Record> = BTreeMap::new();
    let read = each(places, |wire| take(&mut runs, wire));
    read.reading(runs.into_values().collect()).map(|mut records: Vec<Record>| {
        for record in &mut records {
            finish(record, proc);
        }
        records.sort_by_key(|record| record.time);
        records
    })
}

/// Every run with what its plan set out to remove.
pub fn past(places: &[PathBuf], proc: &Proc) -> Reading<Vec<PastRun>> {
    let mut runs: BTreeMap<RunId, (PastRun, bool)> = BTreeMap::new();
    // The beginning of a run may be on record elsewhere, and be read later.
    let mut copied = Vec::new();
    let mut changed = Vec::new();
    let read = each(places, |wire| {
        if wire.record == "end" {
            if let Some((_, ended)) = runs.get_mut(&wire.run) {
                *ended = true;
            }
            return;
        }
        if wire.record == "gone" {
            return;
        }
        if wire.record == "copied" {
            copied.push((wire.run, wire.step, wire.was));
            return;
        }
        if wire.record == "access" {
            changed.extend(wire.changed.map(|changed| (wire.run, changed)));
            return;
        }
        let past = PastRun {
            run: wire.run.to_string(),
            time: wire.at,
            action: clean(&wire.action),
            summary: clean(&wire.summary),
            running: false,
            undo: undo(&wire.plan),
            taken: taken(&wire.plan),
            moved: moved(&wire.plan),
            swept: swept(&wire.plan),
            rotated: rotated(&wire.plan),
            changed: Vec::new(),
        };
        runs.entry(wire.run).or_insert((past, false));
    });
    for (run, step, was) in copied {
        let moved = runs.get_mut(&run).map(|(past, _)| &mut past.moved);
        if let Some(moved) = moved.and_then(|all| all.iter_mut().find(|one| one.file.step == step)) {
            moved.was = was;
        }
    }
    for (run, changed) in changed {
        if let Some((past, _)) = runs.get_mut(&run) {
            past.changed.push(changed);
        }
    }
    let all = runs
        .into_iter()
        .map(|(run, (past, ended))| PastRun { running: !ended && run.is_alive(proc), ..past });
    read.reading(all.collect()).map(|mut runs: Vec<PastRun>| {
        runs.sort_by_key(|run| run.time);
        runs
    })
}

/// What a plan said of taking it back.
fn undo(plan: &serde_json::Value) -> Option<String> {
    let undo = plan.get("undo")?;
    match undo.get("kind")?.as_str()? {
        "impossible" => Some("cannot be undone".to_owned()),
        _ => undo.get("how").and_then(serde_json::Value::as_str).map(clean),
    }
}

/// What a plan set out to remove. A step of another kind or version is left out.
fn taken(plan: &serde_json::Value) -> Vec<Taken> {
    ops(plan)
        .filter(|(_, name, _)| matches!(*name, "remove_file" | "remove_tree"))
        .filter_map(|(step, _, op)| operand(step, op))
        .collect()
}

/// What a plan set out to move to another file system.
fn moved(plan: &serde_json::Value) -> Vec<Moved> {
    let one = |(step, _, op): (usize, &str, &serde_json::Value)| {
        let to = serde_json::from_value(op.get("to")?.clone()).ok()?;
        Some(Moved { file: operand(step, op)?, to, was: None })
    };
    ops(plan).filter(|(_, name, _)| *name == "evacuate").filter_map(one).collect()
}

/// The directories that a plan set out to sweep, with the name of each inode.
fn swept(plan: &serde_json::Value) -> Vec<Swept> {
    let name = |candidate: &serde_json::Value| {
        let inode = candidate.get("inode")?.as_u64()?;
        Some((Inode(inode), serde_json::from_value(candidate.get("name")?.clone()).ok()?))
    };
    let one = |(step, _, op): (usize, &str, &serde_json::Value)| {
        let path = serde_json::from_value(op.get("path")?.clone()).ok()?;
        let candidates = op.get("sweep")?.get("candidates")?.as_array()?;
        Some(Swept { step, path, names: candidates.iter().filter_map(name).collect() })
    };
    ops(plan).filter(|(_, name, _)| *name == "sweep").filter_map(one).collect()
}

/// The logs that a plan set out to cut.
fn rotated(plan: &serde_json::Value) -> Vec<Rotated> {
    let one = |(step, _, op): (usize, &str, &serde_json::Value)| {
        Some(Rotated { file: operand(step, op)?, keep_lines: op.get("keep_lines")?.as_u64()? })
    };
    ops(plan).filter(|(_, name, _)| *name == "rotate_log").filter_map(one).collect()
}

/// The changes of a plan, each with its step and its name.
fn ops(plan: &serde_json::Value) -> impl Iterator<Item = (usize, &str, &serde_json::Value)> {
    let steps = plan.get("steps").and_then(serde_json::Value::as_array).into_iter().flatten();
    steps.enumerate().filter_map(|(step, value)| {
        let op = value.get("op")?;
        Some((step, op.get("op")?.as_str()?, op))
    })
}

/// The file that a change is about.
fn operand(step: usize, op: &serde_json::Value) -> Option<Taken> {
    let path = serde_json::from_value(op.get("path")?.clone()).ok()?;
    let id = serde_json::from_value(op.get("id")?.clone()).ok()?;
    Some(Taken { step, path, id })
}

/// What could not be read of the journal.
struct Gaps {
    missing: Vec<String>,
    denied: usize,
}

impl Gaps {
    fn reading<T>(self, records: Vec<T>) -> Reading<Vec<T>> {
        if records.is_empty() && self.denied > 0 && self.denied == self.missing.len() {
            return Reading::Denied { hint: self.missing.join("; ") };
        }
        Reading::with_missing(records, self.missing)
    }
}

/// What is read of a journal at most, in bytes.
const MOST: u64 = 4 << 30;

/// Reads every line in all places.
fn each(places: &[PathBuf], mut take: impl FnMut(Wire)) -> Gaps {
    let mut missing = Vec::new();
    let mut denied = 0;
    for place in places {
        let path = place.join(FILE_NAME);
        let shown = HostPath::from(path.as_path());
        let text = match plain_file::whole(&path, MOST) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                denied += usize::from(error.kind() == ErrorKind::PermissionDenied);
                let advice = match error.kind() {
                    ErrorKind::PermissionDenied => "run unwedge as its owner",
                    _ => "look at it, and move it away",
                };
                missing.push(format!("{shown} could not be read: {error}; {advice}"));
                continue;
            }
        };
        let mut torn = 0u64;
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Wire>(line) {
                Ok(wire) => take(wire),
                Err(_) => torn += 1,
            }
        }
        if torn > 0 {
            missing.push(format!("{torn} lines of {shown} are torn or of another version and were left out"));
        }
    }
    Gaps { missing, denied }
}

fn clean(text: &str) -> String {
    sanitise(text.as_bytes()).into_owned()
}

/// Steps of a run that a line about names may make: a line may be of anybody's making.
const MOST_STEPS: usize = 10_000;

fn take(runs: &mut BTreeMap<RunId, Record>, wire: Wire) {
    if matches!(wire.record.as_str(), "copied" | "access") {
        // Only of interest for taking it back.
        return;
    }
    let (ends, tells_names) = (wire.record == "end", wire.record == "gone");
    let record = runs.entry(wire.run.clone()).or_insert_with(|| Record {
        run: wire.run.to_string(),
        time: wire.at,
        ended: None,
        uid: wire.uid,
        action: String::new(),
        summary: clean(&wire.summary),
        outcome: String::new(),
        freed: None,
        promised: None,
        space: Vec::new(),
        findings: Vec::new(),
        steps: Vec::new(),
        // Until an end says otherwise; `finish` looks whether it still runs.
        state: RunState::Running,
    });
    if tells_names {
        // Its beginning may be on record elsewhere, or nowhere.
        while record.steps.len() <= wire.step && wire.step < MOST_STEPS {
            record.steps.push(RecordStep::default());
        }
        if let Some(step) = record.steps.get_mut(wire.step) {
            step.gone.extend(wire.names.iter().map(ToString::to_string));
        }
        return;
    }
    if !ends {
        record.time = wire.at;
        record.action = clean(&wire.action);
        if record.steps.is_empty() {
            record.steps =
                wire.ops.iter().map(|op| RecordStep { op: clean(op), ..RecordStep::default() }).collect();
        }
        return;
    }
    record.ended = Some(wire.at);
    record.freed = wire.freed;
    record.state = wire.state.unwrap_or(RunState::Interrupted);
    if let Some(receipt) = wire.receipt {
        let needed = || receipt.steps.iter().filter(|step| !step.outcome.is_not_needed());
        let (all, done) = (needed().count(), needed().filter(|step| step.outcome.is_done()).count());
        record.outcome = match done {
            _ if done == all => "done".to_owned(),
            0 => "nothing was done".to_owned(),
            _ => format!("{done} of {all} steps done"),
        };
        // Of another version: what can be read of it.
        record.promised = serde_json::from_value(receipt.promised).ok();
        record.space = serde_json::from_value(receipt.space).unwrap_or_default();
        record.findings = receipt.findings.iter().map(|finding| clean(&finding.title)).collect();
        let mut before = std::mem::take(&mut record.steps).into_iter();
        record.steps = receipt
            .steps
            .iter()
            .map(|step| RecordStep {
                op: clean(&step.op),
                why: clean(&step.why),
                outcome: step.outcome.to_string(),
                gone: before.next().unwrap_or_default().gone,
            })
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
        RunState::Interrupted if record.action == "evacuate" => format!(
            "broke off; what was not moved is where it was, and what had been copied of it beside its target, named \
             {}{}-*: unwedge undo removes that",
            crate::domain::past::EVACUATED,
            record.run
        ),
        RunState::Interrupted if record.action == "rotate-log" => format!(
            "broke off; each log is whole or cut as planned, or it is whole beside its place, named {ROTATED}{}-*: \
             unwedge undo gives that its name again",
            record.run
        ),
        RunState::Interrupted => format!(
            "broke off; what it had set aside is beside its targets, named {}{}-*",
            crate::journal::SET_ASIDE,
            record.run
        ),
    };
}
