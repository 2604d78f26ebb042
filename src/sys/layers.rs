//! Which layer of an overlay a file is of. overlayfs does not tell by the file's own attributes: device, inode and mode are
//! its own, and its private attributes (`trusted.overlay.*`) are hidden from everybody who looks through the mount. Three
//! things tell, the first two also inside of a container, where no layer can be reached:
//!
//! 1. **The file handle** (Linux 6.6, `AT_HANDLE_FID`) says whether it is that of an inode of the upper layer. If it is, no
//!    lower layer has the file. If not, it is of a lower layer or was copied up from one (`ovl_check_encode_origin` in
//!    fs/overlayfs/export.c).
//! 2. **The birth time** is that of the file in its layer (`ovl_getattr` in fs/overlayfs/inode.c), and that of the root
//!    directory is that of the upper layer: what is older than the upper layer was not born in it.
//! 3. **The upper directory** of the mount options, if what is there is the upper directory of this mount.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, statx};
use rustix::io::Errno;

use super::mount_table::MountTable;
use super::mountinfo::MountEntry;
use super::{file_id, raw};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::snapshot::Layer;

/// `AT_HANDLE_FID` (include/uapi/linux/fcntl.h, Linux 6.5): a handle to be compared, not opened.
const AT_HANDLE_FID: libc::c_int = 0x200;
/// `OVL_FILEID_V1` (fs/overlayfs/overlayfs.h): the type of overlayfs' handles.
const OVL_FILEID_V1: i32 = 0xf8;
/// Where `magic` and `flags` of `struct ovl_fb` are in the handle: after `OVL_FH_WIRE_OFFSET` bytes and the version.
const MAGIC_AT: usize = 4;
const FLAGS_AT: usize = 6;
/// `OVL_FH_MAGIC`.
const OVL_FH_MAGIC: u8 = 0xfb;
/// `OVL_FH_FLAG_PATH_UPPER`: the handle is that of an inode of the upper layer.
const OVL_FH_FLAG_PATH_UPPER: u8 = 1 << 2;

/// Whether only the upper layer of an overlay has an entry of a directory; the directory itself if the name is empty. None
/// if the kernel does not say.
pub fn is_of_upper_only(dir: impl AsFd, name: &CStr) -> Option<bool> {
    let empty = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let handle = raw::file_handle(dir.as_fd(), name, AT_HANDLE_FID | empty).ok()?;
    let bytes = handle.bytes();
    let flags = bytes.get(FLAGS_AT)?;
    (handle.kind == OVL_FILEID_V1 && bytes.get(MAGIC_AT) == Some(&OVL_FH_MAGIC))
        .then_some(flags & OVL_FH_FLAG_PATH_UPPER != 0)
}

/// Which layer an open file (`O_PATH`) is of that has this path.
pub fn layer_of(fd: &OwnedFd, id: &FileId, path: &Path, mounts: &MountTable) -> Layer {
    let Some(mount) = mounts.by_id(id.mount.id) else { return Layer::Own };
    if mount.fs_type.as_bytes() != b"overlay" {
        return Layer::Own;
    }
    let upper_only = is_of_upper_only(fd, c"") == Some(true);
    // A directory of the upper layer can have one of a lower layer moved into it, if those can be moved.
    let may_hold_lower = id.kind == FileKind::Directory && mount.has_super_option(b"redirect_dir");
    match (upper_only, may_hold_lower) {
        (true, false) => Layer::Own,
        (true, true) => Layer::Unknown,
        (false, _) => by_the_root(id, path, mount, mounts).unwrap_or(Layer::Unknown),
    }
}

/// What the root of the overlay says; none if it cannot be seen, or does not say.
fn by_the_root(id: &FileId, path: &Path, mount: &MountEntry, mounts: &MountTable) -> Option<Layer> {
    if mount.root.as_bytes() != b"/" {
        return None;
    }
    let root = file_id::of_fd(open_dir(mount.mount_point.as_path())?).ok()?;
    if !root.mount.same_mount(id.mount) {
        return None;
    }
    if let (Some(born), Some(upper)) = (id.born, root.born)
        && born < upper
    {
        return Some(Layer::Lower);
    }
    let upper = PathBuf::from(OsString::from_vec(mount.super_option(b"upperdir")?));
    if !upper.is_absolute() || mounts.may_hang(&upper) {
        return None;
    }
    let upper = open_dir(&upper)?;
    let there = file_id::of_fd(&upper).ok()?;
    // The kernel shows the upper directory's own times as those of the root. In a container another directory can have
    // that path.
    if (there.born, there.changed, there.modified) != (root.born, root.changed, root.modified) {
        return None;
    }
    let below = path.strip_prefix(mount.mount_point.as_path()).ok()?;
    if below.as_os_str().is_empty() {
        return None;
    }
    in_upper(&upper, below, id)
}

fn open_dir(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).ok()
}

/// What the upper directory has at this place.
fn in_upper(upper: &OwnedFd, below: &Path, id: &FileId) -> Option<Layer> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match openat2(upper, below.as_os_str().as_bytes(), flags, Mode::empty(), how) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Some(Layer::Lower),
        Err(_) => return None,
    };
    let stat = statx(&found, c"", AtFlags::EMPTY_PATH, file_id::WANTED).ok()?;
    let there = file_id::of_fd(&found).ok()?;
    // Of a file of which only the attributes were copied up (`metacopy=on`) the upper layer has no block.
    let whole = there.kind != FileKind::Directory && (stat.stx_blocks > 0 || there.size == 0);
    (whole && there.kind == id.kind && there.born == id.born).then_some(Layer::Own)
}
