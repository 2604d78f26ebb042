//! The hands: the only room that changes the machine. One file per kind of change.
//!
//! Each function is given operands that were frozen when the plan was made, opens them, asks the guards about
//! what it opened, and only then changes that very thing.

mod crew;
mod mount;
mod process;
mod put_back;
mod quarantine;
mod remove;
mod seal;
mod tree;
mod truncate;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::domain::identity::{DevIno, ProcId};
use crate::domain::op::Op;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::{Context, Stop};
use crate::sys::procfs::Proc;

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// A guard said no, or it is not needed.
    Skip(String),
    /// It was tried and failed.
    Fail(String),
}

/// What the steps of one run share.
pub struct Session<'a> {
    /// What the run was given.
    pub context: &'a Context<'a>,
    /// The kernel's view of processes.
    pub proc: Proc,
    /// How the name of everything begins that this run sets aside.
    pub set_aside: String,
    /// When the run began.
    pub began: Instant,
    /// The step that runs.
    pub step: usize,
    /// Processes that were signalled, by group: KILL goes through the same pidfd as TERM.
    pidfds: BTreeMap<u32, (ProcId, OwnedFd)>,
    /// Directories that were searched for leftovers of dead runs.
    searched: BTreeSet<DevIno>,
    /// What dead runs left behind.
    pub leftovers: Vec<HostPath>,
}

impl<'a> Session<'a> {
    /// A session without a past.
    pub fn new(context: &'a Context<'a>, set_aside: String) -> Self {
        Self {
            context,
            proc: Proc::new(context.environment.rooted("/proc")),
            set_aside,
            began: Instant::now(),
            step: 0,
            pidfds: BTreeMap::new(),
            searched: BTreeSet::new(),
            leftovers: Vec::new(),
        }
    }

    /// What tells that the step under way shall stop.
    pub fn stop(&self) -> Stop<'a> {
        let number = self.context.first.saturating_add(self.step as u64);
        Stop { cancel: self.context.cancel, skip: self.context.skip, number }
    }

    /// Makes one change. `progress` is told how many entries are done.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn perform(
        &mut self,
        op: &Op,
        group: u32,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Outcome, NotDone> {
        match op {
            Op::RemoveFile { path, id } => remove::file(self, path, id),
            Op::RemoveTree { path, id, .. } => remove::tree(self, path, id, progress),
            Op::Signal { target, signal, wait_secs } => {
                process::signal(self, target, *signal, *wait_secs, group)
            }
            Op::PutBack { from, to, id } => put_back::put_back(self, from, to, id),
            Op::Unmount { target, lazy } => mount::unmount(self, target, *lazy),
            Op::RemoveEmptyDir { target } => mount::remove_empty_dir(self, target),
            Op::TruncateDeleted { holder, fd, key, .. } => truncate::deleted(self, *holder, *fd, *key),
        }
    }
}
