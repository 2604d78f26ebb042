//! Takes away one mount and no other (SAFETY.md T35).
//!
//! umount2(2) knows no descriptor. Whatever leads to the mount, `/proc/self/fd/N` and `.` in its own root included, ends at
//! what is on top there in that moment: `LOOKUP_MOUNTPOINT` goes down through all that is mounted there
//! (`handle_lookup_down`, fs/namei.c; seen on Linux 6.18). What somebody mounts there between a look and the call would
//! go in place of what was seen. And where the mount below is shared, its peers in other namespaces lose their copies.
//!
//! Plainly it goes by `MNT_EXPIRE`, in two calls. The first takes nothing and marks what is on top. Then the mount is
//! compared: it is the one that was seen, and nothing is on it. The second call takes only what has the mark, and every
//! use clears that (`do_umount` and `mntput`, fs/namespace.c): what came on top in between is new and has none. What is in
//! use stays, and so it does if a copy is that the kernel would take along in another namespace (`propagate_mount_busy`,
//! fs/pnode.c).
//!
//! Lazily it goes by its descriptor. An empty tmpfs of our own is put beneath it (`MOVE_MOUNT_BENEATH`, Linux 6.5) and made
//! private. From there the mount is moved, by its descriptor, to a directory of that tmpfs, to which only root has a way and
//! where nobody mounts anything, and is detached there. What it is mounted on is then no mount that anybody shares: copies
//! in other namespaces stay, with whoever uses them. `move_mount(2)` would not take it from a shared mount, and to make
//! that one private would cut it off from its peers for good. One gap is left: who found his way to the mount before it
//! was moved, and mounts on it later than [`GRACE`] after that, loses what he mounts.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::{self, Errno, retry_on_intr};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
};

use super::NotDone;
use super::mount::{Inside, Standing};
use crate::domain::identity::MountId;
use crate::exec::words::could_not;
use crate::sys::beneath::Located;
use crate::sys::file_id;

/// How long it is tried again while somebody looks at the mount all the time.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a mount(2) that has found its way may take until it has mounted.
const GRACE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(1);

const PATH_DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens what is on top at a mount point, to look at only.
pub(super) fn open_top(at: &Located) -> Result<OwnedFd, NotDone> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| openat(&at.parent, &*at.name, flags, Mode::empty()))
        .map_err(|errno| NotDone::Skip(could_not("look at the mount point", errno)))
}

fn id_of(mount: impl AsFd) -> Result<MountId, NotDone> {
    let id = file_id::of_fd(mount).map_err(|errno| NotDone::Skip(could_not("look at the mount", errno)))?;
    Ok(id.mount)
}

fn covered() -> NotDone {
    NotDone::Skip("something else was mounted on it in the meantime; that is not touched".to_owned())
}

fn enter(dir: impl AsFd) -> Result<(), NotDone> {
    rustix::process::fchdir(dir)
        .map_err(|errno| NotDone::Fail(could_not("enter the directory above it", errno)))
}

fn gone(inside: &mut Inside, mount: MountId) -> Result<(), NotDone> {
    match inside.standing(mount)? {
        Standing::Gone => Ok(()),
        Standing::Bare | Standing::Covered => {
            Err(NotDone::Fail("umount2 reported success, but it is still listed".to_owned()))
        }
    }
}

/// Takes away a mount that nobody uses, here and wherever the kernel takes along a copy. The thread has a working
/// directory of its own.
pub(super) fn plainly(inside: &mut Inside, at: &Located, mount: MountId) -> Result<(), NotDone> {
    let expire = || {
        let how = UnmountFlags::EXPIRE | UnmountFlags::NOFOLLOW;
        retry_on_intr(|| rustix::mount::unmount(&*at.name, how))
    };
    enter(&at.parent)?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        // The descriptor is closed again at once: an open one is a use.
        if !mount.same_mount(id_of(open_top(at)?)?) {
            return Err(covered());
        }
        match expire() {
            Err(Errno::AGAIN) => {}
            // It had a mark: another program does just the same.
            Ok(()) => return gone(inside, mount),
            Err(errno) => return Err(refused(inside, mount, errno)?),
        }
        match inside.standing(mount)? {
            Standing::Gone => return Err(NotDone::Skip("somebody else unmounted it just now".to_owned())),
            Standing::Covered => return Err(covered()),
            Standing::Bare => {}
        }
        match expire() {
            Ok(()) => return gone(inside, mount),
            // Somebody looked at it in between, or something else is on top and has a mark now, which its next use clears.
            Err(Errno::AGAIN) => thread::sleep(PAUSE),
            Err(errno) => return Err(refused(inside, mount, errno)?),
        }
    }
    Err(NotDone::Fail("it is busy: something looks at it all the time".to_owned()))
}

/// Why the kernel did not take it.
fn refused(inside: &mut Inside, mount: MountId, errno: Errno) -> Result<NotDone, NotDone> {
    if errno != Errno::BUSY {
        return Ok(NotDone::Fail(could_not("unmount it", errno)));
    }
    Ok(match inside.standing(mount)? {
        Standing::Covered => covered(),
        Standing::Bare | Standing::Gone => NotDone::Fail(
            "it is busy: a process has a file or its working directory there (fuser -vm shows which), or on a copy of it \
             that another namespace shares"
                .to_owned(),
        ),
    })
}

/// An empty tmpfs that only root has a way into.
struct Private {
    root: OwnedFd,
    place: OwnedFd,
    mount: MountId,
}

impl Private {
    /// The directory in it. The probe knows it by this name again if the program is killed half-way.
    const PLACE: &std::ffi::CStr = c"buildkit-mount";

    /// Makes one that is mounted nowhere yet.
    fn new() -> Result<Self, NotDone> {
        let make = || -> io::Result<Self> {
            let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&fs, "mode", "0700")?;
            fsconfig_create(&fs)?;
            let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            mkdirat(&root, Self::PLACE, Mode::RWXU)?;
            let place = openat(&root, Self::PLACE, PATH_DIR, Mode::empty())?;
            let mount = file_id::of_fd(&root)?.mount;
            Ok(Self { root, place, mount })
        };
        make().map_err(|errno| NotDone::Fail(could_not("make a place to detach it in", errno)))
    }

    /// Takes the mount that this one lies beneath.
    fn take(&self, inside: &mut Inside, top: &OwnedFd, mount: MountId) -> Result<(), NotDone> {
        let failed = |errno| NotDone::Fail(could_not("take it out of its place", errno));
        enter(&self.root)?;
        mount_change(c".", MountPropagationFlags::PRIVATE).map_err(failed)?;
        match put(top, &self.place, MoveMountFlags::empty()) {
            Ok(()) => {}
            // It came between: what lies beneath is not this one.
            Err(Errno::LOOP) => return Err(covered()),
            Err(errno) => return Err(failed(errno)),
        }
        // What is mounted on it came along. Who had found his way to it before it was moved, and mounts there only now, must
        // have done so before the last look: it would be detached with it.
        thread::sleep(GRACE);
        if !matches!(inside.standing(mount)?, Standing::Bare) {
            put(top, &self.root, MoveMountFlags::empty()).map_err(failed)?;
            return Err(covered());
        }
        let there = file_id::of_entry(&self.root, Self::PLACE).map_err(failed)?;
        if !there.mount.same_mount(mount) {
            return Err(covered());
        }
        let how = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        if let Err(errno) = retry_on_intr(|| rustix::mount::unmount(Self::PLACE, how)) {
            // Back to where everybody finds it.
            put(top, &self.root, MoveMountFlags::empty()).map_err(failed)?;
            return Err(NotDone::Fail(could_not("detach it", errno)));
        }
        gone(inside, mount)
    }
}

/// Moves a mount from its descriptor onto what another descriptor shows.
fn put(mount: &OwnedFd, onto: &OwnedFd, more: MoveMountFlags) -> io::Result<()> {
    let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH | more;
    move_mount(mount, c"", onto, c"", how)
}

/// Detaches a mount that is in use, here and nowhere else. The thread has a working directory of its own.
pub(super) fn lazily(inside: &mut Inside, at: &Located, mount: MountId) -> Result<(), NotDone> {
    let own = Private::new()?;
    let top = open_top(at)?;
    if !mount.same_mount(id_of(&top)?) || !matches!(inside.standing(mount)?, Standing::Bare) {
        return Err(covered());
    }
    match put(&own.root, &top, MoveMountFlags::MOVE_MOUNT_BENEATH) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS) => {
            return Err(NotDone::Fail(
                "the kernel cannot detach it without taking along what somebody else mounts there in that moment (Linux \
                 6.5 can, unless a user namespace has locked it to its place); end who uses it (fuser -vm shows that), or \
                 unmount it by hand, lazily"
                    .to_owned(),
            ));
        }
        Err(Errno::NOSPC) => {
            return Err(NotDone::Fail(
                "this namespace may have no more mounts, and one is needed for a moment: raise the limit (sysctl \
                 fs.mount-max), or unmount what is not busy first"
                    .to_owned(),
            ));
        }
        Err(errno) => return Err(NotDone::Fail(could_not("take it out of its place", errno))),
    }
    let taken = own.take(inside, &top, mount);
    let Private { root, place, mount: ours } = own;
    enter(&at.parent)?;
    drop((root, place, top));
    let cleaned = clean(inside, at, ours);
    match (taken, cleaned) {
        (taken, Ok(())) => taken,
        (Ok(()), Err(why)) => Err(NotDone::Fail(format!(
            "it is detached, but an empty tmpfs of ours stays in its place ({why}); unmount that too"
        ))),
        (Err(NotDone::Skip(first) | NotDone::Fail(first)), Err(why)) => Err(NotDone::Fail(format!(
            "{first}. An empty tmpfs of ours stays there ({why}); unmount it when that is gone"
        ))),
    }
}

/// Takes our own mount away again. Others may have looked into it.
fn clean(inside: &mut Inside, at: &Located, ours: MountId) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match plainly(inside, at, ours) {
            Ok(()) => return Ok(()),
            Err(_) if Instant::now() < until => thread::sleep(PAUSE),
            Err(NotDone::Skip(why) | NotDone::Fail(why)) => return Err(why),
        }
    }
}
