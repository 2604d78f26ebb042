//! Keeping a name for good: the configuration file keeps its comments, nobody else's file is touched, and a run that is killed
//! leaves the old file or the new one.
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
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{World, why};
use unwedge::actions::Request;
use unwedge::config::load::{Layers, keep_list, keep_place, load};
use unwedge::domain::plan::Plan;
use unwedge::domain::reading::Reading;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::sweep::NameToKeep;
use unwedge::domain::text::HostText;

const OLD: &str = "# what I changed\n[temp]\nwarn_entries = 5 # few\n\n[sweep]\nkeep = [\n    \"build-*\", # of the builder\n]\n";

/// A world whose person has this configuration file.
fn world(text: Option<&str>) -> (World, PathBuf) {
    let mut world = World::new();
    configure(&mut world);
    let file = world.path("config/unwedge/config.toml");
    if let Some(text) = text {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    }
    (world, file)
}

fn configure(world: &mut World) {
    world.environment.config = Some(Layers {
        optional: vec![world.dir.join("config/unwedge/config.toml")],
        owners: vec![world.environment.uid],
        ..Layers::default()
    });
}

fn plan(world: &World, name: &str) -> Plan {
    let place = match keep_place(&world.environment) {
        Ok(place) => Reading::ready(place),
        Err(why) => Reading::Unavailable { why },
    };
    world.plan(&Request::KeepName(NameToKeep { name: HostText::from(name), place }))
}

fn list(world: &World) -> Vec<String> {
    keep_list(&world.environment, &world.settings).unwrap()
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn comments_owner_and_mode_stay_and_the_list_grows() {
    let (world, file) = world(Some(OLD));
    let receipt = world.run(plan(&world, "a[1]*.tmp"));
    assert!(receipt.is_clean(), "{:?}", receipt.steps);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        OLD.replace("builder\n", "builder\n    'a\\[1\\]\\*.tmp',\n")
    );
    assert_eq!(list(&world), ["build-*", "a\\[1\\]\\*.tmp"], "it holds at once");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(names_in(file.parent().unwrap()), ["config.toml"]);
    // Once more is refused.
    assert!(plan(&world, "a[1]*.tmp").refused[0].why.contains("already"));
}

#[test]
fn where_there_is_none_a_file_for_its_owner_alone_is_made() {
    let (world, file) = world(None);
    let plan = plan(&world, "x");
    assert!(plan.steps[0].why.contains("a new file"), "{}", plan.steps[0].why);
    assert!(world.run(plan).is_clean());
    assert_eq!(fs::read_to_string(&file).unwrap(), "[sweep]\nkeep = [\"x\"]\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert!(load(world.environment.config.as_ref().unwrap()).is_ok());
}

#[test]
fn a_link_and_a_file_that_others_may_write_to_are_left_alone() {
    let (world, file) = world(Some(OLD));
    let planned = plan(&world, "x");
    let real = world.path("config/real.toml");
    fs::rename(&file, &real).unwrap();
    symlink(&real, &file).unwrap();
    let receipt = world.run(planned);
    assert!(why(&receipt).contains("symbolic link"), "{:?}", receipt.steps);
    assert_eq!(fs::read_to_string(&real).unwrap(), OLD);

    fs::remove_file(&file).unwrap();
    fs::rename(&real, &file).unwrap();
    let planned = plan(&world, "x");
    fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let receipt = world.run(planned);
    assert!(why(&receipt).contains("written by others"), "{:?}", receipt.steps);
    assert_eq!(fs::read_to_string(&file).unwrap(), OLD);
}

#[test]
fn a_directory_on_the_way_that_is_a_link_is_not_followed() {
    let (world, file) = world(Some(OLD));
    let planned = plan(&world, "x");
    let (dir, away) = (file.parent().unwrap(), world.path("away"));
    fs::rename(dir, &away).unwrap();
    symlink(&away, dir).unwrap();
    let receipt = world.run(planned);
    assert!(matches!(receipt.steps[0].outcome, Outcome::Skipped { .. }), "{:?}", receipt.steps);
    assert_eq!(fs::read_to_string(away.join("config.toml")).unwrap(), OLD);
}

#[test]
fn a_run_that_is_killed_leaves_the_old_file_or_the_new_one() {
    const PLACE: &str = "UNWEDGE_TEST_KEPT";
    if let Some(place) = std::env::var_os(PLACE) {
        // The inner run: it adds names until it is killed.
        let mut world = World::new();
        world.dir = place.into();
        world.settings.journal.dir = format!("{}/journal", world.dir.display());
        configure(&mut world);
        for number in list(&world).len().. {
            assert!(world.run(plan(&world, &format!("name-{number}"))).is_clean());
        }
    }
    let (world, file) = world(Some(OLD));
    let mut grew = 0;
    for round in 0..12_u64 {
        let before = list(&world).len();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_run_that_is_killed_leaves_the_old_file_or_the_new_one", "--exact"])
            .env(PLACE, &world.dir)
            .env("TMPDIR", &world.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# what I changed\n") && text.contains("# of the builder"), "{text}");
        let after = list(&world);
        let expected = (1..after.len()).map(|number| format!("name-{number}"));
        assert_eq!(after, std::iter::once("build-*".to_owned()).chain(expected).collect::<Vec<_>>());
        grew += usize::from(after.len() > before);
    }
    assert!(grew > 0, "no round came so far as to write");
    // What such a run left does not stay.
    assert!(world.run(plan(&world, "last")).is_clean());
    assert_eq!(names_in(file.parent().unwrap()), ["config.toml"]);
}

#[test]
fn what_root_makes_for_a_person_belongs_to_that_person() {
    const PERSON: u32 = 1000;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (mut world, file) = world(None);
    let home = world.path("config");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(PERSON), Some(PERSON)).unwrap();
    if let Some(layers) = &mut world.environment.config {
        layers.owners.push(PERSON);
    }
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert!(world.run(plan(&world, "x")).is_clean());
    assert_eq!((owner(&file), owner(file.parent().unwrap())), (PERSON, PERSON));
    // A file that is there keeps its owner.
    std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
    assert!(world.run(plan(&world, "y")).is_clean());
    assert_eq!((owner(&file), list(&world)), (0, vec!["x".to_owned(), "y".to_owned()]));
    // Where anybody else owns a directory on the way, nothing is written.
    std::os::unix::fs::chown(&home, Some(PERSON + 1), Some(PERSON + 1)).unwrap();
    let place =
        unwedge::domain::sweep::KeepPlace { file: file.as_path().into(), new: false, list: Vec::new() };
    let wanted = NameToKeep { name: HostText::from("z"), place: Reading::ready(place) };
    let receipt = world.run(world.plan(&Request::KeepName(wanted)));
    assert!(why(&receipt).contains("belongs to uid 1001"), "{:?}", receipt.steps);
}
