//! The closed list of changes this program can make to a machine.
//!
//! [`Op::words`] is the only renderer: dialog, dry run, report and journal all use it, so that what is shown cannot drift
//! from what runs. A shell line is shown only for a program of the machine ([`Op::Run`]); a line that seems to do the same
//! as one of our own changes would have none of its guards, so these are told in words, and [`super::own_command`] is what
//! can be pasted.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::command::{ToolCommand, ToolTarget};
use super::identity::{CommandLine, DevId, DevIno, FileId, MountId, NamespaceId, ProcId};
use super::logs::{InPlace, LogOwner};
use super::past::{Access, Over, Was};
use super::size::Bytes;
use super::sweep::Sweep;
use super::text::{HostPath, HostText, sanitise};

/// A signal this program sends (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Asks the process to end; it may clean up.
    Term,
    /// Ends the process without asking.
    Kill,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
        })
    }
}

/// A mount as an operand: what is compared again just before it is unmounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MountTarget {
    /// Which mount.
    pub mount: MountId,
    /// Where it is mounted, as seen in its namespace.
    pub mount_point: HostPath,
    /// What of the source is mounted.
    pub root: HostPath,
    /// The namespace it lives in.
    pub namespace: NamespaceId,
    /// A process in that namespace, or none for our own.
    pub via: Option<ProcId>,
}

/// A process as an operand: what is compared again after its pidfd is open (SAFETY.md T16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProcessTarget {
    /// Which process.
    pub id: ProcId,
    /// Its command line as shown.
    pub command: HostText,
    /// Its executable, where readable.
    pub exe: Option<DevIno>,
    /// Its whole command line, for comparison only.
    #[serde(skip)]
    pub arguments: CommandLine,
    /// Its cgroup path.
    pub cgroup: HostText,
    /// The user it runs as.
    pub uid: u32,
}

/// One change to the machine.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Remove one name of a file that is not a directory.
    RemoveFile {
        /// Where it is.
        path: HostPath,
        /// Which file.
        id: FileId,
    },
    /// Remove a directory and everything below it, staying on its mount.
    RemoveTree {
        /// Where it is.
        path: HostPath,
        /// Which directory.
        id: FileId,
        /// Entries in it when the plan was made, itself included.
        entries: u64,
    },
    /// Give back its old name to what a run that broke off had set aside. Nothing is replaced but a log that has no line
    /// that would be lost.
    PutBack {
        /// Where it is.
        from: HostPath,
        /// Where it was.
        to: HostPath,
        /// Which file.
        id: FileId,
        /// If it is a whole log: the one with its last lines that has its name. What that has beyond them is added.
        #[serde(skip_serializing_if = "Option::is_none")]
        over: Option<Over>,
    },
    /// Give back its owner and mode to a directory that a run had changed for its time.
    RestoreAccess {
        /// Where it is.
        path: HostPath,
        /// Which one.
        id: FileId,
        /// What it gets.
        access: Access,
    },
    /// Send a signal and wait for the process to end.
    Signal {
        /// To whom.
        target: ProcessTarget,
        /// Which signal.
        signal: Signal,
        /// How long to wait for the end of the process, in seconds.
        wait_secs: u64,
    },
    /// Send a signal to a process and every other member of its process group, and wait for all to end.
    SignalGroup {
        /// One of them, which is compared.
        leader: ProcessTarget,
        /// Which signal.
        signal: Signal,
        /// How long to wait for all to end, in seconds.
        wait_secs: u64,
    },
    /// Run a program of the machine and wait for its end.
    Run {
        /// Which, and how.
        command: ToolCommand,
        /// What it works on.
        target: ToolTarget,
    },
    /// Unmount.
    Unmount {
        /// What.
        target: MountTarget,
        /// Detach now and let the kernel clean up when the last user is gone (`MNT_DETACH`, umount2(2)).
        lazy: bool,
    },
    /// Remove the empty directory that a mount was mounted on.
    RemoveEmptyDir {
        /// Where it is, as seen in the namespace of the mount.
        target: MountTarget,
    },
    /// Move a file to another file system: copy, compare, then remove.
    Evacuate {
        /// Where it is.
        path: HostPath,
        /// Which file.
        id: FileId,
        /// Where it goes, its name included.
        to: HostPath,
        /// If it goes back to where it was: what it was there.
        #[serde(skip_serializing_if = "Option::is_none")]
        back: Option<Was>,
    },
    /// Remove what is old from a directory: files, empty directories, and other directories as a whole.
    Sweep {
        /// Where it is.
        path: HostPath,
        /// Which directory.
        id: FileId,
        /// What goes, each by its name and identity.
        sweep: Sweep,
    },
    /// Add a name to those that no sweep takes (`sweep.keep`), in a configuration file.
    KeepName {
        /// The file.
        file: HostPath,
        /// The name, as a pattern that means it alone.
        name: String,
    },
    /// Drop all but the last lines of a log, without losing one that is written meanwhile.
    RotateLog {
        /// Where it is.
        path: HostPath,
        /// Which file; it may have grown since.
        id: FileId,
        /// Lines that stay.
        keep_lines: u64,
        /// How, while somebody has it open.
        in_place: InPlace,
        /// Whose log it is.
        owner: LogOwner,
    },
    /// Cut a deleted file that is still open to zero bytes, through a holder's descriptor.
    TruncateDeleted {
        /// The process whose descriptor is used.
        holder: ProcId,
        /// The descriptor.
        fd: i32,
        /// Which file it must be.
        id: FileId,
        /// The name it had.
        last_path: HostPath,
        /// Space it took when the plan was made.
        allocated: Bytes,
    },
}

/// What a change is about. Two changes with the same are about the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// A file, whatever its name.
    File(DevIno),
    /// One of several names of a file.
    Name(DevIno, HostPath),
    /// A part of what is in a file or directory, which itself stays.
    Part(DevIno),
    /// A deleted file.
    Deleted(DevIno),
    /// A process.
    Process(ProcId),
    /// A mount, by its id in its namespace.
    Mount(NamespaceId, u32),
    /// The directory that a mount is on.
    MountPoint(NamespaceId, u32),
    /// A command, as it is shown.
    Command(String),
}

/// What a change is about, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// What.
    pub which: Which,
    /// Where it is and on which device; none for what is not in a directory.
    pub place: Option<(HostPath, DevId)>,
    /// Whether everything below goes with it.
    whole: bool,
}

impl Operand {
    fn of(which: Which) -> Self {
        Self { which, place: None, whole: false }
    }

    /// The directory that goes with everything below, if it is one.
    pub fn tree(&self) -> Option<(&HostPath, DevId)> {
        self.place.as_ref().filter(|_| self.whole).map(|(path, dev)| (path, *dev))
    }

    /// Whether it is known only by the command that is run.
    pub fn is_command(&self) -> bool {
        matches!(self.which, Which::Command(_))
    }
}

impl Op {
    /// What it is about.
    pub fn operand(&self) -> Operand {
        match self {
            Self::RemoveFile { path, id } => {
                let which =
                    if id.links > 1 { Which::Name(id.key, path.clone()) } else { Which::File(id.key) };
                Operand { which, place: Some((path.clone(), id.key.dev)), whole: false }
            }
            Self::RemoveTree { path, id, .. } => {
                Operand { which: Which::File(id.key), place: Some((path.clone(), id.key.dev)), whole: true }
            }
            Self::PutBack { from, id, .. } => {
                Operand { which: Which::File(id.key), place: Some((from.clone(), id.key.dev)), whole: false }
            }
            // A sweep leaves what is young, so what is in the directory does not go with it; a log keeps its last lines.
            Self::RotateLog { path, id, .. } | Self::Sweep { path, id, .. } => {
                Operand { which: Which::Part(id.key), place: Some((path.clone(), id.key.dev)), whole: false }
            }
            Self::Evacuate { path, id, .. } => {
                Operand { which: Which::File(id.key), place: Some((path.clone(), id.key.dev)), whole: false }
            }
            Self::Signal { target, .. } | Self::SignalGroup { leader: target, .. } => {
                Operand::of(Which::Process(target.id))
            }
            Self::Run { command, .. } => Operand::of(Which::Command(command.to_string())),
            // Nothing else stands in for it: not even what gives the same directory its name back.
            Self::RestoreAccess { .. } | Self::KeepName { .. } => Operand::of(Which::Command(self.words())),
            Self::Unmount { target, .. } => Operand::of(Which::Mount(target.namespace, target.mount.id)),
            Self::RemoveEmptyDir { target } => {
                Operand::of(Which::MountPoint(target.namespace, target.mount.id))
            }
            Self::TruncateDeleted { id, .. } => Operand::of(Which::Deleted(id.key)),
        }
    }
}

/// Characters of a command line that name a process.
const COMMAND: usize = 60;

/// Where a mount is, if that is not our own mount namespace.
fn elsewhere(target: &MountTarget) -> String {
    target.via.map_or_else(String::new, |process| format!(" in the mount namespace of {process}"))
}

/// A process with the beginning of its command line.
fn named(target: &ProcessTarget) -> String {
    let command = target.command.to_string();
    let mut shown: String = command.chars().take(COMMAND).collect();
    if shown.len() < command.len() {
        shown.push('…');
    }
    format!("{} ({shown})", target.id)
}

impl Op {
    /// The change in words; for a program of the machine the command line, quoted so that it can be pasted.
    pub fn words(&self) -> String {
        match self {
            Self::RemoveFile { path, .. } => format!("delete {path}"),
            Self::RemoveTree { path, .. } => format!("delete {path} and all in it"),
            Self::PutBack { to, over: None, .. } => format!("give {to} its name back, replacing nothing"),
            Self::PutBack { to, over: Some(_), .. } => {
                format!("add the lines that only {to} has to the whole log, and give that its name again")
            }
            Self::RestoreAccess { path, access: Access { uid, gid, mode }, .. } => {
                format!("give {path} back its owner and mode ({uid}:{gid}, {mode:04o})")
            }
            Self::Signal { target, signal, .. } => format!("send {signal} to {}", named(target)),
            Self::SignalGroup { leader, signal, .. } => {
                format!("send {signal} to {} and every other process of its group", named(leader))
            }
            Self::Run { command, .. } => command.to_string(),
            Self::Unmount { target, lazy: false } => {
                format!("unmount {}{}", target.mount_point, elsewhere(target))
            }
            Self::Unmount { target, lazy: true } => format!(
                "detach {}{}; it goes when its last user is gone",
                target.mount_point,
                elsewhere(target)
            ),
            Self::RemoveEmptyDir { target } => {
                format!("remove the empty directory {}{}", target.mount_point, elsewhere(target))
            }
            Self::Evacuate { path, to, back, .. } => {
                let mode = back.filter(|was| was.mode != was.given);
                let mode =
                    mode.map(|was| format!(", with its mode {:o} again", was.mode)).unwrap_or_default();
                format!("move {path} to {to}: copy, compare, then delete{mode}")
            }
            Self::Sweep { path, sweep, .. } => format!("sweep {path}: {}", sweep.words()),
            Self::KeepName { file, name } => {
                format!("add {} to sweep.keep in {file}", sanitise(name.as_bytes()))
            }
            Self::RotateLog { path, keep_lines, .. } => {
                format!("drop all but the last {keep_lines} lines of {path}")
            }
            Self::TruncateDeleted { holder, fd, last_path, .. } => {
                format!("empty the deleted {last_path} through descriptor {fd} of {holder}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_what_would_steer_a_terminal() {
        let op =
            Op::RemoveFile { path: HostPath::from_bytes(b"/tmp/a b\n\xff".to_vec()), id: FileId::default() };
        assert_eq!(op.words(), "delete /tmp/a b\\n\\xff");
    }

    #[test]
    fn a_mount_elsewhere_is_reached_through_its_process() {
        let target = MountTarget {
            mount: MountId::default(),
            mount_point: "/tmp/buildkit-mount1".into(),
            root: "/".into(),
            namespace: NamespaceId(1),
            via: Some(ProcId { pid: crate::domain::identity::Pid(812), start: 1 }),
        };
        let op = Op::Unmount { target, lazy: true };
        assert_eq!(
            op.words(),
            "detach /tmp/buildkit-mount1 in the mount namespace of pid 812; it goes when its last user is gone"
        );
    }
}
