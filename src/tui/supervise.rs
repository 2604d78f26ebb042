//! The parent of the console: it outlives a console that is killed and gives the terminal back in its stead
//! (SAFETY.md T22).
//!
//! It has one thread, waits, hands on the signals that are sent to it, and ends as the console ended. Both are in
//! one process group, so that what the terminal or a shell does to the job is done to both: stopping, continuing,
//! a new size. When the parent is killed, the kernel ends the console (`sys::fork`).

use std::process::ExitCode;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::termios::Termios;

use super::terminal;
use crate::sys::fork::{self, Side};

/// Signals that are handed on. SIGWINCH and what else the terminal sends goes to the whole group.
const HANDED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGCONT];

/// Splits the program: the console goes on in a child, where this returns none. In the parent it returns when the
/// console has ended, with its exit code. Where that cannot be done, the console goes without.
pub fn supervise() -> Option<ExitCode> {
    if !terminal::present() {
        return None;
    }
    let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
    let mut waited_for: SigSet = HANDED_ON.into_iter().collect();
    waited_for.add(Signal::SIGCHLD);
    // Blocked before the fork, so that none is missed; blocked signals are kept even where the default is to ignore them.
    let mask = waited_for.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
    match fork::fork() {
        Ok(Side::Parent(child)) => {
            Some(watch(Pid::from_raw(child.as_raw_nonzero().get()), &waited_for, &before))
        }
        Ok(Side::Child) | Err(_) => {
            let _ = mask.thread_set_mask();
            None
        }
    }
}

fn watch(console: Pid, waited_for: &SigSet, before: &Termios) -> ExitCode {
    loop {
        match waited_for.wait() {
            Ok(Signal::SIGCHLD) => match waitpid(console, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => {
                    return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => return killed(signal, before),
                // It is gone, and nobody knows how.
                Err(nix::Error::ECHILD) => return killed(Signal::SIGKILL, before),
                Ok(_) | Err(_) => {}
            },
            Ok(signal) => hand_on(console, signal),
            Err(_) => {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "our own child, not waited for yet: its number is nobody else's"
)]
fn hand_on(console: Pid, signal: Signal) {
    let _ = nix::sys::signal::kill(console, signal);
}

/// The console could not give the terminal back itself.
fn killed(signal: Signal, before: &Termios) -> ExitCode {
    terminal::restore(before);
    terminal::complain(&format!(
        "unwedge was killed ({signal}). The terminal was restored; a run under way ended where it was, and `unwedge \
         history` shows how far it got.\n"
    ));
    ExitCode::from(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)))
}
