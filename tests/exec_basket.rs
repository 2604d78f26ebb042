//! Baskets: several plans agreed to once, run part by part.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use common::{World, choose, inside_mount_namespace, leftovers, sh};
use unwedge::actions::Request;
use unwedge::domain::basket::{Basket, Goal};
use unwedge::domain::consent::{Consent, ConsentError, ConsentRequest};
use unwedge::domain::plan::Plan;
use unwedge::domain::receipt::{Outcome, Standing};
use unwedge::domain::size::Bytes;
use unwedge::journal::Journal;

fn delete(world: &World, paths: &[&Path]) -> Plan {
    world.plan(&Request::Delete(paths.iter().map(|path| choose(path)).collect()))
}

fn fill(dir: &Path, files: usize) {
    fs::create_dir_all(dir).unwrap();
    for number in 0..files {
        fs::write(dir.join(format!("f{number}")), b"x").unwrap();
    }
}

#[test]
fn every_part_has_its_receipt_and_its_record_and_a_failure_stops_none_of_the_others() {
    let world = World::new();
    let (first, changed, last) = (world.path("first"), world.path("changed"), world.path("last"));
    for path in [&first, &changed, &last] {
        fs::write(path, b"old").unwrap();
    }
    let plans = vec![delete(&world, &[&first]), delete(&world, &[&changed]), delete(&world, &[&last])];
    // Another file takes the name of one of them after it was shown.
    fs::write(world.path("new"), b"new").unwrap();
    fs::rename(world.path("new"), &changed).unwrap();
    let receipt = world.run_all(Basket::new(plans, &[]), &|_| {});
    let outcomes: Vec<&Outcome> = receipt.parts.iter().map(|part| &part.steps[0].outcome).collect();
    assert!(
        matches!(outcomes[..], [Outcome::Done { .. }, Outcome::Skipped { .. }, Outcome::Done { .. }]),
        "{outcomes:?}"
    );
    assert!(!first.exists() && !last.exists());
    assert_eq!(fs::read(&changed).unwrap(), b"new");
    assert_eq!(receipt.mounts, None, "nothing was to be unmounted");
    let history = Journal::open(&world.environment, &world.settings).history();
    assert_eq!(history.value().unwrap().len(), 3, "each part is on record by itself");
}

#[test]
fn a_step_can_be_skipped_and_the_rest_goes_on() {
    let world = World::new();
    let (big, small) = (world.path("big"), world.path("small"));
    fill(&big.join("deep"), 4000);
    fill(&small, 3);
    let basket = Basket::new(vec![delete(&world, &[&big]), delete(&world, &[&small])], &[]);
    let receipt = world.run_all(basket, &|progress| {
        if progress.number == 0 && progress.done >= 1000 {
            world.skip.ask(progress.number);
        }
        assert_eq!(progress.steps, 2, "all parts together");
        assert_eq!(progress.step as u64, progress.number);
    });
    let Outcome::Partly { count, problems } = &receipt.parts[0].steps[0].outcome else {
        panic!("{:?}", receipt.parts[0].steps)
    };
    assert!(problems[0].contains("skipped by you"), "{problems:?}");
    let left = fs::read_dir(big.join("deep")).unwrap().count();
    assert_eq!(left as u64 + count, 4000, "what was not removed is under its name");
    assert!(matches!(receipt.parts[1].steps[0].outcome, Outcome::Done { count: 4 }));
    assert!(!small.exists() && receipt.standing() == Standing::Partly);
    assert_eq!(leftovers(&world.dir), Vec::<String>::new());
}

#[test]
fn a_cancelled_basket_starts_no_further_part_and_says_so_of_each() {
    let world = World::new();
    let (first, second) = (world.path("first"), world.path("second"));
    fill(&first, 2000);
    fill(&second, 3);
    let basket = Basket::new(vec![delete(&world, &[&first]), delete(&world, &[&second])], &[]);
    let receipt = world.run_all(basket, &|progress| {
        if progress.done >= 500 {
            world.cancel.store(true, Ordering::Relaxed);
        }
    });
    assert_eq!(receipt.standing(), Standing::Cancelled);
    assert_eq!(receipt.parts[1].steps[0].outcome, Outcome::Cancelled { count: 0 });
    assert_eq!(fs::read_dir(&second).unwrap().count(), 3);
}

#[test]
fn the_riskiest_part_decides_what_is_typed() {
    let world = World::new();
    let (one, two) = (world.path("one"), world.path("two"));
    fs::write(&one, b"1").unwrap();
    fs::write(&two, b"2").unwrap();
    let alone = Basket::new(vec![delete(&world, &[&one])], &[]);
    assert_eq!(alone.consent_request(), ConsentRequest::Name("one".to_owned()));
    let both = Basket::new(vec![delete(&world, &[&one]), delete(&world, &[&two])], &[]);
    assert_eq!(both.consent_request(), ConsentRequest::Name("run 2".to_owned()));
    let (both, error) = both.approve(&Consent::Key).unwrap_err();
    assert!(matches!(error, ConsentError::Mismatch { .. }));
    assert!(both.approve(&Consent::Typed("run 2".to_owned())).is_ok());
    let (_, error) = Basket::default().approve(&Consent::Key).unwrap_err();
    assert_eq!(error, ConsentError::Empty);
}

#[test]
fn parts_run_until_the_goal_is_reached_and_what_comes_back_is_what_was_promised() {
    if !inside_mount_namespace("parts_run_until_the_goal_is_reached_and_what_comes_back_is_what_was_promised")
    {
        return;
    }
    let world = World::new();
    let small = world.path("small");
    fs::create_dir(&small).unwrap();
    sh(&format!("mount -t tmpfs -o size=32m none {}", small.display()));
    let (first, second) = (small.join("first"), small.join("second"));
    fs::write(&first, vec![1; 20 << 20]).unwrap();
    fs::write(&second, vec![2; 8 << 20]).unwrap();
    let mut basket = Basket::new(vec![delete(&world, &[&first]), delete(&world, &[&second])], &[]);
    basket.goal = Some(Goal { mount_point: small.as_path().into(), bytes: Bytes(16 << 20) });
    let promised = basket.parts[0].reclaim.bounds().0;
    let receipt = world.run_all(basket, &|_| {});
    assert!(!first.exists() && second.exists(), "the second was not needed");
    assert_eq!(receipt.parts.len(), 1);
    assert_eq!(receipt.not_needed.len(), 1);
    let (freed, promised) = (receipt.freed().0, promised.0);
    assert!(freed.abs_diff(promised) * 20 <= promised, "promised {promised}, freed {freed}");
}
