//! Runs a program of the machine (`docker`, `journalctl`) and waits no longer than a deadline.
//!
//! No shell, no search through the caller's `PATH`, nothing of the caller's environment, no terminal: a program is
//! taken from a fixed list of directories, and only where nobody but root could have put it there (SAFETY.md T24, T39:
//! `sys::trusted`).
//! What it prints is bounded. One that does not end in time is killed and reaped later, so that a dead daemon behind it
//! holds nobody up.
//!
//! Two doors lead here: [`ask`] for programs that only tell something, and [`change`], which is open to `exec/hands/`
//! alone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};

use super::offspring::{Child, bury_the_dead};
use super::trusted::{Program, Trust};
use crate::domain::reading::Reading;
use crate::domain::redact;
use crate::domain::text::HostPath;

/// Where programs are looked for, in this order: root's `PATH` as Debian sets it (`ENV_SUPATH`, login.defs(5)).
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// More than this of standard output is not read: lists of some 100,000 images fit.
const MOST_OUTPUT: usize = 64 << 20;
/// More than this of standard error is read but not kept.
const MOST_ERRORS: usize = 64 << 10;
/// How much is read at once: a pipe holds as much (pipe(7)).
const PIECE: usize = 64 << 10;
/// How many such pieces are read before the clock is looked at.
const PIECES: usize = 16;
/// How often the end of the program is looked for where the kernel has no pidfds.
const NAP: Duration = Duration::from_millis(20);
/// Longest time between two questions whether it shall stop.
const TICK: Duration = Duration::from_millis(100);
/// How long a program that was asked to end may take for that.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Which program to run, and how.
#[derive(Clone, Debug)]
pub struct Invocation {
    program: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    user: Option<User>,
}

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory: its `HOME`.
    pub home: PathBuf,
}

/// What a program said until it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its exit status; none where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error; the end is left out of very much.
    pub errors: Vec<u8>,
}

/// What came of running a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its end.
    Said(Said),
    /// There is no such program.
    NotInstalled {
        /// Its name.
        program: String,
    },
    /// It did not end within the deadline and was killed.
    TimedOut {
        /// The deadline.
        after: Duration,
    },
    /// Somebody did not want to wait for it any longer, and it was killed.
    Cancelled {
        /// Whether it had to be killed, because it did not end when it was asked to.
        killed: bool,
    },
    /// It could not be run, or printed more than anybody can read.
    Failed {
        /// Why, as a sentence.
        why: String,
    },
}

impl Invocation {
    /// A program, by its name without a directory.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            user: None,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// With a variable in its otherwise bare environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// In a working directory. It must be known to answer: entering it has no deadline.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// As another user, with that user's own groups only. Takes root.
    #[must_use]
    pub fn as_user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// The command line, for evidence.
    pub fn shown(&self) -> String {
        let words = std::iter::once(HostPath::from(Path::new(&self.program)))
            .chain(self.arguments.iter().map(|argument| HostPath::from(Path::new(argument))));
        words.map(|word| word.quoted()).collect::<Vec<_>>().join(" ")
    }
}

/// Where a program is, if it is installed in one of the places that only root, or we, can write to.
///
/// # Errors
/// A sentence where it is there but somebody else could have put it there.
pub fn find(program: &str) -> Result<Option<PathBuf>, String> {
    let trust = trust()?;
    trust.find(&directories(), program).map(|found| found.map(|found| found.path))
}

fn trust() -> Result<Trust, String> {
    Trust::of_this_machine().map_err(|errno| format!("the root directory could not be opened: {errno}"))
}

fn directories() -> Vec<&'static Path> {
    DIRECTORIES.iter().map(Path::new).collect()
}

/// The `PATH` of a program: what it starts must not come from a directory that others can write to, either.
fn path_for(trust: &Trust) -> OsString {
    let allowed = directories().into_iter().filter(|directory| trust.allows(directory));
    allowed.map(Path::as_os_str).collect::<Vec<_>>().join(OsStr::new(":"))
}

/// Runs a program that only tells something.
pub fn ask(invocation: &Invocation, deadline: Duration) -> Outcome {
    run(invocation, deadline, None)
}

/// Runs a program that changes the machine: for `exec/hands/` alone, as clippy sees to. `stop` tells, several times a
/// second, whether nobody wants it any more. One that is cancelled or not
/// done in time is asked to end first, with all its children, so that it can put things in order.
pub fn change(invocation: &Invocation, deadline: Duration, stop: &dyn Fn() -> bool) -> Outcome {
    run(invocation, deadline, Some(stop))
}

fn run(invocation: &Invocation, deadline: Duration, stop: Option<&dyn Fn() -> bool>) -> Outcome {
    let found = trust().and_then(|trust| {
        let found = trust.find(&directories(), &invocation.program)?;
        Ok(found.map(|program| (program, path_for(&trust))))
    });
    let (program, path) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::NotInstalled { program: invocation.program.clone() },
        Err(why) => return Outcome::Failed { why },
    };
    match start(&program, &path, invocation).and_then(|running| running.wait(deadline, stop)) {
        Ok(outcome) => outcome,
        Err(error) => {
            Outcome::Failed { why: format!("{} could not be run: {error}", program.path.display()) }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
fn start(program: &Program, path: &OsStr, invocation: &Invocation) -> io::Result<Running> {
    bury_the_dead();
    let mut command = Command::new(program.executable());
    command
        // Some programs are many, and tell by this which one is meant.
        .arg0(&program.path)
        .args(&invocation.arguments)
        .env_clear()
        // Numbers, dates and messages in one known form.
        .env("LC_ALL", "C")
        .env("PATH", path)
        .envs(invocation.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(invocation.directory.as_deref().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Not in our foreground group: it can neither read from the terminal nor be sent our Ctrl-C.
        .process_group(0);
    if let Some(user) = &invocation.user {
        command.env("HOME", &user.home).gid(user.gid).uid(user.uid);
    }
    let mut started = command.spawn()?;
    let pid = i32::try_from(started.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let child = Child::of(pid);
    // Dropping std's handle neither waits nor kills: the child is ours from here on.
    let (Some(output), Some(errors)) = (started.stdout.take(), started.stderr.take()) else {
        child.kill();
        child.bury();
        return Err(Errno::PIPE.into());
    };
    let (output, errors) = (Pipe::new(output.into(), MOST_OUTPUT), Pipe::new(errors.into(), MOST_ERRORS));
    Ok(Running { pid, child: Some(child), output, errors })
}

/// One end of what it prints.
struct Pipe {
    fd: Option<OwnedFd>,
    bytes: Vec<u8>,
    most: usize,
    more: bool,
}

impl Pipe {
    fn new(fd: OwnedFd, most: usize) -> Self {
        if let Ok(flags) = fcntl_getfl(&fd) {
            let _ = fcntl_setfl(&fd, flags | OFlags::NONBLOCK);
        }
        Self { fd: Some(fd), bytes: Vec::new(), most, more: false }
    }

    /// Reads some of what is there; closes at the end. Not all of it: who writes without end must not keep us from
    /// looking at the clock.
    fn read(&mut self, piece: &mut [u8]) {
        for _ in 0..PIECES {
            let Some(fd) = &self.fd else { return };
            match rustix::io::read(fd, &mut *piece) {
                Ok(0) => self.fd = None,
                Ok(count) => {
                    let room = self.most.saturating_sub(self.bytes.len());
                    self.more |= count > room;
                    self.bytes.extend_from_slice(piece.get(..count.min(room)).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.fd = None,
            }
        }
    }
}

/// A program under way.
struct Running {
    pid: Pid,
    child: Option<Child>,
    output: Pipe,
    errors: Pipe,
}

impl Running {
    fn wait(mut self, deadline: Duration, stop: Option<&dyn Fn() -> bool>) -> io::Result<Outcome> {
        let until = Instant::now() + deadline;
        let mut piece = vec![0; PIECE];
        loop {
            let ended = self.ended()?;
            self.output.read(&mut piece);
            self.errors.read(&mut piece);
            if self.output.more {
                return Ok(Outcome::Failed {
                    why: format!("it printed more than {} MiB", MOST_OUTPUT >> 20),
                });
            }
            // A daemon that it left behind may keep the pipes open: what it said until its own end is all.
            if let Some(status) = ended {
                let output = std::mem::take(&mut self.output.bytes);
                let errors = std::mem::take(&mut self.errors.bytes);
                return Ok(Outcome::Said(Said { status: status.code(), output, errors }));
            }
            let left = until.saturating_duration_since(Instant::now());
            let cancelled = stop.is_some_and(|stop| stop());
            if left.is_zero() || cancelled {
                let killed = stop.is_some() && self.put_down(&mut piece);
                let out_of_time = Outcome::TimedOut { after: deadline };
                return Ok(if cancelled { Outcome::Cancelled { killed } } else { out_of_time });
            }
            self.wait_for_news(if stop.is_some() { left.min(TICK) } else { left });
        }
    }

    /// Asks the program and its children to end, and after a while kills them. What they print meanwhile is read, so
    /// that none waits for that. Says whether it had to be killed.
    fn put_down(&mut self, piece: &mut [u8]) -> bool {
        self.signal_all(Signal::TERM);
        let mut killed = true;
        let until = Instant::now() + LAST_WORDS;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.output.read(piece);
            self.errors.read(piece);
            // Not reaped here: as long as it is not, its number means its own group and no other (SAFETY.md T16).
            if self.has_ended() {
                killed = false;
                break;
            }
            self.wait_for_news(left.min(TICK));
        }
        // Also what it started and left behind.
        self.signal_all(Signal::KILL);
        killed
    }

    /// Whether it has ended; it is not reaped.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None) | Err(Errno::INTR))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a group that our own child leads, which is not reaped yet"
    )]
    fn signal_all(&self, signal: Signal) {
        if self.child.is_some() {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Its exit status, once; it is reaped with that.
    fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(Some(status)) => {
                self.child = None;
                Ok(Some(exit_status(&status)))
            }
            Ok(None) | Err(Errno::INTR) => Ok(None),
            Err(error) => {
                self.child = None;
                Err(error.into())
            }
        }
    }

    fn wait_for_news(&self, left: Duration) {
        let pidfd = self.child.as_ref().and_then(Child::pidfd);
        let left = if pidfd.is_some() { left } else { left.min(NAP) };
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let open = [self.output.fd.as_ref(), self.errors.fd.as_ref(), pidfd];
        let mut fds: Vec<PollFd<'_>> = open
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
            .collect();
        // EINTR only means another look at the clock.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

impl Drop for Running {
    /// Whatever was not waited for to its end must not stay.
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
            child.bury();
        }
    }
}

/// As wait(2) encodes it: the exit code in the second byte, else the number of the signal in the first.
fn exit_status(status: &WaitIdStatus) -> std::process::ExitStatus {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal & 0x7f,
        (None, None) => 0,
    };
    std::process::ExitStatus::from_raw(raw)
}

impl Said {
    /// Whether it says that all went well.
    pub fn worked(&self) -> bool {
        self.status == Some(0)
    }

    /// Its complaint in one line, secrets redacted: the last line of standard error that says something, where most
    /// programs put the reason.
    pub fn complaint(&self) -> String {
        let line = self
            .errors
            .split(|&byte| byte == b'\n')
            .rev()
            .map(<[u8]>::trim_ascii)
            .find(|line| !line.is_empty());
        match (line, self.status) {
            (Some(line), _) => redact::text(line).to_string(),
            (None, Some(status)) => format!("exit status {status} without a word"),
            (None, None) => "it was killed".to_owned(),
        }
    }
}

impl Outcome {
    /// What a program said on standard output if it worked, taken apart by `parse`, which says what it does not
    /// understand. What a refusal means only the caller can know: each program has words of its own.
    pub fn reading<T>(self, program: &str, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Reading<T> {
        match self {
            Self::Said(said) if said.worked() => match parse(&said.output) {
                Ok(value) => Reading::ready(value),
                Err(why) => {
                    let why = redact::text(why);
                    Reading::Unavailable { why: format!("what {program} printed was not understood: {why}") }
                }
            },
            Self::Said(said) => Reading::Refused { words: format!("{program} says: {}", said.complaint()) },
            Self::NotInstalled { program } => Reading::NotHere { why: format!("{program} is not installed") },
            Self::TimedOut { after } => Reading::TimedOut { after: after.into() },
            Self::Cancelled { .. } => Reading::Unavailable { why: format!("{program} was cancelled") },
            Self::Failed { why } => Reading::Unavailable { why },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Invocation {
        Invocation::new("sh").arg("-c").arg(script)
    }

    fn said(outcome: Outcome) -> Said {
        match outcome {
            Outcome::Said(said) => said,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_program_says_comes_back() {
        let got = said(ask(&sh("echo out; echo a >&2; echo 'no such daemon' >&2; exit 3"), LONG));
        assert_eq!((got.status, &got.output[..]), (Some(3), &b"out\n"[..]));
        assert_eq!(got.complaint(), "no such daemon");
        assert_eq!(said(ask(&sh("kill -9 $$"), LONG)).status, None);
    }

    #[test]
    fn its_environment_is_bare_and_it_has_no_input() {
        let got = said(ask(&Invocation::new("env").env("DOCKER_HOST", "unix:///x"), LONG));
        let mut lines: Vec<_> =
            got.output.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        let path = format!("PATH={}", DIRECTORIES.join(":"));
        assert_eq!(lines, [&b"DOCKER_HOST=unix:///x"[..], b"LC_ALL=C", path.as_bytes()]);
        assert_eq!(said(ask(&Invocation::new("cat"), LONG)).output, b"");
        assert_eq!(said(ask(&Invocation::new("pwd").directory("/usr"), LONG)).output, b"/usr\n");
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let began = Instant::now();
        let after = Duration::from_millis(200);
        assert_eq!(ask(&sh("exec sleep 1000"), after), Outcome::TimedOut { after });
        assert!(began.elapsed() < LONG);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test takes the other door")]
    fn a_change_that_is_cancelled_or_late_may_tidy_up_and_takes_its_children_along() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "trap 'echo tidied > {0}/tidied; exit 1' TERM; sleep 1000 & echo $! > {0}/child; wait",
            dir.path().display()
        );
        let is_there = |name: &str| dir.path().join(name).exists();
        let cancel = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let running = scope.spawn(|| change(&sh(&script), LONG, &|| cancel.load(Ordering::Relaxed)));
            while !std::fs::read(dir.path().join("child")).is_ok_and(|pid| pid.ends_with(b"\n")) {
                std::thread::sleep(NAP);
            }
            cancel.store(true, Ordering::Relaxed);
            running.join().unwrap()
        });
        assert!(matches!(outcome, Outcome::Cancelled { .. }), "{outcome:?}");
        assert!(is_there("tidied"));
        let child = std::fs::read_to_string(dir.path().join("child")).unwrap();
        // It has been killed; on a busy machine it may take a moment to die.
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let until = Instant::now() + LONG;
        while !(stat().is_empty() || stat().contains(") Z ")) {
            assert!(Instant::now() < until, "its child was left behind: {}", stat());
            std::thread::sleep(NAP);
        }
        let after = Duration::from_millis(200);
        let late = change(&sh("exec sleep 1000"), after, &|| false);
        assert_eq!(late, Outcome::TimedOut { after });
    }

    #[test]
    fn one_that_leaves_a_daemon_with_its_pipes_behind_holds_nobody_up() {
        let got = said(ask(&sh("sleep 2 & echo started"), LONG));
        assert_eq!(got.output, b"started\n");
    }

    #[test]
    fn much_output_is_read_and_too_much_is_refused() {
        let got = said(ask(&sh("head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2"), LONG));
        assert_eq!((got.output.len(), got.errors.len()), (3_000_000, MOST_ERRORS));
        assert!(matches!(ask(&Invocation::new("cat").arg("/dev/zero"), LONG), Outcome::Failed { .. }));
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_not_installed() {
        let outcome = ask(&Invocation::new("no-such-program-here"), LONG);
        assert_eq!(outcome, Outcome::NotInstalled { program: "no-such-program-here".to_owned() });
        let reading: Reading<()> = outcome.reading("x", |_| Ok(()));
        assert_eq!(reading, Reading::NotHere { why: "no-such-program-here is not installed".to_owned() });
    }
}
