//! Commands of this program that make a plan again: what is shown for pasting. Each runs with every guard, where a shell
//! line that seems to do the same would run with none (SAFETY.md T28).

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::finding::ActionId;
use super::sweep::Ages;
use super::text::{HostPath, shell_quote};

/// Paths of a `delete` that are still shown as one line.
const MOST_PATHS: usize = 20;

/// A command line of this program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum OwnCommand {
    /// Does what is offered first, or by this action, about a finding.
    Fix {
        /// Its id.
        finding: String,
        /// The action.
        action: ActionId,
    },
    /// Removes what is old from a directory.
    Sweep {
        /// The directory.
        dir: HostPath,
        /// What is old.
        ages: Ages,
        /// Names that stay.
        keep: Vec<String>,
        /// Names that go although they look precious.
        also: Vec<String>,
        /// Whether directories of root go too.
        own_root: bool,
    },
    /// Deletes files and directories, once their name was typed.
    Delete {
        /// Which.
        paths: Vec<HostPath>,
    },
}

impl OwnCommand {
    /// The line that deletes these; none where it would be too long to be read.
    pub fn delete(paths: Vec<HostPath>) -> Option<Self> {
        (1..=MOST_PATHS).contains(&paths.len()).then_some(Self::Delete { paths })
    }

    /// The line for somebody else than root who may use sudo(8).
    pub fn as_root(&self) -> String {
        format!("sudo {self}")
    }
}

impl fmt::Display for OwnCommand {
    /// Quoted so that it can be pasted into a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fix { finding, action } => {
                write!(f, "unwedge fix {} --action {}", shell_quote(finding.as_bytes()), action.name())
            }
            Self::Sweep { dir, ages, keep, also, own_root } => {
                write!(f, "unwedge sweep {} {}", dir.quoted(), ages.options())?;
                for (option, names) in [("--keep", keep), ("--also", also)] {
                    names
                        .iter()
                        .try_for_each(|name| write!(f, " {option} {}", shell_quote(name.as_bytes())))?;
                }
                if *own_root { f.write_str(" --own-root") } else { Ok(()) }
            }
            Self::Delete { paths } => {
                f.write_str("unwedge delete --")?;
                paths.iter().try_for_each(|path| write!(f, " {}", path.quoted()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_pasted() {
        let fix = OwnCommand::Fix { finding: "crowded-dir:/a b".to_owned(), action: ActionId::Sweep };
        assert_eq!(fix.to_string(), "unwedge fix 'crowded-dir:/a b' --action sweep");
        let ages = Ages { file_secs: 86_400, empty_dir_secs: 86_400, dir_secs: 172_800 };
        let of = |ages, own_root, keep: Vec<String>| OwnCommand::Sweep {
            dir: "/tmp".into(),
            ages,
            keep,
            also: Vec::new(),
            own_root,
        };
        let sweep = of(ages, true, vec!["a*".to_owned()]);
        assert_eq!(
            sweep.as_root(),
            "sudo unwedge sweep /tmp --older 1d --older-dirs 2d --keep 'a*' --own-root"
        );
        let ages = Ages { empty_dir_secs: 5400, ..ages };
        let sweep = of(ages, false, Vec::new());
        assert_eq!(sweep.to_string(), "unwedge sweep /tmp --older 1d --older-empty 90m --older-dirs 2d");
        let delete = OwnCommand::delete(vec![HostPath::from_bytes(b"/a b\n\xff".to_vec()), "-x".into()]);
        assert_eq!(delete.unwrap().to_string(), "unwedge delete -- $'/a b\\n\\377' -x");
        assert_eq!(OwnCommand::delete(Vec::new()), None);
    }
}
