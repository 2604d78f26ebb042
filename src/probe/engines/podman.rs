//! Podman and buildah, which share one store, by podman's JSON (podman-images(1), podman-ps(1), podman-volume-ls(1)).

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::LOCAL;
use super::{add_logs, client, counted, deadline, is_id, lock, places, skeleton, volumes, words};
use crate::domain::engines::{
    Container, ContainerState, Content, Elsewhere, Engine, EngineKind, Image, Reach, Trouble, Volume,
};
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::size::Bytes;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::sys::beside::beside;
use crate::sys::tool;

/// Asks it.
pub(super) fn look(context: &Context<'_>) -> Option<Engine> {
    let set = places::podman(context);
    let store = set.graph_root;
    let mut engine = Engine::new(EngineKind::Podman, HostPath::from(store.as_path()));
    engine.images_at = set.image_store.map(|path| HostPath::from(path.as_path()));
    engine.reach = reach(context);
    engine.elsewhere = elsewhere(context);
    // Podman has no daemon and makes an empty store when it is first asked: where there is none, nobody asks.
    if !store.is_dir() {
        let elsewhere = engine.elsewhere.as_ref()?;
        engine.content = Reading::NotHere { why: elsewhere.to_string() };
        return Some(engine);
    }
    let deadline = deadline(context);
    if matches!(tool::find("podman"), Ok(None)) {
        if skeleton::is_empty(&store, deadline) {
            return None;
        }
        engine.store_size = counted(&store, deadline);
        engine.trouble = Some(Trouble::NoClient);
        let why = "podman is not installed, so what its store keeps cannot be asked for".to_owned();
        engine.content = Reading::NotHere { why };
        return Some(engine);
    }
    let client = client::of(context, EngineKind::Podman, &engine.reach);
    let ask = |arguments: &[&str]| tool::ask(&client.clone().args(arguments), deadline);
    // Those that others are built on are listed too: what an image shares with them is told by their sizes.
    let images = || ask(&["images", "--all", "--no-trunc", "--format", "json"]).reading("podman", list);
    let volumes = || ask(&["volume", "ls", "--format", "json"]).reading("podman", listed);
    // Its `MountCount` counts running containers only; this filter all.
    let unused =
        || ask(&["volume", "ls", "--filter", "dangling=true", "--format", "json"]).reading("podman", listed);
    let info = || ask(&["info", "--format", "json"]).reading("podman", parse_info);
    let containers = || {
        ask(&["ps", "--all", "--external", "--size", "--no-trunc", "--format", "json"])
            .reading("podman", list)
    };
    let ((images, volumes), (unused, (info, containers))) =
        beside(|| beside(images, volumes), || beside(unused, || beside(info, containers)));
    let kept = put_together(images, &containers, &volumes_of(volumes, &unused, deadline));
    let mut driver = None;
    if let Some(said) = info.value() {
        driver = Some(said.store.graph_driver_name.clone());
        if said.store.graph_root.is_absolute() {
            engine.store = HostPath::from(context.environment.rooted(&said.store.graph_root).as_path());
        }
    }
    let store = engine.store.as_path().to_path_buf();
    let (kept, trouble) = words::understood(kept);
    // Podman waits for a lock as long as it is held.
    engine.trouble = match trouble {
        Some(Trouble::Silent) => lock::held(context, &store).or(Some(Trouble::Silent)),
        other => other,
    };
    engine.content = kept.map(|mut kept| {
        let containers = store.join(format!("{}-containers", driver.as_deref().unwrap_or("overlay")));
        add_logs(&mut kept.containers, |container| {
            let id = container.id.to_string();
            // The k8s-file driver's place (podman-run(1), --log-driver).
            if is_id(container.id.as_bytes()) {
                containers.join(id).join("userdata/ctr.log")
            } else {
                PathBuf::new()
            }
        });
        kept
    });
    engine.store_size = match &engine.content {
        Reading::Ready { .. } | Reading::Partial { .. } => {
            Reading::Unavailable { why: "not counted: podman answers".to_owned() }
        }
        Reading::Pending
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => counted(&store, deadline),
    };
    Some(engine)
}

/// The store of this machine, also if containers.conf(5) makes another one the default (`remote = true`).
fn reach(context: &Context<'_>) -> Reach {
    let environment = context.environment;
    let settings = &context.settings.engines;
    let mut reach = Reach { arguments: vec![HostText::from(LOCAL)], environment: Vec::new() };
    if !environment.is_root() {
        let run_dir = HostText::from(format!("/run/user/{}", environment.uid).as_str());
        reach.environment.push(("XDG_RUNTIME_DIR".to_owned(), run_dir));
    }
    // What a person has set for each podman is set for ours: it is the same store then.
    for name in ["CONTAINERS_STORAGE_CONF", "STORAGE_DRIVER"] {
        if let Some(value) = environment.engine_variables.get(name) {
            let value = HostText::new(std::os::unix::ffi::OsStrExt::as_bytes(value.as_os_str()));
            reach.environment.push((name.to_owned(), value));
        }
    }
    if !settings.podman_root.is_empty() {
        let set = ["--root", &settings.podman_root, "--runroot", &settings.podman_runroot];
        reach.arguments.extend(set.map(HostText::from));
    }
    reach
}

/// Where `CONTAINER_HOST` makes every podman of this person work, if that is another machine (podman(1)).
fn elsewhere(context: &Context<'_>) -> Option<Elsewhere> {
    let host = context.environment.engine_variables.get("CONTAINER_HOST")?.to_string_lossy().into_owned();
    let is_here = places::socket(&host).is_some();
    (!is_here)
        .then(|| Elsewhere { named_by: HostText::from("CONTAINER_HOST"), endpoint: redact::text(&host) })
}

/// What `podman info` tells of its store.
#[derive(Clone, Deserialize)]
struct Info {
    store: InfoStore,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfoStore {
    graph_root: PathBuf,
    graph_driver_name: String,
}

fn parse_info(output: &[u8]) -> Result<Info, String> {
    serde_json::from_slice(output).map_err(|error| error.to_string())
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageLine {
    id: String,
    #[serde(default)]
    parent_id: String,
    names: Option<Vec<String>>,
    size: u64,
    #[serde(default)]
    shared_size: u64,
    #[serde(default)]
    containers: u64,
    created: i64,
    #[serde(default)]
    read_only: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerLine {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    state: String,
    size: Option<ContainerSize>,
    created: i64,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerSize {
    rw_size: i64,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeLine {
    name: String,
    #[serde(default)]
    mountpoint: PathBuf,
}

/// A volume and where its data is.
type Place = (Volume, PathBuf);

/// The list of volumes.
fn listed(output: &[u8]) -> Result<Vec<Place>, String> {
    if output.trim_ascii().is_empty() || output.trim_ascii() == b"null" {
        return Ok(Vec::new());
    }
    let lines: Vec<VolumeLine> = list(output)?;
    let place = |volume: Volume| {
        let found = lines.iter().find(|line| line.name.as_bytes() == volume.name.as_bytes());
        (volume, found.map(|line| line.mountpoint.clone()).unwrap_or_default())
    };
    Ok(volumes::inspected(output)?.into_iter().map(place).collect())
}

/// Volumes with whether a container uses them; those that none uses are counted, as far as there is time.
fn volumes_of(
    all: Reading<Vec<Place>>,
    unused: &Reading<Vec<Place>>,
    deadline: std::time::Duration,
) -> Reading<Vec<Volume>> {
    let until = std::time::Instant::now() + deadline;
    all.map(|all| {
        let describe = |(volume, at): Place| {
            let Some(names) = unused.value() else { return volume };
            if !names.iter().any(|(one, _)| one.name == volume.name) {
                return Volume { used_by: Some(1), ..volume };
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            let size = match counted(&at, left) {
                Reading::Ready { value } if at.is_absolute() => Some(value),
                _ => None,
            };
            Volume { used_by: Some(0), size, ..volume }
        };
        all.into_iter().map(describe).collect()
    })
}

/// A list; podman prints nothing or `null` for an empty one in some versions.
fn list<T: DeserializeOwned>(output: &[u8]) -> Result<Vec<T>, String> {
    if output.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let lines: Option<Vec<T>> = serde_json::from_slice(output).map_err(|error| error.to_string())?;
    Ok(lines.unwrap_or_default())
}

/// One reading of three: as bad as the images, with what else is missing.
fn put_together(
    images: Reading<Vec<ImageLine>>,
    containers: &Reading<Vec<ContainerLine>>,
    volumes: &Reading<Vec<Volume>>,
) -> Reading<Content> {
    let mut missing: Vec<String> =
        containers.gaps().into_iter().map(|gap| format!("containers: {gap}")).collect();
    missing.extend(volumes.gaps().into_iter().map(|gap| format!("volumes: {gap}")));
    let containers_known = containers.value().is_some();
    let images = images.map(|lines| Content {
        images: images_of(lines, containers_known),
        containers: containers.value().into_iter().flatten().cloned().map(container).collect(),
        volumes: volumes.value().cloned().unwrap_or_default(),
        cache: Vec::new(),
    });
    match images {
        Reading::Ready { value } => Reading::with_missing(value, missing),
        Reading::Partial { .. }
        | Reading::Pending
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => images,
    }
}

/// The images that are something by themselves: an image has a line for each of its names, and those that only hold
/// layers of another go with that.
fn images_of(lines: Vec<ImageLine>, containers_known: bool) -> Vec<Image> {
    let mut by_id: BTreeMap<String, ImageLine> = BTreeMap::new();
    for line in lines {
        by_id.entry(line.id.clone()).or_insert(line);
    }
    let mut children: BTreeMap<&str, usize> = BTreeMap::new();
    for line in by_id.values() {
        *children.entry(line.parent_id.as_str()).or_default() += 1;
    }
    let is_between = |line: &ImageLine| {
        line.names.as_ref().is_none_or(Vec::is_empty) && children.contains_key(line.id.as_str())
    };
    let images = by_id.values().filter(|line| !is_between(line));
    let images = images.map(|line| {
        let mut image = image(line.clone(), containers_known);
        image.unique = image.unique.or_else(|| own_size(line, &by_id, &children));
        image
    });
    images.collect()
}

/// What goes with an image: it, and its ancestors that have no name, no container and no other child. Not known for an
/// image that was pulled: it has no ancestors here.
fn own_size(
    line: &ImageLine,
    by_id: &BTreeMap<String, ImageLine>,
    children: &BTreeMap<&str, usize>,
) -> Option<Bytes> {
    let mut parent = by_id.get(&line.parent_id)?;
    // Each image once at most, even where they form a circle.
    for _ in 0..by_id.len() {
        let alone = parent.names.as_ref().is_none_or(Vec::is_empty)
            && parent.containers == 0
            && children.get(parent.id.as_str()) == Some(&1);
        if !alone {
            return Some(Bytes(line.size).saturating_sub(Bytes(parent.size)));
        }
        match by_id.get(&parent.parent_id) {
            Some(above) => parent = above,
            None => break,
        }
    }
    Some(Bytes(line.size))
}

fn image(line: ImageLine, containers_known: bool) -> Image {
    Image {
        id: HostText::from(line.id.strip_prefix("sha256:").unwrap_or(&line.id)),
        names: line.names.unwrap_or_default().iter().map(|name| HostText::from(name.as_str())).collect(),
        size: Bytes(line.size),
        unique: (line.shared_size > 0).then(|| Bytes(line.size).saturating_sub(Bytes(line.shared_size))),
        created: Timestamp::from_second(line.created).ok(),
        // What is not known to be unused is taken for used.
        containers: if containers_known { line.containers } else { line.containers.max(1) },
        read_only: line.read_only,
    }
}

fn container(line: ContainerLine) -> Container {
    Container {
        id: HostText::from(line.id.as_str()),
        name: HostText::from(line.names.unwrap_or_default().first().map_or("", String::as_str)),
        image: HostText::from(line.image.as_deref().unwrap_or_default()),
        image_id: (!line.image_id.is_empty()).then(|| HostText::from(line.image_id.as_str())),
        state: match line.state.as_str() {
            "storage" => ContainerState::External,
            "exited" | "created" | "configured" | "stopped" | "dead" => ContainerState::Stopped,
            _ => ContainerState::Running,
        },
        layer: line.size.and_then(|size| u64::try_from(size.rw_size).ok()).map(Bytes),
        created: Timestamp::from_second(line.created).ok(),
        log: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As podman 4.3.1 printed it, shortened.
    const IMAGES: &[u8] = br#"[{"Id":"940e589ef3a188d8d5e3195f4aaf4c0d4e557f92a711b859265a610ba8dc0aa5","ParentId":"","RepoTags":null,"Size":7235493,"SharedSize":0,"VirtualSize":7235493,"Labels":{},"Containers":2,"Names":["localhost/pbase:1"],"Created":1795699696,"CreatedAt":"2026-11-26T13:28:16Z"},{"Id":"176e0d4711e92885421311aa748b8e1ef382e8e1b3f4cb93508e446f3a82edda","Size":7235224,"SharedSize":0,"Containers":0,"Created":1795699696}]"#;
    const CONTAINERS: &[u8] = br#"[{"AutoRemove":false,"Command":["x"],"Id":"e76ce2ed7ce86006687544d667f86d57c1894b98ae4af47eaf140adac8cd4d0e","Image":"localhost/pbase:1","Names":["stopped"],"Size":{"rootFsSize":7225136,"rwSize":42},"State":"created","Created":1795699697},{"Id":"94e2d5367ee9a78f2a66016f7501b2cd8550c86d0b047db9b6caeb10a42b5a8b","Image":"localhost/pbase:1","Names":["pbase-working-container"],"Size":null,"State":"storage","Created":1795699697}]"#;

    #[test]
    fn the_lists_are_put_together() {
        let reading = put_together(
            Reading::ready(list(IMAGES).unwrap()),
            &Reading::ready(list(CONTAINERS).unwrap()),
            &Reading::ready(Vec::new()),
        );
        let Reading::Ready { value } = reading else { panic!() };
        assert_eq!((value.dangling().count, value.dangling().size), (1, Bytes(7_235_224)));
        assert_eq!((value.stopped().count, value.stopped().size), (1, Bytes(42)));
        assert_eq!(
            (value.external().count, value.containers[1].shown()),
            (1, "pbase-working-container".to_owned())
        );
    }

    #[test]
    fn an_image_between_others_is_none_and_what_goes_with_one_is_its_own() {
        let line = |id: &str, parent: &str, name: Option<&str>, size: u64| ImageLine {
            id: id.to_owned(),
            parent_id: parent.to_owned(),
            names: name.map(|name| vec![name.to_owned()]),
            size,
            shared_size: 0,
            containers: 0,
            created: 0,
            read_only: false,
        };
        let lines = vec![
            line("base", "", None, 100),
            line("between", "base", None, 150),
            line("top", "between", Some("a:1"), 180),
            line("top", "between", Some("a:1"), 180),
            line("other", "base", None, 130),
            line("pulled", "", Some("p:1"), 70),
        ];
        let images = images_of(lines, true);
        let told: Vec<_> = images.iter().map(|image| (image.id.to_string(), image.own_size())).collect();
        let expected = [("other", 30), ("pulled", 70), ("top", 80)];
        assert_eq!(told, expected.map(|(id, size)| (id.to_owned(), Bytes(size))));
    }

    #[test]
    fn images_whose_containers_are_not_known_are_not_called_unused() {
        let silent = Reading::TimedOut { after: crate::domain::reading::Millis(8000) };
        let reading =
            put_together(Reading::ready(list(IMAGES).unwrap()), &silent, &Reading::ready(Vec::new()));
        let Reading::Partial { value, missing } = reading else { panic!() };
        assert_eq!((value.dangling().count, value.unused().count), (0, 0));
        assert_eq!(missing, ["containers: no answer within 8.0 s"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_list(bytes: Vec<u8>) {
            let _ = list::<ImageLine>(&bytes);
            let _ = list::<ContainerLine>(&bytes);
        }
    }
}
