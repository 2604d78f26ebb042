//! Adds a name to the list of those that no sweep takes. The file is replaced as a whole: whoever reads it sees the old one or
//! the new one, whatever ends this program.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, fsync, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::{NotDone, Session};
use crate::config::{Environment, load};
use crate::domain::identity::FileId;
use crate::domain::receipt::Outcome;
use crate::domain::text::HostPath;
use crate::exec::guards;
use crate::exec::words::could_not;
use crate::sys::beneath::{self, Located};
use crate::sys::file_id;

/// Directories that are made at most where the file would be: `unwedge`, and `.config` above it.
const MOST_DIRS: usize = 2;
/// Only its owner reads a new file.
const NEW_FILE: Mode = Mode::from_raw_mode(0o600);
/// Only its owner enters a new directory.
const NEW_DIR: Mode = Mode::from_raw_mode(0o700);

/// The file as it was found.
struct Found {
    id: FileId,
    text: String,
    owner: (Uid, Gid),
    mode: Mode,
}

/// Adds the name.
pub fn keep(session: &mut Session<'_>, file: &HostPath, name: &str) -> Result<Outcome, NotDone> {
    let environment = session.context.environment;
    let path = file.as_path();
    let dir = path.parent().ok_or_else(|| NotDone::Skip(format!("{file} is in no directory")))?;
    guards::own_config(environment, dir).map_err(NotDone::Skip)?;
    let located = locate(path, MOST_DIRS)?;
    let parent = file_id::of_fd(&located.parent)
        .map_err(|errno| NotDone::Fail(could_not("look at its directory", errno)))?;
    session.around().writable(parent.mount).map_err(NotDone::Skip)?;
    // Again, now that the directory is open: what was looked at by path may be another one.
    guards::own_config_part(environment, &located.parent).map_err(NotDone::Skip)?;
    let found = read(environment, &located)?;
    let list = load::keep_list(environment, session.context.settings).map_err(NotDone::Skip)?;
    let old = found.as_ref().map_or("", |found| found.text.as_str());
    let text = with_name(old, &list, name).map_err(NotDone::Skip)?;
    replace(&located, found.as_ref(), &text)?;
    Ok(Outcome::Done { count: 1 })
}

/// Opens the directory of the file; makes it, and so many above it, if they are not there.
fn locate(path: &Path, make: usize) -> Result<Located, NotDone> {
    let error = match beneath::open_parent(path) {
        Ok(located) => return Ok(located),
        Err(error) => error,
    };
    let Some(dir) = path.parent().filter(|_| make > 0 && error.errno() == Some(Errno::NOENT)) else {
        return Err(NotDone::Skip(error.to_string()));
    };
    let above = locate(dir, make - 1)?;
    let shown = HostPath::from(dir);
    let fail = |errno| NotDone::Fail(could_not(&format!("make the directory {shown}"), errno));
    match mkdirat(&above.parent, &above.name, NEW_DIR) {
        Ok(()) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fresh = openat(&above.parent, &above.name, flags, Mode::empty()).map_err(fail)?;
            let (uid, gid) = owner_of(&above.parent).map_err(fail)?;
            give(&fresh, uid, gid).map_err(fail)?;
        }
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(fail(errno)),
    }
    beneath::open_parent(path).map_err(|error| NotDone::Skip(error.to_string()))
}

/// Who a directory belongs to: what is made in it belongs to the same, also if root makes it for somebody.
fn owner_of(dir: impl AsFd) -> rustix::io::Result<(Uid, Gid)> {
    let stat = fstat(dir)?;
    Ok((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))
}

/// Gives something to its owner; only root can, and only root has to.
fn give(thing: impl AsFd, uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    if rustix::process::geteuid().is_root() { fchown(thing, Some(uid), Some(gid)) } else { Ok(()) }
}

/// The file as it is; none if there is none.
fn read(environment: &Environment, located: &Located) -> Result<Option<Found>, NotDone> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match retry_on_intr(|| openat(&located.parent, &located.name, flags, Mode::empty())) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => {
            return Err(NotDone::Skip(
                "it is a symbolic link; add the name to the file that it leads to".to_owned(),
            ));
        }
        Err(errno) => return Err(NotDone::Fail(could_not("open it", errno))),
    };
    let fail = |errno| NotDone::Fail(could_not("look at it", errno));
    guards::own_config_part(environment, &file).map_err(NotDone::Skip)?;
    let (id, stat) = (file_id::of_fd(&file).map_err(fail)?, fstat(&file).map_err(fail)?);
    if id.links != 1 {
        return Err(NotDone::Skip(format!(
            "it has {} names (hard links), and only one would change",
            id.links
        )));
    }
    let mut text = String::new();
    std::fs::File::from(file)
        .take(load::MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|error| NotDone::Fail(format!("could not read it: {error}")))?;
    if text.len() as u64 > load::MAX_FILE {
        return Err(NotDone::Skip("it is too large for a configuration file".to_owned()));
    }
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(Some(Found { id, text, owner, mode: Mode::from_raw_mode(stat.st_mode & 0o7777) }))
}

/// The text of the file with the name in its list. `effective` is the list that holds if the file has none.
fn with_name(text: &str, effective: &[String], name: &str) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|error| format!("it is no TOML, so nothing was changed: {error}"))?;
    let sweep = document.entry("sweep").or_insert_with(|| Item::Table(Table::new()));
    let Some(sweep) = sweep.as_table_like_mut() else {
        return Err("its sweep is no table, so nothing was changed".to_owned());
    };
    let fresh = || Item::Value(Value::Array(effective.iter().map(String::as_str).collect::<Array>()));
    let Some(list) = sweep.entry("keep").or_insert_with(fresh).as_array_mut() else {
        return Err("its sweep.keep is no list, so nothing was changed".to_owned());
    };
    if list.iter().any(|one| one.as_str() == Some(name)) {
        return Err("the name is in the list already".to_owned());
    }
    append(list, name);
    let text = document.to_string();
    load::check(&text)
        .map_err(|error| format!("it would not be valid any more, so nothing was changed: {error}"))?;
    Ok(text)
}

/// Adds a name on a line of its own if the others are on lines of their own.
fn append(list: &mut Array, name: &str) {
    let before = list.iter().last().and_then(|last| last.decor().prefix()?.as_str()).unwrap_or_default();
    // A comment before the last name is not about the new one.
    let mut line = before.rfind('\n').and_then(|at| before.get(at..)).map(str::to_owned);
    // One after it stays with it too.
    let after = list.trailing().as_str().unwrap_or_default();
    if let Some((comment, rest)) = after.rsplit_once('\n').filter(|(comment, _)| comment.contains('#')) {
        line = Some(format!("{comment}{}", line.as_deref().unwrap_or("\n    ")));
        let rest = format!("\n{rest}");
        list.set_trailing(rest);
    }
    list.push(name);
    if let Some(line) = line
        && let Some(last) = list.iter_mut().last()
    {
        last.decor_mut().set_prefix(line);
    }
}

/// Puts a new file in the place of the old one in a single step.
fn replace(located: &Located, found: Option<&Found>, text: &str) -> Result<(), NotDone> {
    let fail = |what: &str, errno: Errno| NotDone::Fail(could_not(what, errno));
    let name = [b".", located.name.to_bytes(), b".unwedge-new"].concat();
    let name = CString::new(name).map_err(|_| NotDone::Skip("its name cannot be used".to_owned()))?;
    // What a run left that was killed here. Runs take turns, and nobody else may write to this directory.
    let _ = unlinkat(&located.parent, &name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        openat(&located.parent, &name, flags, NEW_FILE).map_err(|errno| fail("make the new file", errno))?;
    let done = write(&file, located, found, text).and_then(|()| {
        let now = match file_id::of_entry(&located.parent, &located.name) {
            Ok(now) => Some(now),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(fail("look at it", errno)),
        };
        let same = match (found, &now) {
            (None, None) => true,
            (Some(found), Some(now)) => found.id.matches_untouched(now).is_ok(),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !same {
            return Err(NotDone::Skip("somebody else changed it meanwhile; do it again".to_owned()));
        }
        renameat(&located.parent, &name, &located.parent, &located.name)
            .map_err(|errno| fail("put the new file in its place", errno))
    });
    if done.is_err() {
        let _ = unlinkat(&located.parent, &name, AtFlags::empty());
    }
    done?;
    sync_dir(&located.parent).map_err(|errno| fail("make the change durable (it is made)", errno))
}

fn write(file: &OwnedFd, located: &Located, found: Option<&Found>, text: &str) -> Result<(), NotDone> {
    let fail = |errno| NotDone::Fail(could_not("write the new file", errno));
    let (uid, gid) = match found {
        Some(found) => found.owner,
        None => owner_of(&located.parent).map_err(fail)?,
    };
    give(file, uid, gid).map_err(fail)?;
    fchmod(file, found.map_or(NEW_FILE, |found| found.mode)).map_err(fail)?;
    let mut writer = std::fs::File::from(file.try_clone().map_err(|error| NotDone::Fail(error.to_string()))?);
    writer
        .write_all(text.as_bytes())
        .map_err(|error| NotDone::Fail(format!("could not write the new file: {error}")))?;
    fsync(file).map_err(fail)
}

fn sync_dir(dir: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fsync(openat(dir, Path::new(".").as_os_str().as_bytes(), flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn comments_order_and_the_way_of_writing_stay() {
        let old =
            "# mine\n[temp]\nwarn_entries = 5 # few\n\n[sweep]\nkeep = [\"a\"] # these\nfile_hours = 3\n";
        let new = with_name(old, &list(&["ignored"]), "b").unwrap();
        assert_eq!(new, old.replace("[\"a\"]", "[\"a\", \"b\"]"));
        let old = "[sweep]\nkeep = [\n    # first\n    \"a\",\n    # second\n    \"b\",\n]\n";
        let new = with_name(old, &[], "c").unwrap();
        assert_eq!(
            new,
            "[sweep]\nkeep = [\n    # first\n    \"a\",\n    # second\n    \"b\",\n    \"c\",\n]\n"
        );
    }

    #[test]
    fn a_comment_stays_with_its_name() {
        for (old, new) in [
            ("[\n  \"a\", # one\n]", "[\n  \"a\", # one\n  \"b\",\n]"),
            ("[\n  \"a\",\n  # the end\n]", "[\n  \"a\",\n  # the end\n  \"b\",\n]"),
            ("[\"a\", # one\n]", "[\"a\", # one\n    \"b\",\n]"),
            ("[]", "[\"b\"]"),
        ] {
            let text = with_name(&format!("[sweep]\nkeep = {old}\n"), &[], "b").unwrap();
            assert_eq!(text, format!("[sweep]\nkeep = {new}\n"));
        }
        // Ugly, and valid: the comma comes after the comment.
        let text = with_name("[sweep]\nkeep = [\n  \"a\" # one\n]\n", &[], "b").unwrap();
        let settings: crate::config::Settings = toml::from_str(&text).unwrap();
        assert!(settings.sweep.keep == ["a", "b"] && text.contains("# one"), "{text}");
    }

    #[test]
    fn a_file_without_a_list_gets_the_one_that_holds() {
        let new = with_name("", &list(&["a*"]), "b\\*").unwrap();
        let settings: crate::config::Settings = toml::from_str(&new).unwrap();
        assert_eq!(settings.sweep.keep, ["a*", "b\\*"]);
        let new = with_name("sweep.file_hours = 3\n", &[], "b").unwrap();
        assert_eq!(new, "sweep.file_hours = 3\nsweep.keep = [\"b\"]\n");
    }

    #[test]
    fn what_is_no_configuration_is_left_alone() {
        for (old, why) in [
            ("[sweep", "no TOML"),
            ("sweep = 3", "no table"),
            ("[sweep]\nkeep = 3", "no list"),
            ("[sweep]\nkeep = [\"b\"]", "already"),
            ("[nonsense]\n", "not be valid"),
        ] {
            let said = with_name(old, &[], "b").unwrap_err();
            assert!(said.contains(why), "{old}: {said}");
        }
    }
}
