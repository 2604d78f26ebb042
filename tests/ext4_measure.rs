//! Measures reading a whole ext4 file system; run by hand on a mounted one:
//! `UNWEDGE_EXT4=/mnt/point cargo test --release --test ext4_measure -- --ignored --nocapture`
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a measurement, run by hand"
)]

#[path = "common/ext4.rs"]
mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use unwedge::domain::identity::DevId;
use unwedge::domain::size::Bytes;
use unwedge::scan::ext4::{Entry, Inodes, Mounted, Options, Sink, open};
use unwedge::sys::block_device::open_for;

/// Keeps what a tree would keep: each directory's names in one arena per thread.
struct Keep;

#[derive(Default)]
struct Kept {
    names: Vec<u8>,
    entries: Vec<(u32, u32)>,
    directories: Vec<(u32, u32)>,
}

impl Sink for Keep {
    type Worker = Kept;

    fn start(&self, _: &Inodes) -> Kept {
        Kept::default()
    }

    fn entries(&self, kept: &mut Kept, _: &Inodes, directory: u32, entries: &[Entry<'_>]) {
        kept.directories.push((directory, u32::try_from(kept.entries.len()).unwrap()));
        for entry in entries {
            kept.entries.push((entry.ino, u32::try_from(kept.names.len()).unwrap()));
            kept.names.push(u8::try_from(entry.name.len()).unwrap());
            kept.names.extend_from_slice(entry.name);
        }
    }
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement, run by hand with UNWEDGE_EXT4 set to a mount point"]
fn whole_file_system() {
    let root = std::env::var_os("UNWEDGE_EXT4").expect("UNWEDGE_EXT4 names a mount point");
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let threads: usize = std::env::var("THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let stat = rustix::fs::stat(&*root).unwrap();
    let dev = DevId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev) };
    let base = status("VmHWM:");
    for _ in 0..rounds {
        let begun = Instant::now();
        rustix::fs::syncfs(std::fs::File::open(&root).unwrap()).unwrap();
        let synced = begun.elapsed();
        let ext4 = open(open_for(dev).unwrap(), Mounted::Yes).unwrap();
        let cancel = AtomicBool::new(false);
        let options = Options {
            threads,
            cold_threads: threads,
            cancel: &cancel,
            memory: Bytes(4 << 30),
            changed_since: None,
            seen: None,
        };
        let census = ext4.read(&options, &Keep).unwrap();
        let took = begun.elapsed();
        let entries: usize = census.workers.iter().map(|kept| kept.entries.len()).sum();
        eprintln!(
            "{threads} threads: {:.3} s (syncfs {:.3} s); {entries} entries, {} inodes, {} directories, {} troubles; \
             table {:.1} MB, {:.1} bytes per inode; peak {:.1} MB, {:.1} MB of it before",
            took.as_secs_f64(),
            synced.as_secs_f64(),
            census.inodes.len(),
            census.directories,
            census.troubles.len(),
            census.inodes.memory() as f64 / 1e6,
            census.inodes.memory() as f64 / census.inodes.len() as f64,
            status("VmHWM:") as f64 / 1e3,
            base as f64 / 1e3,
        );
    }
}

#[test]
#[ignore = "a comparison, run by hand with UNWEDGE_EXT4 set to a mount point that nothing writes to"]
fn every_line_equals_find() {
    let root = std::env::var_os("UNWEDGE_EXT4").expect("UNWEDGE_EXT4 names a mount point");
    rustix::fs::syncfs(std::fs::File::open(&root).unwrap()).unwrap();
    let stat = rustix::fs::stat(&*root).unwrap();
    let dev = DevId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev) };
    let lines = common::oracle(Path::new(&root));
    common::assert_equal("mounted", &lines, &common::read(open_for(dev).unwrap(), Mounted::Yes).unwrap());
    eprintln!("{} lines equal", lines.len());
}
