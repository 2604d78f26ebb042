//! What a sweep of a directory would take, and what stays: nothing is changed.

mod place;
mod unit;

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::{Context, Looking, answers};
use crate::config::Settings;
use crate::domain::identity::DevIno;
use crate::domain::protect::ProtectSet;
use crate::domain::reading::Reading;
use crate::domain::receipt::SweepCount;
use crate::domain::sweep::{Ages, Class, LeftOut, Staying, Stays, Sweep, SweepRule, SweepTarget};
use crate::domain::text::{HostPath, HostText};
use crate::sys::around::Around;

pub use place::{Place, Verdict};
pub use unit::{Blocked, Unit, Uses, is_locked, open_dir};

/// Problems that are told one by one.
const TOLD: usize = 10;

/// What the settings want of a sweep.
pub fn rule_of(settings: &Settings) -> SweepRule {
    let sweep = &settings.sweep;
    SweepRule {
        ages: Ages::from_hours(sweep.file_hours, sweep.empty_dir_hours, sweep.dir_hours),
        keep: Vec::new(),
        also: Vec::new(),
        own_root: false,
    }
}

/// Looks at a directory. What is protected must be known.
pub fn look(context: &Context<'_>, target: &SweepTarget, protect: &ProtectSet) -> Reading<Sweep> {
    let rule = target.rule.clone().unwrap_or_else(|| rule_of(context.settings));
    if let Err(why) = answers(context, target.path.as_path(), Looking::Into) {
        return Reading::Unavailable { why };
    }
    let around = super::chosen::around(context);
    let place = match Place::open(context, (&target.path, &target.id), &rule, protect, &around) {
        Ok(place) => place,
        Err(why) => return Reading::Unavailable { why },
    };
    let mut found = Found::default();
    let mut uses = Seen { around: &around };
    let mut buffer = vec![MaybeUninit::uninit(); 256 << 10];
    let mut entries = RawDir::new(place.top(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::INTR) => continue,
            Err(errno) => {
                let why =
                    format!("{} cannot be read to its end: {}", target.path, super::temp_dirs::reason(errno));
                return Reading::Unavailable { why };
            }
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        found.sweep.entries += 1;
        found.take(name, place.judge(name, protect, &around, &mut uses), &rule);
    }
    Reading::ready(found.into_sweep(&rule))
}

/// What was in a swept directory before, and what is there now of that: names are looked up, nothing is judged anew.
pub fn count(path: &HostPath, sweep: &Sweep) -> (SweepCount, Reading<SweepCount>) {
    let known: HashMap<&[u8], Class> =
        sweep.candidates.iter().map(|one| (one.name.as_bytes(), one.class)).collect();
    let mut before = SweepCount { entries: sweep.entries, ..SweepCount::default() };
    for class in known.values() {
        before.add(*class);
    }
    let entries = match std::fs::read_dir(path.as_path()) {
        Ok(entries) => entries,
        Err(error) => {
            let why = format!("{path} cannot be read: {error}");
            return (before, Reading::Unavailable { why });
        }
    };
    let mut after = SweepCount::default();
    for entry in entries.flatten() {
        after.entries += 1;
        if let Some(class) = known.get(entry.file_name().as_bytes()) {
            after.add(*class);
        }
    }
    (before, Reading::ready(after))
}

#[derive(Default)]
struct Found {
    sweep: Sweep,
    stays: BTreeMap<Stays, Staying>,
    more_problems: u64,
}

impl Found {
    fn take(&mut self, name: &CStr, verdict: Verdict, rule: &SweepRule) {
        let why = match verdict {
            Verdict::Goes(mut candidate) => {
                candidate.left_out = candidate.by_default(rule.own_root);
                if matches!(candidate.left_out, Some(LeftOut::Precious { .. }))
                    && place::names(&rule.also, name.to_bytes())
                {
                    candidate.left_out = None;
                }
                self.sweep.candidates.push(*candidate);
                return;
            }
            Verdict::Gone => return,
            Verdict::Stays(why) => why,
            Verdict::Problem(problem) => {
                if self.sweep.problems.len() < TOLD {
                    self.sweep.problems.push(format!("{}: {problem}", HostText::new(name.to_bytes())));
                } else {
                    self.more_problems += 1;
                }
                Stays::Unknown
            }
        };
        let first = || Staying { why, count: 0, example: HostText::new(name.to_bytes()) };
        self.stays.entry(why).or_insert_with(first).count += 1;
    }

    fn into_sweep(self, rule: &SweepRule) -> Sweep {
        let Self { mut sweep, stays, more_problems } = self;
        if more_problems > 0 {
            sweep.problems.push(format!("and {more_problems} more like these"));
        }
        sweep.candidates.sort_by(|a, b| a.newest.cmp(&b.newest).then_with(|| a.name.cmp(&b.name)));
        Sweep {
            ages: rule.ages,
            own_root: rule.own_root,
            keep: rule.keep.clone(),
            also: rule.also.clone(),
            stays: stays.into_values().collect(),
            ..sweep
        }
    }
}

/// Who uses what, as it was when the plan was made. When it runs the kernel is asked about each file.
struct Seen<'a> {
    around: &'a Around,
}

impl Uses for Seen<'_> {
    fn file(&mut self, dir: &std::os::fd::OwnedFd, name: &CStr, key: DevIno) -> Result<(), Blocked> {
        match self.around.uses(key) {
            Ok(true) if is_locked(dir, name) => Err(Blocked::Locked),
            Ok(true) => Err(Blocked::InUse),
            // A lease tells when it runs, whatever may be seen of other processes.
            Ok(false) | Err(_) => Ok(()),
        }
    }

    fn directory(&mut self, key: DevIno) -> Result<(), Blocked> {
        match self.around.uses(key) {
            Ok(true) => Err(Blocked::InUse),
            Ok(false) => Ok(()),
            Err(why) => Err(Blocked::Problem(why)),
        }
    }
}
