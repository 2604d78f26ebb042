//! Directories for temporary files: what they hold, and whether a directory can be created there.
//!
//! Both questions are asked in a child with a deadline: creating a directory sleeps without end on a frozen or
//! dead file system, local ones included.

use std::ffi::CString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::{Context, Silence};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{CreateTest, TempCensus, TempDir};
use crate::domain::text::HostPath;
use crate::sys::child::{Answer, Census, Created, OWN_PREFIX, Question};
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::statvfs::not_asked;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// Looks at each directory of the settings.
pub fn look(context: &Context<'_>) -> Vec<TempDir> {
    let deadline = context.deadline();
    let dirs = directories(context);
    let questions: Vec<Question> =
        dirs.iter().filter_map(|(_, place)| c_path(place).ok()).flat_map(|path| ask(context, path)).collect();
    let mut outcomes = deadline::ask_all(&questions, deadline).into_iter();
    dirs.into_iter()
        .map(|(path, place)| {
            // A path with a NUL byte was not asked about.
            let mut next = || {
                if c_path(&place).is_ok() {
                    outcomes.next().unwrap_or(Outcome::TimedOut)
                } else {
                    Outcome::NotAsked(Errno::INVAL)
                }
            };
            let (census, create, identity) = (next(), next(), next());
            TempDir {
                id: match identity {
                    Outcome::Answered(Answer::Identity(id)) => Some(id),
                    _ => None,
                },
                census: read_census(&path, census, deadline),
                create_test: read_create(&path, create, deadline),
                path,
            }
        })
        .collect()
}

/// The directories when nobody could look at them.
pub(super) fn without_answer(context: &Context<'_>, silence: Silence) -> Vec<TempDir> {
    directories(context)
        .into_iter()
        .map(|(path, _)| TempDir {
            path,
            id: None,
            census: silence.reading(context.deadline()),
            create_test: silence.reading(context.deadline()),
        })
        .collect()
}

/// Each directory as it is named, and where it is.
fn directories(context: &Context<'_>) -> Vec<(HostPath, PathBuf)> {
    context
        .settings
        .temp
        .dirs
        .iter()
        .map(|dir| (HostPath::from(dir.as_str()), context.environment.rooted(dir)))
        .collect()
}

fn ask(context: &Context<'_>, path: CString) -> [Question; 3] {
    let millis = context.settings.probe.deadline_ms;
    [
        Question::Census {
            path: path.clone(),
            old_before: context.now.as_second().saturating_sub(DAY),
            // A directory with millions of entries is what this looks for: count on when there is no time left
            // to look at each entry's times, and answer before the deadline.
            stat_millis: millis / 2,
            count_millis: millis / 5 * 4,
        },
        Question::Create { path: path.clone(), name: unused_name() },
        Question::Identity { path, follow: false },
    ]
}

/// A name that nothing else has. From the standard library's randomly keyed hasher.
pub(super) fn unused_name() -> CString {
    let number = RandomState::new().build_hasher().finish();
    CString::new(format!("{OWN_PREFIX}{}-{number:016x}", std::process::id())).unwrap_or_default()
}

fn read_census(path: &HostPath, outcome: Outcome, deadline: Duration) -> Reading<TempCensus> {
    match outcome {
        Outcome::Answered(Answer::Census(census)) => {
            Reading::with_missing(figures(&census), gaps(path, &census))
        }
        other => no_answer(path, other, deadline),
    }
}

fn figures(census: &Census) -> TempCensus {
    TempCensus {
        entries: census.entries,
        older_than_day: census.old,
        directory_size: Bytes(census.directory_size),
        inodes_used: census.inodes.saturating_sub(census.inodes_free),
        inodes: census.inodes,
    }
}

fn gaps(path: &HostPath, census: &Census) -> Vec<String> {
    let mut missing = Vec::new();
    if census.cut_short {
        missing.push(format!("{path} has more entries: counting stopped at {}", census.entries));
    }
    if census.unaged > 0 {
        missing.push(format!("the age of {} entries of {path} is not known", census.unaged));
    }
    missing
}

fn read_create(path: &HostPath, outcome: Outcome, deadline: Duration) -> Reading<CreateTest> {
    match outcome {
        Outcome::Answered(Answer::Create(Created::Works(micros))) => {
            Reading::ready(CreateTest::Works { micros })
        }
        Outcome::Answered(Answer::Create(Created::NotCreated(error))) => {
            Reading::ready(CreateTest::Fails { why: reason(error), errno: error.raw_os_error() })
        }
        Outcome::Answered(Answer::Create(Created::NotRemoved(error))) => Reading::ready(CreateTest::Fails {
            why: format!(
                "a directory could be created but not removed: {}; remove {path}/.unwedge-probe-* by hand",
                reason(error)
            ),
            errno: error.raw_os_error(),
        }),
        other => no_answer(path, other, deadline),
    }
}

/// The system's words for an error, without the number.
pub(super) fn reason(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

pub(super) fn no_answer<T>(path: &HostPath, outcome: Outcome, deadline: Duration) -> Reading<T> {
    match outcome {
        Outcome::TimedOut => Reading::TimedOut { after: deadline.into() },
        Outcome::NotAsked(error) => Reading::Unavailable { why: not_asked(Path::new(path.as_path()), error) },
        Outcome::Answered(Answer::Failed(Errno::ACCESS | Errno::PERM)) => {
            Reading::Denied { hint: format!("{path} may not be read: run as root (sudo unwedge)") }
        }
        Outcome::Answered(Answer::Failed(Errno::NOENT)) => {
            Reading::Unavailable { why: format!("{path} does not exist") }
        }
        Outcome::Answered(Answer::Failed(Errno::NOTDIR)) => {
            Reading::Unavailable { why: format!("{path} is not a directory") }
        }
        Outcome::Answered(Answer::Failed(Errno::LOOP)) => {
            Reading::Unavailable { why: format!("{path} is a symbolic link to another symbolic link") }
        }
        Outcome::Answered(Answer::Failed(error)) => {
            Reading::Unavailable { why: format!("{path} cannot be read: {}", reason(error)) }
        }
        Outcome::Answered(
            Answer::Usage(_)
            | Answer::Identity(_)
            | Answer::Census(_)
            | Answer::Create(_)
            | Answer::Compared { .. }
            | Answer::Flushed,
        ) => Reading::Unavailable { why: format!("{path}: an answer to another question") },
    }
}
