//! Container engines: each is asked through its own client, with a deadline. Where it does not answer, what its store
//! takes on disk is counted instead.

mod containerd;
mod docker;
mod podman;
mod still;
pub(super) mod store;
mod volumes;
mod words;
mod work;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use crate::domain::engines::{Container, ContainerLog, Content, Engine, EngineKind};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::deadline::c_path;
use crate::sys::{file_id, tool};

pub use still::{container_still_unused, image_still_unused, volume_still_unused};
pub use work::at_work;

/// Asks every engine that is installed or has a store, side by side.
pub fn look(context: &Context<'_>) -> Reading<Vec<Engine>> {
    thread::scope(|scope| {
        let docker = scope.spawn(|| docker::look(context));
        let podman = scope.spawn(|| podman::look(context));
        let containerd = containerd::look(context);
        let mut missing = Vec::new();
        let mut found: Vec<Engine> = Vec::new();
        for (name, asked) in [("docker", docker), ("podman", podman)] {
            match asked.join() {
                Ok(engine) => found.extend(engine),
                Err(_) => missing
                    .push(format!("asking {name} failed, which is a fault in unwedge: please report it")),
            }
        }
        found.extend(containerd);
        Reading::with_missing(found, missing)
    })
}

/// How long a client may take: engines with many images compute for seconds.
pub(super) fn deadline(context: &Context<'_>) -> Duration {
    Duration::from_millis(context.settings.engines.deadline_ms)
}

/// Where docker keeps its data.
pub(super) fn docker_store(context: &Context<'_>) -> PathBuf {
    docker::store(context)
}

/// Where podman and buildah keep theirs.
pub(super) fn podman_store(context: &Context<'_>) -> PathBuf {
    podman::store(context)
}

/// Whether there is anything to ask: the client, or a store that an engine left behind.
fn is_there(program: &str, store: &Path) -> bool {
    matches!(tool::find(program), Ok(Some(_)) | Err(_)) || store.is_dir()
}

/// Puts an engine together: its store is counted only where the engine does not tell.
fn engine(kind: EngineKind, store: &Path, content: Reading<Content>, deadline: Duration) -> Engine {
    let store_size = match &content {
        Reading::Ready { .. } | Reading::Partial { .. } => {
            Reading::Unavailable { why: format!("not counted: {kind} answers") }
        }
        Reading::Pending
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => store::size(store, deadline),
    };
    Engine { kind, store: HostPath::from(store), store_size, content }
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
