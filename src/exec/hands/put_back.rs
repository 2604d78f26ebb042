//! Puts back under its name what a run had set aside.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::quarantine::rename_back;
use super::{NotDone, Session, own};
use crate::domain::identity::FileId;
use crate::domain::past::Access;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::journal::SET_ASIDE;
use crate::sys::{beneath, file_id};

/// Renames it back; never replaces anything.
pub fn put_back(
    session: &mut Session<'_>,
    from: &HostPath,
    to: &HostPath,
    planned: &FileId,
) -> Result<Outcome, NotDone> {
    let open = |path: &HostPath| {
        beneath::open_parent(path.as_path()).map_err(|error| match error.errno() {
            Some(Errno::NOENT) => NotDone::Skip(format!("{path} is not there any more")),
            _ => NotDone::Skip(error.to_string()),
        })
    };
    let (old, new) = (open(from)?, open(to)?);
    let now = file_id::of_entry(&old.parent, &old.name).map_err(|errno| match errno {
        Errno::NOENT => NotDone::Skip("it is not there any more".to_owned()),
        errno => NotDone::Fail(could_not("look at it", errno)),
    })?;
    guards::same_file(planned, &now).map_err(NotDone::Skip)?;
    let around = session.around();
    around.writable(now.mount).map_err(NotDone::Skip)?;
    match rename_back(std::os::fd::AsFd::as_fd(&old.parent), &old.name, &new.parent, &new.name, planned.kind)
    {
        Ok(()) => {}
        Err(Errno::EXIST | Errno::NOTEMPTY) => {
            return Err(NotDone::Skip(format!("{to} has come into being meanwhile; it stays in {from}")));
        }
        Err(errno) => return Err(NotDone::Fail(could_not("put it back", errno))),
    }
    // The directory that was made for it: ours by its name, and only an empty one can go.
    let aside = from.as_path().parent().filter(|dir| {
        dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(SET_ASIDE.as_bytes()))
    });
    if let Some(dir) = aside
        && let Ok(located) = beneath::open_parent(dir)
        && let Err(errno) = retry_on_intr(|| unlinkat(&located.parent, &located.name, AtFlags::REMOVEDIR))
        // More of a sweep is in it, which is put back by itself.
        && !matches!(errno, Errno::NOTEMPTY | Errno::EXIST)
    {
        let left = could_not(&format!("remove the directory {}", HostPath::from(dir)), errno);
        return Ok(Outcome::Partly { count: 1, problems: vec![left] });
    }
    Ok(Outcome::Done { count: 1 })
}

/// Gives a directory back the owner and mode that a run had changed for its time.
pub fn restore_access(
    session: &mut Session<'_>,
    path: &HostPath,
    planned: &FileId,
    access: Access,
) -> Result<Outcome, NotDone> {
    let gone = || NotDone::Skip(format!("{path} is not there any more"));
    let located = beneath::open_parent(path.as_path()).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => gone(),
        _ => NotDone::Skip(error.to_string()),
    })?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir =
        retry_on_intr(|| openat(&located.parent, &located.name, flags, Mode::empty())).map_err(|errno| {
            match errno {
                Errno::NOENT => gone(),
                errno => NotDone::Fail(could_not("open it", errno)),
            }
        })?;
    let now = file_id::of_fd(&dir).map_err(|errno| NotDone::Fail(could_not("look at it", errno)))?;
    guards::same_file(planned, &now).map_err(NotDone::Skip)?;
    session.around().writable(now.mount).map_err(NotDone::Skip)?;
    own::give_access(&dir, access).map_err(|errno| NotDone::Fail(could_not("give it back", errno)))?;
    Ok(Outcome::Done { count: 1 })
}
