//! Who holds the locks of a store (containers/storage, pkg/lockfile): all that podman and buildah do waits for them.

use std::path::{Path, PathBuf};

use crate::domain::engines::{LockedBy, Trouble};
use crate::domain::redact;
use crate::domain::text::HostPath;
use crate::probe::{Context, busy};
use crate::sys::deadline::c_path;
use crate::sys::file_id;

/// The locks of a store, as containers/storage 1.43 to 1.59 names them, and podman's own database.
const LOCKS: [&str; 3] = ["storage.lock", "libpod/bolt_state.db", "db.sql"];
/// Those of each of its parts, below `DRIVER-…`.
const OF_PARTS: [&str; 3] = ["images/images.lock", "layers/layers.lock", "containers/containers.lock"];
/// Drivers of which a store may have parts.
const DRIVERS: [&str; 3] = ["overlay", "vfs", "btrfs"];

/// The lock that is held now, and by whom. A lock that lives in another pid namespace has no holder.
pub(super) fn held(context: &Context<'_>, store: &Path) -> Option<Trouble> {
    let locked = busy::locks(context);
    let parts = DRIVERS.into_iter().flat_map(|driver| OF_PARTS.map(|part| format!("{driver}-{part}")));
    let mut paths: Vec<PathBuf> = LOCKS.iter().map(|lock| store.join(lock)).collect();
    paths.extend(parts.map(|part| store.join(part)));
    let (path, pid) = paths.into_iter().find_map(|path| {
        let key = file_id::of_path(&c_path(&path).ok()?, false).ok()?.key;
        let pid = *locked.get(&key)?;
        Some((path, pid))
    })?;
    let command = || redact::command_line(&context.proc().arguments(pid).unwrap_or_default());
    let holder = (pid.0 > 0).then(|| LockedBy { pid, command: command() });
    Some(Trouble::Locked { lock: HostPath::from(path.as_path()), holder })
}
