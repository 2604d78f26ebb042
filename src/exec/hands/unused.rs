//! [`crate::domain::plan::Guard::NotInUse`]: whether anybody has a file open or mapped (SAFETY.md T8).
//!
//! The kernel's leases say it for certain and at no cost. On overlayfs a file can be mapped though nobody has it open any
//! more, and some file systems have no leases: there the descriptors and mappings of all processes are looked at.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{self, Errno, retry_on_intr};

use super::{NotDone, Session};
use crate::domain::identity::{DevIno, FileId};
use crate::exec::words::could_not;
use crate::sys::beneath::Located;
use crate::sys::file_id;
use crate::sys::holders::{self, Opened};
use crate::sys::lease::{Asked, Lease};
use crate::sys::procfs::Proc;

/// How old what is known of other processes may be.
const FRESH: Duration = Duration::from_secs(1);
/// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h).
const OVERLAY: i64 = 0x794c_7630;

/// What processes have open, mapped, run, or stand in, as it was a moment ago.
#[derive(Default)]
pub struct Known {
    read: Option<Read>,
}

struct Read {
    at: Instant,
    opened: Opened,
}

impl Known {
    /// Whether a process has this file or directory in use; an error where that cannot be said of all.
    pub fn has(&mut self, proc: &Proc, key: DevIno) -> Result<bool, String> {
        if self.read.as_ref().is_none_or(|read| read.at.elapsed() > FRESH) {
            let at = Instant::now();
            self.read = Some(Read { at, opened: holders::opened(proc, false)? });
        }
        let Some(read) = &self.read else { return Err(String::new()) };
        read.opened.uses(key)
    }
}

/// Opens what should be a regular file, without waiting for anybody and without following a link.
///
/// # Errors
/// What openat(2) says.
pub fn open_plain(dir: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    retry_on_intr(|| openat(dir, name, flags, Mode::empty()))
}

/// Opens a regular file for [`of_file`]: it must be the planned one.
pub fn open(located: &Located, planned: &FileId) -> Result<OwnedFd, NotDone> {
    let file = open_plain(&located.parent, &located.name).map_err(|errno| match errno {
        Errno::NOENT => NotDone::Skip("it is not there any more".to_owned()),
        errno => NotDone::Skip(could_not("open it to see whether it is in use", errno)),
    })?;
    let now = file_id::of_fd(&file).map_err(|errno| NotDone::Fail(could_not("look at it", errno)))?;
    planned.matches(&now).map_err(|why| NotDone::Skip(format!("changed, skipped: {why}")))?;
    Ok(file)
}

/// Whether a file of this file system can be mapped though nobody has it open.
#[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "its width depends on the architecture")]
pub fn is_overlay(fd: &OwnedFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|figures| figures.f_type as i64 == OVERLAY)
}

/// Whether nobody else has an open regular file in use, by the lease alone, which is held until the file is closed.
///
/// # Errors
/// It cannot tell here: processes must be looked at.
pub fn by_lease(file: &OwnedFd, on_overlay: bool) -> Result<bool, ()> {
    match Lease::ask(file) {
        Asked::InUse => Ok(false),
        Asked::Held(lease) => {
            // Not given back before the file is closed.
            std::mem::forget(lease);
            if on_overlay { Err(()) } else { Ok(true) }
        }
        Asked::Unknown(_) => Err(()),
    }
}

/// Whether nobody else has an open regular file in use. The lease, where there is one, keeps it so until it is dropped.
pub fn of_file<'f>(
    session: &mut Session<'_>,
    file: &'f OwnedFd,
    key: DevIno,
) -> Result<Option<Lease<'f>>, NotDone> {
    let in_use = || NotDone::Skip("in use: a process has it open or mapped".to_owned());
    let lease = match Lease::ask(file) {
        Asked::InUse => return Err(in_use()),
        Asked::Held(lease) => Some(lease),
        Asked::Unknown(_) => None,
    };
    if lease.is_some() && !is_overlay(file) {
        return Ok(lease);
    }
    match session.in_use.has(&session.proc, key) {
        Ok(false) => Ok(lease),
        Ok(true) => Err(in_use()),
        Err(why) => Err(NotDone::Skip(why)),
    }
}
