//! The mounts probe against real bind mounts in another mount namespace.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/probe.rs"]
mod common;
#[path = "common/listener.rs"]
mod listener;

use std::process::Command;
use std::sync::mpsc::channel;

use common::{
    Surroundings, disguise, inside_own_namespaces, start, start_script, unmount_below, until_it_runs,
    wait_until,
};
use unwedge::domain::reading::Reading;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{BuildMount, MountCensus, SnapshotPart, Verdict};
use unwedge::probe::{chosen, mounts};
use unwedge::sys::file_id;
use unwedge::sys::mounts_below::{self, Found};
use unwedge::sys::procfs::Proc;

fn census() -> MountCensus {
    match mounts::look(&Surroundings::real().context()) {
        Reading::Ready { value } => value,
        other => panic!("{other:?}"),
    }
}

fn verdicts(census: &MountCensus) -> Vec<(String, Verdict)> {
    let short = |mount: &BuildMount| mount.mount_point.to_string().rsplit('/').next().unwrap().to_owned();
    census.build_mounts.iter().map(|mount| (short(mount), mount.verdict)).collect()
}

#[test]
fn a_thread_in_a_namespace_of_its_own_is_judged_by_what_it_sees() {
    if !inside_own_namespaces("a_thread_in_a_namespace_of_its_own_is_judged_by_what_it_sees") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("here");
    std::fs::create_dir_all(target.join("sub")).unwrap();
    let found = || {
        let located = std::fs::File::open(&target).unwrap();
        let namespaces = mounts_below::read(&Proc::new("/proc"));
        mounts_below::Below::new(&namespaces)
            .at_or_below(&target, file_id::of_fd(&located).unwrap().mount)
            .unwrap()
    };
    let ((tell, hear), (leave, left)) = (channel(), channel::<()>());
    std::thread::scope(|scope| {
        let (found, target) = (&found, &target);
        let inner = scope.spawn(move || {
            // For the calling thread alone (unshare(2)).
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let status = Command::new("mount").args(["-t", "tmpfs", "t"]).arg(target.join("sub")).status();
            assert!(status.unwrap().success());
            tell.send(found()).unwrap();
            // Its namespace ends with it.
            let _ = left.recv();
        });
        let seen: Vec<Found> = hear.recv().expect("the thread panicked");
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].elsewhere, None, "it is the thread's own");
        let outside = found();
        assert!(outside.iter().all(|mount| mount.elsewhere.is_some()), "{outside:?}");
        drop(leave);
        inner.join().unwrap();
    });
}

#[test]
fn twelve_leaked_mounts_in_another_namespace() {
    if !inside_own_namespaces("twelve_leaked_mounts_in_another_namespace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap().to_owned();
    let before = census();
    assert!(before.build_mounts.is_empty(), "{:?}", before.build_mounts);

    let elsewhere = start_script(
        &["unshare", "--mount", "--propagation", "private"],
        &format!(
            "cd {at}; mkdir layer; echo kept > layer/file
             for i in 1 2 3 4 5 6 7 8 9 10 11; do mkdir buildkit-mount$i; mount --bind layer buildkit-mount$i; done
             mkdir -p deep/er/buildkit-mount12; mount --bind layer deep/er/buildkit-mount12
             mkdir not-buildkit-mount; mount --bind layer not-buildkit-mount
             cd /; echo ready; exec sleep 1000"
        ),
    );
    let found = census();
    assert_eq!(found.namespaces, before.namespaces + 1);
    assert_eq!(found.total, 2 * before.total + 13);
    assert_eq!(found.build_mounts.len(), 12);
    assert!(
        found.build_mounts[0].mount_point.to_string().ends_with("deep/er/buildkit-mount12"),
        "deepest first"
    );
    for mount in &found.build_mounts {
        assert_eq!(mount.verdict, Verdict::Orphan, "{mount:?}");
        assert!(mount.evidence.iter().all(|fact| fact.source.starts_with("/proc/")));
        assert_eq!(mount.via.unwrap().pid.0, elsewhere.pid());
        assert!(mount.root.to_string().ends_with("/layer"), "{mount:?}");
        // Linux 6.8; the id is read through /proc/PID/root.
        assert!(mount.mount.unique.is_some(), "{mount:?}");
    }

    // Choosing the directory here must show what is mounted below it there.
    let surroundings = Surroundings::real();
    let freeze = |path: &std::path::Path| {
        chosen::freeze(&surroundings.context(), path, Bytes(0), Bytes(0), 1).unwrap().held.len()
    };
    assert_eq!(freeze(dir.path()), 13);
    assert_eq!(freeze(&dir.path().join("deep")), 1);
    assert_eq!(freeze(&dir.path().join("layer")), 13, "all of them show it");
    assert_eq!(freeze(&dir.path().join("buildkit-mount1")), 1, "buildkit-mount10 and 11 are not below it");
    // The same directory under another name in our own namespace.
    std::fs::create_dir(dir.path().join("alias")).unwrap();
    let status =
        Command::new("mount").args(["--bind", &format!("{at}/deep"), &format!("{at}/alias")]).status();
    assert!(status.unwrap().success());
    assert_eq!(freeze(&dir.path().join("alias/er")), 1, "found by its place in the file system");

    // Used by a working directory, and by an open file.
    let enter = |script: &str| {
        let target = elsewhere.pid().to_string();
        start_script(&["nsenter", "--mount", "--target", &target], script)
    };
    let user = enter(&format!("cd {at}/buildkit-mount3; echo ready; exec sleep 1000"));
    let reader = enter(&format!("cd /; exec 7< {at}/buildkit-mount5/file; echo ready; exec sleep 1000"));
    let now = verdicts(&census());
    for (name, verdict) in &now {
        let is_used = name == "buildkit-mount3" || name == "buildkit-mount5";
        assert_eq!(*verdict, if is_used { Verdict::InUse } else { Verdict::Orphan }, "{name}");
    }
    let found = census();
    let evidence = |name: &str| {
        let mount =
            found.build_mounts.iter().find(|mount| mount.mount_point.to_string().ends_with(name)).unwrap();
        mount.evidence.iter().map(|fact| fact.source.clone()).collect::<Vec<_>>()
    };
    assert_eq!(evidence("buildkit-mount3"), [format!("/proc/{}/cwd", user.pid())]);
    assert_eq!(evidence("buildkit-mount5"), [format!("/proc/{}/fdinfo/7", reader.pid())]);
    drop((user, reader));

    // Used only through something mounted below it.
    let nested = enter(&format!(
        "mkdir -p {at}/layer/sub; mount -t tmpfs none {at}/buildkit-mount7/sub; cd {at}/buildkit-mount7/sub; echo ready; exec sleep 1000"
    ));
    for (name, verdict) in verdicts(&census()) {
        assert_eq!(verdict == Verdict::InUse, name == "buildkit-mount7", "{name}");
    }
    drop(nested);

    // A program that runs from it.
    disguise(&dir.path().join("layer"), "tool");
    let tool = format!("{at}/buildkit-mount9/tool");
    let runs = enter(&format!("cd /; echo ready; exec {tool} 1000"));
    let exe = format!("/proc/{}/exe", runs.pid());
    wait_until("it runs", || std::fs::read_link(&exe).is_ok_and(|exe| exe == std::path::Path::new(&tool)));
    assert!(verdicts(&census()).contains(&("buildkit-mount9".to_owned(), Verdict::InUse)));
    drop(runs);

    drop(elsewhere);
    assert!(census().build_mounts.is_empty());
    assert_eq!(std::fs::read_to_string(dir.path().join("layer/file")).unwrap(), "kept\n");
    assert!(Command::new("umount").arg(dir.path().join("alias")).status().unwrap().success());
}

#[test]
fn what_builds_elsewhere_does_not_make_leaked_mounts_used() {
    if !inside_own_namespaces("what_builds_elsewhere_does_not_make_leaked_mounts_used") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap().to_owned();
    let elsewhere = start_script(
        &["unshare", "--mount", "--propagation", "private"],
        &format!(
            "cd {at}; mkdir layer
             for i in 1 2 3 4 5 6 7 8 9 10 11 12; do mkdir buildkit-mount$i; mount --bind layer buildkit-mount$i; done
             cd /; echo ready; exec sleep 1000"
        ),
    );
    let enter = |script: &str| {
        let target = elsewhere.pid().to_string();
        start_script(&["nsenter", "--mount", "--target", &target], script)
    };
    // A build client, and no daemon that is known for one: nothing is certain to be left over.
    let docker = disguise(dir.path(), "buildctl");
    let client = start(Command::new(docker).arg("1000"));
    assert!(verdicts(&census()).iter().all(|(_, verdict)| *verdict == Verdict::InUse));
    drop(client);

    // A builder in another namespace cannot own them, one in theirs can.
    let buildkitd = disguise(dir.path(), "buildkitd");
    let away = start(Command::new(&buildkitd).arg("1000"));
    let orphans = |census: &MountCensus| {
        verdicts(census).iter().filter(|(_, verdict)| *verdict == Verdict::Orphan).count()
    };
    assert_eq!(orphans(&census()), 12);
    // Whatever that one builds, these are not its mounts: neither a client of it nor a step makes them used.
    let client = start(Command::new(disguise(dir.path(), "buildctl")).arg("1000"));
    let step = disguise(dir.path(), "buildkit-runc");
    let script = format!(
        "{0} 1000 & {1}; echo ready; wait",
        step.display(),
        until_it_runs(&step.display().to_string())
    );
    let builder = start_script(&["bash", "-c", "exec -a buildkitd \"$@\"", "bash"], &script);
    let found = census();
    assert_eq!(orphans(&found), 12, "{:#?}", found.build_mounts[0]);
    drop((client, builder, away));
    // Nor does a step that init has adopted.
    assert_eq!(orphans(&census()), 12);
    assert!(Command::new("pkill").args(["-KILL", "-x", "buildkit-runc"]).status().unwrap().success());
    let there = enter(&format!("cd /; echo ready; exec {} 1000", buildkitd.display()));
    let exe = format!("/proc/{}/exe", there.pid());
    wait_until("it runs", || std::fs::read_link(&exe).is_ok_and(|exe| exe == buildkitd));
    assert_eq!(orphans(&census()), 0);
    drop(there);
    // It has a socket: nobody is connected to that, and then somebody is.
    let socket = dir.path().join("buildkitd.sock");
    let target = elsewhere.pid().to_string();
    let idle = common::Running(listener::start(&["nsenter", "--mount", "--target", &target], &socket));
    assert_eq!(orphans(&census()), 12, "{:#?}", census().build_mounts[0]);
    let connected = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    wait_until("the client is seen", || orphans(&census()) == 0);
    assert!(verdicts(&census()).iter().all(|(_, verdict)| *verdict == Verdict::InUse));
    drop((connected, idle));
}

#[test]
fn the_root_of_a_step_is_a_build_mount_and_in_use_where_somebody_is_in_it() {
    if !inside_own_namespaces("the_root_of_a_step_is_a_build_mount_and_in_use_where_somebody_is_in_it") {
        return;
    }
    let dir = common::MountDir::new();
    let at = dir.path().display();
    // A file system of its own: an overlay on an overlay may not be.
    let script = format!(
        "mount -t tmpfs none {at}; cd {at}; mkdir lower upper work; echo kept > lower/file; cp /bin/busybox lower/busybox
         mkdir -p docker/buildkit/executor/p3k0yv4w2m1n5x7z9a8b6c4d2/rootfs srv/executor/x/rootfs
         mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay \
             docker/buildkit/executor/p3k0yv4w2m1n5x7z9a8b6c4d2/rootfs
         mount --bind lower srv/executor/x/rootfs"
    );
    assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    let found = census();
    assert_eq!(verdicts(&found), [("rootfs".to_owned(), Verdict::Orphan)], "{:#?}", found.build_mounts);
    assert_eq!(found.build_mounts[0].fs_type, "overlay".into());

    // A container has it as its root directory, in a namespace that does not show it at this place any more.
    let root = found.build_mounts[0].mount_point.clone();
    let container = start_script(
        &["unshare", "--mount", "--propagation", "private"],
        &format!(
            "mkdir {root}/old; cd {root}; mount --bind . .; cd {root}; pivot_root . old
             exec ./busybox sh -c './busybox umount -l /old; echo ready; exec ./busybox sleep 1000'"
        ),
    );
    let found = census();
    let mount = found.build_mounts.iter().find(|mount| mount.mount_point == root).unwrap();
    assert_eq!(mount.verdict, Verdict::InUse, "{:#?}", found.build_mounts);
    assert!(mount.evidence[0].fact.contains("root directory of mount namespace"), "{mount:#?}");
    drop(container);
    assert_eq!(verdicts(&census()), [("rootfs".to_owned(), Verdict::Orphan)]);
}

#[test]
fn a_mount_is_in_use_where_a_copy_that_would_go_along_is() {
    if !inside_own_namespaces("a_mount_is_in_use_where_a_copy_that_would_go_along_is") {
        return;
    }
    let dir = common::MountDir::new();
    let at = dir.path().display();
    let script = format!(
        "mount -t tmpfs none {at}; mount --make-shared {at}; mkdir {at}/layer {at}/buildkit-mount1
         mount --bind --make-private {at}/layer {at}/buildkit-mount1"
    );
    assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    let enter = |place: &str| {
        let script = format!("cd {place}; echo ready; exec sleep 1000");
        start_script(&["unshare", "--mount", "--propagation", "unchanged"], &script)
    };
    let bystander = enter("/");
    let found = census();
    assert_eq!(found.build_mounts.len(), 2, "ours and its copy");
    let ours = found.build_mounts.iter().find(|mount| mount.via.is_none()).unwrap();
    assert_eq!((ours.verdict, ours.copies.len()), (Verdict::Orphan, 1), "{ours:#?}");
    let there = std::fs::read_link(format!("/proc/{}/ns/mnt", bystander.pid())).unwrap();
    assert_eq!(there.to_str().unwrap(), format!("mnt:[{}]", ours.copies[0].namespace.0));
    drop(bystander);

    let user = enter(&format!("{at}/buildkit-mount1"));
    let found = census();
    let ours = found.build_mounts.iter().find(|mount| mount.via.is_none()).unwrap();
    assert_eq!(ours.verdict, Verdict::InUse, "{ours:#?}");
    assert!(ours.evidence[0].fact.contains("would go along"), "{ours:#?}");
    assert_eq!(ours.evidence[0].source, format!("/proc/{}/cwd", user.pid()));
}

/// Carries the directory of a thread, and makes the test of this name do something.
const STANDS_IN: &str = "UNWEDGE_TEST_STANDS_IN";

/// The program: one thread of it has a working directory of its own. It does nothing unless it was started from here.
#[test]
fn stands_in_a_directory() {
    let Some(dir) = std::env::var_os(STANDS_IN) else { return };
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        nix::unistd::chdir(std::path::Path::new(&dir)).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1000));
    });
    thread.join().unwrap();
}

#[test]
fn a_mount_is_in_use_where_only_a_thread_stands_in_it() {
    if !inside_own_namespaces("a_mount_is_in_use_where_only_a_thread_stands_in_it") {
        return;
    }
    let dir = common::MountDir::new();
    let at = dir.path().display();
    let script = format!(
        "mount -t tmpfs none {at}; mkdir {at}/layer {at}/buildkit-mount1; mount --bind {at}/layer {at}/buildkit-mount1"
    );
    assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    assert_eq!(census().build_mounts[0].verdict, Verdict::Orphan);
    // A copy: a child of the same program is taken for one of our own that was forked to ask something.
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["stands_in_a_directory", "--exact"]).env(STANDS_IN, dir.path().join("buildkit-mount1"));
    let standing = start(command.current_dir("/"));
    wait_until("the thread is seen", || census().build_mounts[0].verdict == Verdict::InUse);
    let mount = census().build_mounts.remove(0);
    assert!(mount.evidence[0].fact.contains(&format!("pid {}", standing.pid())), "{mount:#?}");
    assert_ne!(
        mount.evidence[0].source,
        format!("/proc/{}/cwd", standing.pid()),
        "its first thread is elsewhere"
    );
}

#[test]
fn without_privilege_nothing_is_called_left_over() {
    if !inside_own_namespaces("without_privilege_nothing_is_called_left_over") {
        return;
    }
    // In this namespace only, so that it is gone with it.
    let mount_tmpfs = |at: &str| {
        let status = Command::new("mount").args(["-t", "tmpfs", "none", at]).status();
        assert!(status.unwrap().success());
    };
    mount_tmpfs("/mnt");
    std::fs::create_dir("/mnt/buildkit-mount1").unwrap();
    mount_tmpfs("/mnt/buildkit-mount1");
    assert_eq!(census().build_mounts[0].verdict, Verdict::Orphan);

    // Not ended by us: it cannot be, after this. It goes with its pid namespace.
    std::mem::forget(start(Command::new("/bin/sleep").arg("1000")));
    let nobody = nix::unistd::Uid::from_raw(65_534);
    nix::unistd::setresuid(nobody, nobody, nobody).unwrap();
    let Reading::Partial { value, missing } = mounts::look(&Surroundings::real().context()) else { panic!() };
    assert!(missing.iter().any(|gap| gap.contains("sudo unwedge")), "{missing:?}");
    assert_eq!(value.build_mounts.len(), 1);
    assert_eq!(value.build_mounts[0].verdict, Verdict::Unknown, "{value:?}");
    assert!(value.build_mounts[0].evidence[0].fact.contains("could not be looked into"), "{value:?}");
}

/// As many mounts as a machine has had when nothing could be done on it any more.
const MANY: usize = 20_000;

#[test]
fn with_twenty_thousand_mounts_what_is_protected_and_what_is_left_over_are_known_in_time() {
    let name = "with_twenty_thousand_mounts_what_is_protected_and_what_is_left_over_are_known_in_time";
    if !inside_own_namespaces(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("many");
    std::fs::create_dir(&top).unwrap();
    let nothing = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("many"), &top, Some("tmpfs"), nothing, Some("nr_inodes=100k")).unwrap();
    let last = top.join(format!("buildkit-mount{}", MANY - 1));
    for number in 0..MANY {
        let point = top.join(format!("buildkit-mount{number}"));
        std::fs::create_dir(&point).unwrap();
        let bind = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(&top), &point, None::<&str>, bind, None::<&str>).unwrap();
    }
    let mut surroundings = Surroundings::real();
    // The program's own deadline is a quarter of this; quadratic time takes three times as long.
    surroundings.settings.probe.deadline_ms = 8_000;
    let parts = std::sync::Mutex::new((None, None));
    unwedge::probe::run_all(&surroundings.context(), &|part| match part {
        SnapshotPart::Protect(set) => parts.lock().unwrap().0 = Some(set),
        SnapshotPart::Mounts(reading) => parts.lock().unwrap().1 = reading.value().cloned(),
        _ => {}
    });
    let (protect, census) = parts.into_inner().unwrap();
    let protect = protect.unwrap();
    let key = |path: &std::path::Path| file_id::of_fd(std::fs::File::open(path).unwrap()).unwrap().key;
    assert!(protect.check(key(&last), &[]).unwrap_err().contains("a file system is mounted there"));
    assert!(protect.check(key(std::path::Path::new("/etc")), &[]).is_err());
    let census = census.unwrap();
    assert_eq!(census.build_mounts.len(), MANY);
    assert!(census.build_mounts.iter().all(|mount| mount.verdict == Verdict::Orphan));
    unmount_below(dir.path());
}
