//! A container engine does not answer.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::engines::{Engine, EngineKind};
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::reading::Reading;
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "engine-silent",
    why: "Nothing of an engine that does not answer can be pruned, and builds that need it hang or fail. What it keeps \
          stays on the disk; do not delete in its store by hand, or it will not start again.",
    check,
};

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let all = snapshot.engines.value().into_iter().flatten();
    all.filter_map(found).collect()
}

fn found(engine: &Engine) -> Option<Found> {
    let severity = match &engine.content {
        // A store that is left over, or that docker runs when it needs it.
        Reading::NotHere { .. } | Reading::Refused { .. } | Reading::Unavailable { .. }
            if engine.kind == EngineKind::Containerd =>
        {
            return None;
        }
        Reading::Ready { .. } | Reading::Partial { .. } | Reading::Pending => return None,
        Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => Severity::Warning,
        Reading::Denied { .. } => Severity::Unknown,
    };
    let kind = engine.kind;
    let why = engine.content.sentences().into_iter().next().unwrap_or_default();
    let mut evidence = vec![Evidence::new(why, format!("{kind} system df"))];
    if let Some(size) = engine.store_size.value() {
        let at_least = if matches!(engine.store_size, Reading::Partial { .. }) { "at least " } else { "" };
        evidence.push(Evidence::new(
            format!("its store {} takes {at_least}{size}", engine.store),
            format!("the files below {}", engine.store),
        ));
    }
    Some(Found {
        key: kind.name().to_owned(),
        severity,
        subject: Subject::Engine { engine: kind },
        title: format!("{kind} does not answer"),
        evidence,
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice: format!(
            "See why: systemctl status {kind}, journalctl --unit {kind} --since -1h. A full disk keeps it from \
                         starting: free something else first."
        ),
    })
}
