//! Whether an engine builds or pulls now, judged by the programs that ask for it: what is removed meanwhile may be what
//! they are about to use (SAFETY.md T26).

use std::collections::BTreeSet;

use crate::domain::identity::Pid;
use crate::domain::redact;
use crate::probe::Context;
use crate::probe::build_tools::{self, Role};

/// Clients of engines, by exact name.
const CLIENTS: &[&[u8]] =
    &[b"buildah", b"crictl", b"ctr", b"docker", b"docker-compose", b"nerdctl", b"podman", b"skopeo"];
/// What they do when they bring an image into a store or keep one busy (their manuals).
const BRINGING: &[&[u8]] = &[b"commit", b"copy", b"from", b"import", b"load", b"pull", b"push", b"save"];

/// What builds or pulls, as a short text; none where nothing does.
///
/// # Errors
/// Why nobody can say, as a sentence.
pub fn at_work(context: &Context<'_>) -> Result<Option<String>, String> {
    let proc = context.proc();
    let pids = proc.pids().map_err(|error| error.to_string())?;
    let spared: BTreeSet<Pid> = proc.ourselves().into_iter().collect();
    for pid in pids.into_iter().filter(|pid| !spared.contains(pid)) {
        let Ok(stat) = proc.stat(pid) else { continue };
        if stat.is_dead() || stat.is_kernel_thread() {
            continue;
        }
        let Ok(arguments) = proc.arguments(pid) else { continue };
        let exe = proc.exe_path(pid).ok();
        let works = match build_tools::role(exe.as_deref(), &arguments) {
            Some(Role::Client | Role::Step) => true,
            Some(Role::BuildDaemon | Role::Engine) => false,
            None => brings(exe.as_deref(), &arguments),
        };
        if works {
            return Ok(Some(format!("{} (pid {pid}) is at work", redact::command_line(&arguments))));
        }
    }
    Ok(None)
}

/// Whether nothing builds or pulls ([`crate::domain::plan::Guard::NothingBuilds`]).
///
/// # Errors
/// What builds or pulls, or that nobody can say, as a sentence.
pub fn nothing_builds(context: &Context<'_>) -> Result<(), String> {
    match at_work(context) {
        Ok(None) => Ok(()),
        Ok(Some(work)) => Err(format!("not now: {work}; wait for its end or end it first")),
        Err(why) => Err(format!("nobody can say whether a build runs: {why}")),
    }
}

/// Whether a client brings an image in. Which of its words is the command is not told apart: rather once too often.
fn brings(exe: Option<&[u8]>, arguments: &[Vec<u8>]) -> bool {
    let base = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().unwrap_or(path).to_vec();
    let names = exe.map(base).into_iter().chain(arguments.first().map(|first| base(first)));
    let mut is_client = false;
    for name in names {
        is_client |= CLIENTS.contains(&name.as_slice());
    }
    is_client && arguments.iter().skip(1).any(|word| BRINGING.contains(&word.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_told_from_other_uses() {
        for (exe, arguments, expected) in [
            ("/usr/bin/docker", &["docker", "--host", "unix:///x", "pull", "debian"][..], true),
            ("/usr/bin/docker", &["docker", "image", "pull", "debian"], true),
            ("/usr/bin/podman", &["podman", "ps"], false),
            ("/usr/bin/buildah", &["buildah", "from", "scratch"], true),
            ("/usr/bin/git", &["git", "pull"], false),
            ("/usr/bin/vim", &["vim", "docker", "pull"], false),
        ] {
            let arguments: Vec<Vec<u8>> = arguments.iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(brings(Some(exe.as_bytes()), &arguments), expected, "{arguments:?}");
        }
    }
}
