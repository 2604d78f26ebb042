//! The processes of the machine, read once for all probes of one snapshot.
//!
//! Half a dozen probes ask who runs, and by what name. Each for itself reads the same four files of each process again,
//! and on a machine with thousands of them that is most of the time that a snapshot takes.
//!
//! The list is of the moment of the first question. A process may have ended since: what is read of it later fails then,
//! as it does for one that ends between any two reads. Nothing that is measured between two moments is taken from here
//! (bytes written), and nothing that is checked right before a change.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::Context;
use crate::domain::identity::Pid;
use crate::sys::process_dir::{self, ProcessDir};
use crate::sys::procfs::{Proc, Stat};

/// The processes of a snapshot, once somebody has asked for them.
#[derive(Debug, Default)]
pub(super) struct Once(OnceLock<Result<Arc<Processes>, String>>);

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// State, parent, start and more.
    pub(super) stat: Stat,
    /// Its cgroups as `/proc/PID/cgroup` lists them (cgroups(7)); empty if they could not be read.
    pub(super) cgroup: Vec<u8>,
}

impl Process {
    /// Whether it is a program that runs: no thread of the kernel, and not one that only waits to be reaped.
    pub(super) fn is_program(&self) -> bool {
        !self.stat.is_kernel_thread() && !self.stat.is_dead()
    }
}

/// What a process runs.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// The path of its program; none if it may not be looked into, or has none.
    pub(super) exe: Option<Vec<u8>>,
    /// Its arguments; empty if its first thread has ended. May hold secrets: never shown as they are.
    pub(super) arguments: Vec<Vec<u8>>,
}

/// All processes that could be seen, those included that have ended and wait to be reaped.
#[derive(Debug)]
pub(super) struct Processes {
    proc: Proc,
    read_at: Option<f64>,
    all: BTreeMap<Pid, Process>,
    commands: OnceLock<BTreeMap<Pid, Command>>,
}

/// The processes, as they were when first asked for; read now if the probes of this context share nothing.
///
/// # Errors
/// A sentence: `/proc` cannot be listed.
pub(super) fn processes(context: &Context<'_>) -> Result<Arc<Processes>, String> {
    let read = || Processes::read(context.proc()).map(Arc::new);
    match context.shared {
        Some(shared) => shared.processes.0.get_or_init(read).clone(),
        None => read(),
    }
}

impl Processes {
    fn read(proc: Proc) -> Result<Self, String> {
        let pids = proc.pids().map_err(|error| error.to_string())?;
        let read_at = proc.uptime().ok();
        let (parts, _) = process_dir::for_all(&pids, None, Vec::new, |found, pid, scratch| {
            let Ok(dir) = ProcessDir::open(&proc, pid) else { return };
            let Some(stat) = dir.stat(scratch) else { return };
            let cgroup = dir.read("cgroup", scratch).map(<[u8]>::to_vec).unwrap_or_default();
            found.push((pid, Process { stat, cgroup }));
        });
        let all = parts.into_iter().flatten().collect();
        Ok(Self { proc, read_at, all, commands: OnceLock::new() })
    }

    /// When they were read, in seconds since boot; none if that is not known.
    pub(super) fn read_at(&self) -> Option<f64> {
        self.read_at
    }

    /// Each of them, in the order of their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = &Process> {
        self.all.values()
    }

    /// Those that run a program and could be asked for their arguments, in the order of their numbers. Threads of the kernel
    /// run none.
    ///
    /// The arguments lie in the memory of a process, and one whose memory is locked lets everybody wait who asks for them
    /// (`get_mm_cmdline`, fs/proc/base.c): they are read apart from the rest, at the first question.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&Process, &Command)> {
        let commands = self.commands.get_or_init(|| self.read_commands());
        commands.iter().filter_map(|(pid, command)| Some((self.all.get(pid)?, command)))
    }

    fn read_commands(&self) -> BTreeMap<Pid, Command> {
        let pids: Vec<Pid> =
            self.all().filter(|process| process.is_program()).map(|process| process.stat.pid).collect();
        let (parts, _) = process_dir::for_all(&pids, None, Vec::new, |found, pid, scratch| {
            let Ok(dir) = ProcessDir::open(&self.proc, pid) else { return };
            let Ok(arguments) = dir.arguments(scratch) else { return };
            found.push((pid, Command { exe: dir.exe_path().ok(), arguments }));
        });
        parts.into_iter().flatten().collect()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures are written")]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::probe::Shared;
    use crate::probe::tests::Surroundings;

    /// A `/proc` with some processes.
    struct World {
        root: tempfile::TempDir,
        surroundings: Surroundings,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let surroundings = Surroundings::fixture(root.path());
            Self { root, surroundings }
        }

        fn process(&self, pid: i32, state: char, flags: u64, threads: u64, arguments: &[&str]) {
            let dir = self.root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&dir).unwrap();
            let stat =
                format!("{pid} (x) {state} 1 1 1 0 -1 {flags} 0 0 0 0 1 2 3 4 20 0 {threads} 0 7 0 0\n");
            fs::write(dir.join("stat"), stat).unwrap();
            fs::write(dir.join("cgroup"), "0::/x\n").unwrap();
            let line: String = arguments.iter().flat_map(|argument| [argument, "\0"]).collect();
            fs::write(dir.join("cmdline"), line).unwrap();
        }

        fn list(&self) -> Arc<Processes> {
            processes(&self.surroundings.context()).unwrap()
        }
    }

    fn pids<'p>(processes: impl Iterator<Item = &'p Process>) -> Vec<i32> {
        processes.map(|process| process.stat.pid.0).collect()
    }

    #[test]
    fn kernel_threads_and_the_dead_run_no_program_and_one_without_its_first_thread_does() {
        let world = World::new();
        world.process(12, 'S', 0, 1, &["make", "all"]);
        world.process(2, 'S', 0x0020_0000, 1, &[]);
        world.process(13, 'Z', 0, 1, &[]);
        world.process(14, 'Z', 0, 3, &[]);
        world.process(15, 'S', 0, 1, &["gone", "halfway"]);
        fs::remove_file(world.root.path().join("proc/15/cmdline")).unwrap();
        fs::create_dir_all(world.root.path().join("proc/16")).unwrap();
        fs::write(world.root.path().join("proc/16/stat"), "no such format").unwrap();
        let list = world.list();
        assert_eq!(pids(list.all()), [2, 12, 13, 14, 15]);
        assert_eq!(pids(list.all().filter(|process| process.is_program())), [12, 14, 15]);
        assert_eq!(pids(list.programs().map(|(process, _)| process)), [12, 14]);
        let commands: Vec<&Command> = list.programs().map(|(_, command)| command).collect();
        assert_eq!(commands[0].arguments, [b"make".to_vec(), b"all".to_vec()]);
        assert!(commands[0].exe.is_none() && commands[1].arguments.is_empty());
        let first = list.all().nth(1).unwrap();
        assert_eq!((first.cgroup.as_slice(), first.stat.cpu_ticks), (&b"0::/x\n"[..], 1 + 2 + 3 + 4));
    }

    #[test]
    fn what_ends_between_two_looks_is_gone_and_no_error() {
        let world = World::new();
        world.process(7, 'S', 0, 1, &["make"]);
        world.process(8, 'S', 0, 1, &["cargo"]);
        let list = world.list();
        fs::remove_dir_all(world.root.path().join("proc/7")).unwrap();
        assert_eq!(pids(list.all()), [7, 8]);
        assert_eq!(pids(list.programs().map(|(process, _)| process)), [8]);
        fs::remove_dir_all(world.root.path().join("proc")).unwrap();
        assert!(processes(&world.surroundings.context()).unwrap_err().contains("/proc"));
    }

    #[test]
    fn probes_that_share_look_once_and_the_others_each_for_itself() {
        let world = World::new();
        world.process(7, 'S', 0, 1, &["make"]);
        let shared = Shared::default();
        let context = Context { shared: Some(&shared), ..world.surroundings.context() };
        assert_eq!(pids(processes(&context).unwrap().all()), [7]);
        world.process(8, 'S', 0, 1, &["cargo"]);
        assert_eq!(pids(processes(&context).unwrap().all()), [7]);
        assert_eq!(pids(world.list().all()), [7, 8]);
    }

    #[test]
    fn a_process_with_several_threads_is_listed_once_with_its_program() {
        let surroundings = Surroundings::real();
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let list = processes(&surroundings.context()).unwrap();
        let us = Proc::new("/proc").self_pid().unwrap();
        let tids = Proc::new("/proc").threads(us).unwrap();
        drop(stop);
        assert!(thread.join().unwrap().is_err());
        let ours: Vec<(&Process, &Command)> =
            list.programs().filter(|(process, _)| tids.contains(&process.stat.pid)).collect();
        let [(process, command)] = ours.as_slice() else { panic!("{ours:?}") };
        assert!(process.stat.pid == us && process.stat.threads > 1);
        assert_eq!(command.exe.as_deref(), Some(std::env::current_exe().unwrap().as_os_str().as_bytes()));
        let arguments: Vec<Vec<u8>> = std::env::args_os().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(command.arguments, arguments);
        assert!(list.read_at().is_some_and(|at| at > 0.0));
    }
}
