//! Takes the terminal and gives it back: when the program quits, stops, is signalled, or panics.
//!
//! Everything here writes with plain `write(2)`: after the terminal is gone, `print!` would panic inside the
//! panic hook and abort (SAFETY.md T22).

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

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

/// Held while a frame is written.
static DRAWING: Mutex<()> = Mutex::new(());

/// Writes a frame, waiting for the terminal as long as it takes. Nothing is written while the terminal is not
/// ours.
///
/// # Errors
/// Where the terminal is gone.
pub fn draw(mut bytes: &[u8]) -> io::Result<()> {
    let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    let stdout = rustix::stdio::stdout();
    while !bytes.is_empty() && TAKEN.load(Ordering::SeqCst) {
        match rustix::io::write(stdout, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // Somebody made the terminal non-blocking for all who share it: wait for room.
            Err(rustix::io::Errno::AGAIN) => {
                let mut polled = [PollFd::new(&stdout, PollFlags::OUT)];
                match rustix::event::poll(&mut polled, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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

/// Takes the terminal: raw mode, alternate screen. Where it was taken already, both are set again: somebody
/// may have changed them while we were stopped.
///
/// # Errors
/// Where the terminal refuses.
pub fn take() -> io::Result<()> {
    let first = !TAKEN.swap(true, Ordering::SeqCst);
    let stdin = rustix::stdio::stdin();
    let result = (|| {
        let before = rustix::termios::tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        if first {
            *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        }
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
    // A frame that is being written must not come after what restores the screen. Where the terminal is stuck,
    // waiting for it is pointless.
    let mut drawing = DRAWING.try_lock();
    for _ in 0..60 {
        if !matches!(drawing, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        drawing = DRAWING.try_lock();
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

/// Gives the terminal back in the stead of a console that was killed, if it still is this job's.
pub fn restore(before: &Termios) {
    let stdin = rustix::stdio::stdin();
    if rustix::termios::tcgetpgrp(stdin).is_ok_and(|foreground| foreground != rustix::process::getpgrp()) {
        return;
    }
    let _ = write_all(rustix::stdio::stdout(), LEAVE);
    let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, before);
}

/// Says something on standard error; waits for the terminal no longer than [`PATIENCE`].
pub fn complain(message: &str) {
    let _ = write_all(rustix::stdio::stderr(), message.as_bytes());
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
        complain(&message);
    }));
}

/// Takes the panic hook off again.
pub fn remove_panic_hook() {
    drop(std::panic::take_hook());
}

/// Stops our process group, as Ctrl-Z does: whoever started us (sudo, a script) stops too. Returns when somebody
/// continues us.
#[expect(clippy::disallowed_methods, reason = "Ctrl-Z is for the whole job, and only stops it")]
pub fn stop_group() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::STOP);
}
