//! The append-only record of what was done: JSON lines, one write(2) per record, a begin before the first
//! change and an end always.
//!
//! It lives under `/var/log/unwedge` for root, else below the XDG state directory. A disk that is full must not
//! keep anybody from being helped or from knowing later what was done: where the record cannot be written
//! there, it goes to `/run` and the journal says so ([`Journal::note`]).

pub mod baselines;
mod read;
mod record;
mod store;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::config::{Environment, Settings};
use crate::domain::journal_dirs::journal_dirs;
use crate::domain::past::{Changed, PastRun, Was};
use crate::domain::plan::Plan;
use crate::domain::reading::Reading;
use crate::domain::receipt::Receipt;
use crate::domain::text::{HostPath, HostText};
use crate::sys::procfs::Proc;

pub use record::{Record, RecordStep, RunId, RunState, SCHEMA_VERSION};

/// The name of the file in each of the directories.
pub const FILE_NAME: &str = "journal.jsonl";

pub use crate::domain::past::SET_ASIDE;

/// The journal. Nothing is created before the first record is written.
#[derive(Debug)]
pub struct Journal {
    uid: u32,
    proc: Proc,
    /// Where it belongs, then where it goes when it cannot be written there.
    places: [PathBuf; 2],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the last record went.
    written: Option<PathBuf>,
    /// What kept records from where they belong.
    trouble: Vec<String>,
}

impl Journal {
    /// Picks the places. Touches nothing.
    pub fn open(environment: &Environment, settings: &Settings) -> Self {
        let dir = &settings.journal.dir;
        let places = journal_dirs(&environment.root, environment.uid, &environment.state_home, dir);
        Self {
            uid: environment.uid,
            proc: Proc::new(environment.rooted("/proc")),
            places,
            state: Mutex::default(),
        }
    }

    /// The directory that records belong in, and the one they go to where that cannot be written.
    pub fn places(&self) -> [HostPath; 2] {
        self.places.each_ref().map(|place| HostPath::from(place.as_path()))
    }

    /// What kept records from being written where they belong, or nothing.
    pub fn note(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.trouble.is_empty() {
            return None;
        }
        let went = match &state.written {
            Some(path) => {
                format!("; written to {} instead (gone after a reboot)", HostPath::from(path.as_path()))
            }
            None => "; what was done is not on record, only on this screen".to_owned(),
        };
        Some(format!("{}{went}", state.trouble.join("; ")))
    }

    /// Where records go, and anything that kept them from being written where they should be: one sentence.
    pub fn status(&self) -> String {
        if let Some(note) = self.note() {
            return note;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.written {
            Some(path) => format!("written to {}", HostPath::from(path.as_path())),
            None => "nothing was written".to_owned(),
        }
    }

    /// Writes that a run begins, with its whole plan, before the first change. A record that cannot be
    /// written anywhere does not stop the run: a machine with a full disk must be savable. It is said in
    /// [`Journal::note`] and in the receipt.
    pub fn begin(&self, plan: &Plan) -> Run<'_> {
        let id = RunId::new(&self.proc);
        self.append(&record::begin(&id, self.uid, plan));
        Run { journal: self, id, plan_summary: plan.summary.clone(), ended: false }
    }

    /// Every run on record, in order of time, from all places.
    pub fn history(&self) -> Reading<Vec<Record>> {
        read::history(&self.places, &self.proc)
    }

    /// Every run on record with what its plan set out to remove, in order of time.
    pub fn past(&self) -> Reading<Vec<PastRun>> {
        read::past(&self.places, &self.proc)
    }

    fn append(&self, record: &Result<Vec<u8>, serde_json::Error>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.trouble.clear();
        state.written = None;
        let line = match record {
            Ok(line) => line,
            Err(error) => {
                state.trouble.push(format!("the journal record could not be made: {error}"));
                return;
            }
        };
        for place in &self.places {
            match store::append(place, line) {
                Ok(path) => {
                    state.written = Some(path);
                    return;
                }
                Err(why) => state.trouble.push(why),
            }
        }
    }
}

/// A run that is on record as begun. Its end is always written: by [`Run::end`], or as interrupted when this
/// is dropped without it (a panic).
#[derive(Debug)]
pub struct Run<'a> {
    journal: &'a Journal,
    id: RunId,
    plan_summary: String,
    ended: bool,
}

impl Run<'_> {
    /// Names the run. Everything it sets aside on disk carries this in its name.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Writes down what went of the directory that this step sweeps.
    pub fn gone(&self, step: usize, names: &[HostText]) {
        self.journal.append(&record::gone(&self.id, step, names));
    }

    /// Writes down what the file of this step was, and what its copy is, before that gets its name.
    pub fn copied(&self, step: usize, was: Was) {
        self.journal.append(&record::copied(&self.id, step, was));
    }

    /// Writes down what owner and mode a directory has, before it gets others for a while.
    pub fn access(&self, changed: Changed) {
        self.journal.append(&record::access(&self.id, changed));
    }

    /// Writes that the run ended, and what came of it.
    pub fn end(mut self, receipt: &Receipt) {
        self.ended = true;
        self.journal.append(&record::end(&self.id, self.journal.uid, receipt));
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.journal.append(&record::interrupted(
                &self.id,
                self.journal.uid,
                &self.plan_summary,
                Timestamp::now(),
            ));
        }
    }
}
