//! The real binary in a pseudo-terminal, with a terminal emulator reading its screen.

mod again;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use rustix::process::{Pid, Signal};

#[allow(unused_imports, reason = "not every test file runs tests again")]
pub use again::*;

/// How long anything is waited for before the test fails. Generous: it is no measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// The console, running.
pub struct Console {
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
    /// Kept open, so that what the console leaves behind can be looked at after its end.
    slave: Option<Box<dyn SlavePty + Send>>,
    writer: Option<Box<dyn Write + Send>>,
    screen: Arc<Mutex<vt100::Parser>>,
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Console {
    /// Starts the console with these arguments in a terminal of this size.
    #[track_caller]
    pub fn start(columns: u16, rows: u16, home: &Path, arguments: &[&str]) -> Self {
        let mut all = vec![env!("CARGO_BIN_EXE_unwedge")];
        all.extend(arguments);
        Self::run(columns, rows, home, &all)
    }

    /// Starts any program that becomes the console in the end.
    #[track_caller]
    pub fn run(columns: u16, rows: u16, home: &Path, arguments: &[&str]) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).expect("no pseudo-terminal");
        let mut command = CommandBuilder::new(arguments[0]);
        command.args(&arguments[1..]);
        command.env_clear();
        command.env("HOME", home);
        command.env("TERM", "xterm-256color");
        command.env("LC_ALL", "C.UTF-8");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.cwd(home);
        let child = pair.slave.spawn_command(command).expect("the console cannot be started");
        let mut from = pair.master.try_clone_reader().expect("no reader");
        let writer = pair.master.take_writer().expect("no writer");
        let parser =
            vt100::Parser::new(rows.try_into().expect("no rows"), columns.try_into().expect("no columns"), 0);
        let screen = Arc::new(Mutex::new(parser));
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Arc::new(AtomicBool::new(false));
        let (theirs, flag, paused) = (Arc::clone(&screen), Arc::clone(&stop), Arc::clone(&pause));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = from.read(&mut buffer) {
                if count == 0 || flag.load(Ordering::SeqCst) {
                    return;
                }
                theirs.lock().unwrap().process(&buffer[..count]);
                while paused.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self {
            child,
            master: Some(pair.master),
            slave: Some(pair.slave),
            writer: Some(writer),
            screen,
            stop,
            pause,
            reader: Some(reader),
        }
    }

    /// The screen as text.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Presses keys, as the bytes a terminal sends for them.
    #[track_caller]
    pub fn press(&mut self, bytes: &str) {
        self.writer.as_mut().unwrap().write_all(bytes.as_bytes()).expect("the terminal takes no keys");
    }

    /// Waits until something holds of the screen's text.
    #[track_caller]
    pub fn wait(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if holds(&text) {
                return;
            }
            if Instant::now() > end {
                let ended = self.child.try_wait();
                panic!("never saw {what}; the console is {ended:?}; the screen:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the screen shows this text.
    #[track_caller]
    pub fn see(&mut self, expected: &str) {
        self.wait(&format!("{expected:?}"), |text| text.contains(expected));
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.process_id().unwrap().try_into().unwrap()).unwrap()
    }

    /// The process id of the console itself, which the program watches from its parent.
    pub fn inner(&self) -> Pid {
        let pid = self.pid().as_raw_pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let first = children.split_whitespace().next().expect("no console below the program");
        Pid::from_raw(first.parse().unwrap()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("it is gone already");
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.screen
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
        self.master.as_ref().unwrap().resize(size(columns, rows)).expect("cannot resize");
    }

    /// Waits for its end and gives its exit code.
    #[track_caller]
    pub fn ended(&mut self) -> u32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("cannot wait for it") {
                return status.exit_code();
            }
            assert!(Instant::now() < end, "it never ended; the screen:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The state letter of `/proc/PID/stat` (proc(5)).
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid().as_raw_pid())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    /// Whether the terminal is in raw mode: no line editing, no echo, no signals from keys.
    pub fn raw(&self) -> bool {
        let termios = self.master.as_ref().unwrap().get_termios().expect("no modes");
        let cooked = libc::ICANON | libc::ECHO | libc::ISIG;
        termios.local_flags.bits() & cooked == 0
    }

    /// Waits until the terminal is as it was before the console: main screen, cursor shown, line editing, no
    /// paste brackets.
    #[track_caller]
    pub fn restored(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let termios = self.master.as_ref().unwrap().get_termios().expect("no modes");
            let cooked = libc::ICANON | libc::ECHO | libc::ISIG;
            let modes = termios.local_flags.bits() & cooked == cooked;
            let parser = self.screen.lock().unwrap();
            let screen = parser.screen();
            if modes && !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste() {
                return;
            }
            assert!(
                Instant::now() < end,
                "not restored: line editing {modes}, alternate screen {}, cursor hidden {}, paste brackets {}",
                screen.alternate_screen(),
                screen.hide_cursor(),
                screen.bracketed_paste()
            );
            drop(parser);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops reading what the console draws, as a connection does that is stuck; and goes on.
    pub fn stuck(&mut self, stuck: bool) {
        self.pause.store(stuck, Ordering::SeqCst);
    }

    /// Takes the terminal away, as when a connection breaks: the last descriptor of the other end is closed.
    pub fn hang_up(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The reader has a descriptor too: the console draws for the new size, which wakes the reader up.
        self.resize(81, 25);
        self.reader.take().unwrap().join().unwrap();
        self.slave = None;
        self.writer = None;
        self.master = None;
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}
