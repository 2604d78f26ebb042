//! Processes that a test makes and ends.

use std::process::{Child, Command};

use unwedge::domain::identity::{CommandLine, Pid};
use unwedge::domain::size::{Bytes, Percent};
use unwedge::domain::snapshot::{BuildProcess, Evidence, Verdict};
use unwedge::sys::procfs::Proc;

use super::process;

/// As the probe tells it.
pub fn describe(pid: u32) -> BuildProcess {
    let proc = Proc::new("/proc");
    let id = process(pid);
    let arguments = arguments_once_there(&proc, id.pid);
    BuildProcess {
        id,
        tool: "sleep".into(),
        command: "sleep".into(),
        parent: Pid(1),
        uid: rustix::process::geteuid().as_raw(),
        cgroup: proc.cgroup(id.pid).unwrap(),
        // Of a process with more capabilities than ours it cannot be read.
        exe: proc.exe(id.pid).ok(),
        arguments,
        age_secs: 1,
        cpu: Percent(0.0),
        memory: Bytes(0),
        verdict: Verdict::Orphan,
        evidence: vec![Evidence::new("made by the test", "the test")],
    }
}

/// A program that has just been started has no arguments for a moment: `spawn` returns as soon as the descriptors are
/// closed, and the kernel notes where the arguments lie after that (`begin_new_exec`, `create_elf_tables`).
fn arguments_once_there(proc: &Proc, pid: Pid) -> CommandLine {
    let mut line = proc.command_line(pid).unwrap();
    for _ in 0..200 {
        if line != CommandLine::default() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        line = proc.command_line(pid).unwrap();
    }
    line
}

pub fn sleeper() -> Child {
    Command::new("/bin/sleep").arg("1000").spawn().unwrap()
}

pub fn is_alive(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}
