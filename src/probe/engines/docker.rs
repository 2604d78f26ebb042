//! Docker, by `docker system df` and `docker info` (docs.docker.com/reference/cli/docker/system); if the first does not
//! tell, by the lists of images, containers and volumes.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::client::{self, Client, Door, Endpoint};
use super::{
    add_logs, counted, deadline, is_id, places, printed_size, printed_time, skeleton, volumes, words,
};
use crate::domain::engines::{
    CacheRecord, Container, ContainerState, Content, Engine, EngineKind, Image, Reach, Trouble, Volume,
};
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::sys::beside::beside;
use crate::sys::tool::{self, Invocation};

/// What names the containerd image store in `docker info` (docs.docker.com/engine/storage/containerd).
const CONTAINERD_STORE: &str = "io.containerd.snapshotter.v1";

/// An engine, and the socket of the containerd that keeps its images, if it is not docker's own.
pub(super) struct Found {
    pub(super) engine: Engine,
    pub(super) containerd: Option<PathBuf>,
}

impl From<Engine> for Found {
    fn from(engine: Engine) -> Self {
        Self { engine, containerd: None }
    }
}

/// Asks the daemon of this machine.
pub(super) fn look(context: &Context<'_>) -> Option<Found> {
    let store = places::docker(context);
    let mut engine = Engine::new(EngineKind::Docker, HostPath::from(store.as_path()));
    match client::docker() {
        Client::Docker => {}
        Client::Missing => {
            let why = "docker is not installed, so what its store keeps cannot be asked for".to_owned();
            return left_behind(context, engine, Trouble::NoClient, why);
        }
        Client::Podman => {
            let why = "the program docker is podman here, so what docker's store keeps cannot be asked for"
                .to_owned();
            return left_behind(context, engine, Trouble::ClientIsPodman, why);
        }
    }
    let endpoint = client::endpoint(context);
    let sockets = client::sockets(context, endpoint.as_ref().ok());
    let open: Vec<&PathBuf> = sockets.iter().filter(|path| client::knock(path) == Door::Open).collect();
    let elsewhere = endpoint.as_ref().ok().filter(|endpoint| endpoint.socket().is_none());
    engine.elsewhere = elsewhere.map(Endpoint::elsewhere);
    if let Some((socket, others)) = open.split_first() {
        engine.others = others.iter().map(|path| HostPath::from(path.as_path())).collect();
        return Some(ask(context, engine, socket));
    }
    // Nobody listens here. The store may be there all the same.
    if let Some(elsewhere) = engine.elsewhere.clone() {
        engine.content = Reading::NotHere { why: elsewhere.to_string() };
        if !skeleton::is_empty(&store, deadline(context)) {
            engine.trouble = Some(not_running(sockets.first()));
            engine.store_size = counted(&store, deadline(context));
        }
        return Some(engine.into());
    }
    if let Err(why) = endpoint {
        return left_behind(context, engine, Trouble::Settings, why);
    }
    if let Some(shut) = sockets.iter().find(|path| client::knock(path) == Door::Forbidden) {
        let shown = HostPath::from(shut.as_path());
        engine.content = Reading::Denied {
            hint: format!("{shown} lets only root and its group in: run as root (sudo unwedge)"),
        };
        engine.trouble = Some(Trouble::Forbidden);
        engine.store_size = counted(&store, deadline(context));
        return Some(engine.into());
    }
    let trouble = not_running(sockets.first());
    let shown = sockets.first().map(|path| HostPath::from(path.as_path()).to_string()).unwrap_or_default();
    left_behind(context, engine, trouble, format!("docker does not run: nobody listens on {shown}"))
}

fn not_running(socket: Option<&PathBuf>) -> Trouble {
    Trouble::NotRunning { socket: socket.map(|path| HostPath::from(path.as_path())).unwrap_or_default() }
}

/// An engine that cannot be asked. A store without anything is none.
fn left_behind(context: &Context<'_>, mut engine: Engine, trouble: Trouble, why: String) -> Option<Found> {
    let store = engine.store.as_path();
    if skeleton::is_empty(store, deadline(context)) {
        return None;
    }
    engine.store_size = counted(store, deadline(context));
    engine.content = Reading::NotHere { why };
    engine.trouble = Some(trouble);
    Some(engine.into())
}

/// Asks the daemon behind a socket.
fn ask(context: &Context<'_>, mut engine: Engine, socket: &Path) -> Found {
    let deadline = deadline(context);
    let host = [b"unix://".as_slice(), std::os::unix::ffi::OsStrExt::as_bytes(socket.as_os_str())].concat();
    engine.reach.arguments = vec![HostText::from("--host"), HostText::new(host)];
    let reach = engine.reach.clone();
    let question = |arguments: &[&str]| tool::ask(&of(context, &reach).args(arguments), deadline);
    // The list of names beside it: the other tells one name of each image (client 28).
    let names = || {
        question(&["image", "ls", "--no-trunc", "--format", "{{json .}}"])
            .reading("docker", lines::<NameLine>)
    };
    let info = || question(&["info", "--format", "{{json .}}"]).reading("docker", parse_info);
    let usage =
        || question(&["system", "df", "--verbose", "--format", "{{json .}}"]).reading("docker", parse);
    let (names, (info, kept)) = beside(names, || beside(info, usage));
    let info = info.value().cloned();
    if let Some(root) =
        info.as_ref().map(|info| info.docker_root_dir.clone()).filter(|root| root.is_absolute())
    {
        let root = context.environment.rooted(root);
        // One that certainly is not there: what may not be looked at may be there.
        if matches!(root.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            let why = format!(
                "the daemon behind {} keeps its data in {}, and that is not on this machine: it runs in a virtual machine, \
                 or outside of this container",
                HostPath::from(socket),
                HostPath::from(root.as_path())
            );
            engine.store_size = Reading::NotHere { why: why.clone() };
            engine.content = Reading::NotHere { why };
            return engine.into();
        }
        engine.store = HostPath::from(root.as_path());
    }
    let store = engine.store.as_path().to_path_buf();
    let (mut kept, trouble) = words::understood(kept);
    engine.trouble = trouble;
    if kept.value().is_none() && names.value().is_some() {
        let why = kept.unknown();
        kept = by_lists(&names, &question, kept);
        if let (Reading::Ready { value }, Some(Trouble::Busy)) = (&kept, &engine.trouble) {
            let missing = vec![format!(
                "what each thing takes by itself and the build cache: somebody else asks docker for its disk usage, which \
                 it computes for one at a time ({why}); try again"
            )];
            kept = Reading::with_missing(value.clone(), missing);
        } else if let Reading::Ready { value } = &kept {
            kept = Reading::with_missing(value.clone(), vec![format!("disk usage: {why}")]);
        }
    }
    let mut kept = with_names(kept, &names);
    if let Reading::Ready { value } | Reading::Partial { value, .. } = &mut kept {
        volumes::describe(context, &reach, &mut value.volumes);
        let containers = store.join("containers");
        add_logs(&mut value.containers, |container| {
            let id = container.id.to_string();
            if is_id(container.id.as_bytes()) {
                containers.join(&id).join(format!("{id}-json.log"))
            } else {
                PathBuf::new()
            }
        });
    }
    engine.store_size = match &kept {
        Reading::Ready { .. } | Reading::Partial { .. } => {
            Reading::Unavailable { why: "not counted: docker answers".to_owned() }
        }
        Reading::Pending
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => counted(&store, deadline),
    };
    engine.content = kept;
    let containerd = info.filter(Info::has_containerd_store).map(|info| info.containerd_socket());
    Found { engine, containerd }
}

fn of(context: &Context<'_>, reach: &Reach) -> Invocation {
    client::of(context, EngineKind::Docker, reach)
}

/// What the lists tell if `system df` does not: what is there, its size with all that it shares, and what uses it.
fn by_lists(
    images: &Reading<Vec<NameLine>>,
    question: &dyn Fn(&[&str]) -> tool::Outcome,
    refused: Reading<Content>,
) -> Reading<Content> {
    let containers = question(&["ps", "--all", "--size", "--no-trunc", "--format", "{{json .}}"])
        .reading("docker", lines::<ContainerLine>);
    let (Some(images), Some(containers)) = (images.value(), containers.value()) else { return refused };
    let volumes =
        question(&["volume", "ls", "--format", "{{json .}}"]).reading("docker", lines::<ListedVolume>);
    let containers: Vec<Container> = containers.iter().map(container).collect();
    let mut content = Content { images: Vec::new(), containers, volumes: Vec::new(), cache: Vec::new() };
    for line in images {
        let image = ImageLine {
            id: line.id.clone(),
            repository: line.repository.clone(),
            tag: line.tag.clone(),
            virtual_size: String::new(),
            size: line.size.clone(),
            unique_size: String::new(),
            containers: String::new(),
            created_at: line.created_at.clone(),
        };
        add_image(&mut content.images, &image);
    }
    for image in &mut content.images {
        let users = content.containers.iter().filter(|container| is_of(container, image)).count();
        image.containers = u64::try_from(users).unwrap_or(u64::MAX);
    }
    let volumes = volumes.value().into_iter().flatten();
    content.volumes = volumes
        .map(|line| Volume { name: text(&line.name), size: None, used_by: None, driver: None, created: None })
        .collect();
    Reading::ready(content)
}

/// Whether a container was made from an image: docker tells its name, or its id if that name has gone to another.
fn is_of(container: &Container, image: &Image) -> bool {
    let of = container.image.to_string();
    let digits = of.strip_prefix("sha256:").unwrap_or(&of);
    let tagged = text(&format!("{of}:latest"));
    image.names.contains(&container.image)
        || image.names.contains(&tagged)
        || (digits.len() >= 12 && image.id.to_string().starts_with(digits))
}

/// What `docker info` tells of places.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    /// With userns-remap its directory of that range is in it.
    #[serde(default)]
    docker_root_dir: PathBuf,
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
    /// Since 25 (API 1.46).
    containerd: Option<InfoContainerd>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InfoContainerd {
    #[serde(default)]
    address: PathBuf,
}

impl Info {
    fn has_containerd_store(&self) -> bool {
        self.driver_status.iter().flatten().flatten().any(|word| word == CONTAINERD_STORE)
    }

    fn containerd_socket(&self) -> PathBuf {
        self.containerd.as_ref().map(|containerd| containerd.address.clone()).unwrap_or_default()
    }
}

fn parse_info(output: &[u8]) -> Result<Info, String> {
    serde_json::from_slice(output).map_err(|error| error.to_string())
}

/// Documents, one a line.
fn lines<T: serde::de::DeserializeOwned>(output: &[u8]) -> Result<Vec<T>, String> {
    let lines = output.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| error.to_string())).collect()
}

/// A line of `docker image ls`: an id and one of its names.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NameLine {
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    tag: String,
    #[serde(default)]
    size: String,
    #[serde(default)]
    created_at: String,
}

impl NameLine {
    fn name(&self) -> Option<(HostText, HostText)> {
        let named = self.repository != "<none>" && self.tag != "<none>";
        let id = self.id.strip_prefix("sha256:").unwrap_or(&self.id);
        named.then(|| (text(id), text(&format!("{}:{}", self.repository, self.tag))))
    }
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedVolume {
    name: String,
}

/// The document; all its values are text for people.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    images: Option<Vec<ImageLine>>,
    containers: Option<Vec<ContainerLine>>,
    volumes: Option<Vec<VolumeLine>>,
    build_cache: Option<Vec<CacheLine>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageLine {
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    tag: String,
    #[serde(default)]
    virtual_size: String,
    size: String,
    unique_size: String,
    containers: String,
    created_at: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerLine {
    #[serde(rename = "ID")]
    id: String,
    names: String,
    image: String,
    state: String,
    size: String,
    created_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeLine {
    name: String,
    size: String,
    links: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CacheLine {
    #[serde(rename = "ID")]
    id: String,
    description: String,
    size: String,
    in_use: String,
    shared: String,
    last_used_at: String,
    created_at: String,
}

fn parse(output: &[u8]) -> Result<Content, String> {
    let document: Document = serde_json::from_slice(output).map_err(|error| error.to_string())?;
    let mut images: Vec<Image> = Vec::new();
    for line in document.images.into_iter().flatten() {
        add_image(&mut images, &line);
    }
    Ok(Content {
        images,
        containers: document.containers.into_iter().flatten().map(|line| container(&line)).collect(),
        volumes: document.volumes.into_iter().flatten().map(|line| volume(&line)).collect(),
        cache: document.build_cache.into_iter().flatten().map(|line| record(&line)).collect(),
    })
}

/// Adds the names that were listed. Where they could not be, that is missing.
fn with_names(kept: Reading<Content>, names: &Reading<Vec<NameLine>>) -> Reading<Content> {
    let kept = kept.map(|mut kept| {
        for (id, name) in names.value().into_iter().flatten().filter_map(NameLine::name) {
            if let Some(image) = kept.images.iter_mut().find(|image| image.id == id)
                && !image.names.contains(&name)
            {
                image.names.push(name);
            }
        }
        kept
    });
    match kept {
        Reading::Ready { value } => {
            Reading::with_missing(value, names.gaps().iter().map(|gap| format!("names: {gap}")).collect())
        }
        other => other,
    }
}

/// An image has a line for each of its names.
fn add_image(images: &mut Vec<Image>, line: &ImageLine) {
    let id = text(line.id.strip_prefix("sha256:").unwrap_or(&line.id));
    let name = (line.repository != "<none>").then(|| {
        let tag = if line.tag == "<none>" { String::new() } else { format!(":{}", line.tag) };
        text(&format!("{}{tag}", line.repository))
    });
    if let Some(known) = images.iter_mut().find(|image| image.id == id) {
        known.names.extend(name);
        return;
    }
    images.push(Image {
        id,
        names: name.into_iter().collect(),
        size: printed_size(&line.size).or_else(|| printed_size(&line.virtual_size)).unwrap_or_default(),
        unique: printed_size(&line.unique_size),
        created: printed_time(&line.created_at),
        // "N/A" where it was not counted: then it must be taken for used.
        containers: line.containers.parse().unwrap_or(1),
        read_only: false,
    });
}

fn container(line: &ContainerLine) -> Container {
    Container {
        id: text(&line.id),
        name: text(&line.names),
        image: text(&line.image),
        image_id: None,
        state: match line.state.as_str() {
            "exited" | "created" | "dead" => ContainerState::Stopped,
            _ => ContainerState::Running,
        },
        // `0B (virtual 7.23MB)`: the layer comes first.
        layer: line.size.split_whitespace().next().and_then(printed_size),
        created: printed_time(&line.created_at),
        log: None,
    }
}

fn volume(line: &VolumeLine) -> Volume {
    Volume {
        name: text(&line.name),
        size: printed_size(&line.size),
        used_by: line.links.parse().ok(),
        driver: None,
        created: None,
    }
}

fn record(line: &CacheLine) -> CacheRecord {
    let time = |text: &str| -> Option<Timestamp> { printed_time(text) };
    CacheRecord {
        id: text(line.id.trim_end_matches('*')),
        description: redact::text(&line.description),
        size: printed_size(&line.size).unwrap_or(Bytes::ZERO),
        in_use: line.in_use == "true",
        shared: line.shared == "true",
        last_used: time(&line.last_used_at).or_else(|| time(&line.created_at)),
    }
}

fn text(text: &str) -> HostText {
    HostText::from(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As client 28.2.2 with engine 20.10 printed it, shortened.
    const DOCUMENT: &[u8] = br#"{"Images":[{"Containers":"1","CreatedAt":"2026-11-26 13:28:09 +0000 UTC","CreatedSince":"5 seconds ago","Digest":"","ID":"sha256:ae307889242290d136dfa843e58418a2a1938895a08231ad75debd302cd9ac93","Repository":"base","SharedSize":"0B","Size":"7.23MB","Tag":"1","UniqueSize":"7.225MB","VirtualSize":"7.225MB"},{"Containers":"1","CreatedAt":"2026-11-26 13:28:09 +0000 UTC","ID":"sha256:ae307889242290d136dfa843e58418a2a1938895a08231ad75debd302cd9ac93","Repository":"base","SharedSize":"0B","Size":"7.23MB","Tag":"2","UniqueSize":"7.225MB"},{"Containers":"0","CreatedAt":"2026-11-26 13:28:09 +0000 UTC","ID":"sha256:be307889242290d136dfa843e58418a2a1938895a08231ad75debd302cd9ac93","Repository":"<none>","SharedSize":"0B","Size":"1MB","Tag":"<none>","UniqueSize":"1MB"}],"Containers":[{"Command":"\"/bin/busybox\"","CreatedAt":"2026-11-26 13:28:10 +0000 UTC","ID":"db5d5e5eabb9959b5c87f5f8df7403794f0cb0bbbc2e6ac9e51540879da8dd33","Image":"base:1","Labels":"","LocalVolumes":"0","Mounts":"","Names":"chatty","Networks":"none","Platform":null,"Ports":"","RunningFor":"4 seconds ago","Size":"12kB (virtual 7.23MB)","State":"exited","Status":"Exited (0) 1 second ago"}],"Volumes":[{"Availability":"N/A","Driver":"local","Links":"0","Mountpoint":"/x","Name":"v1","Scope":"local","Size":"3kB","Status":"N/A"}],"BuildCache":[{"CacheType":"regular","CreatedAt":"2026-11-26 13:28:09.932405378 +0000 UTC","CreatedSince":"4 seconds ago","Description":"mount / from exec","ID":"zozvdqmsgcbbov3o5upi101p2*","InUse":"false","LastUsedAt":"2026-11-26 13:28:10.23373214 +0000 UTC","LastUsedSince":"3 seconds ago","Parent":"d2","Shared":"true","Size":"5.24MB","UsageCount":"1"},{"CacheType":"source.local","CreatedAt":"2026-11-26 13:28:09.39 +0000 UTC","Description":"local source","ID":"8jt1","InUse":"false","LastUsedAt":"","Parent":"","Shared":"false","Size":"173B","UsageCount":"0"}]}"#;

    #[test]
    fn the_document_is_taken_apart() {
        let content = parse(DOCUMENT).unwrap();
        let names: Vec<_> = content.images.iter().map(|image| (image.shown(), image.names.len())).collect();
        assert_eq!(names, [("base:1".to_owned(), 2), ("be3078892422".to_owned(), 0)]);
        assert_eq!((content.dangling().count, content.dangling().size), (1, Bytes(1_000_000)));
        assert_eq!(content.unused().count, 0);
        assert_eq!(content.stopped().size, Bytes(12_000));
        assert_eq!((content.reclaimable_cache().count, content.reclaimable_cache().size), (1, Bytes(173)));
        assert_eq!(content.cache[0].id, text("zozvdqmsgcbbov3o5upi101p2"));
        assert_eq!(content.unused_volumes().size, Bytes(3_000));
    }

    #[test]
    fn an_engine_without_anything_prints_null() {
        let empty = br#"{"Images":null,"Containers":null,"Volumes":null,"BuildCache":null}"#;
        assert_eq!(parse(empty).unwrap(), Content::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_content(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
