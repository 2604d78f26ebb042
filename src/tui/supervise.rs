//! The parent of the program: it outlives it when it is killed, gives the terminal back in its stead (SAFETY.md T22),
//! and ends when a file system keeps it from ending (T37).
//!
//! A thread that waits for a server which stopped answering is ended by no signal, and a process ends only with its
//! last thread. So what looks at file systems is a child, and its parent, which looks at none, is who the shell waits for.
//! It has one thread, hands on the signals that are sent to it, and ends as the child ends; where the child says that it
//! is at its end, or was told to end, and is still there a moment later, it is left behind and nobody waits for it.
//! Both are in one process group, so that what the terminal or a shell does to the job is done to both: stopping,
//! continuing, a new size. When the parent is killed, the kernel asks the child to end (`sys::fork`).

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use rustix::termios::Termios;

use super::terminal;
use crate::sys::fork::{self, Side};

/// The exit code of who could not look ([`crate::cli`]).
const COULD_NOT_TELL: u8 = 3;
/// Signals that are handed on. SIGWINCH and what else the terminal sends goes to the whole group.
const HANDED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGCONT];
/// How long a child that was told to end may take to end, or to say that a run has to come to an end first.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long one that is at its end may take to be gone.
const LAST_PATIENCE: Duration = Duration::from_millis(300);
/// How often the parent looks whether a child that was killed is held by a file system.
const LOOK: Duration = Duration::from_secs(1);
/// An exit code above this says which signal ended the program (as a shell does).
const BY_SIGNAL: u8 = 128;

/// Where the child tells its parent how it ends.
static PARENT: OnceLock<OwnedFd> = OnceLock::new();
/// Where the parent tells a command which signals it got. The kernel may hand a signal of the process to a thread that
/// a file system holds, where no handler ever runs.
static ORDERS: OnceLock<std::io::PipeReader> = OnceLock::new();
/// Whether the parent was told to go.
static LEFT: AtomicBool = AtomicBool::new(false);

/// What the child tells its parent: one byte for the kind, one for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// A run was cancelled and has to come to an end first.
    Wait,
    /// It has done all that it has to do, and only has to be gone.
    AtItsEnd(u8),
    /// A change is held in the middle. It goes on without its parent.
    LeaveMe(u8),
}

impl Message {
    fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::Wait => [b'w', 0],
            Self::AtItsEnd(code) => [b'e', code],
            Self::LeaveMe(code) => [b'l', code],
        }
    }

    fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        match bytes {
            [b'w', _] => Some(Self::Wait),
            [b'e', code] => Some(Self::AtItsEnd(code)),
            [b'l', code] => Some(Self::LeaveMe(code)),
            _ => None,
        }
    }
}

/// Splits the program: it goes on in a child, where this returns none. In the parent it returns when the child has
/// ended or was left behind, with its exit code. Where that cannot be done, the program goes without.
pub fn supervise(console: bool) -> Option<ExitCode> {
    let before = if console {
        if !terminal::present() {
            return None;
        }
        Some(rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?)
    } else {
        None
    };
    let ignored = ignored();
    let mut waited_for: SigSet =
        HANDED_ON.into_iter().filter(|signal| console || ignored & bit(*signal) == 0).collect();
    waited_for.add(Signal::SIGCHLD);
    let (told, tell) = std::io::pipe().ok()?;
    let (orders, order) = std::io::pipe().ok()?;
    // Blocked before the fork, so that none is missed; blocked signals are kept even where the default is to ignore them.
    let mask = waited_for.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let side = SignalFd::with_flags(&waited_for, flags).ok().map(|signals| (signals, fork::fork()));
    match side {
        Some((signals, Ok(Side::Parent(child)))) => {
            drop((tell, orders));
            let child = Pid::from_raw(child.as_raw_nonzero().get());
            let told = Some(told);
            Some(Parent { child, signals, told, order, before, asked: None, waits: false }.watch())
        }
        Some((_, Ok(Side::Child))) => {
            let _ = PARENT.set(OwnedFd::from(tell));
            let _ = ORDERS.set(orders);
            let _ = mask.thread_set_mask();
            None
        }
        Some((_, Err(_))) | None => {
            let _ = mask.thread_set_mask();
            None
        }
    }
}

/// Signals that whoever started us wants ignored (nohup(1), a job in the background of a script): bit n - 1 for signal n
/// (`SigIgn` of proc(5)).
pub fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok())
        .unwrap_or_default()
}

/// The bit of a signal in [`ignored`].
pub fn bit(signal: Signal) -> u64 {
    1_u64.checked_shl((signal as u32).saturating_sub(1)).unwrap_or_default()
}

/// In a command: waits for a signal that its parent got, SIGTERM if the parent is gone. None where there is no parent.
pub fn next_order() -> Option<Signal> {
    let mut order = [0];
    let mut orders = ORDERS.get()?;
    let read = orders.read(&mut order);
    let signal =
        read.ok().filter(|count| *count == 1).and_then(|_| Signal::try_from(i32::from(order[0])).ok());
    Some(signal.unwrap_or(Signal::SIGTERM))
}

/// In the child: a run was cancelled and comes to an end by itself; the parent waits for it.
pub fn wait_for_the_run() {
    tell(Message::Wait);
}

/// In the child, as the last thing it does: from now on the parent waits no longer than a moment. Output is at its end,
/// so that whoever reads it sees that, too, while the kernel still holds a thread of ours.
pub fn at_the_end(code: ExitCode) -> ExitCode {
    if let Some(number) = (0..=u8::MAX).find(|number| ExitCode::from(*number) == code) {
        ended(number);
    }
    code
}

/// The same with the number of an exit code.
pub fn ended(code: u8) {
    let_go();
    tell(Message::AtItsEnd(code));
}

/// In the child: a run is held in the middle of a change. The parent says so and ends with this code; the run goes on
/// without it if the file system ever answers. False where there is no parent that could end alone.
pub fn leave_the_run_behind(code: u8) -> bool {
    if PARENT.get().is_none() {
        return false;
    }
    LEFT.store(true, Ordering::SeqCst);
    let_go();
    tell(Message::LeaveMe(code));
    true
}

/// Whether the parent was told to go, so that the terminal is somebody else's.
pub fn left() -> bool {
    LEFT.load(Ordering::SeqCst)
}

/// Nothing of ours is at the terminal or in a pipe any more. A descriptor belongs to all threads, held ones too.
fn let_go() {
    if PARENT.get().is_none() {
        return;
    }
    if let Ok(nothing) = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&nothing);
        let _ = rustix::stdio::dup2_stdout(&nothing);
        let _ = rustix::stdio::dup2_stderr(&nothing);
    }
}

fn tell(message: Message) {
    if let Some(parent) = PARENT.get() {
        // Where the parent is gone, nobody waits.
        let _ = rustix::io::write(parent, &message.to_bytes());
    }
}

/// A child that has to be gone soon.
#[derive(Clone, Copy, Debug)]
struct Asked {
    until: Instant,
    /// What the program ends with if the child is still there.
    code: u8,
    /// Whether the child gave back all that it had taken.
    in_order: bool,
}

impl Asked {
    fn new(patience: Duration, code: u8, in_order: bool) -> Self {
        Self { until: Instant::now() + patience, code, in_order }
    }
}

struct Parent {
    child: Pid,
    signals: SignalFd,
    /// What the child says; none when it has no more to say.
    told: Option<std::io::PipeReader>,
    order: std::io::PipeWriter,
    /// The modes of the terminal, where the child is the console.
    before: Option<Termios>,
    /// When it is left behind.
    asked: Option<Asked>,
    /// Whether a run has to come to an end, however long that takes.
    waits: bool,
}

impl Parent {
    fn watch(mut self) -> ExitCode {
        loop {
            self.sleep();
            if let Some(message) = self.message() {
                match message {
                    Message::Wait => (self.waits, self.asked) = (true, None),
                    Message::AtItsEnd(code) => self.asked = Some(Asked::new(LAST_PATIENCE, code, true)),
                    Message::LeaveMe(code) => return self.left_behind(code),
                }
            }
            while let Ok(Some(info)) = self.signals.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                if let Ok(signal) = Signal::try_from(number) {
                    self.signalled(signal);
                }
            }
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => {
                    return self.end(u8::try_from(code).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => return self.killed(signal),
                // It is gone, and nobody knows how.
                Err(nix::Error::ECHILD) => return self.killed(Signal::SIGKILL),
                Ok(_) | Err(_) => {}
            }
            match self.asked {
                Some(asked) if Instant::now() >= asked.until => {
                    if let Some(before) = &self.before
                        && !asked.in_order
                    {
                        terminal::restore(before);
                    }
                    return self.end(asked.code);
                }
                // It was killed, and maybe a file system holds what is left of it: no signal comes then.
                None if is_dead(self.child) => {
                    self.asked = Some(Asked::new(LAST_PATIENCE, by(Signal::SIGKILL), false));
                }
                Some(_) | None => {}
            }
        }
    }

    /// Until a signal or a message comes, or it is time to look.
    fn sleep(&self) {
        let until = self.asked.map_or(LOOK, |asked| asked.until.saturating_duration_since(Instant::now()));
        let until = Timespec::try_from(until.min(LOOK)).ok();
        let signals = self.signals.as_fd();
        let mut polled = vec![PollFd::new(&signals, PollFlags::IN)];
        if let Some(told) = &self.told {
            polled.push(PollFd::new(told, PollFlags::IN));
        }
        let _ = rustix::event::poll(&mut polled, until.as_ref());
    }

    /// What the child says now, if anything.
    fn message(&mut self) -> Option<Message> {
        let told = self.told.as_mut()?;
        let mut polled = [PollFd::new(&*told, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&Timespec::default())) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        let mut bytes = [0; 2];
        if told.read_exact(&mut bytes).is_ok() {
            return Message::from_bytes(bytes);
        }
        self.told = None;
        None
    }

    fn signalled(&mut self, signal: Signal) {
        match signal {
            Signal::SIGCHLD => return,
            Signal::SIGTERM | Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT
                if !self.waits && self.asked.is_none() =>
            {
                self.asked = Some(Asked::new(PATIENCE, by(signal), false));
            }
            _ => {}
        }
        // The first thread of the console is never held, and takes the signal itself.
        if self.before.is_none() && matches!(signal, Signal::SIGTERM | Signal::SIGHUP | Signal::SIGINT) {
            let _ = self.order.write(&[u8::try_from(signal as i32).unwrap_or_default()]);
        }
        hand_on(self.child, signal);
        // The console stops its whole group itself, once it gave the terminal back. A command stops here as it would alone.
        if signal == Signal::SIGTSTP && self.before.is_none() {
            let stop: SigSet = [signal].into_iter().collect();
            let _ = nix::sys::signal::raise(signal);
            let _ = stop.thread_unblock();
            let _ = stop.thread_block();
        }
    }

    /// The program could not end by itself.
    fn killed(&self, signal: Signal) -> ExitCode {
        // What the standard library does if memory cannot be had; without a limit the kernel gives what is asked for.
        if signal == Signal::SIGABRT
            && let Some(limit) = getrlimit(Resource::As).current
        {
            self.before.as_ref().inspect(|before| terminal::restore(before));
            terminal::complain(&format!(
                "unwedge: it needs more memory than the limit on its address space allows ({} KiB, ulimit -v). Lift the limit \
                 (ulimit -v unlimited), or start it where there is none.\n",
                limit / 1024
            ));
            return ExitCode::from(COULD_NOT_TELL);
        }
        if let Some(before) = &self.before {
            terminal::restore(before);
            terminal::complain(&format!(
                "unwedge was killed ({signal}). The terminal was restored; a run under way ended where it was, and \
                 `unwedge history` shows how far it got.\n"
            ));
        }
        self.end(by(signal))
    }

    /// A run goes on, or hangs, without us.
    fn left_behind(&self, code: u8) -> ExitCode {
        terminal::complain(&format!(
            "unwedge: the run did not come to an end, because a file system or a program does not answer, and was left in \
             the middle of a change (process {}). It ends by itself if that answers again; if it does not, `unwedge \
             history` shows how far it got, and `unwedge undo` looks after what was left.\n",
            self.child
        ));
        self.end(code)
    }

    /// Ends with a code; a command that a signal ended ends by that signal, so that a loop of a shell ends with it.
    fn end(&self, code: u8) -> ExitCode {
        if self.before.is_none()
            && code > BY_SIGNAL
            && let Ok(signal) = Signal::try_from(i32::from(code - BY_SIGNAL))
        {
            let _ = nix::sys::signal::raise(signal);
            let _ = [signal].into_iter().collect::<SigSet>().thread_unblock();
        }
        ExitCode::from(code)
    }
}

/// The exit code of who was ended by a signal.
fn by(signal: Signal) -> u8 {
    BY_SIGNAL.saturating_add(u8::try_from(signal as i32).unwrap_or_default())
}

/// Whether its first thread has ended while others are left (state Z of proc(5), and nothing to wait for).
fn is_dead(child: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{child}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[expect(
    clippy::disallowed_methods,
    reason = "our own child, not waited for yet: its number is nobody else's"
)]
fn hand_on(child: Pid, signal: Signal) {
    let _ = nix::sys::signal::kill(child, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_says_is_what_the_parent_hears() {
        for message in [Message::Wait, Message::AtItsEnd(3), Message::LeaveMe(143)] {
            assert_eq!(Message::from_bytes(message.to_bytes()), Some(message));
        }
        assert_eq!(Message::from_bytes([0, 0]), None);
    }

    #[test]
    fn every_exit_code_has_its_number() {
        let number = |code| (0..=u8::MAX).find(|number| ExitCode::from(*number) == code);
        for code in [0, 1, 3, 64, 143, u8::MAX] {
            assert_eq!(number(ExitCode::from(code)), Some(code));
        }
    }
}
