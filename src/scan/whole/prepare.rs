//! Whether a file system can be read as a whole, and what must be known and done before.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::mount_points::MountPoints;
use crate::domain::identity::DevId;
use crate::domain::text::HostPath;
use crate::scan::ext4::{self, Ext4, Mounted};
use crate::scan::method::{Reading, Sample};
use crate::scan::open::Mount;
use crate::sys::block_device::{BlockDevice, open_for};
use crate::sys::boundary::Passages;
use crate::sys::child::{Answer, Question};
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo;

/// How long the kernel may take to write what it holds in memory only. With more than that to write the disk is
/// busy, and nothing would be on the screen meanwhile.
const FLUSH: Duration = Duration::from_secs(2);
/// How soon a cancellation is noticed while waiting for that.
const GLANCE: Duration = Duration::from_millis(10);

/// A file system that can be read as a whole.
pub(in crate::scan) struct Source {
    pub(super) ext4: Ext4<BlockDevice>,
    pub(super) device: HostPath,
    /// Id of the mount that the scan stays on.
    pub(super) mount: u32,
}

impl Source {
    /// How it is read, with the number of directories that are left to ordinary calls, and what a sample gave.
    pub(in crate::scan) fn reading(&self, by_calls: usize, sample: Sample) -> Reading {
        Reading::Raw { device: self.device.clone(), by_calls, sample }
    }
}

/// Looks whether the directory that a scan starts at is the root of a file system that can be read as a whole.
///
/// # Errors
/// Why not, as a sentence part.
pub(in crate::scan) fn prepare(root: &Path, mount: &Mount) -> Result<Source, String> {
    let id = mount.id().ok_or("this kernel does not tell mounts apart (Linux 5.8 does)")?;
    let table = table()?;
    let shown = HostPath::from(root);
    let entry =
        table.by_id(id).ok_or_else(|| format!("{shown} is on a mount that mountinfo does not show"))?;
    if !matches!(entry.fs_type.as_bytes(), b"ext2" | b"ext3" | b"ext4") {
        return Err(format!(
            "{shown} is on {}, and only ext2, ext3 and ext4 are read from their device",
            entry.fs_type
        ));
    }
    let (dev, ino) = mount.root();
    if entry.mount_point.as_path() != root || entry.root.as_bytes() != b"/" || ino != u64::from(ext4::ROOT) {
        return Err(format!(
            "{shown} is only a part of the {} file system on {}",
            entry.fs_type, entry.source
        ));
    }
    let device = open_for(dev).map_err(|why| why.to_string())?;
    let path = device.path().clone();
    let ext4 = ext4::open(device, Mounted::Yes).map_err(|why| format!("{path}: {why}"))?;
    Ok(Source { ext4, device: path, mount: id })
}

/// Where something is mounted below `root` that does not belong to the tree of the mount with this id, in our mount
/// namespace.
///
/// # Errors
/// Where the list of mounts cannot be read.
pub(super) fn mount_points(root: &Path, mount: u32, passages: &Passages) -> Result<MountPoints, String> {
    let table = table()?;
    let inside = |id: u32| id == mount || passages.has(u64::from(id));
    let ours = table.entries().iter().filter(|entry| inside(entry.parent) && !inside(entry.id));
    Ok(MountPoints::new(ours.filter_map(|entry| entry.mount_point.as_path().strip_prefix(root).ok())))
}

/// The mounts below `root` that belong to the tree of the mount with this id. None if the list of mounts cannot be read:
/// then the tree ends at each of them.
pub(in crate::scan) fn passages(root: &Path, mount: Option<u32>, outside: &[DevId]) -> Passages {
    let known = mount.and_then(|mount| Some((mount, table().ok()?)));
    known.map(|(mount, table)| Passages::below(&table, root, mount, outside)).unwrap_or_default()
}

fn table() -> Result<MountTable, String> {
    let path = "/proc/self/mountinfo";
    let bytes = std::fs::read(path).map_err(|why| format!("cannot read {path}: {why}"))?;
    Ok(MountTable::new(mountinfo::parse(&bytes)))
}

/// Has the kernel write what it holds in memory only: size and space of a file just written are set then. In a forked
/// child, because a thread that waits for a slow disk would keep the whole program from ending.
///
/// # Errors
/// Where that fails or takes too long, or the scan was cancelled.
pub(super) fn flush(root: &Path, cancelled: &AtomicBool) -> Result<(), String> {
    let path = c_path(root).map_err(|why| why.to_string())?;
    let (tell, told) = mpsc::channel();
    let asked = thread::Builder::new().name("unwedge-flush".to_owned()).spawn(move || {
        // Nobody listens any more after a cancellation.
        let _ = tell.send(deadline::ask(&Question::Flush { path }, FLUSH));
    });
    asked.map_err(|why| format!("no thread can be started: {why}"))?;
    let outcome = loop {
        match told.recv_timeout(GLANCE) {
            Ok(outcome) => break outcome,
            Err(RecvTimeoutError::Timeout) if cancelled.load(Ordering::Relaxed) => {
                return Err("cancelled".to_owned());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("flushing the file system failed".to_owned()),
        }
    };
    match outcome {
        Outcome::Answered(Answer::Flushed) => Ok(()),
        Outcome::Answered(Answer::Failed(why)) | Outcome::NotAsked(why) => {
            Err(format!("what was just written cannot be flushed to the disk (syncfs): {why}"))
        }
        Outcome::TimedOut => {
            Err(format!("the disk is busy: what was just written was not on it within {} s", FLUSH.as_secs()))
        }
        Outcome::Answered(
            Answer::Usage(_)
            | Answer::Identity(_)
            | Answer::Census(_)
            | Answer::Create(_)
            | Answer::Compared { .. },
        ) => Err("flushing the file system failed".to_owned()),
    }
}
