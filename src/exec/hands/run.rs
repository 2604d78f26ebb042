//! Runs a program of the machine, waits for its end, and puts what it complains about into a sentence.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{NotDone, Session};
use crate::domain::command::{ToolCommand, ToolTarget};
use crate::domain::engines::Volume;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::probe::engines;
use crate::sys::tool::{self, Invocation, User};

/// Looks at its operand again, and runs it to its end, the deadline, or the cancel of the run.
pub fn tool(session: &Session<'_>, command: &ToolCommand, target: &ToolTarget) -> Result<Outcome, NotDone> {
    look_again(session, target).map_err(NotDone::Skip)?;
    let program = &command.program;
    let invocation = invocation(session, command)?;
    let stop = session.stop();
    match tool::change(&invocation, Duration::from_secs(command.deadline_secs), &|| stop.wanted()) {
        tool::Outcome::Said(said) if said.worked() => Ok(Outcome::Done { count: 1 }),
        tool::Outcome::Said(said) => Err(NotDone::Fail(format!("{program} says: {}", said.complaint()))),
        tool::Outcome::NotInstalled { program } => Err(NotDone::Fail(format!(
            "{program} is not installed, or not in a directory that belongs to root alone"
        ))),
        tool::Outcome::TimedOut { after } => Err(NotDone::Fail(format!(
            "{program} had not ended after {} s and was killed; part of its work may be done",
            after.as_secs()
        ))),
        tool::Outcome::Cancelled { killed } => {
            let cancelled = session.context.cancel.load(Ordering::Relaxed) && !session.restoring;
            Ok(Outcome::Interrupted { why: interrupted(program, killed, cancelled), cancelled })
        }
        tool::Outcome::Failed { why } => Err(NotDone::Fail(why)),
    }
}

/// What state an interrupted program leaves.
fn interrupted(program: &str, killed: bool, cancelled: bool) -> String {
    let who = if cancelled { "cancelled" } else { "skipped by you" };
    let how =
        if killed { "did not end when it was asked to (TERM) and was killed" } else { "was ended (TERM)" };
    // A client only asks: what was asked for goes on behind it.
    let behind = match program {
        "docker" | "systemctl" => "; the daemon behind it may still finish what it was asked for",
        _ => "",
    };
    format!(
        "{who} while {program} was at work: it {how}, with all that it had started. What it had done stays done, the rest is \
         as it was{behind}"
    )
}

fn invocation(session: &Session<'_>, command: &ToolCommand) -> Result<Invocation, NotDone> {
    let mut invocation = Invocation::new(&command.program)
        .args(command.arguments.iter().map(|argument| OsStr::from_bytes(argument.as_bytes())));
    for (name, value) in &command.environment {
        invocation = invocation.env(name, OsStr::from_bytes(value.as_bytes()));
    }
    let uid = session.context.environment.uid;
    if let Some(line) = command.for_sudo(uid) {
        return Err(NotDone::Skip(format!("only root can do this; run: {line}")));
    }
    let Some(user) = &command.user else { return Ok(invocation) };
    if uid == user.uid {
        return Ok(invocation.env("HOME", user.home.as_path()));
    }
    Ok(invocation.as_user(User { uid: user.uid, gid: user.gid, home: user.home.as_path().to_owned() }))
}

fn look_again(session: &Session<'_>, target: &ToolTarget) -> Result<(), String> {
    let context = session.context.probe();
    match target {
        ToolTarget::Chosen => Ok(()),
        ToolTarget::Image { engine, reach, id, names } => {
            engines::image_still_unused(&context, (*engine, reach), id, names)
        }
        ToolTarget::Container { engine, reach, id } => {
            engines::container_still_unused(&context, (*engine, reach), id)
        }
        ToolTarget::Volume { engine, reach, name, driver, created } => {
            let planned = Volume {
                name: name.clone(),
                size: None,
                used_by: Some(0),
                driver: driver.clone(),
                created: *created,
            };
            engines::volume_still_unused(&context, (*engine, reach), &planned)
        }
        ToolTarget::Cache { entry, path, home } => {
            guards::not_busy(&context, entry, path.as_path(), home.as_ref().map(HostPath::as_path))
        }
    }
}
