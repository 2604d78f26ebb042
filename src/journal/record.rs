//! What a line of the journal holds, and what a reader gets to see of a run.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::finding::Reclaim;
use crate::domain::identity::Pid;
use crate::domain::past::{Changed, Was};
use crate::domain::plan::{Plan, Risk};
use crate::domain::receipt::{NOT_NEEDED, Receipt, SpaceDelta};
use crate::domain::size::Bytes;
use crate::domain::text::{HostText, sanitise};
use crate::sys::procfs::Proc;

/// Version of the line format. Raised when a field changes its meaning; readers skip what they do not know.
pub const SCHEMA_VERSION: u32 = 1;

/// Names one run of a plan: the process, when it started, and chance. `PID-START-RANDOM`, the last in
/// hexadecimal, so that it can be part of a file name and a reader can tell whether the run still lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A new name for a run of this process.
    pub(super) fn new(proc: &Proc) -> Self {
        let pid = std::process::id();
        let start = start_time(proc, pid).unwrap_or(0);
        // Seeded by the kernel's random source (std::hash::RandomState); collisions are refused by
        // RENAME_NOREPLACE and mkdir, so this needs to be unlikely, not secret.
        let chance = RandomState::new().build_hasher().finish();
        Self(format!("{pid}-{start}-{chance:016x}"))
    }

    /// Reads a name, as it is in a file name or a record.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let plausible = parts.next()?.parse::<u32>().is_ok()
            && parts.next()?.parse::<u64>().is_ok()
            && parts.next().is_some_and(|chance| u64::from_str_radix(chance, 16).is_ok())
            && parts.next().is_none();
        plausible.then(|| Self(text.to_owned()))
    }

    /// Whether the process that runs it is still there.
    pub fn is_alive(&self, proc: &Proc) -> bool {
        let mut parts = self.0.split('-');
        let pid = parts.next().and_then(|pid| pid.parse().ok());
        let start = parts.next().and_then(|start| start.parse().ok());
        start.is_some() && pid.and_then(|pid| start_time(proc, pid)) == start
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&sanitise(self.0.as_bytes()))
    }
}

fn start_time(proc: &Proc, pid: u32) -> Option<u64> {
    // One that has ended and that its parent does not ask for runs nothing any more.
    proc.stat(Pid(pid.try_into().ok()?)).ok().filter(|stat| !stat.is_dead()).map(|stat| stat.start)
}

#[derive(Serialize)]
struct Begin<'a> {
    schema_version: u32,
    record: &'static str,
    run: &'a RunId,
    at: Timestamp,
    uid: u32,
    action: crate::domain::finding::ActionId,
    summary: &'a str,
    risk: Risk,
    /// The changes, as they were shown.
    ops: Vec<String>,
    plan: &'a Plan,
}

#[derive(Serialize)]
struct End<'a> {
    schema_version: u32,
    record: &'static str,
    run: &'a RunId,
    at: Timestamp,
    uid: u32,
    state: RunState,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    freed: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a Receipt>,
}

#[derive(Serialize)]
struct Gone<'a> {
    schema_version: u32,
    record: &'static str,
    run: &'a RunId,
    at: Timestamp,
    /// The step, counted from 0.
    step: usize,
    names: &'a [HostText],
}

#[derive(Serialize)]
struct Copied<'a> {
    schema_version: u32,
    record: &'static str,
    run: &'a RunId,
    at: Timestamp,
    /// The step, counted from 0.
    step: usize,
    was: Was,
}

#[derive(Serialize)]
struct Access<'a> {
    schema_version: u32,
    record: &'static str,
    run: &'a RunId,
    at: Timestamp,
    changed: Changed,
}

type Line = Result<Vec<u8>, serde_json::Error>;

fn line(record: &impl Serialize) -> Line {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

/// The line that says that a run begins.
pub(super) fn begin(run: &RunId, uid: u32, plan: &Plan) -> Line {
    line(&Begin {
        schema_version: SCHEMA_VERSION,
        record: "begin",
        run,
        at: Timestamp::now(),
        uid,
        action: plan.action,
        summary: &plan.summary,
        risk: plan.risk,
        ops: plan.steps.iter().map(|step| step.op.words()).collect(),
        plan,
    })
}

/// The line that says what went of a directory that is swept. A long sweep has many of them.
pub(super) fn gone(run: &RunId, step: usize, names: &[HostText]) -> Line {
    line(&Gone { schema_version: SCHEMA_VERSION, record: "gone", run, at: Timestamp::now(), step, names })
}

/// The line that says what a file was that was copied whole, and what its copy is.
pub(super) fn copied(run: &RunId, step: usize, was: Was) -> Line {
    line(&Copied { schema_version: SCHEMA_VERSION, record: "copied", run, at: Timestamp::now(), step, was })
}

/// The line that says what owner and mode a directory has that is about to get others for a while.
pub(super) fn access(run: &RunId, changed: Changed) -> Line {
    line(&Access { schema_version: SCHEMA_VERSION, record: "access", run, at: Timestamp::now(), changed })
}

/// The line that says that a run ended.
pub(super) fn end(run: &RunId, uid: u32, receipt: &Receipt) -> Line {
    // They have lines of their own.
    let without_names;
    let receipt = if receipt.steps.iter().any(|step| !step.gone.is_empty()) {
        without_names = receipt.without_names();
        &without_names
    } else {
        receipt
    };
    line(&End {
        schema_version: SCHEMA_VERSION,
        record: "end",
        run,
        at: receipt.ended,
        uid,
        state: RunState::Complete,
        summary: &receipt.summary,
        freed: Some(receipt.freed()),
        receipt: Some(receipt),
    })
}

/// The line that says that a run broke off.
pub(super) fn interrupted(run: &RunId, uid: u32, summary: &str, at: Timestamp) -> Line {
    line(&End {
        schema_version: SCHEMA_VERSION,
        record: "end",
        run,
        at,
        uid,
        state: RunState::Interrupted,
        summary,
        freed: None,
        receipt: None,
    })
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its end is on record.
    Complete,
    /// It broke off: no end is on record and its process is gone, or it panicked.
    Interrupted,
    /// It has no end yet and its process is still there.
    Running,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
        })
    }
}

/// A step of a run on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecordStep {
    /// The change, as it was shown.
    pub op: String,
    /// What it was for; empty if that is not on record.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What became of it, in words; empty where that is not on record.
    pub outcome: String,
    /// What went of a directory that was swept, each by its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// A run on record, as a reader sees it. All text is safe to print.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Record {
    /// Names the run.
    pub run: String,
    /// When it began.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// When it ended, where that is on record.
    #[schemars(with = "Option<String>")]
    pub ended: Option<Timestamp>,
    /// Who ran it.
    pub uid: u32,
    /// The action (`delete`).
    pub action: String,
    /// The plan's summary.
    pub summary: String,
    /// What came of it, in a few words.
    pub outcome: String,
    /// What it gave back, as the file systems saw it, where that is on record.
    pub freed: Option<Bytes>,
    /// What its plan had promised, where that is on record.
    pub promised: Option<Reclaim>,
    /// The file systems before and after, where that is on record.
    pub space: Vec<SpaceDelta>,
    /// What the run itself found wrong.
    pub findings: Vec<String>,
    /// Its steps.
    pub steps: Vec<RecordStep>,
    /// How it ended.
    pub state: RunState,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}: {}", self.action, self.summary, self.outcome)?;
        if let Some(freed) = self.freed {
            write!(f, ", {freed} freed")?;
            if let Some(promised) = self.promised.filter(|promised| *promised != Reclaim::Nothing) {
                write!(f, " of {promised} promised")?;
            }
        }
        Ok(())
    }
}

/// A line of the journal as it is read back: only what a reader needs, all of it optional, so that a
/// journal of another version still says what it can.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    pub record: String,
    pub run: RunId,
    pub at: Timestamp,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub action: String,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub ops: Vec<String>,
    #[serde(default)]
    pub state: Option<RunState>,
    #[serde(default)]
    pub freed: Option<Bytes>,
    /// The plan: only what can be taken back is read of it.
    #[serde(default)]
    pub plan: serde_json::Value,
    #[serde(default)]
    pub receipt: Option<WireReceipt>,
    /// Of a line about what went: the step, and the names.
    #[serde(default)]
    pub step: usize,
    #[serde(default)]
    pub names: Vec<HostText>,
    /// Of a line about what was copied.
    #[serde(default)]
    pub was: Option<Was>,
    /// Of a line about an owner and mode that are changed.
    #[serde(default)]
    pub changed: Option<Changed>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireReceipt {
    #[serde(default)]
    pub promised: serde_json::Value,
    #[serde(default)]
    pub space: serde_json::Value,
    #[serde(default)]
    pub findings: Vec<WireFinding>,
    #[serde(default)]
    pub steps: Vec<WireStep>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireFinding {
    #[serde(default)]
    pub title: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireStep {
    pub op: String,
    #[serde(default)]
    pub why: String,
    pub outcome: WireOutcome,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireOutcome {
    pub outcome: String,
    pub count: Option<u64>,
    pub why: Option<String>,
    pub problems: Vec<String>,
}

impl fmt::Display for WireOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sanitise(self.outcome.as_bytes()))?;
        if let Some(count) = self.count {
            write!(f, " ({count})")?;
        }
        for why in self.why.iter().chain(&self.problems) {
            write!(f, ": {}", sanitise(why.as_bytes()))?;
        }
        Ok(())
    }
}

impl WireOutcome {
    /// Whether it was done.
    pub(super) fn is_done(&self) -> bool {
        // The names serde gives Outcome; the test below holds them together.
        self.outcome == "done"
    }

    /// Whether nothing was left for it to do.
    pub(super) fn is_not_needed(&self) -> bool {
        self.outcome == "skipped" && self.why.as_deref().is_some_and(|why| why.starts_with(NOT_NEEDED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::receipt::Outcome;

    #[test]
    fn outcomes_are_read_back_with_their_reasons() {
        let read = |outcome: &Outcome| -> WireOutcome {
            serde_json::from_str(&serde_json::to_string(outcome).unwrap()).unwrap()
        };
        let done = read(&Outcome::Done { count: 3 });
        assert!(done.is_done() && !done.is_not_needed());
        assert_eq!(done.to_string(), "done (3)");
        let skipped = read(&Outcome::Skipped { why: "a\x1b[2J".to_owned() });
        assert!(!skipped.is_done() && !skipped.is_not_needed());
        let not_needed = read(&Outcome::Skipped { why: format!("{NOT_NEEDED}: the step before did it") });
        assert!(!not_needed.is_done() && not_needed.is_not_needed());
        assert_eq!(skipped.to_string(), "skipped: a\\x1b[2J");
        let partly = read(&Outcome::Partly { count: 1, problems: vec!["p".to_owned(), "q".to_owned()] });
        assert_eq!(partly.to_string(), "partly (1): p: q");
        assert!(!partly.is_done());
        assert!(!read(&Outcome::Failed { why: String::new() }).is_done());
        assert!(!read(&Outcome::Cancelled { count: 0 }).is_done());
    }

    #[test]
    fn a_run_knows_whether_its_process_lives() {
        let proc = Proc::new("/proc");
        let id = RunId::new(&proc);
        assert!(id.is_alive(&proc));
        assert_eq!(RunId::parse(&id.to_string()), Some(id.clone()));
        let other = RunId(id.0.replacen('-', "-1", 1));
        assert!(!other.is_alive(&proc), "a reused pid is another process");
        assert_eq!(RunId::parse("x-1-2"), None);
    }
}
