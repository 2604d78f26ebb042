//! Volumes, as `docker volume inspect` and `podman volume ls` tell them (docs.docker.com/reference/cli/docker/volume/inspect,
//! podman-volume-ls(1)): name, driver, and when they were made.

use std::ffi::OsStr;

use jiff::Timestamp;
use serde::Deserialize;

use super::{client, deadline};
use crate::domain::engines::{EngineKind, Reach, Volume};
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::tool;

/// More are not asked for at once: a command line is not without end.
const MOST: usize = 200;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    name: String,
    driver: Option<String>,
    created_at: Option<String>,
}

/// Documents one after another, or a list of them.
pub(super) fn inspected(output: &[u8]) -> Result<Vec<Volume>, String> {
    let not_understood =
        |error: serde_json::Error| format!("what it says of volumes was not understood: {error}");
    if output.trim_ascii_start().starts_with(b"[") {
        let lines: Vec<Line> = serde_json::from_slice(output).map_err(not_understood)?;
        return Ok(lines.into_iter().map(volume).collect());
    }
    let lines = output.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map(volume).map_err(not_understood)).collect()
}

fn volume(line: Line) -> Volume {
    let text = |text: String| HostText::from(text.as_str());
    Volume {
        name: text(line.name),
        size: None,
        used_by: None,
        driver: line.driver.filter(|driver| !driver.is_empty()).map(text),
        created: line.created_at.and_then(|time| time.parse::<Timestamp>().ok()),
    }
}

/// Adds driver and age to docker's volumes that nothing uses: its list of what is on disk has neither.
pub(super) fn describe(context: &Context<'_>, reach: &Reach, volumes: &mut [Volume]) {
    let names: Vec<String> = volumes
        .iter()
        .filter(|volume| volume.is_unused())
        .take(MOST)
        .map(|volume| volume.name.to_string())
        .collect();
    if names.is_empty() {
        return;
    }
    let question = client::of(context, EngineKind::Docker, reach)
        .args(["volume", "inspect", "--format", "{{json .}}", "--"])
        .args(names.iter().map(OsStr::new));
    // One that went meanwhile makes the client complain, and tell the others all the same.
    let tool::Outcome::Said(said) = tool::ask(&question, deadline(context)) else { return };
    for told in inspected(&said.output).unwrap_or_default() {
        if let Some(known) = volumes.iter_mut().find(|volume| volume.name == told.name) {
            known.driver = told.driver;
            known.created = told.created;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_are_understood() {
        let docker = br#"{"CreatedAt":"2026-11-26T13:28:10Z","Driver":"local","Labels":null,"Mountpoint":"/x","Name":"v1","Options":null,"Scope":"local"}
{"CreatedAt":"2026-11-26T14:28:10+01:00","Driver":"nfs","Name":"v2"}
"#;
        let volumes = inspected(docker).unwrap();
        assert_eq!(volumes.len(), 2);
        assert_eq!(volumes[0].created, volumes[1].created);
        assert_eq!(volumes[1].driver, Some("nfs".into()));
        let podman = br#"[{"Name":"p","Driver":"local","Mountpoint":"/y","CreatedAt":"2026-11-26T13:28:10.123456789Z","Labels":{},"Scope":"local","Options":{},"MountCount":0}]"#;
        let volumes = inspected(podman).unwrap();
        assert_eq!(volumes[0].name, "p".into());
        assert!(volumes[0].created.is_some());
        assert!(inspected(b"what?").is_err());
        assert_eq!(inspected(b"").unwrap(), Vec::new());
    }
}
