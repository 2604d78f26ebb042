//! What buildx keeps in `~/.docker/buildx`: definitions of builders (`instances`) and when each was last used
//! (`activity`), the file that a build writes first and fails on where it cannot.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::domain::builds::{BuildxActivity, BuildxState};
use crate::domain::text::HostText;
use crate::probe::{Context, host};
use crate::sys::mount_table::MountTable;
use crate::sys::safe_path;

/// Builders of one home that are named.
const BUILDERS: usize = 100;

/// Looks into every home directory of this machine's file systems.
pub(super) fn look(
    context: &Context<'_>,
    mounts: &MountTable,
    missing: &mut Vec<String>,
) -> Vec<BuildxState> {
    let fixture = context.environment.root != Path::new("/");
    let mut homes: Vec<PathBuf> = host::users(context)
        .into_iter()
        .map(|user| PathBuf::from(OsStr::from_bytes(&user.home)))
        .chain([context.environment.home.clone()])
        .filter(|home| home.is_absolute() && home.parent().is_some())
        .map(|home| {
            if home.starts_with(&context.environment.root) { home } else { context.environment.rooted(home) }
        })
        .collect();
    homes.sort_unstable();
    homes.dedup();
    homes
        .into_iter()
        // Homes on a server are told by the probe of caches.
        .filter(|home| fixture || !safe_path::may_hang(mounts, home))
        .filter_map(|home| state(&home, missing))
        .collect()
}

fn state(home: &Path, missing: &mut Vec<String>) -> Option<BuildxState> {
    let dir = home.join(".docker/buildx");
    let owner = home.metadata().ok()?.uid();
    if !dir.symlink_metadata().ok()?.is_dir() {
        return None;
    }
    let mut state = BuildxState {
        path: dir.as_path().into(),
        instances: 0,
        activity: Vec::new(),
        half_written: 0,
        foreign: 0,
    };
    let instances = dir.join("instances");
    state.instances = std::fs::read_dir(&instances).map_or(0, |entries| entries.flatten().count() as u64);
    let activity = dir.join("activity");
    let entries = match std::fs::read_dir(&activity) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                missing.push(format!("{}: permission denied", crate::domain::text::HostPath::from(activity)));
            }
            return Some(state);
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        state.foreign += u64::from(entry.metadata().is_ok_and(|meta| meta.uid() != owner));
        if name.as_bytes().starts_with(b".tmp-") {
            state.half_written += 1;
        } else if state.activity.len() < BUILDERS {
            // Contexts of docker (`default`) are builders without a definition of their own.
            let exists = name == "default" || instances.join(&name).symlink_metadata().is_ok();
            state.activity.push(BuildxActivity {
                last: last(&entry.path()),
                builder: HostText::from(name.as_os_str()),
                exists,
            });
        }
    }
    state.activity.sort_by(|a, b| (a.last, &a.builder).cmp(&(b.last, &b.builder)));
    Some(state)
}

/// The moment in such a file, in the form of RFC 3339.
fn last(path: &Path) -> Option<jiff::Timestamp> {
    use std::io::Read as _;
    let mut text = String::new();
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    std::fs::File::open(path).ok()?.take(100).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
