//! Freezes what a person chose in the tree: its identity, what is above it and what is mounted below it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Context;
use crate::domain::identity::{DevIno, FileId, FileKind};
use crate::domain::size::Bytes;
use crate::domain::snapshot::ChosenFile;
use crate::domain::text::HostPath;
use crate::sys::deadline::c_path;
use crate::sys::file_id;
use crate::sys::mount_namespaces::{self, Namespaces};
use crate::sys::mount_table::MountTable;

/// No path is deeper: a name takes two bytes of at most 4096 per system call, and deeper trees are walked by descriptor.
const MAX_DEPTH: usize = 100_000;

/// Freezes a file or directory; the sizes are the scan's.
///
/// # Errors
/// A sentence that says what could not be read.
pub fn freeze(
    context: &Context<'_>,
    path: &Path,
    apparent: Bytes,
    allocated: Bytes,
    entries: u64,
) -> Result<ChosenFile, String> {
    let shown = HostPath::from(path);
    let fail = |error: rustix::io::Errno| format!("{shown} cannot be looked at: {error}");
    super::answers(context, path, super::Looking::At)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
    let id = file_id::of_fd(&fd).map_err(fail)?;
    let above = above(&fd, &id, path)?;
    let real = path_of(&fd).ok_or_else(|| {
        format!("{shown} cannot be found from the root directory: it was removed, or lies outside our root")
    })?;
    let until = Instant::now() + context.deadline();
    let namespaces = mount_namespaces::read_all(&context.proc(), until);
    if namespaces.all.is_empty() {
        return Err(format!(
            "whether anything is mounted below {shown} is not known: {}",
            namespaces.missing.join("; ")
        ));
    }
    let mounts_below = mounts_below(&namespaces, &real);
    Ok(ChosenFile { path: HostPath::from(real), id, apparent, allocated, entries, above, mounts_below })
}

/// Where an open file is, from the root directory; none where it has no path any more.
pub(super) fn path_of(fd: impl AsFd) -> Option<PathBuf> {
    // Our own process, whatever root the context has.
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).ok()?;
    let bytes = link.as_os_str().as_bytes();
    // The kernel's marks for what cannot be reached (d_path, fs/d_path.c).
    (bytes.starts_with(b"/") && !bytes.starts_with(b"(unreachable)")).then_some(link)
}

/// The directories above an open file, nearest first, up to the root: by `..`, never by path.
fn above(fd: &OwnedFd, id: &FileId, path: &Path) -> Result<Vec<DevIno>, String> {
    let shown = HostPath::from(path);
    let fail = |error: rustix::io::Errno| format!("what is above {shown} cannot be looked at: {error}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut above = Vec::new();
    let mut current = if id.kind == FileKind::Directory {
        (fd.try_clone().map_err(|error| format!("{shown} cannot be looked at: {error}"))?, *id)
    } else {
        let name = path.file_name().and_then(|name| c_path(Path::new(name)).ok());
        let name = name.ok_or_else(|| format!("{shown} has no name to be removed by"))?;
        // The parent may be reached through links: what counts is that the name in it is this file.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
        let there = file_id::of_entry(&parent, &name).map_err(fail)?;
        id.matches(&there).map_err(|why| format!("{shown} changed while it was looked at: {why}"))?;
        let key = file_id::of_fd(&parent).map_err(fail)?;
        above.push(key.key);
        (parent, key)
    };
    for _ in 0..MAX_DEPTH {
        let parent = openat(&current.0, c"..", flags, Mode::empty()).map_err(fail)?;
        let key = file_id::of_fd(&parent).map_err(fail)?;
        // The root directory is its own parent.
        if key.key == current.1.key && key.mount.same_mount(current.1.mount) {
            return Ok(above);
        }
        above.push(key.key);
        current = (parent, key);
    }
    Err(format!("{shown} is deeper than can be"))
}

/// What is mounted on `path` or below it, in any mount namespace. Judged twice, and either counts: by the path of the mount
/// point, and by the place of the mount point inside its file system, which finds mounts that another
/// namespace, or a bind mount in ours, shows under another path.
fn mounts_below(namespaces: &Namespaces, path: &Path) -> Vec<HostPath> {
    let place = namespaces.ours().and_then(|ours| {
        // The mount that the chosen file itself is the root of sits on the one below it.
        let entry = ours.mounts.at(path)?;
        Some((entry.dev, MountTable::inside(entry, path)?))
    });
    let mut below = Vec::new();
    for namespace in &namespaces.all {
        for entry in namespace.mounts.entries() {
            let mount_point = entry.mount_point.as_path();
            let by_path = mount_point.starts_with(path);
            let by_place = || {
                let (dev, inside) = place.as_ref()?;
                let (parent, seat) = namespace.mounts.seat(entry)?;
                Some(parent.dev == *dev && seat.starts_with(inside))
            };
            if by_path || by_place() == Some(true) {
                below.push(HostPath::from_bytes(mount_point.as_os_str().as_bytes()));
            }
        }
    }
    below.sort();
    below.dedup();
    below
}
