//! Who takes part: ourselves, the plain loop, and the peers, which are found, built or installed.

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{jwalk, list, reference};

/// The first row: every ratio is to it.
pub const FIRST: &str = "unwedge, ordinary calls";

/// As many threads as cold caches want, from the beginning: what hiring them as it goes is held against.
const FIXED: &str = "16";

/// A program to measure.
pub struct Program {
    /// Its name in the tables, with its version.
    pub name: String,
    /// Its command line; the tree's path comes last.
    pub command: Vec<String>,
    /// Whether it stays on one file system.
    pub stays: bool,
    total: Says,
}

/// Where the total is in what a program prints.
#[derive(Clone, Copy)]
enum Says {
    /// The largest number.
    Largest,
    /// Our own report.
    Report,
    /// ncdu's export has no total, but the size of every entry.
    Export,
}

/// A peer: the package for cargo or apt, the program, its arguments.
struct Peer {
    package: &'static str,
    from: From,
    program: &'static str,
    arguments: &'static [&'static str],
    stays: bool,
    says: Says,
}

#[derive(PartialEq, Eq)]
enum From {
    Cargo,
    Apt,
}

/// Each with the arguments for what we count, too: space taken, one file system where they can, no colours, no
/// progress.
const PEERS: [Peer; 7] = [
    Peer {
        package: "ncdu",
        from: From::Apt,
        program: "ncdu",
        arguments: &["-0", "-x", "-o", "-"],
        stays: true,
        says: Says::Export,
    },
    Peer {
        package: "parallel-disk-usage",
        from: From::Cargo,
        program: "pdu",
        arguments: &["--max-depth=1", "--quantity=block-size", "--bytes-format=plain"],
        stays: false,
        says: Says::Largest,
    },
    Peer {
        package: "diskus",
        from: From::Cargo,
        program: "diskus",
        arguments: &[],
        stays: false,
        says: Says::Largest,
    },
    Peer {
        package: "gdu",
        from: From::Apt,
        program: "gdu",
        arguments: &["-n", "-p", "-c", "-x", "-s", "--no-prefix"],
        stays: true,
        says: Says::Largest,
    },
    Peer {
        package: "du-dust",
        from: From::Cargo,
        program: "dust",
        arguments: &["-P", "-x", "-d0", "-o", "b"],
        stays: true,
        says: Says::Largest,
    },
    Peer {
        package: "coreutils",
        from: From::Apt,
        program: "du",
        arguments: &["-s", "-x", "--block-size=1"],
        stays: true,
        says: Says::Largest,
    },
    Peer {
        package: "dua-cli",
        from: From::Cargo,
        program: "dua",
        arguments: &["--stay-on-filesystem", "--format", "bytes", "aggregate"],
        stays: true,
        says: Says::Largest,
    },
];

impl Program {
    fn new(name: &str, command: &[&str], stays: bool, total: Says) -> Self {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Self { name: name.to_owned(), command, stays, total }
    }

    /// Whether its total is the one that others are compared with.
    pub fn is_du(&self) -> bool {
        self.name.split(' ').next() == Some("du")
    }

    /// The total in what it printed.
    pub fn counted(&self, said: &str) -> Option<u64> {
        match self.total {
            Says::Largest => {
                said.split_whitespace().filter_map(|word| word.trim_end_matches('B').parse().ok()).max()
            }
            Says::Report => {
                let report: serde_json::Value = serde_json::from_str(said).ok()?;
                report.pointer("/scan/value/allocated")?.as_u64()
            }
            Says::Export => said.starts_with('[').then(|| sum_of_export(said)),
        }
    }
}

/// What an export of ncdu adds up to, files with several names once.
fn sum_of_export(said: &str) -> u64 {
    let number =
        |text: &str| -> Option<u64> { text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok() };
    let mut linked = HashSet::new();
    said.split("\"dsize\":")
        .skip(1)
        .filter_map(|entry| {
            let entry = entry.split('}').next()?;
            let linked_as =
                entry.contains("\"hlnkc\":true").then(|| entry.split("\"ino\":").nth(1)).flatten();
            linked_as.is_none_or(|ino| linked.insert(number(ino))).then(|| number(entry)).flatten()
        })
        .sum()
}

/// Everybody who is to be had.
pub fn all(target: &Path) -> Vec<Program> {
    let ours = env!("CARGO_BIN_EXE_unwedge");
    let report = ["scan", "--top", "1", "--format", "json", "--method"];
    let own =
        |name, method| Program::new(name, &[&[ours][..], &report, &[method]].concat(), true, Says::Report);
    let mut all = vec![own(FIRST, "calls"), own("unwedge, from the device", "raw")];
    let fixed = [&[ours][..], &report, &["calls", "--threads", FIXED]].concat();
    all.push(Program::new(&format!("unwedge, {FIXED} threads"), &fixed, true, Says::Report));
    let this = env::current_exe().expect("the path of this program");
    let this = this.to_string_lossy();
    let name = "one thread, getdents and statx";
    all.push(Program::new(name, &[&this, reference::FLAG], true, Says::Largest));
    all.push(Program::new(&jwalk::name(), &[&this, jwalk::FLAG], true, Says::Largest));
    let own_peers = target.join("peers");
    let peers = env::var_os("UNWEDGE_BENCH_PEERS").map_or_else(|| own_peers.join("bin"), PathBuf::from);
    let only = list("UNWEDGE_BENCH_PROGRAMS");
    let asked_for = |name: &str| {
        only.as_ref().is_none_or(|only| only.iter().any(|start| name.starts_with(start.as_str())))
    };
    for peer in PEERS.iter().filter(|peer| asked_for(peer.program)) {
        let Some(path) = find(peer, &peers).or_else(|| get(peer, &own_peers)) else {
            eprintln!("LEFT OUT: {} (package {}) is not to be had here", peer.program, peer.package);
            continue;
        };
        let path = path.to_string_lossy().into_owned();
        let command = [&[path.as_str()][..], peer.arguments].concat();
        all.push(Program::new(&with_version(peer.program, &path), &command, peer.stays, peer.says));
    }
    all.retain(|program| program.name == FIRST || asked_for(&program.name));
    all
}

/// Among the peers, else on the machine. What cargo builds is not taken from the machine, where it may be old.
fn find(peer: &Peer, peers: &Path) -> Option<PathBuf> {
    let built = peers.join(peer.program);
    if built.exists() {
        return Some(built);
    }
    if peer.from == From::Cargo {
        return None;
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(peer.program)).find(|path| path.exists())
}

/// Builds or installs it.
fn get(peer: &Peer, root: &Path) -> Option<PathBuf> {
    eprintln!("installing {}", peer.package);
    let done = match peer.from {
        From::Cargo => Command::new(env!("CARGO"))
            .args(["install", "--quiet", "--locked", "--root"])
            .arg(root)
            .arg(peer.package)
            .status(),
        From::Apt if rustix::process::geteuid().is_root() => Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends", peer.package])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status(),
        From::Apt => {
            eprintln!("only root can: apt-get install {}", peer.package);
            return None;
        }
    };
    done.ok().filter(std::process::ExitStatus::success)?;
    find(peer, &root.join("bin"))
}

/// The name with the version that the program says it has.
fn with_version(name: &str, path: &str) -> String {
    let said = Command::new(path).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let version = said
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"))
}
