//! The file systems, temporary directories and frozen choices against the real machine.
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

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use common::{MountDir, Surroundings, inside_own_namespaces};
use jiff::ToSpan as _;
use unwedge::domain::reading::Reading;
use unwedge::domain::size::Bytes;
use unwedge::domain::snapshot::{ChosenFile, CreateTest, FsClass, TempDir};
use unwedge::probe::{chosen, filesystems, temp_dirs};

fn mount(args: &[&str], at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    assert!(Command::new("mount").args(args).arg(at).status().unwrap().success(), "{args:?}");
}

#[test]
fn file_systems_as_df_sees_them() {
    if !inside_own_namespaces("file_systems_as_df_sees_them") {
        return;
    }
    let dir = MountDir::new();
    let at = |name: &str| dir.path().join(name);
    mount(&["-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "odd \u{1b} source"], &at("a b\n"));
    mount(&["-t", "tmpfs", "-o", "size=2m", "covered"], &at("stack"));
    mount(&["-t", "tmpfs", "-o", "size=3m,ro", "top"], &at("stack"));
    mount(&["-t", "proc", "proc"], &at("proc"));
    mount(&["--bind", at("a b\n").to_str().unwrap()], &at("a b again"));

    let surroundings = Surroundings::real();
    let Reading::Ready { value: found } = filesystems::look(&surroundings.context()) else { panic!() };
    let of = |name: &str| found.iter().find(|fs| fs.mount_point.as_path() == at(name));
    let small = of("a b\n").unwrap();
    let usage = small.usage.value().unwrap();
    assert_eq!((usage.total, usage.inodes, usage.inodes_used()), (Bytes(1 << 20), 64, 1));
    assert_eq!((small.class, small.read_only), (FsClass::Local, false));
    assert_eq!(small.source, "odd \u{1b} source".into());
    assert!(small.mount.unique.is_some());
    assert!(of("a b again").is_none(), "a device once, at its shortest place");
    assert!(of("proc").is_none());
    let top = of("stack").unwrap();
    assert_eq!((top.source.clone(), top.read_only), ("top".into(), true));
    assert_eq!(top.usage.value().unwrap().total, Bytes(3 << 20), "not the figures of the one it covers");
    assert_eq!(found.iter().filter(|fs| fs.mount_point.as_path() == at("stack")).count(), 1);

    // The same root figures as df(1), but for what changes meanwhile.
    let df = Command::new("df").args(["--block-size=1", "--output=size,itotal", "/"]).output().unwrap();
    let text = String::from_utf8(df.stdout).unwrap();
    let figures: Vec<u64> =
        text.lines().nth(1).unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect();
    let root =
        found.iter().find(|fs| fs.mount_point == "/".into()).unwrap().usage.value().unwrap().to_owned();
    assert_eq!(figures, [root.total.0, root.inodes]);
}

fn temp_dir(surroundings: &mut Surroundings, dir: &Path) -> TempDir {
    surroundings.settings.temp.dirs = vec![dir.to_str().unwrap().to_owned()];
    temp_dirs::look(&surroundings.context()).remove(0)
}

#[test]
fn a_temp_dir_is_counted_as_std_counts_it() {
    let dir = MountDir::new();
    for i in 0..1500 {
        std::fs::write(dir.path().join(format!("file-{i}")), b"").unwrap();
    }
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/not-counted"), b"").unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("dangling")).unwrap();
    let oracle = std::fs::read_dir(dir.path()).unwrap().count() as u64;
    // As another unwedge makes at the same moment; our own comes and goes while we count.
    std::fs::create_dir(dir.path().join(".unwedge-probe-1-0")).unwrap();

    let mut surroundings = Surroundings::real();
    let seen = temp_dir(&mut surroundings, dir.path());
    let Reading::Ready { value: census } = &seen.census else { panic!("{seen:?}") };
    assert_eq!((census.entries, census.older_than_day), (oracle, 0));
    assert_eq!(census.directory_size.0, std::fs::metadata(dir.path()).unwrap().size());
    assert!(matches!(seen.create_test, Reading::Ready { value: CreateTest::Works { .. } }), "{seen:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count() as u64, oracle + 1, "the test left nothing");

    // An old modification time alone does not make a file old (it was unpacked just now).
    let ancient = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::open(dir.path().join("file-1")).unwrap().set_modified(ancient).unwrap();
    let seen = temp_dir(&mut surroundings, dir.path());
    assert_eq!(seen.census.value().unwrap().older_than_day, 0);

    // In two days all will be.
    surroundings.now += 48.hours();
    let seen = temp_dir(&mut surroundings, dir.path());
    assert_eq!(seen.census.value().unwrap().older_than_day, oracle);

    // Through a link, as /tmp is one in some places.
    let link = dir
        .path()
        .parent()
        .unwrap()
        .join(format!("{}-link", dir.path().file_name().unwrap().to_str().unwrap()));
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let seen = temp_dir(&mut surroundings, &link);
    std::fs::remove_file(&link).unwrap();
    assert_eq!(seen.census.value().unwrap().entries, oracle);
}

#[test]
fn a_temp_dir_that_cannot_be_used_says_why() {
    if !inside_own_namespaces("a_temp_dir_that_cannot_be_used_says_why") {
        return;
    }
    let dir = MountDir::new();
    let mut surroundings = Surroundings::real();
    let fails = |seen: &TempDir| match &seen.create_test {
        Reading::Ready { value: CreateTest::Fails { why, errno } } => (why.clone(), *errno),
        other => panic!("{other:?}"),
    };
    let full = dir.path().join("full");
    mount(&["-t", "tmpfs", "-o", "nr_inodes=2", "none"], &full);
    std::fs::write(full.join("last"), b"").unwrap();
    let seen = temp_dir(&mut surroundings, &full);
    assert_eq!(fails(&seen), ("No space left on device".to_owned(), 28));
    let census = seen.census.value().unwrap();
    assert_eq!((census.inodes, census.inodes_used, census.entries), (2, 2, 1));

    let read_only = dir.path().join("ro");
    mount(&["-t", "tmpfs", "-o", "ro", "none"], &read_only);
    assert_eq!(fails(&temp_dir(&mut surroundings, &read_only)), ("Read-only file system".to_owned(), 30));

    let why = |seen: TempDir| match seen.census {
        Reading::Unavailable { why } => why,
        other => panic!("{other:?}"),
    };
    assert!(why(temp_dir(&mut surroundings, &dir.path().join("none"))).ends_with("does not exist"));
    std::fs::write(dir.path().join("file"), b"").unwrap();
    assert!(why(temp_dir(&mut surroundings, &dir.path().join("file"))).ends_with("is not a directory"));
}

fn freeze(path: &Path) -> Result<ChosenFile, String> {
    chosen::freeze(&Surroundings::real().context(), path, Bytes(1), Bytes(2), 3)
}

#[test]
fn a_choice_is_frozen_with_all_that_is_above_it() {
    let dir = MountDir::new();
    let deep = dir.path().join("x/y");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), b"12345").unwrap();
    std::os::unix::fs::symlink(&deep, dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", deep.join("dangling")).unwrap();

    let file = freeze(&deep.join("file")).unwrap();
    assert_eq!((file.id.size, file.entries, file.apparent, file.allocated), (5, 3, Bytes(1), Bytes(2)));
    let real = deep.canonicalize().unwrap();
    let oracle: Vec<u64> = real.ancestors().map(|dir| std::fs::metadata(dir).unwrap().ino()).collect();
    assert_eq!(file.above.iter().map(|key| key.ino.0).collect::<Vec<_>>(), oracle);
    assert!(file.held.is_empty(), "{:?}", file.held);

    // The same file by another way, and a directory.
    let through = freeze(&dir.path().join("link/file")).unwrap();
    assert_eq!((through.id, &through.above, &through.path), (file.id, &file.above, &file.path));
    let directory = freeze(&deep).unwrap();
    assert_eq!(directory.above, file.above[1..]);
    assert_eq!(freeze(&dir.path().join("x/../x/y/.")).unwrap().id, directory.id);
    // A link is chosen as itself, whether it leads anywhere or not.
    let link = freeze(&dir.path().join("link")).unwrap();
    assert_eq!(link.id.kind, unwedge::domain::identity::FileKind::Symlink);
    assert_eq!(freeze(&deep.join("dangling")).unwrap().above, file.above);

    assert!(freeze(&deep.join("none")).unwrap_err().contains("none"));
    let root = freeze(Path::new("/")).unwrap();
    assert!(root.above.is_empty() && root.held.iter().any(|why| why.contains("mounted at /proc;")));
}
