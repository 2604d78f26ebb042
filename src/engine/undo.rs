//! Taking back what earlier runs did, as far as that can be.

use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::audit::SCHEMA_VERSION;
use crate::actions::Request;
use crate::domain::basket::Basket;
use crate::domain::past::PastRun;
use crate::domain::reading::Reading;
use crate::domain::receipt::BasketReceipt;
use crate::domain::snapshot::Snapshot;
use crate::probe;

/// What can be taken back of what is on record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Undoing {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// What would run.
    pub basket: Basket,
    /// Runs that left nothing that could be put back, newest first.
    pub final_runs: Vec<PastRun>,
    /// What could not be looked at.
    pub missing: Vec<String>,
    /// What came of it, where it was run.
    pub receipt: Option<BasketReceipt>,
}

impl Engine {
    /// Looks for what runs have left, by what the journal says of them: all of them, or the one with this name.
    ///
    /// # Errors
    /// A sentence: there is no such run, or the journal cannot be read.
    pub fn undo(&self, run: Option<&str>, snapshot: &Snapshot) -> Result<Undoing, String> {
        let reading = self.journal.past();
        let mut missing = reading.sentences();
        let (Reading::Ready { value: mut past } | Reading::Partial { value: mut past, .. }) = reading else {
            return Err(format!("the journal cannot be read: {}", missing.join("; ")));
        };
        if let Some(name) = run {
            past.retain(|one| one.run == name);
            if past.is_empty() {
                return Err(format!("{name} is no run of the journal: unwedge history shows their ids"));
            }
        }
        let mut leftovers = Vec::new();
        let mut final_runs = Vec::new();
        for one in past.into_iter().rev() {
            let (found, gaps) = probe::leftovers::of_run(&self.context(), &one);
            missing.extend(gaps);
            if found.is_empty() {
                final_runs.push(one);
            }
            leftovers.extend(found);
        }
        let plan = self.plan(&Request::PutBack(leftovers), snapshot);
        missing.dedup();
        Ok(Undoing {
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            basket: self.basket(vec![plan], snapshot),
            final_runs,
            missing,
            receipt: None,
        })
    }
}
