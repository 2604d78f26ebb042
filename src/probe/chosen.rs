//! Freezes what a person chose in the tree: its identity, what is above it and what is mounted below it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Context;
use crate::domain::identity::{DevIno, FileId, FileKind};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, Layer};
use crate::domain::text::HostPath;
use crate::sys::around::Around;
use crate::sys::deadline::c_path;
use crate::sys::{beneath, file_id, layers};

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
    freeze_among(context, &around(context), path, apparent, allocated, entries)
}

/// What uses files on this machine: one look for many files.
pub fn around(context: &Context<'_>) -> Around {
    Around::look(&context.environment.root, &context.proc())
}

/// The same, after what uses files was looked at: for many files at once.
///
/// # Errors
/// A sentence that says what could not be read.
pub fn freeze_among(
    context: &Context<'_>,
    around: &Around,
    path: &Path,
    apparent: Bytes,
    allocated: Bytes,
    entries: u64,
) -> Result<ChosenFile, String> {
    let shown = HostPath::from(path);
    let fail = |error: rustix::io::Errno| format!("{shown} cannot be looked at: {error}");
    match around.namespaces.ours() {
        Some(ours) => super::answers_among(context, &ours.mounts, path, super::Looking::At)?,
        None => super::answers(context, path, super::Looking::At)?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
    let id = file_id::of_fd(&fd).map_err(fail)?;
    let above = above(&fd, &id, path)?;
    let real = path_of(&fd).ok_or_else(|| {
        format!("{shown} cannot be found from the root directory: it was removed, or lies outside our root")
    })?;
    let mut held: Vec<String> = around.kernel.none_holds(id.key, &above).err().into_iter().collect();
    held.extend(around.below.at_or_below(&real, id.mount)?.iter().map(ToString::to_string));
    let open_by = around.open_by(&real, &id);
    let layer = around.below.ours().map_or(Layer::Own, |ours| layers::layer_of(&fd, &id, &real, ours));
    Ok(ChosenFile {
        path: HostPath::from(real),
        id,
        apparent,
        allocated,
        entries,
        above,
        held,
        open_by,
        layer,
    })
}

/// The same of a file, with its own sizes; those of a directory are left to be counted.
///
/// # Errors
/// A sentence that says what could not be read.
pub fn freeze_measured(context: &Context<'_>, around: &Around, path: &Path) -> Result<ChosenFile, String> {
    let chosen = freeze_among(context, around, path, Bytes::ZERO, Bytes::ZERO, 1)?;
    if chosen.id.kind == FileKind::Directory {
        return Ok(chosen);
    }
    let fail = |error| format!("{} cannot be looked at: {error}", chosen.path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, chosen.path.as_path(), flags, Mode::empty()).map_err(fail)?;
    let aged = file_id::aged(&fd, c"").map_err(fail)?;
    Ok(ChosenFile { apparent: Bytes(aged.id.size), allocated: Bytes(aged.allocated), ..chosen })
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
    if id.kind == FileKind::Directory {
        let with_itself = beneath::with_ancestors(fd).map_err(fail)?;
        return Ok(with_itself.into_iter().skip(1).collect());
    }
    let name = path.file_name().and_then(|name| c_path(Path::new(name)).ok());
    let name = name.ok_or_else(|| format!("{shown} has no name to be removed by"))?;
    // The parent may be reached through links: what counts is that the name in it is this file.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(CWD, dir, flags, Mode::empty()).map_err(fail)?;
    let there = file_id::of_entry(&parent, &name).map_err(fail)?;
    id.matches(&there).map_err(|why| format!("{shown} changed while it was looked at: {why}"))?;
    beneath::with_ancestors(&parent).map_err(fail)
}
