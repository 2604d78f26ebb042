//! Where container engines keep what is theirs, by reading alone: settings, command lines of daemons that run, units,
//! configuration files. For an engine that answers, what it says itself is taken instead; this is for the others, and for
//! what must never be deleted.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::engines::EngineKind;
use crate::probe::build_tools::base_name;
use crate::probe::{Context, filesystems, host, process_list};
use crate::sys::{plain_file, safe_path};

/// Where docker has its data unless it is told otherwise (dockerd(8), --data-root).
const DOCKER: &str = "/var/lib/docker";
/// The same for containerd and its socket (containerd-config.toml(5)).
const CONTAINERD: &str = "/var/lib/containerd";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The same for root's podman and buildah (containers-storage.conf(5)); a user's is below the home directory.
const PODMAN: &str = "/var/lib/containers/storage";
/// The same below a home directory.
const PODMAN_OF_USER: &str = ".local/share/containers/storage";
/// More of a configuration file is not read.
const MOST: u64 = 1 << 20;
/// Where units are, what is local first (systemd.unit(5)).
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// Files with options of a daemon that its unit or init script puts on its command line: Debian's, Red Hat's.
const OPTIONS: [&str; 4] =
    ["/etc/default/docker", "/etc/sysconfig/docker", "/etc/sysconfig/docker-storage", "/etc/conf.d/docker"];
/// Daemons that keep a store, and the options that name it (their manuals).
const DAEMONS: &[(&str, &[&str])] = &[
    ("buildkitd", &["--root"]),
    ("containerd", &["--root"]),
    ("cri-dockerd", &["--cri-dockerd-root-directory"]),
    ("crio", &["--root", "-r"]),
    ("dockerd", &["--data-root", "--graph", "-g"]),
    ("dockerd-ce", &["--data-root", "--graph", "-g"]),
    ("k3s", &["--data-dir", "-d"]),
    ("kubelet", &["--root-dir"]),
    ("rke2", &["--data-dir", "-d"]),
];

/// A daemon that runs.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    /// Its program's name.
    pub(super) name: &'static str,
    uid: u32,
    arguments: Vec<String>,
    stores: &'static [&'static str],
}

impl Daemon {
    /// The store that its command line names.
    fn store(&self) -> Option<PathBuf> {
        option(&self.arguments, self.stores).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The sockets it listens on by its command line.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        let hosts = options(&self.arguments, &["-H", "--host"]);
        hosts.into_iter().filter_map(|host| socket(&host)).collect()
    }

    fn config(&self) -> Option<PathBuf> {
        option(&self.arguments, &["--config", "--config-file", "-c"]).map(PathBuf::from)
    }
}

/// The path of a socket of this machine, if an address is one.
pub(super) fn socket(address: &str) -> Option<PathBuf> {
    let path = Path::new(address.strip_prefix("unix://")?);
    path.is_absolute().then(|| path.to_path_buf())
}

/// The daemons that run.
pub(super) fn daemons(context: &Context<'_>) -> Vec<Daemon> {
    let proc = context.proc();
    let mut found = Vec::new();
    let Ok(processes) = process_list::processes(context) else { return found };
    for (process, command) in processes.programs() {
        let paths = [command.exe.as_deref(), command.arguments.first().map(Vec::as_slice)];
        let is = |name: &str| paths.into_iter().flatten().any(|path| base_name(path) == name.as_bytes());
        let Some((name, stores)) = DAEMONS.iter().find(|(name, _)| is(name)) else { continue };
        let Ok(uid) = proc.uid(process.stat.pid) else { continue };
        let arguments =
            command.arguments.iter().skip(1).map(|word| String::from_utf8_lossy(word).into_owned());
        found.push(Daemon { name, uid, arguments: arguments.collect(), stores });
    }
    found
}

/// The values of an option: `--name VALUE`, `--name=VALUE`, `-n VALUE`.
fn options(words: &[String], names: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        for name in names {
            if word == name {
                values.extend(rest.next().cloned());
                break;
            }
            if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                values.push(value.to_owned());
                break;
            }
        }
    }
    values
}

/// The last value of an option: a later one replaces an earlier one.
fn option(words: &[String], names: &[&str]) -> Option<String> {
    options(words, names).pop()
}

/// The words of a text, without quotes and line ends that do not count.
fn words(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let text = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])).collect::<Vec<_>>();
    let separate = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    text.join("\n").split(separate).filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect()
}

/// What the files of the machine say, read with care for homes on servers that do not answer.
struct Files<'c> {
    context: &'c Context<'c>,
}

impl Files<'_> {
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = self.context.environment.rooted(path);
        String::from_utf8(plain_file::start(&path, MOST).ok()?).ok()
    }

    /// The words of the start lines of a unit and of its drop-ins, in the order in which they count.
    fn unit(&self, name: &str, directories: &[PathBuf]) -> Vec<String> {
        let mut all = Vec::new();
        let main = directories.iter().find_map(|directory| self.text(directory.join(name)));
        all.extend(main.as_deref().map(words).unwrap_or_default());
        for directory in directories {
            let place = self.context.environment.rooted(directory.join(format!("{name}.d")));
            let Ok(entries) = fs::read_dir(place) else { continue };
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            for file in names.iter().filter(|file| file.as_bytes().ends_with(b".conf")) {
                let text = self.text(directory.join(format!("{name}.d")).join(file));
                all.extend(text.as_deref().map(words).unwrap_or_default());
            }
        }
        all
    }

    fn docker_config(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(rename = "data-root")]
            data_root: Option<PathBuf>,
            // Before 17.05.
            graph: Option<PathBuf>,
        }
        let config: Config = serde_json::from_str(&self.text(path)?).ok()?;
        config.data_root.or(config.graph).filter(|path| path.is_absolute())
    }

    fn containerd_config(&self, path: impl AsRef<Path>) -> (Option<PathBuf>, Option<PathBuf>) {
        let table = self.text(path).and_then(|text| text.parse::<toml::Table>().ok());
        let of = |value: Option<&toml::Value>| {
            value.and_then(toml::Value::as_str).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let root = of(table.as_ref().and_then(|table| table.get("root")));
        (root, of(table.as_ref().and_then(|table| table.get("grpc")?.get("address"))))
    }
}

/// What one storage.conf says (containers-storage.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Storage {
    graph_root: Option<PathBuf>,
    run_root: Option<PathBuf>,
    rootless: Option<PathBuf>,
    image_store: Option<PathBuf>,
    additional: Vec<PathBuf>,
}

fn storage(text: &str, home: &Path, uid: u32) -> Storage {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    // `$HOME`, `$UID`, `$USER` are replaced by podman (rootless_storage_path); a leading ~ is no part of the format.
    let user = home.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = |text: &str| {
        let text = text.replace("$HOME", &home.to_string_lossy());
        let path = PathBuf::from(text.replace("$UID", &uid.to_string()).replace("$USER", &user));
        path.is_absolute().then_some(path)
    };
    let section = table.get("storage");
    let of = |name: &str| section.and_then(|section| section.get(name)?.as_str()).and_then(path);
    let options = section.and_then(|section| section.get("options"));
    let list = |value: Option<&toml::Value>| -> Vec<PathBuf> {
        let all = value.and_then(toml::Value::as_array).into_iter().flatten();
        all.filter_map(|one| path(one.as_str()?)).collect()
    };
    let overlay = |name: &str| options.and_then(|options| options.get("overlay")?.get(name));
    let mut additional = list(options.and_then(|options| options.get("additionalimagestores")));
    additional.extend(list(overlay("additionalimagestores")));
    Storage {
        graph_root: of("graphroot"),
        run_root: of("runroot"),
        rootless: of("rootless_storage_path"),
        image_store: of("imagestore"),
        additional,
    }
}

/// Where docker has its data: as the settings say, else the daemon that runs, its unit, its configuration, its default.
pub(super) fn docker(context: &Context<'_>) -> PathBuf {
    let environment = context.environment;
    let set = &context.settings.engines.docker_root;
    if !set.is_empty() {
        return PathBuf::from(set);
    }
    let files = Files { context };
    let running = daemons(context);
    let running = running.iter().filter(|daemon| daemon.name.starts_with("dockerd"));
    let of_daemon = running.clone().find_map(Daemon::store);
    let of_file = || running.clone().find_map(|daemon| files.docker_config(daemon.config()?));
    let units: Vec<PathBuf> = UNITS.iter().map(PathBuf::from).collect();
    let stores = ["--data-root", "--graph", "-g"];
    let of_unit = || option(&files.unit("docker.service", &units), &stores).map(PathBuf::from);
    let of_options = || {
        let text = OPTIONS.iter().filter_map(|path| files.text(path));
        text.filter_map(|text| option(&words(&text.replace("OPTS=", " ").replace("OPTIONS=", " ")), &stores))
            .map(PathBuf::from)
            .next()
    };
    let found = of_daemon
        .or_else(of_file)
        .or_else(of_unit)
        .or_else(of_options)
        .or_else(|| files.docker_config("/etc/docker/daemon.json"))
        .or_else(|| files.docker_config("/var/snap/docker/current/config/daemon.json"))
        .filter(|path| path.is_absolute());
    environment.rooted(found.unwrap_or_else(|| DOCKER.into()))
}

/// Where podman and buildah have theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Podman {
    /// Images, containers and volumes.
    pub(super) graph_root: PathBuf,
    /// What is kept until the next boot, its locks among it, if that is set.
    pub(super) run_root: Option<PathBuf>,
    /// Images, if they are not in the graph root.
    pub(super) image_store: Option<PathBuf>,
}

/// Where podman has its data: as the settings say, else storage.conf, else its default.
pub(super) fn podman(context: &Context<'_>) -> Podman {
    let environment = context.environment;
    let settings = &context.settings.engines;
    if !settings.podman_root.is_empty() {
        let run_root = (!settings.podman_runroot.is_empty()).then(|| PathBuf::from(&settings.podman_runroot));
        return Podman { graph_root: PathBuf::from(&settings.podman_root), run_root, image_store: None };
    }
    let files = Files { context };
    let (home, uid) = (&environment.home, environment.uid);
    let named = environment.engine_variables.get("CONTAINERS_STORAGE_CONF").map(PathBuf::from);
    let system = || {
        files
            .text("/etc/containers/storage.conf")
            .or_else(|| files.text("/usr/share/containers/storage.conf"))
    };
    let text = match named {
        Some(path) => files.text(path),
        None if environment.is_root() => system(),
        None => files.text(home.join(".config/containers/storage.conf")),
    };
    let own = text.map(|text| storage(&text, home, uid)).unwrap_or_default();
    let graph_root = if environment.is_root() {
        own.graph_root.map_or_else(|| environment.rooted(PODMAN), |path| environment.rooted(path))
    } else {
        let machine = system().map(|text| storage(&text, home, uid)).unwrap_or_default();
        own.graph_root.or(machine.rootless).unwrap_or_else(|| home.join(PODMAN_OF_USER))
    };
    Podman { graph_root, run_root: own.run_root, image_store: own.image_store }
}

/// Where containerd has its data, and where it listens. Not the one that docker has started for itself: that is docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Containerd {
    pub(super) root: PathBuf,
    pub(super) socket: PathBuf,
}

/// As the settings say, else the daemon that runs, its unit, its configuration, its default.
pub(super) fn containerd(context: &Context<'_>) -> Containerd {
    let environment = context.environment;
    let settings = &context.settings.engines;
    let files = Files { context };
    let running = daemons(context);
    let own = running.iter().find(|daemon| daemon.name == "containerd" && !is_of_docker(daemon));
    let units: Vec<PathBuf> = UNITS.iter().map(PathBuf::from).collect();
    let unit = files.unit("containerd.service", &units);
    let config = own
        .and_then(Daemon::config)
        .or_else(|| option(&unit, &["--config", "-c"]).map(PathBuf::from))
        .unwrap_or_else(|| "/etc/containerd/config.toml".into());
    let (root, address) = files.containerd_config(config);
    let root = own
        .and_then(Daemon::store)
        .or_else(|| option(&unit, &["--root"]).map(PathBuf::from))
        .or(root)
        .filter(|path| path.is_absolute());
    let address = own
        .and_then(|daemon| option(&daemon.arguments, &["--address", "-a"]))
        .map(PathBuf::from)
        .or(address)
        .filter(|path| path.is_absolute());
    let set = |value: &str, found: Option<PathBuf>, default: &str| match value {
        "" => environment.rooted(found.unwrap_or_else(|| default.into())),
        value => PathBuf::from(value),
    };
    Containerd {
        root: set(&settings.containerd_root, root, CONTAINERD),
        socket: set(&settings.containerd_socket, address, CONTAINERD_SOCKET),
    }
}

/// dockerd starts one with a configuration below its own exec root (`…/containerd/containerd.toml`).
fn is_of_docker(daemon: &Daemon) -> bool {
    daemon.config().is_some_and(|config| config.ends_with("containerd/containerd.toml"))
}

/// Where docker is, or what docker is set to by a person's own configuration.
fn of_home(files: &Files<'_>, home: &Path, uid: u32, all: &mut BTreeSet<PathBuf>) {
    all.extend(files.docker_config(home.join(".config/docker/daemon.json")));
    if let Some(text) = files.text(home.join(".config/containers/storage.conf")) {
        add_storage(storage(&text, home, uid), all);
    }
    let units = [home.join(".config/systemd/user")];
    for (name, stores) in DAEMONS {
        let words = files.unit(&format!("{}.service", name.trim_end_matches('d')), &units);
        all.extend(option(&words, stores).map(PathBuf::from));
    }
    for below in [".local/share/docker", ".local/share/containerd", PODMAN_OF_USER] {
        all.insert(home.join(below));
    }
}

fn add_storage(storage: Storage, all: &mut BTreeSet<PathBuf>) {
    let Storage { graph_root, run_root, rootless, image_store, additional } = storage;
    all.extend([graph_root, run_root, rootless, image_store].into_iter().flatten());
    all.extend(additional);
}

/// Every place of every engine that is set up, by whatever says so: what must not be deleted by hand. Paths as they are
/// seen on the machine, without the directory that stands for `/`.
pub(in crate::probe) fn all(context: &Context<'_>) -> BTreeSet<PathBuf> {
    let files = Files { context };
    let settings = &context.settings.engines;
    let set =
        [&settings.docker_root, &settings.podman_root, &settings.podman_runroot, &settings.containerd_root];
    let mut all: BTreeSet<PathBuf> = set.into_iter().map(PathBuf::from).collect();
    let units: Vec<PathBuf> = UNITS.iter().map(PathBuf::from).collect();
    let mounts = filesystems::own_mounts(context).map(|(table, _)| table).unwrap_or_default();
    let fixture = context.environment.root != Path::new("/");
    // Who is not root may say of own directories alone that they are a store: else anybody could keep root from cleaning.
    let may_say = |place: &Path, uid: u32| {
        let place = context.environment.rooted(place);
        let is_own = || fs::metadata(&place).is_ok_and(|meta| meta.uid() == uid);
        uid == 0 || (!fixture && safe_path::may_hang(&mounts, &place)) || is_own()
    };
    for daemon in daemons(context) {
        let mut said: BTreeSet<PathBuf> = daemon.store().into_iter().collect();
        if let Some(config) = daemon.config() {
            said.extend(files.docker_config(&config));
            said.extend(files.containerd_config(&config).0);
        }
        all.extend(said.into_iter().filter(|place| may_say(place, daemon.uid)));
    }
    for (name, stores) in DAEMONS {
        for unit in [format!("{name}.service"), format!("{}.service", name.trim_end_matches('d'))] {
            let words = files.unit(&unit, &units);
            all.extend(options(&words, stores).into_iter().map(PathBuf::from));
            for config in options(&words, &["--config", "--config-file", "-c"]) {
                all.extend(files.docker_config(&config));
                all.extend(files.containerd_config(&config).0);
            }
        }
    }
    for text in OPTIONS.iter().filter_map(|path| files.text(path)) {
        let words = words(&text.replace("OPTS=", " ").replace("OPTIONS=", " "));
        all.extend(options(&words, &["--data-root", "--graph", "-g"]).into_iter().map(PathBuf::from));
    }
    all.extend(files.docker_config("/etc/docker/daemon.json"));
    all.extend(files.docker_config("/var/snap/docker/current/config/daemon.json"));
    all.extend(files.containerd_config("/etc/containerd/config.toml").0);
    let mut people: Vec<(PathBuf, u32)> = host::users(context)
        .into_iter()
        .map(|user| (PathBuf::from(OsStr::from_bytes(&user.home)), user.uid))
        .filter(|(home, _)| home.is_absolute() && home.parent().is_some())
        .collect();
    if !fixture {
        people.push((context.environment.home.clone(), context.environment.person));
    }
    people.sort();
    people.dedup();
    let system = ["/etc/containers/storage.conf".into(), "/usr/share/containers/storage.conf".into()];
    let named = context.environment.engine_variables.get("CONTAINERS_STORAGE_CONF").map(PathBuf::from);
    for text in system.into_iter().chain(named).filter_map(|path: PathBuf| files.text(path)) {
        add_storage(storage(&text, &context.environment.home, context.environment.uid), &mut all);
        // What is said of every user holds for each.
        if text.contains('$') {
            for (home, uid) in &people {
                add_storage(storage(&text, home, *uid), &mut all);
            }
        }
    }
    for (home, uid) in &people {
        // What would wait for a server is left alone: its usual places are protected by their names.
        if fixture || !safe_path::may_hang(&mounts, home) {
            let mut said = BTreeSet::new();
            of_home(&files, home, *uid, &mut said);
            all.extend(said.into_iter().filter(|place| may_say(place, *uid)));
        }
    }
    all.retain(|place| place.is_absolute() && place.parent().is_some());
    all
}

/// The places of engines in which builds and images need room, by what they are.
pub(in crate::probe) fn named(context: &Context<'_>) -> [(EngineKind, PathBuf); 3] {
    [
        (EngineKind::Docker, docker(context)),
        (EngineKind::Podman, podman(context).graph_root),
        (EngineKind::Containerd, containerd(context).root),
    ]
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test makes its own files")]
mod tests {
    use super::*;
    use crate::probe::tests::Surroundings;

    /// A machine in a directory.
    struct World {
        root: tempfile::TempDir,
        surroundings: Surroundings,
    }

    impl World {
        fn new(files: &[(&str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let mut surroundings = Surroundings::fixture(root.path());
            surroundings.environment.uid = 0;
            let this = Self { root, surroundings };
            for (path, text) in files {
                this.write(path, text);
            }
            this
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A process as /proc shows it.
        fn process(&self, pid: u32, uid: u32, arguments: &[&str]) {
            let stat = format!("{pid} (x) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0\n");
            self.write(&format!("proc/{pid}/stat"), &stat);
            self.write(&format!("proc/{pid}/cmdline"), &(arguments.join("\0") + "\0"));
            self.write(
                &format!("proc/{pid}/status"),
                &format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
            );
        }

        fn shown(&self, path: &Path) -> String {
            let root = self.root.path().to_str().unwrap();
            path.to_str().unwrap().replace(root, "")
        }

        fn docker(&self) -> String {
            self.shown(&docker(&self.surroundings.context()))
        }

        fn all(&self) -> Vec<String> {
            all(&self.surroundings.context()).iter().map(|path| path.to_str().unwrap().to_owned()).collect()
        }
    }

    #[test]
    fn docker_is_where_it_was_told_to_be() {
        let world = World::new(&[]);
        assert_eq!(world.docker(), "/var/lib/docker");
        world.write("etc/docker/daemon.json", r#"{"graph": "/old"}"#);
        assert_eq!(world.docker(), "/old");
        world.write("etc/docker/daemon.json", r#"{"graph": "/old", "data-root": "/json"}"#);
        assert_eq!(world.docker(), "/json");
        world.write("etc/default/docker", "# DOCKER_OPTS=\"-g /no\"\nDOCKER_OPTS=\"-g /options\"\n");
        assert_eq!(world.docker(), "/options");
        world.write(
            "lib/systemd/system/docker.service",
            "[Service]\nExecStart=/usr/bin/dockerd -H fd:// \\\n  --data-root=/unit\n",
        );
        assert_eq!(world.docker(), "/unit");
        world.write(
            "etc/systemd/system/docker.service.d/moved.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --data-root '/drop-in'\n",
        );
        assert_eq!(world.docker(), "/drop-in");
        world.process(7, 0, &["/usr/bin/dockerd", "--data-root", "/running", "-H", "unix:///s"]);
        assert_eq!(world.docker(), "/running");
        let daemons = daemons(&world.surroundings.context());
        assert_eq!(daemons[0].sockets(), [PathBuf::from("/s")]);
        // Each of them may hold a store.
        for place in ["/json", "/options", "/unit", "/drop-in", "/running"] {
            assert!(world.all().contains(&place.to_owned()), "{place}: {:?}", world.all());
        }
        assert!(!world.all().contains(&"/no".to_owned()));
    }

    #[test]
    fn every_place_of_podman_and_of_every_user_is_known() {
        let world = World::new(&[
            (
                "etc/containers/storage.conf",
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"/big/graph\"\nrunroot = \"/big/run\"\nrootless_storage_path \
                 = \"/scratch/$USER/$UID\"\n[storage.options]\nadditionalimagestores = [\"/shared\"]\n",
            ),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nal:x:1000:1000::/home/al:/bin/sh\n"),
        ]);
        let podman = podman(&world.surroundings.context());
        assert_eq!(world.shown(&podman.graph_root), "/big/graph");
        let places = world.all();
        for place in
            ["/big/graph", "/big/run", "/shared", "/scratch/al/1000", "/root/.local/share/containers/storage"]
        {
            assert!(places.contains(&place.to_owned()), "{place}: {places:?}");
        }
    }

    #[test]
    fn containerd_and_others_are_where_their_files_and_command_lines_say() {
        let world = World::new(&[(
            "etc/containerd/config.toml",
            "version = 2\nroot = \"/ctd\"\n[grpc]\naddress = \"/run/other.sock\"\n",
        )]);
        let at = || containerd(&world.surroundings.context());
        assert_eq!(
            (world.shown(&at().root).as_str(), world.shown(&at().socket).as_str()),
            ("/ctd", "/run/other.sock")
        );
        // Docker's own is docker's.
        world.process(8, 0, &["containerd", "--config", "/run/docker/containerd/containerd.toml"]);
        assert_eq!(world.shown(&at().root), "/ctd");
        world.process(9, 0, &["/usr/bin/containerd", "--root", "/by/hand"]);
        assert_eq!(world.shown(&at().root), "/by/hand");
        world.process(10, 0, &["kubelet", "--root-dir=/kube", "--v=2"]);
        let places = world.all();
        for place in ["/ctd", "/by/hand", "/kube"] {
            assert!(places.contains(&place.to_owned()), "{place}: {places:?}");
        }
    }

    #[test]
    fn nobody_but_root_can_make_a_store_of_what_is_not_theirs() {
        let world = World::new(&[("var/log/big", ""), ("srv/own/x", "")]);
        let own = fs::metadata(world.root.path().join("srv/own")).unwrap().uid();
        world.process(7, own + 1000, &["dockerd", "--data-root", "/var/log"]);
        assert!(!world.all().contains(&"/var/log".to_owned()));
        world.process(7, own, &["dockerd", "--data-root", "/srv/own"]);
        assert!(world.all().contains(&"/srv/own".to_owned()));
    }

    #[test]
    fn what_the_settings_name_is_a_store() {
        let mut world = World::new(&[]);
        let engines = &mut world.surroundings.settings.engines;
        engines.docker_root = "/a".to_owned();
        engines.podman_root = "/b".to_owned();
        engines.containerd_root = "/c".to_owned();
        let places = world.all();
        assert!(["/a", "/b", "/c"].iter().all(|place| places.contains(&(*place).to_owned())), "{places:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_files_are_taken(text in ".{0,200}") {
            let _ = storage(&text, Path::new("/home/al"), 7);
            let _ = options(&words(&text), &["-g"]);
        }
    }
}
