//! Real engines: a dockerd with images, containers, a log and build cache; podman and buildah on one store; a daemon
//! that is not there.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests start engines on stores in their own temporary directory, and fail by panicking"
)]

#[path = "common/engines.rs"]
mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{Dockerd, Podman, Surroundings, is_root, need, start, wait_until};
use unwedge::domain::engines::{ContainerState, Content, Engine, EngineKind};
use unwedge::domain::reading::Reading;
use unwedge::domain::size::Bytes;
use unwedge::probe::engines;

fn look(surroundings: &Surroundings, kind: EngineKind) -> Engine {
    let reading = engines::look(&surroundings.context());
    reading.value().unwrap().iter().find(|engine| engine.kind == kind).unwrap().clone()
}

fn content(engine: &Engine) -> &Content {
    engine.content.value().unwrap_or_else(|| panic!("{engine:?}"))
}

#[test]
fn docker_is_seen_as_it_sees_itself_and_by_its_store_when_it_is_gone() {
    if !is_root() || !need(&["dockerd", "/usr/bin/docker", "busybox"]) {
        return;
    }
    let dockerd = Dockerd::start();
    dockerd.build("base:1", 5);
    dockerd.build("base:2", 6);
    dockerd.run(&["run", "--name", "chatty", "--network", "none", "base:1", "/bin/busybox", "seq", "100000"]);
    dockerd.run(&["tag", "base:1", "moving:1"]);
    dockerd.run(&["volume", "create", "kept"]);
    let surroundings = dockerd.surroundings();

    let engine = look(&surroundings, EngineKind::Docker);
    let kept = content(&engine);
    // Of an image with two names `docker system df` prints one.
    let mut ids: Vec<String> = kept.images.iter().map(|image| image.id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), kept.images.len()), (2, 2));
    assert!(kept.images.iter().all(|image| !image.names.is_empty()));
    assert_eq!((kept.unused().count, kept.dangling().count), (1, 0), "base:2 has no container");
    let container = &kept.containers[0];
    assert_eq!((container.shown().as_str(), container.state), ("chatty", ContainerState::Stopped));
    let log = container.log.as_ref().unwrap();
    assert!(log.allocated > Bytes(100_000 * 60), "{log:?}");
    assert_eq!(kept.unused_volumes().count, 1);
    assert!(!kept.cache.is_empty() && kept.cache.iter().all(|record| !record.in_use), "{:?}", kept.cache);

    let store = dockerd.stop();
    let engine = look(&surroundings, EngineKind::Docker);
    assert!(matches!(engine.content, Reading::Refused { .. }), "{engine:?}");
    let counted = engine.store_size.value().unwrap().0;
    let du = std::process::Command::new("du").args(["-sx", "--block-size=1"]).arg(&store).output().unwrap();
    let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(counted, du);
}

#[test]
fn a_daemon_that_does_not_answer_is_given_up_after_the_deadline() {
    if !is_root() || !need(&["/usr/bin/docker"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Accepts no connection's request: a real socket with nobody behind it.
    let socket = dir.path().join("sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let store = dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("file"), vec![1; 1 << 20]).unwrap();
    let mut surroundings = Surroundings::real();
    surroundings.settings.engines.docker_host = format!("unix://{}", socket.display());
    surroundings.settings.engines.docker_root = store.to_str().unwrap().to_owned();
    surroundings.settings.engines.deadline_ms = 1500;
    let engine = look(&surroundings, EngineKind::Docker);
    assert_eq!(engine.content, Reading::TimedOut { after: Duration::from_millis(1500).into() });
    assert!(engine.store_size.value().unwrap().0 >= 1 << 20);
}

#[test]
fn podman_shows_its_own_containers_and_those_of_buildah() {
    if !is_root() || !need(&["podman", "buildah", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    podman.build("localhost/base:1");
    podman.run("podman", &["create", "--name", "stopped", "localhost/base:1", "/bin/busybox"]);
    podman.run("buildah", &["from", "--name", "working", "localhost/base:1"]);
    let engine = look(&podman.surroundings(), EngineKind::Podman);
    let kept = content(&engine);
    assert!(matches!(engine.content, Reading::Ready { .. }), "{engine:?}");
    let state = |name: &str| kept.containers.iter().find(|one| one.shown() == name).unwrap().state;
    assert_eq!(state("stopped"), ContainerState::Stopped);
    assert_eq!(state("working"), ContainerState::External);
    let base = kept.images.iter().find(|image| image.shown() == "localhost/base:1").unwrap();
    assert!(base.containers >= 1 && base.size > Bytes(1 << 20), "{base:?}");
}

#[test]
fn containerd_shows_its_images_and_containers_and_then_only_what_its_store_takes() {
    let programs = ["containerd", "ctr", "podman", "busybox"];
    if !is_root() || !need(&programs) {
        return;
    }
    let podman = Podman::new();
    podman.build("localhost/base:1");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    podman.run("podman", &["save", "--format", "oci-archive", "--output", &at("image"), "localhost/base:1"]);
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        at("root"),
        at("state"),
        at("socket"),
        at("ttrpc")
    );
    std::fs::write(at("config"), config).unwrap();
    let daemon = start(std::process::Command::new("containerd").args(["--config", &at("config")]));
    let ctr = |arguments: &[&str]| {
        let mut ctr = std::process::Command::new("ctr");
        ctr.args(["--address", &at("socket"), "--namespace", "k8s.io"]).args(arguments);
        ctr.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    wait_until("containerd answers", || ctr(&["version"]));
    assert!(ctr(&["images", "import", &at("image")]));
    assert!(ctr(&["containers", "create", "localhost/base:1", "one", "/bin/busybox"]));
    let mut surroundings = Surroundings::real();
    surroundings.settings.engines.containerd_root = at("root");
    surroundings.settings.engines.containerd_socket = at("socket");
    surroundings.settings.engines.deadline_ms = 60_000;

    let engine = look(&surroundings, EngineKind::Containerd);
    let kept = content(&engine);
    assert_eq!((kept.images.len(), kept.images[0].shown()), (1, "localhost/base:1".to_owned()));
    assert_eq!(kept.images[0].containers, 1);
    assert_eq!((kept.containers.len(), kept.containers[0].state), (1, ContainerState::Stopped));
    assert!(engine.store_size.value().unwrap().0 > kept.images[0].size.0, "{engine:?}");

    // It is stopped, and its socket stays.
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon.0), rustix::process::Signal::STOP)
        .unwrap();
    surroundings.settings.engines.deadline_ms = 1000;
    let engine = look(&surroundings, EngineKind::Containerd);
    assert!(matches!(engine.content, Reading::TimedOut { .. }), "{engine:?}");
    assert!(engine.store_size.value().unwrap().0 > 1 << 20);
}
