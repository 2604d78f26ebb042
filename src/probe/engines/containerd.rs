//! containerd, by what ctr prints for people: it has no JSON. Each namespace is asked by itself (ctr(8)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use super::{deadline, store, words};
use crate::domain::engines::{Container, ContainerState, Content, Engine, EngineKind, Image};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::sys::tool::{self, Invocation};

/// Its defaults (containerd-config.toml(5)).
const STORE: &str = "/var/lib/containerd";
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Namespaces that are asked: k8s.io, moby, default and what somebody may have made.
const NAMESPACES: usize = 16;

/// Asks it. Its store is counted beside: what ctr prints of images is their size in the registry.
pub(super) fn look(context: &Context<'_>) -> Option<Engine> {
    let settings = &context.settings.engines;
    let set = |value: &str, default: &str| match value {
        "" => context.environment.rooted(default),
        value => PathBuf::from(value),
    };
    let store = set(&settings.containerd_root, STORE);
    // Docker's own containerd keeps only an empty skeleton there.
    if !store.join("io.containerd.content.v1.content/blobs").is_dir() {
        return None;
    }
    let socket = set(&settings.containerd_socket, SOCKET);
    let (kept, store_size) = thread::scope(|scope| {
        let counted = scope.spawn(|| store::size(&store, deadline(context)));
        (ask_all(context, &socket), counted.join().unwrap_or(Reading::Pending))
    });
    Some(Engine {
        kind: EngineKind::Containerd,
        store: HostPath::from(store.as_path()),
        store_size,
        content: kept,
    })
}

fn ask_all(context: &Context<'_>, socket: &Path) -> Reading<Content> {
    if !socket.exists() {
        let shown = HostPath::from(socket);
        return Reading::NotHere { why: format!("containerd does not run: there is no {shown}") };
    }
    let until = Instant::now() + deadline(context);
    let ask = |arguments: &[&str]| {
        let ctr = Invocation::new("ctr").arg("--address").arg(socket).args(arguments);
        let said = tool::ask(&ctr, until.saturating_duration_since(Instant::now()));
        words::understood(said.reading("ctr", |output| Ok(output.to_vec())))
    };
    let namespaces = ask(&["namespaces", "ls", "--quiet"]);
    let names: Vec<String> = match &namespaces {
        Reading::Ready { value } | Reading::Partial { value, .. } => {
            rows(value, 0).into_iter().filter_map(|row| row.into_iter().next()).collect()
        }
        other => return other.clone().map(|_| Content::default()),
    };
    let (mut all, mut missing) = (Content::default(), Vec::new());
    if names.len() > NAMESPACES {
        missing.push(format!("{} namespaces of containerd were not looked at", names.len() - NAMESPACES));
    }
    for name in names.iter().take(NAMESPACES) {
        let mut list = |what: &str| {
            let reading = ask(&["--namespace", name, what, "ls"]);
            missing.extend(reading.gaps().into_iter().map(|gap| format!("{what} of {name}: {gap}")));
            reading.value().cloned().unwrap_or_default()
        };
        let (images, containers, tasks) = (list("images"), list("containers"), list("tasks"));
        let containers = self::containers(&containers, &tasks);
        all.images.extend(self::images(&images, &containers));
        all.containers.extend(containers);
    }
    Reading::with_missing(all, missing)
}

/// The words of each line, without `skip` lines of heading.
fn rows(output: &[u8], skip: usize) -> Vec<Vec<String>> {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().skip(skip).map(|line| line.split_whitespace().map(ToOwned::to_owned).collect());
    lines.filter(|row: &Vec<String>| !row.is_empty()).collect()
}

/// `REF TYPE DIGEST SIZE PLATFORMS LABELS`, the size with its unit as a word of its own. One image can have several
/// lines: its name with a tag, with a digest, and its id.
fn images(output: &[u8], containers: &[Container]) -> Vec<Image> {
    let mut found: BTreeMap<String, Image> = BTreeMap::new();
    for row in rows(output, 1) {
        let [name, _, digest, number, unit, ..] = row.as_slice() else { continue };
        let Ok(size) = format!("{number} {unit}").parse::<bytesize::ByteSize>() else { continue };
        let name = HostText::from(name.as_str());
        let users = containers.iter().filter(|container| container.image == name).count() as u64;
        let id = digest.strip_prefix("sha256:").unwrap_or(digest);
        let image = found.entry(id.to_owned()).or_insert_with(|| Image {
            id: HostText::from(id),
            names: Vec::new(),
            size: Bytes(size.as_u64()),
            unique: None,
            created: None,
            containers: 0,
        });
        image.names.push(name);
        image.containers += users;
    }
    found.into_values().collect()
}

/// `CONTAINER IMAGE RUNTIME`, and of those that run `TASK PID STATUS`.
fn containers(output: &[u8], tasks: &[u8]) -> Vec<Container> {
    let tasks = rows(tasks, 1);
    let runs = |id: &str| {
        tasks.iter().any(|row| {
            row.first().is_some_and(|task| task == id) && row.get(2).is_none_or(|state| state != "STOPPED")
        })
    };
    let all = rows(output, 1);
    all.iter()
        .filter_map(|row| {
            let [id, image, ..] = row.as_slice() else { return None };
            Some(Container {
                id: HostText::from(id.as_str()),
                name: HostText::default(),
                image: HostText::from(image.as_str()),
                image_id: None,
                state: if runs(id) { ContainerState::Running } else { ContainerState::Stopped },
                layer: None,
                created: None,
                log: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As ctr 1.6.20 printed it.
    const IMAGES: &[u8] = b"REF                TYPE                                       DIGEST                                                                  SIZE    PLATFORMS   LABELS \nlocalhost/x/base:1 application/vnd.oci.image.manifest.v1+json sha256:17a7b0111b93d37395002728620bedd2308d51fe0cba31e77c83704ffc0f5df3 1.0 MiB linux/amd64 -      \nsha256:17a7 application/vnd.oci.image.manifest.v1+json sha256:17a7b0111b93d37395002728620bedd2308d51fe0cba31e77c83704ffc0f5df3 1.0 MiB linux/amd64 -      \n";
    const CONTAINERS: &[u8] = b"CONTAINER    IMAGE                 RUNTIME                  \nc1           localhost/x/base:1    io.containerd.runc.v2    \nc2           localhost/x/base:1    io.containerd.runc.v2    \n";
    const TASKS: &[u8] =
        b"TASK    PID    STATUS    \nc2      812    RUNNING    \nc1      0      STOPPED    \n";

    #[test]
    fn the_tables_are_put_together() {
        let containers = containers(CONTAINERS, TASKS);
        let states: Vec<ContainerState> = containers.iter().map(|one| one.state).collect();
        assert_eq!(states, [ContainerState::Stopped, ContainerState::Running]);
        let images = images(IMAGES, &containers);
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].names.len(), images[0].containers, images[0].size), (2, 2, Bytes(1 << 20)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list(bytes: Vec<u8>) {
            let _ = images(&bytes, &containers(&bytes, &bytes));
        }
    }
}
