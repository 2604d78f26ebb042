//! Ending processes: the meant one ends, no other one ever does.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use common::processes::{describe, is_alive, sleeper};
use common::{World, inside, process};
use unwedge::actions::Request;
use unwedge::domain::identity::Pid;
use unwedge::domain::receipt::Outcome;
use unwedge::sys::procfs::Proc;

/// A process that ignores TERM; it is ready when it has said so.
fn stubborn() -> Child {
    use std::io::Read;
    let mut child = Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; echo ready; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    // It keeps ignoring TERM as the program it turns into (signal(7)).
    while std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() != "sleep\n" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

#[test]
fn a_process_ends_by_term_and_is_not_killed() {
    let world = World::new();
    let mut child = sleeper();
    let receipt = world.run(world.plan(&Request::EndProcess(vec![describe(child.id())])));
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 1 });
    assert!(matches!(&receipt.steps[1].outcome, Outcome::Skipped { why } if why.contains("not needed")));
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn one_that_ignores_term_is_killed_after_the_grace_period() {
    let mut world = World::new();
    world.settings.process.grace_secs = 1;
    let mut child = stubborn();
    let receipt = world.run(world.plan(&Request::EndProcess(vec![describe(child.id())])));
    let Outcome::Skipped { why } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    assert!(why.contains("still alive after 1 s") && why.contains("the next step did it"), "{why}");
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 1 });
    assert!(receipt.is_clean());
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_cancelled_wait_does_not_go_on_to_kill() {
    let world = World::new();
    let mut child = stubborn();
    let plan = world.plan(&Request::EndProcess(vec![describe(child.id())]));
    let receipt = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            world.cancel.store(true, Ordering::Relaxed);
        });
        world.run(plan)
    });
    for step in &receipt.steps {
        assert_eq!(step.outcome, Outcome::Cancelled { count: 0 });
    }
    assert!(is_alive(&mut child));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_that_is_not_the_shown_one_is_left_alone() {
    let world = World::new();
    let mut child = sleeper();
    let right = describe(child.id());
    let mut wrong = vec![right.clone(); 4];
    wrong[0].id.start += 1;
    wrong[1].exe.as_mut().unwrap().ino.0 += 1;
    wrong[2].cgroup = "/system.slice/other.service".into();
    wrong[3].uid += 1;
    for (process, reason) in wrong.into_iter().zip(["another process", "another program", "cgroup", "user"]) {
        let receipt = world.run(world.plan(&Request::EndProcess(vec![process])));
        for step in &receipt.steps {
            assert!(matches!(step.outcome, Outcome::Skipped { .. }), "{step:?}");
        }
        assert!(common::why(&receipt).contains(reason), "{receipt:?}");
    }
    assert!(is_alive(&mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = world.run(world.plan(&Request::EndProcess(vec![right])));
    assert!(common::why(&gone).contains("ended"));
}

#[test]
fn we_our_ancestors_and_the_first_process_are_never_signalled() {
    let world = World::new();
    let us = std::process::id();
    let parent = std::os::unix::process::parent_id();
    for (pid, reason) in [(us, "this program"), (parent, "started this program"), (1, "first process")] {
        let receipt = world.run(world.plan(&Request::EndProcess(vec![describe(pid)])));
        assert!(common::why(&receipt).contains(reason), "{receipt:?}");
        assert!(matches!(receipt.steps[1].outcome, Outcome::Skipped { .. }));
    }
}

#[test]
fn a_kernel_thread_is_never_signalled() {
    let kthreadd = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if kthreadd.trim() != "kthreadd" {
        return common::skip("pid 2 is no kernel thread here (a pid namespace)");
    }
    let world = World::new();
    let mut target = describe(std::process::id());
    target.id = process(2);
    target.exe = None;
    let receipt = world.run(world.plan(&Request::EndProcess(vec![target])));
    assert!(common::why(&receipt).contains("kernel"), "{receipt:?}");
}

#[test]
fn a_reused_pid_is_not_hit() {
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc"];
    if !inside(&wrapper, "a_reused_pid_is_not_hit") {
        return;
    }
    let world = World::new();
    let mut first = sleeper();
    let planned = world.plan(&Request::EndProcess(vec![describe(first.id())]));
    let pid = first.id();
    first.kill().unwrap();
    first.wait().unwrap();
    // Clock ticks are 10 ms: within one the kernel itself could not tell them apart.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let mut innocent = (0..100)
        .find_map(|_| {
            // The next process gets the pid after this one (pid_namespaces(7)).
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let mut child = sleeper();
            if child.id() == pid {
                return Some(child);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            None
        })
        .expect("the pid could not be forced");
    let receipt = world.run(planned);
    assert!(common::why(&receipt).contains("another process now"), "{receipt:?}");
    assert!(is_alive(&mut innocent));
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

/// A shell with two sleeping children in a process group of its own; it is ready when it has said their pids.
fn group(extra: &str) -> (Child, Vec<u32>) {
    use std::io::BufRead as _;
    use std::os::unix::process::CommandExt as _;
    let script = format!("{extra} sleep 1000 & a=$!; sleep 1000 & echo $a $!; wait");
    let mut child = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let children: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    // A forked child is the shell until it has become what it is to run.
    for pid in &children {
        while std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "sleep\n" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    (child, children)
}

/// Whether a process is there and has not ended.
fn lives(pid: u32) -> bool {
    Proc::new("/proc").stat(Pid(i32::try_from(pid).unwrap())).is_ok_and(|stat| !stat.is_dead())
}

#[test]
fn a_group_ends_as_a_whole_and_a_stubborn_one_is_killed() {
    let mut world = World::new();
    let mut bystander = sleeper();
    let (mut shell, children) = group("");
    let receipt = world.run(world.plan(&Request::EndGroup(vec![describe(shell.id())])));
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 3 }, "{receipt:?}");
    assert!(receipt.is_clean());
    assert!(!children.iter().any(|pid| lives(*pid)));
    shell.wait().unwrap();

    world.settings.process.grace_secs = 0;
    let (mut shell, children) = group("trap '' TERM;");
    // The shell itself is no child of theirs; one of the children is what was chosen.
    let receipt = world.run(world.plan(&Request::EndGroup(vec![describe(children[1])])));
    assert!(receipt.is_clean(), "{receipt:?}");
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 3 }, "{receipt:?}");
    assert!(!children.iter().any(|pid| lives(*pid)));
    assert_eq!(shell.wait().unwrap().signal(), Some(9));
    assert!(is_alive(&mut bystander));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_group_with_ourselves_or_another_user_in_it_is_left_alone() {
    let world = World::new();
    // Not in a group of its own: in ours.
    let mut child = sleeper();
    let receipt = world.run(world.plan(&Request::EndGroup(vec![describe(child.id())])));
    assert!(common::why(&receipt).contains("left alone"), "{receipt:?}");
    assert!(is_alive(&mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    if !common::is_root() {
        return;
    }
    let (mut shell, children) = group("setpriv --reuid=65534 sleep 1000 &");
    let proc = Proc::new("/proc");
    let in_group = |pid: &Pid| proc.stat(*pid).is_ok_and(|stat| stat.group.0.unsigned_abs() == shell.id());
    let other = |pid: &Pid| in_group(pid) && proc.uid(*pid).is_ok_and(|uid| uid == 65534);
    while !proc.pids().unwrap().iter().any(other) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let receipt = world.run(world.plan(&Request::EndGroup(vec![describe(shell.id())])));
    assert!(common::why(&receipt).contains("another user"), "{receipt:?}");
    assert!(children.iter().all(|pid| lives(*pid)) && is_alive(&mut shell));
    let group = rustix::process::Pid::from_child(&shell);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    shell.wait().unwrap();
}

#[test]
fn a_group_with_a_cgroup_of_its_own_is_killed_through_it() {
    let test = "a_group_with_a_cgroup_of_its_own_is_killed_through_it";
    if !common::inside_mount_namespace(test) {
        return;
    }
    // Where systemd has the older hierarchies, the one that counts is elsewhere.
    common::sh("mount -t cgroup2 none /sys/fs/cgroup");
    let dir = std::path::PathBuf::from(format!("/sys/fs/cgroup/unwedge-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let mut world = World::new();
    world.settings.process.grace_secs = 0;
    let (mut shell, children) = group("trap '' TERM;");
    for pid in children.iter().chain([&shell.id()]) {
        std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let end = || world.run(world.plan(&Request::EndGroup(vec![describe(shell.id())])));
    // A file in its place: nobody dies of that, so nobody was signalled one by one.
    let stand_in = world.path("stand-in");
    std::fs::write(&stand_in, "").unwrap();
    let (from, to) = (stand_in.display(), dir.join("cgroup.kill").display().to_string());
    common::sh(&format!("mount --bind {from} {to}"));
    let receipt = end();
    assert!(matches!(receipt.steps[1].outcome, Outcome::Failed { .. }), "{receipt:?}");
    assert_eq!(std::fs::read(&stand_in).unwrap(), b"1");
    assert!(children.iter().all(|pid| lives(*pid)));
    common::sh(&format!("umount {to}"));
    let receipt = end();
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 3 }, "{receipt:?}");
    assert!(!children.iter().any(|pid| lives(*pid)));
    shell.wait().unwrap();
    while std::fs::remove_dir(&dir).is_err() {
        // The children are reaped by somebody else.
        assert!(!children.iter().any(|pid| lives(*pid)));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn another_script_of_the_same_interpreter_is_not_hit() {
    let world = World::new();
    let (first, second) = (world.path("pip"), world.path("backup"));
    std::fs::write(&first, format!("read line; exec /bin/sh {}", second.display())).unwrap();
    std::fs::write(&second, "echo started; read line").unwrap();
    let mut child =
        Command::new("/bin/sh").arg(&first).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let proc = Proc::new("/proc");
    let pid = Pid(i32::try_from(child.id()).unwrap());
    while proc.arguments(pid).unwrap().get(1).map(Vec::as_slice) != Some(first.to_str().unwrap().as_bytes()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let planned = world.plan(&Request::EndProcess(vec![describe(child.id())]));
    let group = world.plan(&Request::EndGroup(vec![describe(child.id())]));
    {
        use std::io::{Read as _, Write as _};
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    }
    for plan in [planned, group] {
        let receipt = world.run(plan);
        assert!(common::why(&receipt).contains("another command line"), "{receipt:?}");
        assert!(is_alive(&mut child));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_member_of_a_group_that_runs_another_program_by_then_is_not_killed() {
    let mut world = World::new();
    world.settings.process.grace_secs = 1;
    let ready = world.path("ready");
    let turns = "trap 'exec sleep 2000' TERM; : > \"$0\"; while :; do sleep 0.05; done";
    let (mut shell, children) =
        group(&format!("sh -c '{}' {} & trap '' TERM;", turns.replace('\'', "'\\''"), ready.display()));
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let receipt = world.run(world.plan(&Request::EndGroup(vec![describe(children[0])])));
    let Outcome::Skipped { why } = &receipt.steps[1].outcome else { panic!("{receipt:?}") };
    assert!(why.contains("runs another program now"), "{why}");
    assert!(children.iter().all(|pid| lives(*pid)) && is_alive(&mut shell));
    let group = rustix::process::Pid::from_child(&shell);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    shell.wait().unwrap();
}

#[test]
fn a_number_of_another_pid_namespace_is_not_hit() {
    const TEST: &str = "a_number_of_another_pid_namespace_is_not_hit";
    const NESTED: &str = "nested:";
    let argument = common::argument().and_then(|name| name.into_string().ok());
    let Some(number) = argument.as_deref().and_then(|name| name.strip_prefix(NESTED)) else {
        if common::inside_own_namespaces(TEST) {
            let mut shown = sleeper();
            // Its /proc stays that of the outer one.
            let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
            let exe = std::env::current_exe().unwrap();
            common::run_again(&wrapper, &exe, TEST, format!("{NESTED}{}", shown.id()));
            assert!(is_alive(&mut shown));
        }
        return;
    };
    let pid: u32 = number.parse().unwrap();
    let mut innocent = (0..100)
        .find_map(|_| {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let mut child = sleeper();
            if child.id() == pid {
                return Some(child);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            None
        })
        .expect("the pid could not be forced");
    let world = World::new();
    for request in [Request::EndProcess(vec![describe(pid)]), Request::EndGroup(vec![describe(pid)])] {
        let receipt = world.run(world.plan(&request));
        assert!(common::why(&receipt).contains("another pid namespace"), "{receipt:?}");
        assert!(is_alive(&mut innocent));
    }
    // What signals by the number that is shown hits the innocent one.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(innocent.wait().unwrap().signal(), Some(9));
}
