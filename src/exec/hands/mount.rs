//! Unmounts, in our own mount namespace or in another one (SAFETY.md T19).
//!
//! The work is done in a thread of its own: it may have to enter another namespace, which a thread can do only
//! for itself and only with a working directory of its own (`unshare(CLONE_FS)`, setns(2)), and umount2(2) of
//! something dead may never return. umount2 takes a path, not a descriptor; the path given is one component,
//! relative to the directory above, which is open and the thread's working directory. How that mount goes and no other:
//! [`unmount`].
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::{NotDone, Session, unmount};
use crate::domain::identity::{FileKind, MountId, NamespaceId};
use crate::domain::op::MountTarget;
use crate::domain::protect::ProtectSet;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::exec::words::{could_not, explain};
use crate::probe::build_mounts;
use crate::sys::beneath::{self, Located};
use crate::sys::file_id;
use crate::sys::mount_namespaces::Namespaces;
use crate::sys::mount_table::MountTable;
use crate::sys::mounts_below::Below;
use crate::sys::procfs::Proc;
use crate::sys::{mounted_on, mountinfo, mounts_below};

/// How long an unmount may take.
const DEADLINE: Duration = Duration::from_secs(10);

type Answer = Result<Outcome, NotDone>;

/// How a mount stands in its namespace.
pub(super) enum Standing {
    /// Nothing is mounted on it.
    Bare,
    /// Something is.
    Covered,
    /// It is not mounted any more.
    Gone,
}

/// The namespace of a target, entered by the current thread.
pub(super) struct Inside {
    /// Its mountinfo, opened before it was entered: proc may not be mounted inside.
    mountinfo: File,
}

impl Inside {
    /// Checks that the namespace is the planned one and enters it.
    fn enter(target: &MountTarget, proc: &Proc) -> Result<Self, NotDone> {
        let skip = |why: String| NotDone::Skip(why);
        if let Some(process) = target.via {
            guards::still_there(proc, process)
                .map_err(|why| skip(format!("the mount namespace cannot be reached through it: {why}")))?;
        }
        let open = |name: &str| {
            let path = match target.via {
                None => proc.own_file(name),
                Some(process) => proc.file(process.pid, name),
            };
            File::open(&path).map_err(|error| {
                NotDone::Fail(format!("{} could not be opened: {error}", HostPath::from(path)))
            })
        };
        let namespace_file = open("ns/mnt")?;
        let mountinfo = open("mountinfo")?;
        if let Some(process) = target.via {
            // Both files are of the process that was compared only if it is still the same now.
            guards::still_there(proc, process).map_err(skip)?;
        }
        let inode = namespace_file
            .metadata()
            .map_err(|error| NotDone::Fail(format!("the mount namespace could not be looked at: {error}")))?
            .ino();
        if NamespaceId(inode) != target.namespace {
            return Err(skip(format!(
                "it was seen in mount namespace {}, but this leads to {inode} now",
                target.namespace.0
            )));
        }
        let failed = |what: &str, errno: nix::errno::Errno| {
            NotDone::Fail(could_not(what, Errno::from_raw_os_error(errno as i32)))
        };
        unshare(CloneFlags::CLONE_FS).map_err(|errno| failed("give the thread its own directory", errno))?;
        if target.via.is_some() {
            setns(&namespace_file, CloneFlags::CLONE_NEWNS)
                .map_err(|errno| failed("enter the mount namespace", errno))?;
        }
        Ok(Self { mountinfo })
    }

    /// How a mount stands now. It is not used by the question.
    pub(super) fn standing(&mut self, mount: MountId) -> Result<Standing, NotDone> {
        match mount.unique.map(mounted_on::is_covered) {
            Some(Ok(true)) => return Ok(Standing::Covered),
            Some(Ok(false)) => return Ok(Standing::Bare),
            Some(Err(Errno::NOENT)) => return Ok(Standing::Gone),
            // The kernel cannot tell; the list can.
            Some(Err(_)) | None => {}
        }
        let mounts = self.list()?;
        Ok(if mounts.by_id(mount.id).is_none() {
            Standing::Gone
        } else if mounts.mounted_on(mount.id).next().is_some() {
            Standing::Covered
        } else {
            Standing::Bare
        })
    }

    fn list(&mut self) -> Result<MountTable, NotDone> {
        let mut text = Vec::new();
        self.mountinfo
            .rewind()
            .and_then(|()| self.mountinfo.read_to_end(&mut text))
            .map_err(|error| NotDone::Fail(format!("its mounts could not be listed: {error}")))?;
        let parsed = mountinfo::parse(&text);
        if parsed.malformed > 0 {
            let why = format!("{} of its mounts are not listed in the format of proc(5)", parsed.malformed);
            return Err(NotDone::Fail(why));
        }
        Ok(MountTable::new(parsed))
    }
}

fn locate(target: &MountTarget) -> Result<Located, NotDone> {
    beneath::open_parent(target.mount_point.as_path()).map_err(|error| NotDone::Skip(error.to_string()))
}

/// Runs the work in a thread of its own and waits for it no longer than the deadline.
fn in_thread(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let (tell, hear) = channel();
    let thread = std::thread::Builder::new().name("unmount".to_owned()).spawn(move || {
        // Nobody listens any more after the deadline.
        let _ = tell.send(work());
    });
    let thread =
        thread.map_err(|error| NotDone::Fail(format!("a thread for it could not be started: {error}")))?;
    match hear.recv_timeout(DEADLINE) {
        Ok(answer) => {
            // Its working directory keeps the mount below busy until it has ended.
            let _ = thread.join();
            answer
        }
        Err(RecvTimeoutError::Timeout) => Err(NotDone::Fail(format!(
            "the kernel did not answer within {} s; the server or device behind it is most likely gone. The \
             attempt goes on in the background",
            DEADLINE.as_secs()
        ))),
        Err(RecvTimeoutError::Disconnected) => Err(NotDone::Fail("the thread for it broke off".to_owned())),
    }
}

/// Unmounts, plainly or lazily.
pub fn take_away(session: &Session<'_>, target: &MountTarget, lazy: bool) -> Answer {
    let (target, proc) = (target.clone(), session.proc.clone());
    in_thread(move || unmount_here(&target, &proc, lazy))
}

fn unmount_here(target: &MountTarget, proc: &Proc, lazy: bool) -> Answer {
    let mut inside = Inside::enter(target, proc)?;
    let mounts = inside.list()?;
    let located = locate(target)?;
    // The descriptor is closed again: an open one would keep the mount busy.
    let top = file_id::of_fd(unmount::open_top(&located)?)
        .map_err(|errno| NotDone::Skip(could_not("look at the mount point", errno)))?;
    guards::top_mount(target.mount, &target.mount_point, top.mount, &mounts).map_err(NotDone::Skip)?;
    let child =
        mounts.entries().iter().find(|entry| entry.parent == target.mount.id && entry.id != entry.parent);
    if let Some(child) = child {
        // It would be taken along; a plain umount2 would say EBUSY.
        return Err(NotDone::Skip(format!(
            "something else is mounted on it, at {}; unmount that first",
            child.mount_point
        )));
    }
    // The kernel may know it by an id that is never used again where the plan does not.
    if lazy {
        unmount::lazily(&mut inside, &located, top.mount)?;
    } else {
        unmount::plainly(&mut inside, &located, top.mount)?;
    }
    Ok(Outcome::Done { count: 1 })
}

/// Removes the empty directory that something was mounted on.
pub fn remove_empty_dir(session: &Session<'_>, target: &MountTarget) -> Answer {
    let target = target.clone();
    let protect = session.context.protect.clone();
    let proc = session.proc.clone();
    // All namespaces are listed before another one is entered: our own proc may be out of sight there.
    let namespaces = mounts_below::read(&proc);
    in_thread(move || remove_here(&target, &proc, namespaces, &protect))
}

fn remove_here(
    target: &MountTarget,
    proc: &Proc,
    mut namespaces: Namespaces,
    protect: &ProtectSet,
) -> Answer {
    let mut inside = Inside::enter(target, proc)?;
    namespaces.enter(target.namespace, inside.list()?).map_err(NotDone::Skip)?;
    let located = locate(target)?;
    let point = file_id::of_entry(&located.parent, &located.name)
        .map_err(|errno| NotDone::Skip(could_not("look at the directory", errno)))?;
    if point.kind != FileKind::Directory {
        return Err(NotDone::Skip("it is not a directory".to_owned()));
    }
    let own = &namespaces.whole().map_err(NotDone::Skip)?.mounts;
    let path = &target.mount_point;
    if build_mounts::is_place(path.as_bytes()) {
        // It lies in a store that is protected with everything in it. Its name is one that only BuildKit gives, and what
        // is not empty stays.
        protect.check(point.key, &[])
    } else {
        guards::with_ancestors(&located.parent)
            .and_then(|above| guards::not_protected(protect, point.key, &above, path, point.mount, own))
    }
    .map_err(NotDone::Skip)?;
    guards::no_mounts_below(&Below::new(&namespaces), path, point.mount).map_err(NotDone::Skip)?;
    match retry_on_intr(|| unlinkat(&located.parent, &*located.name, AtFlags::REMOVEDIR)) {
        Ok(()) => Ok(Outcome::Done { count: 1 }),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(NotDone::Skip(
            "it is not empty; what is in it was below the mount and is left alone".to_owned(),
        )),
        Err(errno) => Err(NotDone::Fail(format!("the directory stays: {}", explain(errno)))),
    }
}
