//! Container engines: each is asked through its own client, with a deadline. Where it does not answer, what its store
//! takes on disk is counted instead.

mod client;
mod containerd;
mod docker;
mod lock;
pub(super) mod places;
mod podman;
mod skeleton;
mod still;
pub(super) mod store;
mod volumes;
mod words;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use crate::domain::engines::{Container, ContainerLog, Engine};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::beside::beside;
use crate::sys::deadline::c_path;
use crate::sys::file_id;

pub use still::{container_still_unused, image_still_unused, volume_still_unused};
pub use work::{at_work, nothing_builds};

/// Asks every engine that is installed or has a store, side by side.
pub fn look(context: &Context<'_>) -> Reading<Vec<Engine>> {
    let (docker, (podman, containerd)) =
        beside(|| docker::look(context), || beside(|| podman::look(context), || containerd::look(context)));
    let (docker, containerd) = one_engine(docker, containerd);
    Reading::ready([docker, podman, containerd].into_iter().flatten().collect())
}

/// With the image store of containerd, what containerd keeps for docker is docker's: one engine, not two.
fn one_engine(
    docker: Option<docker::Found>,
    containerd: Option<containerd::Found>,
) -> (Option<Engine>, Option<Engine>) {
    let (docker, containerd) = match (docker, containerd) {
        (Some(docker), Some(containerd)) => (docker, containerd),
        (docker, containerd) => {
            return (docker.map(|found| found.engine), containerd.map(containerd::Found::whole));
        }
    };
    let mut engine = docker.engine;
    match docker.containerd {
        // Its own containerd keeps all below docker's data root.
        Some(socket) if !socket.as_os_str().is_empty() && !is_same(&socket, &containerd.socket) => {
            (Some(engine), Some(containerd.whole()))
        }
        Some(_) => {
            engine.images_at = Some(containerd.engine.store.clone());
            (Some(engine), containerd.without_docker())
        }
        None => (Some(engine), Some(containerd.whole())),
    }
}

/// Whether two paths lead to one socket: `/var/run` is a link.
fn is_same(one: &Path, other: &Path) -> bool {
    let key = |path: &Path| c_path(path).and_then(|path| file_id::of_path(&path, true)).map(|id| id.key);
    one == other || matches!((key(one), key(other)), (Ok(one), Ok(other)) if one == other)
}

/// What a store takes, counted file by file.
fn counted(store: &Path, deadline: Duration) -> Reading<Bytes> {
    store::size(store, deadline)
}

/// How long a client may take: engines with many images compute for seconds.
pub(super) fn deadline(context: &Context<'_>) -> Duration {
    Duration::from_millis(context.settings.engines.deadline_ms)
}

/// Fills in the log files of containers, where they can be seen.
fn add_logs(containers: &mut [Container], path_of: impl Fn(&Container) -> PathBuf) {
    use std::os::unix::fs::MetadataExt as _;
    for container in containers {
        let path = path_of(container);
        if let Ok(meta) = path.symlink_metadata()
            && meta.is_file()
        {
            let allocated = Bytes(meta.blocks().saturating_mul(512));
            let id = c_path(&path).and_then(|path| file_id::of_path(&path, false)).ok();
            container.log = Some(ContainerLog { path: HostPath::from(path.as_path()), id, allocated });
        }
    }
}

/// An id that can be a component of a path.
fn is_id(text: &[u8]) -> bool {
    text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit)
}

/// A size as Docker prints it (`7.225MB`, powers of 1000, rounded to four digits).
fn printed_size(text: &str) -> Option<Bytes> {
    text.parse::<bytesize::ByteSize>().ok().map(|size| Bytes(size.as_u64()))
}

/// A moment as Go prints it (`2026-11-26 13:28:09.396972034 +0000 UTC`).
fn printed_time(text: &str) -> Option<Timestamp> {
    let (date_and_offset, _zone) = text.rsplit_once(' ')?;
    let (date, offset) = date_and_offset.rsplit_once(' ')?;
    let date = date.replacen(' ', "T", 1);
    format!("{date}{}:{}", offset.get(..3)?, offset.get(3..)?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_prints_for_people_is_understood() {
        assert_eq!(printed_size("7.225MB"), Some(Bytes(7_225_000)));
        assert_eq!(printed_size("0B"), Some(Bytes(0)));
        assert_eq!(printed_size("1.98kB"), Some(Bytes(1980)));
        assert_eq!(printed_size("N/A"), None);
        let time = printed_time("2026-11-26 13:28:09.396972034 +0000 UTC").unwrap();
        assert_eq!(time.to_string(), "2026-11-26T13:28:09.396972034Z");
        assert_eq!(
            printed_time("2026-11-26 14:28:09 +0100 CET").unwrap().to_string(),
            "2026-11-26T13:28:09Z"
        );
        for bad in ["", "yesterday", "a b c d", "é é é"] {
            assert_eq!(printed_time(bad), None);
        }
    }
}
