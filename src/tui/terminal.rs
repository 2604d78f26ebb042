//! Takes the terminal and gives it back: when the program quits, stops, is signalled, or panics.
//!
//! Everything here writes with plain `write(2)`: after the terminal is gone, `print!` would panic inside the
//! panic hook and abort (SAFETY.md T22).

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::{OptionalActions, Termios};

/// Alternate screen (xterm's ctlseqs: DECSET 1049), cursor hidden (DECTCEM 25), bracketed paste (2004: so that
/// pasted text is never taken for keys), cleared.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[0m\x1b[2J";
/// The reverse. Cleared first, for consoles without an alternate screen (the Linux console).
const LEAVE: &[u8] = b"\x1b[?2004l\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l";
/// How long a terminal may keep us from giving it back.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

/// The modes of the terminal before we changed them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether the terminal is ours: only then may anything be drawn.
pub fn taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Whether both input and output are a terminal.
pub fn present() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin()) && rustix::termios::isatty(rustix::stdio::stdout())
}

/// Columns and rows; 80×24 where the terminal does not say (a serial line).
pub fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        Ok(_) | Err(_) => (80, 24),
    }
}

/// Takes the terminal: raw mode, alternate screen. Nothing happens where it is taken already.
///
/// # Errors
/// Where the terminal refuses.
pub fn take() -> io::Result<()> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let stdin = rustix::stdio::stdin();
    let result = (|| {
        let before = rustix::termios::tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw)?;
        write_all(rustix::stdio::stdout(), ENTER)
    })();
    if result.is_err() {
        give_back();
    }
    result
}

/// Gives the terminal back as it was. Can be called at any time, any number of times, from a panic hook.
pub fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let stdin = rustix::stdio::stdin();
    // In the background the terminal belongs to somebody else, and touching it would stop us (SIGTTOU).
    if rustix::termios::tcgetpgrp(stdin).is_ok_and(|foreground| foreground != rustix::process::getpgrp()) {
        return;
    }
    let _ = write_all(rustix::stdio::stdout(), LEAVE);
    if let Ok(before) = BEFORE.try_lock()
        && let Some(before) = before.as_ref()
    {
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, before);
    }
}

/// Gives the terminal back when dropped.
pub struct Hold;

impl Drop for Hold {
    fn drop(&mut self) {
        give_back();
    }
}

/// Writes everything, waiting for the terminal only as long as [`PATIENCE`] each time.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
        match rustix::event::poll(&mut polled, Some(&PATIENCE)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes panics give the terminal back before they say what happened.
pub fn install_panic_hook() {
    let process = rustix::process::getpid();
    std::panic::set_hook(Box::new(move |panic| {
        // A forked child (a probe) must not touch its parent's terminal.
        if rustix::process::getpid() != process {
            return;
        }
        give_back();
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no reason given");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let message = format!(
            "unwedge crashed{place}: {}\nThis is a bug. The terminal was restored; a run under way ended where it \
             was, and `unwedge history` shows how far it got.\n",
            crate::domain::text::sanitise(text.as_bytes())
        );
        let _ = write_all(rustix::stdio::stderr(), message.as_bytes());
    }));
}

/// Takes the panic hook off again.
pub fn remove_panic_hook() {
    drop(std::panic::take_hook());
}

/// Stops our process group, as Ctrl-Z does: whoever started us (sudo, a script) stops too. Returns when somebody
/// continues us.
pub fn stop_group() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::STOP);
}
