//! Finds a program that only root, or we ourselves, could have put there (SAFETY.md T39).
//!
//! A path is walked component by component through descriptors, links included. Every directory on the way, those that
//! links lead through too, and the program itself must belong to root or to us, and nobody else may write to it: not the
//! group either, be it root's own (a container of any user id is often in group 0), and a sticky bit is no help, for it
//! lets others add names. From the top on, then, nobody else can change what the next name means.
//!
//! What was checked is what stays open: the program is run through its descriptor. A script is not, because it would
//! learn a wrong name of its own (`$0`), beside which many look for the rest of themselves. Its interpreter, which opens
//! it by name, is checked in the same way.

use std::ffi::{CString, OsStr};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::{self, Errno, retry_on_intr};

use crate::domain::text::{HostPath, HostText};

/// Links that are followed at most (as `path_resolution(7)` says).
const MOST_LINKS: usize = 40;
/// Interpreters of interpreters that are followed at most (as execve(2) does).
const MOST_INTERPRETERS: usize = 4;
/// What the kernel reads of a script's first line (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const FIRST_LINE: u64 = 256;

/// A program that was found and checked.
#[derive(Debug)]
pub(super) struct Program {
    /// By which name.
    pub(super) path: PathBuf,
    file: OwnedFd,
    script: bool,
}

impl Program {
    /// What to give execve(2): the checked file itself, or a script by its name. It holds as long as this is not dropped.
    pub(super) fn executable(&self) -> PathBuf {
        if self.script { self.path.clone() } else { link_to(&self.file) }
    }
}

fn link_to(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Where programs are looked for, and whom it is left to what is there.
#[derive(Debug)]
pub(super) struct Trust {
    top: OwnedFd,
    owners: Vec<u32>,
}

/// Why a program is not run, or a path cannot be walked.
#[derive(Debug)]
enum Trouble {
    /// There is nothing.
    Missing,
    /// Others can change it: a sentence.
    Others(String),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            errno => Self::Others(format!("it could not be looked at: {}", std::io::Error::from(errno))),
        }
    }
}

/// A directory on the way, or what is at its end.
struct Step {
    name: Vec<u8>,
    fd: OwnedFd,
}

impl Trust {
    /// Root's programs, and where we are not root our own, too.
    pub(super) fn of_this_machine() -> io::Result<Self> {
        let top = rustix::fs::open(c"/", LOOK, Mode::empty())?;
        Ok(Self { top, owners: vec![0, rustix::process::geteuid().as_raw()] })
    }

    /// The first of the directories that nobody else can change, and that has the program.
    ///
    /// # Errors
    /// A sentence where it is in none of these, but in another one.
    pub(super) fn find(&self, directories: &[&Path], program: &str) -> Result<Option<Program>, String> {
        let mut refused = None;
        for path in directories.iter().map(|directory| directory.join(program)) {
            match self.program(directories, &path, MOST_INTERPRETERS) {
                Ok(found) => return Ok(Some(found)),
                Err(Trouble::Missing) => {}
                Err(Trouble::Others(why)) => {
                    let sentence = || format!("{} is not run: {why}", HostPath::from(path.as_path()));
                    refused = Some(refused.unwrap_or_else(sentence));
                }
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Whether programs may be looked for in a directory.
    pub(super) fn allows(&self, directory: &Path) -> bool {
        !matches!(self.walk(directory), Err(Trouble::Others(_)))
    }

    fn program(&self, directories: &[&Path], path: &Path, interpreters: usize) -> Result<Program, Trouble> {
        let file = self.walk(path)?;
        let stat = fstat(&file)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_mode & 0o111 == 0 {
            return Err(Trouble::Missing);
        }
        let line = first_line(&file);
        let script = line.is_some();
        if let Some(line) = line {
            let Some(interpreters) = interpreters.checked_sub(1) else { return Err(Errno::LOOP.into()) };
            self.interpreter(directories, &line, interpreters).map_err(|trouble| match trouble {
                Trouble::Others(why) => Trouble::Others(format!("what interprets it: {why}")),
                Trouble::Missing => Trouble::Others(format!(
                    "it is a script for {}, which is not there",
                    HostText::new(line.trim_ascii())
                )),
            })?;
        }
        Ok(Program { path: path.to_owned(), file, script })
    }

    /// What runs a script, by its first line without `#!`.
    fn interpreter(&self, directories: &[&Path], line: &[u8], interpreters: usize) -> Result<(), Trouble> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(first) = words.next() else { return Err(Trouble::Missing) };
        let first = Path::new(OsStr::from_bytes(first));
        if !first.is_absolute() {
            return Err(Trouble::Others(format!("{} is looked for in any directory", HostPath::from(first))));
        }
        self.program(directories, first, interpreters)?;
        if first.file_name() != Some(OsStr::new("env")) {
            return Ok(());
        }
        // env(1) takes the first of that name on the `PATH` that it is given, which has the allowed directories only.
        let Some(name) = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')) else {
            return Ok(());
        };
        let name = Path::new(OsStr::from_bytes(name));
        for path in directories.iter().filter(|directory| self.allows(directory)).map(|dir| dir.join(name)) {
            match self.program(directories, &path, interpreters) {
                Ok(_) => return Ok(()),
                Err(Trouble::Missing) => {}
                Err(others) => return Err(others),
            }
        }
        Err(Trouble::Missing)
    }

    /// Opens what a path leads to, links followed, with everything on the way checked.
    fn walk(&self, path: &Path) -> Result<OwnedFd, Trouble> {
        let mut way = Vec::new();
        let mut left: Vec<Vec<u8>> = parts(path.as_os_str().as_bytes());
        let mut links = 0;
        let top = || retry_on_intr(|| openat(&self.top, c".", LOOK, Mode::empty()));
        let mut here = top()?;
        self.check(&way, &fstat(&here)?)?;
        while let Some(name) = left.pop() {
            if name == b".." {
                here = way.pop().map_or(here, |step: Step| step.fd);
                continue;
            }
            let c_name = CString::new(name.as_slice()).map_err(|_| Trouble::Missing)?;
            let found = retry_on_intr(|| openat(&here, &c_name, LOOK, Mode::empty()))?;
            let stat = fstat(&found)?;
            if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = retry_on_intr(|| readlinkat(&found, c"", Vec::new()))?;
                if target.to_bytes().starts_with(b"/") {
                    way.clear();
                    here = top()?;
                }
                left.extend(parts(target.to_bytes()));
                continue;
            }
            way.push(Step { name, fd: here });
            self.check(&way, &stat)?;
            here = found;
        }
        Ok(here)
    }

    fn check(&self, way: &[Step], stat: &Stat) -> Result<(), Trouble> {
        let whose = if self.owners.contains(&stat.st_uid) { None } else { Some(stat.st_uid) };
        let why = match (whose, stat.st_mode & 0o022) {
            (Some(uid), _) => format!("belongs to user {uid}; chown root, or remove it"),
            (None, 0) => return Ok(()),
            (None, 0o020) => format!("can be changed by everybody in group {}; chmod g-w helps", stat.st_gid),
            (None, _) => "can be changed by everybody; chmod go-w helps".to_owned(),
        };
        let names = way.iter().flat_map(|step| [&b"/"[..], &step.name]);
        let path = if way.is_empty() { b"/".to_vec() } else { names.collect::<Vec<_>>().concat() };
        Err(Trouble::Others(format!("{} {why}", HostPath::from(Path::new(OsStr::from_bytes(&path))))))
    }
}

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The components of a path, the first one last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// The first line of a script, without `#!`. A program that cannot be read is none: its interpreter could not either.
fn first_line(file: &OwnedFd) -> Option<Vec<u8>> {
    let opened = openat(CWD, link_to(file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut start = Vec::new();
    std::fs::File::from(opened).take(FIRST_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    Some(line.to_vec())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures in a temporary directory")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// A root directory of a test's own.
    struct Root {
        dir: tempfile::TempDir,
        trust: Trust,
    }

    impl Root {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let top = fs::File::open(dir.path()).unwrap().into();
            let trust = Trust { top, owners: vec![rustix::process::geteuid().as_raw()] };
            let root = Self { dir, trust };
            for place in ["usr/bin", "usr/local/bin", "home/al/bin", "etc"] {
                fs::create_dir_all(root.at(place)).unwrap();
                root.mode(place, 0o755);
            }
            root.mode("home/al", 0o777);
            root.program("usr/bin/tool");
            root.program("home/al/bin/tool");
            root
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn mode(&self, path: &str, mode: u32) {
            fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn program(&self, path: &str) {
            fs::write(self.at(path), "\x7fELF").unwrap();
            self.mode(path, 0o755);
        }

        fn script(&self, path: &str, first: &str) {
            fs::write(self.at(path), format!("{first}\necho\n")).unwrap();
            self.mode(path, 0o755);
        }

        fn find(&self, program: &str) -> Result<Option<PathBuf>, String> {
            let directories = ["/usr/local/bin", "/usr/bin"].map(Path::new);
            self.trust.find(&directories, program).map(|found| found.map(|found| found.path))
        }

        #[track_caller]
        fn is_refused(&self, program: &str, because: &str) {
            let why = self.find(program).unwrap_err();
            assert!(why.contains(because), "{why}");
        }
    }

    #[test]
    fn a_program_that_others_can_replace_is_not_run() {
        let root = Root::new();
        let found = Ok(Some(PathBuf::from("/usr/bin/tool")));
        assert_eq!(root.find("tool"), found);
        assert_eq!(root.find("absent"), Ok(None));
        for place in ["", "usr", "usr/bin", "usr/bin/tool"] {
            for (mode, because) in
                [(0o777, "everybody;"), (0o1777, "everybody;"), (0o775, "everybody in group")]
            {
                root.mode(place, mode);
                root.is_refused("tool", &format!("/{place} can be changed by {because}"));
                root.mode(place, 0o755);
            }
        }
        root.mode("usr/bin/tool", 0o644);
        assert_eq!(root.find("tool"), Ok(None), "not executable");
        root.mode("usr/bin/tool", 0o755);
        let us = rustix::process::geteuid().as_raw();
        let other = Trust { top: root.trust.top.try_clone().unwrap(), owners: vec![us + 1] };
        let why = other.find(&[Path::new("/usr/bin")], "tool").unwrap_err();
        assert!(why.contains(&format!("/ belongs to user {us}")), "{why}");
    }

    #[test]
    fn links_are_followed_and_every_directory_on_their_way_counts() {
        let root = Root::new();
        let link = |target: &str| {
            let _ = fs::remove_file(root.at("usr/local/bin/linked"));
            symlink(target, root.at("usr/local/bin/linked")).unwrap();
        };
        let found = Ok(Some(PathBuf::from("/usr/local/bin/linked")));
        symlink("../usr/bin/tool", root.at("etc/alternative")).unwrap();
        for good in ["/usr/bin/tool", "../../bin/tool", "/etc/alternative", "../../../../../usr/./bin/tool"] {
            link(good);
            assert_eq!(root.find("linked"), found, "{good}");
        }
        // Into the tree of a user, and through it back to what is root's.
        symlink("/usr/bin/tool", root.at("home/al/bin/back")).unwrap();
        for bad in [
            "/home/al/bin/tool",
            "../../../home/al/bin/tool",
            "/home/al/bin/back",
            "/home/al/../../usr/bin/tool",
        ] {
            link(bad);
            root.is_refused("linked", "/home/al can be changed by everybody");
        }
        link("linked");
        root.is_refused("linked", "Too many levels");
        link("/nowhere");
        assert_eq!(root.find("linked"), Ok(None));
        // The directory itself leads there: the next one has the program.
        fs::remove_dir_all(root.at("usr/local/bin")).unwrap();
        symlink("/home/al/bin", root.at("usr/local/bin")).unwrap();
        assert_eq!(root.find("tool"), Ok(Some("/usr/bin/tool".into())));
        root.program("home/al/bin/only-there");
        root.is_refused("only-there", "/home/al can be changed by everybody");
        assert!(!root.trust.allows(Path::new("/usr/local/bin")) && root.trust.allows(Path::new("/usr/bin")));
    }

    #[test]
    fn what_interprets_a_script_is_checked_too() {
        let root = Root::new();
        root.program("usr/bin/env");
        for first in
            ["#!/usr/bin/tool", "#! /usr/bin/tool -x", "#!/usr/bin/env tool", "#!/usr/bin/env -S A=b tool -x"]
        {
            root.script("usr/bin/script", first);
            assert_eq!(root.find("script"), Ok(Some("/usr/bin/script".into())), "{first}");
        }
        symlink("/home/al/bin/tool", root.at("usr/local/bin/py")).unwrap();
        root.script("usr/bin/again", "#!/home/al/bin/tool");
        for (first, because) in [
            ("#!/home/al/bin/tool", "/home/al can be changed"),
            ("#!/usr/bin/env py", "/home/al can be changed"),
            ("#!/usr/bin/again", "/home/al can be changed"),
            ("#!tool", "looked for in any directory"),
            ("#!/usr/bin/absent", "a script for /usr/bin/absent, which is not there"),
            ("#!/usr/bin/script", "Too many levels"),
        ] {
            root.script("usr/bin/script", first);
            root.is_refused("script", because);
        }
    }

    #[test]
    fn what_was_checked_is_what_runs_whatever_has_its_name_by_then() {
        let root = Root::new();
        let path = root.at("usr/bin/tool");
        let put = |program: &str| {
            let new = root.at("usr/bin/new");
            fs::copy(program, &new).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        let run = |program: &Path| {
            loop {
                match Command::new(program).arg0("tool").arg("checked").output() {
                    Ok(output) => return String::from_utf8(output.stdout).unwrap(),
                    // A child of another test has inherited the descriptor that it was copied through.
                    Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        put("/bin/echo");
        let program = root.trust.find(&[Path::new("/usr/bin")], "tool").unwrap().unwrap();
        put("/bin/pwd");
        // By its name the other one runs.
        assert_ne!(run(&path), "checked\n");
        assert_eq!(run(&program.executable()), "checked\n");
    }
}
