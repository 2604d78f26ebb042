//! Threads for what can take time. One is kept ready from the start, because on a machine where builds are
//! stuck it may well be that no more threads can be started.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::sync::mpsc::Sender;

use super::event::Event;

type Job = Box<dyn FnOnce(&Sender<Event>) + Send>;

/// Starts threads that answer with events.
pub struct Workers {
    answers: Sender<Event>,
    standby: mpsc::Sender<Job>,
}

impl Workers {
    /// Starts the thread that is kept ready.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn new(answers: Sender<Event>) -> io::Result<Self> {
        let (standby, jobs) = mpsc::channel::<Job>();
        let sender = answers.clone();
        std::thread::Builder::new().name("standby".to_owned()).spawn(move || {
            for job in jobs {
                work(&sender, job);
            }
        })?;
        Ok(Self { answers, standby })
    }

    /// Runs something in a thread of its own, or in the one kept ready where no other can be started.
    pub fn spawn(&self, name: &str, job: impl FnOnce(&Sender<Event>) + Send + 'static) {
        let slot: Arc<Mutex<Option<Job>>> = Arc::new(Mutex::new(Some(Box::new(job))));
        let theirs = Arc::clone(&slot);
        let answers = self.answers.clone();
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Some(job) = take(&theirs) {
                work(&answers, job);
            }
        });
        if spawned.is_err()
            && let Some(job) = take(&slot)
        {
            let _ = self.standby.send(job);
        }
    }
}

fn take(slot: &Mutex<Option<Job>>) -> Option<Job> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Does a job. A crash in it ends the program; by then the panic hook has given the terminal back.
fn work(answers: &Sender<Event>, job: Job) {
    if catch_unwind(AssertUnwindSafe(|| job(answers))).is_err() {
        let _ = answers.blocking_send(Event::Crashed);
    }
}
