//! The figures of a file system, never waiting for one that does not answer.

use std::path::Path;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};

use super::child::{self, Answer, Question};
use super::deadline::{self, Outcome, c_path};
use crate::domain::reading::Reading;
use crate::domain::snapshot::{FsClass, Usage};
use crate::domain::text::HostPath;

/// The figures of the file system at `path`: asked directly where it is local, else in a child with a deadline.
pub fn usage_of(path: &Path, class: FsClass, deadline: Duration) -> Reading<Usage> {
    match class {
        FsClass::Local => match c_path(path).and_then(|path| child::usage(&path)) {
            Ok(usage) => Reading::ready(usage),
            Err(error) => refused(path, error),
        },
        FsClass::Remote | FsClass::Fuse => usage_at(path, deadline),
    }
}

/// The figures of the file system that a path is on or was on: the path may be gone, any directory above it is as
/// good. Asked directly: for paths that were just looked at.
pub fn usage_near(path: &Path) -> Reading<Usage> {
    let mut here = path;
    loop {
        match c_path(here).and_then(|path| retry_on_intr(|| child::usage(&path))) {
            Ok(usage) => return Reading::ready(usage),
            Err(error) => match here.parent() {
                Some(above) if error == Errno::NOENT => here = above,
                _ => return refused(path, error),
            },
        }
    }
}

/// The figures of the file system at `path`, asked in a child with a deadline whatever it is.
pub fn usage_at(path: &Path, deadline: Duration) -> Reading<Usage> {
    match c_path(path) {
        Ok(c_path) => reading(path, deadline::ask(&Question::Usage { path: c_path }, deadline), deadline),
        Err(error) => refused(path, error),
    }
}

/// What an outcome says about the figures at `path`.
pub fn reading(path: &Path, outcome: Outcome, deadline: Duration) -> Reading<Usage> {
    match outcome {
        Outcome::Answered(Answer::Usage(usage)) => Reading::ready(usage),
        Outcome::Answered(Answer::Failed(error)) => refused(path, error),
        Outcome::Answered(
            Answer::Identity(_)
            | Answer::Census(_)
            | Answer::Create(_)
            | Answer::Compared { .. }
            | Answer::Flushed,
        ) => Reading::Unavailable { why: format!("{}: an answer to another question", HostPath::from(path)) },
        Outcome::TimedOut => Reading::TimedOut { after: deadline.into() },
        Outcome::NotAsked(error) => Reading::Unavailable { why: not_asked(path, error) },
    }
}

/// Why a question about `path` could not be asked, as a sentence.
pub fn not_asked(path: &Path, error: Errno) -> String {
    format!(
        "{} could not be asked in a child process ({error}): is the process limit reached? See ulimit -u",
        HostPath::from(path)
    )
}

fn refused(path: &Path, error: Errno) -> Reading<Usage> {
    let path = HostPath::from(path);
    if error == Errno::ACCESS {
        Reading::Denied { hint: format!("{path} may not be looked at: run as root (sudo unwedge)") }
    } else if error == Errno::STALE || error == Errno::NOTCONN {
        Reading::Unavailable { why: format!("{path}: its server is gone ({error}); unmount it, lazily") }
    } else {
        Reading::Unavailable { why: format!("{path} does not give its figures: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_total() {
        let wait = Duration::from_secs(20);
        let direct = usage_of(Path::new("/"), FsClass::Local, wait);
        let child = usage_at(Path::new("/"), wait);
        let (direct, child) = (direct.value().unwrap(), child.value().unwrap());
        assert_eq!((direct.total, direct.inodes), (child.total, child.inodes));
        assert!(direct.total >= direct.free && direct.free >= direct.available);
    }

    #[test]
    fn a_path_that_is_gone_is_measured_through_the_directory_above() {
        let usage = usage_near(Path::new("/proc/absent/deeper"));
        assert!(usage.value().is_some(), "{usage:?}");
    }

    #[test]
    fn a_missing_path_is_a_sentence() {
        let reading = usage_of(Path::new("/no/such"), FsClass::Local, Duration::from_secs(1));
        assert!(matches!(reading, Reading::Unavailable { why } if why.contains("/no/such")));
    }
}
