//! What the program was started with, read once by `cli` and passed down as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::load::Layers;

/// The surroundings of a run. Nothing below `cli` reads the environment itself, so that a test or a drill
/// can put a fixture in its place.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The directory that stands for `/` when the machine's own files (`proc`, `etc`) are read.
    pub root: PathBuf,
    /// Effective user id.
    pub uid: u32,
    /// The person at the keyboard: with sudo its caller, else the effective user.
    pub person: u32,
    /// Home directory of the person: from passwd of the sudo caller where there is one.
    pub home: PathBuf,
    /// `$XDG_STATE_HOME`, or its default below `home`.
    pub state_home: PathBuf,
    /// `$XDG_CONFIG_HOME`, or its default below `home`.
    pub config_home: PathBuf,
    /// Where files of running programs are kept: `/run`, or `/run/user/UID`.
    pub run_dir: PathBuf,
    /// This program's executable.
    pub self_exe: PathBuf,
    /// The configuration files that were read.
    pub config_files: Vec<PathBuf>,
    /// Where settings come from, for those that are read again; none if they came from nowhere.
    pub config: Option<Layers>,
    /// What this person's variables say of container engines, by name ([`ENGINE_VARIABLES`]).
    pub engine_variables: BTreeMap<&'static str, OsString>,
    /// What the terminal can show.
    pub terminal: TerminalTraits,
}

/// The variables by which the clients of engines choose the engine and its store: `docker(1)`, `podman(1)`,
/// containers-storage.conf(5). Nothing else of the environment is passed on.
pub const ENGINE_VARIABLES: [&str; 7] = [
    "CONTAINERS_STORAGE_CONF",
    "CONTAINER_CONNECTION",
    "CONTAINER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "STORAGE_DRIVER",
];

/// What the terminal can show, judged from the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalTraits {
    /// Whether colour may be used (`NO_COLOR` is unset and TERM is not dumb).
    pub colour: bool,
    /// Whether the locale is UTF-8; otherwise only ASCII is drawn.
    pub unicode: bool,
}

impl Environment {
    /// Whether we run as root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// A path below the directory that stands for `/`.
    pub fn rooted(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}
