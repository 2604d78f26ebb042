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

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Dockerd, Podman, Surroundings, inside_own_namespaces, is_root, need, start, wait_until};
use unwedge::actions::{self, Request};
use unwedge::config::Settings;
use unwedge::domain::engines::{ContainerState, Content, Engine, EngineKind, PruneLevel, Trouble};
use unwedge::domain::identity::Pid;
use unwedge::domain::reading::Reading;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::Snapshot;
use unwedge::probe::{engines, protect};

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
    assert!(matches!(engine.content, Reading::NotHere { .. }), "{engine:?}");
    assert!(matches!(engine.trouble, Some(Trouble::NotRunning { .. })), "{engine:?}");
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

/// What would be run to prune all of it.
fn pruning(engine: &Engine) -> Vec<String> {
    let snapshot = Snapshot::pending(jiff::Timestamp::now());
    let request = Request::Prune(Box::new(engine.clone()), PruneLevel::Emergency);
    let plan = actions::plan(&request, &snapshot, &Settings::default());
    plan.steps.iter().map(|step| step.op.words()).collect()
}

/// Whether nothing may be deleted in a directory.
fn is_protected(surroundings: &Surroundings, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    use unwedge::domain::identity::{DevId, DevIno, Inode};
    let meta = path.metadata().unwrap();
    let dev = DevId { major: rustix::fs::major(meta.dev()), minor: rustix::fs::minor(meta.dev()) };
    protect::look(&surroundings.context()).check(DevIno { dev, ino: Inode(meta.ino()) }, &[]).is_err()
}

#[test]
fn the_docker_of_the_context_is_asked_and_never_another_machine() {
    let test = "the_docker_of_the_context_is_asked_and_never_another_machine";
    let programs = ["dockerd", "/usr/bin/docker", "busybox", "mount"];
    if !is_root() || !need(&programs) || !inside_own_namespaces(test) {
        return;
    }
    common::done(Command::new("mount").args(["-t", "tmpfs", "run", "/run"]));
    let (first, second) = (Dockerd::start(), Dockerd::start());
    first.build("first:1", 3);
    second.build("second:1", 3);
    let home = tempfile::tempdir().unwrap();
    let docker = |arguments: &[&str]| {
        common::done(Command::new("/usr/bin/docker").env("HOME", home.path()).args(arguments));
    };
    docker(&["context", "create", "other", "--docker", &format!("host={}", second.address())]);
    docker(&["context", "create", "prod", "--docker", "host=tcp://192.0.2.1:2375"]);
    let mut surroundings = Surroundings::real();
    surroundings.settings.engines.deadline_ms = 60_000;
    surroundings.environment.home = home.path().to_path_buf();
    let shown = |engine: &Engine| -> Vec<String> {
        content(engine).images.iter().map(unwedge::domain::engines::Image::shown).collect()
    };
    let at = |dockerd: &Dockerd| format!("docker --host {} ", dockerd.address());

    docker(&["context", "use", "other"]);
    let engine = look(&surroundings, EngineKind::Docker);
    assert_eq!(shown(&engine), ["second:1"]);
    assert_eq!(engine.store.as_path(), second.path("data"), "as it says itself");
    assert!(engine.others.iter().any(|socket| socket.as_path() == first.path("sock")), "{engine:?}");
    assert!(engine.elsewhere.is_none());
    let lines = pruning(&engine);
    assert!(lines.len() > 1 && lines.iter().all(|line| line.contains(&at(&second))), "{lines:?}");
    assert!(
        is_protected(&surroundings, &first.path("data")) && is_protected(&surroundings, &second.path("data"))
    );

    // Another machine is named; what is asked and pruned is here.
    docker(&["context", "use", "prod"]);
    let engine = look(&surroundings, EngineKind::Docker);
    let elsewhere = engine.elsewhere.as_ref().unwrap();
    assert_eq!(elsewhere.named_by, "docker's context `prod`".into());
    assert_eq!(elsewhere.endpoint, "tcp://192.0.2.1:2375".into());
    assert!(pruning(&engine).iter().all(|line| line.contains("docker --host unix:///")), "{engine:?}");
    assert_eq!(engine.others.len(), 1);

    // The variable of this person comes before the context.
    let variables = &mut surroundings.environment.engine_variables;
    variables.insert("DOCKER_HOST", "ssh://root@prod.example".into());
    let engine = look(&surroundings, EngineKind::Docker);
    let elsewhere = engine.elsewhere.unwrap();
    assert_eq!(elsewhere.to_string().split(':').next().unwrap(), "DOCKER_HOST is ssh");
    surroundings.environment.engine_variables.insert("DOCKER_HOST", first.address().into());
    assert_eq!(shown(&look(&surroundings, EngineKind::Docker)), ["first:1"]);

    // A context that does not exist names no engine; those that are here are asked all the same.
    surroundings.environment.engine_variables.clear();
    surroundings.environment.engine_variables.insert("DOCKER_CONTEXT", "no-such".into());
    assert_eq!(content(&look(&surroundings, EngineKind::Docker)).images.len(), 1);

    // With all of them gone the other machine is named, and nothing is counted.
    surroundings.environment.engine_variables.clear();
    first.stop();
    second.stop();
    let engine = look(&surroundings, EngineKind::Docker);
    assert!(engine.content.unknown().contains("another machine"), "{engine:?}");
    assert!(pruning(&engine).is_empty() && engine.trouble.is_none(), "{engine:?}");
}

#[test]
fn without_docker_an_empty_store_is_silence_and_a_full_one_is_left_over() {
    if !need(&["/usr/bin/docker"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut surroundings = Surroundings::real();
    surroundings.settings.engines.docker_host = format!("unix://{}/none", dir.path().display());
    surroundings.settings.engines.docker_root = dir.path().to_str().unwrap().to_owned();
    let docker = |surroundings: &Surroundings| {
        let found = engines::look(&surroundings.context());
        found.value().unwrap().iter().find(|engine| engine.kind == EngineKind::Docker).cloned()
    };
    std::fs::create_dir_all(dir.path().join("overlay2/l")).unwrap();
    std::fs::write(dir.path().join("local-kv.db"), vec![0; 65536]).unwrap();
    assert_eq!(docker(&surroundings), None);
    std::fs::write(dir.path().join("overlay2/layer"), vec![1; 5 << 20]).unwrap();
    let engine = docker(&surroundings).unwrap();
    let socket = dir.path().join("none");
    assert_eq!(engine.trouble, Some(Trouble::NotRunning { socket: socket.as_path().into() }));
    assert!(engine.store_size.value().unwrap().0 > 5 << 20);
}

/// Stops monitors when it is dropped.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn docker_that_tells_no_disk_usage_still_shows_its_images() {
    if !is_root() || !need(&["dockerd", "/usr/bin/docker", "busybox"]) {
        return;
    }
    let dockerd = Dockerd::start();
    dockerd.build("base:1", 3);
    dockerd.build("used:1", 4);
    dockerd.run(&["create", "--name", "one", "--network", "none", "used:1", "/bin/busybox", "true"]);
    dockerd.run(&["volume", "create", "many"]);
    let volume = dockerd.path("data/volumes/many/_data");
    for number in 0..60_000 {
        let dir = volume.join((number / 1000).to_string());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::File::create(dir.join(number.to_string())).unwrap();
    }
    let surroundings = dockerd.surroundings();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where a check fails: else the scope would wait for them forever.
        let _stop = Stop(&stop);
        for _ in 0..2 {
            // A monitor: before docker 28, one of both is always told that the other is being answered.
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let host = dockerd.address();
                    let mut df = Command::new("/usr/bin/docker");
                    df.args(["--host", &host, "system", "df"]).stdout(Stdio::null()).stderr(Stdio::null());
                    let _ = df.status();
                }
            });
        }
        if docker_major() >= 28 {
            // It answers all who ask at the same time.
            for _ in 0..5 {
                let engine = look(&surroundings, EngineKind::Docker);
                assert_eq!((engine.trouble.clone(), content(&engine).images.len()), (None, 2), "{engine:?}");
            }
            return;
        }
        let seen = std::cell::RefCell::new(None);
        wait_until("docker is too busy to tell its disk usage", || {
            let engine = look(&surroundings, EngineKind::Docker);
            *seen.borrow_mut() = (engine.trouble == Some(Trouble::Busy)).then_some(engine);
            seen.borrow().is_some()
        });
        let engine = seen.into_inner().unwrap();
        let kept = content(&engine);
        assert!(engine.content.unknown().contains("somebody else asks docker"), "{engine:?}");
        let image = |name: &str| kept.images.iter().find(|image| image.shown() == name).unwrap();
        assert_eq!((kept.images.len(), image("base:1").containers, image("used:1").containers), (2, 0, 1));
        assert!(image("base:1").size > Bytes(3 << 20) && image("base:1").unique.is_none());
        assert_eq!(
            (kept.containers[0].shown().as_str(), kept.containers[0].state),
            ("one", ContainerState::Stopped)
        );
        assert_eq!((kept.volumes.len(), kept.volumes[0].used_by), (1, None));
    });
}

#[test]
fn podman_is_asked_where_its_storage_conf_says_and_its_read_only_images_stay() {
    if !is_root() || !need(&["podman", "busybox"]) {
        return;
    }
    let (shared, own) = (Podman::new(), Podman::new());
    shared.build("company/sdk:1");
    own.build("localhost/mine:1");
    // A store that is in use as its own cannot be another's: its mount is given up.
    common::unmount_below(&shared.path("store"));
    common::unmount_below(&own.path("store"));
    let file = own.path("storage.conf");
    let at = |podman: &Podman, name: &str| podman.path(name).display().to_string();
    let driver = own.run("podman", &["info", "--format", "{{.Store.GraphDriverName}}"]);
    let text = format!(
        "[storage]\ndriver = {:?}\ngraphroot = {:?}\nrunroot = {:?}\n[storage.options]\nadditionalimagestores = [{:?}]\n",
        driver.trim(),
        at(&own, "store"),
        at(&own, "run"),
        at(&shared, "store")
    );
    std::fs::write(&file, text).unwrap();
    let mut surroundings = Surroundings::real();
    surroundings.settings.engines.deadline_ms = 60_000;
    surroundings.environment.engine_variables.insert("CONTAINERS_STORAGE_CONF", file.clone().into());
    let engine = look(&surroundings, EngineKind::Podman);
    assert_eq!(engine.store.as_path(), own.path("store"));
    let kept = content(&engine);
    let read_only: Vec<(String, bool)> =
        kept.images.iter().map(|image| (image.shown(), image.read_only)).collect();
    assert!(read_only.contains(&("localhost/company/sdk:1".to_owned(), true)), "{read_only:?}");
    assert!(read_only.contains(&("localhost/mine:1".to_owned(), false)), "{read_only:?}");
    assert_eq!(kept.unused().count, 1, "{kept:?}");
    let sdk = kept.images.iter().find(|image| image.read_only).unwrap();
    let lines = pruning(&engine);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains(&sdk.id.to_string()), "{lines:?}");
    assert!(lines[0].contains(file.to_str().unwrap()) && lines[0].contains("--remote=false"), "{lines:?}");
    for place in [own.path("store"), own.path("run"), shared.path("store")] {
        assert!(is_protected(&surroundings, &place), "{}", place.display());
    }
    assert!(!is_protected(&surroundings, &own.path("context-2")));

    // Who holds its lock is told.
    let lock = std::fs::File::options().write(true).open(own.path("store/storage.lock")).unwrap();
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    surroundings.settings.engines.deadline_ms = 3000;
    let engine = look(&surroundings, EngineKind::Podman);
    let Some(Trouble::Locked { lock, holder: Some(holder) }) = engine.trouble else { panic!("{engine:?}") };
    assert_eq!(lock.as_path(), own.path("store/storage.lock"));
    assert_eq!(holder.pid, Pid(i32::try_from(std::process::id()).unwrap()));
}

#[test]
fn podman_itself_says_where_its_store_is_and_the_logs_of_its_containers_are_found_there() {
    if !is_root() || !need(&["podman", "busybox"]) {
        return;
    }
    let podman = Podman::new();
    podman.build("localhost/base:1");
    let id = podman.run("podman", &["create", "localhost/base:1", "/bin/busybox"]);
    let driver = podman.run("podman", &["info", "--format", "{{.Store.GraphDriverName}}"]);
    let log = format!("store/{}-containers/{}/userdata/ctr.log", driver.trim(), id.trim());
    std::fs::write(podman.path(&log), vec![b'x'; 100_000]).unwrap();
    // Another way to write the same place, which podman straightens out: what is on its command line later than what is in
    // its configuration.
    let roundabout = podman.path("run/../store");
    let mut by_arguments = podman.surroundings();
    by_arguments.settings.engines.podman_root = roundabout.display().to_string();
    let mut by_file = Surroundings::real();
    by_file.settings.engines.deadline_ms = 60_000;
    let file = podman.path("storage.conf");
    let (driver, run) = (driver.trim(), podman.path("run"));
    let text = format!("[storage]\ndriver = {driver:?}\ngraphroot = {roundabout:?}\nrunroot = {run:?}\n");
    std::fs::write(&file, text).unwrap();
    by_file.environment.engine_variables.insert("CONTAINERS_STORAGE_CONF", file.into());
    for surroundings in [podman.surroundings(), by_arguments, by_file] {
        let engine = look(&surroundings, EngineKind::Podman);
        assert_eq!(engine.store.as_path(), podman.path("store"));
        let [container] = content(&engine).containers.as_slice() else { panic!("{engine:?}") };
        let found = container.log.as_ref().unwrap();
        assert_eq!(found.path.as_path(), podman.path(&log));
        assert!(found.allocated >= Bytes(100_000), "{found:?}");
    }
}

#[test]
fn with_userns_remap_docker_is_in_the_directory_of_its_range() {
    let test = "with_userns_remap_docker_is_in_the_directory_of_its_range";
    if !is_root()
        || !need(&["dockerd", "/usr/bin/docker", "busybox", "mount"])
        || !inside_own_namespaces(test)
    {
        return;
    }
    let ids = tempfile::tempdir().unwrap();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let own = ids.path().join(&file[5..]);
        std::fs::write(&own, "nobody:300000:65536\nnogroup:300000:65536\n").unwrap();
        common::done(Command::new("mount").arg("--bind").arg(&own).arg(file));
    }
    let remap = ["--userns-remap=nobody:nogroup"];
    let dockerd = Dockerd::start_with(Command::new("dockerd"), tempfile::tempdir().unwrap(), &remap);
    dockerd.build("base:1", 3);
    let mut surroundings = dockerd.surroundings();
    surroundings.settings.engines.docker_root = String::new();
    let engine = look(&surroundings, EngineKind::Docker);
    assert_eq!(engine.store.as_path(), dockerd.path("data/300000.300000"));
    assert_eq!(content(&engine).images.len(), 1);
    assert!(is_protected(&surroundings, &dockerd.path("data")));
}

/// The number before the first point of docker's version.
fn docker_major() -> u32 {
    let said = Command::new("dockerd").arg("--version").output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    let version = said.split_ascii_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
    version.unwrap_or_else(|| panic!("no version in {said:?}"))
}

#[test]
fn docker_with_the_image_store_of_containerd_is_one_engine() {
    let test = "docker_with_the_image_store_of_containerd_is_one_engine";
    if !need(&["dockerd", "/usr/bin/docker", "containerd", "busybox", "ctr"]) {
        return;
    }
    if docker_major() < 28 {
        // Not missing, but older than what is tested: `.ci/sid` has a newer one.
        eprintln!(
            "this docker does not have the image store of containerd for general use: .ci/sid runs {test}"
        );
        return;
    }
    if !is_root() || !inside_own_namespaces(test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    common::done(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2g", "world"]).arg(dir.path()));
    let at = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "version = 3\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
        at("ctd"),
        at("state"),
        at("ctd.sock")
    );
    std::fs::write(dir.path().join("ctd.toml"), config).unwrap();
    let _containerd = start(Command::new("containerd").args(["--config", &at("ctd.toml")]));
    wait_until("containerd listens", || dir.path().join("ctd.sock").exists());
    let own = tempfile::tempdir_in(dir.path()).unwrap();
    let socket = at("ctd.sock");
    let arguments =
        ["--containerd", &socket, "--feature", "containerd-snapshotter=true", "--ip6tables=false"];
    let dockerd = Dockerd::start_with(Command::new("dockerd"), own, &arguments);
    dockerd.build("base:1", 3);
    let mut surroundings = dockerd.surroundings();
    surroundings.settings.engines.containerd_root = at("ctd");
    surroundings.settings.engines.containerd_socket = at("ctd.sock");
    let found = engines::look(&surroundings.context());
    let found: Vec<&Engine> =
        found.value().unwrap().iter().filter(|engine| engine.kind != EngineKind::Podman).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].kind, content(found[0]).images.len()), (EngineKind::Docker, 1));
    assert_eq!(found[0].room().as_path(), dir.path().join("ctd"), "{found:?}");
    assert_eq!(found[0].store.as_path(), dockerd.path("data"));
}
