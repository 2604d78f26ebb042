//! Whether logrotate runs, and what it complains about.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::domain::logs::Logrotate;
use crate::domain::redact;
use crate::domain::text::{HostPath, HostText};
use crate::probe::Context;
use crate::sys::tool::{self, Invocation, Outcome};

const CONFIG: &str = "/etc/logrotate.conf";
/// Its state file: Debian's, openSUSE's and Arch's place, and Red Hat's.
const STATES: [&str; 2] = ["/var/lib/logrotate/status", "/var/lib/logrotate/logrotate.status"];
/// What starts it every day.
const STARTERS: [&str; 3] = [
    "/etc/systemd/system/timers.target.wants/logrotate.timer",
    "/usr/lib/systemd/system/timers.target.wants/logrotate.timer",
    "/etc/cron.daily/logrotate",
];
/// Complaints that are told.
const COMPLAINTS: usize = 5;

/// What its files tell; none where there is no configuration.
pub(super) fn look(context: &Context<'_>) -> Option<(PathBuf, Logrotate)> {
    let config = context.environment.rooted(CONFIG);
    if !config.is_file() {
        return None;
    }
    let written = |place: &&str| {
        let path = context.environment.rooted(place);
        let meta = path.metadata().ok()?;
        Some((HostPath::from(path.as_path()), Timestamp::from_second(meta.mtime()).ok()))
    };
    let (state, last_run) = STATES.iter().filter_map(written).max_by_key(|(_, time)| *time).unzip();
    // Debian's job in cron.daily leaves it to the timer where systemd runs.
    let by_systemd = context.environment.rooted("/run/systemd/system").is_dir();
    let started_by = STARTERS
        .iter()
        .filter(|starter| by_systemd || !starter.contains("systemd"))
        .map(|starter| context.environment.rooted(starter))
        // An enabled unit is a link, whose target may only be right in the machine's own tree.
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| HostPath::from(path.as_path()))
        .collect();
    let found = Logrotate {
        config: HostPath::from(config.as_path()),
        state,
        last_run: last_run.flatten(),
        started_by,
        complaints: Vec::new(),
    };
    Some((config, found))
}

/// What logrotate itself says of its configuration: with `--debug` it changes nothing, neither logs nor its state
/// (logrotate(8)).
pub(super) fn complaints(context: &Context<'_>, config: &Path, state: Option<&HostPath>) -> Vec<HostText> {
    let mut invocation = Invocation::new("logrotate").arg("--debug");
    if let Some(state) = state {
        invocation = invocation.arg("--state").arg(state.as_path());
    }
    match tool::ask(&invocation.arg(config), context.deadline()) {
        Outcome::Said(said) => parse(&said.errors),
        // Its own files tell enough.
        Outcome::NotInstalled { .. }
        | Outcome::TimedOut { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Failed { .. } => Vec::new(),
    }
}

/// The lines that begin with `error:` or `warning:`, each once. An option that it does not know was an error until
/// logrotate 3.21, and is a warning since. That it only shows what it would do is no complaint.
fn parse(errors: &[u8]) -> Vec<HostText> {
    let mut found: Vec<HostText> = Vec::new();
    for line in errors.split(|&byte| byte == b'\n') {
        let Some(error) = line.strip_prefix(b"error: ").or_else(|| line.strip_prefix(b"warning: ")) else {
            continue;
        };
        if error.starts_with(b"logrotate in debug mode ") {
            continue;
        }
        let error = redact::text(error);
        if !found.contains(&error) && found.len() < COMPLAINTS {
            found.push(error);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_told_once() {
        let said = b"warning: logrotate in debug mode does nothing\n\nerror: c:4 unknown option 'x' -- ignoring line\n\
                     warning: c:4 unknown option 'x' -- ignoring line\nHandling 2 logs\nerror: found error in file x, skipping\n";
        assert_eq!(
            parse(said),
            ["c:4 unknown option 'x' -- ignoring line".into(), "found error in file x, skipping".into()]
        );
    }

    proptest! {
        #[test]
        fn any_output_is_taken(output in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&output).len() <= COMPLAINTS);
        }
    }
}
