//! One finding in full.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::audit::{AuditFinding, AuditProgress};
use crate::domain::finding::Finding;
use crate::domain::snapshot::{FsClass, Snapshot};
use crate::domain::text::HostPath;
use crate::probe::filesystems;
use crate::rules::{self, RULES};
use crate::scan::ScanError;

/// What there is to say about an id.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Explanation {
    /// It is found now.
    Found {
        /// The finding and what can be done about it.
        finding: Box<AuditFinding>,
    },
    /// A rule looks for it and does not find it now.
    NotFound {
        /// The rule.
        rule: &'static str,
        /// Why it matters when it is found.
        why: &'static str,
        /// Ids of what that rule does find now.
        instead: Vec<String>,
    },
    /// No rule has this name.
    Unknown {
        /// Names that are nearest to it, best first, of rules and of what is found now.
        nearest: Vec<String>,
    },
}

/// How many similar names are offered.
const NEAREST: usize = 5;

impl Engine {
    /// Looks at the machine, and at a directory where one is given, for a finding with this id. Where it can only be
    /// found in a scan and no directory is given, the file system that it names is scanned, else every local one.
    ///
    /// # Errors
    /// Where the directory cannot be scanned.
    pub fn explain(&self, id: &str, path: Option<&Path>) -> Result<Explanation, ScanError> {
        let (snapshot, findings) = self.look_for(id, path, &|_| {})?;
        if let Some(finding) = findings.iter().find(|finding| finding.id == id) {
            let finding = Box::new(self.with_remedies(finding.clone(), &snapshot));
            return Ok(Explanation::Found { finding });
        }
        Ok(match not_found(id, &findings) {
            Absent::NotFound { rule, why, instead } => Explanation::NotFound { rule, why, instead },
            Absent::Unknown { nearest } => Explanation::Unknown { nearest },
        })
    }

    /// Looks at the machine as far as a finding with this id needs it.
    pub(super) fn look_for(
        &self,
        id: &str,
        path: Option<&Path>,
        progress: &dyn Fn(&AuditProgress),
    ) -> Result<(Snapshot, Vec<Finding>), ScanError> {
        let named = if path.is_none() { self.mount_point_in(id) } else { None };
        let place = path.or(named.as_ref().map(HostPath::as_path));
        let snapshot = if place.is_some() || rules::needs_scan(id) {
            self.audit(place, progress)?.snapshot
        } else {
            self.snapshot()
        };
        let findings = self.findings(&snapshot);
        Ok((snapshot, findings))
    }

    fn mount_point_in(&self, id: &str) -> Option<HostPath> {
        let shown = rules::scanned_at(id)?;
        let all = filesystems::look(&self.context());
        let mut local = all.value().into_iter().flatten().filter(|fs| fs.class == FsClass::Local);
        local.find(|fs| fs.mount_point.to_string() == shown).map(|fs| fs.mount_point.clone())
    }

    /// A finding with what this program would do about it.
    pub(super) fn with_remedies(&self, finding: Finding, snapshot: &Snapshot) -> AuditFinding {
        AuditFinding { remedies: self.remedies(&finding, snapshot), finding }
    }
}

/// An id that is not found now.
#[derive(Clone, Debug)]
pub enum Absent {
    /// A rule looks for it.
    NotFound {
        /// The rule.
        rule: &'static str,
        /// Why it matters when it is found.
        why: &'static str,
        /// Ids of what that rule does find now.
        instead: Vec<String>,
    },
    /// No rule has this name.
    Unknown {
        /// Names that are nearest to it, best first.
        nearest: Vec<String>,
    },
}

/// What there is to say of an id that is not among these.
pub(super) fn not_found(id: &str, findings: &[Finding]) -> Absent {
    let ids = || findings.iter().map(|finding| finding.id.clone());
    let name = id.split(':').next().unwrap_or(id);
    if let Some(rule) = RULES.iter().find(|rule| rule.id == name) {
        let instead = ids().filter(|id| id.split(':').next() == Some(rule.id)).collect();
        return Absent::NotFound { rule: rule.id, why: rule.why, instead };
    }
    let rules = RULES.iter().map(|rule| rule.id.to_owned());
    let mut nearest: Vec<(f64, String)> =
        ids().chain(rules).map(|known| (strsim::jaro_winkler(id, &known), known)).collect();
    nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    nearest.dedup_by(|a, b| a.1 == b.1);
    Absent::Unknown { nearest: nearest.into_iter().take(NEAREST).map(|(_, name)| name).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_finds_nothing_is_explained_and_a_wrong_name_is_met_with_near_ones() {
        let Absent::NotFound { rule, instead, .. } = not_found("filesystem-full:/x", &[]) else { panic!() };
        assert_eq!((rule, instead), ("filesystem-full", Vec::new()));
        let Absent::Unknown { nearest } = not_found("filesystem-ful", &[]) else { panic!() };
        assert_eq!(nearest[0], "filesystem-full");
        assert_eq!(nearest.len(), NEAREST);
    }
}
