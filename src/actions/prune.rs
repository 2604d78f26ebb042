//! Removes what a container engine keeps and nothing uses, by its own client, one id after another.
//!
//! Three levels (SAFETY.md T26): conservative takes dangling images and build cache of before yesterday; standard also
//! containers that ended and images that nothing uses, from a certain age on; emergency takes as much as can be had
//! again. Volumes hold data of people: they are never taken.

use jiff::{SignedDuration, Timestamp};

use super::{counted, device_at, filesystems, space_at, typed_name};
use crate::config::Settings;
use crate::domain::command::{ToolCommand, ToolTarget};
use crate::domain::engines::{
    CacheRecord, Container, ContainerState, Content, Engine, EngineKind, Image, PruneLevel,
};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{Snapshot, Usage};
use crate::domain::text::HostText;

/// How long one command may take: removing a large image waits for the disk.
const DEADLINE_SECS: u64 = 600;
/// Works on podman's store, and only on that of this machine.
const BUILDAH: &str = "buildah";
/// Podman's flag for the store of this machine, which buildah does not know.
const PODMAN_ALONE: &str = "--remote=false";
/// Records of the build cache that are named in the plan.
const NAMED: usize = 30;

/// From which age on things are taken; none: not at all.
struct Ages {
    dangling: SignedDuration,
    cache: SignedDuration,
    unused: Option<SignedDuration>,
}

impl Ages {
    fn of(level: PruneLevel, pressure: bool, settings: &Settings) -> Self {
        let hours = |hours: u32| SignedDuration::from_hours(i64::from(hours));
        let prune = &settings.prune;
        let unused = if pressure { prune.pressure_hours } else { prune.unused_hours };
        match level {
            PruneLevel::Conservative => {
                Self { dangling: hours(prune.hours), cache: hours(prune.hours), unused: None }
            }
            PruneLevel::Standard => {
                let unused = Some(hours(unused));
                Self { dangling: hours(prune.hours), cache: hours(prune.hours), unused }
            }
            PruneLevel::Emergency => Self { dangling: hours(0), cache: hours(0), unused: Some(hours(0)) },
        }
    }
}

/// What is taken.
struct Taken<'a> {
    containers: Vec<&'a Container>,
    images: Vec<&'a Image>,
    cache: Vec<&'a CacheRecord>,
}

/// Makes the plan.
pub fn plan(engine: &Engine, level: PruneLevel, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let kind = engine.kind;
    let mut refused = Vec::new();
    let nothing = Content::default();
    let told = engine.content.value().filter(|_| kind != EngineKind::Containerd);
    let content = told.unwrap_or_else(|| {
        let why = if kind == EngineKind::Containerd {
            "who put an image there (Kubernetes, nerdctl) must remove it: crictl rmi --prune, nerdctl image prune"
                .to_owned()
        } else {
            format!("{kind} does not say what it keeps: {}", engine.content.unknown())
        };
        refused.push(Refusal { what: format!("what {kind} keeps"), why });
        &nothing
    });
    let ages = Ages::of(level, is_under_pressure(engine, snapshot, settings), settings);
    let taken = choose(content, &ages, snapshot.taken_at, &mut refused);
    let volumes = content.unused_volumes();
    if volumes.count > 0 {
        let name = kind.name();
        refused.push(Refusal {
            what: format!("{} of volumes that no container uses ({})", volumes.size, volumes.count),
            why: format!(
                "they hold data of people and are never pruned; look into each, then remove it by its name: x on the \
                 finding in the console, or {name} volume rm NAME"
            ),
        });
    }
    let shares_cache = !shared_and_kept(content, &ages, snapshot.taken_at).is_zero();
    let client = Client { engine, shares_cache };
    let mut steps = client.steps(&taken, level, &ages);
    for step in &mut steps {
        step.on = device_at(snapshot, engine.room());
    }
    let reclaim = if steps.is_empty() { Reclaim::Nothing } else { reclaim(content, &taken, &ages, snapshot) };
    Plan {
        action: action(level),
        summary: summary(kind, level, &taken),
        risk: risk(&taken),
        verify: if steps.is_empty() { Vec::new() } else { vec![space_at(snapshot, engine.room())] },
        steps,
        refused,
        reclaim,
        unknown: Vec::new(),
        undo: Undo::Regenerates {
            how: "images are pulled or built again when they are needed; containers do not come back"
                .to_owned(),
        },
        name: typed_name("prune", &[kind.name().as_bytes()]),
        again: None,
    }
}

fn action(level: PruneLevel) -> ActionId {
    match level {
        PruneLevel::Conservative => ActionId::PruneConservative,
        PruneLevel::Standard => ActionId::PruneStandard,
        PruneLevel::Emergency => ActionId::PruneEmergency,
    }
}

fn summary(kind: EngineKind, level: PruneLevel, taken: &Taken<'_>) -> String {
    let count = |count: usize, one, many| {
        (count > 0).then(|| counted(u64::try_from(count).unwrap_or(u64::MAX), one, many))
    };
    let parts: Vec<String> = [
        count(taken.containers.len(), "container", "containers"),
        count(taken.images.len(), "image", "images"),
        count(taken.cache.len(), "record of build cache", "records of build cache"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        format!("prune nothing of {kind} ({level})")
    } else {
        format!("prune {} of {kind} ({level})", parts.join(", "))
    }
}

/// Whether the store's file system is full enough to be warned of.
fn is_under_pressure(engine: &Engine, snapshot: &Snapshot, settings: &Settings) -> bool {
    let store = engine.room().as_path();
    let holds = filesystems(snapshot)
        .iter()
        .filter(|fs| store.starts_with(fs.mount_point.as_path()))
        .max_by_key(|fs| fs.mount_point.as_path().components().count());
    let full = |usage: &Usage| {
        usage.used_share().0 >= f64::from(settings.filesystem.warn_percent)
            || usage.inodes_share().0 >= f64::from(settings.filesystem.inode_warn_percent)
    };
    holds.and_then(|fs| fs.usage.value()).is_some_and(full)
}

/// Whether something is at least so old; what has no date is taken for new.
fn is_old(made: Option<Timestamp>, age: SignedDuration, now: Timestamp) -> bool {
    age.is_zero() || made.is_some_and(|made| now.duration_since(made) >= age)
}

fn choose<'a>(content: &'a Content, ages: &Ages, now: Timestamp, refused: &mut Vec<Refusal>) -> Taken<'a> {
    let containers: Vec<&Container> = content
        .containers
        .iter()
        .filter(|container| match container.state {
            ContainerState::Running => false,
            ContainerState::Stopped | ContainerState::External => {
                ages.unused.is_some_and(|age| is_old(container.created, age, now))
            }
        })
        .filter(|container| is_sound(&container.id, &[], &container.shown(), refused))
        .collect();
    let images = content
        .images
        .iter()
        .filter(|image| {
            let going = containers.iter().filter(|container| is_made_from(container, image)).count();
            let free = image.containers <= u64::try_from(going).unwrap_or(0);
            let age = if image.names.is_empty() { Some(ages.dangling) } else { ages.unused };
            free && !image.read_only && age.is_some_and(|age| is_old(image.created, age, now))
        })
        .filter(|image| is_sound(&image.id, &image.names, &image.shown(), refused))
        .collect();
    let cache = content
        .cache
        .iter()
        .filter(|record| !record.in_use && !record.shared && is_old(record.last_used, ages.cache, now))
        .collect();
    Taken { containers, images, cache }
}

/// What goes into a command line must look like what it is.
fn is_sound(id: &HostText, names: &[HostText], shown: &str, refused: &mut Vec<Refusal>) -> bool {
    let hex = id.as_bytes().len() == 64 && id.as_bytes().iter().all(u8::is_ascii_hexdigit);
    let sound = hex && names.iter().all(|name| !name.is_empty() && !name.as_bytes().starts_with(b"-"));
    if !sound {
        let why = "its id or name is none that an engine gives; look at it by hand".to_owned();
        refused.push(Refusal { what: shown.to_owned(), why });
    }
    sound
}

/// Whether a container names an image as its own: by a name, or by at least 12 digits of the id.
fn is_made_from(container: &Container, image: &Image) -> bool {
    if let Some(id) = &container.image_id {
        return *id == image.id;
    }
    let of = container.image.as_bytes();
    let digits = of.strip_prefix(b"sha256:").unwrap_or(of);
    image.names.contains(&container.image) || (digits.len() >= 12 && image.id.as_bytes().starts_with(digits))
}

/// What a container has written is lost with it; everything else can be pulled or built again.
fn risk(taken: &Taken<'_>) -> Risk {
    if taken.containers.iter().any(|container| loses(container)) {
        Risk::Destructive
    } else {
        Risk::Disruptive
    }
}

fn loses(container: &Container) -> bool {
    container.state == ContainerState::Stopped && container.layer != Some(Bytes::ZERO)
}

/// What an engine keeps beside the containers that have written something, and the images these are made from. None
/// where there are none.
pub fn without_loss(engine: &Engine) -> Option<Engine> {
    engine.content.value().filter(|content| content.containers.iter().any(loses))?;
    let mut engine = engine.clone();
    engine.content = engine.content.map(|mut content| {
        // An image still counts its containers, so it stays.
        content.containers.retain(|container| !loses(container));
        content
    });
    Some(engine)
}

/// An image gives back at least what no other shares, if the engine knows that, and at most all of it. Layers that the build cache keeps come back
/// only with its records.
fn reclaim(content: &Content, taken: &Taken<'_>, ages: &Ages, snapshot: &Snapshot) -> Reclaim {
    let containers: Bytes = taken.containers.iter().map(|one| size_of(one)).sum();
    let cache: Bytes = taken.cache.iter().map(|record| record.size).sum();
    let kept = shared_and_kept(content, ages, snapshot.taken_at);
    let least: Bytes = taken.images.iter().filter_map(|image| image.unique).sum();
    let most: Bytes = taken.images.iter().map(|image| image.size).sum();
    let (low, high) = (containers + cache + least.saturating_sub(kept), containers + cache + most);
    between(low, high)
}

/// What a container takes: its layer and its log.
fn size_of(container: &Container) -> Bytes {
    let log = container.log.as_ref().map(|log| log.allocated);
    [container.layer, log].into_iter().flatten().sum()
}

fn between(low: Bytes, high: Bytes) -> Reclaim {
    if low == high { Reclaim::exact(low) } else { Reclaim::Range { low, high } }
}

/// Build cache that images share and that stays.
fn shared_and_kept(content: &Content, ages: &Ages, now: Timestamp) -> Bytes {
    let stays = |record: &&CacheRecord| {
        record.shared && (record.in_use || !is_old(record.last_used, ages.cache, now))
    };
    content.cache.iter().filter(stays).map(|record| record.size).sum()
}

/// A client of an engine, told which one it is.
pub(super) fn command(engine: &Engine, program: &str) -> ToolCommand {
    let mut reach = engine.reach.clone();
    if program == BUILDAH {
        reach.arguments.retain(|argument| argument.as_bytes() != PODMAN_ALONE.as_bytes());
    }
    ToolCommand::new(program, DEADLINE_SECS).reaching(&reach)
}

/// An engine's client, as a maker of commands.
struct Client<'a> {
    engine: &'a Engine,
    /// Whether build cache stays that may hold the layers of an image.
    shares_cache: bool,
}

impl Client<'_> {
    fn command(&self, program: &str) -> ToolCommand {
        command(self.engine, program)
    }

    fn steps(&self, taken: &Taken<'_>, level: PruneLevel, ages: &Ages) -> Vec<Step> {
        let containers = taken.containers.iter().map(|container| self.container(container));
        let images = taken.images.iter().map(|image| self.image(image));
        // Also where only images go: the layers that they share with the cache come back with its records only.
        let is_cached =
            self.engine.kind == EngineKind::Docker && !(taken.cache.is_empty() && taken.images.is_empty());
        let cache = is_cached.then(|| self.cache(&taken.cache, level, ages));
        let mut steps: Vec<Step> = containers.chain(images).chain(cache).collect();
        for (step, group) in steps.iter_mut().zip(0u32..) {
            step.group = group;
        }
        steps
    }

    fn container(&self, container: &Container) -> Step {
        let id = container.id.as_bytes();
        let (program, what) = match container.state {
            ContainerState::External => (BUILDAH, "working container"),
            ContainerState::Stopped | ContainerState::Running => (self.engine.kind.name(), "container"),
        };
        let size = container.layer.map_or_else(|| "size not known".to_owned(), |layer| layer.to_string());
        step(
            self.command(program).args([b"rm", id]),
            ToolTarget::Container {
                engine: self.engine.kind,
                reach: self.engine.reach.clone(),
                id: container.id.clone(),
            },
            format!("{what} {} of {} ({size}) does not run", container.shown(), container.image),
            Reclaim::exact(size_of(container)),
        )
    }

    fn image(&self, image: &Image) -> Step {
        // One with several names goes only name by name, or by force, which this program does not use.
        let operands: Vec<&[u8]> = match image.names.as_slice() {
            [] | [_] => vec![image.id.as_bytes()],
            names => names.iter().map(HostText::as_bytes).collect(),
        };
        let command = self.command(self.engine.kind.name()).args(["image", "rm"]).args(operands);
        let what = if image.names.is_empty() { "dangling image" } else { "image" };
        let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        let id: String = image.id.to_string().chars().take(12).collect();
        let called = if names.is_empty() { String::new() } else { format!(" {}", names.join(", ")) };
        step(
            command,
            ToolTarget::Image {
                engine: self.engine.kind,
                reach: self.engine.reach.clone(),
                id: image.id.clone(),
                names: image.names.clone(),
            },
            format!("{what}{called} ({id}, {}) that no container is made from", image.size),
            // What it shares with the build cache comes back with its records.
            between(
                if self.shares_cache { Bytes::ZERO } else { image.unique.unwrap_or_default() },
                image.size,
            ),
        )
    }

    fn cache(&self, records: &[&CacheRecord], level: PruneLevel, ages: &Ages) -> Step {
        // Where buildx stands in for the old builder, this names the cache of the daemon itself.
        let command =
            self.command("docker").env("BUILDX_BUILDER", "default").args(["builder", "prune", "--force"]);
        let command = match level {
            PruneLevel::Emergency => command.args(["--all"]),
            PruneLevel::Conservative | PruneLevel::Standard => {
                command.args(["--filter".to_owned(), format!("until={}h", ages.cache.as_hours())])
            }
        };
        let total: Bytes = records.iter().map(|record| record.size).sum();
        let mut named: Vec<&&CacheRecord> = records.iter().collect();
        named.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        let mut named: Vec<String> = named
            .iter()
            .take(NAMED)
            .map(|record| format!("{} ({}, {})", record.id, record.size, record.description))
            .collect();
        if records.len() > NAMED {
            named.push(format!("and {} more", records.len() - NAMED));
        }
        let count = counted(u64::try_from(records.len()).unwrap_or(u64::MAX), "record", "records");
        let why = if named.is_empty() {
            "what the images above shared with the build cache".to_owned()
        } else {
            format!("{count} of build cache that no build uses ({total}): {}", named.join("; "))
        };
        let mut step = step(command, ToolTarget::Chosen, why, Reclaim::exact(total));
        step.guards = vec![Guard::NothingBuilds];
        step
    }
}

fn step(command: ToolCommand, target: ToolTarget, why: String, frees: Reclaim) -> Step {
    Step {
        op: Op::Run { command, target },
        why,
        group: 0,
        when: When::Always,
        guards: vec![Guard::NothingBuilds, Guard::StillUnused],
        on_error: OnError::Continue,
        frees,
        on: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reading::Reading;

    const HOUR: i64 = 3600;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000 * HOUR).unwrap()
    }

    fn ago(hours: i64) -> Option<Timestamp> {
        Timestamp::from_second((1_000 - hours) * HOUR).ok()
    }

    fn id(digit: u8) -> HostText {
        HostText::new(vec![digit; 64])
    }

    fn image(digit: u8, names: &[&str], hours: i64, containers: u64) -> Image {
        Image {
            id: id(digit),
            names: names.iter().map(|name| HostText::from(*name)).collect(),
            size: Bytes(100),
            unique: Some(Bytes(60)),
            created: ago(hours),
            containers,
            read_only: false,
        }
    }

    fn container(digit: u8, image: &str, state: ContainerState, hours: i64, layer: Option<u64>) -> Container {
        Container {
            id: id(digit),
            name: "c".into(),
            image: image.into(),
            image_id: None,
            state,
            layer: layer.map(Bytes),
            created: ago(hours),
            log: None,
        }
    }

    fn record(name: &str, hours: i64, in_use: bool, shared: bool) -> CacheRecord {
        CacheRecord {
            id: name.into(),
            description: "make".into(),
            size: Bytes(7),
            in_use,
            shared,
            last_used: ago(hours),
        }
    }

    fn content() -> Content {
        Content {
            images: vec![
                image(b'1', &[], 30, 0),
                image(b'2', &[], 2, 0),
                image(b'3', &["old:1"], 200, 0),
                image(b'4', &["new:1", "new:2"], 30, 0),
                image(b'5', &["used:1"], 900, 1),
                image(b'6', &["ended:1"], 900, 1),
            ],
            containers: vec![
                container(b'a', "used:1", ContainerState::Running, 900, Some(0)),
                container(b'b', "ended:1", ContainerState::Stopped, 800, Some(5)),
                container(b'c', "", ContainerState::External, 20, None),
            ],
            volumes: Vec::new(),
            cache: vec![
                record("old", 30, false, false),
                record("young", 2, false, false),
                record("busy", 30, true, false),
                record("shared", 2, false, true),
            ],
        }
    }

    fn plan_of(kind: EngineKind, content: Content, level: PruneLevel) -> Plan {
        let mut snapshot = Snapshot::pending(now());
        snapshot.host.uid = 0;
        let engine = Engine {
            kind,
            store: "/var/lib/x".into(),
            store_size: Reading::Pending,
            content: Reading::ready(content),
            ..Engine::new(kind, "".into())
        };
        plan(&engine, level, &snapshot, &Settings::default())
    }

    fn shown(plan: &Plan) -> Vec<String> {
        // Ids are shortened to their digit.
        plan.steps
            .iter()
            .map(|step| {
                b"123456abc".iter().fold(step.op.words(), |text, digit| {
                    text.replace(&id(*digit).to_string(), &char::from(*digit).to_string())
                })
            })
            .collect()
    }

    #[test]
    fn conservative_takes_what_is_dangling_and_of_before_yesterday() {
        let plan = plan_of(EngineKind::Docker, content(), PruneLevel::Conservative);
        assert_eq!(
            shown(&plan),
            ["docker image rm 1", "BUILDX_BUILDER=default docker builder prune --force --filter until=24h"]
        );
        // The young shared record may keep layers of the image.
        assert_eq!(plan.reclaim, Reclaim::Range { low: Bytes(60), high: Bytes(107) });
        assert_eq!(plan.risk, Risk::Disruptive);
    }

    #[test]
    fn standard_also_takes_what_nothing_used_for_a_week() {
        let plan = plan_of(EngineKind::Docker, content(), PruneLevel::Standard);
        assert_eq!(
            shown(&plan)[..4],
            ["docker rm b", "docker image rm 1", "docker image rm 3", "docker image rm 6"]
        );
        assert_eq!(plan.risk, Risk::Destructive, "what a container has written is lost");
    }

    #[test]
    fn emergency_takes_all_but_what_is_in_use() {
        let plan = plan_of(EngineKind::Docker, content(), PruneLevel::Emergency);
        let shown = shown(&plan);
        assert!(shown.contains(&"docker image rm new:1 new:2".to_owned()), "{shown:?}");
        assert!(shown.contains(&"BUILDX_BUILDER=default docker builder prune --force --all".to_owned()));
        assert!(!shown.iter().any(|line| line.ends_with(" rm 5") || line.ends_with(" rm a")), "{shown:?}");
        assert_eq!(
            plan.reclaim,
            Reclaim::Range { low: Bytes(5 + 14 + 5 * 60), high: Bytes(5 + 14 + 5 * 100) }
        );
    }

    #[test]
    fn podman_has_no_build_cache_and_buildah_removes_its_own_containers() {
        let plan = plan_of(EngineKind::Podman, content(), PruneLevel::Emergency);
        let shown = shown(&plan);
        assert!(shown.contains(&"buildah rm c".to_owned()), "{shown:?}");
        assert!(!shown.iter().any(|line| line.contains("builder")));
        assert!(plan.steps.iter().all(|step| step.guards.contains(&Guard::NothingBuilds)));
    }

    #[test]
    fn what_others_put_into_containerd_is_left_to_them() {
        let plan = plan_of(EngineKind::Containerd, content(), PruneLevel::Emergency);
        assert!(plan.is_empty() && plan.refused[0].why.contains("crictl rmi --prune"), "{:?}", plan.refused);
    }

    #[test]
    fn under_pressure_a_day_is_enough() {
        let full = Usage { total: Bytes(100), free: Bytes(5), available: Bytes(5), ..Usage::default() };
        let mut snapshot = Snapshot::pending(now());
        snapshot.filesystems = Reading::ready(vec![crate::domain::snapshot::FileSystem {
            mount_point: "/".into(),
            source: "x".into(),
            fs_type: "ext4".into(),
            mount: crate::domain::identity::MountId::default(),
            dev: crate::domain::identity::DevId::default(),
            class: crate::domain::snapshot::FsClass::Local,
            read_only: false,
            usage: Reading::ready(full),
            seen: crate::domain::snapshot::Seen::default(),
        }]);
        let engine = Engine {
            kind: EngineKind::Docker,
            store: "/var/lib/x".into(),
            store_size: Reading::Pending,
            content: Reading::ready(content()),
            ..Engine::new(EngineKind::Docker, "".into())
        };
        let plan = plan(&engine, PruneLevel::Standard, &snapshot, &Settings::default());
        assert!(shown(&plan).contains(&"docker image rm new:1 new:2".to_owned()));
    }

    #[test]
    fn each_step_is_for_the_engine_that_was_asked() {
        let mut engine = Engine::new(EngineKind::Podman, "/var/lib/x".into());
        let mut content = content();
        content.images[0].read_only = true;
        content.containers = vec![container(b'd', "a:1", ContainerState::External, 200, None)];
        let kept = content.images[0].id.to_string();
        engine.content = Reading::ready(content);
        engine.reach.arguments = [PODMAN_ALONE, "--root", "/r"].map(HostText::from).to_vec();
        let plan = plan(&engine, PruneLevel::Emergency, &Snapshot::pending(now()), &Settings::default());
        let lines: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
        assert!(lines.len() > 2 && lines[0].starts_with("buildah --root /r rm dddd"), "{lines:?}");
        assert!(
            lines[1..].iter().all(|line| line.starts_with("podman --remote=false --root /r image rm")),
            "{lines:?}"
        );
        // What is in a store that is only read cannot be removed from here.
        assert!(!lines.iter().any(|line| line.contains(&kept)), "{lines:?}");
        for step in &plan.steps {
            let Op::Run {
                target: ToolTarget::Image { reach, .. } | ToolTarget::Container { reach, .. }, ..
            } = &step.op
            else {
                panic!("{step:?}")
            };
            assert_eq!(*reach, engine.reach);
        }
    }

    #[test]
    fn odd_ids_and_names_never_reach_a_command_line() {
        let mut odd = content();
        odd.images[0].id = "--all".into();
        odd.images[2].names = vec!["--force".into(), "x".into()];
        let plan = plan_of(EngineKind::Docker, odd, PruneLevel::Emergency);
        assert_eq!(plan.refused.len(), 2, "{:?}", plan.refused);
        assert!(!shown(&plan).iter().any(|line| line.contains("--all") && line.contains("image")));
    }

    #[test]
    fn what_loses_nothing_is_pruned_without_the_containers_that_wrote_something() {
        let images = vec![image(b'a', &["a:1"], 200, 1), image(b'b', &["b:1"], 200, 0)];
        let containers = vec![
            container(b'1', "a:1", ContainerState::Stopped, 200, Some(5)),
            container(b'2', "a:1", ContainerState::Running, 200, Some(5)),
        ];
        let content = Content { images, containers, ..Content::default() };
        let docker = Engine {
            kind: EngineKind::Docker,
            store: "/var/lib/docker".into(),
            store_size: Reading::Pending,
            content: Reading::ready(content),
            ..Engine::new(EngineKind::Docker, "".into())
        };
        let rest = without_loss(&docker).unwrap();
        let content = rest.content.value().unwrap();
        assert_eq!((content.images.len(), content.containers.len()), (2, 1));
        let plan = plan(&rest, PruneLevel::Emergency, &Snapshot::pending(now()), &Settings::default());
        assert_eq!(plan.risk, Risk::Disruptive);
        let removed: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
        assert!(removed.iter().all(|command| !command.contains("aaaa")), "{removed:?}");
        assert!(without_loss(&rest).is_none());
    }
}
