//! What builds can be repaired with on this machine.

use std::path::Path;
use std::time::Duration;

use super::{Context, chosen, engines, host};
use crate::domain::builds::{BuildxState, RepairMeans};
use crate::domain::caches::FrozenPlace;
use crate::domain::command::ToolUser;
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::tool::{self, Invocation, Outcome};

/// Docker's units, the one that would start the other first.
const UNITS: [&str; 2] = ["docker.socket", "docker.service"];

/// Looks at it. `buildx` is what was seen in home directories.
pub fn look(context: &Context<'_>, buildx: &[BuildxState]) -> Reading<RepairMeans> {
    let work = match engines::at_work(context) {
        Ok(work) => work,
        Err(why) => {
            return Reading::Unavailable { why: format!("nobody can say whether a build runs: {why}") };
        }
    };
    // sd_booted(3).
    let systemd = context.environment.rooted("/run/systemd/system").is_dir();
    let deadline = context.deadline();
    Reading::ready(RepairMeans {
        work,
        systemd,
        units: if systemd { units(deadline) } else { Vec::new() },
        buildx: works(&Invocation::new("docker").args(["buildx", "version"]), deadline),
        users: users(context, buildx),
        activity: buildx.iter().flat_map(|state| unwritten(context, state)).collect(),
    })
}

fn works(question: &Invocation, deadline: Duration) -> bool {
    matches!(tool::ask(question, deadline), Outcome::Said(said) if said.worked())
}

fn units(deadline: Duration) -> Vec<String> {
    // It works for a unit that there is (systemctl(1)).
    let is_there =
        |unit: &&str| works(&Invocation::new("systemctl").args(["cat", "--no-pager", *unit]), deadline);
    UNITS.into_iter().filter(is_there).map(str::to_owned).collect()
}

/// Whose builders there are; the person where there are none.
fn users(context: &Context<'_>, buildx: &[BuildxState]) -> Vec<ToolUser> {
    let all: Vec<ToolUser> = host::users(context)
        .into_iter()
        .map(|user| ToolUser {
            name: Some(user.name),
            uid: user.uid,
            gid: user.gid,
            home: HostPath::from_bytes(user.home),
        })
        .collect();
    let has_state = |user: &&ToolUser| {
        buildx.iter().any(|state| state.path.as_path() == user.home.as_path().join(".docker/buildx"))
    };
    let with_state: Vec<ToolUser> = all.iter().filter(has_state).cloned().collect();
    if with_state.is_empty() {
        let person = context.environment.home.as_path();
        return all.into_iter().find(|user| user.home.as_path() == person).into_iter().collect();
    }
    with_state
}

/// What buildx writes anew, and what it cannot read.
fn unwritten(context: &Context<'_>, state: &BuildxState) -> Vec<FrozenPlace> {
    let activity = activity(context, state);
    let whole = activity.as_ref().map(|frozen| frozen.place.clone());
    // With the directory goes what is in it.
    let is_apart =
        |path: &&HostPath| whole.as_ref().is_none_or(|whole| !path.as_path().starts_with(whole.as_path()));
    let damaged = state
        .damaged
        .iter()
        .filter(is_apart)
        .map(|path| FrozenPlace { place: path.clone(), files: freeze(context, path.as_path(), 1) });
    activity.into_iter().chain(damaged).collect()
}

fn activity(context: &Context<'_>, state: &BuildxState) -> Option<FrozenPlace> {
    let place = state.path.as_path().join("activity");
    let entries = std::fs::read_dir(&place).ok()?;
    let count = u64::try_from(entries.count()).unwrap_or(u64::MAX).saturating_add(1);
    let files = freeze(context, &place, count);
    Some(FrozenPlace { place: HostPath::from(place), files })
}

fn freeze(
    context: &Context<'_>,
    place: &Path,
    entries: u64,
) -> Result<Vec<crate::domain::snapshot::ChosenFile>, String> {
    Ok(vec![chosen::freeze(context, place, Bytes::ZERO, Bytes::ZERO, entries)?])
}
