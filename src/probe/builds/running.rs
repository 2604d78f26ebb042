//! Builds that run. A build is a tool that was recognised together with all below it; the topmost such tool names it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::builds::RunningBuild;
use crate::domain::identity::Pid;
use crate::domain::redact;
use crate::domain::size::Percent;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::probe::build_tools::{self, Life, Role, base_name};
use crate::probe::process_list;
use crate::sys::procfs::{Proc, Stat};

/// A build, and what of it the other parts look at.
pub(super) struct Seen {
    pub(super) build: RunningBuild,
    /// The arguments of its root process. May hold secrets: never shown.
    pub(super) arguments: Vec<Vec<u8>>,
    /// Its `TMPDIR`, where it has one.
    pub(super) temp_dir: Option<Vec<u8>>,
}

/// Tools whose second run in the same directory waits for the first (a lock of their own), or breaks its work.
const EXCLUSIVE: &[&str] = &[
    "bazel", "buck2", "bundle", "cargo", "cmake", "gmake", "gradle", "make", "meson", "mvn", "ninja", "npm",
    "pdm", "pnpm", "poetry", "samu", "scons", "uv", "yarn",
];
/// Tools that act for an engine, and for much else: they count only where their command is a build.
const ENGINES: &[&str] = &["buildah", "docker-buildx", "docker-compose", "podman", "skopeo"];
/// Runners of whatever a project calls a script: a server that is developed on runs below one for days.
const RUNNERS: &[&str] = &["bun", "npm", "npx", "pnpm", "uvx", "yarn"];
/// What these do themselves.
const INSTALLS: &[&[u8]] = &[b"add", b"build", b"ci", b"i", b"install", b"update", b"upgrade"];

/// Finds them, oldest first.
///
/// # Errors
/// A sentence: `/proc` cannot be listed.
pub(super) fn look(context: &Context<'_>) -> Result<Vec<Seen>, String> {
    let proc = context.proc();
    let processes = process_list::processes(context)?;
    let uptime = processes.read_at();
    let spared: BTreeSet<Pid> = proc.ourselves().into_iter().chain([Pid(1)]).collect();
    let running = processes.all().filter(|process| process.is_program());
    let stats: BTreeMap<Pid, &Stat> = running.map(|process| (process.stat.pid, &process.stat)).collect();
    let mut tools = BTreeMap::new();
    for (process, command) in processes.programs() {
        let pid = process.stat.pid;
        if !spared.contains(&pid)
            && let Some(tool) = tool(command.exe.as_deref(), &command.arguments)
        {
            tools.insert(pid, (tool, &command.arguments));
        }
    }
    let mut groups: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    for pid in stats.keys() {
        if let Some(root) = root_of(*pid, &stats, |pid| tools.contains_key(&pid)) {
            groups.entry(root).or_default().push(*pid);
        }
    }
    let ours = proc.own_mount_namespace().ok();
    let mut found = Vec::new();
    for (root, members) in groups {
        let (Some(stat), Some((tool, arguments))) = (stats.get(&root), tools.remove(&root)) else {
            continue;
        };
        let ticks = members.iter().filter_map(|pid| stats.get(pid)).map(|stat| stat.cpu_ticks).sum();
        let age = age_ticks(stat, uptime);
        let same_mounts = ours.is_some() && proc.mount_namespace(root).ok() == ours;
        let name = HostText::from(tool.name);
        let build = RunningBuild {
            root: stat.id(),
            command: redact::command_line(arguments),
            directory: proc.link(root, "cwd").ok().map(HostPath::from_bytes),
            directory_key: proc.target(root, "cwd").ok(),
            same_mounts,
            age_secs: age / rustix::param::clock_ticks_per_second().max(1),
            processes: u32::try_from(members.len()).unwrap_or(u32::MAX),
            cpu: Percent::of(ticks, age),
            by_engine: tool.by_engine,
            exclusive: EXCLUSIVE.contains(&tool.name),
            tool: name,
        };
        let temp_dir = temp_dir(&proc, root);
        found.push(Seen { build, arguments: arguments.clone(), temp_dir });
    }
    found.sort_by_key(|seen| seen.build.root.start);
    Ok(found)
}

struct BuildTool {
    name: &'static str,
    by_engine: bool,
}

/// Whether a process is a build, as against a tool of the same name that does something else.
fn tool(exe: Option<&[u8]>, arguments: &[Vec<u8>]) -> Option<BuildTool> {
    if build_tools::role(exe, arguments) == Some(Role::Client) {
        let names: Vec<&[u8]> =
            exe.into_iter().chain(arguments.first().map(Vec::as_slice)).map(base_name).collect();
        let known = ["docker-buildx", "docker-compose", "docker", "podman", "buildah", "nerdctl", "buildctl"];
        let name = known.into_iter().find(|known| names.contains(&known.as_bytes()))?;
        return Some(BuildTool { name, by_engine: true });
    }
    if let Some(name) = on_java(exe, arguments) {
        return Some(BuildTool { name, by_engine: false });
    }
    let tool = build_tools::recognise(exe, arguments)?;
    if tool.life != Life::Job || ENGINES.contains(&tool.name) {
        return None;
    }
    let installs = || {
        // Node programs join their arguments into a title (`npm install x`).
        arguments
            .iter()
            .flat_map(|argument| argument.split(|&byte| byte == b' '))
            .any(|word| INSTALLS.contains(&word))
    };
    (!RUNNERS.contains(&tool.name) || installs()).then_some(BuildTool { name: tool.name, by_engine: false })
}

/// Gradle and Maven, which start as scripts and become java. Gradle's daemon is none: it waits for builds for hours.
fn on_java(exe: Option<&[u8]>, arguments: &[Vec<u8>]) -> Option<&'static str> {
    if exe.or(arguments.first().map(Vec::as_slice)).map(base_name) != Some(b"java") {
        return None;
    }
    let has = |class: &str| arguments.iter().any(|argument| argument == class.as_bytes());
    if has("org.gradle.wrapper.GradleWrapperMain") || has("org.gradle.launcher.GradleMain") {
        return Some("gradle");
    }
    has("org.codehaus.plexus.classworlds.launcher.Launcher").then_some("mvn")
}

/// The topmost process above this one, itself included, that is a build.
fn root_of(pid: Pid, stats: &BTreeMap<Pid, &Stat>, is_build: impl Fn(Pid) -> bool) -> Option<Pid> {
    let mut root = None;
    let mut next = Some(pid);
    let mut passed = BTreeSet::new();
    while let Some(pid) = next.filter(|pid| passed.insert(*pid)) {
        if is_build(pid) {
            root = Some(pid);
        }
        next = stats.get(&pid).map(|stat| stat.parent);
    }
    root
}

/// Age in clock ticks, at least one.
pub(super) fn age_ticks(stat: &Stat, uptime: Option<f64>) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "uptime is positive and small"
    )]
    let now = uptime.map_or(0, |uptime| (uptime * rustix::param::clock_ticks_per_second() as f64) as u64);
    now.saturating_sub(stat.start).max(1)
}

/// `TMPDIR` of a process. Nothing else of its environment is kept.
fn temp_dir(proc: &Proc, pid: Pid) -> Option<Vec<u8>> {
    let environment = proc.read(pid, "environ").ok()?;
    environment.split(|&byte| byte == 0).find_map(|line| line.strip_prefix(b"TMPDIR=")).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(exe: &str, arguments: &[&str]) -> Option<(&'static str, bool)> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        tool(Some(exe.as_bytes()), &arguments).map(|tool| (tool.name, tool.by_engine))
    }

    #[test]
    fn builds_are_told_from_other_uses_of_their_tools() {
        for (exe, arguments, expected) in [
            ("/usr/bin/docker", &["docker", "build", "."][..], Some(("docker", true))),
            ("/usr/bin/podman", &["podman", "build", "."], Some(("podman", true))),
            ("/usr/bin/podman", &["podman", "run", "x"], None),
            ("/usr/bin/skopeo", &["skopeo", "copy"], None),
            ("/usr/bin/cargo", &["cargo", "test"], Some(("cargo", false))),
            ("/usr/bin/node", &["npm install x"], Some(("npm", false))),
            ("/usr/bin/node", &["npm run dev"], None),
            (
                "/usr/bin/node",
                &["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "ci"],
                Some(("npm", false)),
            ),
            (
                "/opt/jdk/bin/java",
                &["java", "-cp", "x", "org.gradle.wrapper.GradleWrapperMain", "b"],
                Some(("gradle", false)),
            ),
            ("/opt/jdk/bin/java", &["java", "org.gradle.launcher.daemon.bootstrap.GradleDaemon"], None),
            ("/usr/bin/dockerd", &["dockerd"], None),
            ("/usr/bin/vim", &["vim", "cargo"], None),
        ] {
            assert_eq!(named(exe, arguments), expected, "{exe} {arguments:?}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken(exe in proptest::collection::vec(any::<u8>(), 0..20), arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..4)) {
            let _ = tool(Some(&exe), &arguments);
        }
    }
}
