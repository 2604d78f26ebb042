//! Builds: which run and where, what they send to an engine, the locks they wait for, and where they put their data.

mod buildx;
mod command;
mod context;
mod locks;
mod places;
mod running;

use std::time::Instant;

use super::{Context, filesystems};
use crate::domain::builds::Builds;
use crate::domain::reading::Reading;

/// Looks at all of it.
pub fn look(context: &Context<'_>) -> Reading<Builds> {
    let until = Instant::now() + context.deadline();
    let mut missing = Vec::new();
    let mounts = match filesystems::own_mounts(context) {
        Ok((mounts, _)) => mounts,
        Err(why) => {
            missing.push(why);
            std::sync::Arc::default()
        }
    };
    let found = match running::look(context) {
        Ok(found) => found,
        Err(why) => return Reading::Unavailable { why },
    };
    let builds = Builds {
        contexts: context::look(context, &mounts, &found, until),
        locks: locks::look(context),
        places: places::look(context, &mounts, &found),
        buildx: buildx::look(context, &mounts, &mut missing),
        running: found.into_iter().map(|seen| seen.build).collect(),
    };
    Reading::with_missing(builds, missing)
}
