//! What runs have set aside and never removed: it is beside its old place, under a name that carries the run.

use rustix::fs::{AtFlags, statat};

use super::{Context, Looking};
use crate::domain::identity::FileId;
use crate::domain::past::{Leftover, PastRun, SET_ASIDE, Taken};
use crate::domain::text::HostPath;
use crate::sys::{beneath, file_id};

/// The name of a thing in the directory made for it.
const ITEM: &str = "item";

/// What is left of a run that is over. Also returns what could not be looked at.
pub fn of_run(context: &Context<'_>, run: &PastRun) -> (Vec<Leftover>, Vec<String>) {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    if run.running {
        return (found, missing);
    }
    for taken in &run.taken {
        let parent = taken.path.as_path().parent().unwrap_or(taken.path.as_path());
        match super::answers(context, parent, Looking::At) {
            Ok(()) => found.extend(beside(run, taken)),
            Err(why) => missing.push(why),
        }
    }
    (found, missing)
}

fn beside(run: &PastRun, taken: &Taken) -> Option<Leftover> {
    let parent = taken.path.as_path().parent()?;
    let aside = parent.join(format!("{SET_ASIDE}{}-{}", run.run, taken.step));
    // In a directory of its own, or only renamed where none could be made.
    let (from, id) = [aside.join(ITEM), aside]
        .into_iter()
        .filter_map(|path| Some((identity(&path)?, path)))
        .find(|(id, _)| taken.id.matches(id).is_ok())
        .map(|(id, path)| (HostPath::from(path), id))?;
    let located = beneath::open_parent(taken.path.as_path()).ok()?;
    let free = statat(&located.parent, &located.name, AtFlags::SYMLINK_NOFOLLOW).is_err();
    Some(Leftover { run: run.run.clone(), from, to: taken.path.clone(), id, taken: !free })
}

fn identity(path: &std::path::Path) -> Option<FileId> {
    let located = beneath::open_parent(path).ok()?;
    file_id::of_entry(&located.parent, &located.name).ok()
}
