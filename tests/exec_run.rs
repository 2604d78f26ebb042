//! Running a program of the machine as a step: what it is given, what it says, and how it is stopped.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{World, inside_own_namespaces, sh, why};
use unwedge::domain::command::{ToolCommand, ToolTarget, ToolUser};
use unwedge::domain::finding::{ActionId, Reclaim};
use unwedge::domain::op::Op;
use unwedge::domain::plan::{OnError, Plan, Risk, Step, Undo, When};
use unwedge::domain::receipt::{Outcome, Receipt};

fn plan(commands: impl IntoIterator<Item = ToolCommand>) -> Plan {
    let step = |command| Step {
        op: Op::Run { command, target: ToolTarget::Chosen },
        why: "the test wants it".to_owned(),
        group: 0,
        when: When::Always,
        guards: Vec::new(),
        on_error: OnError::Stop,
        frees: Reclaim::Nothing,
        on: None,
    };
    Plan {
        action: ActionId::Delete,
        summary: "run".to_owned(),
        risk: Risk::Routine,
        steps: commands.into_iter().map(step).collect(),
        refused: Vec::new(),
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify: Vec::new(),
        name: "run".to_owned(),
        again: None,
    }
}

fn shell(script: &str) -> ToolCommand {
    ToolCommand::new("sh", 60).args(["-c", script])
}

/// What the pasted line of a command does is what the run does.
fn touch(path: &Path) -> ToolCommand {
    ToolCommand::new("touch", 60).args(["--".as_ref(), path.as_os_str().as_encoded_bytes()])
}

#[test]
fn what_is_shown_is_what_runs() {
    let world = World::new();
    let name = |at: &str| world.path(&format!("{at} a'b\n$(x) \\ \u{e9}*"));
    let receipt = world.run(plan([touch(&name("run"))]));
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 1 });
    assert!(name("run").exists());
    let script = world.path("pasted");
    std::fs::write(&script, touch(&name("pasted")).to_string()).unwrap();
    sh(&format!("bash {}", script.display()));
    assert!(name("pasted").exists());
}

#[test]
fn nothing_from_a_directory_that_leads_into_a_users_tree_is_run() {
    if !inside_own_namespaces("nothing_from_a_directory_that_leads_into_a_users_tree_is_run") {
        return;
    }
    let world = World::new();
    let (theirs, ran, path) = (world.path("theirs"), world.path("ran"), world.path("path"));
    std::fs::create_dir(&theirs).unwrap();
    for name in ["touch", "only-there"] {
        std::fs::write(theirs.join(name), format!("#!/bin/sh\n: > {}\n", ran.display())).unwrap();
    }
    sh(&format!(
        "mount -t tmpfs -o mode=755 none /usr/local; mkdir /usr/local/bin; ln -s {0} /usr/local/sbin; \
         chmod 755 {0}/*; chown -R 1000 {0}; PATH=/usr/local/sbin:$PATH; only-there; rm {1}",
        theirs.display(),
        ran.display()
    ));
    let receipt =
        world.run(plan([touch(&world.path("touched")), shell(&format!("echo $PATH > {}", path.display()))]));
    assert!(receipt.is_clean() && world.path("touched").exists(), "{receipt:?}");
    assert!(!ran.exists(), "theirs was run");
    let path = std::fs::read_to_string(path).unwrap();
    assert_eq!(path.trim_end(), "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let receipt = world.run(plan([ToolCommand::new("only-there", 60)]));
    let why = why(&receipt);
    assert!(why.contains("/usr/local/sbin/only-there is not run"), "{why}");
    // The first directory on the way that is not root's alone: the temporary one, here.
    assert!(why.contains("can be changed by") || why.contains("belongs to user 1000"), "{why}");
    assert!(!ran.exists(), "theirs was run");
}

#[test]
fn a_complaint_is_told_and_the_rest_does_not_run() {
    let world = World::new();
    let after = world.path("after");
    let receipt = world.run(plan([shell("echo the daemon is away >&2; exit 3"), touch(&after)]));
    assert_eq!(why(&receipt), "sh says: the daemon is away");
    assert!(!after.exists() && !receipt.is_clean());
    let missing = world.run(plan([ToolCommand::new("no-such-program-here", 60)]));
    assert!(why(&missing).contains("not installed"), "{missing:?}");
}

#[test]
fn one_that_is_late_is_killed_and_that_is_told() {
    let world = World::new();
    let mut command = shell("exec sleep 1000");
    command.deadline_secs = 1;
    let receipt = world.run(plan([command]));
    assert!(why(&receipt).contains("had not ended after 1 s and was killed"), "{receipt:?}");
}

#[test]
fn a_cancelled_run_kills_it_and_starts_nothing_more() {
    let world = World::new();
    let (ready, after) = (world.path("ready"), world.path("after"));
    let script = format!("touch {}; exec sleep 1000", ready.display());
    let receipt = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ready.exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
            world.cancel.store(true, Ordering::Relaxed);
        });
        world.run(plan([shell(&script), touch(&after)]))
    });
    let Outcome::Interrupted { why, cancelled: true } = &receipt.steps[0].outcome else {
        panic!("{receipt:?}")
    };
    assert!(why.starts_with("cancelled while sh was at work: it was ended (TERM)"), "{why}");
    assert_eq!(receipt.steps[1].outcome, Outcome::Cancelled { count: 0 });
    assert!(!after.exists());
}

/// Waits until something holds; the machine may be slow.
fn until(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a plan and does something once a file is there.
fn meanwhile(world: &World, plan: Plan, there: &Path, then: impl FnOnce() + Send) -> Receipt {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until("the program is at work", || there.exists());
            then();
        });
        world.run(plan)
    })
}

fn is_gone(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    // What is dead and not yet reaped by its new parent does nothing more.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

#[test]
fn a_skipped_program_ends_with_all_it_started_and_the_next_step_runs() {
    let world = World::new();
    let (ready, pid, after) = (world.path("ready"), world.path("pid"), world.path("after"));
    let script = format!("sleep 1000 & echo $! > {}; touch {}; wait", pid.display(), ready.display());
    let mut steps = plan([shell(&script), touch(&after)]);
    for step in &mut steps.steps {
        step.on_error = OnError::Continue;
    }
    let receipt = meanwhile(&world, steps, &ready, || world.skip.ask(0));
    let Outcome::Interrupted { why, cancelled: false } = &receipt.steps[0].outcome else {
        panic!("{receipt:?}")
    };
    assert!(why.starts_with("skipped by you while sh was at work: it was ended (TERM)"), "{why}");
    assert_eq!(receipt.steps[1].outcome, Outcome::Done { count: 1 });
    assert!(after.exists() && !receipt.is_clean());
    until("its child ends", || is_gone(&pid));
}

#[test]
fn one_that_does_not_listen_is_killed() {
    let world = World::new();
    let ready = world.path("ready");
    let script = format!("trap '' TERM; touch {}; while :; do sleep 0.1; done", ready.display());
    let receipt = meanwhile(&world, plan([shell(&script)]), &ready, || {
        world.cancel.store(true, Ordering::Relaxed);
    });
    let Outcome::Interrupted { why, cancelled: true } = &receipt.steps[0].outcome else {
        panic!("{receipt:?}")
    };
    assert!(why.contains("was killed"), "{why}");
}

/// What stops something, what works meanwhile, what starts it again, and what comes after.
fn recipe(world: &World, work: ToolCommand) -> Plan {
    let commands =
        [touch(&world.path("stopped")), work, touch(&world.path("started")), touch(&world.path("after"))];
    let mut plan = plan(commands);
    for (step, group) in plan.steps.iter_mut().zip([0, 1, 0, 2]) {
        step.group = group;
    }
    plan.steps[2].when = When::Restores;
    plan
}

#[test]
fn a_cancelled_run_starts_again_what_it_had_stopped() {
    let world = World::new();
    let ready = world.path("ready");
    let work = shell(&format!("touch {}; exec sleep 1000", ready.display()));
    let receipt =
        meanwhile(&world, recipe(&world, work), &ready, || world.cancel.store(true, Ordering::Relaxed));
    assert!(matches!(receipt.steps[1].outcome, Outcome::Interrupted { cancelled: true, .. }), "{receipt:?}");
    assert_eq!(receipt.steps[2].outcome, Outcome::Done { count: 1 });
    let note = receipt.steps[2].note.as_ref().unwrap();
    assert!(note.contains("takes back"), "{note}");
    assert_eq!(receipt.steps[3].outcome, Outcome::Cancelled { count: 0 });
    assert!(world.path("started").exists() && !world.path("after").exists());
}

#[test]
fn what_was_stopped_starts_again_after_a_failure_and_only_if_it_was_stopped() {
    let world = World::new();
    let receipt = world.run(recipe(&world, shell("exit 1")));
    assert!(matches!(receipt.steps[1].outcome, Outcome::Failed { .. }), "{receipt:?}");
    assert!(receipt.steps[2].note.is_some() && world.path("started").exists());
    assert!(!world.path("after").exists());
    // All well: it is a step like the others.
    let world = World::new();
    let receipt = world.run(recipe(&world, shell("exit 0")));
    assert!(receipt.is_clean() && receipt.steps[2].note.is_none(), "{receipt:?}");
    assert!(world.path("started").exists() && world.path("after").exists());
    // Cancelled before anything was stopped.
    let world = World::new();
    world.cancel.store(true, Ordering::Relaxed);
    let receipt = world.run(recipe(&world, shell("exit 0")));
    assert_eq!(receipt.steps[2].outcome, Outcome::Cancelled { count: 0 });
    assert!(!world.path("started").exists());
}

#[test]
fn no_cancel_stops_what_starts_it_again() {
    let world = World::new();
    let (ready, go) = (world.path("ready"), world.path("go"));
    let mut plan = recipe(&world, shell("exit 0"));
    let start = shell(&format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done; touch {}",
        ready.display(),
        go.display(),
        world.path("started").display()
    ));
    plan.steps[2].op = Op::Run { command: start, target: ToolTarget::Chosen };
    let receipt = meanwhile(&world, plan, &ready, || {
        world.cancel.store(true, Ordering::Relaxed);
        std::fs::write(&go, "").unwrap();
    });
    assert_eq!(receipt.steps[2].outcome, Outcome::Done { count: 1 });
    assert!(world.path("started").exists() && !world.path("after").exists());
}

#[test]
fn it_runs_as_the_user_with_the_home_that_the_plan_says() {
    let world = World::new();
    if !common::is_root() {
        return;
    }
    let home = world.path("home of nobody");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    sh(&format!("chmod 711 {}", world.dir.display()));
    let user = ToolUser { name: Some("nobody".into()), uid: 65534, gid: 65534, home: home.clone().into() };
    let receipt = world.run(plan([shell("id -G > \"$HOME/groups\"").as_user(user)]));
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 1 });
    assert_eq!(std::fs::metadata(home.join("groups")).unwrap().uid(), 65534);
    assert_eq!(std::fs::read_to_string(home.join("groups")).unwrap(), "65534\n", "root's groups were kept");
}

#[test]
fn without_root_another_user_is_out_of_reach_and_the_line_is_told() {
    let mut world = World::new();
    world.environment.uid = 1000;
    let user = ToolUser { name: Some("nobody".into()), uid: 65534, gid: 65534, home: "/".into() };
    let receipt = world.run(plan([shell("exit 0").as_user(user)]));
    assert!(why(&receipt).contains("sudo -u nobody -H sh -c 'exit 0'"), "{receipt:?}");
}
