//! What is drawn goes to the terminal in a thread of its own, so that a terminal that is slow or stuck never
//! keeps keys and signals waiting. The next frame is drawn only when the one before has been taken.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};
use tokio::sync::Notify;

use super::event::Event;
use super::model::Model;
use super::terminal;
use super::view;

/// What waits for the terminal.
#[derive(Default)]
struct Backlog {
    chunks: AtomicUsize,
    empty: Notify,
}

/// Collects a frame and hands it to the writer thread.
struct Output {
    frame: Vec<u8>,
    writer: mpsc::Sender<Vec<u8>>,
    backlog: Arc<Backlog>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.frame.is_empty() {
            self.backlog.chunks.fetch_add(1, Ordering::SeqCst);
            // The writer is gone only when the terminal is, which was reported by then.
            let _ = self.writer.send(std::mem::take(&mut self.frame));
        }
        Ok(())
    }
}

/// The screen.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Output>>,
    writer: mpsc::Sender<Vec<u8>>,
    backlog: Arc<Backlog>,
}

impl Screen {
    /// A screen of this size. `lost` is told when the terminal cannot be written to any more.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn new(size: (u16, u16), lost: tokio::sync::mpsc::Sender<Event>) -> io::Result<Self> {
        let (writer, chunks) = mpsc::channel::<Vec<u8>>();
        let backlog = Arc::new(Backlog::default());
        let shared = Arc::clone(&backlog);
        std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            for chunk in chunks {
                if terminal::draw(&chunk).is_err() {
                    let _ = lost.blocking_send(Event::TerminalLost);
                    return;
                }
                if shared.chunks.fetch_sub(1, Ordering::SeqCst) == 1 {
                    shared.empty.notify_one();
                }
            }
        })?;
        let terminal = fresh(size, &writer, &backlog)?;
        Ok(Self { terminal, writer, backlog })
    }

    /// Starts over with every cell, at this size.
    ///
    /// # Errors
    /// Where the size cannot be used.
    pub fn reset(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.terminal = fresh(size, &self.writer, &self.backlog)?;
        let output = self.terminal.backend_mut();
        output.write_all(b"\x1b[0m\x1b[2J")?;
        Ok(())
    }

    /// Whether the terminal has taken all that was drawn.
    pub fn idle(&self) -> bool {
        self.backlog.chunks.load(Ordering::SeqCst) == 0
    }

    /// Waits until the terminal has taken all that was drawn.
    pub async fn drained(&self) {
        while !self.idle() {
            self.backlog.empty.notified().await;
        }
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// None in practice: the frame is only collected here.
    pub fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| view::view(model, frame)).map(drop)
    }
}

/// A terminal that believes the screen to be empty. Its area is fixed, so that ratatui never asks the terminal
/// for its size or cursor position: asking can hang, and reads from the keyboard.
fn fresh(
    (columns, rows): (u16, u16),
    writer: &mpsc::Sender<Vec<u8>>,
    backlog: &Arc<Backlog>,
) -> io::Result<Terminal<CrosstermBackend<Output>>> {
    let output = Output { frame: Vec::new(), writer: writer.clone(), backlog: Arc::clone(backlog) };
    let viewport = Viewport::Fixed(Rect::new(0, 0, columns, rows));
    Terminal::with_options(CrosstermBackend::new(output), TerminalOptions { viewport })
}
