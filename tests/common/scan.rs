//! Trees to scan, and what a plain walk says of them.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod again;

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use unwedge::domain::identity::FileKind;
use unwedge::scan::{NodeId, Options, Row, Scan, SortKey};

#[allow(unused_imports, reason = "not every test file runs tests again")]
pub use again::*;

/// Scans to the end.
pub fn scanned(path: &Path, threads: u16) -> Scan {
    let scan = Scan::start(path, &Options { threads: Some(threads), ..Options::default() }).unwrap();
    let end = scan.wait();
    assert!(end.finished && !end.cancelled, "{end:?}");
    scan
}

/// Every row of a scan by its path, the root's included.
pub fn all_rows(scan: &Scan) -> BTreeMap<PathBuf, Row> {
    let root = scan.list(scan.root(), SortKey::Name, false).unwrap();
    let mut rows = BTreeMap::from([(root.path.as_path().to_path_buf(), root.dir)]);
    let mut open = vec![scan.root()];
    while let Some(dir) = open.pop() {
        let listing = scan.list(dir, SortKey::Name, false).unwrap();
        for row in listing.rows {
            let path = listing.path.as_path().join(OsStr::from_bytes(row.name.as_bytes()));
            assert_eq!(scan.path(row.node).as_path(), path);
            if row.kind == FileKind::Directory && !row.flags.mount_point {
                open.push(row.node);
            }
            assert!(rows.insert(path, row).is_none(), "a path listed twice");
        }
    }
    rows
}

/// The node of a path below the root.
pub fn node(scan: &Scan, path: &Path) -> NodeId {
    all_rows(scan).get(path).unwrap_or_else(|| panic!("{} is not in the tree", path.display())).node
}

/// What the rows of a tree must be, by walkdir and lstat. Which name of a file counts is the scanner's
/// choice: it is taken from `rows`, and must be exactly one of those within the tree.
pub fn check_against_walkdir(root: &Path, rows: &BTreeMap<PathBuf, Row>) {
    #[derive(Default, Debug, PartialEq, Eq)]
    struct Sum {
        apparent: u64,
        allocated: u64,
        entries: u64,
        newest: Option<i64>,
    }
    let mut sums: BTreeMap<PathBuf, Sum> = BTreeMap::new();
    let mut counted = HashSet::new();
    let mut several = HashSet::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let row = rows.get(entry.path()).unwrap_or_else(|| panic!("missing: {}", entry.path().display()));
        let linked = !meta.is_dir() && meta.nlink() > 1;
        assert_eq!(row.flags.hard_link, linked, "{}", entry.path().display());
        if linked {
            several.insert((meta.dev(), meta.ino()));
        }
        let counts = !row.flags.counted_elsewhere;
        if linked && counts {
            assert!(counted.insert((meta.dev(), meta.ino())), "counted twice: {}", entry.path().display());
        }
        for above in entry.path().ancestors().take(entry.depth() + 1) {
            let sum = sums.entry(above.to_path_buf()).or_default();
            sum.entries += 1;
            sum.newest = sum.newest.max(Some(meta.mtime()));
            if counts || above == entry.path() {
                sum.apparent += meta.len();
                sum.allocated += meta.blocks() * 512;
            }
        }
    }
    assert_eq!(counted, several, "each file with several names counts once");
    let seen: BTreeMap<PathBuf, Sum> = rows
        .iter()
        .map(|(path, row)| {
            let sum = Sum {
                apparent: row.apparent.0,
                allocated: row.allocated.0,
                entries: row.entries,
                newest: Some(row.modified),
            };
            (path.clone(), sum)
        })
        .collect();
    assert_eq!(seen.len(), sums.len());
    for (path, sum) in &sums {
        assert_eq!(seen.get(path), Some(sum), "{}", path.display());
    }
}

/// What du says: (space taken, apparent size).
pub fn du(path: &Path) -> (u64, u64) {
    let ask = |apparent: &[&str]| {
        let out = Command::new("du")
            .args(["-s", "-x", "--block-size=1"])
            .args(apparent)
            .arg(path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    (ask(&[]), ask(&["--apparent-size"]))
}

/// The apparent size of a tree as the installed du counts it. The scanner counts that of all entries, as du did;
/// coreutils from 9.2 on counts that of regular files and symbolic links only (its NEWS).
pub fn apparent_as_du_counts(root: &Path, rows: &BTreeMap<PathBuf, Row>) -> u64 {
    if du_counts_apparent_directories() {
        return rows[root].apparent.0;
    }
    let counts = |row: &&Row| {
        matches!(row.kind, FileKind::File | FileKind::Symlink)
            && !row.flags.counted_elsewhere
            && !row.flags.mount_point
    };
    rows.values().filter(counts).map(|row| row.apparent.0).sum()
}

fn du_counts_apparent_directories() -> bool {
    let out = Command::new("du").arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = text.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < (9, 2)
}

/// Small numbers that look random: xorshift64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit
    }
}

/// A name of any bytes that a name may have.
pub fn odd_name(dice: &mut Dice) -> OsString {
    let fixed: [&[u8]; 6] =
        [b"line\nbreak", b"\x1b[2Jcleared", b"-rf", b" ", b"\xff\xfe\xfd", "n\u{e4}me".as_bytes()];
    let bytes: Vec<u8> = match dice.below(4) {
        0 => fixed[dice.below(fixed.len())].to_vec(),
        1 => (0..255).map(|_| u8::try_from(dice.below(255) + 1).unwrap()).collect(),
        _ => format!("plain-{}", dice.below(100_000)).into_bytes(),
    };
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect();
    OsString::from_vec(bytes)
}

/// Makes a tree of about `count` entries: directories, files with and without holes, hard links,
/// symbolic links in circles and to nowhere, pipes; in no order.
pub fn grow(root: &Path, seed: u64, count: usize) {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut dirs = vec![root.to_path_buf()];
    let mut files: Vec<PathBuf> = Vec::new();
    for _ in 0..count {
        let path = dirs[dice.below(dirs.len())].join(odd_name(&mut dice));
        if path.symlink_metadata().is_ok() || path.as_os_str().len() > 3500 {
            continue;
        }
        match dice.below(10) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                dirs.push(path);
            }
            2 => {
                let file = fs::File::create(&path).unwrap();
                file.set_len(u64::try_from(dice.below(1 << 30)).unwrap()).unwrap();
                files.push(path);
            }
            3 if !files.is_empty() => fs::hard_link(&files[dice.below(files.len())], &path).unwrap(),
            4 => std::os::unix::fs::symlink(root, &path).unwrap(),
            5 => std::os::unix::fs::symlink("nowhere/at/all", &path).unwrap(),
            6 => rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
                .unwrap(),
            _ => {
                fs::write(&path, vec![1u8; dice.below(20_000)]).unwrap();
                files.push(path);
            }
        }
    }
    for path in files.iter().step_by(3) {
        let moment = rustix::fs::Timespec {
            tv_sec: i64::try_from(dice.below(4_000_000_000)).unwrap() - 100_000_000,
            tv_nsec: 0,
        };
        let both = rustix::fs::Timestamps { last_access: moment, last_modification: moment };
        rustix::fs::utimensat(rustix::fs::CWD, path, &both, rustix::fs::AtFlags::empty()).unwrap();
    }
}

/// A directory removed with rm, which copes with any depth.
pub struct Deep(pub PathBuf);

impl Drop for Deep {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg("--").arg(&self.0).status();
    }
}

/// Makes `depth` directories, each in the one before, each with a file and `beside` more directories.
pub fn chain(root: &Path, depth: usize, beside: usize) -> Deep {
    chain_of(root, depth, beside, &[])
}

/// The same with something in the files. The file at the bottom is the largest.
pub fn chain_of(root: &Path, depth: usize, beside: usize, contents: &[u8]) -> Deep {
    fs::create_dir(root).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        for number in 0..beside {
            mkdirat(&at, format!("beside-{number}"), Mode::RWXU).unwrap();
        }
        let file = openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        rustix::io::write(&file, contents).unwrap();
        mkdirat(&at, "deeper", Mode::RWXU).unwrap();
        at = openat(&at, "deeper", flags, Mode::empty()).unwrap();
    }
    let bottom = openat(&at, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&bottom, &vec![1; 60_000]).unwrap();
    Deep(root.to_path_buf())
}
