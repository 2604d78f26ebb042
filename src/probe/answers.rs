//! Whether a path can be looked at without hanging.

use std::path::Path;

use super::{Context, filesystems};
use crate::domain::text::HostPath;
use crate::sys::child::{Answer, Question};
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::mount_table::MountTable;
use crate::sys::safe_path;

/// What is to be done with the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    /// Its identity is asked for; a symbolic link at its end is not followed. The kernel may know the answer
    /// without asking the server.
    At,
    /// It is a directory that will be opened and listed, which always asks the server.
    Into,
}

/// Makes sure that a path can be looked at without hanging: where it leads over a server or a FUSE program, that
/// is asked first, in a child that may hang instead of us.
///
/// # Errors
/// A sentence that says what does not answer and what to do.
pub fn answers(context: &Context<'_>, path: &Path, looking: Looking) -> Result<(), String> {
    let mounts = filesystems::own_mounts(context).map(|(table, _)| table).unwrap_or_default();
    answers_among(context, &mounts, path, looking)
}

/// The same, among mounts that were listed before: for many paths at once.
///
/// # Errors
/// The same.
pub fn answers_among(
    context: &Context<'_>,
    mounts: &MountTable,
    path: &Path,
    looking: Looking,
) -> Result<(), String> {
    let shown = HostPath::from(path);
    if !safe_path::may_hang(mounts, path) {
        return Ok(());
    }
    let question = c_path(path)
        .map(|path| match looking {
            Looking::At => Question::Identity { path, follow: false },
            // Opens and reads the directory, and stops counting at once.
            Looking::Into => Question::Census { path, old_before: i64::MIN, stat_millis: 0, count_millis: 0 },
        })
        .map_err(|error| format!("{shown} cannot be looked at: {error}"))?;
    match deadline::ask(&question, context.deadline()) {
        Outcome::Answered(Answer::Failed(error)) => Err(format!("{shown} cannot be looked at: {error}")),
        Outcome::Answered(_) => Ok(()),
        Outcome::TimedOut => Err(format!(
            "{shown} does not answer: its server is gone; unmount {} first, lazily",
            mounts.at(path).map_or_else(|| shown.clone(), |entry| entry.mount_point.clone())
        )),
        Outcome::NotAsked(error) => Err(crate::sys::statvfs::not_asked(path, error)),
    }
}
