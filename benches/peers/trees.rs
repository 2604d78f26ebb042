//! The trees: made once, kept below `target/bench`, the same on every machine.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::number;

/// The worlds in the order of the tables; `own` is extra.
pub const NAMES: [&str; 9] =
    ["tree", "wide", "chain", "small", "root", "tree-cold", "small-cold", "ext4-cold", "xfs-cold"];

/// A tree to scan, and how.
pub struct World {
    pub name: String,
    /// What it is, for a heading.
    pub about: String,
    /// Whether the caches are dropped before each run.
    pub cold: bool,
    /// Whether other file systems are mounted in it.
    pub has_mounts: bool,
    tree: Tree,
}

impl World {
    pub fn path(&self) -> &Path {
        &self.tree.path
    }
}

/// A directory; unmounted at the end where it was mounted.
struct Tree {
    path: PathBuf,
    mounted: bool,
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.mounted {
            run("umount", &[&self.path]);
        }
    }
}

/// Finds or makes a world. None, and a line that says why, where it cannot be had.
pub fn world(home: &Path, name: &str) -> Option<World> {
    let cold = name.ends_with("-cold");
    if cold && !rustix::process::geteuid().is_root() {
        eprintln!("LEFT OUT: {name}: only root can drop the caches");
        return None;
    }
    let (tree, what) = match name.trim_end_matches("-cold") {
        "tree" => {
            let entries = number("UNWEDGE_BENCH_ENTRIES", 1_000_000);
            let what = format!("{entries} entries like package sources");
            (make(home, "tree", entries, EXT4, grow_packages), what)
        }
        "small" => {
            let entries = number("UNWEDGE_BENCH_SMALL", 50_000);
            let what = format!("{entries} entries like package sources");
            (make(home, "small", entries, EXT4, grow_packages), what)
        }
        kind @ ("ext4" | "xfs") => {
            let entries = number("UNWEDGE_BENCH_COLD", 134_000);
            let kind = if kind == "xfs" { XFS } else { EXT4 };
            let what = format!("{entries} entries like package sources on {}", kind.name);
            (make(home, "cold", entries, kind, grow_packages), what)
        }
        "wide" => {
            let entries = number("UNWEDGE_BENCH_WIDE", 245_000);
            (make(home, "wide", entries, EXT4, grow_wide), format!("one directory of {entries} files"))
        }
        "chain" => {
            let levels = number("UNWEDGE_BENCH_CHAIN", 25_000);
            (make(home, "chain", levels, EXT4, grow_chain), format!("a chain of {levels} directories"))
        }
        "root" => (Tree { path: PathBuf::from("/"), mounted: false }, "`/` of the machine".to_owned()),
        "own" => {
            let path = PathBuf::from(env::var_os("UNWEDGE_BENCH_TREE")?);
            let what = format!("`{}`", path.display());
            (Tree { path, mounted: false }, what)
        }
        _ => {
            eprintln!("LEFT OUT: there is no world named {name}");
            return None;
        }
    };
    let about = format!("{what}, {}", if cold { "cold" } else { "warm" });
    Some(World { name: name.to_owned(), about, cold, has_mounts: name == "root", tree })
}

pub fn drop_caches() {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping the caches needs root");
}

/// Unmounts and removes everything that was made.
pub fn clean(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if is_mounted(&entry.path()) {
            run("umount", &[&entry.path()]);
        }
    }
    // Not remove_dir_all: the chain is deeper than a path may be long.
    if home.exists() {
        run("rm", &[Path::new("-rf"), Path::new("--one-file-system"), home]);
    }
}

/// A kind of file system, and how an image of it is made with no work left for later.
#[derive(Clone, Copy)]
struct FileSystem {
    name: &'static str,
    make: &'static [&'static str],
}

const EXT4: FileSystem = FileSystem {
    name: "ext4",
    make: &["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0"],
};

const XFS: FileSystem = FileSystem { name: "xfs", make: &["/sbin/mkfs.xfs", "-q", "-f"] };

/// A tree of this name and size: in an image of its own where that can be mounted, else in a plain directory.
fn make(home: &Path, name: &str, size: usize, kind: FileSystem, grow: fn(&Path, usize)) -> Tree {
    let path = home.join(format!("{name}-{size}-{}", kind.name));
    if is_mounted(&path) {
        return Tree { path, mounted: true };
    }
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all(&path).expect("making a mount point");
        let image = home.join(format!("{name}-{size}.{}", kind.name));
        if !image.exists() {
            // Only what is complete has the right name.
            let part = image.with_extension("part");
            make_image(&part, size, kind);
            if mount(&part, &path, kind) {
                eprintln!("making {}", path.display());
                grow(&path, size);
                run("umount", &[&path]);
                fs::rename(&part, &image).expect("renaming an image");
            }
        }
        if image.exists() && mount(&image, &path, kind) {
            return Tree { path, mounted: true };
        }
        eprintln!("LEFT OUT: reading {} from a device: an image cannot be mounted here", path.display());
    }
    let plain = home.join(format!("{name}-{size}-plain"));
    if !plain.exists() {
        let part = home.join(format!("{name}-{size}-part"));
        if part.exists() {
            run("rm", &[Path::new("-rf"), &part]);
        }
        eprintln!("making {}", plain.display());
        fs::create_dir(&part).expect("making a tree");
        grow(&part, size);
        fs::rename(&part, &plain).expect("renaming a tree");
    }
    Tree { path: plain, mounted: false }
}

/// An empty file system with room for so many entries, as its maker makes it today.
fn make_image(path: &Path, entries: usize, kind: FileSystem) {
    let bytes = (1 << 30) + (entries as u64) * 10_000;
    fs::File::create(path).and_then(|file| file.set_len(bytes)).expect("making an image");
    let inodes = (entries * 2 + 10_000).to_string();
    let inodes: &[&str] = if kind.name == EXT4.name { &["-N", &inodes] } else { &[] };
    let (maker, options) = kind.make.split_first().expect("a command");
    let made = Command::new(maker).args(options).args(inodes).arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "{maker} (package e2fsprogs or xfsprogs) failed");
}

fn mount(image: &Path, at: &Path, kind: FileSystem) -> bool {
    let done =
        Command::new("mount").args(["-t", kind.name, "-o", "loop,noatime"]).arg(image).arg(at).status();
    done.is_ok_and(|status| status.success())
}

/// Whether something is mounted on a directory.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).ok().map(|stat| stat.dev());
    path.parent().is_some_and(|parent| device(path).is_some() && device(path) != device(parent))
}

fn run(program: &str, arguments: &[&Path]) {
    let done = Command::new(program).args(arguments).status();
    assert!(done.is_ok_and(|status| status.success()), "{program} {arguments:?} failed");
}

/// Numbers that look random and are the same everywhere: xorshift64.
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        let mut dice = Self((seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(2);
        dice
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % (limit as u64).max(1)).unwrap_or(0)
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }
}

/// What names of packages and sources are made of.
const WORDS: [&str; 72] = [
    "abstract",
    "async",
    "attribute",
    "binding",
    "buffer",
    "builder",
    "cache",
    "channel",
    "client",
    "codec",
    "collection",
    "command",
    "compiler",
    "component",
    "config",
    "connection",
    "context",
    "core",
    "crypto",
    "datetime",
    "decoder",
    "derive",
    "diagnostic",
    "dispatch",
    "driver",
    "element",
    "encoder",
    "engine",
    "error",
    "event",
    "executor",
    "expression",
    "extension",
    "factory",
    "filter",
    "format",
    "function",
    "generator",
    "handler",
    "helper",
    "http",
    "identifier",
    "implementation",
    "index",
    "interface",
    "internal",
    "iterator",
    "json",
    "layout",
    "loader",
    "macro",
    "manager",
    "message",
    "metadata",
    "module",
    "network",
    "node",
    "parser",
    "pattern",
    "platform",
    "plugin",
    "protocol",
    "provider",
    "query",
    "renderer",
    "request",
    "resolver",
    "response",
    "runtime",
    "scheduler",
    "template",
    "transform",
];
const TOP: [&str; 10] = [
    "Cargo.toml",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "CHANGELOG.md",
    ".cargo_vcs_info.json",
    "package.json",
    "tsconfig.build.json",
    "Cargo.toml.orig",
    ".gitignore",
];
const COMMON: [&str; 8] =
    ["mod.rs", "lib.rs", "index.js", "index.d.ts", "types.d.ts", "package.json", "tests.rs", "index.js.map"];
const DIRECTORIES: [&str; 10] =
    ["src", "dist", "lib", "tests", "examples", "benches", "commonjs", "internal", "esm", "locales"];
const ENDINGS: [&str; 6] = [".rs", ".js", ".d.ts", ".js.map", ".test.ts", ".md"];

/// Workspaces with the same packages again and again, as registries and `node_modules` have them: a directory for
/// every 12 entries, names of 17 bytes on average, most of which come many times.
fn grow_packages(root: &Path, entries: usize) {
    const PACKAGES: usize = 1500;
    let mut left = entries;
    for workspace in 0.. {
        let home = root.join(format!("workspace-{workspace:03}/node_modules"));
        fs::create_dir_all(&home).expect("making the tree");
        left = left.saturating_sub(2);
        for package in 0..PACKAGES {
            // Each has most of them.
            if (package * 7 + workspace * 5) % 4 == 0 {
                continue;
            }
            let mut dice = Dice::new(package);
            let name = format!("{}-{}-{}.{package}", dice.of(&WORDS), dice.of(&WORDS), dice.below(9));
            grow_directory(&home.join(name), 0, &mut dice, &mut left);
            if left == 0 {
                return;
            }
        }
    }
}

fn grow_directory(path: &Path, depth: usize, dice: &mut Dice, left: &mut usize) {
    if *left == 0 {
        return;
    }
    fs::create_dir(path).expect("making the tree");
    *left -= 1;
    // Most directories are small, few are large.
    let files = 1 + dice.below(8) + if dice.below(6) == 0 { dice.below(70) } else { 0 };
    for at in 0..files {
        let name = match dice.below(8) {
            0 | 1 if depth == 0 => (*TOP.get(at % TOP.len()).unwrap_or(&"README")).to_owned(),
            0 | 1 => dice.of(&COMMON).to_owned(),
            2 | 3 => format!("{}{}", dice.of(&WORDS), dice.of(&ENDINGS)),
            4..=6 => format!("{}-{}{}", dice.of(&WORDS), dice.of(&WORDS), dice.of(&ENDINGS)),
            _ => format!("{}_{}_{}{}", dice.of(&WORDS), dice.of(&WORDS), dice.of(&WORDS), dice.of(&ENDINGS)),
        };
        let (full, size) = (dice.below(40) == 0, dice.below(6000));
        if *left > 0 && grow_file(&path.join(name), full, size) {
            *left -= 1;
        }
    }
    let below = if depth == 0 { 1 + dice.below(4) } else { dice.below(7).saturating_sub(depth + 2) };
    for at in 0..below {
        let name = if depth < 2 {
            (*DIRECTORIES.get(at % DIRECTORIES.len()).unwrap_or(&"src")).to_owned()
        } else {
            format!("{}-{at}", dice.of(&WORDS))
        };
        grow_directory(&path.join(name), depth + 1, dice, left);
    }
}

/// A file, written in full or with its size only: blocks of files do not matter to who reads names and inodes.
/// False where the name is taken.
fn grow_file(path: &Path, full: bool, size: usize) -> bool {
    if path.exists() {
        return false;
    }
    if full {
        fs::write(path, vec![b'x'; size]).expect("making a file");
    } else {
        fs::File::create(path).and_then(|file| file.set_len(size as u64)).expect("making a file");
    }
    true
}

/// One directory of files, as caches and mail queues have it.
fn grow_wide(root: &Path, entries: usize) {
    let mut dice = Dice::new(entries);
    for number in 0..entries {
        let name = format!("{}-{number:07}.{}", dice.of(&WORDS), dice.below(1000));
        grow_file(&root.join(name), number % 40 == 0, dice.below(6000));
    }
}

/// Directories one in the other, each with a file: from the second hundred on no path reaches them.
fn grow_chain(root: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, flags, Mode::empty()).expect("making a chain");
    for _ in 0..levels {
        let file = openat(&at, "package.json", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
        rustix::io::write(file.expect("making a chain"), b"{}").expect("making a chain");
        mkdirat(&at, "node_modules", Mode::RWXU).expect("making a chain");
        at = openat(&at, "node_modules", flags, Mode::empty()).expect("making a chain");
    }
}
