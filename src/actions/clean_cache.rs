//! Cleans what one entry of the catalogue describes: by its owner's own command, as the user it belongs to (SAFETY.md
//! T24); where that cannot be run and the entry allows it, by deletion with all its guards.

use super::{counted, delete, space_at, typed_name};
use crate::assets;
use crate::domain::caches::{CachePlace, CacheToClean, Means};
use crate::domain::catalogue::{Entry, Frees, Remove, RunAs, Spot};
use crate::domain::command::{ToolCommand, ToolTarget, ToolUser};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, Snapshot};
use crate::domain::text::HostPath;

/// How long one command may take: a package manager looks at each file it removes.
const DEADLINE_SECS: u64 = 900;

/// Makes the plan.
pub fn plan(clean: &CacheToClean, snapshot: &Snapshot) -> Plan {
    let entry = assets::catalogue().ok().and_then(|catalogue| catalogue.get(&clean.kind.entry));
    let (Some(entry), Some(means)) = (entry, clean.means.value()) else {
        let why = if entry.is_none() {
            "the catalogue has no such entry".to_owned()
        } else {
            clean.means.unknown()
        };
        return nothing(clean, vec![Refusal { what: clean.kind.title.clone(), why }]);
    };
    if let Some(reason) = means.busy.first() {
        let why = format!("not now: {}", reason.fact);
        return nothing(clean, vec![Refusal { what: clean.kind.title.clone(), why }]);
    }
    if entry.is_report_only() {
        let why = entry.note.clone().unwrap_or_else(|| "nothing here cleans it".to_owned());
        return nothing(clean, vec![Refusal { what: clean.kind.title.clone(), why }]);
    }
    match &means.missing {
        None => by_owner(clean, means, entry, snapshot),
        Some(why) => by_deletion(clean, means, entry, why, snapshot),
    }
}

fn nothing(clean: &CacheToClean, refused: Vec<Refusal>) -> Plan {
    Plan {
        action: ActionId::CleanCache,
        summary: format!("clean nothing of {}", clean.kind.title),
        risk: crate::domain::plan::Risk::Routine,
        steps: Vec::new(),
        refused,
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify: Vec::new(),
        name: typed_name("clean", &[clean.kind.entry.as_bytes()]),
        again: None,
    }
}

/// A plan for these places without steps.
fn frame(clean: &CacheToClean, entry: &Entry, taken: &[&CachePlace], snapshot: &Snapshot) -> Plan {
    let mut verify = Vec::new();
    for check in taken.iter().map(|place| space_at(snapshot, &place.path)) {
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let count = counted(u64::try_from(taken.len()).unwrap_or(u64::MAX), "directory", "directories");
    let reclaim = reclaim(entry, taken);
    Plan {
        summary: format!("clean {} ({count}, {reclaim})", clean.kind.title),
        risk: entry.risk,
        reclaim,
        unknown: Vec::new(),
        undo: Undo::Regenerates { how: entry.cost.clone() },
        verify,
        ..nothing(clean, Vec::new())
    }
}

/// What cleaning these places gives back.
fn reclaim(entry: &Entry, taken: &[&CachePlace]) -> Reclaim {
    if taken.is_empty() {
        return Reclaim::Nothing;
    }
    if taken.iter().any(|place| place.size.is_none()) {
        return Reclaim::Unknown;
    }
    let size: Bytes = taken.iter().filter_map(|place| place.size).map(|size| size.allocated).sum();
    match entry.frees {
        Frees::All => Reclaim::exact(size),
        Frees::Some => Reclaim::Range { low: Bytes::ZERO, high: size },
    }
}

/// Whom the owner's command runs as for a place, or why it is not run.
fn user_of<'m>(place: &CachePlace, means: &'m Means) -> Result<&'m ToolUser, String> {
    let user = means
        .users
        .iter()
        .find(|user| user.uid == place.uid)
        .ok_or_else(|| format!("it belongs to uid {}, which has no line in /etc/passwd", place.uid))?;
    match &place.home {
        // With that user's HOME its own cache would be cleaned, and with the other one what lies in that home would say
        // what is run.
        Some(home) if *home != user.home => Err(format!(
            "it lies in {home}, but belongs to {}, whose home is {}: who made it should clean it",
            user.name.as_ref().map_or_else(|| format!("uid {}", user.uid), ToString::to_string),
            user.home
        )),
        Some(_) | None => Ok(user),
    }
}

fn by_owner(clean: &CacheToClean, means: &Means, entry: &Entry, snapshot: &Snapshot) -> Plan {
    let mut refused = Vec::new();
    let mut taken: Vec<&CachePlace> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for place in &clean.kind.places {
        let user = match entry.run_as {
            RunAs::Root => None,
            RunAs::Owner => match user_of(place, means) {
                Ok(user) => Some(user),
                Err(why) => {
                    refused.push(Refusal { what: place.path.to_string(), why });
                    continue;
                }
            },
        };
        let commands = commands(entry, place, user, snapshot.host.uid);
        if commands.is_empty() {
            let why = format!("{} has no command for a place like this", entry.owner);
            refused.push(Refusal { what: place.path.to_string(), why });
            continue;
        }
        taken.push(place);
        let group = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let mut is_first = true;
        for command in commands {
            // A command that names no place cleans all of its user at once.
            let is_it =
                |step: &&mut Step| matches!(&step.op, Op::Run { command: other, .. } if *other == command);
            let more = if is_first { reclaim(entry, &[place]) } else { Reclaim::Nothing };
            is_first = false;
            if let Some(known) = steps.iter_mut().find(is_it) {
                known.frees = known.frees.plus(more);
            } else {
                steps.push(Step { frees: more, ..step(entry, place, command, group) });
            }
        }
    }
    Plan { steps, refused, ..frame(clean, entry, &taken, snapshot) }
}

fn commands(entry: &Entry, place: &CachePlace, user: Option<&ToolUser>, uid: u32) -> Vec<ToolCommand> {
    let spot = Spot { path: place.path.as_path(), home: place.home.as_ref().map(HostPath::as_path) };
    let one = |argv: Vec<std::ffi::OsString>| {
        let arguments = argv.into_iter().skip(1).map(std::os::unix::ffi::OsStringExt::into_vec);
        arguments.collect::<Vec<Vec<u8>>>()
    };
    entry
        .clean
        .iter()
        .filter_map(|command| {
            let base = ToolCommand::new(command.program(), DEADLINE_SECS).args(one(command.argv(&spot)?));
            Some(match user {
                None => base.root_only(),
                Some(user) if user.uid == uid => base.env("HOME", user.home.as_bytes()),
                Some(user) => base.as_user(user.clone()),
            })
        })
        .collect()
}

fn step(entry: &Entry, place: &CachePlace, command: ToolCommand, group: u32) -> Step {
    let size = place.size.map_or_else(|| "size not known".to_owned(), |size| size.allocated.to_string());
    let target =
        ToolTarget::Cache { entry: entry.id.clone(), path: place.path.clone(), home: place.home.clone() };
    Step {
        op: Op::Run { command, target },
        why: format!("{} ({size}): {}", place.path, entry.cost),
        group,
        when: When::Always,
        guards: vec![Guard::NotBusy],
        on_error: OnError::Continue,
        frees: reclaim(entry, &[place]),
        on: Some(place.key.dev),
    }
}

/// The owner's command cannot be run: what the entry lets go is deleted.
fn by_deletion(clean: &CacheToClean, means: &Means, entry: &Entry, why: &str, snapshot: &Snapshot) -> Plan {
    let mut refused = Vec::new();
    if entry.remove == Remove::Never {
        let why = format!("{why}, and nothing in it may be deleted by hand");
        refused.push(Refusal { what: clean.kind.title.clone(), why });
        return nothing(clean, refused);
    }
    let mut chosen: Vec<ChosenFile> = Vec::new();
    let mut taken: Vec<&CachePlace> = Vec::new();
    for place in &clean.kind.places {
        match means.frozen.iter().find(|frozen| frozen.place == place.path).map(|frozen| &frozen.files) {
            None => {}
            Some(Err(why)) => refused.push(Refusal { what: place.path.to_string(), why: why.clone() }),
            Some(Ok(files)) => {
                chosen.extend(files.iter().cloned());
                taken.push(place);
            }
        }
    }
    let mut deletion = delete::plan(&chosen, snapshot);
    refused.append(&mut deletion.refused);
    for step in &mut deletion.steps {
        step.guards.push(Guard::NotBusy);
        step.why = format!("{}; {why}: {}", step.why, entry.cost);
    }
    let all = refused.is_empty();
    let frame = frame(clean, entry, &taken, snapshot);
    // Where a part stays, what was counted for the whole place is too much.
    let reclaim = if all { frame.reclaim } else { deletion.reclaim };
    let risk = if deletion.steps.is_empty() { crate::domain::plan::Risk::Routine } else { entry.risk };
    Plan { steps: deletion.steps, refused, reclaim, risk, ..frame }
}
