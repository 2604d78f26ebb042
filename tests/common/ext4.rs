//! Images of ext2, ext3 and ext4 for tests: made, mounted through a loop device, filled, listed by find(1).
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, FileType, Mode, XattrFlags, fallocate, mknodat, setxattr};
use unwedge::domain::identity::{DevId, FileKind};
use unwedge::domain::size::Bytes;
use unwedge::domain::text::HostText;
use unwedge::scan::ext4::{Listing, Mounted, Options, ROOT, Why, listing, open};
use unwedge::sys::block_device::{ImageFile, ReadAt, open_for};

/// Whether the test can run; prints loudly where not, and panics where everything is required.
pub fn can_mount() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !Path::new("/dev/loop-control").exists() {
        "loop devices"
    } else if !Path::new("/sbin/mke2fs").exists() {
        "e2fsprogs"
    } else {
        return true;
    };
    assert!(std::env::var_os("UNWEDGE_TEST_REQUIRE").is_none_or(|all| all != "all"), "needs {missing}");
    eprintln!("SKIPPED: needs {missing}");
    false
}

/// Runs a program that must succeed; answers its output.
#[track_caller]
pub fn run(program: &str, args: &[&OsStr]) -> Vec<u8> {
    let out = Command::new(program).args(args).env("LC_ALL", "C").output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// An image in a temporary directory; whatever is mounted is unmounted when it goes.
pub struct Image {
    dir: tempfile::TempDir,
    device: Option<String>,
}

impl Image {
    /// Makes a file system of `mib` MiB.
    pub fn make(mib: u64, mkfs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let mut args: Vec<&OsStr> = vec!["-q".as_ref(), "-F".as_ref()];
        // mke2fs would take 1 KiB for anything this small.
        if !mkfs.contains(&"-b") && !mkfs.contains(&"journal_dev") {
            args.extend(["-b", "4096"].map(OsStr::new));
        }
        args.extend(mkfs.iter().map(OsStr::new));
        args.push(image.as_os_str());
        run("/sbin/mke2fs", &args);
        fs::create_dir(dir.path().join("mnt")).unwrap();
        Self { dir, device: None }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The features, as dumpe2fs(8) names them.
    pub fn features(&self) -> String {
        let out = run("/sbin/dumpe2fs", &["-h".as_ref(), self.path().as_os_str()]);
        let out = String::from_utf8_lossy(&out).into_owned();
        out.lines().find(|line| line.starts_with("Filesystem features:")).unwrap_or_default().to_owned()
    }

    pub fn mount(&mut self, options: &str) {
        let out = run("/sbin/losetup", &["--find".as_ref(), "--show".as_ref(), self.path().as_os_str()]);
        let device = String::from_utf8(out).unwrap().trim().to_owned();
        self.device = Some(device.clone());
        let options = if options.is_empty() { "noatime" } else { options };
        let root = self.root();
        let args: [&OsStr; 6] =
            ["-t".as_ref(), "ext4".as_ref(), "-o".as_ref(), options.as_ref(), device.as_ref(), root.as_ref()];
        let out = Command::new("/bin/mount").args(args).output().unwrap();
        assert!(out.status.success(), "mount {options}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn unmount(&mut self) {
        if let Some(device) = self.device.take() {
            let _ = Command::new("/bin/umount").arg(self.root()).output();
            let _ = Command::new("/sbin/losetup").args(["-d", &device]).output();
        }
    }

    pub fn dev(&self) -> DevId {
        let stat = rustix::fs::stat(self.root()).unwrap();
        DevId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev) }
    }

    pub fn syncfs(&self) {
        rustix::fs::syncfs(fs::File::open(self.root()).unwrap()).unwrap();
    }

    /// Reads the mounted file system through its device.
    pub fn read_mounted(&self) -> Result<Listing, Why> {
        self.syncfs();
        read(open_for(self.dev())?, Mounted::Yes)
    }

    /// Reads the image file.
    pub fn read_image(&self) -> Result<Listing, Why> {
        read(ImageFile::open(&self.path())?, Mounted::No)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Reads everything with three threads.
pub fn read(device: impl ReadAt, mounted: Mounted) -> Result<Listing, Why> {
    let cancel = AtomicBool::new(false);
    let options = Options {
        threads: 3,
        cold_threads: 3,
        cancel: &cancel,
        memory: Bytes(1 << 30),
        changed_since: None,
        seen: None,
    };
    listing(&open(device, mounted)?, &options, ROOT)
}

/// Inode, size, blocks of 512 bytes, mtime, links, kind.
pub type Facts = (u64, u64, u64, i64, u64, char);

/// What find(1) says of every path.
pub fn oracle(root: &Path) -> BTreeMap<Vec<u8>, Facts> {
    let format = r"%P\0%i\0%s\0%b\0%T@\0%n\0%y\0";
    let out =
        run("/usr/bin/find", &[root.as_os_str(), "-xdev".as_ref(), "-printf".as_ref(), format.as_ref()]);
    let fields: Vec<&[u8]> = out.split(|&b| b == 0).collect();
    let number =
        |raw: &[u8]| std::str::from_utf8(raw).unwrap().split('.').next().unwrap().parse::<i64>().unwrap();
    fields
        .chunks_exact(7)
        .map(|f| {
            let facts = (
                number(f[1]) as u64,
                number(f[2]) as u64,
                number(f[3]) as u64,
                number(f[4]),
                number(f[5]) as u64,
                f[6][0] as char,
            );
            (f[0].to_vec(), facts)
        })
        .collect()
}

/// The same from a listing. Panics where a path comes twice.
#[track_caller]
pub fn facts(listing: &Listing) -> BTreeMap<Vec<u8>, Facts> {
    let mut all = BTreeMap::new();
    for listed in &listing.paths {
        let record = listed.record;
        let kind = match record.kind {
            FileKind::File => 'f',
            FileKind::Directory => 'd',
            FileKind::Symlink => 'l',
            FileKind::Device => 'b',
            FileKind::Fifo => 'p',
            FileKind::Socket => 's',
            FileKind::Other => '?',
        };
        let facts = (
            listed.ino.into(),
            record.apparent.0,
            record.allocated.0 / 512,
            record.modified,
            record.links.into(),
            kind,
        );
        let before = all.insert(listed.path.as_bytes().to_vec(), facts);
        assert!(before.is_none(), "{} comes twice", listed.path);
    }
    all
}

/// Compares a listing with what find(1) said; every line must be equal.
#[track_caller]
pub fn assert_equal(what: &str, expected: &BTreeMap<Vec<u8>, Facts>, listing: &Listing) {
    assert!(listing.troubles.is_empty(), "{what}: {:?}", &listing.troubles[..listing.troubles.len().min(5)]);
    assert!(listing.unknown.is_empty(), "{what}: {:?}", listing.unknown);
    assert!(listing.repeated.is_empty(), "{what}: {:?}", listing.repeated);
    assert!(listing.unreached.is_empty(), "{what}: {:?}", listing.unreached);
    assert_same_lines(what, expected, &facts(listing));
}

#[track_caller]
pub fn assert_same_lines(what: &str, expected: &BTreeMap<Vec<u8>, Facts>, found: &BTreeMap<Vec<u8>, Facts>) {
    // find tells block from character devices; the reader has one kind for both.
    let same = |a: &Facts, b: &Facts| {
        let kind = |c: char| if c == 'c' { 'b' } else { c };
        (a.0, a.1, a.2, a.3, a.4, kind(a.5)) == (b.0, b.1, b.2, b.3, b.4, kind(b.5))
    };
    let mut differences = Vec::new();
    for (path, facts) in expected {
        match found.get(path) {
            Some(other) if same(facts, other) => {}
            other => {
                differences.push(format!("{}: find {facts:?}, read {other:?}", HostText::new(&path[..])));
            }
        }
    }
    for (path, facts) in found {
        if !expected.contains_key(path) {
            differences.push(format!("{}: only read {facts:?}", HostText::new(&path[..])));
        }
    }
    assert!(
        differences.is_empty(),
        "{what}: {} of {} lines differ:\n{}",
        differences.len(),
        expected.len(),
        differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// Fills a directory with one of everything.
pub fn populate(root: &Path, many: u32) {
    // A tree of small files; sizes around what fits into an inode.
    for d in 0..12 {
        let dir = root.join(format!("tree/d{d:02}"));
        fs::create_dir_all(&dir).unwrap();
        for f in 0..40_usize {
            fs::write(dir.join(format!("f{f:03}")), vec![b'x'; f * f * (d + 1) % 9000]).unwrap();
        }
    }
    let sizes = root.join("sizes");
    fs::create_dir(&sizes).unwrap();
    for size in [
        0, 1, 59, 60, 61, 100, 120, 127, 128, 156, 160, 161, 200, 511, 512, 513, 1023, 1024, 4095, 4096, 4097,
    ] {
        fs::write(sizes.join(format!("s{size}")), vec![b'y'; size]).unwrap();
    }
    // Directories of few to many entries: inline, one block, and conversions between them.
    for count in [0, 1, 2, 3, 4, 5, 6, 8, 12, 20, 60] {
        let dir = root.join(format!("few/{count}"));
        fs::create_dir_all(&dir).unwrap();
        for at in 0..count {
            fs::write(dir.join(format!("name-{at}")), b"").unwrap();
        }
    }
    let shrunk = root.join("shrunk");
    fs::create_dir(&shrunk).unwrap();
    for at in 0..600 {
        fs::write(shrunk.join(format!("gone-{at:04}")), b"gone").unwrap();
    }
    for at in 3..600 {
        fs::remove_file(shrunk.join(format!("gone-{at:04}"))).unwrap();
    }
    // Two directories that grow in turn, so that their blocks are not in sequence: deep extent trees.
    let long = |at: u32| format!("{at:05}-{}", "n".repeat(249));
    for name in ["frag-a", "frag-b"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let first = root.join("frag-a").join(long(0));
    fs::write(&first, b"one").unwrap();
    let mut target = first.clone();
    for at in 1..many / 8 {
        // A new target now and then: an inode has at most 65000 links (32000 in ext3).
        if at % 30_000 == 0 {
            target = root.join("frag-a").join(long(at));
            fs::write(&target, b"one").unwrap();
            continue;
        }
        fs::hard_link(&target, root.join("frag-a").join(long(at))).unwrap();
        fs::hard_link(&target, root.join("frag-b").join(long(at))).unwrap();
    }
    let crowd = root.join("crowd");
    fs::create_dir(&crowd).unwrap();
    for at in 0..many {
        fs::File::create(crowd.join(format!("entry-{at}"))).unwrap();
    }
    for at in (0..many).step_by(7) {
        fs::remove_file(crowd.join(format!("entry-{at}"))).unwrap();
    }
    odd(root);
}

/// Names, kinds, times and shapes of files that are out of the ordinary.
fn odd(root: &Path) {
    let odd = root.join("odd");
    fs::create_dir(&odd).unwrap();
    for name in
        [&b"\xff\xfe"[..], b"new\nline", b"esc\x1b[31m", "näme".as_bytes(), &[b'z'; 255], &[0xc3; 255]]
    {
        fs::write(odd.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for length in [1, 30, 59, 60, 61, 100, 150, 200, 1000] {
        symlink("t".repeat(length), odd.join(format!("link-{length}"))).unwrap();
    }
    let dir = fs::File::open(&odd).unwrap();
    for (name, kind) in [
        ("fifo", FileType::Fifo),
        ("socket", FileType::Socket),
        ("block", FileType::BlockDevice),
        ("char", FileType::CharacterDevice),
    ] {
        mknodat(&dir, name, kind, Mode::from_raw_mode(0o600), rustix::fs::makedev(700, 70_000)).unwrap();
    }
    fs::hard_link(odd.join("fifo"), odd.join("fifo-2")).unwrap();
    let mut deep = odd.join("deep");
    for at in 0..60 {
        deep = deep.join(format!("{at}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"bottom").unwrap();

    // Holes, a size beyond 32 bits, blocks beyond the end, and alternate blocks punched out: deep extents.
    let sparse = fs::File::create(odd.join("sparse")).unwrap();
    sparse.set_len(6 << 30).unwrap();
    sparse.write_all_at(b"middle", 3 << 30).unwrap();
    let reserved = fs::File::create(odd.join("reserved")).unwrap();
    let _ = fallocate(&reserved, FallocateFlags::KEEP_SIZE, 0, 1 << 20);
    let punched = fs::File::create(odd.join("punched")).unwrap();
    punched.write_all_at(&vec![1; 3 << 20], 0).unwrap();
    punched.sync_all().unwrap();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for at in (0..384).step_by(2) {
        let _ = fallocate(&punched, hole, at * 8192, 4096);
    }
    let time = |secs: i64| {
        let age = Duration::from_secs(secs.unsigned_abs());
        if secs < 0 { SystemTime::UNIX_EPOCH - age } else { SystemTime::UNIX_EPOCH + age }
    };
    for secs in
        [-2_147_483_648_i64, -86_400, -1, 0, 1, 2_147_483_647, 2_147_483_648, 4_294_967_296, 15_032_385_535]
    {
        let file = fs::File::create(odd.join(format!("time{secs}"))).unwrap();
        let _ = file.set_modified(time(secs));
    }
    for size in [10, 200, 900, 3000, 20_000] {
        let path = odd.join(format!("attribute-{size}"));
        fs::write(&path, b"has attributes").unwrap();
        // What does not fit where there is no ea_inode is refused by the kernel; then it is a file without.
        let _ = setxattr(&path, "user.note", &vec![b'a'; size], XattrFlags::empty());
    }
    let dir = odd.join("attribute-dir");
    fs::create_dir(&dir).unwrap();
    let _ = setxattr(&dir, "user.note", &[b'b'; 40], XattrFlags::empty());
    for at in 0..9 {
        fs::write(dir.join(format!("in-{at}")), b"").unwrap();
    }
}
