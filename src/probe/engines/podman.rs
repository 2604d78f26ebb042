//! Podman and buildah, which share one store, by podman's JSON (podman-images(1), podman-ps(1), podman-volume-ls(1)).

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

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
use crate::sys::tool::{self, Outcome};

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
    // Its `MountCount` counts running containers only; this filter all. What podman does meanwhile is told too: in that it
    // names its store. `podman info` does so as well, but takes longer than all of the others together, because it asks the
    // package manager of whom each of its helpers is.
    let unused = || {
        let question = ["volume", "ls", "--filter", "dangling=true", "--format", "json"];
        let outcome = tool::ask(&client.clone().arg("--log-level=debug").args(question), deadline);
        let store = match &outcome {
            Outcome::Said(said) if said.worked() => named_store(&said.errors).or_else(|| {
                ask(&["info", "--format", "json"]).reading("podman", parse_info).value().cloned()
            }),
            // It would not answer that, either.
            Outcome::Said(_)
            | Outcome::NotInstalled { .. }
            | Outcome::TimedOut { .. }
            | Outcome::Cancelled { .. }
            | Outcome::Failed { .. } => None,
        };
        (outcome.reading("podman", listed), store)
    };
    let containers = || {
        ask(&["ps", "--all", "--external", "--size", "--no-trunc", "--format", "json"])
            .reading("podman", list)
    };
    let ((images, volumes), ((unused, graph_root), containers)) =
        beside(|| beside(images, volumes), || beside(unused, containers));
    let kept = put_together(images, &containers, &volumes_of(volumes, &unused, deadline));
    if let Some(root) = graph_root.filter(|root| root.is_absolute()) {
        engine.store = HostPath::from(context.environment.rooted(root).as_path());
    }
    let store = engine.store.as_path().to_path_buf();
    let (kept, trouble) = words::understood(kept);
    // Podman waits for a lock as long as it is held.
    engine.trouble = match trouble {
        Some(Trouble::Silent) => lock::held(context, &store).or(Some(Trouble::Silent)),
        other => other,
    };
    engine.content = kept.map(|mut kept| {
        let places = container_places(&store);
        add_logs(&mut kept.containers, |container| {
            if !is_id(container.id.as_bytes()) {
                return PathBuf::new();
            }
            // The k8s-file driver's place (podman-run(1), --log-driver).
            let log = Path::new(&container.id.to_string()).join("userdata/ctr.log");
            let mut all = places.iter().map(|place| place.join(&log));
            all.find(|path| path.symlink_metadata().is_ok()).unwrap_or_default()
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
            let value = HostText::new(value.as_bytes());
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

/// The directories of a store in which containers are, one for each storage driver that it was ever used with
/// (`DRIVER-containers`, store.go of containers/storage).
fn container_places(store: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(store) else { return Vec::new() };
    let entries = entries.flatten().filter(|entry| entry.file_name().as_bytes().ends_with(b"-containers"));
    entries.map(|entry| entry.path()).collect()
}

/// The store that podman's log names: `Using graph root PATH` (`makeRuntime` of libpod/runtime.go, alike in the versions 1 to
/// 5). The log is that of logrus, which escapes what does not print and what would end the quotes; a path that needed that is
/// not taken, nor one of several, nor one that is written in a roundabout way: podman straightens that out only later.
fn named_store(log: &[u8]) -> Option<PathBuf> {
    let named = |line| {
        let (start, rest) =
            std::str::from_utf8(line).ok()?.split_once(r#" level=debug msg="Using graph root "#)?;
        start.starts_with("time=").then_some(())?;
        rest.strip_suffix('"')
    };
    let mut all = log.split(|&byte| byte == b'\n').filter_map(named);
    let store = all.next().filter(|store| !store.contains(['\\', '"']))?;
    let straight = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (all.all(|other| other == store) && straight(store.strip_prefix('/')?)).then(|| PathBuf::from(store))
}

/// The store that `podman info` names.
fn parse_info(output: &[u8]) -> Result<PathBuf, String> {
    #[derive(Deserialize)]
    struct Info {
        store: Store,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Store {
        graph_root: PathBuf,
    }
    let info: Info = serde_json::from_slice(output).map_err(|error| error.to_string())?;
    Ok(info.store.graph_root)
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

    /// As podman 4.3.1 printed it, shortened.
    const LOG: &str = r#"time="2026-12-01T09:26:32Z" level=info msg="podman filtering at log level debug"
time="2026-12-01T09:26:32Z" level=debug msg="Merged system config \"/usr/share/containers/containers.conf\""
time="2026-12-01T09:26:32Z" level=debug msg="Using graph driver "
time="2026-12-01T09:26:32Z" level=debug msg="Using graph root /var/lib/containers/storage"
time="2026-12-01T09:26:32Z" level=debug msg="Using run root /run/containers/storage"
"#;

    #[test]
    fn the_store_is_the_one_that_the_log_names() {
        let store = |log: &str| named_store(log.as_bytes());
        assert_eq!(store(LOG), Some("/var/lib/containers/storage".into()));
        // A user's podman starts itself again in a namespace of its own, and says all twice.
        assert_eq!(store(&format!("{LOG}{LOG}")), Some("/var/lib/containers/storage".into()));
        let line = |path: &str| format!("time=\"x\" level=debug msg=\"Using graph root {path}\"\n");
        assert_eq!(store(&line("/with a space/é")), Some("/with a space/é".into()));
        for unsure in [
            String::new(),
            format!("{LOG}{}", line("/elsewhere")),
            line("relative"),
            line("/round/../about"),
            line("/twice//separated"),
            line("/"),
            line(r"/esc\aped"),
            line(r#"/quo\"te"#),
            // What somebody else has put into a message.
            r#"time="x" level=debug msg="Merged \" level=debug msg=\"Using graph root /x\"""#.to_owned(),
            r#"x time="x" level=debug msg="Using graph root /x""#.to_owned(),
            "DEBU[0000] Using graph root /var/lib/containers/storage\n".to_owned(),
        ] {
            assert_eq!(store(&unsure), None, "{unsure}");
        }
    }

    #[test]
    fn the_store_is_the_one_that_podman_info_names() {
        let info = br#"{"host":{},"store":{"graphDriverName":"overlay","graphRoot":"/big/graph"}}"#;
        assert_eq!(parse_info(info), Ok("/big/graph".into()));
        assert!(parse_info(b"{}").is_err());
    }

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
            let _ = named_store(&bytes);
            let _ = list::<ImageLine>(&bytes);
            let _ = list::<ContainerLine>(&bytes);
        }
    }
}
