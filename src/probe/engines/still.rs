//! Looks again at what is about to be removed: by its id, just before.

use serde::Deserialize;

use super::{client, deadline, volumes};
use crate::domain::engines::{EngineKind, Reach, Volume};
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::tool::{self, Invocation, Outcome};

/// The engine that was shown, and no other.
type Which<'r> = (EngineKind, &'r Reach);

fn client(context: &Context<'_>, (engine, reach): Which<'_>) -> Result<Invocation, String> {
    match engine {
        EngineKind::Docker | EngineKind::Podman => Ok(client::of(context, engine, reach)),
        EngineKind::Containerd => Err("containerd's client prints no list for programs".to_owned()),
    }
}

fn said(context: &Context<'_>, (engine, _): Which<'_>, question: &Invocation) -> Result<Vec<u8>, String> {
    match tool::ask(question, deadline(context)) {
        Outcome::Said(said) if said.worked() => Ok(said.output),
        Outcome::Said(said) => Err(said.complaint()),
        other => {
            let silent = other.reading::<()>(engine.name(), |_| Ok(()));
            Err(silent.unknown())
        }
    }
}

/// Whether an image is there and has these names. That no container is made from it the engine itself sees to: it
/// removes none that is in use.
///
/// # Errors
/// What changed, as a sentence.
pub fn image_still_unused(
    context: &Context<'_>,
    engine: Which<'_>,
    id: &HostText,
    names: &[HostText],
) -> Result<(), String> {
    let question = client(context, engine)?
        .args(["image", "inspect", "--format", "{{json .RepoTags}}"])
        .arg(std::ffi::OsStr::new(&id.to_string()));
    let output =
        said(context, engine, &question).map_err(|why| format!("it is not listed any more: {why}"))?;
    let now: Option<Vec<String>> = serde_json::from_slice(&output)
        .map_err(|error| format!("what {} says of it was not understood: {error}", engine.0))?;
    let mut now: Vec<HostText> =
        now.unwrap_or_default().iter().map(|name| HostText::from(name.as_str())).collect();
    let mut planned = names.to_vec();
    now.sort();
    planned.sort();
    if now == planned {
        return Ok(());
    }
    let shown: Vec<String> = now.iter().map(ToString::to_string).collect();
    Err(match shown.as_slice() {
        [] => "changed, skipped: it has lost its names".to_owned(),
        names => format!("changed, skipped: it is called {} now", names.join(", ")),
    })
}

/// Whether a container is there and does not run.
///
/// # Errors
/// What changed, as a sentence.
pub fn container_still_unused(context: &Context<'_>, engine: Which<'_>, id: &HostText) -> Result<(), String> {
    let mut question =
        client(context, engine)?.args(["ps", "--all", "--no-trunc", "--filter"]).arg(format!("id={id}"));
    question = match engine.0 {
        EngineKind::Docker => question.args(["--format", "{{json .}}"]),
        EngineKind::Podman | EngineKind::Containerd => question.args(["--external", "--format", "json"]),
    };
    let output = said(context, engine, &question)?;
    let state = state_of(&output, id)?;
    match state.as_deref() {
        None => Err("it is not there any more".to_owned()),
        // `storage`: of another tool on the same store.
        Some("exited" | "created" | "dead" | "configured" | "stopped" | "storage") => Ok(()),
        Some(state) => Err(format!("in use, skipped: it is {state} now")),
    }
}

/// Whether a volume is there, is the one that was shown, and no container uses it, running or not.
///
/// # Errors
/// What changed, as a sentence.
pub fn volume_still_unused(context: &Context<'_>, engine: Which<'_>, planned: &Volume) -> Result<(), String> {
    let name = planned.name.to_string();
    let question = client(context, engine)?.args(["volume", "inspect", "--format", "{{json .}}"]).arg(&name);
    let output =
        said(context, engine, &question).map_err(|why| format!("it is not listed any more: {why}"))?;
    let now = volumes::inspected(&output)?;
    let now = now.iter().find(|volume| volume.name == planned.name).ok_or("it is not listed any more")?;
    if (now.created, &now.driver) != (planned.created, &planned.driver) {
        return Err("changed, skipped: another volume has that name now".to_owned());
    }
    // Without those of other tools: they have no volumes with a name, and podman from 5.8 on refuses to be asked for both.
    let question = client(context, engine)?
        .args(["ps", "--all", "--no-trunc", "--filter"])
        .arg(format!("volume={name}"))
        .args(["--format", "{{.Names}}"]);
    let output = said(context, engine, &question)?;
    match output.trim_ascii() {
        b"" => Ok(()),
        names => {
            let shown = HostText::new(names).to_string();
            Err(format!("in use, skipped: container {shown} has it (one that has ended may start again)"))
        }
    }
}

/// The state of a container in a list: of one JSON document a line as docker prints it, or one as podman does.
fn state_of(output: &[u8], id: &HostText) -> Result<Option<String>, String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(alias = "Id", alias = "ID")]
        id: String,
        #[serde(alias = "State")]
        state: String,
    }
    let not_understood =
        |error: serde_json::Error| format!("what the engine says of it was not understood: {error}");
    if output.trim_ascii_start().starts_with(b"[") {
        let all: Vec<Line> = serde_json::from_slice(output).map_err(not_understood)?;
        let found = all.into_iter().find(|line| line.id.as_bytes() == id.as_bytes());
        return Ok(found.map(|line| line.state.to_lowercase()));
    }
    for line in output.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(not_understood)?;
        if line.id.as_bytes() == id.as_bytes() {
            return Ok(Some(line.state.to_lowercase()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_container_is_found_by_its_whole_id() {
        let output =
            b"{\"ID\":\"ab\",\"State\":\"running\"}\n\n{\"Id\":\"abc\",\"State\":\"Exited\",\"More\":1}\n";
        assert_eq!(state_of(output, &"abc".into()), Ok(Some("exited".to_owned())));
        assert_eq!(state_of(output, &"a".into()), Ok(None));
        let list = b"[\n{\"Id\":\"ab\",\"State\":\"storage\"}]";
        assert_eq!(state_of(list, &"ab".into()), Ok(Some("storage".to_owned())));
        assert!(state_of(b"what?", &"a".into()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>) {
            let _ = state_of(&bytes, &"a".into());
        }
    }
}
