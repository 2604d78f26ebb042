//! Docker, by `docker system df` (docs.docker.com/reference/cli/docker/system/df).

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use super::{add_logs, deadline, engine, is_id, is_there, printed_size, printed_time, volumes, words};
use crate::domain::engines::{
    CacheRecord, Container, ContainerState, Content, Engine, EngineKind, Image, Volume,
};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::tool::{self, Invocation};

/// Where its data is unless `daemon.json` says otherwise.
const STORE: &str = "/var/lib/docker";

/// Asks it.
pub(super) fn look(context: &Context<'_>) -> Option<Engine> {
    let store = store(context);
    if !is_there("docker", &store) {
        return None;
    }
    let deadline = deadline(context);
    let all = client(context).args(["system", "df", "--verbose", "--format", "{{json .}}"]);
    // The list of names beside it: the other tells one name of each image (client 28).
    let names = client(context).args(["image", "ls", "--no-trunc", "--format", "{{json .}}"]);
    let (kept, names) = std::thread::scope(|scope| {
        let names = scope.spawn(|| tool::ask(&names, deadline).reading("docker", parse_names));
        let kept = words::understood(tool::ask(&all, deadline).reading("docker", parse));
        (kept, names.join().unwrap_or(Reading::Pending))
    });
    let mut kept = with_names(kept, &names);
    if let Reading::Ready { value } | Reading::Partial { value, .. } = &mut kept {
        volumes::describe(context, &mut value.volumes);
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
    // A client without a daemon and without a store is no engine of this machine.
    if kept.value().is_none() && !store.is_dir() {
        return None;
    }
    Some(engine(EngineKind::Docker, &store, kept, deadline))
}

pub(super) fn client(context: &Context<'_>) -> Invocation {
    let home = &context.environment.home;
    let client = Invocation::new("docker").env("HOME", home);
    let host = &context.settings.engines.docker_host;
    if host.is_empty() { client } else { client.args(["--host", host.as_str()]) }
}

/// `data-root` of `/etc/docker/daemon.json`, which is there also when the daemon is not; else what the settings or
/// the documentation say.
pub(super) fn store(context: &Context<'_>) -> PathBuf {
    #[derive(Deserialize)]
    struct Daemon {
        #[serde(rename = "data-root")]
        data_root: Option<PathBuf>,
    }
    let set = &context.settings.engines.docker_root;
    if !set.is_empty() {
        return PathBuf::from(set);
    }
    let file = std::fs::read(context.environment.rooted("/etc/docker/daemon.json")).unwrap_or_default();
    let configured = serde_json::from_slice::<Daemon>(&file).ok().and_then(|daemon| daemon.data_root);
    context.environment.rooted(configured.filter(|path| path.is_absolute()).unwrap_or_else(|| STORE.into()))
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

#[derive(Deserialize)]
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

/// The lines of `docker image ls`: an id and one of its names in each.
fn parse_names(output: &[u8]) -> Result<Vec<(HostText, HostText)>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        #[serde(rename = "ID")]
        id: String,
        repository: String,
        tag: String,
    }
    let mut names = Vec::new();
    for line in output.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if line.repository != "<none>" && line.tag != "<none>" {
            let id = line.id.strip_prefix("sha256:").unwrap_or(&line.id);
            names.push((text(id), text(&format!("{}:{}", line.repository, line.tag))));
        }
    }
    Ok(names)
}

/// Adds the names that were listed. Where they could not be, that is missing.
fn with_names(kept: Reading<Content>, names: &Reading<Vec<(HostText, HostText)>>) -> Reading<Content> {
    let kept = kept.map(|mut kept| {
        for (id, name) in names.value().into_iter().flatten() {
            if let Some(image) = kept.images.iter_mut().find(|image| image.id == *id)
                && !image.names.contains(name)
            {
                image.names.push(name.clone());
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
        description: text(&line.description),
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
