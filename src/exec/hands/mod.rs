//! The hands: the only room that changes the machine. One file per kind of change.
//!
//! Each function is given operands that were frozen when the plan was made, opens them, asks the guards about
//! what it opened, and only then changes that very thing.

mod crew;
mod evacuate;
mod flat_dir;
mod group;
mod keep_name;
mod mount;
mod obstacles;
mod own;
mod process;
mod put_back;
mod quarantine;
mod remove;
mod rotate;
mod run;
mod seal;
mod shared_quarantine;
mod sweep;
mod swept;
mod tree;
mod truncate;
mod unmount;
mod unused;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::domain::identity::{DevIno, ProcId};
use crate::domain::op::Op;
use crate::domain::past::{Access, Changed, Was};
use crate::domain::plan::Guard;
use crate::domain::receipt::Outcome;
use crate::domain::text::{HostPath, HostText};
use crate::exec::{Context, Stop};
use crate::journal::{self, SET_ASIDE};
use crate::sys::around::Around;
use crate::sys::procfs::Proc;

/// How old what is known of mounts and of the kernel's uses may be. What another namespace mounts within this time is missed;
/// a mount of our own is never entered in any case.
const AROUND_FRESH: Duration = Duration::from_secs(1);

/// A cancel that never comes.
static NEVER: AtomicBool = AtomicBool::new(false);

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
    /// The record of the run.
    record: &'a journal::Run<'a>,
    /// Names that went with the step under way.
    pub gone: Vec<HostText>,
    /// How the name of everything begins that this run sets aside.
    pub set_aside: String,
    /// When the run began.
    pub began: Instant,
    /// The step that runs.
    pub step: usize,
    /// Whether the step takes back what the run did for its time: then no cancel stops it.
    pub restoring: bool,
    /// The guards that its plan lists for it.
    pub step_guards: Vec<Guard>,
    /// What the wall clock was ahead of the time since boot at the run before this one, in seconds.
    pub clock_before: Option<i64>,
    /// The mounts and what the kernel uses, and when that was looked at.
    around: Option<(Instant, Arc<Around>)>,
    /// What processes have open, where the kernel's leases cannot tell.
    in_use: unused::Known,
    /// Processes that were signalled, by group: KILL goes through the same pidfd as TERM.
    pidfds: BTreeMap<u32, (ProcId, OwnedFd)>,
    /// Process groups that were signalled, likewise.
    groups: BTreeMap<u32, group::Members>,
    /// Directories that were searched for leftovers of dead runs.
    searched: BTreeSet<DevIno>,
    /// What dead runs left behind.
    pub leftovers: Vec<HostPath>,
}

impl<'a> Session<'a> {
    /// A session without a past.
    pub fn new(context: &'a Context<'a>, record: &'a journal::Run<'a>) -> Self {
        Self {
            context,
            record,
            gone: Vec::new(),
            proc: Proc::new(context.environment.rooted("/proc")),
            set_aside: format!("{SET_ASIDE}{}", record.id()),
            began: Instant::now(),
            step: 0,
            restoring: false,
            step_guards: Vec::new(),
            clock_before: None,
            around: None,
            in_use: unused::Known::default(),
            pidfds: BTreeMap::new(),
            groups: BTreeMap::new(),
            searched: BTreeSet::new(),
            leftovers: Vec::new(),
        }
    }

    /// The mounts of all namespaces and what the kernel uses, looked at anew where that was a while ago: a thousand
    /// steps in a row share one look.
    pub fn around(&mut self) -> Arc<Around> {
        if let Some((at, around)) = &self.around
            && at.elapsed() < AROUND_FRESH
        {
            return Arc::clone(around);
        }
        let around = Arc::new(Around::look(&self.context.environment.root, &self.proc));
        self.around = Some((Instant::now(), Arc::clone(&around)));
        around
    }

    /// What tells that the step under way shall stop.
    pub fn stop(&self) -> Stop<'a> {
        let number = self.context.first.saturating_add(self.step as u64);
        let cancel = if self.restoring { &NEVER } else { self.context.cancel };
        Stop { cancel, skip: self.context.skip, number }
    }

    /// Whether a process has this file or directory in use.
    ///
    /// # Errors
    /// That this cannot be said of every process, as a sentence.
    fn has_open(&mut self, key: DevIno) -> Result<bool, String> {
        self.in_use.has(&self.proc, key)
    }

    /// Writes down what went of a directory that is swept, and keeps it for the receipt.
    fn note_gone(&mut self, names: Vec<HostText>) {
        if names.is_empty() {
            return;
        }
        self.record.gone(self.step, &names);
        self.gone.extend(names);
    }

    /// Writes down what the file under way was, and what its copy is, before that gets its name.
    fn note_copied(&self, was: Was) {
        self.record.copied(self.step, was);
    }

    /// Writes down what owner and mode the directory under way has, before it gets others for a while.
    fn note_access(&self, key: DevIno, before: Access, given: Access) {
        self.record.access(Changed { step: self.step, key, before, given });
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
            Op::RestoreAccess { path, id, access } => put_back::restore_access(self, path, id, *access),
            Op::PutBack { from, to, id, over: None } => put_back::put_back(self, from, to, id),
            Op::PutBack { from, to, id, over: Some(over) } => rotate::make_whole(self, from, to, id, over),
            Op::SignalGroup { leader, signal, wait_secs } => {
                group::signal(self, leader, *signal, *wait_secs, group)
            }
            Op::Run { command, target } => run::tool(self, command, target),
            Op::Unmount { target, lazy } => mount::take_away(self, target, *lazy),
            Op::RemoveEmptyDir { target } => mount::remove_empty_dir(self, target),
            Op::Evacuate { path, id, to, back } => evacuate::file(self, path, id, (to, *back), progress),
            Op::Sweep { path, id, sweep } => sweep::dir(self, path, id, sweep, progress),
            Op::KeepName { file, name } => keep_name::keep(self, file, name),
            Op::RotateLog { path, id, keep_lines, in_place, owner } => {
                rotate::log(self, path, id, *keep_lines, *in_place, *owner)
            }
            Op::TruncateDeleted { holder, fd, id, .. } => truncate::deleted(self, *holder, *fd, id),
        }
    }
}
