//! A container with a volume, a mounted disk image and a swap file, all of them old and in a directory for temporary
//! files, and every way in which files are removed.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::duplicate_mod,
    reason = "a test makes its own fixtures and may panic"
)]

mod common;
#[path = "common/engines.rs"]
mod engines;
#[path = "common/filesystems.rs"]
mod filesystems;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{World, inside_own_namespaces, sh};
use engines::{Dockerd, need};
use unwedge::actions::Request;
use unwedge::domain::basket::Basket;
use unwedge::domain::receipt::{Outcome, Receipt};
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::ChosenFile;
use unwedge::engine::Engine;
use unwedge::journal::Journal;

const IN_USE: [&str; 3] = ["volume", "images", "swap"];

struct Survivors<'d> {
    temp: PathBuf,
    dockerd: &'d Dockerd,
}

impl Survivors<'_> {
    #[track_caller]
    fn are_well(&self, after: &str) {
        let read = self.dockerd.run(&["exec", "user", "/bin/busybox", "cat", "/etc/app/app.conf"]);
        assert_eq!(read, "setting", "{after}");
        let inner = fs::read_to_string(self.temp.with_file_name("inner").join("file"));
        assert_eq!(inner.unwrap(), "precious", "{after}");
        let swap = self.temp.join("swap/file");
        assert!(fs::read_to_string("/proc/swaps").unwrap().contains(swap.to_str().unwrap()), "{after}");
        for name in ["volume/app.conf", "images/disk", "swap/file"] {
            assert!(self.temp.join(name).exists(), "{after}: {name}");
        }
    }

    fn litter(&self) {
        for number in 0..12 {
            let dir = self.temp.join(format!("old-{number}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), vec![1; 1 << 20]).unwrap();
        }
        let inside = |name: &str| format!("{}/{name}", self.temp.display());
        sh(&format!(
            "chown -R 1000:1000 {}",
            (0..12).map(|n| inside(&format!("old-{n} "))).collect::<String>()
        ));
    }

    fn litter_left(&self) -> usize {
        (0..12).filter(|number| self.temp.join(format!("old-{number}")).exists()).count()
    }
}

fn sweep(world: &World, path: &Path) -> Request {
    Request::Sweep(vec![world.to_sweep(path)])
}

/// None of the steps for these did anything; those that were not even planned count.
#[track_caller]
fn nothing_done(receipt: &Receipt) {
    for step in &receipt.steps {
        assert!(matches!(step.outcome, Outcome::Skipped { .. }), "{receipt:?}");
    }
}

#[test]
fn a_container_a_disk_and_swap_survive_sweep_delete_basket_and_reclaim() {
    let test = "a_container_a_disk_and_swap_survive_sweep_delete_basket_and_reclaim";
    if !need(&["dockerd", "debugfs", "mkswap"]) || !inside_own_namespaces(test) {
        return;
    }
    let world = World::new();
    let point = world.path("m");
    filesystems::mount("ext4", &point, 256);
    let temp = point.join("temp");
    let at = temp.display();
    sh(&format!(
        "mkdir -p {at}/volume {at}/images {at}/swap {0}/inner; printf setting > {at}/volume/app.conf; \
         chmod 1777 {at}; truncate -s 8M {at}/images/disk; mkfs.ext4 -q {at}/images/disk; \
         fallocate -l 4M {at}/swap/file; chmod 600 {at}/swap/file; mkswap -q {at}/swap/file",
        point.display()
    ));
    let dockerd = Dockerd::start();
    dockerd.build("user:1", 1);
    let survivors = Survivors { temp: temp.clone(), dockerd: &dockerd };
    survivors.litter();
    sh(&format!("chown -R 1000:1000 {at}/volume {at}/images; chown 1000:1000 {at}/swap"));
    filesystems::age(&point, &["inner"]);
    let volume = format!("{at}/volume:/etc/app:ro");
    dockerd.run(&[
        "run",
        "--detach",
        "--name",
        "user",
        "--network",
        "none",
        "--volume",
        &volume,
        "user:1",
        "/bin/busybox",
        "sleep",
        "1000",
    ]);
    sh(&format!(
        "mount -o loop,noatime {at}/images/disk {0}/inner; printf precious > {0}/inner/file; swapon {at}/swap/file",
        point.display()
    ));
    survivors.are_well("at first");

    let receipt = world.run(world.plan(&sweep(&world, &temp)));
    assert_eq!(survivors.litter_left(), 0, "what is old and not in use goes: {receipt:?}");
    survivors.are_well("after a sweep");

    // With the guards of the run alone.
    for name in [".", "volume", "images", "images/disk", "swap", "swap/file"] {
        let path = temp.join(name).canonicalize().unwrap();
        nothing_done(&world.delete(&[&path]));
    }
    survivors.are_well("after deletes");

    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    // With what is known when they are chosen.
    let around = engine.look_around();
    let choose = |name: &&str| -> ChosenFile {
        engine.choose_among(&around, &temp.join(name), Bytes(1), Bytes(1), 1).unwrap()
    };
    let plan = engine.plan(&Request::Delete(IN_USE.iter().map(choose).collect()), &world.snapshot());
    assert!(plan.is_empty() && plan.refused.len() == 3, "{plan:?}");
    survivors.litter();
    let litter = Request::Delete(vec![choose(&"old-0")]);
    let unguarded = IN_USE.map(|name| common::choose(&temp.join(name)));
    let plans = [sweep(&world, &temp), Request::Delete(unguarded.to_vec()), litter]
        .map(|request| world.plan(&request));
    let receipt = world.run_all(Basket::new(plans.to_vec(), &[]), &|_| {});
    assert!(!temp.join("old-0").exists(), "{receipt:?}");
    assert_eq!(survivors.litter_left(), 11, "the rest of it is young");
    survivors.are_well("after a basket");

    let temp_dirs = format!("temp.dirs=[\"{at}\"]");
    let journal = format!("journal.dir={}/journal", world.dir.display());
    let output = Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .args(["reclaim", "200M", "--on", point.to_str().unwrap(), "--max-risk", "disruptive", "--yes"])
        .args(["--set", &temp_dirs, "--set", "temp.warn_entries=1", "--set", &journal])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("200.0 MiB wanted on"), "{output:?}");
    survivors.are_well("after reclaim");

    dockerd.run(&["rm", "--force", "user"]);
    sh(&format!("swapoff {at}/swap/file; umount {}/inner", point.display()));
    for name in IN_USE {
        assert!(world.delete(&[&temp.join(name)]).is_clean(), "nothing keeps it any more: {name}");
    }
}
