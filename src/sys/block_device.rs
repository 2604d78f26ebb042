//! Reading a block device as a whole, strictly read-only.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, ReadWriteFlags};

use crate::domain::identity::DevId;
use crate::domain::text::HostPath;

/// Why a block device cannot be read. Each says what, where, and what that means.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The device number belongs to no disk: major 0 is given to file systems without a device of their own.
    #[error("device {dev} is not a disk, so there is nothing to read as a whole")]
    NotADisk {
        /// The device number.
        dev: DevId,
    },
    /// There is no device node.
    #[error("device {dev} has no node under /dev here (a container?)")]
    NoNode {
        /// The device number.
        dev: DevId,
    },
    /// The node is that of another device.
    #[error("{path} is not device {dev}, so it is not read")]
    OtherDevice {
        /// The node.
        path: HostPath,
        /// The device number wanted.
        dev: DevId,
    },
    /// The permissions of the node do not let this user read it (`EACCES`).
    #[error("reading {path} needs root or the group disk")]
    NoPrivilege {
        /// The node.
        path: HostPath,
    },
    /// The kernel refuses although the permissions would do (`EPERM`): the device controller of the cgroup
    /// (Documentation/admin-guide/cgroup-v2.rst, "Device controller").
    #[error("{path} is refused by the device rules of this container or service")]
    DeviceCgroup {
        /// The node.
        path: HostPath,
    },
    /// Opening failed for another reason.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The node.
        path: HostPath,
        /// What open(2), fstat(2) or lseek(2) said.
        source: std::io::Error,
    },
    /// A read failed.
    #[error("cannot read {len} bytes at offset {offset} of {path}: {source}")]
    Read {
        /// What was read.
        path: HostPath,
        /// Where, in bytes from the start.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
        /// What pread(2) said.
        source: std::io::Error,
    },
    /// A read beyond the end, or one that came back short.
    #[error("{path} ends before offset {offset} + {len}")]
    Short {
        /// What was read.
        path: HostPath,
        /// Where, in bytes from the start.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
    },
}

/// Something that can be read at any position, by several threads at once.
pub trait ReadAt: Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on, completely or not at all.
    ///
    /// # Errors
    /// [`Why::Short`] where it reaches beyond the end, [`Why::Read`] where the device fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Why>;

    /// Whether the byte at `offset` can be read without waiting, because it is in the page cache.
    fn is_cached(&self, offset: u64) -> bool {
        let _ = offset;
        true
    }
}

/// A block device opened for reading.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    path: HostPath,
    size: u64,
}

impl BlockDevice {
    /// The node it was opened by.
    pub fn path(&self) -> &HostPath {
        &self.path
    }
}

impl ReadAt for BlockDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Why> {
        read_file(&self.file, &self.path, self.size, buffer, offset)
    }

    fn is_cached(&self, offset: u64) -> bool {
        let mut byte = [0];
        // Older kernels refuse the flag for some devices: then what it says is that there is something to wait for.
        let read = rustix::io::preadv2(
            &self.file,
            &mut [std::io::IoSliceMut::new(&mut byte)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        read == Ok(1)
    }
}

/// Opens the disk with a device number (`st_dev` of a file on it) for reading.
///
/// The node comes from `DEVNAME` in `/sys/dev/block/MAJOR:MINOR/uevent` (Documentation/ABI/testing/sysfs-dev)
/// and counts only if it is a block device with that very number.
///
/// # Errors
/// See [`Why`].
pub fn open_for(dev: DevId) -> Result<BlockDevice, Why> {
    if dev.major == 0 {
        return Err(Why::NotADisk { dev });
    }
    let node = node_of(dev).ok_or(Why::NoNode { dev })?;
    let path = HostPath::from(node.as_path());
    // Not O_EXCL, which fails on a mounted device; O_NONBLOCK so that a fifo put in its place cannot hold us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = match open(&node, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ACCESS) => return Err(Why::NoPrivilege { path }),
        Err(Errno::PERM) => return Err(Why::DeviceCgroup { path }),
        Err(Errno::NOENT) => return Err(Why::NoNode { dev }),
        Err(Errno::LOOP) => return Err(Why::OtherDevice { path, dev }),
        Err(source) => return Err(Why::Open { path, source: source.into() }),
    };
    let stat = match fstat(&fd) {
        Ok(stat) => stat,
        Err(source) => return Err(Why::Open { path, source: source.into() }),
    };
    let found = DevId { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice || found != dev {
        return Err(Why::OtherDevice { path, dev });
    }
    let mut file = File::from(fd);
    match file.seek(SeekFrom::End(0)) {
        Ok(size) => Ok(BlockDevice { file, path, size }),
        Err(source) => Err(Why::Open { path, source }),
    }
}

/// The node of a device under `/dev`, as the kernel names it.
fn node_of(dev: DevId) -> Option<PathBuf> {
    let uevent = std::fs::read(format!("/sys/dev/block/{dev}/uevent")).ok()?;
    let name = uevent.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"DEVNAME="))?;
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.as_os_str().is_empty()).then(|| Path::new("/dev").join(name))
}

/// An image of a disk in an ordinary file.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    path: HostPath,
    size: u64,
}

impl ImageFile {
    /// Opens an image for reading.
    ///
    /// # Errors
    /// [`Why::Open`] where it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Why> {
        let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
        match opened {
            Ok((file, size)) => Ok(Self { file, path: path.into(), size }),
            Err(source) => Err(Why::Open { path: path.into(), source }),
        }
    }
}

impl ReadAt for ImageFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Why> {
        read_file(&self.file, &self.path, self.size, buffer, offset)
    }
}

fn read_file(file: &File, path: &HostPath, size: u64, buffer: &mut [u8], offset: u64) -> Result<(), Why> {
    let len = buffer.len();
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    if end.is_none_or(|end| end > size) {
        return Err(Why::Short { path: path.clone(), offset, len });
    }
    file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
        ErrorKind::UnexpectedEof => Why::Short { path: path.clone(), offset, len },
        _ => Why::Read { path: path.clone(), offset, len, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_disk_is_refused() {
        assert!(matches!(open_for(DevId { major: 0, minor: 30 }), Err(Why::NotADisk { .. })));
        assert!(matches!(open_for(DevId { major: 4000, minor: 77 }), Err(Why::NoNode { .. })));
    }

    #[test]
    fn an_image_is_read_within_its_size_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        #[allow(clippy::disallowed_methods, reason = "the test's own temporary directory")]
        std::fs::write(&path, [7_u8; 100]).unwrap();
        let image = ImageFile::open(&path).unwrap();
        let mut buffer = [0; 50];
        image.read_at(&mut buffer, 50).unwrap();
        assert_eq!(buffer, [7; 50]);
        assert!(matches!(image.read_at(&mut buffer, 51), Err(Why::Short { offset: 51, .. })));
        assert!(matches!(image.read_at(&mut buffer, u64::MAX), Err(Why::Short { .. })));
    }
}
