//! Signals as events.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::event::{EndSignal, Event};
use super::terminal;

/// What a signal means.
fn meaning(kind: SignalKind) -> Event {
    if kind == SignalKind::hangup() {
        Event::Signal(EndSignal::Hangup)
    } else if kind == SignalKind::interrupt() {
        Event::Signal(EndSignal::Interrupt)
    } else if kind == SignalKind::quit() {
        Event::Signal(EndSignal::Quit)
    } else if kind == SignalKind::window_change() {
        let (columns, rows) = terminal::size();
        Event::Resize(columns, rows)
    } else if kind == tstp() {
        Event::Stop
    } else if kind == cont() {
        Event::Continue
    } else {
        Event::Signal(EndSignal::Terminate)
    }
}

fn tstp() -> SignalKind {
    SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw())
}

fn cont() -> SignalKind {
    SignalKind::from_raw(rustix::process::Signal::CONT.as_raw())
}

/// Listens to all signals that mean something to the console, from now on.
///
/// # Errors
/// Where the kernel refuses a handler.
pub fn listen() -> io::Result<Receiver<Event>> {
    let (events, received) = channel(16);
    let kinds = [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::window_change(),
        tstp(),
        cont(),
    ];
    for kind in kinds {
        forward(kind, events.clone())?;
    }
    Ok(received)
}

fn forward(kind: SignalKind, events: Sender<Event>) -> io::Result<()> {
    let mut stream = signal(kind)?;
    tokio::spawn(async move {
        while stream.recv().await.is_some() {
            if events.send(meaning(kind)).await.is_err() {
                break;
            }
        }
    });
    Ok(())
}
