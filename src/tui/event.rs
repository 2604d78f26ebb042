//! What happened: a key, a signal, a result. Plain values that drive `update`.

use std::sync::Arc;

use crate::domain::basket::Basket;
use crate::domain::finding::Finding;
use crate::domain::ledger::Ledger;
use crate::domain::receipt::BasketReceipt;
use crate::domain::snapshot::{ChosenFile, SnapshotPart};
use crate::domain::sweep::SweepTarget;
use crate::domain::text::HostPath;
use crate::exec;
use crate::scan::{NodeId, Page, Progress, Reading};

use super::effect::Target;
use super::key::Key;
use super::overlay::Aim;

/// Numbers what was asked for, so that an answer that nobody waits for any more is told from the one expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A directory of a scan, as the lister saw it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The scan it is from.
    pub scan: Ticket,
    /// The directory that was asked for.
    pub dir: NodeId,
    /// What is on the screen of it, and around that; none where it is gone.
    pub page: Option<Arc<Page>>,
    /// How far the scan is.
    pub progress: Progress,
    /// How it reads.
    pub reading: Reading,
    /// How many directories had been scanned again before this was seen.
    pub rescans: u64,
    /// Now, in seconds since the epoch, for ages.
    pub now: i64,
}

/// A signal that ends the program (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSignal {
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// SIGINT (Ctrl-C from outside: in raw mode the key comes as a key).
    Interrupt,
    /// SIGQUIT.
    Quit,
}

impl EndSignal {
    /// Its number on Linux (signal(7)); the same on every architecture.
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A key.
    Key(Key),
    /// Pasted text. Never taken as keys: a pasted `d` must not delete.
    Paste(String),
    /// The terminal has this many columns and rows now.
    Resize(u16, u16),
    /// A signal asks the program to end.
    Signal(EndSignal),
    /// SIGTSTP: give the terminal back and stop.
    Stop,
    /// SIGCONT: the program goes on after a stop.
    Continue,
    /// The terminal is gone or cannot be written to.
    TerminalLost,
    /// A frame was drawn.
    Drawn,
    /// A thread of the program crashed.
    Crashed,
    /// A probe answered.
    Probed(Box<SnapshotPart>),
    /// All probes have answered.
    ProbesEnded,
    /// What the rules find in the snapshot.
    Found(Vec<Finding>),
    /// A scan began.
    ScanStarted {
        /// Which.
        scan: Ticket,
        /// Its root.
        root: NodeId,
    },
    /// A scan could not begin.
    ScanFailed {
        /// Which.
        scan: Ticket,
        /// Why, as a sentence.
        why: String,
    },
    /// A directory as it is known now.
    Listed(Listed),
    /// A directory changed on the machine after it was scanned.
    Changed {
        /// The scan it is from.
        scan: Ticket,
        /// Which.
        dir: NodeId,
    },
    /// Where the space of a file system went, or why that is not known; neither where the scan does not count all of
    /// one.
    Accounted {
        /// The scan that counted its files.
        scan: Ticket,
        /// The ledger.
        outcome: Option<Result<Box<Ledger>, String>>,
    },
    /// Something that should be told in one line.
    Notice(String),
    /// What is known about the identity of a row.
    Inspected {
        /// Whose answer this is.
        ticket: Ticket,
        /// The identity, or why it is not known.
        outcome: Box<Result<ChosenFile, String>>,
        /// Its other names within the scan.
        names: Vec<HostPath>,
    },
    /// A plan is made.
    Planned {
        /// Whose answer this is.
        ticket: Ticket,
        /// The plan, or several as one.
        basket: Box<Basket>,
        /// What it was chosen for, where a goal was given.
        aim: Option<Box<Aim>>,
        /// Which rows of the tree its steps are about.
        targets: Vec<Target>,
        /// What goes and what stays of each directory that is to be swept.
        sweeps: Vec<SweepTarget>,
    },
    /// How far the run is.
    Running(exec::Progress),
    /// The run is over.
    Ran(Box<BasketReceipt>),
}
