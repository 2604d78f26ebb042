//! Whether a directory changed since it was scanned.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::Context;
use crate::domain::text::HostPath;

/// File systems stamp with the clock of the last timer tick, which is up to 10 ms old (`CONFIG_HZ` is 100 at least).
const TICK: Duration = Duration::from_millis(20);

/// Whether entries came to or went from a directory since a moment: its modification time is later. What grew in it
/// cannot be told from that.
///
/// # Errors
/// A sentence that says why it cannot be looked at: it may be gone.
pub fn since(context: &Context<'_>, dir: &Path, moment: SystemTime) -> Result<bool, String> {
    super::answers(context, dir, super::Looking::At)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(CWD, dir, flags, StatxFlags::MTIME)
        .map_err(|error| format!("{} cannot be looked at: {error}", HostPath::from(dir)))?;
    let modified = u64::try_from(stat.stx_mtime.tv_sec)
        .ok()
        .and_then(|secs| SystemTime::UNIX_EPOCH.checked_add(Duration::new(secs, stat.stx_mtime.tv_nsec)));
    let moment = moment.checked_sub(TICK).unwrap_or(moment);
    // A time before 1970 is no time of a change now.
    Ok(modified.is_some_and(|modified| modified >= moment))
}
