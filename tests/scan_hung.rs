//! A server that stops answering in the middle of a scan: the scan can be cancelled, goes on elsewhere, and nothing
//! that the stuck worker comes back with gets into the tree.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests make fixtures in directories and namespaces of their own, and fail by panicking"
)]

#[path = "common/scan.rs"]
mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{MountDir, all_rows, inside_own_namespaces, node};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use unwedge::scan::{Method, Options, Progress, Scan};

/// Only so that a failure ends: nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(30);

/// Files in each of the two directories.
const FILES: u64 = 9;

/// Numbers of the directories `a` and `b`, and of their first files less one.
const A: u64 = 2;
const B: u64 = 3;
const BELOW: u64 = 100;

/// Questions that are not answered for now: by the number of the directory, and the name looked up in it.
type Hung = Arc<Mutex<Option<(u64, &'static str)>>>;

/// A file system of two directories whose server can be told to keep a question to itself.
struct Server {
    at: PathBuf,
    device: Arc<File>,
    hung: Hung,
    /// The answers that were kept back.
    unanswered: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Told of each of these.
    came: Receiver<()>,
}

impl Server {
    fn mount(at: &Path) -> Self {
        let device = Arc::new(File::options().read(true).write(true).open("/dev/fuse").unwrap());
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("slow:/export"), at, Some("fuse.sshfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        let hung: Hung = Arc::default();
        let unanswered: Arc<Mutex<Vec<_>>> = Arc::default();
        let (tell, came) = mpsc::channel();
        let (serves, holds, keeps) = (Arc::clone(&device), Arc::clone(&hung), Arc::clone(&unanswered));
        thread::spawn(move || {
            let mut request = vec![0; 1 << 17];
            while let Ok(len) = (&*serves).read(&mut request) {
                // struct fuse_in_header: len, opcode, unique, nodeid (include/uapi/linux/fuse.h).
                let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
                let unique = u64::from_ne_bytes(request[8..16].try_into().unwrap());
                let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
                let body = &request[40..len];
                let Some(reply) = answer(opcode, unique, node, body) else { continue };
                let name = body.split(|byte| *byte == 0).next().unwrap_or_default();
                let hangs = opcode == LOOKUP
                    && holds.lock().unwrap().is_some_and(|(dir, of)| dir == node && of.as_bytes() == name);
                if hangs {
                    keeps.lock().unwrap().push(reply);
                    let _ = tell.send(());
                } else {
                    let _ = (&*serves).write_all(&reply);
                }
            }
        });
        Self { at: at.to_path_buf(), device, hung, unanswered, came }
    }

    fn hang(&self, dir: u64, name: &'static str) {
        *self.hung.lock().unwrap() = Some((dir, name));
    }

    /// Until somebody waits for what is not answered.
    fn until_asked(&self) {
        self.came.recv_timeout(LIMIT).unwrap();
    }

    /// Answers what was not answered.
    fn go_on(&self) {
        *self.hung.lock().unwrap() = None;
        for reply in self.unanswered.lock().unwrap().drain(..) {
            let _ = (&*self.device).write_all(&reply);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends all that wait: a thread that sleeps uninterruptibly would keep this process from ending.
        let _ = umount2(&self.at, MntFlags::MNT_FORCE);
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

const LOOKUP: u32 = 1;

/// The answer to a request; none to those that want none.
fn answer(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Option<Vec<u8>> {
    const ENOENT: i32 = -2;
    const ENOSYS: i32 = -38;
    let mut out = Vec::new();
    let mut error = 0;
    match opcode {
        LOOKUP => match child(node, body) {
            Some(child) => {
                // struct fuse_entry_out: nodeid, generation, and nothing of it may be kept.
                out.extend(child.to_ne_bytes());
                out.extend([0; 32]);
                attributes(child, &mut out);
            }
            None => error = ENOENT,
        },
        // GETATTR: struct fuse_attr_out.
        3 => {
            out.extend([0; 16]);
            attributes(node, &mut out);
        }
        // OPENDIR: struct fuse_open_out.
        27 => out.extend([0; 16]),
        // READDIR: struct fuse_read_in has the position at 8.
        28 => {
            let from = u64::from_ne_bytes(body[8..16].try_into().unwrap());
            for (position, (name, number)) in (1u64..).zip(entries(node)).filter(|(at, _)| *at > from) {
                let kind: u32 = if number < BELOW { 4 } else { 8 };
                out.extend(number.to_ne_bytes());
                out.extend(position.to_ne_bytes());
                out.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
                out.extend(kind.to_ne_bytes());
                out.extend(name.as_bytes());
                out.resize(out.len().next_multiple_of(8), 0);
            }
        }
        // INIT: struct fuse_init_out of version 7.31.
        26 => {
            for word in [7u32, 31, 0, 0, 0, 4096, 1, 0] {
                out.extend(word.to_ne_bytes());
            }
            out.resize(64, 0);
        }
        // STATFS, RELEASEDIR.
        17 => out.resize(80, 0),
        29 => {}
        // FORGET, INTERRUPT, BATCH_FORGET.
        2 | 36 | 42 => return None,
        _ => error = ENOSYS,
    }
    // struct fuse_out_header.
    let mut reply = Vec::new();
    reply.extend(u32::try_from(16 + out.len()).unwrap().to_ne_bytes());
    reply.extend(i32::to_ne_bytes(error));
    reply.extend(unique.to_ne_bytes());
    reply.extend(out);
    Some(reply)
}

fn entries(dir: u64) -> Vec<(String, u64)> {
    match dir {
        1 => vec![("a".to_owned(), A), ("b".to_owned(), B)],
        A | B => (1..=FILES).map(|file| (format!("file{file}"), dir * BELOW + file)).collect(),
        _ => Vec::new(),
    }
}

fn child(dir: u64, name: &[u8]) -> Option<u64> {
    let name = name.split(|byte| *byte == 0).next()?;
    entries(dir).into_iter().find(|(of, _)| of.as_bytes() == name).map(|(_, number)| number)
}

/// struct `fuse_attr`.
fn attributes(node: u64, out: &mut Vec<u8>) {
    let (mode, links): (u32, u32) = if node < BELOW { (0o040_755, 2) } else { (0o100_644, 1) };
    // Number, size, blocks, and three times.
    for word in [node, 4096, 8, 1, 1, 1] {
        out.extend(word.to_ne_bytes());
    }
    // Their nanoseconds, mode, links, uid, gid, rdev, blksize, flags.
    for word in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
        out.extend(u32::to_ne_bytes(word));
    }
}

/// What something that could wait for ever comes to.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    told.recv_timeout(LIMIT).expect("it does not end")
}

fn ended(scan: &Scan) -> Progress {
    let scan = scan.clone();
    in_time(move || scan.wait())
}

/// How many threads of scans there are.
fn workers() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with(b"unwedge-scan"))
        .count()
}

/// Waits until so many are left: a thread is there a moment longer than its part in a scan.
fn until_workers_are(left: usize) {
    in_time(move || {
        while workers() != left {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

fn with_calls() -> Options {
    Options { threads: Some(2), method: Method::Calls, ..Options::default() }
}

#[test]
fn a_worker_that_never_gets_its_answer_is_left_behind_and_puts_nothing_into_the_tree_later() {
    let name = "a_worker_that_never_gets_its_answer_is_left_behind_and_puts_nothing_into_the_tree_later";
    if !inside_own_namespaces(name) {
        return;
    }
    let dir = MountDir::new();
    let root = dir.path();
    let server = Server::mount(root);
    server.hang(B, "file5");
    let scan = Scan::start(root, &with_calls()).unwrap();
    server.until_asked();
    // The other worker reads the other directory meanwhile.
    let reads_a = scan.clone();
    in_time(move || {
        while reads_a.progress().entries < 3 + FILES {
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(!scan.progress().finished);

    scan.cancel();
    let end = ended(&scan);
    assert!(end.finished && end.cancelled, "{end:?}");
    until_workers_are(1);
    let rows = all_rows(&scan);
    assert_eq!(rows[&root.join("a")].entries, 1 + FILES);
    assert_eq!(rows[&root.join("b")].entries, 1);
    assert!(rows[&root.join("b")].flags.unreadable && !rows[&root.join("a")].flags.unreadable_below);

    // Another part is read while it is still stuck.
    let (again, a) = (scan.clone(), node(&scan, &root.join("a")));
    in_time(move || again.rescan(a)).unwrap();
    assert!(!ended(&scan).cancelled);
    let (rows, seen) = (all_rows(&scan), scan.progress());
    assert_eq!(seen.entries, 3 + FILES);
    until_workers_are(1);

    server.go_on();
    until_workers_are(0);
    assert_eq!((all_rows(&scan), scan.progress()), (rows, seen), "it came back and changed something");

    scan.rescan(node(&scan, &root.join("b"))).unwrap();
    let end = ended(&scan);
    assert!(!end.cancelled);
    assert_eq!(end.entries, 3 + 2 * FILES);
    assert_eq!(scan.row(scan.root()).unwrap().entries, 3 + 2 * FILES);
}

#[test]
fn a_rescan_that_gets_no_answer_keeps_nobody_else_waiting() {
    if !inside_own_namespaces("a_rescan_that_gets_no_answer_keeps_nobody_else_waiting") {
        return;
    }
    let dir = MountDir::new();
    let root = dir.path();
    let server = Server::mount(root);
    let scan = Scan::start(root, &with_calls()).unwrap();
    assert_eq!(ended(&scan).entries, 3 + 2 * FILES);
    let before = all_rows(&scan);

    server.hang(1, "a");
    let a = node(&scan, &root.join("a"));
    let stuck = scan.clone();
    let rescan = thread::spawn(move || stuck.rescan(a).map_err(|error| error.to_string()));
    server.until_asked();
    assert!(ended(&scan).finished);
    scan.cancel();
    let (again, b) = (scan.clone(), node(&scan, &root.join("b")));
    in_time(move || again.rescan(b)).unwrap();
    assert!(!ended(&scan).cancelled);

    server.go_on();
    rescan.join().unwrap().unwrap();
    assert!(!ended(&scan).cancelled);
    let sums = |rows: std::collections::BTreeMap<PathBuf, unwedge::scan::Row>| {
        rows.into_iter().map(|(path, row)| (path, row.entries, row.allocated)).collect::<Vec<_>>()
    };
    assert_eq!(sums(all_rows(&scan)), sums(before));
}
