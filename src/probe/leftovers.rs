//! What runs have left: set aside and never removed, beside its old place, under a name that carries the run; moved to
//! another file system; copied there in part; or the log whose head was to be dropped.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};

use super::{Context, Looking};
use crate::domain::identity::{FileId, FileKind};
use crate::domain::past::{
    Access, Back, Changed, EVACUATED, ITEM, Leftover, Moved, Over, PastRun, ROTATED, Rotated, SET_ASIDE,
    Swept, Taken,
};
use crate::domain::sweep::MOST_THREADS;
use crate::domain::text::{HostPath, HostText};
use crate::sys::{beneath, file_id, tail};

/// The action whose runs are taken back by moving back; what `undo` itself moves back stays there.
const EVACUATE: &str = "evacuate";

/// What is left of a run that is over. Also returns what could not be looked at.
pub fn of_run(context: &Context<'_>, run: &PastRun) -> (Vec<Leftover>, Vec<String>) {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    if run.running {
        return (found, missing);
    }
    let mut answers = |path: &HostPath| {
        let parent = path.as_path().parent().unwrap_or(path.as_path());
        super::answers(context, parent, Looking::At).map_err(|why| missing.push(why)).is_ok()
    };
    for taken in &run.taken {
        if answers(&taken.path) {
            let aside = beside(run, taken);
            let changed = access(run, taken, aside.as_ref());
            found.extend(aside);
            found.extend(changed);
        }
    }
    for moved in &run.moved {
        if answers(&moved.file.path) && answers(&moved.to) {
            found.extend(piece(run, moved));
            let aside = beside(run, &moved.file);
            found.extend(double(run, moved, aside.as_ref()));
            found.extend(aside.or_else(|| away(run, moved)));
        }
    }
    for rotated in &run.rotated {
        if answers(&rotated.file.path) {
            found.extend(cut(run, rotated));
        }
    }
    for swept in &run.swept {
        if answers(&HostPath::from(swept.path.as_path().join("."))) {
            found.extend(of_sweep(run, swept));
        }
    }
    (found, missing)
}

/// What a killed sweep had set aside: directories under their own names, a file under the name of the quarantine.
fn of_sweep(run: &PastRun, swept: &Swept) -> Vec<Leftover> {
    let mut found = Vec::new();
    for number in 0..MOST_THREADS {
        let own_name = format!("{SET_ASIDE}{}-{}x{number}", run.run, swept.step);
        let aside = swept.path.as_path().join(&own_name);
        let Ok(entries) = std::fs::read_dir(&aside) else { continue };
        for entry in entries.flatten() {
            let from = entry.path();
            let Some(id) = identity(&from) else { continue };
            let name = if entry.file_name() == OsStr::new(&own_name) {
                swept.names.get(&id.key.ino).cloned()
            } else {
                Some(HostText::new(entry.file_name().as_bytes()))
            };
            let (to, hindered) = match name {
                Some(name) => {
                    let to = swept.path.as_path().join(OsStr::from_bytes(name.as_bytes()));
                    let taken = identity(&to).is_some().then(|| name_taken(&from));
                    (to, taken)
                }
                None => (
                    from.clone(),
                    Some(format!(
                        "its name is not on record; it stays in {}",
                        HostPath::from(from.as_path())
                    )),
                ),
            };
            let (from, to) = (HostPath::from(from), HostPath::from(to));
            found.push(Leftover { run: run.run.clone(), from, to, id, back: Back::Rename, hindered });
        }
    }
    found
}

fn name_taken(aside: &Path) -> String {
    format!("something else has that name by now; what was set aside is {}", HostPath::from(aside))
}

fn beside(run: &PastRun, taken: &Taken) -> Option<Leftover> {
    let parent = taken.path.as_path().parent()?;
    let aside = parent.join(format!("{SET_ASIDE}{}-{}", run.run, taken.step));
    // In a directory of its own, or only renamed where none could be made.
    let (from, id) = [aside.join(ITEM), aside]
        .into_iter()
        .filter_map(|path| Some((identity(&path)?, path)))
        .find(|(id, _)| taken.id.matches(id).is_ok())
        .map(|(id, path)| (HostPath::from(path), id))?;
    let hindered = identity(taken.path.as_path()).map(|_| name_taken(from.as_path()));
    Some(Leftover { run: run.run.clone(), from, to: taken.path.clone(), id, back: Back::Rename, hindered })
}

/// A directory that still has the owner and mode that a run gave it for its time. What was set aside has its name again when
/// it gets them back.
fn access(run: &PastRun, taken: &Taken, aside: Option<&Leftover>) -> Option<Leftover> {
    let now = aside.map_or(&taken.path, |aside| &aside.from);
    let stays = aside.is_some_and(|aside| aside.hindered.is_some());
    let located = beneath::open_parent(now.as_path()).ok()?;
    let stat = statat(&located.parent, &located.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let id = file_id::of_entry(&located.parent, &located.name).ok()?;
    let is = Access { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 };
    // The first change has what it was at the beginning.
    let of_it = |changed: &&Changed| changed.step == taken.step && changed.key == id.key;
    let before = run.changed.iter().find(of_it)?.before;
    let given = run.changed.iter().rfind(of_it)?.given;
    // It may have been killed between the change of the owner and that of the mode, on the way there or back.
    let by_run = [before.uid, given.uid].contains(&is.uid) && [before.mode, given.mode].contains(&is.mode);
    if is == before || !by_run {
        return None;
    }
    let from = if stays { now.clone() } else { taken.path.clone() };
    let to = taken.path.clone();
    Some(Leftover { run: run.run.clone(), from, to, id, back: Back::Access { before }, hindered: None })
}

/// What was moved away by a run and is there as it was moved.
fn away(run: &PastRun, moved: &Moved) -> Option<Leftover> {
    let planned = moved.file.id;
    let copy =
        identity(moved.to.as_path()).filter(|id| run.action == EVACUATE && id.kind == FileKind::File)?;
    let here = identity(moved.file.path.as_path());
    if here.is_some_and(|here| planned.matches(&here).is_ok()) {
        // It never went; what is there may be anybody's.
        return None;
    }
    // The copy has the size and the time of the file; not every file system keeps nanoseconds.
    let hindered = if copy.size != planned.size || copy.modified.secs != planned.modified.secs {
        Some(format!(
            "it was changed since it was moved; to have it back all the same: mv -n -- {} {}",
            moved.to.quoted(),
            moved.file.path.quoted()
        ))
    } else {
        here.filter(|here| {
            here.kind != FileKind::File || (here.size, here.modified.secs) != (copy.size, copy.modified.secs)
        })
        .map(|_| format!("something else has that name by now; what was moved is {}", moved.to))
    };
    let (from, to) = (moved.to.clone(), moved.file.path.clone());
    Some(Leftover { run: run.run.clone(), from, to, id: copy, back: Back::Copy { was: moved.was }, hindered })
}

/// The copy that a run made, if that was killed before the file went: it is in both places.
fn double(run: &PastRun, moved: &Moved, aside: Option<&Leftover>) -> Option<Leftover> {
    let was = moved.was.filter(|was| was.made)?;
    let here = aside.map(|one| one.id).or_else(|| identity(moved.file.path.as_path()))?;
    let copy = identity(moved.to.as_path())?;
    if moved.file.id.matches(&here).is_err() || was.copy.matches(&copy).is_err() {
        return None;
    }
    Some(Leftover {
        run: run.run.clone(),
        from: moved.to.clone(),
        to: moved.file.path.clone(),
        id: copy,
        back: Back::Remove,
        hindered: None,
    })
}

/// What a rotation that was killed left beside its log: the whole log, or a copy of its last lines.
fn cut(run: &PastRun, rotated: &Rotated) -> Option<Leftover> {
    let Taken { step, path, id: planned } = &rotated.file;
    let from = path.as_path().parent()?.join(format!("{ROTATED}{}-{step}", run.run));
    let id = identity(&from).filter(|id| id.kind == FileKind::File)?;
    let now = identity(path.as_path());
    let (back, hindered) = if planned.matches_inode(&id).is_ok() {
        match now {
            None => (Back::Rename, None),
            Some(id) => (Back::Whole { over: Over { id, keep_lines: rotated.keep_lines } }, None),
        }
    } else {
        let only_a_copy = now.is_some_and(|now| planned.matches_inode(&now).is_ok())
            && is_in(&from, path.as_path(), rotated.keep_lines).unwrap_or(false);
        let why = || format!("not all of its lines are in {path}; look at it");
        (Back::Remove, (!only_a_copy).then(why))
    };
    let from = HostPath::from(from);
    Some(Leftover { run: run.run.clone(), from, to: path.clone(), id, back, hindered })
}

/// Whether a file that a rotation left ends with lines that are in the log.
fn is_in(left: &Path, log: &Path, keep_lines: u64) -> Option<bool> {
    let open = |path: &Path| {
        let located = beneath::open_parent(path).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&located.parent, &located.name, flags, Mode::empty()).ok()
    };
    tail::is_in(&open(left)?, &open(log)?, keep_lines).ok()
}

/// What a run that was killed had copied.
fn piece(run: &PastRun, moved: &Moved) -> Option<Leftover> {
    let name = format!("{EVACUATED}{}-{}", run.run, moved.file.step);
    let path = moved.to.as_path().parent()?.join(name);
    let id = identity(&path).filter(|id| id.kind == FileKind::File)?;
    let planned = moved.file.id;
    let there = |path: &Path| identity(path).is_some_and(|now| planned.matches(&now).is_ok());
    let hindered = (!there(moved.file.path.as_path())).then(|| {
        format!(
            "{} is not what it was any more, so this may be all there is of it; look at it",
            moved.file.path
        )
    });
    let from = HostPath::from(path);
    Some(Leftover {
        run: run.run.clone(),
        from,
        to: moved.file.path.clone(),
        id,
        back: Back::Remove,
        hindered,
    })
}

fn identity(path: &Path) -> Option<FileId> {
    let located = beneath::open_parent(path).ok()?;
    file_id::of_entry(&located.parent, &located.name).ok()
}
