//! What can lie on top of the panes: a closed list, kept as a stack. The top one gets the key first.

use crate::domain::basket::{Basket, Goal};
use crate::domain::consent::ConsentRequest;
use crate::domain::finding::{Finding, Reclaim};
use crate::domain::plan::Refusal;
use crate::domain::receipt::BasketReceipt;
use crate::domain::reclaim::Next;
use crate::domain::snapshot::{BuildMount, BuildProcess, ChosenFile, DeletedFile};
use crate::domain::sweep::SweepTarget;
use crate::domain::text::HostPath;
use crate::exec;
use crate::scan::Row;

use super::effect::{Target, Wish};
use super::event::Ticket;
use super::keymap::Context;
use super::menu::Choice;
use super::question::About;
use super::sweep_list::SweepList;

/// What a basket was chosen for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// How much is wanted, and where.
    pub goal: Goal,
    /// What is promised there.
    pub promised: Reclaim,
    /// Whether that is sure to be enough.
    pub reaches: bool,
    /// The next riskier step, where it is not.
    pub next: Option<Next>,
    /// What would help and was left out, and why.
    pub left_out: Vec<Refusal>,
    /// What could not be looked at.
    pub missing: Vec<String>,
}

/// A plan, or several as one, that asks for consent.
#[derive(Debug)]
pub struct Dialog {
    /// What would run.
    pub basket: Box<Basket>,
    /// What it was chosen for, where a goal was given.
    pub aim: Option<Box<Aim>>,
    /// Which rows of the tree its steps are about.
    pub targets: Vec<Target>,
    /// What goes and what stays of each directory that is to be swept.
    pub sweeps: Vec<SweepTarget>,
    /// What was typed so far.
    pub answer: String,
    /// What was wrong with the last answer.
    pub problem: Option<String>,
    /// Whether it has been on the screen: a key pressed before cannot have been meant for it.
    pub seen: bool,
}

/// What an overlay is about.
#[derive(Debug)]
pub enum Body {
    /// All keys and marks.
    Help,
    /// Everything known about a row of the tree.
    Info {
        /// For the identity that is being read.
        ticket: Ticket,
        /// The row.
        row: Box<Row>,
        /// The directory it is in.
        dir: HostPath,
        /// Its identity, once it was read.
        identity: Option<Box<Result<ChosenFile, String>>>,
        /// Its other names within the scan.
        names: Vec<HostPath>,
    },
    /// A finding in full.
    Finding {
        /// For the plan that shows the exact commands.
        ticket: Ticket,
        /// The finding.
        finding: Box<Finding>,
        /// What its action would run.
        remedy: Option<Box<Basket>>,
    },
    /// What can be done about a finding or about rows of the tree, to choose from.
    Menu {
        /// What it is about.
        title: String,
        /// What has something to do here, in order.
        choices: Vec<Choice>,
        /// What cannot be done, and why.
        note: Option<String>,
        /// The one under the cursor.
        index: usize,
    },
    /// A mount in full.
    Mount(Box<BuildMount>),
    /// A process in full.
    Process(Box<BuildProcess>),
    /// A deleted file in full.
    Deleted(Box<DeletedFile>),
    /// Where the space of the file system mounted at a place went.
    Ledger(HostPath),
    /// What a pane does not know.
    Gaps(Vec<String>),
    /// What was asked for waits until it is known what must never be touched.
    Waiting(Box<Wish>),
    /// A plan is being made.
    Planning(Ticket),
    /// A plan asks for consent.
    Confirm(Dialog),
    /// A run is under way.
    Running {
        /// The plan's summary.
        summary: String,
        /// How far it is.
        progress: Option<exec::Progress>,
        /// Whether it was asked to stop.
        cancelled: bool,
        /// The step that was asked to be left out.
        skipped: Option<u64>,
    },
    /// Every name of a sweep, to switch on and off.
    SweepList(Box<SweepList>),
    /// Asks for what a plan needs.
    Question {
        /// What for.
        about: About,
        /// What was typed so far.
        answer: String,
        /// What was wrong with the last answer.
        problem: Option<String>,
    },
    /// What a run did.
    Receipt(Box<BasketReceipt>),
    /// Whether to cancel the run under way.
    CancelQuestion,
    /// Whether to leave while a run is under way.
    QuitQuestion,
}

/// Something on top of the panes.
#[derive(Debug)]
pub struct Overlay {
    /// What it is about.
    pub body: Body,
    /// The first line shown.
    pub scroll: usize,
}

impl From<Body> for Overlay {
    fn from(body: Body) -> Self {
        Self { body, scroll: 0 }
    }
}

impl Overlay {
    /// Where a key applies while this is on top.
    pub fn context(&self) -> Context {
        match &self.body {
            Body::Help | Body::Info { .. } | Body::Gaps(_) | Body::Receipt(_) => Context::Text,
            Body::Mount(_) | Body::Process(_) => Context::Finding,
            Body::Menu { .. } => Context::Menu,
            Body::Ledger(_) => Context::Ledger,
            Body::Deleted(file) => {
                if file.holders.iter().any(|holder| holder.mapped) {
                    Context::Text
                } else {
                    Context::Finding
                }
            }
            Body::Finding { finding, .. } => {
                if finding.actions.is_empty() {
                    Context::Text
                } else {
                    Context::Finding
                }
            }
            Body::Waiting(_) | Body::Planning(_) => Context::Planning,
            Body::Confirm(dialog) => dialog.context(),
            Body::Running { .. } => Context::Running,
            Body::SweepList(_) => Context::SweepList,
            Body::Question { .. } => Context::Goal,
            Body::CancelQuestion => Context::CancelQuestion,
            Body::QuitQuestion => Context::QuitQuestion,
        }
    }
}

impl Dialog {
    fn context(&self) -> Context {
        let listed = self.listed().is_some();
        if self.basket.is_empty() {
            return if listed { Context::NoSweep } else { Context::Text };
        }
        match self.basket.consent_request() {
            ConsentRequest::Key => Context::ConfirmKey,
            ConsentRequest::Word(_) | ConsentRequest::Name(_) if listed => Context::ConfirmSweep,
            ConsentRequest::Word(_) | ConsentRequest::Name(_) => Context::ConfirmTyped,
        }
    }

    /// The directory whose names can be switched: the only one, and all that is planned.
    pub fn listed(&self) -> Option<&SweepTarget> {
        let [only] = self.sweeps.as_slice() else { return None };
        let known = only.list.value().is_some_and(|list| !list.candidates.is_empty());
        (known && self.basket.parts.len() <= 1 && self.aim.is_none()).then_some(only)
    }
}
