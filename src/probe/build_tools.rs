//! Which processes build or install software, judged by exact names (SAFETY.md T17): `pipewire` is not `pip`, an
//! editor with `pip.txt` open is not `pip`.

use std::collections::BTreeSet;

/// How a tool lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is started for one job and ends with it.
    Job,
    /// It runs in the background on purpose; its parent is init from the start.
    Daemon,
    /// It holds a container for an engine; its parent is init from the start.
    Supervisor,
}

/// A tool that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// How it lives.
    pub life: Life,
    /// The file under `/proc/PID` that gave its name: `exe` or `cmdline`.
    pub seen_in: &'static str,
}

/// Tools that do one job and end. Sorted.
const JOBS: &[&str] = &[
    "ansible-playbook",
    "apk",
    "apt",
    "apt-get",
    "aptitude",
    "ar",
    "as",
    "bazel",
    "buck2",
    "buildah",
    "buildctl",
    "bun",
    "bundle",
    "c++",
    "cargo",
    "cc",
    "cc1",
    "cc1plus",
    "clang",
    "clang++",
    "cmake",
    "collect2",
    "composer",
    "conda",
    "cpack",
    "ctest",
    "debuild",
    "dnf",
    "docker-buildx",
    "docker-compose",
    "dpkg",
    "dpkg-buildpackage",
    "dpkg-deb",
    "emerge",
    "flatpak-builder",
    "g++",
    "gcc",
    "gem",
    "gmake",
    "gradle",
    "guix",
    "kaniko",
    "ld",
    "ld.gold",
    "ld.lld",
    "lld",
    "lto1",
    "make",
    "makepkg",
    "mamba",
    "meson",
    "micromamba",
    "mold",
    "mvn",
    "ninja",
    "nix-build",
    "nix-env",
    "nix-shell",
    "npm",
    "npx",
    "packer",
    "pacman",
    "pdm",
    "pip",
    "pipenv",
    "pipx",
    "pnpm",
    "podman",
    "poetry",
    "rpm",
    "rpmbuild",
    "rustc",
    "rustdoc",
    "samu",
    "scons",
    "skopeo",
    "unattended-upgrade",
    "uv",
    "uvx",
    "yarn",
    "yay",
    "yum",
    "zypper",
];

/// Tools that run in the background on purpose. Sorted.
const DAEMONS: &[&str] =
    &["buildkitd", "containerd", "crio", "dockerd", "nix-daemon", "packagekitd", "sccache"];

/// Programs that hold a container. `containerd-shim-*` belongs here too. Sorted.
const SUPERVISORS: &[&str] = &["conmon", "containerd-shim"];

/// Names under which a tool runs beside its own.
const ALIASES: &[(&str, &str)] = &[
    ("npm-cli.js", "npm"),
    ("npx-cli.js", "npx"),
    ("pnpm.cjs", "pnpm"),
    ("yarn.cjs", "yarn"),
    ("yarn.js", "yarn"),
    ("yarnpkg", "yarn"),
];

/// Names that are used with a version at the end: `pip3`, `pip3.11`, `gcc-12`.
const VERSIONED: &[&str] = &["c++", "clang", "clang++", "g++", "gcc", "pip"];

/// Programs that run a script given as an argument.
const INTERPRETERS: &[&str] = &[
    "ash", "bash", "busybox", "dash", "deno", "ksh", "node", "nodejs", "perl", "php", "pypy", "python",
    "ruby", "sh", "zsh",
];

/// Recognises a tool by the base name of its executable or of its first argument; under an interpreter by that of the
/// script, or of the module after `-m`. Only whole names count.
pub fn recognise<A: AsRef<[u8]>>(exe: Option<&[u8]>, arguments: &[A]) -> Option<Tool> {
    let exe = exe.map(base_name);
    let argument = |index: usize| arguments.get(index).map(AsRef::as_ref);
    let first = argument(0).map(title);
    let found = |name: &[u8], seen_in| {
        let (name, life) = lookup(name)?;
        let life = if name == "podman" { podman_life(arguments) } else { life };
        Some(Tool { name, life, seen_in })
    };

    let interpreter = [exe, first].into_iter().flatten().any(is_interpreter);
    if let Some(tool) = exe.filter(|name| !is_interpreter(name)).and_then(|name| found(name, "exe")) {
        return Some(tool);
    }
    if let Some(tool) = first.filter(|name| !is_interpreter(name)).and_then(|name| found(name, "cmdline")) {
        return Some(tool);
    }
    if interpreter {
        let script = match argument(1)? {
            b"-m" => argument(2)?,
            // Anything else that looks like an option: what follows may be a command, not a script.
            option if option.starts_with(b"-") => return None,
            script => script,
        };
        return found(base_name(script), "cmdline");
    }
    None
}

/// `podman system service` answers requests for as long as it likes (podman-system-service(1)).
fn podman_life<A: AsRef<[u8]>>(arguments: &[A]) -> Life {
    let serves = arguments.windows(2).any(|pair| {
        let mut pair = pair.iter().map(AsRef::as_ref);
        pair.next() == Some(b"system") && pair.next() == Some(b"service")
    });
    if serves { Life::Daemon } else { Life::Job }
}

/// What a process has to do with `BuildKit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It asks a daemon to build.
    Client,
    /// It runs a step of a build.
    Step,
    /// It builds, and can have clients on other machines.
    BuildDaemon,
    /// It can build, and runs all the time on many machines.
    Engine,
}

/// The role of a process in builds, if it has one.
pub fn role<A: AsRef<[u8]>>(exe: Option<&[u8]>, arguments: &[A]) -> Option<Role> {
    let names: BTreeSet<&[u8]> =
        exe.map(base_name).into_iter().chain(arguments.first().map(|first| title(first.as_ref()))).collect();
    let is = |name: &[u8]| names.contains(name);
    let has = |words: &[&[u8]]| arguments.iter().skip(1).any(|argument| words.contains(&argument.as_ref()));
    let building: &[&[u8]] = &[b"build", b"buildx", b"builder", b"bake", b"bud", b"dial-stdio", b"--build"];
    if is(b"buildkitd") || is(b"rootlesskit-buildkitd") {
        Some(Role::BuildDaemon)
    } else if is(b"dockerd") {
        Some(Role::Engine)
    } else if is(b"buildctl")
        || is(b"docker-buildx")
        || ([&b"docker"[..], b"docker-compose", b"podman", b"buildah", b"nerdctl"].into_iter().any(is)
            && has(building))
    {
        Some(Role::Client)
    } else if is(b"buildkit-runc")
        || ((is(b"runc") || is(b"crun"))
            && arguments.iter().any(|argument| argument.as_ref().windows(8).any(|part| part == b"buildkit")))
    {
        Some(Role::Step)
    } else {
        None
    }
}

/// The last component of a path.
pub(super) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// The name in a first argument. Node programs replace it by a title (`npm install x`), login shells begin it with a
/// dash.
fn title(first: &[u8]) -> &[u8] {
    let word = first.split(|&byte| byte == b' ').next().unwrap_or(first);
    let word = word.strip_prefix(b"-").unwrap_or(word);
    base_name(word)
}

fn is_interpreter(name: &[u8]) -> bool {
    let bare = without_version(name);
    INTERPRETERS.iter().any(|known| known.as_bytes() == name || known.as_bytes() == bare)
}

fn without_version(name: &[u8]) -> &[u8] {
    let end =
        name.iter().rposition(|byte| !byte.is_ascii_digit() && *byte != b'.').map_or(0, |last| last + 1);
    let bare = name.get(..end).unwrap_or(name);
    if end < name.len() { bare.strip_suffix(b"-").unwrap_or(bare) } else { bare }
}

fn lookup(name: &[u8]) -> Option<(&'static str, Life)> {
    let among =
        |table: &[&'static str], name: &[u8]| table.iter().find(|known| known.as_bytes() == name).copied();
    if let Some((_, tool)) = ALIASES.iter().find(|(alias, _)| alias.as_bytes() == name) {
        return Some((tool, Life::Job));
    }
    if name.starts_with(b"containerd-shim-") {
        return Some(("containerd-shim", Life::Supervisor));
    }
    among(JOBS, name)
        .map(|tool| (tool, Life::Job))
        .or_else(|| among(DAEMONS, name).map(|tool| (tool, Life::Daemon)))
        .or_else(|| among(SUPERVISORS, name).map(|tool| (tool, Life::Supervisor)))
        .or_else(|| among(VERSIONED, without_version(name)).map(|tool| (tool, Life::Job)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(exe: &str, arguments: &[&str]) -> Option<&'static str> {
        recognise(Some(exe.as_bytes()), arguments).map(|tool| tool.name)
    }

    #[test]
    fn innocents_are_not_hit() {
        for (exe, arguments) in [
            ("/usr/bin/pipewire", &["/usr/bin/pipewire"][..]),
            ("/usr/bin/pipewire-pulse", &["pipewire-pulse"]),
            ("/usr/bin/python3.11", &["python3", "/usr/bin/uvicorn", "app:app"]),
            ("/usr/bin/uvicorn", &["uvicorn"]),
            ("/usr/bin/vim.basic", &["vim", "pip.txt"]),
            ("/usr/bin/vim.basic", &["vim", "pip"]),
            ("/usr/bin/less", &["less", "apt-get.log"]),
            ("/usr/bin/less", &["less", "/usr/bin/apt-get"]),
            ("/usr/bin/tail", &["tail", "-f", "podman"]),
            ("/usr/bin/bash", &["bash", "-c", "pip install x"]),
            ("/usr/bin/bash", &["-bash"]),
            ("/usr/bin/bash", &["bash"]),
            ("/usr/bin/python3.11", &["python3", "-c", "import pip", "pip"]),
            ("/usr/bin/python3.11", &["python3", "pipeline.py"]),
            ("/usr/bin/python3.11", &["python3", "-m", "http.server", "pip"]),
            ("/usr/bin/node", &["node", "server.js", "npm"]),
            ("/usr/bin/node", &["node"]),
            ("/usr/bin/grep", &["grep", "-f", "buildah"]),
            ("/opt/x/makeshift", &["makeshift"]),
            ("/opt/x/cargo-watcher", &["cargo-watcher"]),
            ("/usr/bin/sshd", &["sshd: uv@pts/0"]),
            ("/usr/lib/systemd/systemd", &["/sbin/init", "pip"]),
            ("/usr/bin/tmux", &["tmux: server"]),
        ] {
            assert_eq!(name(exe, arguments), None, "{exe} {arguments:?}");
        }
    }

    #[test]
    fn tools_are_hit_under_each_of_their_guises() {
        for (exe, arguments, tool) in [
            ("/usr/bin/podman", &["podman", "build", "."][..], "podman"),
            ("/usr/bin/python3.11", &["/usr/bin/python3", "/usr/bin/pip3.11", "install", "x"], "pip"),
            ("/usr/bin/python3.11", &["python3.11", "-m", "pip", "install"], "pip"),
            ("/usr/bin/python3", &["/usr/bin/python3", "/usr/bin/unattended-upgrade"], "unattended-upgrade"),
            ("/usr/bin/node", &["npm install"], "npm"),
            ("/usr/bin/node", &["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "ci"], "npm"),
            ("/usr/bin/node", &["/usr/bin/node", "/usr/share/yarn/bin/yarn.js"], "yarn"),
            ("/usr/bin/perl", &["/usr/bin/perl", "/usr/bin/dpkg-buildpackage"], "dpkg-buildpackage"),
            ("/bin/sh", &["sh", "/usr/bin/mvn"], "mvn"),
            ("/root/.cargo/bin/uv", &["uv", "sync"], "uv"),
            ("/usr/bin/x86_64-linux-gnu-gcc-12", &["gcc", "-c"], "gcc"),
            ("/usr/bin/gcc-12", &["/usr/bin/gcc-12"], "gcc"),
            (
                "/usr/bin/containerd-shim-runc-v2",
                &["/usr/bin/containerd-shim-runc-v2", "-id"],
                "containerd-shim",
            ),
            ("/usr/bin/buildkitd", &["buildkitd"], "buildkitd"),
            ("/bin/busybox", &["make", "all"], "make"),
        ] {
            assert_eq!(name(exe, arguments), Some(tool), "{exe} {arguments:?}");
        }
        assert_eq!(recognise(None, &["/usr/bin/apt-get", "install"]).unwrap().name, "apt-get");
    }

    #[test]
    fn builders_are_told_from_other_uses_of_their_programs() {
        let role_of = |arguments: &[&str]| role(None, arguments);
        assert_eq!(role_of(&["docker", "build", "."]), Some(Role::Client));
        assert_eq!(role_of(&["docker", "--context", "x", "buildx", "bake"]), Some(Role::Client));
        assert_eq!(role_of(&["docker", "system", "dial-stdio"]), Some(Role::Client), "of another machine");
        assert_eq!(role_of(&["docker", "ps"]), None);
        assert_eq!(role_of(&["docker", "compose", "up", "--build"]), Some(Role::Client));
        assert_eq!(role_of(&["buildctl", "build"]), Some(Role::Client));
        assert_eq!(role_of(&["runc", "--root", "/run/docker/runtime-runc/moby", "create"]), None);
        assert_eq!(
            role_of(&["runc", "--log", "/var/lib/docker/buildkit/executor/l", "run"]),
            Some(Role::Step)
        );
        assert_eq!(role_of(&["/usr/bin/dockerd", "-H", "fd://"]), Some(Role::Engine));
        assert_eq!(role_of(&["buildkitd"]), Some(Role::BuildDaemon));
        assert_eq!(role_of(&["vim", "build"]), None);
    }

    #[test]
    fn tables_are_sorted_and_disjoint() {
        for table in [JOBS, DAEMONS, SUPERVISORS, VERSIONED, INTERPRETERS] {
            assert!(table.is_sorted(), "{table:?}");
        }
        assert!(DAEMONS.iter().chain(SUPERVISORS).all(|name| !JOBS.contains(name)));
    }

    proptest! {
        #[test]
        fn a_name_that_only_contains_a_tool_is_no_tool(index in 0..JOBS.len(), before in "[a-z]{1,3}_", after in "_[a-z]{1,3}") {
            let tool = JOBS[index];
            for name in [format!("{before}{tool}"), format!("{tool}{after}")] {
                prop_assert_eq!(recognise(Some(name.as_bytes()), &[&name]), None);
            }
        }

        #[test]
        fn any_bytes_are_taken(exe in proptest::collection::vec(any::<u8>(), 0..30), line in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4)) {
            recognise(Some(&exe), &line);
            role(Some(&exe), &line);
        }
    }
}
