//! Removes what is old from an over-full directory (SAFETY.md T5, T8, T10, T27): exactly what the plan names. Each is judged
//! again in the way of the plan ([`crate::probe::sweep`]), from what is seen just before, and then removed in the way of a
//! chosen one, quarantine and comparison included.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{NotDone, Session, swept};
use crate::domain::bounds::MOST_SECS;
use crate::domain::identity::FileId;
use crate::domain::receipt::Outcome;
use crate::domain::sweep::{Candidate, Class, Stays, Sweep, SweepRule};
use crate::domain::text::{HostPath, HostText};
use crate::exec::lock::clock;
use crate::exec::words::could_not;
use crate::probe::sweep::Place;

/// Problems that are told one by one.
const TOLD: usize = 10;
/// A clock that was set by more than this tells no ages any more.
const JUMP_SECS: i64 = 86_400;
/// Names that one line of the journal holds at most, so that little is lost with a run that is killed.
const NAMES: usize = 1000;

/// What a sweep has done so far.
#[derive(Default)]
pub struct Tally {
    removed: u64,
    stays: BTreeMap<Stays, u64>,
    problems: Vec<String>,
    more_problems: u64,
    /// Names that went and are not in the journal yet.
    gone: Vec<HostText>,
}

impl Tally {
    /// Counts something that went.
    pub fn gone(&mut self, candidate: &Candidate, count: u64) {
        self.removed += count;
        self.gone.push(candidate.name.clone());
    }

    /// Counts something of which a part went.
    pub fn partly(&mut self, candidate: &Candidate, count: u64, why: &str) {
        self.removed += count;
        self.problem(&candidate.name, why);
    }

    /// Counts something that stays.
    pub fn stays(&mut self, why: Stays) {
        *self.stays.entry(why).or_default() += 1;
    }

    /// Tells of something that could not be done.
    pub fn problem(&mut self, name: &HostText, why: &str) {
        if self.problems.len() < TOLD {
            self.problems.push(format!("{name}: {why}"));
        } else {
            self.more_problems += 1;
        }
    }

    /// Adds what another thread did.
    pub fn add(&mut self, other: Self) {
        self.removed += other.removed;
        for (why, count) in other.stays {
            *self.stays.entry(why).or_default() += count;
        }
        let room = TOLD.saturating_sub(self.problems.len());
        self.more_problems += other.more_problems + other.problems.len().saturating_sub(room) as u64;
        self.problems.extend(other.problems.into_iter().take(room));
        self.gone.extend(other.gone);
    }

    fn staying(&self) -> String {
        let parts: Vec<String> = self.stays.iter().map(|(why, count)| format!("{count} {why}")).collect();
        parts.join(", ")
    }

    fn outcome(mut self) -> Result<Outcome, NotDone> {
        if self.more_problems > 0 {
            self.problems.push(format!("and {} more like these", self.more_problems));
        }
        let staying = self.staying();
        let count = self.removed;
        match (count, self.problems.is_empty(), staying.is_empty()) {
            (0, true, true) => {
                Err(NotDone::Skip("everything that the plan names is gone already".to_owned()))
            }
            (0, true, false) => Err(NotDone::Skip(format!("what the plan names stays: {staying}"))),
            (0, false, _) => Err(NotDone::Fail(self.problems.join("; "))),
            (_, true, true) => Ok(Outcome::Done { count }),
            (_, _, false) => {
                self.problems.insert(0, format!("stays: {staying}"));
                Ok(Outcome::Partly { count, problems: self.problems })
            }
            (_, false, true) => Ok(Outcome::Partly { count, problems: self.problems }),
        }
    }
}

/// Sweeps a directory.
pub fn dir(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    sweep: &Sweep,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, NotDone> {
    if session.clock_before.is_some_and(|before| (clock() - before).abs() > JUMP_SECS) {
        return Err(NotDone::Skip(
            "The clock jumped by more than a day since the last run, so ages cannot be trusted. If the clock is correct now, \
             run the sweep again."
                .to_owned(),
        ));
    }
    let rule = SweepRule {
        ages: sweep.ages,
        keep: sweep.keep.clone(),
        also: sweep.also.clone(),
        own_root: sweep.own_root,
    };
    let around = session.around();
    let protect = session.context.protect;
    let place = Place::open(&session.context.probe(), (path, planned), &rule, protect, &around)
        .map_err(NotDone::Skip)?;
    let figures = rustix::fs::fstatvfs(place.top())
        .map_err(|errno| NotDone::Fail(could_not("look at its file system", errno)))?;
    let mut budget =
        session.context.bounds.budget(planned.key.dev, figures.f_blocks.saturating_mul(figures.f_frsize));
    let mut run = Run { place, began: Instant::now(), clock: clock(), tally: Tally::default() };
    let (files, stopped) = sweep.within(&mut budget);
    run.tally.problems.extend(stopped);
    let cancelled = run.all(session, &files, progress);
    session.context.bounds.put_back(planned.key.dev, budget);
    session.note_gone(std::mem::take(&mut run.tally.gone));
    if cancelled {
        return Ok(Outcome::Cancelled { count: run.tally.removed });
    }
    run.tally.outcome()
}

struct Run {
    place: Place,
    began: Instant,
    /// Wall clock minus the time since boot, in seconds, when the sweep began.
    clock: i64,
    tally: Tally,
}

impl Run {
    /// Removes all of them. True if it was cancelled.
    fn all(
        &mut self,
        session: &mut Session<'_>,
        candidates: &[&Candidate],
        progress: &mut dyn FnMut(u64),
    ) -> bool {
        for some in candidates.chunks(NAMES) {
            if self.must_stop(session) {
                return session.stop().wanted();
            }
            let (files, dirs): (Vec<&Candidate>, Vec<&Candidate>) =
                some.iter().partition(|one| one.class == Class::OldFile);
            // Nothing keeps root from any of a directory; of others each is looked at whether all of it can go.
            let tally = if rustix::process::geteuid().is_root() {
                swept::remove(session, &self.place, some)
            } else {
                let mut tally = swept::remove(session, &self.place, &files);
                tally.add(swept::one_by_one(session, &self.place, &dirs));
                tally
            };
            self.tally.add(tally);
            session.note_gone(std::mem::take(&mut self.tally.gone));
            progress(self.tally.removed);
        }
        session.stop().wanted()
    }

    /// Whether a cancel, the time or the clock ends the sweep here.
    fn must_stop(&mut self, session: &Session<'_>) -> bool {
        if session.stop().wanted() {
            return true;
        }
        let why = if self.began.elapsed() > Duration::from_secs(MOST_SECS) {
            format!("stopped: one run takes {} minutes at most; run it again for the rest", MOST_SECS / 60)
        } else if (clock() - self.clock).abs() > JUMP_SECS {
            "stopped: the clock was set meanwhile, so ages cannot be trusted".to_owned()
        } else {
            return false;
        };
        self.tally.problems.push(why);
        true
    }
}
