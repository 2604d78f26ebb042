//! What the runtime should do. `update` returns these; nothing else in the console reaches outside.

use crate::actions::Request;
use crate::domain::basket::Goal;
use crate::domain::consent::ApprovedBasket;
use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;
use crate::domain::sweep::SweepTarget;
use crate::domain::text::{HostPath, HostText};
use crate::scan::{NodeId, SortKey, Window};

use super::event::{EndSignal, Ticket};

/// A row of the tree that a person picked, with the scan's figures of that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which entry.
    pub node: NodeId,
    /// The directory it is in.
    pub parent: NodeId,
    /// Its name, for messages.
    pub name: HostText,
    /// What kind of file.
    pub kind: FileKind,
    /// Apparent size of it and all below.
    pub apparent: Bytes,
    /// Space that it and all below take.
    pub allocated: Bytes,
    /// Entries in it and below, itself included.
    pub entries: u64,
}

/// Which row of the tree a path in a plan stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path, as the plan's steps carry it.
    pub path: HostPath,
    /// The row.
    pub pick: Pick,
}

/// What a plan is asked for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Delete these rows. Their identities are frozen by the runtime right away.
    Delete(Vec<Pick>),
    /// Move these rows into a directory on another file system. Their identities are frozen likewise.
    Evacuate {
        /// Which.
        picks: Vec<Pick>,
        /// The directory.
        to: HostPath,
    },
    /// Remove what is old from this row, a directory.
    SweepRow {
        /// Which.
        pick: Pick,
        /// From which age on, in seconds.
        secs: u64,
    },
    /// Drop all but the last lines of this row, a file.
    RotateRow {
        /// Which.
        pick: Pick,
        /// Lines that stay.
        keep_lines: u64,
    },
    /// Sweep this directory, of which it is known what goes and what stays.
    Sweep {
        /// Which.
        dir: Box<SweepTarget>,
        /// Which rows of the tree that is.
        targets: Vec<Target>,
    },
    /// Anything else; its operands come from the snapshot and are frozen in it.
    Other(Request),
    /// All that is marked in any pane, as one.
    Basket {
        /// Rows of the tree to delete.
        picks: Vec<Pick>,
        /// The rest.
        requests: Vec<Request>,
    },
    /// The safest steps that free so much.
    Reclaim(Goal),
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The person quit.
    Quit,
    /// A signal asked for it: exit code 128 + its number, as a shell would report it.
    Signal(EndSignal),
    /// The terminal is gone: as after SIGHUP.
    TerminalLost,
    /// A thread crashed: 101, as after a panic.
    Crashed,
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Quit => 0,
            Self::Signal(signal) => 128 + signal.number(),
            Self::TerminalLost => 129,
            Self::Crashed => 101,
        }
    }
}

/// What the runtime should do.
#[derive(Debug)]
pub enum Effect {
    /// End the program.
    Exit(Exit),
    /// Give the terminal back and stop the process group.
    Suspend,
    /// Take the terminal again, after a stop.
    Resume,
    /// Draw every cell again.
    Redraw,
    /// Run the probes.
    Probe,
    /// Judge the snapshot in the model.
    Assess,
    /// Look through the finished scan for caches, crowded directories and inodes.
    Survey,
    /// Start a scan; the one before is dropped.
    Scan {
        /// Its number.
        scan: Ticket,
        /// Where.
        path: HostPath,
    },
    /// Keep this directory's rows coming.
    List {
        /// Which.
        dir: NodeId,
        /// In which order.
        sort: SortKey,
        /// Whether reversed.
        reverse: bool,
        /// Which of its rows.
        window: Window,
        /// Whether they are missing on the screen, or will do with the next look at the scan.
        now: bool,
    },
    /// Look whether a directory changed since it was scanned.
    Check {
        /// Which.
        dir: NodeId,
    },
    /// Scan a directory again.
    Rescan {
        /// Which.
        dir: NodeId,
        /// What to scan instead where it is gone.
        or_else: Option<NodeId>,
    },
    /// Take deleted entries out of the tree.
    Forget(Vec<NodeId>),
    /// Read the identity of a row.
    Inspect {
        /// For the answer.
        ticket: Ticket,
        /// Which row.
        pick: Pick,
    },
    /// Freeze the operands and make a plan.
    Plan {
        /// For the answer.
        ticket: Ticket,
        /// What for.
        wish: Wish,
    },
    /// Account for the space of the file system that a scan has counted.
    Account {
        /// Which scan.
        scan: Ticket,
    },
    /// Run what was agreed to.
    Run(Box<ApprovedBasket>),
    /// Stop the run after the change under way.
    CancelRun,
    /// Leave the step with this number as it is and go on with the next.
    SkipStep(u64),
    /// Panic, to prove that the terminal survives it. Only in debug builds.
    Panic,
}
