//! Asks a file system a question in a forked child and waits no longer than a deadline.
//!
//! A server that is gone leaves whoever asks in an uninterruptible sleep. A forked child may stay there: it is sent KILL,
//! which takes effect if the server ever comes back, and is reaped later without waiting for it.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{self, Errno};
use rustix::pipe::{PipeFlags, pipe_with};

use super::child::{Answer, Question, WIRE_LEN};
use super::offspring::{Child, bury_the_dead};
use super::raw;

/// Children at work at one time; more questions wait for their turn within the same deadline.
const AT_ONCE: usize = 32;

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answered(Answer),
    /// None within the deadline.
    TimedOut,
    /// The question could not be asked: fork(2) or pipe(2) failed, or the child died.
    NotAsked(Errno),
}

/// A path as system calls take it.
///
/// # Errors
/// `EINVAL` where it holds a NUL byte, as no path the kernel knows does.
pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

/// Asks one question.
pub fn ask(question: &Question, deadline: Duration) -> Outcome {
    ask_all(std::slice::from_ref(question), deadline).pop().unwrap_or(Outcome::NotAsked(Errno::IO))
}

/// Asks all questions side by side. Returns when each has an outcome, at the deadline at the latest, in the order
/// of the questions.
pub fn ask_all(questions: &[Question], deadline: Duration) -> Vec<Outcome> {
    bury_the_dead();
    let until = Instant::now() + deadline;
    let mut outcomes = vec![Outcome::TimedOut; questions.len()];
    let mut waiting = questions.iter().enumerate();
    let mut at_work: Vec<(usize, Asked)> = Vec::new();
    loop {
        while at_work.len() < AT_ONCE && Instant::now() < until {
            let Some((index, question)) = waiting.next() else { break };
            match Asked::start(question) {
                Ok(asked) => at_work.push((index, asked)),
                Err(error) => set(&mut outcomes, index, Outcome::NotAsked(error)),
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if at_work.is_empty() || left.is_zero() {
            break;
        }
        wait_for_any(&at_work, left);
        let mut still = Vec::with_capacity(at_work.len());
        for (index, asked) in at_work {
            match asked.collect() {
                Ok(outcome) => set(&mut outcomes, index, outcome),
                Err(unfinished) => still.push((index, unfinished)),
            }
        }
        at_work = still;
    }
    for (_, asked) in at_work {
        asked.give_up();
    }
    outcomes
}

fn set(outcomes: &mut [Outcome], index: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(index) {
        *slot = outcome;
    }
}

fn wait_for_any(at_work: &[(usize, Asked)], left: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    let mut fds: Vec<PollFd<'_>> =
        at_work.iter().map(|(_, asked)| PollFd::new(&asked.pipe, PollFlags::IN)).collect();
    // EINTR only means another look at the clock.
    let _ = poll(&mut fds, Some(&timeout));
}

/// A question that a child is working on.
struct Asked {
    child: Child,
    /// Read end, non-blocking.
    pipe: OwnedFd,
}

impl Asked {
    fn start(question: &Question) -> io::Result<Self> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let pid = raw::fork_to_answer(question, write_end.as_fd())?;
        Ok(Self { child: Child::of(pid), pipe: read_end })
    }

    /// The outcome, if it is there; else the question again.
    fn collect(self) -> Result<Outcome, Self> {
        let mut bytes = [0; WIRE_LEN];
        let outcome = match io::read(&self.pipe, &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => return Err(self),
            Ok(WIRE_LEN) => {
                Answer::from_bytes(&bytes).map_or(Outcome::NotAsked(Errno::IO), Outcome::Answered)
            }
            // End of file: the child died without an answer, killed by somebody.
            Ok(_) => Outcome::NotAsked(Errno::IO),
            Err(error) => Outcome::NotAsked(error),
        };
        self.child.let_end();
        self.child.bury();
        Ok(outcome)
    }

    fn give_up(self) {
        self.child.kill();
        self.child.bury();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file_id;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_child_answers_as_we_would_ourselves() {
        let path = c"/usr".to_owned();
        let outcome = ask(&Question::Identity { path: path.clone(), follow: true }, LONG);
        assert_eq!(outcome, Outcome::Answered(Answer::Identity(file_id::of_path(&path, true).unwrap())));
        let missing = Question::Usage { path: c"/no/such/place".to_owned() };
        assert_eq!(ask(&missing, LONG), Outcome::Answered(Answer::Failed(Errno::NOENT)));
    }

    #[test]
    fn more_questions_than_children_all_get_their_own_answer() {
        let questions: Vec<Question> = (0..100)
            .map(|i| Question::Identity {
                path: if i % 2 == 0 { c"/usr".to_owned() } else { c"/no/such".to_owned() },
                follow: false,
            })
            .collect();
        let outcomes = ask_all(&questions, LONG);
        for (i, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Outcome::Answered(Answer::Identity(_)) => assert_eq!(i % 2, 0),
                Outcome::Answered(Answer::Failed(Errno::NOENT)) => assert_eq!(i % 2, 1),
                other => panic!("question {i}: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_asked_after_the_deadline() {
        let question = Question::Identity { path: c"/".to_owned(), follow: true };
        assert_eq!(ask(&question, Duration::ZERO), Outcome::TimedOut);
    }
}
