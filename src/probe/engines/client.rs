//! Which engine a client is to ask: where docker's client leads by default, whether that is on this machine, and how it is
//! named in every question so that no other is asked.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Deserialize;

use super::{deadline, places};
use crate::domain::engines::{Elsewhere, EngineKind, Reach};
use crate::domain::redact;
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::plain_file;
use crate::sys::tool::{self, Invocation, Outcome};

/// The socket that docker's client takes if nothing says otherwise (docker(1)).
const SOCKET: &str = "/run/docker.sock";

/// Podman's flag for the store of this machine (podman(1)). Buildah knows no other store, and not this flag.
pub(super) const LOCAL: &str = "--remote=false";

/// A client of an engine, told which one it is, as a question.
pub(super) fn of(context: &Context<'_>, kind: EngineKind, reach: &Reach) -> Invocation {
    let os = |text: &HostText| std::ffi::OsStr::from_bytes(text.as_bytes()).to_owned();
    let client = Invocation::new(kind.name()).env("HOME", &context.environment.home);
    let client = client.args(reach.arguments.iter().map(os));
    reach.environment.iter().fold(client, |client, (name, value)| client.env(name, os(value)))
}

/// What is behind the name of docker's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// There is none.
    Missing,
    /// Podman, by a link or by the script of the package podman-docker.
    Podman,
    /// Docker's own, or one that is not run because others than root can write it.
    Docker,
}

/// What is installed as `docker`.
pub(super) fn docker() -> Client {
    let path = match tool::find("docker") {
        Ok(Some(path)) => path,
        Ok(None) => return Client::Missing,
        Err(_) => return Client::Docker,
    };
    let program = path.canonicalize().unwrap_or(path);
    if program.file_name().is_some_and(|name| name.as_bytes().starts_with(b"podman")) {
        return Client::Podman;
    }
    let start = plain_file::start(&program, 4096).unwrap_or_default();
    // `exec /usr/bin/podman "$@"`, in all its versions.
    let is_wrapper = start.starts_with(b"#!") && start.windows(6).any(|word| word == b"podman");
    if is_wrapper { Client::Podman } else { Client::Docker }
}

/// Where docker's client leads by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its address.
    pub(super) address: String,
    /// What names it.
    pub(super) named_by: String,
}

impl Endpoint {
    /// The socket of this machine that it is, if it is one.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        places::socket(&self.address)
    }

    pub(super) fn elsewhere(&self) -> Elsewhere {
        Elsewhere { named_by: HostText::from(self.named_by.as_str()), endpoint: redact::text(&self.address) }
    }
}

/// Asks the client itself: flags, variables and contexts decide together (docs.docker.com/engine/manage-resources/contexts).
///
/// # Errors
/// What the client says, if it cannot tell: a context that does not exist.
pub(super) fn endpoint(context: &Context<'_>) -> Result<Endpoint, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        name: String,
        endpoints: Endpoints,
    }
    #[derive(Deserialize)]
    struct Endpoints {
        docker: Option<Docker>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Docker {
        #[serde(default)]
        host: String,
    }
    let set = &context.settings.engines.docker_host;
    if !set.is_empty() {
        return Ok(Endpoint { address: set.clone(), named_by: "the setting engines.docker_host".to_owned() });
    }
    let usual = Endpoint { address: format!("unix://{SOCKET}"), named_by: "docker's default".to_owned() };
    let variables = &context.environment.engine_variables;
    let mut question = Invocation::new("docker").env("HOME", &context.environment.home).args([
        "context",
        "inspect",
        "--format",
        "{{json .}}",
    ]);
    for name in ["DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST"] {
        if let Some(value) = variables.get(name) {
            question = question.env(name, value);
        }
    }
    let said = match tool::ask(&question, deadline(context)) {
        Outcome::Said(said) if said.worked() => said,
        // Before 19.03 there were no contexts: the variable alone decides.
        Outcome::Said(said) if said.complaint().contains("is not a docker command") => {
            return Ok(variables.get("DOCKER_HOST").map_or(usual, |host| Endpoint {
                address: host.to_string_lossy().into_owned(),
                named_by: "DOCKER_HOST".to_owned(),
            }));
        }
        Outcome::Said(said) => return Err(format!("docker says: {}", said.complaint())),
        other => return Err(other.reading::<()>("docker", |_| Ok(())).unknown()),
    };
    let inspected: Inspected = serde_json::from_slice(&said.output)
        .map_err(|error| format!("what docker says of its context was not understood: {error}"))?;
    let address = inspected.endpoints.docker.map(|docker| docker.host).unwrap_or_default();
    if address.is_empty() {
        return Ok(usual);
    }
    let by_host = variables.get("DOCKER_HOST").is_some_and(|host| host.to_string_lossy() == address);
    let named_by =
        if by_host { "DOCKER_HOST".to_owned() } else { format!("docker's context `{}`", inspected.name) };
    Ok(Endpoint { address, named_by })
}

/// The sockets on which a docker daemon of this machine may listen: where the client leads first.
pub(super) fn sockets(context: &Context<'_>, endpoint: Option<&Endpoint>) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = endpoint.and_then(Endpoint::socket).into_iter().collect();
    if !context.settings.engines.docker_host.is_empty() {
        return all;
    }
    let environment = context.environment;
    all.push(environment.rooted(SOCKET));
    let running = places::daemons(context);
    all.extend(
        running.iter().filter(|one| one.name.starts_with("dockerd")).flat_map(places::Daemon::sockets),
    );
    all.extend([environment.uid, environment.person].map(|uid| {
        // Where a daemon of a user listens (dockerd-rootless.sh).
        environment.rooted(format!("/run/user/{uid}/docker.sock"))
    }));
    // One socket can have several names: /var/run is a link.
    let mut seen = Vec::new();
    all.retain(|path| {
        let key = path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        let known = seen.contains(&(key, key.is_none().then(|| path.clone())));
        seen.push((key, key.is_none().then(|| path.clone())));
        !known
    });
    all
}

/// What a socket of this machine says to somebody who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Somebody listens.
    Open,
    /// It may not be opened by us.
    Forbidden,
    /// It is not there, or nobody listens.
    Nobody,
}

/// Knocks without waiting.
pub(super) fn knock(path: &Path) -> Door {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let knock = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    match knock() {
        Err(Errno::ACCESS | Errno::PERM) => Door::Forbidden,
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::NOTSOCK) => Door::Nobody,
        // Also one with more guests than it lets in at once (EAGAIN).
        Ok(()) | Err(_) => Door::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_open_deserted_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        assert_eq!(knock(&path), Door::Nobody);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(knock(&path), Door::Open);
        drop(listener);
        assert_eq!(knock(&path), Door::Nobody);
    }

    #[test]
    fn only_a_socket_of_this_machine_is_one() {
        let at = |address: &str| Endpoint { address: address.to_owned(), named_by: String::new() }.socket();
        assert_eq!(at("unix:///run/user/7/docker.sock"), Some("/run/user/7/docker.sock".into()));
        for other in ["tcp://127.0.0.1:2375", "ssh://root@prod", "npipe:////./pipe/docker", "unix://x", ""] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
