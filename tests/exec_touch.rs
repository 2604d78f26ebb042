//! What is in use, protected or another one by now is not touched.
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
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use common::{World, argument, inside_mount_namespace, inside_own_namespaces, process, run_again, sh};
use unwedge::actions::Request;
use unwedge::domain::basket::Basket;
use unwedge::domain::receipt::Outcome;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{DeletedFile, Holder};
use unwedge::engine::Engine;
use unwedge::journal::Journal;
use unwedge::sys::file_id;

/// A file system on a loop device, mounted below the world's directory. Without birth times where it is asked for.
fn mounted(world: &World, name: &str, mkfs: &str) -> PathBuf {
    let (image, point) = (world.path(&format!("{name}.img")), world.path(name));
    fs::create_dir(&point).unwrap();
    let (image, at) = (image.display(), point.display());
    sh(&format!("truncate -s 64M {image}; mkfs.{mkfs} {image} >/dev/null 2>&1; mount -o loop {image} {at}"));
    point
}

/// Makes files or directories until one has this inode number, and removes the others.
fn with_inode(dir: &Path, wanted: u64, make: impl Fn(&Path)) -> PathBuf {
    let candidates: Vec<PathBuf> = (0..400).map(|number| dir.join(format!("next-{number}"))).collect();
    for path in &candidates {
        make(path);
        if file_id::of_fd(fs::File::open(path).unwrap()).unwrap().key.ino.0 == wanted {
            return path.clone();
        }
    }
    panic!("inode {wanted} was not given out again");
}

#[test]
fn a_deleted_file_in_the_place_of_the_one_that_was_shown_is_not_cut() {
    if !inside_mount_namespace("a_deleted_file_in_the_place_of_the_one_that_was_shown_is_not_cut") {
        return;
    }
    let world = World::new();
    // An inode of 128 bytes has no room for a birth time.
    let dir = mounted(&world, "m", "ext4 -q -I 128");
    let open = |path: &Path| {
        fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
    };
    let mut shown = open(&dir.join("shown"));
    shown.write_all(&vec![1; 1 << 20]).unwrap();
    fs::remove_file(dir.join("shown")).unwrap();
    let id = file_id::of_fd(&shown).unwrap();
    assert!(id.born.is_none() && id.generation.is_some(), "{id:?}");
    let file = DeletedFile {
        key: id.key,
        id,
        last_path: dir.join("shown").into(),
        apparent: Bytes(1 << 20),
        allocated: Bytes(1 << 20),
        holders: vec![Holder {
            process: process(std::process::id()),
            name: "test".into(),
            fd: Some(shown.as_raw_fd()),
            mapped: false,
        }],
    };
    let plan = world.plan(&Request::FreeDeleted(vec![file.clone()]));
    let number = shown.as_raw_fd();
    drop(shown);
    let path = with_inode(&dir, id.key.ino.0, |path| drop(open(path)));
    let mut next = fs::File::options().read(true).write(true).open(&path).unwrap();
    next.write_all(&vec![2; 1 << 20]).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(next.as_raw_fd(), number, "the same descriptor");
    let now = file_id::of_fd(&next).unwrap();
    // By device and inode nobody could tell.
    assert_eq!((now.key, now.links), (id.key, 0));
    let receipt = world.run(plan);
    assert!(common::why(&receipt).contains("reused for a newer file"), "{receipt:?}");
    assert_eq!(next.metadata().unwrap().len(), 1 << 20);
    // The one that is shown goes, also while it is written to.
    let plan = world.plan(&Request::FreeDeleted(vec![DeletedFile { id: now, ..file }]));
    next.write_all(&vec![3; 1 << 20]).unwrap();
    assert_eq!(world.run(plan).steps[0].outcome, Outcome::Done { count: 1 });
    assert_eq!(next.metadata().unwrap().len(), 0);
    next.rewind().unwrap();
}

#[test]
fn a_directory_in_the_place_of_the_one_that_was_shown_is_not_deleted() {
    if !inside_mount_namespace("a_directory_in_the_place_of_the_one_that_was_shown_is_not_deleted") {
        return;
    }
    let world = World::new();
    for (name, mkfs) in [("a", "ext4 -q -I 128"), ("b", "ext4 -q")] {
        let dir = mounted(&world, name, mkfs);
        let shown = dir.join("shown");
        fs::create_dir(&shown).unwrap();
        let chosen = common::choose(&shown);
        let plan = world.plan(&Request::Delete(vec![chosen.clone()]));
        fs::remove_dir(&shown).unwrap();
        let next = with_inode(&dir, chosen.id.key.ino.0, |path| fs::create_dir(path).unwrap());
        fs::write(next.join("precious"), "x").unwrap();
        fs::rename(&next, &shown).unwrap();
        assert_eq!(common::choose(&shown).id.key, chosen.id.key, "by device and inode nobody could tell");
        let receipt = world.run(plan);
        assert!(common::why(&receipt).contains("reused for a newer file"), "{mkfs}: {receipt:?}");
        assert!(shown.join("precious").exists());
        // The one that is there now can be deleted, also after something came into it.
        let plan = world.plan(&Request::Delete(vec![common::choose(&shown)]));
        fs::write(shown.join("more"), "x").unwrap();
        assert!(world.run(plan).is_clean());
        assert!(!shown.exists());
    }
}

/// A process in a mount namespace of its own that has run a script there; it lives as long as this.
struct Elsewhere(std::process::Child);

impl Elsewhere {
    /// Starts a command and waits for its first line.
    fn start(command: &[&str]) -> Self {
        use std::io::BufRead as _;
        let mut child = std::process::Command::new(command[0])
            .args(&command[1..])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{command:?}");
        Self(child)
    }

    /// The same for a script in a mount namespace of its own, which stays after it.
    fn after(script: &str) -> Self {
        let script = format!("{script}; echo ready; exec sleep 1000");
        Self::start(&[PRIVATE, &["sh", "-euc", &script]].concat())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PRIVATE: &[&str] = &["unshare", "--mount", "--propagation", "private"];

/// Deletes it as a file or directory chosen some time ago, and says why that was not done.
fn why_kept(world: &World, path: &Path) -> String {
    let receipt = world.delete(&[path]);
    assert!(path.symlink_metadata().is_ok(), "{} is gone: {receipt:?}", path.display());
    common::why(&receipt)
}

#[test]
fn the_source_of_a_mount_is_in_use_in_every_namespace() {
    if !inside_mount_namespace("the_source_of_a_mount_is_in_use_in_every_namespace") {
        return;
    }
    let world = World::new();
    let at = |name: &str| world.path(name);
    sh(&format!(
        "cd {}; mkdir -p data/vol/home home conf seen tree; echo thesis > data/vol/home/thesis; echo x > conf/app; \
         echo y > tree/file; touch one; mount --bind data/vol/home home",
        world.dir.display()
    ));
    assert!(why_kept(&world, &at("data")).contains("shows it or a part of it"));
    assert!(why_kept(&world, &at("data/vol/home")).contains("shows it or a part of it"));
    // Below it, nothing is shown elsewhere by itself.
    fs::write(at("data/vol/home/extra"), "x").unwrap();
    assert!(world.delete(&[&at("data/vol/home/extra")]).is_clean());
    let other = Elsewhere::after(&format!(
        "cd {}; mount --bind conf seen; mount --bind tree/file one; cd /",
        world.dir.display()
    ));
    for path in ["conf", "tree", "tree/file"] {
        assert!(why_kept(&world, &at(path)).contains("another mount namespace"), "{path}");
    }
    let chosen = unwedge::probe::chosen::freeze(
        &unwedge::probe::Context {
            environment: &world.environment,
            settings: &world.settings,
            now: jiff::Timestamp::now(),
            memory: None,
            shared: None,
        },
        &at("conf"),
        Bytes(0),
        Bytes(0),
        1,
    )
    .unwrap();
    let plan = world.plan(&Request::Delete(vec![chosen]));
    assert!(plan.is_empty() && plan.refused[0].why.contains("another mount namespace"), "{plan:?}");
    drop(other);
    assert!(world.delete(&[&at("conf")]).is_clean());
    assert_eq!(fs::read_to_string(at("home/thesis")).unwrap(), "thesis\n");
}

#[test]
fn a_mount_of_a_namespace_that_only_a_file_keeps_or_that_is_seen_from_a_chroot_is_not_undone() {
    let test = "a_mount_of_a_namespace_that_only_a_file_keeps_or_that_is_seen_from_a_chroot_is_not_undone";
    if !inside_mount_namespace(test) {
        return;
    }
    let world = World::new();
    // A namespace can be kept by a file of an older one only, which the kernel tells by their numbers; since those are given
    // out for each CPU, it is not every CPU that makes a newer one.
    sh(&format!(
        "cd {}; mkdir -p kept/sub chroot/sub ns; mount -t tmpfs n ns; mount --make-private ns; touch ns/file; cpu=0; \
         until taskset -c $cpu unshare --mount=$PWD/ns/file --propagation private mount -t tmpfs t kept/sub; \
         do cpu=$((cpu + 1)); test $cpu -lt 64 || exit 1; done",
        world.dir.display()
    ));
    assert!(why_kept(&world, &world.path("kept")).contains("another mount namespace"));
    let inside = format!("mount -t tmpfs t {}/chroot/sub", world.dir.display());
    let script = "$| = 1; system($ARGV[0]) == 0 or die; chroot '/run' or die; chdir '/'; print \"ready\\n\"; sleep 1000";
    let other = Elsewhere::start(&[PRIVATE, &["perl", "-e", script, &inside]].concat());
    let seen = why_kept(&world, &world.path("chroot"));
    drop(other);
    assert!(seen.contains("another mount namespace"), "{seen}");
}

#[test]
fn a_mount_of_a_thread_and_of_a_process_whose_first_thread_ended_is_not_undone() {
    let test = "a_mount_of_a_thread_and_of_a_process_whose_first_thread_ended_is_not_undone";
    if !inside_mount_namespace(test) || !perl_has_threads() {
        return;
    }
    let world = World::new();
    for how in ["stays", "ends"] {
        let sub = world.path(how).join("sub");
        fs::create_dir_all(&sub).unwrap();
        let inside = format!("mount --make-rprivate /; mount -t tmpfs t {}", sub.display());
        let other = threads(
            &format!(
                "syscall({}, 0x20000) == 0 or die; system('{inside}') == 0 or die;",
                nix::libc::SYS_unshare
            ),
            how,
        );
        let seen = why_kept(&world, &world.path(how));
        drop(other);
        assert!(seen.contains("another mount namespace"), "{how}: {seen}");
    }
}

#[test]
fn what_a_process_has_mapped_counts_although_its_first_thread_ended() {
    // Others may not look at what every process has mapped, and are refused for that.
    if !common::is_root() || !perl_has_threads() {
        return;
    }
    let world = World::new();
    let path = world.path("mapped.so");
    // Any library that it loads is mapped and not open.
    let library = fs::read_to_string("/proc/self/maps").unwrap();
    let library = library
        .lines()
        .find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("libc.so")))
        .unwrap();
    fs::copy(library, &path).unwrap();
    let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let other = threads("", &format!("ends {}", path.display()));
    fs::remove_file(&path).unwrap();
    let id = file_id::of_fd(&file).unwrap();
    let holder = Holder {
        process: process(std::process::id()),
        name: "test".into(),
        fd: Some(file.as_raw_fd()),
        mapped: false,
    };
    let deleted = DeletedFile {
        key: id.key,
        id,
        last_path: path.into(),
        apparent: Bytes(1),
        allocated: Bytes(1),
        holders: vec![holder],
    };
    let receipt = world.run(world.plan(&Request::FreeDeleted(vec![deleted])));
    assert!(common::why(&receipt).contains(&format!("pid {}", other.0.id())), "{receipt:?}");
    drop(other);
    file.rewind().unwrap();
    assert_eq!(fs::read(library).unwrap().len() as u64, file.metadata().unwrap().len());
}

fn perl_has_threads() -> bool {
    let has = std::process::Command::new("perl").args(["-Mthreads", "-e", "1"]).output();
    let has = has.is_ok_and(|output| output.status.success());
    if !has {
        common::skip("needs perl with threads (the package perl)");
    }
    has
}

#[test]
fn where_processes_are_hidden_nobody_says_that_a_file_is_not_in_use() {
    let test = "where_processes_are_hidden_nobody_says_that_a_file_is_not_in_use";
    if inside_own_namespaces(test) {
        sh("mount -o remount,hidepid=invisible /proc");
        let mut other = std::process::Command::new("setpriv")
            .args(["--reuid=1000", "--regid=1000", "--clear-groups", "sleep", "1000"])
            .spawn()
            .unwrap();
        let hidden = other.id().to_string();
        let user = ["setpriv", "--reuid=2000", "--regid=2000", "--clear-groups"];
        // A copy, because the directory of this one may be closed to others.
        let program = "/tmp/touch-as-another-user";
        sh("mount -t tmpfs none /tmp");
        fs::copy(std::env::current_exe().unwrap(), program).unwrap();
        run_again(&user, Path::new(program), "what_a_user_sees_of_hidden_processes", &hidden);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

/// The part of the test above that runs as a user.
#[test]
fn what_a_user_sees_of_hidden_processes() {
    let Some(hidden) = argument().and_then(|pid| pid.to_str()?.parse().ok()) else { return };
    let proc = unwedge::sys::procfs::Proc::new("/proc");
    let hidden = unwedge::domain::identity::Pid(hidden);
    assert!(!proc.pids().unwrap().contains(&hidden), "who counts processes finds nobody");
    assert!(!unwedge::sys::holders::opened(&proc, false).unwrap().all);
}

/// A process with a second thread that has run a piece of Perl; its first thread `stays` or `ends`, and it has a library
/// preloaded that is named behind that.
fn threads(inner: &str, how: &str) -> Elsewhere {
    let (how, preloaded) = how.split_once(' ').unwrap_or((how, ""));
    let script = format!(
        "use threads; $| = 1; threads->create(sub {{ {inner} print \"ready\\n\"; sleep 1000 }}); \
         syscall({}, 0) if $ARGV[0] eq 'ends'; sleep 1000",
        nix::libc::SYS_exit
    );
    let preload = format!("LD_PRELOAD={preloaded}");
    let other = Elsewhere::start(&["env", &preload, "perl", "-e", &script, how]);
    let proc = unwedge::sys::procfs::Proc::new("/proc");
    let pid = unwedge::domain::identity::Pid(i32::try_from(other.0.id()).unwrap());
    while how == "ends" && !proc.stat(pid).unwrap().has_first_thread_ended() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!proc.stat(pid).unwrap().is_dead(), "{how}");
    other
}

#[test]
fn a_disk_swap_and_a_layer_are_in_use_by_the_kernel() {
    if !inside_mount_namespace("a_disk_swap_and_a_layer_are_in_use_by_the_kernel") {
        return;
    }
    let world = World::new();
    let dir = mounted(&world, "m", "ext4 -q");
    let at = |name: &str| dir.join(name);
    sh(&format!(
        "cd {}; mkdir images inner lower upper work merged; truncate -s 8M images/disk; mkfs.ext4 -q images/disk; \
         mount -o loop images/disk inner; echo precious > inner/file; sync; \
         mount -t overlay o -o lowerdir=lower/../lower,upperdir=$PWD/upper,workdir=$PWD/work merged; \
         mkdir swap; fallocate -l 4M swap/file; chmod 600 swap/file; mkswap -q swap/file; swapon swap/file",
        dir.display()
    ));
    for path in ["images", "images/disk"] {
        let why = why_kept(&world, &at(path));
        assert!(why.contains("/dev/loop") && why.contains("inner"), "{path}: {why}");
    }
    sh(&format!("cd {}; mkdir merged/dir; touch lower/below merged/dir/x", dir.display()));
    for path in ["lower", "upper", "work", "upper/dir", "upper/dir/x"] {
        assert!(why_kept(&world, &at(path)).contains("a layer of the overlay"), "{path}");
    }
    // `/` can be a lower directory.
    assert!(world.delete(&[&at("lower/below")]).is_clean());
    for path in ["swap", "swap/file"] {
        let why = why_kept(&world, &at(path));
        assert!(why.contains("swapoff"), "{path}: {why}");
    }
    sh(&format!("swapoff {}/swap/file", dir.display()));
    assert!(world.delete(&[&at("swap")]).is_clean());
    // Deleted, and its maker still has it open.
    let file = fs::File::options().read(true).write(true).open(at("images/disk")).unwrap();
    fs::remove_file(at("images/disk")).unwrap();
    let id = file_id::of_fd(&file).unwrap();
    let deleted = DeletedFile {
        key: id.key,
        id,
        last_path: at("images/disk").into(),
        apparent: Bytes(8 << 20),
        allocated: Bytes(8 << 20),
        holders: vec![Holder {
            process: process(std::process::id()),
            name: "test".into(),
            fd: Some(file.as_raw_fd()),
            mapped: false,
        }],
    };
    let receipt = world.run(world.plan(&Request::FreeDeleted(vec![deleted])));
    assert!(common::why(&receipt).contains("/dev/loop"), "{receipt:?}");
    assert_eq!(file.metadata().unwrap().len(), 8 << 20);
    sh(&format!("cat {}/inner/file; umount {0}/inner; umount {0}/merged", dir.display()));
    drop(file);
    assert!(world.delete(&[&at("upper")]).is_clean());
}

#[test]
fn a_disk_that_was_attached_by_a_path_that_is_gone_stays_in_the_tree() {
    if !inside_mount_namespace("a_disk_that_was_attached_by_a_path_that_is_gone_stays_in_the_tree") {
        return;
    }
    let world = World::new();
    let dir = mounted(&world, "m", "ext4 -q");
    // As in a container, which shows the directory at another path.
    sh(&format!(
        "cd {}; mkdir -p tree/sub/images alias inner; touch tree/sub/other; cd tree/sub/images; truncate -s 8M disk; \
         mkfs.ext4 -q disk; cd ../../..; mount --bind tree/sub/images alias; mount -o loop alias/disk inner; umount -l alias",
        dir.display()
    ));
    let receipt = world.delete(&[&dir.join("tree")]);
    let Outcome::Partly { problems, .. } = &receipt.steps[0].outcome else { panic!("{receipt:?}") };
    assert!(
        problems.iter().any(|why| why.contains("disk: in use: it is the disk of /dev/loop")),
        "{problems:?}"
    );
    let at = dir.display();
    sh(&format!("test -f {at}/tree/sub/images/disk -a ! -e {at}/tree/sub/other; umount {at}/inner"));
    assert!(world.delete(&[&dir.join("tree")]).is_clean());
}

#[test]
fn protection_is_made_anew_before_a_run() {
    let mut world = World::new();
    let path = world.path("config");
    fs::write(&path, "old").unwrap();
    world.settings.protect.paths = vec![path.display().to_string()];
    let journal = Journal::open(&world.environment, &world.settings);
    let engine = Engine::new(world.environment.clone(), world.settings.clone(), journal);
    let snapshot = world.snapshot();
    // As an editor does, which writes a new file and renames it.
    fs::write(world.path("config~"), "new").unwrap();
    fs::rename(world.path("config~"), &path).unwrap();
    let chosen = engine.choose(&path, Bytes(3), Bytes(4096), 1).unwrap();
    let plan = engine.plan(&Request::Delete(vec![chosen]), &snapshot);
    assert!(plan.refused.is_empty(), "what is protected was looked up before: {plan:?}");
    let basket = common::agree_to_all(Basket::new(vec![plan], &[]));
    let receipt = engine.run_all(basket, (&world.cancel, &world.skip), &|_| {});
    assert!(common::why(&receipt.parts[0]).contains("is protected"), "{receipt:?}");
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_plan_says_who_has_it_open_and_promises_nothing_for_sure() {
    let world = World::new();
    let path = world.path("a.log");
    fs::write(&path, vec![1; 1 << 20]).unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .stdin(fs::File::open(&path).unwrap())
        .spawn()
        .unwrap();
    let context = unwedge::probe::Context {
        environment: &world.environment,
        settings: &world.settings,
        now: jiff::Timestamp::now(),
        memory: None,
        shared: None,
    };
    let freeze = |path: &Path| {
        let size = Bytes(1 << 20);
        unwedge::probe::chosen::freeze(&context, path, size, size, 1).unwrap()
    };
    for (path, what) in [(path.as_path(), "has it open"), (world.dir.as_path(), "has a file in it open")] {
        let plan = world.plan(&Request::Delete(vec![freeze(path)]));
        let holder = format!("sleep (pid {})", child.id());
        assert!(plan.steps[0].why.contains(&holder) && plan.steps[0].why.contains(what), "{plan:?}");
        assert_eq!(plan.reclaim.to_string(), "up to 1.0 MiB");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let plan = world.plan(&Request::Delete(vec![freeze(&path)]));
    assert_eq!(plan.reclaim.to_string(), "1.0 MiB");
}
