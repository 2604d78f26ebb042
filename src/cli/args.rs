//! The command line. One source for parser, help and man page.

use std::ffi::OsString;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::{Args as ClapArgs, CommandFactory as _, Parser, Subcommand, ValueEnum};

use super::change::How;
use crate::config::{ScanMethod, SweepSettings};
use crate::domain::size::Bytes;
use crate::domain::sweep::{Ages, SweepRule, parse_age};

/// See what fills the disk and wedges the build, why, and what to do about it.
#[derive(Debug, Parser)]
#[command(
    name = "unwedge",
    version,
    override_usage = "unwedge [OPTIONS] [PATH]\n       unwedge [--config FILE] [--set KEY=VALUE] <COMMAND>",
    group = clap::ArgGroup::new("report").args(["audit", "health"]),
    after_help = "Exit codes: 0 nothing found, 1 warnings, 2 critical, 3 could not tell (with --audit, --health, scan, snapshot and diff); \
                  reclaim: 0 reached, 1 not reached or not all done, 3 could not tell; \
                  fix, sweep and delete: 0 done, 1 not all done, 3 could not tell; \
                  64 wrong command line, 66 path cannot be scanned or snapshot not used, 69 no terminal, 74 output not written, \
                  78 wrong configuration."
)]
pub struct Args {
    /// The directory to look at [default: / for the console, every local file system with --audit].
    pub path: Option<PathBuf>,

    /// Print a report instead of opening the console. Needs no terminal.
    #[arg(long)]
    pub audit: bool,

    /// Print what of the program works on this machine: each probe, each layer of the kernel, each program it asks.
    #[arg(long, conflicts_with = "audit")]
    pub health: bool,

    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "report")]
    pub format: Format,

    /// Also read this configuration file, after /etc/unwedge/config.toml and ~/.config/unwedge/config.toml.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Change one setting for this run, for example `filesystem.warn_percent=70`.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,

    /// Worker threads of the scanner [default: as many as there are CPUs, more while they wait for the disk].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// Memory that the tree of a scan may take, for example `64MiB` [default: half of what the machine can spare].
    /// Beyond it files are counted, but not listed.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,

    /// What else to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Args {
    /// Reads the command line, the name of the program first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let args = Self::try_parse_from(arguments)?;
        let wrong = |why: &str| Err(Self::command().error(ErrorKind::ArgumentConflict, why));
        if args.command.is_none() {
            return Ok(args);
        }
        let of_console = args.path.is_some()
            || args.audit
            || args.health
            || args.threads.is_some()
            || args.max_memory.is_some();
        if of_console {
            return wrong(
                "before a command only --config and --set can stand; what else it takes comes after it",
            );
        }
        // Those after the command replace those before it, which nobody would expect.
        let options = arguments.iter().take_while(|argument| *argument != "--");
        let given = options
            .filter(|argument| *argument == "--set" || argument.as_encoded_bytes().starts_with(b"--set="));
        if given.count() > args.set.len() {
            return wrong("--set stands before the command or after it, not both");
        }
        Ok(args)
    }
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what takes space below a directory: totals, the largest files and directories, and how it was read.
    Scan {
        /// The directory.
        path: PathBuf,
        /// How many of the largest files and directories to name.
        #[arg(long, value_name = "N", default_value_t = 10)]
        top: usize,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// How to read it [default: the setting scan.method].
        #[arg(long, value_enum)]
        method: Option<Method>,
        /// Worker threads [default: as many as there are CPUs, more while they wait for the disk].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        threads: Option<u16>,
        /// Memory that the tree may take, for example `64MiB` [default: half of what the machine can spare]. Beyond
        /// it files are counted, but not listed.
        #[arg(long, value_name = "SIZE")]
        max_memory: Option<ByteSize>,
    },
    /// Print everything about one finding: what, why it matters, the evidence, what to do.
    Explain {
        /// Its id, as reports and the console show it.
        id: String,
        /// Scan this directory, for findings that need a scan [default: every local file system, for such findings].
        path: Option<PathBuf>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Scan a directory and keep what takes space in it, for unwedge diff to compare with later. In the directory
    /// snapshots beside the journal, unless a file is named.
    Snapshot {
        /// The directory.
        #[arg(default_value = "/")]
        path: PathBuf,
        /// The file to write; it must not exist.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// How to print what was kept.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print what grew, shrank, came and went below a directory since a snapshot, what grew most first.
    Diff {
        /// The snapshot to compare with, or the directory whose newest snapshot is taken [default: /].
        old: Option<PathBuf>,
        /// A newer snapshot, or the directory to scan now [default: the directory that the snapshot is of].
        new: Option<PathBuf>,
        /// How many changes of each kind to name as text; JSON has all.
        #[arg(long, value_name = "N", default_value_t = 20)]
        top: usize,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Free so much space on one file system by the safest steps that reach it: those that lose nothing first, of these
    /// the cheapest to have again. Shows them and asks before anything is changed. Never takes what loses data.
    Reclaim {
        /// How much, for example 8G or 500M (binary units, as df -h shows them) or 8GB (decimal).
        #[arg(value_parser = goal)]
        goal: Bytes,
        /// Any path on the file system where it is wanted [default: the fullest one that is too full, else that of /].
        #[arg(long, value_name = "PATH")]
        on: Option<PathBuf>,
        /// The most that may be risked.
        #[arg(long, value_enum, default_value_t = MostRisk::Routine)]
        max_risk: MostRisk,
        /// Only print the exact commands and what they give back. Exit code 0 where the goal is reached by them, else 1.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask. Needed where there is no terminal.
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// How to print it. JSON carries the plan, and what came of it where it was run.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Do what is offered about one finding. Shows it and asks before anything is changed.
    Fix {
        /// Its id, as reports and the console show it.
        id: String,
        /// Scan this directory, for findings that need a scan [default: every local file system, for such findings].
        path: Option<PathBuf>,
        /// What to do, if there are several things, by its name in reports [default: what is offered first].
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        #[command(flatten)]
        run: Run,
        /// How to print it. JSON carries the plan, and what came of it if it was run.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Remove what is old from one directory: files, empty directories, and other directories as a whole. What is in use,
    /// locked, named by a keep list or looks precious stays, and so do sockets and, where everybody can write, directories of
    /// root. Shows every class and asks before anything is changed.
    Sweep {
        /// The directory.
        dir: PathBuf,
        #[command(flatten)]
        rule: SweepOptions,
        #[command(flatten)]
        run: Run,
        /// How to print it. JSON carries every name, and what came of it if it was run.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Delete files and directories with every guard of the console. Shows what that is and asks for the name to be typed.
    Delete {
        /// What to delete.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Only show what would be deleted.
        #[arg(long)]
        dry_run: bool,
        /// How to print it. JSON asks nobody, so it needs --dry-run.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Put back what runs have set aside or moved to another file system, and say of the others why nothing can be put
    /// back. Shows it and asks before anything is changed.
    Undo {
        /// Only this run, by its id in history.
        run: Option<String>,
        /// Only say what would be put back.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask. Needed where there is no terminal.
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print what was done on this machine with what came of each step, oldest first.
    History {
        /// Only the last run.
        #[arg(long)]
        last: bool,
        /// Also each name that went of a directory that was swept. JSON has them always.
        #[arg(long)]
        names: bool,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// Whether a change is run, and whether somebody is asked.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Run {
    /// Only show what would run. Exit code 0 if there is something to do, or nothing at all; 1 if all of it was refused; 3 if it
    /// could not be looked at.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask. Needed where there is no terminal. Never agrees to what loses data.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

impl Run {
    /// The same with how it is printed.
    pub fn how(self, format: Format) -> How {
        How { dry_run: self.dry_run, yes: self.yes, format }
    }
}

/// What a sweep takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct SweepOptions {
    /// Files and empty directories that no time stamp calls younger than this, for example 12h, 3d or 2w [default: what
    /// the settings say].
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older: Option<u64>,
    /// Empty directories older than this [default: as --older].
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_empty: Option<u64>,
    /// Other directories, if nothing in them is younger than this [default: what the settings say].
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_dirs: Option<u64>,
    /// A name that stays, with * and ?, beside those of sweep.keep.
    #[arg(long, value_name = "GLOB")]
    keep: Vec<String>,
    /// A name that goes although it looks precious (keys, passwords, databases, version control), with * and ?. Loses data.
    #[arg(long, value_name = "GLOB")]
    also: Vec<String>,
    /// Also directories of root where everybody can write, if they are old as a whole and unused.
    #[arg(long)]
    own_root: bool,
}

impl SweepOptions {
    /// These where they are given, else the settings.
    pub fn over(&self, settings: &SweepSettings) -> SweepRule {
        let of_settings = Ages::from_hours(settings.file_hours, settings.empty_dir_hours, settings.dir_hours);
        SweepRule {
            ages: Ages {
                file_secs: self.older.unwrap_or(of_settings.file_secs),
                empty_dir_secs: self.older_empty.or(self.older).unwrap_or(of_settings.empty_dir_secs),
                dir_secs: self.older_dirs.unwrap_or(of_settings.dir_secs),
            },
            keep: self.keep.clone(),
            also: self.also.clone(),
            own_root: self.own_root,
        }
    }
}

/// A size that is wanted.
fn goal(text: &str) -> Result<Bytes, String> {
    Bytes::wanted(text)
}

/// The most that `reclaim` may risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MostRisk {
    /// Only what regenerates itself.
    Routine,
    /// Also what interrupts work or must be built again.
    Disruptive,
}

/// How a file system is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// A whole ext4 file system from its device if that can be opened, all else by ordinary calls.
    Auto,
    /// By ordinary calls.
    Calls,
    /// From the device, or not at all.
    Raw,
}

impl From<Method> for ScanMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto,
            Method::Calls => Self::Calls,
            Method::Raw => Self::Raw,
        }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
