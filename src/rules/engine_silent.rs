//! A container engine that does not tell what it keeps: down, busy, locked, closed to us, another machine's.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::engines::{Engine, EngineKind, Trouble};
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::reading::Reading;
use crate::domain::snapshot::{Evidence, FileSystem, Snapshot};

pub const RULE: Rule = Rule {
    id: "engine-silent",
    why: "Nothing of an engine that does not tell what it keeps can be pruned, and builds that need it hang or fail. What \
          it keeps stays on the disk; do not delete in its store by hand, or it will not start again.",
    check,
};

/// A file system with less room than this share of it, in percent, keeps a daemon from starting.
const FULL_BELOW: f64 = 1.0;

fn check(snapshot: &Snapshot, _settings: &Settings) -> Vec<Found> {
    let all = snapshot.engines.value().into_iter().flatten();
    all.flat_map(|engine| [silent(engine, snapshot), elsewhere(engine), others(engine)].into_iter().flatten())
        .collect()
}

/// What is said of a trouble: how bad it is, the title, what to do.
struct Said {
    severity: Severity,
    title: String,
    advice: String,
}

fn silent(engine: &Engine, snapshot: &Snapshot) -> Option<Found> {
    // Where a client leads to another machine and nothing is here there is no trouble.
    let trouble = match (&engine.trouble, &engine.content) {
        (Some(trouble), _) => trouble.clone(),
        (None, Reading::TimedOut { .. }) => Trouble::Silent,
        (None, Reading::Denied { .. }) => Trouble::Forbidden,
        (None, Reading::Refused { .. } | Reading::Unavailable { .. }) => Trouble::Refuses,
        (
            None,
            Reading::Ready { .. } | Reading::Partial { .. } | Reading::Pending | Reading::NotHere { .. },
        ) => {
            return None;
        }
    };
    let kind = engine.kind;
    // A store that is left over, or that docker runs when it needs it.
    let answered = matches!(trouble, Trouble::Silent | Trouble::Forbidden | Trouble::Locked { .. });
    if kind == EngineKind::Containerd && !answered {
        return None;
    }
    let Said { severity, title, advice } = said(engine, &trouble);
    let advice = match full(engine, snapshot) {
        Some(fs) if matches!(trouble, Trouble::NotRunning { .. } | Trouble::Silent) => format!(
            "{advice} {} is full, which keeps it from starting: free something else there first.",
            fs.mount_point
        ),
        Some(_) | None => advice,
    };
    let mut evidence: Vec<Evidence> =
        engine.content.sentences().into_iter().map(|why| Evidence::new(why, asked(&trouble, kind))).collect();
    if let Trouble::Locked { lock, holder: Some(holder) } = &trouble {
        let by = format!("{lock} is locked by pid {}: {}", holder.pid, holder.command);
        evidence.push(Evidence::new(by, "/proc/locks"));
    }
    if let Some(size) = engine.store_size.value() {
        let at_least = if matches!(engine.store_size, Reading::Partial { .. }) { "at least " } else { "" };
        evidence.push(Evidence::new(
            format!("its store {} takes {at_least}{size}", engine.store),
            format!("the files below {}", engine.store),
        ));
    }
    Some(Found {
        key: kind.name().to_owned(),
        severity,
        subject: Subject::Engine { engine: kind },
        title,
        evidence,
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice,
    })
}

/// Where what is said of a trouble was seen.
fn asked(trouble: &Trouble, kind: EngineKind) -> String {
    match trouble {
        Trouble::NoClient | Trouble::ClientIsPodman => "the programs in /usr/local/bin, /usr/bin".to_owned(),
        Trouble::NotRunning { socket } => format!("connect({socket})"),
        Trouble::Settings => format!("{kind} context inspect"),
        Trouble::Forbidden
        | Trouble::Busy
        | Trouble::Versions
        | Trouble::Locked { .. }
        | Trouble::Silent
        | Trouble::Refuses => match kind {
            EngineKind::Docker => "docker system df".to_owned(),
            EngineKind::Podman => "podman images".to_owned(),
            EngineKind::Containerd => "ctr namespaces ls".to_owned(),
        },
    }
}

fn said(engine: &Engine, trouble: &Trouble) -> Said {
    let kind = engine.kind;
    let store = engine.store.quoted();
    let has_lists = engine.content.value().is_some();
    // Podman has no daemon that could be looked at.
    let look = match kind {
        EngineKind::Docker | EngineKind::Containerd => {
            format!("systemctl status {kind}, journalctl --unit {kind} --since -1h")
        }
        EngineKind::Podman => "podman --log-level=debug images".to_owned(),
    };
    let (severity, title, advice) = match trouble {
        Trouble::NoClient => (
            Severity::Warning,
            format!("{kind} is not installed, and its store is still there"),
            format!(
                "If nobody needs it any more, look into the volumes first (they hold data of people), then remove {store} \
                 by hand. Else install {kind} and prune."
            ),
        ),
        Trouble::ClientIsPodman => (
            Severity::Warning,
            "the program docker is podman, and a store of docker is still there".to_owned(),
            format!(
                "Podman sees nothing of it. If nobody needs it any more, look into its volumes first, then remove {store} by \
                 hand. Else install docker's own client (docker-cli) in place of podman-docker."
            ),
        ),
        Trouble::NotRunning { socket } => (
            Severity::Warning,
            format!("{kind} does not run"),
            format!("Nobody listens on {socket}. Start it (systemctl start {kind}), or see why it ended: {look}."),
        ),
        Trouble::Forbidden => (
            Severity::Unknown,
            format!("{kind} does not let this user in"),
            format!("Run as root (sudo unwedge), or as a member of the group {kind}."),
        ),
        Trouble::Busy => (
            Severity::Unknown,
            format!("{kind} cannot tell its disk usage now: somebody else asks for it"),
            "It answers, and computes its disk usage for one at a time (docker until 22). Look again in a minute; if it stays \
             so, a monitor asks without pause (docker system df)."
                .to_owned(),
        ),
        Trouble::Versions => (
            Severity::Unknown,
            format!("the client and the daemon of {kind} do not understand each other"),
            format!(
                "The daemon runs; its client is of another age. Install the client of the daemon's version ({kind} version \
                 tells both), and see that DOCKER_API_VERSION is not set."
            ),
        ),
        Trouble::Locked { lock, holder } => (
            Severity::Warning,
            match holder {
                Some(holder) => format!("the store of {kind} is locked by pid {}", holder.pid),
                None => format!("the store of {kind} is locked"),
            },
            match holder {
                Some(holder) => format!(
                    "Wait until it ends ({}), or see what it waits for: cat /proc/{}/wchan /proc/{}/stack. Never remove the \
                     lock file: that corrupts the store.",
                    holder.command, holder.pid, holder.pid
                ),
                None => format!(
                    "It is held from another container or namespace: see who has it open (fuser {}). Never remove it: that \
                     corrupts the store.",
                    lock.quoted()
                ),
            },
        ),
        Trouble::Settings => (
            Severity::Unknown,
            format!("the settings of {kind} do not name an engine"),
            format!("See the contexts that there are and take one: {kind} context ls, {kind} context use default."),
        ),
        Trouble::Silent if has_lists => (
            Severity::Unknown,
            format!("{kind} does not tell its disk usage in time"),
            "It answers other questions. Give it longer: unwedge --audit --set engines.deadline_ms=60000.".to_owned(),
        ),
        Trouble::Silent => {
            (Severity::Warning, format!("{kind} does not answer"), format!("See why: {look}."))
        }
        Trouble::Refuses if has_lists => (
            Severity::Unknown,
            format!("{kind} does not tell its disk usage"),
            format!("The evidence has its own words. See why: {look}."),
        ),
        Trouble::Refuses => (
            Severity::Warning,
            format!("{kind} refuses to tell what it keeps"),
            format!("The evidence has its own words. See why: {look}."),
        ),
    };
    Said { severity, title, advice }
}

/// The file system of its data, if there is no room left on it.
fn full<'s>(engine: &Engine, snapshot: &'s Snapshot) -> Option<&'s FileSystem> {
    let store = engine.store.as_path();
    let all = snapshot.filesystems.value().into_iter().flatten();
    let holds = all
        .filter(|fs| store.starts_with(fs.mount_point.as_path()))
        .max_by_key(|fs| fs.mount_point.as_path().components().count())?;
    let usage = holds.usage.value()?;
    let is_full = usage.used_share().0 > 100.0 - FULL_BELOW || usage.inodes_share().0 > 100.0 - FULL_BELOW;
    is_full.then_some(holds)
}

/// Its client leads to another machine: good to know before anybody prunes there.
fn elsewhere(engine: &Engine) -> Option<Found> {
    let elsewhere = engine.elsewhere.as_ref()?;
    let kind = engine.kind;
    let here = match &engine.content {
        Reading::Ready { .. } | Reading::Partial { .. } => {
            format!("What is told of {kind} is of the engine on this machine.")
        }
        Reading::Pending
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => format!("No {kind} of this machine answers."),
    };
    Some(Found {
        key: format!("{kind}:elsewhere"),
        severity: Severity::Info,
        subject: Subject::Engine { engine: kind },
        title: elsewhere.to_string(),
        evidence: vec![Evidence::new(
            format!("{}: {}", elsewhere.named_by, elsewhere.endpoint),
            match kind {
                EngineKind::Docker => "docker context inspect",
                EngineKind::Podman | EngineKind::Containerd => "the environment",
            },
        )],
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice: format!(
            "{here} Nothing of the other is counted here or pruned by this program: run unwedge over there. A plain {kind} \
             command works there, not here."
        ),
    })
}

/// Daemons beside the one that was asked.
fn others(engine: &Engine) -> Option<Found> {
    let first = engine.others.first()?;
    let kind = engine.kind;
    let named = engine.others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(Found {
        key: format!("{kind}:others"),
        severity: Severity::Unknown,
        subject: Subject::Engine { engine: kind },
        title: format!("another daemon of {kind} was not asked: {named}"),
        evidence: engine
            .others
            .iter()
            .map(|socket| {
                Evidence::new(format!("a daemon listens on {socket}"), format!("connect({socket})"))
            })
            .collect(),
        reclaim: Reclaim::Unknown,
        actions: Vec::new(),
        advice: format!(
            "Look at it by itself: unwedge --audit --set engines.docker_host={}",
            crate::domain::text::shell_quote(format!("unix://{first}").as_bytes())
        ),
    })
}
