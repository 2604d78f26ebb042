//! Where builds put their data, and how much room is left there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::running::Seen;
use crate::domain::builds::BuildPlace;
use crate::domain::engines::EngineKind;
use crate::domain::text::HostPath;
use crate::probe::{Context, engines};
use crate::sys::mount_table::MountTable;
use crate::sys::{safe_path, statvfs};

/// The directories that are there: temporary files, the stores of engines, what buildx keeps.
pub(super) fn look(context: &Context<'_>, mounts: &MountTable, builds: &[Seen]) -> Vec<BuildPlace> {
    let environment = context.environment;
    let mut places: Vec<(String, PathBuf)> = vec![
        ("temporary files".to_owned(), environment.rooted("/tmp")),
        ("temporary files of podman and buildah".to_owned(), environment.rooted("/var/tmp")),
        ("buildx state".to_owned(), environment.home.join(".docker/buildx")),
    ];
    for (engine, place) in engines::places::named(context) {
        let what = match engine {
            EngineKind::Docker => "docker data",
            EngineKind::Podman => "podman and buildah store",
            EngineKind::Containerd => "containerd data",
        };
        places.push((what.to_owned(), place));
    }
    let mut temp_dirs: BTreeMap<&[u8], Vec<String>> = BTreeMap::new();
    for seen in builds.iter().filter(|seen| seen.build.same_mounts) {
        if let Some(dir) = seen.temp_dir.as_deref().filter(|dir| dir.starts_with(b"/")) {
            let build = &seen.build;
            temp_dirs.entry(dir).or_default().push(format!("{} (pid {})", build.tool, build.root.pid));
        }
    }
    for (dir, whose) in temp_dirs {
        places.push((format!("TMPDIR of {}", whose.join(", ")), PathBuf::from(OsStr::from_bytes(dir))));
    }
    places.into_iter().filter_map(|(what, path)| place(context, mounts, what, &path)).collect()
}

fn place(context: &Context<'_>, mounts: &MountTable, what: String, path: &Path) -> Option<BuildPlace> {
    let fixture = context.environment.root != Path::new("/");
    let usage = if !fixture && safe_path::may_hang(mounts, path) {
        statvfs::usage_at(path, context.deadline())
    } else if path.is_dir() {
        statvfs::usage_near(path)
    } else {
        return None;
    };
    // Its links are followed for the mount only: what a person configured is what is shown.
    let real = if matches!(usage, crate::domain::reading::Reading::Ready { .. }) && !fixture {
        std::fs::canonicalize(path).ok()
    } else {
        None
    };
    let mount_point =
        real.and_then(|real| mounts.at(&real).map(|entry| HostPath::from(entry.mount_point.as_path())));
    Some(BuildPlace { what, path: path.into(), mount_point, usage })
}
