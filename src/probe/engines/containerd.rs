//! containerd, by what ctr prints for people: it has no JSON. Each namespace is asked by itself (ctr(8)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::client::Door;
use super::{client, counted, deadline, places, words};
use crate::domain::engines::{Container, ContainerState, Content, Engine, EngineKind, Image, Trouble};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::sys::beside::beside;
use crate::sys::tool::{self, Invocation};

/// Namespaces that are asked: k8s.io, moby, default and what somebody may have made.
const NAMESPACES: usize = 16;
/// The one in which docker keeps what is its own.
const OF_DOCKER: &str = "moby";

/// What was found: apart what belongs to docker if docker keeps its images here.
pub(super) struct Found {
    pub(super) engine: Engine,
    /// Where it listens.
    pub(super) socket: PathBuf,
    of_docker: Content,
}

impl Found {
    /// With what is in docker's namespace.
    pub(super) fn whole(self) -> Engine {
        let mut engine = self.engine;
        let of_docker = self.of_docker;
        engine.content = engine.content.map(|mut content| {
            content.images.extend(of_docker.images);
            content.containers.extend(of_docker.containers);
            content
        });
        engine
    }

    /// Without what docker tells of; none if nothing is left.
    pub(super) fn without_docker(self) -> Option<Engine> {
        let empty = self
            .engine
            .content
            .value()
            .is_none_or(|content| content.images.is_empty() && content.containers.is_empty());
        (!empty).then_some(self.engine)
    }
}

/// Asks it. Its store is counted beside: what ctr prints of images is their size in the registry.
pub(super) fn look(context: &Context<'_>) -> Option<Found> {
    let places::Containerd { root: store, socket } = places::containerd(context);
    // Docker's own containerd keeps only an empty skeleton there.
    if !store.join("io.containerd.content.v1.content/blobs").is_dir() {
        return None;
    }
    let (store_size, (kept, of_docker)) =
        beside(|| counted(&store, deadline(context)), || ask_all(context, &socket));
    let mut engine = Engine::new(EngineKind::Containerd, HostPath::from(store.as_path()));
    let (kept, trouble) = words::understood(kept);
    (engine.content, engine.store_size) = (kept, store_size);
    engine.trouble = match &engine.content {
        Reading::NotHere { .. } => Some(Trouble::NotRunning { socket: HostPath::from(socket.as_path()) }),
        Reading::Pending
        | Reading::Ready { .. }
        | Reading::Partial { .. }
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::Unavailable { .. } => trouble,
    };
    Some(Found { engine, socket, of_docker })
}

fn ask_all(context: &Context<'_>, socket: &Path) -> (Reading<Content>, Content) {
    if client::knock(socket) == Door::Nobody {
        let shown = HostPath::from(socket);
        let why = format!("containerd does not run: nobody listens on {shown}");
        return (Reading::NotHere { why }, Content::default());
    }
    let until = Instant::now() + deadline(context);
    let ask = |arguments: &[&str]| {
        let ctr = Invocation::new("ctr").arg("--address").arg(socket).args(arguments);
        let said = tool::ask(&ctr, until.saturating_duration_since(Instant::now()));
        said.reading("ctr", |output| Ok(output.to_vec()))
    };
    let namespaces = ask(&["namespaces", "ls", "--quiet"]);
    let Some(value) = namespaces.value() else {
        return (namespaces.map(|_| Content::default()), Content::default());
    };
    let names: Vec<String> = rows(value, 0).into_iter().filter_map(|row| row.into_iter().next()).collect();
    let (mut all, mut of_docker, mut missing) = (Content::default(), Content::default(), Vec::new());
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
        let part = if name == OF_DOCKER { &mut of_docker } else { &mut all };
        part.images.extend(self::images(&images, &containers));
        part.containers.extend(containers);
    }
    (Reading::with_missing(all, missing), of_docker)
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
            read_only: false,
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
