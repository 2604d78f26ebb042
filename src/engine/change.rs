//! One change that a script or a person at a shell asks for: seen first, then agreed to, then run.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::audit::{AuditProgress, SCHEMA_VERSION};
use super::explain::{self, Absent};
use crate::actions::Request;
use crate::domain::basket::Basket;
use crate::domain::finding::{ActionId, Finding};
use crate::domain::identity::FileKind;
use crate::domain::plan::Plan;
use crate::domain::reading::Reading;
use crate::domain::receipt::BasketReceipt;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, Snapshot};
use crate::domain::sweep::{SweepRule, SweepTarget};
use crate::probe;
use crate::rules;
use crate::scan::ScanError;

/// What would run, and what came of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Change {
    /// The version of this format.
    pub schema_version: u32,
    /// The version of the program.
    pub program_version: &'static str,
    /// What would run.
    pub basket: Basket,
    /// Whether it is a sweep of a directory in which nothing is due: nothing is to be done, and nothing is wrong.
    pub nothing_old: bool,
    /// What could not be looked at.
    pub missing: Vec<String>,
    /// What came of it, if it was run.
    pub receipt: Option<BasketReceipt>,
}

/// Why there is nothing to run for a finding.
#[derive(Debug)]
pub enum NotFixed {
    /// It is not found now.
    NotFound {
        /// What there is to say of its id.
        absent: Absent,
        /// What could not be looked at: it may be there all the same.
        unseen: Vec<String>,
    },
    /// Nothing of this program does anything about it, or not this.
    NoAction {
        /// The finding, with what to do by hand.
        finding: Box<Finding>,
        /// What can be asked for.
        actions: Vec<ActionId>,
    },
    /// A directory cannot be scanned.
    Scan(ScanError),
}

impl Engine {
    /// Makes the plan of what is offered first about a finding, or of the action with this name. Scans as [`Engine::explain`]
    /// does.
    ///
    /// # Errors
    /// Why there is none.
    pub fn fix(
        &self,
        id: &str,
        action: Option<&str>,
        path: Option<&Path>,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<Change, NotFixed> {
        let (snapshot, findings) = self.look_for(id, path, progress).map_err(NotFixed::Scan)?;
        let Some(finding) = findings.iter().find(|finding| finding.id == id) else {
            let unseen = findings.iter().filter(|finding| finding.rule == rules::UNSEEN);
            let unseen = unseen.map(|finding| finding.title.clone()).collect();
            return Err(NotFixed::NotFound { absent: explain::not_found(id, &findings), unseen });
        };
        let wanted = |one: &&ActionId| action.is_none_or(|name| one.name() == name);
        let plan = finding
            .actions
            .iter()
            .filter(wanted)
            .find_map(|&action| self.plan_for(action, finding, &snapshot));
        let Some(plan) = plan else {
            let can = |one: &&ActionId| self.plan_for(**one, finding, &snapshot).is_some();
            let actions = finding.actions.iter().filter(can).copied().collect();
            return Err(NotFixed::NoAction { finding: Box::new(finding.clone()), actions });
        };
        Ok(self.change(plan, &snapshot))
    }

    /// Makes the plan of a sweep of one directory.
    ///
    /// # Errors
    /// A sentence: it is no directory, or cannot be looked at.
    pub fn sweep(&self, dir: &Path, rule: SweepRule) -> Result<Change, String> {
        let path = self.answering(dir).map_err(|error| error.to_string())?;
        let chosen = self.choose(&path, Bytes::ZERO, Bytes::ZERO, 0)?;
        // A link to a directory is not swept: it may lead elsewhere by the time it is.
        if chosen.id.kind != FileKind::Directory {
            return Err(format!(
                "{} is no directory: give the directory itself, not a link to it",
                chosen.path
            ));
        }
        let snapshot = self.snapshot_for_files();
        let mut target =
            SweepTarget { path: chosen.path, id: chosen.id, rule: Some(rule), list: Reading::Pending };
        target.list = self.sweep_list(&target, &snapshot);
        let nothing_old = target.list.value().is_some_and(|list| list.goes().next().is_none());
        let missing = target.list.sentences();
        let plan = self.plan(&Request::Sweep(vec![target]), &snapshot);
        Ok(Change { nothing_old, missing, ..self.change(plan, &snapshot) })
    }

    /// Makes the plan to delete these, counted before.
    ///
    /// # Errors
    /// A sentence: one is not there or cannot be looked at.
    pub fn delete(
        &self,
        paths: &[impl AsRef<Path>],
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<Change, String> {
        let mut chosen: Vec<ChosenFile> = Vec::new();
        let around = self.look_around();
        for path in paths {
            let path = std::path::absolute(path.as_ref()).map_err(|error| error.to_string())?;
            let one = probe::chosen::freeze_measured(&self.context(), &around, &path)?;
            chosen.push(if one.id.kind == FileKind::Directory {
                self.counted(one, progress).map_err(|error| error.to_string())?
            } else {
                one
            });
        }
        let snapshot = self.snapshot_for_files();
        let plan = self.plan(&Request::Delete(chosen), &snapshot);
        Ok(self.change(plan, &snapshot))
    }

    fn change(&self, plan: Plan, snapshot: &Snapshot) -> Change {
        Change {
            schema_version: SCHEMA_VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            nothing_old: false,
            // What is not known of the rest is in the plan.
            missing: Vec::new(),
            basket: self.basket(vec![plan], snapshot),
            receipt: None,
        }
    }

    /// A directory with the size and the entries of all in it.
    fn counted(&self, dir: ChosenFile, progress: &dyn Fn(&AuditProgress)) -> Result<ChosenFile, ScanError> {
        let scan = self.scan(dir.path.as_path())?;
        let mut seen = scan.progress();
        while !seen.finished {
            progress(&AuditProgress { path: dir.path.clone(), scan: seen });
            seen = scan.wait_for(super::TICK);
        }
        Ok(ChosenFile { apparent: seen.apparent, allocated: seen.allocated, entries: seen.entries, ..dir })
    }
}
