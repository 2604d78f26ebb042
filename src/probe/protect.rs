//! Builds the set of what must never be touched, by device and inode (SAFETY.md T7).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::protected_paths::{HOME_PATHS, Row, SYSTEM_PATHS};
use super::{Context, engines, filesystems, host};
use crate::domain::journal_dirs::journal_dirs;
use crate::domain::protect::{ProtectSet, Protected, Reach};
use crate::domain::text::HostPath;
use crate::sys::child::{Answer, Question};
use crate::sys::deadline::{self, Outcome, c_path};
use crate::sys::mount_table::MountTable;
use crate::sys::safe_path::{self, Way};
use crate::sys::{file_id, fs_types};

/// Something to protect, before it was looked at.
struct Wanted {
    path: PathBuf,
    reach: Reach,
    why: String,
    /// Whether it is a mount point, as the kernel lists it.
    mounted: bool,
}

/// Builds the set. What does not exist is skipped. What lies on a server is asked for in a child, and is skipped where the
/// server does not answer: nothing can be deleted there either.
pub fn look(context: &Context<'_>) -> ProtectSet {
    let mounts = filesystems::own_mounts(context).map(|(table, _)| table).unwrap_or_default();
    let mut builder = Builder {
        set: ProtectSet::default(),
        seen: HashSet::new(),
        later: Vec::new(),
        above_later: BTreeMap::new(),
        // Paths of a fixture are not those of our mounts; the fixture itself is local.
        fixture: context.environment.root != Path::new("/"),
        mounts,
    };
    for wanted in wanted(context, &builder.mounts) {
        if builder.may_hang(&wanted.path) {
            builder.later.push(wanted);
        } else {
            builder.local(&wanted);
        }
    }
    builder.ask_servers(context);
    builder.set
}

fn wanted(context: &Context<'_>, mounts: &MountTable) -> Vec<Wanted> {
    let environment = context.environment;
    // Mount points first: a row of the table says more about the same directory and replaces them. Looking at an autofs
    // mount point itself mounts nothing, but what is below it would be.
    let mut all: Vec<Wanted> = mounts
        .entries()
        .iter()
        .map(|entry| Wanted {
            path: environment.rooted(entry.mount_point.as_path()),
            reach: Reach::Itself,
            why: "a file system is mounted there".to_owned(),
            mounted: true,
        })
        .collect();
    let mut add = |path: PathBuf, reach: Reach, why: &str| {
        all.push(Wanted { path, reach, why: why.to_owned(), mounted: false });
    };
    for Row { path, reach, why } in SYSTEM_PATHS {
        add(environment.rooted(path), *reach, why);
    }
    for home in homes(context) {
        add(environment.rooted(&home), Reach::Itself, "a home directory");
        for Row { path, reach, why } in HOME_PATHS {
            add(environment.rooted(home.join(path)), *reach, why);
        }
    }
    for store in engines::places::all(context) {
        add(
            environment.rooted(store),
            Reach::Everything,
            "a container engine is set to keep its store there",
        );
    }
    // The program's own files are named by real paths, not by those of a fixture.
    add(environment.self_exe.clone(), Reach::Itself, "it is this program");
    for file in &environment.config_files {
        add(file.clone(), Reach::Itself, "this program's configuration");
    }
    let journal = "this program's journal of what it did";
    // Root's and this person's, where they are and where they are by default: older records may be there.
    for uid in [0, environment.uid] {
        for set in ["", &context.settings.journal.dir] {
            for dir in journal_dirs(&environment.root, uid, &environment.state_home, set) {
                add(dir, Reach::Everything, journal);
            }
        }
    }
    add(environment.state_home.join("unwedge"), Reach::Everything, journal);
    add(environment.config_home.join("unwedge"), Reach::Everything, "this program's configuration");
    for path in &context.settings.protect.paths {
        add(environment.rooted(path), Reach::Everything, "the settings say so (protect.paths)");
    }
    all
}

/// Home directories of `/etc/passwd` and of the person at the keyboard, each once.
fn homes(context: &Context<'_>) -> BTreeSet<PathBuf> {
    let mut homes: BTreeSet<PathBuf> = host::users(context)
        .into_iter()
        .map(|user| PathBuf::from(std::ffi::OsStr::from_bytes(&user.home)))
        .filter(|home| home.is_absolute() && home.parent().is_some())
        .collect();
    homes.insert(context.environment.home.clone());
    homes
}

struct Builder {
    set: ProtectSet,
    /// Directories looked at already, by path.
    seen: HashSet<PathBuf>,
    /// What lies on servers.
    later: Vec<Wanted>,
    /// Directories on servers that are above something protected, each with one such thing.
    above_later: BTreeMap<PathBuf, HostPath>,
    fixture: bool,
    mounts: Arc<MountTable>,
}

impl Builder {
    fn may_hang(&self, path: &Path) -> bool {
        !self.fixture && safe_path::may_hang(&self.mounts, path)
    }

    fn local(&mut self, wanted: &Wanted) {
        let Ok(path) = c_path(&wanted.path) else { return };
        if wanted.mounted {
            // The kernel gives its real path, so that one look will do: there can be tens of thousands.
            let Ok(key) = file_id::key_of_path(&path) else { return };
            let named = HostPath::from(wanted.path.as_path());
            self.ancestors(&wanted.path, &named);
            self.set.protect(key, Protected { path: named, reach: wanted.reach, why: wanted.why.clone() });
            return;
        }
        let Ok(link) = file_id::of_path(&path, false) else { return };
        let named = HostPath::from(wanted.path.as_path());
        if link.kind == crate::domain::identity::FileKind::Symlink {
            // /bin is a link to usr/bin on most systems: the link is protected by itself, its target as asked.
            let what = Protected { path: named.clone(), reach: Reach::Itself, why: wanted.why.clone() };
            self.set.protect(link.key, what);
        }
        self.ancestors(&wanted.path, &named);
        // Opened, so that inode and path belong together.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(fd) = openat(CWD, path.as_c_str(), flags, Mode::empty()) else { return };
        let Ok(target) = file_id::of_fd(&fd) else { return };
        self.set.protect(
            target.key,
            Protected { path: named.clone(), reach: wanted.reach, why: wanted.why.clone() },
        );
        if let Some(real) = super::chosen::path_of(&fd).filter(|real| *real != wanted.path) {
            self.ancestors(&real, &named);
        }
    }

    fn ancestors(&mut self, path: &Path, named: &HostPath) {
        for dir in path.ancestors().skip(1) {
            let key = if self.seen.contains(dir) {
                // All above it was gone through with it.
                return;
            } else if self.may_hang(dir) {
                self.above_later.entry(dir.to_path_buf()).or_insert_with(|| named.clone());
                None
            } else {
                let id = c_path(dir).and_then(|dir| file_id::of_path(&dir, true)).ok();
                self.seen.insert(dir.to_path_buf());
                id.map(|id| id.key)
            };
            if let Some(key) = key {
                self.set.protect_ancestor(key, named);
            }
        }
    }

    /// Asks for what lies on servers, side by side. What is below an automount is left alone: asking would mount it.
    fn ask_servers(&mut self, context: &Context<'_>) {
        let mut asked: Vec<(PathBuf, Option<Wanted>)> = Vec::new();
        for wanted in std::mem::take(&mut self.later) {
            let named = HostPath::from(wanted.path.as_path());
            self.ancestors(&wanted.path, &named);
            asked.push((wanted.path.clone(), Some(wanted)));
        }
        let above = std::mem::take(&mut self.above_later);
        asked.extend(above.keys().map(|dir| (dir.clone(), None)));
        let half = context.deadline() / 2;
        let silent = self.silent_mounts(asked.iter().map(|(path, _)| path.as_path()), half);
        asked.retain(|(path, _)| match safe_path::way(&self.mounts, path) {
            Way::Through(entry) => {
                !silent.contains(&entry.id)
                    && (!fs_types::is_autofs(entry.fs_type.as_bytes()) || entry.mount_point.as_path() == path)
            }
            Way::Local | Way::Unknown => true,
        });
        let questions: Vec<Question> = asked
            .iter()
            .filter_map(|(path, _)| c_path(path).ok())
            .map(|path| Question::Identity { path, follow: true })
            .collect();
        let outcomes = deadline::ask_all(&questions, half);
        let asked = asked.into_iter().filter(|(path, _)| c_path(path).is_ok());
        for ((path, wanted), outcome) in asked.zip(outcomes) {
            let Outcome::Answered(Answer::Identity(id)) = outcome else { continue };
            if let Some(wanted) = wanted {
                let named = HostPath::from(path.as_path());
                self.set.protect(id.key, Protected { path: named, reach: wanted.reach, why: wanted.why });
            } else if let Some(named) = above.get(&path) {
                self.set.protect_ancestor(id.key, named);
            }
        }
    }

    /// The mounts on the way to these paths whose servers do not answer. One question to each, so that a dead server
    /// with many homes on it costs one stuck child and not hundreds.
    fn silent_mounts<'p>(&self, paths: impl Iterator<Item = &'p Path>, deadline: Duration) -> BTreeSet<u32> {
        let mut mounts: BTreeMap<u32, Question> = BTreeMap::new();
        for path in paths {
            if let Way::Through(entry) = safe_path::way(&self.mounts, path)
                && !fs_types::is_autofs(entry.fs_type.as_bytes())
                && let Ok(path) = c_path(entry.mount_point.as_path())
            {
                mounts.insert(entry.id, Question::Usage { path });
            }
        }
        let questions: Vec<Question> = mounts.values().cloned().collect();
        let outcomes = deadline::ask_all(&questions, deadline);
        let asked = mounts.into_keys().zip(outcomes);
        asked.filter(|(_, outcome)| !matches!(outcome, Outcome::Answered(_))).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::DevIno;
    use crate::probe::tests::Surroundings;

    fn key(path: &str) -> DevIno {
        file_id::of_path(&c_path(Path::new(path)).unwrap(), true).unwrap().key
    }

    #[test]
    fn spellings_of_protected_places_and_what_is_above_and_below_them_are_refused() {
        let surroundings = Surroundings::real();
        let set = look(&surroundings.context());
        for path in
            ["/", "/usr", "/usr/bin", "/bin", "/home/../etc", "/var/lib", "/tmp", "/proc/self/root", "/proc"]
        {
            assert!(set.check(key(path), &[]).is_err(), "{path}");
        }
        assert!(set.check(key("/etc/passwd"), &[key("/etc"), key("/")]).unwrap_err().contains("inside"));
        let exe = std::env::current_exe().unwrap();
        assert!(set.check(key(exe.to_str().unwrap()), &[]).is_err());
        let above = exe.parent().unwrap();
        assert!(set.check(key(above.to_str().unwrap()), &[]).unwrap_err().contains("contains"));
    }

    #[test]
    fn what_is_in_tmp_may_go() {
        let dir = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::real();
        let set = look(&surroundings.context());
        assert!(set.check(key(dir.path().to_str().unwrap()), &[key("/tmp"), key("/")]).is_ok());
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_fixture_with_merged_usr_a_moved_store_and_a_home() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in [
            "usr/bin",
            "etc/docker",
            "srv/images/overlay2",
            "home/al/.ssh",
            "home/al/work",
            "data/keep",
            "run/unwedge",
            "var/log/unwedge",
        ] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", at("bin")).unwrap();
        std::fs::write(at("etc/docker/daemon.json"), br#"{"data-root": "/srv/images"}"#).unwrap();
        std::fs::write(at("etc/passwd"), b"al:x:1000:1000::/home/al:/bin/sh\n").unwrap();
        let mut surroundings = Surroundings::fixture(root.path());
        surroundings.settings.protect.paths = vec!["/data/keep".to_owned()];
        let set = look(&surroundings.context());
        let key =
            |path: &str, follow: bool| file_id::of_path(&c_path(&at(path)).unwrap(), follow).unwrap().key;
        for path in [
            "usr/bin",
            "bin",
            "srv/images",
            "home/al",
            "home/al/.ssh",
            "data/keep",
            "etc",
            "run/unwedge",
            "var/log/unwedge",
        ] {
            assert!(set.check(key(path, true), &[]).is_err(), "{path}");
        }
        assert!(set.check(key("bin", false), &[]).is_err(), "the link itself");
        assert!(set.check(key("srv/images/overlay2", true), &[key("srv/images", true)]).is_err());
        assert!(set.check(key("data", true), &[]).unwrap_err().contains("contains"));
        assert!(set.check(key("home/al/work", true), &[key("home/al", true), key("home", true)]).is_ok());
    }
}
