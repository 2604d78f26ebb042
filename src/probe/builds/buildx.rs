//! What buildx keeps in `~/.docker/buildx`: definitions of builders (`instances`) and when each was last used
//! (`activity`), the file that a build writes first and fails on where it cannot.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::builds::{BuildxActivity, BuildxState};
use crate::domain::redact;
use crate::domain::text::{HostPath, HostText};
use crate::probe::{Context, host};
use crate::sys::mount_table::MountTable;
use crate::sys::{plain_file, safe_path};

/// Builders of one home that are named.
const BUILDERS: usize = 100;
/// More of a file of docker's is not read.
const MOST: u64 = 1 << 20;

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
        .filter_map(|home| {
            let mut state = state(&home, missing)?;
            state.not_writable =
                not_writable(mounts, state.path.as_path()).map(|why| HostText::from(why.as_str()));
            Some(state)
        })
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
        not_writable: None,
        damaged: damaged(&dir),
        elsewhere: None,
    };
    let known = contexts(home);
    state.elsewhere = known.elsewhere(&current(home));
    let instances = dir.join("instances");
    state.instances = std::fs::read_dir(&instances).map_or(0, |entries| entries.flatten().count() as u64);
    let activity = dir.join("activity");
    let entries = match std::fs::read_dir(&activity) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                missing.push(format!("{}: permission denied", HostPath::from(activity)));
            }
            return Some(state);
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        state.foreign += u64::from(entry.metadata().is_ok_and(|meta| meta.uid() != owner));
        if name.as_bytes().starts_with(TEMPORARY) {
            state.half_written += 1;
        } else if state.activity.len() < BUILDERS {
            match start_of(&entry.path()) {
                // A full disk, or a machine that lost power, leaves one empty.
                Some(bytes) if bytes.is_empty() => state.half_written += 1,
                Some(_) if last(&entry.path()).is_none() => state.damaged.push(entry.path().into()),
                Some(_) | None => {}
            }
            // Contexts of docker (`default`) are builders without a definition of their own.
            let exists = name == "default" || instances.join(&name).symlink_metadata().is_ok();
            let endpoints = endpoints(&instances.join(&name));
            // A builder with one node elsewhere is not ours as a whole.
            let elsewhere = endpoints.iter().find_map(|endpoint| known.elsewhere(endpoint));
            state.activity.push(BuildxActivity {
                endpoint: endpoints.first().map(redact::text),
                elsewhere,
                last: last(&entry.path()),
                builder: HostText::from(name.as_os_str()),
                exists,
            });
        }
    }
    state.activity.sort_by(|a, b| (a.last, &a.builder).cmp(&(b.last, &b.builder)));
    Some(state)
}

/// The contexts of docker in a home directory, with their addresses
/// (`~/.docker/contexts/meta/*/meta.json`, docs.docker.com/engine/manage-resources/contexts).
struct Contexts(Vec<(String, String)>);

impl Contexts {
    /// The address of an endpoint, by address or by the name of a context, if it is another machine's.
    fn elsewhere(&self, endpoint: &str) -> Option<HostText> {
        let address = if endpoint.contains("://") {
            endpoint
        } else {
            self.0.iter().find(|(name, _)| name == endpoint).map(|(_, address)| address.as_str())?
        };
        let is_here = address.starts_with("unix://");
        (!is_here && !address.is_empty()).then(|| redact::text(address))
    }
}

fn contexts(home: &Path) -> Contexts {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Meta {
        name: String,
        endpoints: BTreeMap<String, Endpoint>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Endpoint {
        #[serde(default)]
        host: String,
    }
    let entries = std::fs::read_dir(home.join(".docker/contexts/meta")).into_iter().flatten().flatten();
    let read = entries.take(BUILDERS).filter_map(|entry| {
        let meta: Meta = serde_json::from_slice(&start_of(&entry.path().join("meta.json"))?).ok()?;
        Some((meta.name, meta.endpoints.get("docker")?.host.clone()))
    });
    Contexts(read.collect())
}

/// How buildx begins the name of a file that it writes anew (`AtomicWriteFile`).
const TEMPORARY: &[u8] = b".tmp-";

/// The definitions of builders, and which of them is in use, that are no JSON (store/store.go of buildx).
fn damaged(dir: &Path) -> Vec<HostPath> {
    let entries =
        ["instances", "defaults"].into_iter().filter_map(|name| std::fs::read_dir(dir.join(name)).ok());
    let definitions = entries
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().as_bytes().starts_with(TEMPORARY))
        .take(BUILDERS)
        .map(|entry| entry.path());
    let is_damaged = |path: &PathBuf| {
        // What buildx says where it is read as something else than an object.
        start_of(path).is_some_and(|bytes| {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).is_err()
        })
    };
    std::iter::once(dir.join("current")).chain(definitions).filter(is_damaged).map(HostPath::from).collect()
}

/// Why nothing in a directory of this machine can be written, as a sentence. Nothing is tried.
fn not_writable(mounts: &MountTable, dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    for place in [dir.join("activity"), dir] {
        if let Some(mount) = mounts.at(&place).filter(|mount| mount.is_read_only()) {
            return Some(format!("the file system at {} is read-only", mount.mount_point));
        }
        let stat = rustix::fs::statx(
            rustix::fs::CWD,
            &place,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            rustix::fs::StatxFlags::TYPE,
        );
        if stat.is_ok_and(|stat| stat.stx_attributes.contains(rustix::fs::StatxAttributes::IMMUTABLE)) {
            return Some(format!("{} is immutable (chattr -i takes that off)", HostPath::from(place)));
        }
    }
    None
}

/// The context that is in use.
fn current(home: &Path) -> String {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext", default)]
        current_context: String,
    }
    let config = start_of(&home.join(".docker/config.json"));
    let config: Option<Config> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    config
        .map(|config| config.current_context)
        .filter(|name| !name.is_empty())
        .unwrap_or("default".to_owned())
}

/// What a builder builds with, node by node (store/nodegroup.go of buildx).
fn endpoints(definition: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Instance {
        #[serde(default)]
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Node {
        #[serde(default)]
        endpoint: String,
    }
    let instance: Option<Instance> =
        start_of(definition).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    instance.into_iter().flat_map(|instance| instance.nodes).map(|node| node.endpoint).collect()
}

/// The content of a file that is small, and no link that leads elsewhere.
fn start_of(path: &Path) -> Option<Vec<u8>> {
    path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    plain_file::start(path, MOST).ok()
}

/// The moment in such a file, in the form of RFC 3339.
fn last(path: &Path) -> Option<jiff::Timestamp> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    String::from_utf8(plain_file::start(path, 100).ok()?).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test makes its own files")]
mod tests {
    use super::*;

    #[test]
    fn what_buildx_cannot_read_is_damaged_and_what_is_empty_is_half_written() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".docker/buildx");
        for (path, text) in [
            ("current", "\0\0\0\0"),
            ("instances/good", "{\"Name\":\"good\"}"),
            ("instances/cut", "{\"Name\":\"cu"),
            ("instances/empty", ""),
            ("instances/.tmp-good1", ""),
            ("activity/good", "2026-11-30T00:00:00Z"),
            ("activity/odd", "yesterday"),
            ("activity/empty", ""),
        ] {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let seen = state(home.path(), &mut Vec::new()).unwrap();
        let mut damaged: Vec<String> = seen
            .damaged
            .iter()
            .map(|path| path.as_path().strip_prefix(&dir).unwrap().to_str().unwrap().to_owned())
            .collect();
        damaged.sort();
        assert_eq!(damaged, ["activity/odd", "current", "instances/cut", "instances/empty"]);
        assert_eq!(seen.half_written, 1);
    }

    #[test]
    fn where_a_builder_builds_is_known_by_its_definition_and_the_contexts() {
        let home = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = home.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        // As docker 28 and buildx 0.29 write them, shortened.
        let meta = |name: &str, host: &str| {
            format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            )
        };
        write(".docker/contexts/meta/a/meta.json", &meta("prod", "ssh://root@prod"));
        write(".docker/contexts/meta/b/meta.json", &meta("rootless", "unix:///run/user/7/docker.sock"));
        let node = |endpoint: &str| {
            format!(
                r#"{{"Name":"x","Driver":"docker-container","Nodes":[{{"Name":"x0","Endpoint":"{endpoint}"}}]}}"#
            )
        };
        for (name, endpoint) in
            [("far", "prod"), ("near", "rootless"), ("plain", "default"), ("net", "tcp://192.0.2.1:1234")]
        {
            write(&format!(".docker/buildx/instances/{name}"), &node(endpoint));
            write(&format!(".docker/buildx/activity/{name}"), "2026-11-30T00:00:00Z");
        }
        let seen = state(home.path(), &mut Vec::new()).unwrap();
        let of = |name: &str| seen.activity.iter().find(|one| one.builder == name.into()).unwrap();
        assert_eq!(of("far").elsewhere, Some("ssh://root@prod".into()));
        assert_eq!(of("net").elsewhere, Some("tcp://192.0.2.1:1234".into()));
        assert_eq!(
            (of("near").elsewhere.clone(), of("near").endpoint.clone()),
            (None, Some("rootless".into()))
        );
        assert_eq!(of("plain").elsewhere, None);
        assert_eq!(seen.elsewhere, None);
        assert_eq!((seen.damaged.as_slice(), seen.half_written), (&[][..], 0));
        write(".docker/config.json", r#"{"auths":{},"currentContext":"prod"}"#);
        assert_eq!(state(home.path(), &mut Vec::new()).unwrap().elsewhere, Some("ssh://root@prod".into()));
    }
}
