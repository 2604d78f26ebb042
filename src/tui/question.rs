//! What is asked for before a plan can be made.

use crate::domain::basket::Goal;
use crate::domain::size::Bytes;
use crate::domain::sweep::parse_age;
use crate::domain::text::HostPath;

use super::effect::{Pick, Wish};

/// The age that Enter alone means.
pub const OLD: &str = "7d";

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// How much space is wanted on the file system mounted there.
    Goal(HostPath),
    /// From which age on what is in a directory goes.
    Older(Pick),
    /// How many lines of a file stay.
    LastLines {
        /// The file.
        pick: Pick,
        /// How many Enter alone means.
        usual: u64,
    },
}

impl About {
    /// An answer that would do, to be shown.
    pub fn example(&self) -> String {
        match self {
            Self::Goal(_) => "8G or 500M".to_owned(),
            Self::Older(_) => format!("{OLD}, 12h or 2w"),
            Self::LastLines { usual, .. } => format!("{usual} or another number"),
        }
    }

    /// What is planned for an answer.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn wish(&self, answer: &str) -> Result<Wish, String> {
        match self {
            Self::Goal(mount_point) => Bytes::wanted(answer)
                .map(|bytes| Wish::Reclaim(Goal { mount_point: mount_point.clone(), bytes })),
            Self::Older(pick) => {
                let secs = parse_age(if answer.trim().is_empty() { OLD } else { answer })?;
                Ok(Wish::SweepRow { pick: pick.clone(), secs })
            }
            Self::LastLines { pick, usual } => {
                let keep_lines = lines(answer, *usual)?;
                Ok(Wish::RotateRow { pick: pick.clone(), keep_lines })
            }
        }
    }
}

fn lines(answer: &str, usual: u64) -> Result<u64, String> {
    let answer = answer.trim().replace([',', '_'], "");
    if answer.is_empty() {
        return Ok(usual);
    }
    answer.parse().ok().filter(|&lines| lines > 0).ok_or_else(|| {
        format!("{answer:?} is no number of lines; give 1 or more, or delete the file instead")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_alone_means_the_usual() {
        assert_eq!(lines("", 1000), Ok(1000));
        assert_eq!(lines(" 1,500 ", 1000), Ok(1500));
        for wrong in ["0", "-1", "ten", "1.5"] {
            assert!(lines(wrong, 1000).is_err(), "{wrong}");
        }
        assert!(parse_age(OLD).is_ok());
    }
}
