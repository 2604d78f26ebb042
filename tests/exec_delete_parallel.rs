//! A tree that several threads empty at once: nothing is lost, counted twice, or left open.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use common::{World, choose, inside_own_namespaces, is_root, leftovers, sh};
use unwedge::actions::Request;
use unwedge::domain::receipt::Outcome;
use unwedge::sys::confine;

/// Directories side by side, each with files and a subdirectory with files.
fn wide(tree: &Path, dirs: usize, files: usize) {
    for dir in 0..dirs {
        for place in [tree.join(format!("d{dir}")), tree.join(format!("d{dir}/sub"))] {
            fs::create_dir_all(&place).unwrap();
            for file in 0..files {
                fs::write(place.join(format!("f{file}")), b"x").unwrap();
            }
        }
    }
}

fn count(tree: &Path) -> u64 {
    walkdir::WalkDir::new(tree).into_iter().map(Result::unwrap).count().try_into().unwrap()
}

/// Threads of this process that empty a tree, and how many of them have given up gaining privileges, as
/// Landlock asks for. Tests run beside each other, so only where this one is alone.
fn deleters() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let told = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    let ours: Vec<String> = told.filter(|status| status.starts_with("Name:\tdelete\n")).collect();
    (ours.len(), ours.iter().filter(|status| status.contains("NoNewPrivs:\t1")).count())
}

#[test]
fn what_cannot_be_removed_in_many_directories_is_told_and_all_else_goes() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let tree = world.path("tree");
    wide(&tree, 24, 100);
    let frozen = format!("{0}/d?/sub/f7 {0}/d1?/sub/f7", tree.display());
    sh(&format!("chattr +i {frozen}"));
    let before = count(&tree);
    let receipt = world.delete(&[&tree]);
    let left = count(&tree);
    sh(&format!("chattr -i {frozen}"));
    let Outcome::Partly { count, problems } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    // Twenty files, the two directories above each, and the top.
    assert_eq!((left, *count), (20 * 3 + 1, before - left));
    assert_eq!(problems.len(), 11, "{problems:?}");
    assert!(problems[0].starts_with("f7: ") && problems[0].contains("immutable"), "{problems:?}");
    assert_eq!(problems[10], "and 10 more");
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
    assert_eq!(world.delete(&[&tree]).steps[0].outcome, Outcome::Done { count: left });
}

#[test]
fn a_cancelled_delete_of_many_directories_counts_what_went_and_the_next_run_ends_it() {
    let world = World::new();
    let tree = world.path("tree");
    wide(&tree, 40, 100);
    let mut left = count(&tree);
    for stop in [1, 700, 3000] {
        let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
        let receipt =
            world.run_with(plan, &|progress| world.cancel.store(progress.done >= stop, Ordering::Relaxed));
        let Outcome::Cancelled { count: gone } = receipt.steps[0].outcome else { panic!("{receipt:?}") };
        assert!(gone >= stop);
        assert_eq!(count(&tree), left - gone, "after {stop}");
        left -= gone;
        assert_eq!(leftovers(&world.dir), Vec::<String>::new());
        world.cancel.store(false, Ordering::Relaxed);
    }
    assert_eq!(world.delete(&[&tree]).steps[0].outcome, Outcome::Done { count: left });
}

#[test]
fn deep_branches_never_take_more_than_64_open_directories() {
    let world = World::in_memory();
    let tree = world.path("tree");
    for branch in 0..24 {
        let mut dir = tree.join(format!("b{branch}"));
        for level in 0..90 {
            fs::create_dir_all(dir.join("x")).unwrap();
            for file in 0..8 {
                fs::write(dir.join(format!("f{file}")), b"").unwrap();
            }
            dir.push(format!("d{}", level % 3));
        }
    }
    let before = count(&tree);
    let most = Cell::new(0);
    let receipt = world.run_with(world.plan(&Request::Delete(vec![choose(&tree)])), &|_| {
        let open = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|fd| {
                fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to.starts_with(&world.dir))
            })
            .count();
        most.set(most.get().max(open));
    });
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: before });
    // The journal is open too.
    assert!((30..=65).contains(&most.get()), "{} were open", most.get());
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn where_few_or_no_threads_can_be_started_fewer_do_the_work() {
    if !inside_own_namespaces("where_few_or_no_threads_can_be_started_fewer_do_the_work") {
        return;
    }
    // A process limit holds for everybody but root. Nobody else has this number.
    let (user, group) = (nix::unistd::Uid::from_raw(54_321), nix::unistd::Gid::from_raw(54_321));
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(group, group, group).unwrap();
    nix::unistd::setresuid(user, user, user).unwrap();
    let all = rustix::process::getrlimit(rustix::process::Resource::Nproc);
    for more in [1, 0] {
        let world = World::new();
        let tree = world.path("tree");
        wide(&tree, 20, 30);
        let before = count(&tree);
        let plan = world.plan(&Request::Delete(vec![choose(&tree)]));
        let tasks = fs::read_dir("/proc/self/task").unwrap().count();
        let limit = u64::try_from(tasks + more).unwrap();
        rustix::process::setrlimit(
            rustix::process::Resource::Nproc,
            rustix::process::Rlimit { current: Some(limit), maximum: all.maximum },
        )
        .unwrap();
        let most = Cell::new((0, 0));
        let receipt = world.run_with(plan, &|_| most.set(most.get().max(deleters())));
        rustix::process::setrlimit(rustix::process::Resource::Nproc, all).unwrap();
        assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: before }, "{receipt:?}");
        let confined = if confine::is_available() { more } else { 0 };
        assert_eq!(most.get(), (more, confined), "other threads than the limit allows, or not confined");
        assert!(!tree.exists());
    }
}
