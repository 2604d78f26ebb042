//! The row that others are held against: one thread, getdents64(2) and statx(2), nothing kept.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

/// Makes this program the loop instead of the bench.
pub const FLAG: &str = "--reference-loop";

/// How many directories are kept open; those above are opened again by `..`.
const OPEN: usize = 256;

/// A directory whose entries are counted and whose subdirectories are being visited.
struct Level {
    fd: Option<OwnedFd>,
    below: Vec<CString>,
}

/// Prints what a tree takes. The exit code is 1 where something could not be read.
pub fn main(root: &Path) -> i32 {
    match total(root) {
        Ok((allocated, 0)) => {
            println!("{allocated}");
            0
        }
        Ok((allocated, _)) => {
            println!("{allocated}");
            1
        }
        Err(error) => {
            eprintln!("{}: {error}", root.display());
            2
        }
    }
}

/// The bytes allocated, and how many directories could not be read.
fn total(root: &Path) -> Result<(u64, u64), Errno> {
    let mut sum = Sum { allocated: 0, linked: HashSet::new(), device: None };
    let mut unreadable = 0;
    let fd = open(CWD, root)?;
    let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    sum.device = Some((stat.stx_dev_major, stat.stx_dev_minor));
    sum.add(&stat);
    let mut buffer = vec![MaybeUninit::uninit(); 64 * 1024];
    let mut levels = vec![sum.list(fd, &mut buffer)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.below.pop() {
            let Some(fd) = &level.fd else { return Err(Errno::BADF) };
            match open(fd, name.as_c_str()).and_then(|fd| sum.list(fd, &mut buffer)) {
                Ok(below) => levels.push(below),
                Err(_) => unreadable += 1,
            }
            if let Some(far) = levels.len().checked_sub(OPEN).and_then(|at| levels.get_mut(at)) {
                far.fd = None;
            }
        } else {
            let left = levels.pop().and_then(|level| level.fd);
            if let (Some(above), Some(left)) = (levels.last_mut(), left)
                && above.fd.is_none()
            {
                above.fd = Some(open(&left, "..")?);
            }
        }
    }
    Ok((sum.allocated, unreadable))
}

fn open(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(
        at,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

struct Sum {
    allocated: u64,
    linked: HashSet<u64>,
    device: Option<(u32, u32)>,
}

impl Sum {
    /// Counts a file once, and says whether it is on the file system that is counted.
    fn add(&mut self, stat: &Statx) -> bool {
        if self.device != Some((stat.stx_dev_major, stat.stx_dev_minor)) {
            return false;
        }
        let directory = is_directory(stat);
        if directory || stat.stx_nlink < 2 || self.linked.insert(stat.stx_ino) {
            self.allocated += stat.stx_blocks * 512;
        }
        true
    }

    fn list(&mut self, fd: OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> Result<Level, Errno> {
        let mut below = Vec::new();
        let mut entries = RawDir::new(&fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let Ok(stat) = statx(&fd, name, flags, StatxFlags::BASIC_STATS) else { continue };
            if self.add(&stat) && is_directory(&stat) {
                below.push(name.to_owned());
            }
        }
        Ok(Level { fd: Some(fd), below })
    }
}

fn is_directory(stat: &Statx) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.stx_mode.into()) == rustix::fs::FileType::Directory
}
