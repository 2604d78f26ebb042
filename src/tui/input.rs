//! Keys, read in a thread of its own.
//!
//! crossterm (0.29, `event/source/unix/mio.rs`) tries again for ever when the terminal hangs up, at 100 % of a
//! CPU. So this thread asks the kernel first and goes to crossterm only when there is something to read.

use std::io;
use std::time::Duration;

use crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags};
use tokio::sync::mpsc::Sender;

use super::event::Event;
use super::key::Key;
use super::supervise;

/// How long a key that is not complete yet is waited for.
const INCOMPLETE: Duration = Duration::from_millis(50);

/// Starts the thread. It ends when the terminal is gone.
///
/// # Errors
/// Where no thread can be started.
pub fn start(events: Sender<Event>) -> io::Result<()> {
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || read(&events)).map(drop)
}

fn read(events: &Sender<Event>) {
    let stdin = rustix::stdio::stdin();
    loop {
        let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return lost(events),
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if polled.iter().any(|fd| fd.revents().intersects(gone)) {
            return lost(events);
        }
        // A run that was left behind has no terminal any more: these keys are for whoever has it now.
        if supervise::left() {
            return;
        }
        let mut patience = INCOMPLETE;
        loop {
            match event::poll(patience) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return lost(events),
            }
            patience = Duration::ZERO;
            match event::read() {
                Ok(event) => {
                    for event in translate(event).into_iter().flatten() {
                        if events.blocking_send(event).is_err() {
                            return;
                        }
                    }
                }
                Err(_) => return lost(events),
            }
        }
    }
}

fn lost(events: &Sender<Event>) {
    let _ = events.blocking_send(Event::TerminalLost);
}

/// What the console takes notice of. The size comes with SIGWINCH instead.
///
/// A key with Alt is sent as Esc and the key (xterm's ctlseqs), so Esc and a key that come in one packet cannot be
/// told from it. Both are taken, in their order: nothing here is bound to Alt, and an Esc must never be lost.
fn translate(event: event::Event) -> [Option<Event>; 2] {
    match event {
        event::Event::Key(key) if key.kind != KeyEventKind::Release => {
            let esc = key.modifiers.contains(KeyModifiers::ALT).then_some(Event::Key(Key::Esc));
            [esc, self::key(key).map(Event::Key)]
        }
        event::Event::Paste(text) => [Some(Event::Paste(text)), None],
        event::Event::Key(_)
        | event::Event::Mouse(_)
        | event::Event::Resize(..)
        | event::Event::FocusGained
        | event::Event::FocusLost => [None, None],
    }
}

fn key(event: KeyEvent) -> Option<Key> {
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return match event.code {
            KeyCode::Char(c) => Some(Key::Ctrl(c.to_ascii_lowercase())),
            _ => None,
        };
    }
    Some(match event.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(code: KeyCode, modifiers: KeyModifiers) -> Vec<Key> {
        translate(event::Event::Key(KeyEvent::new(code, modifiers)))
            .into_iter()
            .flatten()
            .map(|event| match event {
                Event::Key(key) => key,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn an_esc_that_came_together_with_a_key_is_not_lost() {
        assert_eq!(keys(KeyCode::Char('q'), KeyModifiers::ALT), [Key::Esc, Key::Char('q')]);
        assert_eq!(keys(KeyCode::Char('q'), KeyModifiers::NONE), [Key::Char('q')]);
        assert_eq!(keys(KeyCode::Char('C'), KeyModifiers::SHIFT), [Key::Char('C')]);
        assert_eq!(keys(KeyCode::Char('c'), KeyModifiers::CONTROL), [Key::Ctrl('c')]);
        assert!(keys(KeyCode::F(5), KeyModifiers::NONE).is_empty());
    }
}
