//! The whole list of a sweep: which names go, which are left out, and what stays in any case.

use crate::domain::sweep::{Candidate, Class, LeftOut, Stays, Sweep, SweepTarget, Tally};

use super::effect::Target;

/// How a class stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is nothing of it.
    None,
    /// Nothing of it goes.
    Off,
    /// Some of it goes.
    Partly,
    /// All of it goes.
    On,
}

impl State {
    /// As a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Off => "off",
            Self::Partly => "partly",
            Self::On => "on",
        }
    }
}

/// The list, while it is on the screen.
#[derive(Debug)]
pub struct SweepList {
    /// The directory.
    dir: SweepTarget,
    /// Which rows of the tree it is about.
    targets: Vec<Target>,
    /// Its list, as it was switched.
    sweep: Sweep,
    /// What goes now, and how each class stands: counted when something is switched, not for each frame.
    goes: Tally,
    classes: [State; 3],
    /// Lines on what stays in any case.
    stays: Vec<String>,
    /// The row under the cursor.
    pub index: usize,
    /// The first row on the screen.
    pub offset: usize,
    /// Whether something was switched.
    pub changed: bool,
}

impl SweepList {
    /// The list of a directory; none if it is not known.
    pub fn new(dir: &SweepTarget, targets: Vec<Target>) -> Option<Self> {
        let sweep = dir.list.value()?.clone();
        let dir = SweepTarget { list: crate::domain::reading::Reading::Pending, ..dir.clone() };
        let (goes, classes, stays) = (sweep.all(), states(&sweep), stays(&sweep));
        Some(Self { dir, targets, sweep, goes, classes, stays, index: 0, offset: 0, changed: false })
    }

    /// The directory with the list as it was switched, for a plan, and the rows of the tree that it is about.
    pub fn into_target(self) -> (SweepTarget, Vec<Target>) {
        let list = crate::domain::reading::Reading::ready(self.sweep);
        (SweepTarget { list, ..self.dir }, self.targets)
    }

    /// The directory.
    pub fn dir(&self) -> &SweepTarget {
        &self.dir
    }

    /// The list as it was switched.
    pub fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// What goes now.
    pub fn goes(&self) -> &Tally {
        &self.goes
    }

    /// How each class stands, in the order of [`Class::ALL`].
    pub fn classes(&self) -> [State; 3] {
        self.classes
    }

    /// Rows in all: the names, and what stays in any case.
    pub fn rows(&self) -> usize {
        self.sweep.candidates.len() + self.stays.len()
    }

    /// The name under the cursor.
    pub fn current(&self) -> Option<&Candidate> {
        self.sweep.candidates.get(self.index)
    }

    /// A line on what stays in any case, for a row after the names.
    pub fn stays(&self, row: usize) -> Option<&str> {
        self.stays.get(row.checked_sub(self.sweep.candidates.len())?).map(String::as_str)
    }

    /// Switches the row under the cursor.
    ///
    /// # Errors
    /// Why it cannot be switched, as a sentence.
    pub fn switch(&mut self) -> Result<(), String> {
        let index = self.index;
        let Some(one) = self.current() else {
            return Err("What is listed here stays in any case.".to_owned());
        };
        if one.left_out == Some(LeftOut::OfRoot) {
            return Err("Those of root go together or not at all: 0 switches them.".to_owned());
        }
        self.change(|sweep| sweep.switch(index));
        Ok(())
    }

    /// Switches a class.
    pub fn switch_class(&mut self, class: Class) {
        self.change(|sweep| sweep.switch_class(class));
    }

    /// Switches the directories of root.
    pub fn switch_root(&mut self) {
        self.change(Sweep::switch_root);
    }

    fn change(&mut self, change: impl FnOnce(&mut Sweep)) {
        change(&mut self.sweep);
        self.goes = self.sweep.all();
        self.classes = states(&self.sweep);
        self.changed = true;
    }
}

/// What stays for one reason, as a line.
pub fn reason(why: Stays, count: u64, example: &impl std::fmt::Display) -> String {
    let count = super::format::count(count);
    format!("{count} {why}, such as {example}")
}

fn states(sweep: &Sweep) -> [State; 3] {
    Class::ALL.map(|class| match (sweep.offered(class).0.count, sweep.of(class).count) {
        (0, _) => State::None,
        (_, 0) => State::Off,
        (offered, going) if going < offered => State::Partly,
        _ => State::On,
    })
}

fn stays(sweep: &Sweep) -> Vec<String> {
    let mut all: Vec<_> = sweep.stays.iter().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.count));
    let mut lines: Vec<String> = all.iter().map(|one| reason(one.why, one.count, &one.example)).collect();
    lines.extend(sweep.problems.iter().cloned());
    lines
}
