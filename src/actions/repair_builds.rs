//! The recipe for a wedged BuildKit. Where its mounts leak: nothing builds → docker stops → orphans end → the mounts go,
//! leaf first → what buildx wrote of its builders goes → docker starts → the builder is there again → none is left.
//! Where no mount leaks: orphans end, and the state of the builders is made anew.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::{counted, delete, end_process, typed_name, unmount};
use crate::config::Settings;
use crate::domain::builds::{BuildxState, RepairMeans, STEP};
use crate::domain::command::{ToolCommand, ToolTarget, ToolUser};
use crate::domain::engines::{ContainerState, Content, EngineKind};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, Verify, When};
use crate::domain::reading::Reading;
use crate::domain::snapshot::{BuildMount, BuildProcess, Evidence, Snapshot, Verdict};
use crate::domain::text::HostText;

/// How long docker may take to stop: it gives containers ten seconds each, side by side (docker-stop(1)).
const STOP_SECS: u64 = 120;
/// How long docker may take to start: it looks through its whole store.
const START_SECS: u64 = 300;
/// How long a builder may take to start: its image may have to be pulled.
const BUILDER_SECS: u64 = 300;
/// The builder that is made where there was none.
const BUILDER: &str = "builder";

/// Makes the plan.
pub fn plan(means: &Reading<RepairMeans>, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let mut refused = Vec::new();
    let Some(found) = means.value() else {
        let why = means.unknown();
        refused.push(Refusal { what: "the repair of builds".to_owned(), why });
        return frame("repair nothing".to_owned(), Vec::new(), refused);
    };
    if let Some(work) = &found.work {
        let why = format!("not now: {work}; the repair would break it. Wait for its end or end it first");
        refused.push(Refusal { what: "the repair of builds".to_owned(), why });
        return frame("repair nothing".to_owned(), Vec::new(), refused);
    }
    let mounts: Vec<BuildMount> = snapshot
        .mounts
        .value()
        .map(|census| {
            census.build_mounts.iter().filter(|one| one.verdict == Verdict::Orphan).cloned().collect()
        })
        .unwrap_or_default();
    let mut recipe = Recipe { snapshot, means: found, steps: Vec::new(), refused };
    let summary = if mounts.is_empty() {
        recipe.end_orphans(settings);
        recipe.forget_activity();
        recipe.builders_anew();
        "make the state of the builders anew: no build mount is left over".to_owned()
    } else {
        let is_stopped = recipe.stop_docker();
        recipe.end_orphans(settings);
        recipe.unmount(&mounts);
        recipe.forget_activity();
        if is_stopped {
            recipe.start_docker();
        }
        recipe.bootstrap();
        let count = u64::try_from(mounts.len()).unwrap_or(u64::MAX);
        format!("repair builds: {} left over", counted(count, "build mount", "build mounts"))
    };
    let Recipe { steps, refused, .. } = recipe;
    frame(summary, steps, refused)
}

fn frame(summary: String, mut steps: Vec<Step>, refused: Vec<Refusal>) -> Plan {
    for step in &mut steps {
        if step.when != When::Restores && !step.guards.contains(&Guard::NothingBuilds) {
            step.guards.push(Guard::NothingBuilds);
        }
    }
    Plan {
        action: ActionId::RepairBuilds,
        summary,
        // Containers stop, and builders lose their cache.
        risk: Risk::Disruptive,
        verify: if steps.is_empty() { Vec::new() } else { vec![Verify::NoBuildMounts] },
        steps,
        refused,
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Regenerates {
            how: "docker and the builders start again; the next build fills their cache".to_owned(),
        },
        name: typed_name("repair", &[b"builds"]),
        again: None,
    }
}

struct Recipe<'a> {
    snapshot: &'a Snapshot,
    means: &'a RepairMeans,
    steps: Vec<Step>,
    refused: Vec<Refusal>,
}

impl Recipe<'_> {
    fn refuse(&mut self, what: &str, why: impl Into<String>) {
        self.refused.push(Refusal { what: what.to_owned(), why: why.into() });
    }

    /// A group that no step has yet.
    fn next_group(&self) -> u32 {
        self.steps.iter().map(|step| step.group).max().map_or(0, |last| last.saturating_add(1))
    }

    fn run(&mut self, command: ToolCommand, why: String, when: When, on_error: OnError) {
        let group = match when {
            When::Always => self.next_group(),
            When::IfPreviousFailed | When::IfPreviousWorked | When::Restores => {
                self.next_group().saturating_sub(1)
            }
        };
        let op = Op::Run { command, target: ToolTarget::Chosen };
        self.steps.push(Step {
            op,
            why,
            group,
            when,
            guards: vec![Guard::NothingBuilds],
            on_error,
            frees: Reclaim::Nothing,
            on: None,
        });
    }

    /// Takes over the steps of another plan, each in a group that only its own share.
    fn take_over(&mut self, other: Plan) {
        let first = self.next_group();
        self.steps.extend(other.steps.into_iter().map(|step| Step {
            group: first.saturating_add(step.group),
            on_error: OnError::Continue,
            ..step
        }));
        self.refused.extend(other.refused);
    }

    /// Whether it will be stopped.
    fn stop_docker(&mut self) -> bool {
        if !self.means.systemd {
            self.refuse(
                "stop and start docker",
                "systemd does not run here, so it cannot stop docker; stop dockerd the way it was started, then look again",
            );
            return false;
        }
        if self.means.units.is_empty() {
            self.refuse("stop and start docker", "systemd has no docker.socket and no docker.service here");
            return false;
        }
        let command = ToolCommand::new("systemctl", STOP_SECS)
            .args(std::iter::once("stop").chain(self.means.units.iter().map(String::as_str)))
            .root_only();
        let running = self.docker().map_or(0, |content| {
            content.containers.iter().filter(|one| one.state == ContainerState::Running).count()
        });
        let running =
            counted(u64::try_from(running).unwrap_or(u64::MAX), "container stops", "containers stop");
        self.run(
            command,
            format!(
                "the daemon must not mount anew meanwhile; {running} with it. If this fails, the rest is not started"
            ),
            When::Always,
            OnError::Stop,
        );
        true
    }

    fn start_docker(&mut self) {
        let command = ToolCommand::new("systemctl", START_SECS)
            .args(std::iter::once("start").chain(self.means.units.iter().map(String::as_str)))
            .root_only();
        let why = "docker starts again, whatever became of the steps before. If this fails, the rest is not started";
        // In the group of the step that stops it, which comes first.
        let group = self.steps.first().map_or(0, |stop| stop.group);
        self.steps.push(Step {
            op: Op::Run { command, target: ToolTarget::Chosen },
            why: why.to_owned(),
            group,
            when: When::Restores,
            // What builds meanwhile must not keep docker stopped.
            guards: Vec::new(),
            on_error: OnError::Stop,
            frees: Reclaim::Nothing,
            on: None,
        });
    }

    fn docker(&self) -> Option<&Content> {
        let engines = self.snapshot.engines.value()?;
        engines.iter().find(|engine| engine.kind == EngineKind::Docker)?.content.value()
    }

    /// Only what is proven to be left over.
    fn end_orphans(&mut self, settings: &Settings) {
        let all = self.snapshot.processes.value().map(Vec::as_slice).unwrap_or_default();
        let orphans: Vec<BuildProcess> = all.iter().filter_map(|one| orphan(one, self.docker())).collect();
        self.take_over(end_process::plan(&orphans, settings));
    }

    fn unmount(&mut self, mounts: &[BuildMount]) {
        self.take_over(unmount::plan(mounts));
    }

    /// What buildx wrote last of its builders: what it cannot write anew fails every build.
    fn forget_activity(&mut self) {
        for frozen in &self.means.activity {
            let what = if frozen.place.as_path().ends_with("activity") {
                "when each builder was used last; buildx writes it anew"
            } else {
                "buildx cannot read it, and fails on it"
            };
            match &frozen.files {
                Ok(files) => {
                    let mut plan = delete::plan(files, self.snapshot);
                    for step in &mut plan.steps {
                        what.clone_into(&mut step.why);
                    }
                    self.take_over(plan);
                }
                Err(why) => self.refused.push(Refusal { what: frozen.place.to_string(), why: why.clone() }),
            }
        }
    }

    fn states(&self) -> Vec<BuildxState> {
        self.snapshot.builds.value().map(|builds| builds.buildx.clone()).unwrap_or_default()
    }

    /// Makes sure that the builders answer again; one is made where there was none.
    fn bootstrap(&mut self) {
        if !self.has_buildx() {
            return;
        }
        for user in self.means.users.clone() {
            let names = self.builders(&user);
            if let Some(address) = self.elsewhere(&user).filter(|_| names.is_empty()) {
                self.refuse(
                    "create and bootstrap a builder",
                    format!(
                        "docker of this person leads to {address}, another machine: it would be made there"
                    ),
                );
            } else if names.is_empty() {
                let command = self.buildx(&user, &["create", "--name", BUILDER, "--use", "--bootstrap"]);
                self.run(command, "a builder of its own".to_owned(), When::Always, OnError::Continue);
            }
            for name in names {
                let command = self.buildx(&user, &["inspect", "--bootstrap"]).args([name.as_bytes()]);
                let why = format!("builder {name} starts again");
                self.run(command, why, When::Always, OnError::Continue);
            }
        }
    }

    fn builders_anew(&mut self) {
        if !self.has_buildx() {
            return;
        }
        for user in self.means.users.clone() {
            for name in self.builders(&user) {
                let remove = self.buildx(&user, &["rm", "--force"]).args([name.as_bytes()]);
                self.run(
                    remove,
                    format!("builder {name} goes, with its cache"),
                    When::Always,
                    OnError::Continue,
                );
                // Where it was, and not where docker leads by now.
                let endpoint = self.endpoint(&user, &name);
                let create = self
                    .buildx(&user, &["create", "--use", "--bootstrap", "--name"])
                    .args([name.as_bytes()])
                    .args(endpoint.iter().map(HostText::as_bytes));
                let why = format!("and comes back; only if it went. Else it stays as it is: {name}");
                self.run(create, why, When::IfPreviousWorked, OnError::Continue);
            }
        }
    }

    fn has_buildx(&mut self) -> bool {
        if !self.means.buildx {
            self.refuse(
                "create and bootstrap the builder",
                "docker buildx is not installed; what builds in the daemon itself needs no builder",
            );
        }
        self.means.buildx
    }

    /// The builders of a user that have a definition, as far as their names can go into a command line.
    fn builders(&mut self, user: &ToolUser) -> Vec<HostText> {
        let mut names = Vec::new();
        for state in self.states() {
            if !state.path.as_path().starts_with(user.home.as_path()) {
                continue;
            }
            for builder in
                state.activity.iter().filter(|one| one.exists && one.builder.as_bytes() != b"default")
            {
                let name = builder.builder.as_bytes();
                let definition = state.path.as_path().join("instances").join(OsStr::from_bytes(name));
                if state.damaged.iter().any(|path| path.as_path() == definition) {
                    let why = "its definition cannot be read, so nobody can say where it built; make it anew with docker \
                               buildx create";
                    self.refuse(&format!("builder {}", builder.builder), why);
                    continue;
                }
                if let Some(address) = &builder.elsewhere {
                    let why =
                        format!("it builds at {address}, another machine: nothing of it is wedged here");
                    self.refuse(&format!("builder {}", builder.builder), &why);
                    continue;
                }
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
                if name.iter().all(plain) && name.first().is_some_and(u8::is_ascii_alphanumeric) {
                    names.push(builder.builder.clone());
                } else {
                    self.refuse(
                        &format!("builder {}", builder.builder),
                        "its name is none that buildx gives",
                    );
                }
            }
        }
        names
    }

    /// Where a person's docker leads, if that is another machine.
    fn elsewhere(&self, user: &ToolUser) -> Option<HostText> {
        let states = self.states();
        states
            .into_iter()
            .find(|state| state.path.as_path().starts_with(user.home.as_path()))?
            .elsewhere
            .clone()
    }

    /// What a builder builds with, as its definition says.
    fn endpoint(&self, user: &ToolUser, name: &HostText) -> Option<HostText> {
        let states = self.states();
        let own = states.into_iter().find(|state| state.path.as_path().starts_with(user.home.as_path()))?;
        let endpoint = own.activity.iter().find(|one| one.builder == *name)?.endpoint.clone()?;
        // What goes into a command line must not be taken for an option.
        (!endpoint.is_empty() && !endpoint.as_bytes().starts_with(b"-")).then_some(endpoint)
    }

    /// As the user whose builders they are: what root wrote there would fail that user's builds.
    fn buildx(&self, user: &ToolUser, arguments: &[&str]) -> ToolCommand {
        let command = ToolCommand::new("docker", BUILDER_SECS).args(["buildx"]).args(arguments);
        if user.uid == self.snapshot.host.uid {
            command.env("HOME", user.home.as_bytes())
        } else {
            command.as_user(user.clone())
        }
    }
}

/// A buildkitd, a shim or a step that is proven to be left over: by the probe, or because docker, which answers, runs no container
/// of its id.
fn orphan(process: &BuildProcess, docker: Option<&Content>) -> Option<BuildProcess> {
    let is_tool = [&b"buildkitd"[..], b"containerd-shim", STEP.as_bytes()].contains(&process.tool.as_bytes());
    match process.verdict {
        _ if !is_tool => None,
        Verdict::Orphan => Some(process.clone()),
        Verdict::InUse | Verdict::Service => None,
        Verdict::Unknown => {
            let id = container_id(process)?;
            let runs = docker?
                .containers
                .iter()
                .any(|one| one.id.as_bytes() == id.as_bytes() && one.state == ContainerState::Running);
            if runs {
                return None;
            }
            let short = id.get(..12).unwrap_or(&id);
            let fact = format!("docker runs no container {short}, which it belongs to");
            let mut evidence = process.evidence.clone();
            evidence.push(Evidence::new(fact, "docker system df --verbose: Containers"));
            Some(BuildProcess { verdict: Verdict::Orphan, evidence, ..process.clone() })
        }
    }
}

/// The container that a process belongs to: in the arguments of a shim (`-namespace moby -id ID`), in the cgroup of what
/// runs inside.
fn container_id(process: &BuildProcess) -> Option<String> {
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if process.tool.as_bytes() == b"containerd-shim" {
        let command = process.command.to_string();
        let words: Vec<&str> = command.split(' ').collect();
        let value = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at.checked_add(1)?).copied()
        };
        // Kubernetes and others keep their own namespaces: docker does not know their containers.
        return (value("-namespace") == Some("moby")).then(|| value("-id").filter(is_id))?.map(str::to_owned);
    }
    let cgroup = process.cgroup.to_string();
    cgroup
        .split('/')
        .map(|part| part.strip_prefix("docker-").and_then(|part| part.strip_suffix(".scope")).unwrap_or(part))
        .find(is_id)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::builds::{Builds, BuildxActivity};
    use crate::domain::engines::{Container, Engine};
    use crate::domain::identity::{DevId, MountId, NamespaceId, Pid, ProcId};
    use crate::domain::size::{Bytes, Percent};
    use crate::domain::snapshot::MountCensus;
    use jiff::Timestamp;

    fn id() -> String {
        "ab".repeat(32)
    }

    fn mount(id: u32, point: &str, verdict: Verdict) -> BuildMount {
        BuildMount {
            mount: MountId { id, unique: None },
            parent: 1,
            mount_point: point.into(),
            root: "/src".into(),
            fs_type: "ext4".into(),
            source: "/dev/vda".into(),
            dev: DevId::default(),
            namespace: NamespaceId(1),
            via: None,
            copies: Vec::new(),
            verdict,
            evidence: Vec::new(),
        }
    }

    /// A command line as a change shows it.
    fn begin(command: &str) -> String {
        format!("{}…", &command[..60])
    }

    fn process(tool: &str, command: &str, cgroup: &str, verdict: Verdict) -> BuildProcess {
        BuildProcess {
            id: ProcId { pid: Pid(812), start: 7 },
            tool: tool.into(),
            command: command.into(),
            parent: Pid(1),
            uid: 0,
            cgroup: cgroup.into(),
            exe: None,
            arguments: crate::domain::identity::CommandLine::default(),
            age_secs: 9,
            cpu: Percent(0.0),
            memory: Bytes(1),
            verdict,
            evidence: Vec::new(),
        }
    }

    fn means() -> RepairMeans {
        RepairMeans {
            work: None,
            systemd: true,
            units: vec!["docker.socket".to_owned(), "docker.service".to_owned()],
            buildx: true,
            users: vec![ToolUser { name: Some("al".into()), uid: 1000, gid: 1000, home: "/home/al".into() }],
            activity: Vec::new(),
        }
    }

    fn snapshot(mounts: Vec<BuildMount>, processes: Vec<BuildProcess>, running: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        snapshot.mounts = Reading::ready(MountCensus { build_mounts: mounts, ..MountCensus::default() });
        snapshot.processes = Reading::ready(processes);
        let container = |id: &&str| Container {
            id: (*id).into(),
            name: "c".into(),
            image: "i".into(),
            image_id: None,
            state: ContainerState::Running,
            layer: None,
            created: None,
            log: None,
        };
        let containers = running.iter().map(container).collect();
        snapshot.engines = Reading::ready(vec![Engine {
            kind: EngineKind::Docker,
            store: "/var/lib/docker".into(),
            store_size: Reading::Pending,
            content: Reading::ready(Content { containers, ..Content::default() }),
            ..Engine::new(EngineKind::Docker, "".into())
        }]);
        let builder = |name: &str| BuildxActivity {
            builder: name.into(),
            last: None,
            exists: true,
            endpoint: None,
            elsewhere: None,
        };
        snapshot.builds = Reading::ready(Builds {
            buildx: vec![BuildxState {
                path: "/home/al/.docker/buildx".into(),
                instances: 1,
                activity: vec![builder("default"), builder("mine"), builder("--all")],
                half_written: 0,
                foreign: 0,
                not_writable: None,
                damaged: Vec::new(),
                elsewhere: None,
            }],
            ..Builds::default()
        });
        snapshot
    }

    fn lines(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| step.op.words()).collect()
    }

    #[test]
    fn leaked_mounts_go_while_docker_is_stopped_and_it_starts_again_whatever_happens() {
        let mounts = vec![
            mount(10, "/tmp/buildkit-mount1", Verdict::Orphan),
            mount(11, "/tmp/buildkit-mount1/sub", Verdict::Orphan),
            mount(12, "/tmp/buildkit-mount2", Verdict::Unknown),
        ];
        let shim = format!("containerd-shim-runc-v2 -namespace moby -id {} -address x", id());
        let processes = vec![process("containerd-shim", &shim, "/", Verdict::Unknown)];
        let plan = plan(&Reading::ready(means()), &snapshot(mounts, processes, &[]), &Settings::default());
        assert_eq!(
            lines(&plan),
            [
                "systemctl stop docker.socket docker.service",
                &format!("send TERM to pid 812 ({})", begin(&shim)),
                &format!("send KILL to pid 812 ({})", begin(&shim)),
                "unmount /tmp/buildkit-mount1/sub",
                "detach /tmp/buildkit-mount1/sub; it goes when its last user is gone",
                "remove the empty directory /tmp/buildkit-mount1/sub",
                "unmount /tmp/buildkit-mount1",
                "detach /tmp/buildkit-mount1; it goes when its last user is gone",
                "remove the empty directory /tmp/buildkit-mount1",
                "systemctl start docker.socket docker.service",
                "sudo -u al -H docker buildx inspect --bootstrap mine",
            ]
        );
        // But for the start of docker, which nothing may keep stopped.
        assert!(
            plan.steps
                .iter()
                .all(|step| { (step.when == When::Restores) != step.guards.contains(&Guard::NothingBuilds) })
        );
        let stops: Vec<bool> = plan.steps.iter().map(|step| step.on_error == OnError::Stop).collect();
        assert_eq!(stops.iter().filter(|stops| **stops).count(), 2);
        assert!(stops[0] && stops[9]);
        assert_eq!(plan.verify, [Verify::NoBuildMounts]);
        assert!(plan.refused.iter().any(|refusal| refusal.what == "builder --all"), "{:?}", plan.refused);
    }

    #[test]
    fn without_leaked_mounts_the_builders_are_made_anew() {
        let plan =
            plan(&Reading::ready(means()), &snapshot(Vec::new(), Vec::new(), &[]), &Settings::default());
        assert_eq!(
            lines(&plan),
            [
                "sudo -u al -H docker buildx rm --force mine",
                "sudo -u al -H docker buildx create --use --bootstrap --name mine",
            ]
        );
        assert_eq!(plan.steps[1].when, When::IfPreviousWorked);
        assert_eq!(plan.steps[0].group, plan.steps[1].group);
    }

    #[test]
    fn what_buildx_cannot_read_goes_and_its_builder_is_not_guessed() {
        let mut snapshot = snapshot(Vec::new(), Vec::new(), &[]);
        let mut builds = snapshot.builds.value().unwrap().clone();
        builds.buildx[0].damaged = vec!["/home/al/.docker/buildx/instances/mine".into()];
        snapshot.builds = Reading::ready(builds);
        let plan = plan(&Reading::ready(means()), &snapshot, &Settings::default());
        assert!(lines(&plan).is_empty(), "{plan:?}");
        assert!(
            plan.refused.iter().any(|one| one.what == "builder mine" && one.why.contains("cannot be read")),
            "{plan:?}"
        );
    }

    #[test]
    fn a_step_that_outlived_its_daemon_ends_also_where_no_mount_is_left_over() {
        let lost = process(STEP, "sh -c make", "/docker/buildkit/x", Verdict::Orphan);
        let snapshot = snapshot(Vec::new(), vec![lost], &[]);
        let plan = plan(&Reading::ready(means()), &snapshot, &Settings::default());
        assert!(
            lines(&plan)[0].starts_with("send TERM to pid 812 (")
                && lines(&plan)[1].starts_with("send KILL to pid 812 (")
        );
    }

    #[test]
    fn nothing_is_done_while_something_builds() {
        let busy = RepairMeans { work: Some("docker build . (pid 7) is at work".to_owned()), ..means() };
        let mounts = vec![mount(10, "/tmp/buildkit-mount1", Verdict::Orphan)];
        let plan = plan(&Reading::ready(busy), &snapshot(mounts, Vec::new(), &[]), &Settings::default());
        assert!(plan.is_empty() && plan.refused[0].why.contains("docker build . (pid 7)"));
    }

    #[test]
    fn a_builder_comes_back_where_it_was_and_one_of_another_machine_is_left_alone() {
        let mut snapshot = snapshot(Vec::new(), Vec::new(), &[]);
        let mut builds = snapshot.builds.value().unwrap().clone();
        let activity = &mut builds.buildx[0].activity;
        activity[1].endpoint = Some("unix:///run/user/1000/docker.sock".into());
        activity.push(BuildxActivity {
            builder: "far".into(),
            last: None,
            exists: true,
            endpoint: Some("prod".into()),
            elsewhere: Some("tcp://192.0.2.1:2375".into()),
        });
        snapshot.builds = Reading::ready(builds.clone());
        let plan = plan(&Reading::ready(means()), &snapshot, &Settings::default());
        let lines = lines(&plan);
        let create = "sudo -u al -H docker buildx create --use --bootstrap --name mine unix:///run/user/1000/docker.sock";
        assert!(lines.iter().any(|line| line == create), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("far")), "{lines:?}");
        assert!(
            plan.refused.iter().any(|one| one.what == "builder far" && one.why.contains("192.0.2.1")),
            "{plan:?}"
        );
    }

    #[test]
    fn without_systemd_docker_is_left_alone_and_that_is_told() {
        let bare = RepairMeans { systemd: false, buildx: false, ..means() };
        let mounts = vec![mount(10, "/tmp/buildkit-mount1", Verdict::Orphan)];
        let plan = plan(&Reading::ready(bare), &snapshot(mounts, Vec::new(), &[]), &Settings::default());
        assert!(lines(&plan).iter().all(|line| !line.contains("systemctl") && !line.contains("buildx")));
        let told: Vec<&str> = plan.refused.iter().map(|refusal| refusal.why.as_str()).collect();
        assert!(
            told[0].contains("systemd does not run here") && told[1].contains("not installed"),
            "{told:?}"
        );
    }

    #[test]
    fn only_proven_orphans_end() {
        let id = id();
        let moby = format!("containerd-shim-runc-v2 -namespace moby -id {id} -address x");
        let k8s = moby.replace("moby", "k8s.io");
        let scope = format!("/system.slice/docker-{id}.scope");
        let content = |running: &[&str]| {
            let snapshot = snapshot(Vec::new(), Vec::new(), running);
            snapshot.engines.value().unwrap()[0].content.value().unwrap().clone()
        };
        let none = content(&[]);
        let same = content(&[&id]);
        let proven = |process: BuildProcess, docker: Option<&Content>| orphan(&process, docker).is_some();
        let shim = |command: &str, verdict| process("containerd-shim", command, "/", verdict);
        assert!(proven(shim(&moby, Verdict::Unknown), Some(&none)));
        assert!(!proven(shim(&moby, Verdict::Unknown), Some(&same)), "its container runs");
        assert!(!proven(shim(&moby, Verdict::Unknown), None), "docker does not answer");
        assert!(!proven(shim(&moby, Verdict::InUse), Some(&none)));
        assert!(!proven(shim(&moby, Verdict::Service), Some(&none)));
        assert!(!proven(shim(&k8s, Verdict::Unknown), Some(&none)), "not docker's");
        assert!(proven(process("buildkitd", "buildkitd", &scope, Verdict::Unknown), Some(&none)));
        assert!(!proven(process("buildkitd", "buildkitd", "/", Verdict::Unknown), Some(&none)));
        assert!(!proven(process("apt-get", "apt-get", &scope, Verdict::Orphan), Some(&none)));
    }
}
