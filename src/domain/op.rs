//! The closed list of changes this program can make to a machine.
//!
//! `Display for Op` is the only renderer: dialog, dry run, report, journal and clipboard all use it, so
//! that what is shown cannot drift from what runs. It prints the shell command that does the same, quoted
//! so that it can be pasted; the program itself never starts a shell.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::command::{ToolCommand, ToolTarget};
use super::identity::{CommandLine, DevId, DevIno, FileId, MountId, NamespaceId, ProcId};
use super::logs::{InPlace, LogOwner};
use super::size::Bytes;
use super::sweep::Ages;
use super::text::{HostPath, HostText};

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
    /// Give back its old name to what a run that broke off had set aside. Nothing is replaced.
    PutBack {
        /// Where it is.
        from: HostPath,
        /// Where it was.
        to: HostPath,
        /// Which file.
        id: FileId,
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
    },
    /// Remove what is old from a directory: files, empty directories, and other directories as a whole.
    Sweep {
        /// Where it is.
        path: HostPath,
        /// Which directory.
        id: FileId,
        /// What is old.
        ages: Ages,
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
            Self::Unmount { target, .. } => Operand::of(Which::Mount(target.namespace, target.mount.id)),
            Self::RemoveEmptyDir { target } => {
                Operand::of(Which::MountPoint(target.namespace, target.mount.id))
            }
            Self::TruncateDeleted { id, .. } => Operand::of(Which::Deleted(id.key)),
        }
    }
}

/// Prefix that runs a command in the mount namespace of the target, where that is not our own.
fn enter(target: &MountTarget) -> String {
    match target.via {
        Some(process) => format!("nsenter --mount --target {} -- ", process.pid),
        None => String::new(),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveFile { path, .. } => write!(f, "rm -- {}", path.quoted()),
            Self::RemoveTree { path, .. } => write!(f, "rm -r --one-file-system -- {}", path.quoted()),
            Self::PutBack { from, to, .. } => {
                write!(f, "mv --no-clobber --no-target-directory -- {} {}", from.quoted(), to.quoted())
            }
            Self::Signal { target, signal, .. } => write!(f, "kill -{signal} {}", target.id.pid),
            Self::SignalGroup { leader, signal, .. } => {
                write!(f, "kill -{signal} -- -$(ps -o pgid= -p {} | tr -d ' ')", leader.id.pid)
            }
            Self::Run { command, .. } => write!(f, "{command}"),
            Self::Unmount { target, lazy } => {
                let flag = if *lazy { "--lazy " } else { "" };
                write!(f, "{}umount {flag}-- {}", enter(target), target.mount_point.quoted())
            }
            Self::RemoveEmptyDir { target } => {
                write!(f, "{}rmdir -- {}", enter(target), target.mount_point.quoted())
            }
            Self::Evacuate { path, to, .. } => {
                let (path, to) = (path.quoted(), to.quoted());
                write!(
                    f,
                    "cp --preserve=all --no-clobber -- {path} {to} && cmp -- {path} {to} && rm -- {path}"
                )
            }
            Self::Sweep { path, ages, .. } => {
                let old = |secs: u64| format!("-amin +{0} -mmin +{0} -cmin +{0}", secs / 60);
                write!(
                    f,
                    "find {} -xdev -mindepth 1 -maxdepth 1 \\( \\( -type f -o -type l \\) {} -o -type d -empty {} -o -type d \
                     {} \\) -exec rm -r --one-file-system -- {{}} +",
                    path.quoted(),
                    old(ages.file_secs),
                    old(ages.empty_dir_secs),
                    old(ages.dir_secs)
                )
            }
            Self::RotateLog { path, keep_lines, in_place, .. } => {
                let (path, flag) = (path.quoted(), in_place.flag());
                write!(
                    f,
                    "fallocate {flag} --offset=0 --length=$(($(stat --format=%s -- {path}) - $(tail --lines={keep_lines} \
                     -- {path} | wc --bytes))) -- {path}"
                )
            }
            Self::TruncateDeleted { holder, fd, .. } => {
                write!(f, "truncate --size=0 /proc/{}/fd/{fd}", holder.pid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_quoted_for_a_shell() {
        let op =
            Op::RemoveFile { path: HostPath::from_bytes(b"/tmp/a b\n\xff".to_vec()), id: FileId::default() };
        assert_eq!(op.to_string(), "rm -- $'/tmp/a b\\n\\377'");
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
        assert_eq!(op.to_string(), "nsenter --mount --target 812 -- umount --lazy -- /tmp/buildkit-mount1");
    }
}
