//! A command without a console that is told to end: by Ctrl-C, TERM or HUP.
//!
//! A thread waits for the signal, because the one that works may be held by a file system. While a change runs it is
//! cancelled and comes to an end after what is under way; where a file system holds that, it is left behind (see
//! `tui::supervise`). Without a change the program ends at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::sys::stuck::Watch;
use crate::tui::supervise;

/// How often a run that was cancelled is looked at: whether it has ended, or is held.
const LOOK: Duration = Duration::from_millis(100);

/// The flag that cancels the run under way; none where nothing is changed.
static RUN: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// A run that a signal cancels instead of ending the program, until this is dropped.
pub struct Run(pub Arc<AtomicBool>);

impl Run {
    /// From now on a change runs.
    pub fn begin() -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        *RUN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&cancel));
        Self(cancel)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        *RUN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn under_way() -> Option<Arc<AtomicBool>> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Starts the thread. Where it cannot be started, a signal ends the program as ever; every step can be taken up again.
pub fn listen() {
    let wait = || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let _ = runtime.block_on(obey());
    };
    drop(std::thread::Builder::new().name("signals".to_owned()).spawn(wait));
}

async fn obey() -> io::Result<()> {
    let ignored = supervise::ignored();
    let (heard, mut signals) = tokio::sync::mpsc::channel(4);
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        if ignored & supervise::bit(which) != 0 {
            continue;
        }
        let (mut stream, heard) = (signal(SignalKind::from_raw(which as i32))?, heard.clone());
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let _ = heard.send(which).await;
            }
        });
    }
    let parent = move || {
        while let Some(which) = supervise::next_order() {
            if heard.blocking_send(which).is_err() || supervise::left() {
                return;
            }
        }
    };
    drop(std::thread::Builder::new().name("parent".to_owned()).spawn(parent));
    while let Some(which) = signals.recv().await {
        // As a shell tells it; the parent ends by the signal itself.
        let code = 128_u8.saturating_add(u8::try_from(which as i32).unwrap_or_default());
        let Some(cancel) = under_way() else {
            supervise::ended(code);
            std::process::exit(i32::from(code));
        };
        if cancel.swap(true, Ordering::Relaxed) {
            continue;
        }
        supervise::wait_for_the_run();
        super::complain("stopping after the change under way");
        let mut watch = Watch::default();
        while under_way().is_some() {
            if watch.held() && supervise::leave_the_run_behind(code) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}
