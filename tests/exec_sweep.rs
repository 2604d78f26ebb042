//! Sweeping an over-full directory: what is old and nobody's goes, everything else stays.
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
#[path = "common/filesystems.rs"]
mod filesystems;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{World, inside_mount_namespace, leftovers, sh, why};
use unwedge::actions::Request;
use unwedge::domain::plan::Risk;
use unwedge::domain::receipt::{Outcome, Receipt};
use unwedge::domain::sweep::{Stays, SweepRule};

fn sweep(world: &World, path: &Path) -> Receipt {
    world.run(world.plan(&Request::Sweep(vec![world.to_sweep(path)])))
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// A process that ends with the test, and keeps no pipe of it open.
struct Sleeper(Child);

impl Sleeper {
    fn start(command: &mut Command) -> Self {
        Self(command.arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// A process that has it open, with whatever lock the file has: our own files are not looked at.
fn hold(file: File) -> Sleeper {
    Sleeper::start(Command::new("/bin/sleep").stdin(file))
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_is_old_and_unused_goes_and_all_else_stays() {
    if !inside_mount_namespace("what_is_old_and_unused_goes_and_all_else_stays") {
        return;
    }
    let mut world = World::new();
    let point = world.path("temp");
    filesystems::mount("ext4", &point, 64);
    let at = |name: &str| point.join(name);
    fs::set_permissions(&point, fs::Permissions::from_mode(0o1777)).unwrap();
    for file in ["old", "open", "kept-1", "touched", "young", "written", "of-root", "protected"] {
        fs::write(at(file), b"x").unwrap();
    }
    for dir in [
        "empty",
        "full/sub",
        "mixed",
        "holds-open",
        "stood-in/sub",
        "holds-fifo",
        "root-dir",
        "holds-root/dir",
        ".snap",
        "systemd-private-7-x",
        "young-dir",
        "store/sub",
        "mounted-on/sub",
        "young-empty",
    ] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    for file in
        ["full/a", "full/sub/b", "mixed/old", "mixed/new", "holds-open/f", "root-dir/f", "store/sub/f"]
    {
        fs::write(at(file), b"x").unwrap();
    }
    symlink("nowhere", at("old-link")).unwrap();
    sh(&format!("mkfifo {0}/fifo {0}/holds-fifo/fifo; mknod {0}/null c 1 3", point.display()));
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"];
    let library = library.into_iter().find(|path| Path::new(path).exists()).unwrap();
    fs::copy(library, at("mapped.so")).unwrap();
    sh(&format!(
        "chown -hR 1000:1000 {0}/*; chown -R 0:0 {0}/root-dir {0}/holds-root/dir {0}/of-root",
        point.display()
    ));
    filesystems::age(&point, &["young", "mixed/new", "young-dir", "young-empty"]);

    // A time that somebody sets is not believed alone.
    sh(&format!("touch -a -m -d 2001-01-01 {}", at("touched").display()));
    fs::write(at("written"), b"again").unwrap();
    let open = hold(File::open(at("open")).unwrap());
    let held = hold(File::open(at("holds-open/f")).unwrap());
    let mapper = Sleeper::start(Command::new("/bin/sleep").env("LD_PRELOAD", at("mapped.so")));
    let stander = Sleeper::start(Command::new("/bin/sleep").current_dir(at("stood-in/sub")));
    let maps = format!("/proc/{}/maps", mapper.0.id());
    while !fs::read_to_string(&maps).unwrap().contains("mapped.so") {
        std::thread::yield_now();
    }
    sh(&format!("mount -t tmpfs none {}", at("mounted-on/sub").display()));
    world.protect(&at("store/sub"));
    world.protect(&at("protected"));
    world.settings.sweep.keep = vec!["kept-*".to_owned()];

    let before = names(&point);
    let receipt = sweep(&world, &point);
    let after = names(&point);
    let gone: Vec<&str> = before.difference(&after).map(String::as_str).collect();
    assert_eq!(gone, ["empty", "full", "of-root", "old", "old-link"], "{receipt:?}");
    // full: itself, sub, and two files.
    assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 8 }, "{receipt:?}");
    let mut went: Vec<String> = receipt.steps[0].gone.iter().map(ToString::to_string).collect();
    went.sort();
    assert_eq!(went, gone);
    assert_eq!(leftovers(&point), Vec::<String>::new());
    for file in ["mixed/old", "mixed/new", "holds-open/f", "root-dir/f", "store/sub/f", "holds-fifo/fifo"] {
        assert!(at(file).symlink_metadata().is_ok(), "{file}");
    }
    sh(&format!("umount {}", at("mounted-on/sub").display()));
    drop((open, held, mapper, stander));

    // What was in use is not any more; the rest stays for ever.
    let receipt = sweep(&world, &point);
    let last = names(&point);
    let gone: Vec<&str> = after.difference(&last).map(String::as_str).collect();
    assert_eq!(gone, ["holds-open", "mapped.so", "mounted-on", "open", "stood-in"], "{receipt:?}");
    let third = world.plan(&Request::Sweep(vec![world.to_sweep(&point)]));
    assert!(third.is_empty() && third.refused[0].why.contains("2 directories of root"), "{third:?}");
    assert_eq!(names(&point), last);
}

#[test]
fn what_is_in_use_stays_on_overlayfs_where_leases_do_not_tell_all() {
    if !inside_mount_namespace("what_is_in_use_stays_on_overlayfs_where_leases_do_not_tell_all") {
        return;
    }
    let world = World::new();
    let disk = world.path("disk");
    filesystems::mount("ext4", &disk, 64);
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"];
    let library = library.into_iter().find(|path| Path::new(path).exists()).unwrap();
    for layer in ["lower", "upper"] {
        fs::create_dir(disk.join(layer)).unwrap();
        for name in ["old", "open", "written"] {
            fs::write(disk.join(format!("{layer}/{layer}-{name}")), b"x").unwrap();
        }
        fs::copy(library, disk.join(format!("{layer}/{layer}-mapped.so"))).unwrap();
    }
    fs::create_dir(disk.join("work")).unwrap();
    filesystems::age(&disk, &[]);
    let point = world.path("temp");
    fs::create_dir(&point).unwrap();
    let (shown, disk) = (point.display(), disk.display());
    let layers = format!("noatime,lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work");
    sh(&format!("mount -t overlay -o {layers} none {shown}"));
    let open = ["lower", "upper"].map(|layer| File::open(point.join(format!("{layer}-open"))).unwrap());
    // Opened by another process, and mapped by one that has closed it.
    let mut users = Vec::new();
    for layer in ["lower", "upper"] {
        let copy = point.join(format!("{layer}-mapped.so"));
        let mapper = Sleeper::start(Command::new("/bin/sleep").env("LD_PRELOAD", &copy));
        let maps = format!("/proc/{}/maps", mapper.0.id());
        while !fs::read_to_string(&maps).unwrap().contains("mapped.so") {
            std::thread::yield_now();
        }
        users.push(mapper);
        let file = File::open(point.join(format!("{layer}-written"))).unwrap();
        users.push(Sleeper(Command::new("/bin/sleep").arg("1000").stdin(file).spawn().unwrap()));
    }
    let receipt = sweep(&world, &point);
    // What is in the lower layer would be copied up when it is set aside, and its space would not come back: it stays.
    let lower = ["lower-mapped.so", "lower-old", "lower-open", "lower-written"];
    let upper = ["upper-mapped.so", "upper-open", "upper-written"];
    assert_eq!(names(&point), lower.into_iter().chain(upper).map(str::to_owned).collect(), "{receipt:?}");
    drop((open, users));
    let receipt = sweep(&world, &point);
    assert_eq!(names(&point), lower.map(str::to_owned).into(), "{receipt:?}");
    assert!(format!("{:?}", receipt.steps).contains("lower-old: it is of a lower layer"), "{receipt:?}");
    let copied = fs::read_dir(world.path("disk/upper")).unwrap().count();
    assert_eq!(copied, 0, "nothing was copied up");
    sh(&format!("umount {shown}"));
}

#[test]
fn a_run_takes_a_fifth_of_the_file_system_at_most() {
    if !inside_mount_namespace("a_run_takes_a_fifth_of_the_file_system_at_most") {
        return;
    }
    let world = World::new();
    let point = world.path("temp");
    filesystems::mount("ext4", &point, 64);
    let dir = point.join("dir");
    fs::create_dir(&dir).unwrap();
    for number in 0..20 {
        fs::write(dir.join(format!("f{number}")), vec![1; 1 << 20]).unwrap();
    }
    filesystems::age(&point, &[]);
    let (mut runs, mut left) = (0, 20);
    while left > 0 {
        let receipt = sweep(&world, &dir);
        let now = names(&dir).len();
        assert!(left - now <= 12 && now < left, "{left} to {now}: {receipt:?}");
        if now > 0 {
            let Outcome::Partly { problems, .. } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
            assert!(problems[0].contains("20 %"), "{problems:?}");
        }
        (runs, left) = (runs + 1, now);
    }
    assert!(runs >= 2);
}

#[test]
fn a_fresh_file_is_never_swept_whatever_the_settings_say() {
    let mut world = World::new();
    world.settings.sweep.file_hours = 0;
    let dir = world.path("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), b"x").unwrap();
    sh(&format!("touch -d 2001-01-01 {}", dir.join("f").display()));
    let young = world.plan(&Request::Sweep(vec![world.to_sweep(&dir)]));
    assert!(young.is_empty() && young.refused[0].why.contains("1 young"), "{young:?}");
    assert!(dir.join("f").exists());
}

/// Makes a plan, lets something happen, and runs it. Says what went, and what was said.
fn after(world: &World, point: &Path, happens: impl FnOnce()) -> (Vec<String>, String) {
    let before = names(point);
    let plan = world.plan(&Request::Sweep(vec![world.to_sweep(point)]));
    assert!(!plan.is_empty(), "{plan:?}");
    happens();
    let receipt = world.run(plan);
    let now = names(point);
    let said = match &receipt.steps[0].outcome {
        Outcome::Partly { problems, .. } => problems.join("; "),
        other => format!("{other:?}"),
    };
    (before.difference(&now).cloned().collect(), said)
}

#[test]
fn what_changed_since_the_plan_stays() {
    if !inside_mount_namespace("what_changed_since_the_plan_stays") {
        return;
    }
    let mut world = World::new();
    let disk = world.path("disk");
    filesystems::mount("ext4", &disk, 64);
    let point = disk.join("temp");
    let at = |name: &str| point.join(name);
    let make = || {
        for dir in ["grown", "swapped", "plain", "locked", "secret", "entered/sub"] {
            fs::create_dir_all(at(dir)).unwrap();
            fs::write(at(dir).join("f"), b"x").unwrap();
        }
        for file in ["replaced", "touched", "opened", "now-kept", "old"] {
            fs::write(at(file), b"x").unwrap();
        }
        sh(&format!("chown -R 1000:1000 {}", point.display()));
        filesystems::age(&disk, &[]);
    };
    fs::create_dir(&point).unwrap();
    make();
    let mut held = Vec::new();
    let (gone, said) = after(&world, &point, || {
        fs::write(at("grown/new"), b"x").unwrap();
        fs::rename(at("swapped"), disk.join("away")).unwrap();
        fs::create_dir(at("swapped")).unwrap();
        fs::write(at("new"), b"precious").unwrap();
        fs::rename(at("new"), at("replaced")).unwrap();
        sh(&format!("touch -d 2001-01-01 {}", at("touched").display()));
        held.push(hold(File::open(at("opened")).unwrap()));
        let locked = File::open(at("locked")).unwrap();
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockShared).unwrap();
        held.push(hold(locked));
        fs::write(at("secret/id_rsa"), b"key").unwrap();
        sh(&format!("mount -t tmpfs none {}", at("entered/sub").display()));
    });
    assert_eq!(gone, ["now-kept", "old", "plain"], "{said}");
    for part in ["2 young", "1 in use", "1 locked", "1 mounted", "2 changed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(at("replaced")).unwrap(), b"precious");
    assert_eq!(leftovers(&point), Vec::<String>::new());
    sh(&format!("umount {}; rm -r {}", at("entered/sub").display(), disk.join("away").display()));
    held.clear();

    // The directory itself: a link, another one, protected by now.
    sh(&format!("rm -r {}/*", point.display()));
    make();
    let moved = disk.join("moved");
    let (gone, said) = after(&world, &point, || {
        fs::rename(&point, &moved).unwrap();
        symlink("moved", &point).unwrap();
    });
    assert!(gone.is_empty() && said.contains("link"), "{said}");
    fs::remove_file(&point).unwrap();
    fs::rename(&moved, &point).unwrap();
    let plan = world.plan(&Request::Sweep(vec![world.to_sweep(&point)]));
    fs::rename(&point, &moved).unwrap();
    fs::create_dir(&point).unwrap();
    assert!(why(&world.run(plan.clone())).contains("changed"));
    fs::remove_dir(&point).unwrap();
    fs::rename(&moved, &point).unwrap();
    world.protect(&point);
    assert!(why(&world.run(plan)).contains("protected"));
    assert_eq!(names(&point).len(), 11);
}

/// The incident: an over-full /tmp with everything a user's, or everything root's.
fn incident(point: &Path, owner: u32) -> [Sleeper; 2] {
    let at = |name: &str| point.join(name);
    fs::set_permissions(point, fs::Permissions::from_mode(0o1777)).unwrap();
    for number in 0..133 {
        fs::write(at(&format!("file-{number:03}")), b"x").unwrap();
    }
    for number in 0..556 {
        fs::create_dir(at(&format!("dir-{number:03}"))).unwrap();
        // Every other one is empty.
        if number % 2 == 0 {
            fs::write(at(&format!("dir-{number:03}/f")), b"x").unwrap();
        }
    }
    for number in 0..20 {
        fs::write(at(&format!("young-{number:02}")), b"x").unwrap();
    }
    fs::write(at("must-stay.tar"), b"x").unwrap();
    fs::write(at("in-use"), b"x").unwrap();
    for dir in ["locked", "ssh-XXXX12", "tmux-1000", "clone/.git"] {
        fs::create_dir_all(at(dir)).unwrap();
        fs::write(at(dir).join("f"), b"x").unwrap();
    }
    fs::write(at("deploy.key"), b"x").unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("a.sock")).unwrap());
    drop(std::os::unix::net::UnixListener::bind(at("ssh-XXXX12/agent.1")).unwrap());
    sh(&format!("chown -hR {owner}:{owner} {}/*", point.display()));
    let young: Vec<String> = (0..20).map(|number| format!("young-{number:02}")).collect();
    let young: Vec<&str> = young.iter().map(String::as_str).collect();
    filesystems::age(point, &young);
    let in_use = hold(File::open(at("in-use")).unwrap());
    let lock = File::open(at("locked")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    [in_use, hold(lock)]
}

#[test]
fn exactly_the_right_entries_of_the_incident_go_whoever_owns_them() {
    if !inside_mount_namespace("exactly_the_right_entries_of_the_incident_go_whoever_owns_them") {
        return;
    }
    for owner in [1000, 0] {
        let mut world = World::new();
        world.settings.sweep.keep = vec!["must-stay*".to_owned()];
        let point = world.path("temp");
        filesystems::mount("ext4", &point, 64);
        world.settings.temp.dirs = vec![point.to_str().unwrap().to_owned()];
        let held = incident(&point, owner);
        let before = names(&point);
        let stays = |own_root: bool| {
            let rule = SweepRule { own_root, ..unwedge::probe::sweep::rule_of(&world.settings) };
            world.to_sweep_by(&point, Some(rule))
        };
        let target = stays(false);
        let list = target.list.value().unwrap();
        let counts: Vec<(Stays, u64)> = list.staying().iter().map(|one| (one.why, one.count)).collect();
        let counted = |why| counts.iter().find(|(known, _)| *known == why).map_or(0, |(_, count)| *count);
        let of_root = if owner == 0 { 557 } else { 0 };
        assert_eq!(counted(Stays::OfRoot), of_root, "{counts:?}");
        assert_eq!(counted(Stays::Precious), if owner == 0 { 1 } else { 2 }, "{counts:?}");
        for (why, count) in [(Stays::Young, 20), (Stays::InUse, 1), (Stays::Locked, 1), (Stays::Special, 1)] {
            assert_eq!(counted(why), count, "{why}: {counts:?}");
        }
        // The kept one, lost+found, and what ssh-agent and tmux made.
        assert_eq!(counted(Stays::Kept), 4, "{counts:?}");
        let plan = world.plan(&Request::Sweep(vec![target]));
        assert_eq!(plan.risk, Risk::Disruptive);
        let again = plan.again.clone().unwrap().to_string();
        assert!(
            again.starts_with("unwedge sweep ") && again.ends_with("--older 1d --older-dirs 2d"),
            "{again}"
        );
        let receipt = world.run(plan);
        let gone: Vec<String> = before.difference(&names(&point)).cloned().collect();
        let dirs = if owner == 0 { 0 } else { 556 };
        assert_eq!(gone.len(), 133 + dirs, "{receipt:?}");
        assert!(gone.iter().all(|name| name.starts_with("file-") || name.starts_with("dir-")));
        let delta = &receipt.swept[0];
        let left = delta.after.value().unwrap();
        assert_eq!(delta.before.entries - left.entries, 133 + dirs as u64);
        assert_eq!((delta.before.old_files, left.old_files), (134, 1), "the key is old and left out");

        // With the switch, those of root go that nobody uses and nobody's name protects.
        if owner == 0 {
            let plan = world.plan(&Request::Sweep(vec![stays(true)]));
            assert!(plan.again.clone().unwrap().to_string().ends_with(" --own-root"));
            let receipt = world.run(plan);
            assert_eq!(receipt.steps[0].outcome, Outcome::Done { count: 556 + 278 }, "{receipt:?}");
        }
        let mut left = names(&point);
        left.retain(|name| !name.starts_with("young-"));
        let expected = [
            "a.sock",
            "clone",
            "deploy.key",
            "in-use",
            "locked",
            "lost+found",
            "must-stay.tar",
            "ssh-XXXX12",
            "tmux-1000",
        ];
        assert_eq!(left, expected.into_iter().map(str::to_owned).collect());
        drop(held);
    }
}

/// Names of the entries that are made below, each old.
const RANDOM: usize = 60;

#[test]
fn what_the_plan_names_goes_or_is_refused_with_a_reason() {
    if !inside_mount_namespace("what_the_plan_names_goes_or_is_refused_with_a_reason") {
        return;
    }
    // Chance from the time: each run tries another mixture, and the failure names it.
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut state = seed;
    let mut chance = move |below: u64| {
        // Knuth's MMIX generator (The Art of Computer Programming, volume 2, 3.3.4).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let world = World::new();
    for round in 0..4 {
        let point = world.path(&format!("temp{round}"));
        filesystems::mount("ext4", &point, 32);
        let at = |name: &str| point.join(name);
        for number in 0..RANDOM {
            let name = at(&format!("n{number}"));
            match chance(4) {
                0 => fs::create_dir(&name).unwrap(),
                1 => {
                    fs::create_dir_all(name.join("sub")).unwrap();
                    fs::write(name.join("sub/f"), b"x").unwrap();
                }
                2 => symlink("nowhere", &name).unwrap(),
                _ => fs::write(&name, b"x").unwrap(),
            }
        }
        sh(&format!("chown -hR 1000:1000 {}/*", point.display()));
        filesystems::age(&point, &[]);
        let target = world.to_sweep(&point);
        let frozen: BTreeSet<String> =
            target.list.value().unwrap().goes().map(|one| one.name.to_string()).collect();
        assert_eq!(frozen.len(), RANDOM, "seed {seed}");
        let plan = world.plan(&Request::Sweep(vec![target]));
        let mut held = Vec::new();
        let mut hindered = BTreeSet::new();
        for number in 0..RANDOM {
            let (short, path) = (format!("n{number}"), at(&format!("n{number}")));
            let meta = path.symlink_metadata().unwrap();
            match chance(6) {
                0 if !meta.is_symlink() => held.push(hold(File::open(&path).unwrap())),
                1 if meta.is_dir() => fs::write(path.join("new"), b"x").unwrap(),
                2 if !meta.is_symlink() => sh(&format!("touch {}", path.display())),
                3 if meta.is_file() => fs::write(&path, b"other").unwrap(),
                _ => continue,
            }
            hindered.insert(short);
        }
        let receipt = world.run(plan);
        let mut left = names(&point);
        left.remove("lost+found");
        assert_eq!(left, hindered, "seed {seed}: {receipt:?}");
        let went: BTreeSet<String> = receipt.steps[0].gone.iter().map(ToString::to_string).collect();
        assert_eq!(went, frozen.difference(&hindered).cloned().collect(), "seed {seed}");
        if !hindered.is_empty() {
            let Outcome::Partly { problems, .. } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
            assert!(problems[0].starts_with("stays: "), "seed {seed}: {problems:?}");
        }
        drop(held);
    }
}
