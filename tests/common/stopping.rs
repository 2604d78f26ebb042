//! A FUSE file system that can be changed, and whose server stops for good at a request of one kind.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Requests (`enum fuse_opcode` of include/uapi/linux/fuse.h).
pub const LOOKUP: u32 = 1;
pub const MKDIR: u32 = 9;
pub const UNLINK: u32 = 10;
pub const RMDIR: u32 = 11;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const RENAME2: u32 = 45;

/// Directories at the top, and files in each of them.
const DIRS: u64 = 3;
pub const FILES: u64 = 40;

const ENOENT: i32 = -2;
const ENOSYS: i32 = -38;

/// What the server keeps of a name: the directory that it is in, the name, and the mode.
struct Node {
    parent: u64,
    name: Vec<u8>,
    mode: u32,
}

/// The server, which runs in a thread of the test.
pub struct Server {
    at: PathBuf,
    _device: Arc<File>,
    stopped: Receiver<()>,
}

impl Server {
    /// Serves directories `d0` to `d2` of files. The request of this kind that comes after so many others of it, and
    /// every request after that, is taken and never answered.
    pub fn mount(at: &Path, stops_at: u32, after: u64) -> Self {
        let device = Arc::new(File::options().read(true).write(true).open("/dev/fuse").unwrap());
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("stops:/export"), at, Some("fuse.sshfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        let (tell, stopped) = mpsc::channel();
        let serves = Arc::clone(&device);
        std::thread::spawn(move || {
            let mut request = vec![0; 1 << 17];
            let (mut nodes, mut left) = (tree(), after);
            let mut stopped = false;
            while let Ok(len) = (&*serves).read(&mut request) {
                // struct fuse_in_header: len, opcode, unique, nodeid.
                let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
                if opcode == stops_at && !stopped {
                    stopped = left == 0;
                    left = left.saturating_sub(1);
                    if stopped {
                        let _ = tell.send(());
                    }
                }
                if stopped {
                    continue;
                }
                let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
                let (error, out) = match answer(&mut nodes, opcode, node, &request[40..len]) {
                    Some(Ok(out)) => (0, out),
                    Some(Err(error)) => (error, Vec::new()),
                    None => continue,
                };
                // struct fuse_out_header.
                let mut reply = u32::try_from(16 + out.len()).unwrap().to_ne_bytes().to_vec();
                reply.extend(error.to_ne_bytes());
                reply.extend(&request[8..16]);
                reply.extend(out);
                let _ = (&*serves).write_all(&reply);
            }
        });
        Self { at: at.to_path_buf(), _device: device, stopped }
    }

    /// Until the server has stopped, and somebody waits for it.
    #[track_caller]
    pub fn until_stopped(&self) {
        self.stopped.recv_timeout(Duration::from_secs(30)).expect("nothing asked for that");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends all that wait.
        let _ = umount2(&self.at, MntFlags::MNT_FORCE);
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn tree() -> BTreeMap<u64, Node> {
    let directory = 0o040_755;
    let mut nodes = BTreeMap::from([(1, Node { parent: 0, name: Vec::new(), mode: directory })]);
    for dir in 0..DIRS {
        let number = 2 + dir;
        nodes.insert(number, Node { parent: 1, name: format!("d{dir}").into_bytes(), mode: directory });
        for file in 0..FILES {
            let node = Node { parent: number, name: format!("f{file}").into_bytes(), mode: 0o100_644 };
            nodes.insert(100 * number + file, node);
        }
    }
    nodes
}

fn find(nodes: &BTreeMap<u64, Node>, dir: u64, name: &[u8]) -> Result<u64, i32> {
    let found = nodes.iter().find(|(_, node)| node.parent == dir && node.name == name);
    found.map(|(number, _)| *number).ok_or(ENOENT)
}

/// The answer to a request; none to those that want none.
fn answer(
    nodes: &mut BTreeMap<u64, Node>,
    opcode: u32,
    node: u64,
    body: &[u8],
) -> Option<Result<Vec<u8>, i32>> {
    let mut names = body.split(|byte| *byte == 0);
    Some(match opcode {
        LOOKUP => find(nodes, node, names.next().unwrap()).map(|child| entry(nodes, child)),
        // GETATTR and SETATTR: struct fuse_attr_out. Modes and owners stay as they are.
        3 | 4 => {
            let mut out = vec![0; 16];
            attributes(nodes, node, &mut out);
            Ok(out)
        }
        // struct fuse_mkdir_in: mode, umask.
        MKDIR => {
            let mode = 0o040_000 | (u32::from_ne_bytes(body[..4].try_into().unwrap()) & 0o777);
            let name = body[8..].split(|byte| *byte == 0).next().unwrap().to_vec();
            let number = nodes.keys().next_back().unwrap() + 1;
            nodes.insert(number, Node { parent: node, name, mode });
            Ok(entry(nodes, number))
        }
        UNLINK | RMDIR => find(nodes, node, names.next().unwrap()).map(|child| {
            nodes.remove(&child);
            Vec::new()
        }),
        // struct fuse_rename2_in: newdir, flags, padding; then both names.
        RENAME2 => {
            let to = u64::from_ne_bytes(body[..8].try_into().unwrap());
            let mut names = body[16..].split(|byte| *byte == 0);
            find(nodes, node, names.next().unwrap()).map(|child| {
                let moved = nodes.get_mut(&child).unwrap();
                (moved.parent, moved.name) = (to, names.next().unwrap().to_vec());
                Vec::new()
            })
        }
        // OPEN and OPENDIR: struct fuse_open_out.
        14 | OPENDIR => Ok(vec![0; 16]),
        // struct fuse_read_in has the position at 8; it is the number of the last node that was listed.
        READDIR => {
            let from = u64::from_ne_bytes(body[8..16].try_into().unwrap());
            let mut out = Vec::new();
            for (number, child) in nodes.range(from + 1..).filter(|(_, child)| child.parent == node) {
                out.extend(number.to_ne_bytes());
                out.extend(number.to_ne_bytes());
                out.extend(u32::try_from(child.name.len()).unwrap().to_ne_bytes());
                out.extend((child.mode >> 12).to_ne_bytes());
                out.extend(&child.name);
                out.resize(out.len().next_multiple_of(8), 0);
            }
            Ok(out)
        }
        // INIT: struct fuse_init_out of version 7.31.
        26 => {
            let mut out: Vec<u8> =
                [7u32, 31, 0, 0, 0, 4096, 1, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
            out.resize(64, 0);
            Ok(out)
        }
        // STATFS: struct fuse_kstatfs: blocks, free, available, inodes, free; then block size and longest name.
        17 => {
            let mut out: Vec<u8> = [100_000u64, 50_000, 50_000, 10_000, 5_000]
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect();
            out.extend([4096u32, 255, 4096].iter().flat_map(|word| word.to_ne_bytes()));
            out.resize(80, 0);
            Ok(out)
        }
        // RELEASE, FSYNC, FLUSH, RELEASEDIR, FSYNCDIR.
        18 | 20 | 25 | 29 | 30 => Ok(Vec::new()),
        // FORGET, INTERRUPT, BATCH_FORGET.
        2 | 36 | 42 => return None,
        _ => Err(ENOSYS),
    })
}

/// struct `fuse_entry_out`: node, generation, and nothing of it may be kept.
fn entry(nodes: &BTreeMap<u64, Node>, number: u64) -> Vec<u8> {
    let mut out = number.to_ne_bytes().to_vec();
    out.extend([0; 32]);
    attributes(nodes, number, &mut out);
    out
}

/// struct `fuse_attr`.
fn attributes(nodes: &BTreeMap<u64, Node>, number: u64, out: &mut Vec<u8>) {
    // What is open still has attributes when its name is gone.
    let mode = nodes.get(&number).map_or(0o100_644, |node| node.mode);
    let links = if mode & 0o040_000 == 0 { 1 } else { 2 };
    // Number, size, blocks, and three times.
    for word in [number, 4096, 8, 1_600_000_000, 1_600_000_000, 1_600_000_000] {
        out.extend(word.to_ne_bytes());
    }
    // Their nanoseconds, mode, links, uid, gid, rdev, blksize, flags.
    for word in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
        out.extend(u32::to_ne_bytes(word));
    }
}
