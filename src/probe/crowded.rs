//! What it costs to create an entry in a directory that holds very many.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::Context;
use super::caches::identity;
use super::temp_dirs::{no_answer, reason, unused_name};
use crate::domain::identity::FileId;
use crate::domain::protect::ProtectSet;
use crate::domain::reading::Reading;
use crate::domain::scanned::CreateCost;
use crate::domain::text::HostPath;
use crate::sys::child::{Answer, Created, Question};
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::file_id;

/// Creates and removes a directory in each, and in a fresh directory there: side by side in children with a deadline.
/// Nothing is tried in what is protected with everything in it: such a directory belongs to a store.
pub fn measure(context: &Context<'_>, paths: &[&Path], protect: &ProtectSet) -> Vec<Reading<CreateCost>> {
    let deadline = context.deadline();
    let mut questions = Vec::new();
    let asked: Vec<Result<(), Reading<CreateCost>>> = paths
        .iter()
        .map(|path| {
            let gone = || Reading::Unavailable { why: format!("{} is gone", HostPath::from(*path)) };
            let (key, above) = identity(path).ok_or_else(gone)?;
            if let Some(what) = protect.covers(key, &above) {
                let why = format!("not tried: it is inside {}, which is protected: {}", what.path, what.why);
                return Err(Reading::Unavailable { why });
            }
            let path = c_path(path).map_err(|_| gone())?;
            questions.push(Question::Compare { path, name: unused_name() });
            Ok(())
        })
        .collect();
    let mut outcomes = deadline::ask_all(&questions, deadline).into_iter();
    let each = paths.iter().zip(asked).map(|(path, asked)| match asked {
        Ok(()) => reading(&HostPath::from(*path), outcomes.next().unwrap_or(Outcome::TimedOut), deadline),
        Err(reading) => reading,
    });
    each.collect()
}

/// The identity of a directory that is known to answer.
pub fn id(path: &Path) -> Option<FileId> {
    c_path(path).and_then(|path| file_id::of_path(&path, false)).ok()
}

fn reading(path: &HostPath, outcome: Outcome, deadline: Duration) -> Reading<CreateCost> {
    match outcome {
        Outcome::Answered(Answer::Compared { here, fresh }) => {
            Reading::ready(CreateCost::Works { here_micros: here, fresh_micros: fresh })
        }
        Outcome::Answered(Answer::Create(Created::NotCreated(Errno::ACCESS | Errno::PERM))) => {
            Reading::Denied { hint: format!("nothing may be created in {path}: run as root (sudo unwedge)") }
        }
        Outcome::Answered(Answer::Create(Created::NotCreated(Errno::ROFS))) => {
            Reading::Unavailable { why: "not tried: its file system is read-only".to_owned() }
        }
        Outcome::Answered(Answer::Create(Created::NotCreated(error))) => {
            Reading::ready(CreateCost::Fails { why: reason(error) })
        }
        Outcome::Answered(Answer::Create(Created::NotRemoved(error))) => Reading::ready(CreateCost::Fails {
            why: format!(
                "a directory could be created but not removed: {}; remove {path}/.unwedge-probe-* by hand",
                reason(error)
            ),
        }),
        other => no_answer(path, other, deadline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::protect::{Protected, Reach};
    use crate::probe::tests::Surroundings;

    #[test]
    fn both_are_measured_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::real();
        let missing = dir.path().join("missing");
        let readings = measure(&surroundings.context(), &[dir.path(), &missing], &ProtectSet::default());
        assert!(matches!(readings[0].value(), Some(CreateCost::Works { .. })), "{readings:?}");
        assert!(matches!(readings[1], Reading::Unavailable { .. }));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_tried_inside_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::real();
        let (key, _) = identity(dir.path()).unwrap();
        let mut protect = ProtectSet::default();
        let path = HostPath::from(dir.path());
        protect.protect(key, Protected { path, reach: Reach::Everything, why: "a store".to_owned() });
        let readings = measure(&surroundings.context(), &[dir.path()], &protect);
        assert!(matches!(&readings[0], Reading::Unavailable { why } if why.contains("a store")));
    }
}
