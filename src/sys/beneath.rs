//! Opens the directory above a path without following anything that could have been swapped on the way
//! (SAFETY.md T1).
//!
//! A path is resolved once, from an opened `/`, with `openat2(BENEATH | NO_SYMLINKS | NO_MAGICLINKS)`;
//! where the kernel has no openat2 (before 5.6, or a seccomp filter says no), component by component with
//! `O_PATH | O_NOFOLLOW`. What comes out is a directory descriptor and one final component, and everything
//! after that is `*at(descriptor, component)`.
//!
//! `NO_XDEV` cannot hold for the way down from `/` (the target may be on another mount); callers compare the
//! mount of what they find with the one that was planned. Below a target it does hold: [`open_child_dir`].

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{self, Errno};

use super::{boundary, file_id};
use crate::domain::identity::DevIno;
use crate::domain::text::HostPath;

/// Longest piece of a path given to the kernel at once; `PATH_MAX` (linux/limits.h) is 4096 with the NUL.
const PIECE: usize = 4000;

/// A directory that is open, and the name of an entry in it (which may or may not exist).
#[derive(Debug)]
pub struct Located {
    /// The directory above, opened with `O_PATH`.
    pub parent: OwnedFd,
    /// The last component: never empty, `.` or `..`, never with a slash.
    pub name: CString,
}

/// Why a path was not opened.
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// It is not a normal absolute path.
    #[error("{path} is not a normal absolute path: {why}")]
    NotNormal {
        /// The path.
        path: HostPath,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The kernel said no on the way.
    #[error("{path} could not be reached: {}", reason(*.source))]
    Io {
        /// The path.
        path: HostPath,
        /// What the kernel said.
        source: Errno,
    },
}

impl BeneathError {
    /// What the kernel said, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::NotNormal { .. } => None,
            Self::Io { source, .. } => Some(*source),
        }
    }
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::LOOP => "a directory on the way is a symbolic link now".to_owned(),
        Errno::NOTDIR => "a directory on the way is no directory any more".to_owned(),
        Errno::NOENT => "it is not there any more".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}

/// The components of a normal absolute path: no empty, `.` or `..` component, no trailing slash, not `/` itself.
fn components(path: &Path) -> Result<Vec<&[u8]>, BeneathError> {
    let not_normal = |why| BeneathError::NotNormal { path: HostPath::from(path), why };
    let bytes = path.as_os_str().as_bytes();
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return Err(not_normal("it does not start at /"));
    };
    if rest.is_empty() {
        return Err(not_normal("it is the root directory"));
    }
    let parts: Vec<&[u8]> = rest.split(|&byte| byte == b'/').collect();
    for part in &parts {
        match *part {
            b"" => return Err(not_normal("it has an empty component or a slash at the end")),
            b"." | b".." => return Err(not_normal("it has a . or .. component")),
            other if other.contains(&0) => return Err(not_normal("it has a NUL byte")),
            _ => {}
        }
    }
    Ok(parts)
}

/// Opens the directory above `path`, an absolute path without `.`, `..`, empty components or symbolic links.
/// A path longer than `PATH_MAX` is opened in pieces.
///
/// # Errors
/// Where the path is not normal, a component is missing, not a directory or a symbolic link.
pub fn open_parent(path: &Path) -> Result<Located, BeneathError> {
    open_parent_with(path, open_piece)
}

type OpenPiece = fn(&OwnedFd, &[&[u8]]) -> io::Result<OwnedFd>;

fn open_parent_with(path: &Path, open: OpenPiece) -> Result<Located, BeneathError> {
    let parts = components(path)?;
    let failed = |source| BeneathError::Io { path: HostPath::from(path), source };
    let mut dir = anchor().map_err(failed)?;
    let Some((last, above)) = parts.split_last() else {
        return Err(failed(Errno::INVAL));
    };
    let mut piece: Vec<&[u8]> = Vec::new();
    let mut length = 0;
    for part in above {
        if length + part.len() + 1 > PIECE && !piece.is_empty() {
            dir = open(&dir, &piece).map_err(failed)?;
            piece.clear();
            length = 0;
        }
        length += part.len() + 1;
        piece.push(part);
    }
    if !piece.is_empty() {
        dir = open(&dir, &piece).map_err(failed)?;
    }
    let name = CString::new(*last).map_err(|_| failed(Errno::INVAL))?;
    Ok(Located { parent: dir, name })
}

/// An opened `/`, from which everything is resolved.
fn anchor() -> io::Result<OwnedFd> {
    rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

const PATH_DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What to ask openat2 for on the way down; EAGAIN (a rename raced with the walk) is tried again.
fn openat2_retrying(dir: impl AsFd, path: &[u8], flags: OFlags, how: ResolveFlags) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match openat2(dir.as_fd(), path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) if tries < 1000 => tries += 1,
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn no_openat2(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM)
}

fn open_piece(dir: &OwnedFd, piece: &[&[u8]]) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2_retrying(dir, &piece.join(&b'/'), PATH_DIR, how) {
        Err(errno) if no_openat2(errno) => walk_piece(dir, piece),
        other => other,
    }
}

/// The same without openat2: one component at a time, none of them a symbolic link. `O_PATH | O_NOFOLLOW |
/// O_DIRECTORY` fails with ENOTDIR on a symbolic link (open(2)), which is told apart here.
fn walk_piece(dir: &OwnedFd, piece: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut here: Option<OwnedFd> = None;
    for part in piece {
        let from = here.as_ref().unwrap_or(dir);
        here = Some(rustix::io::retry_on_intr(|| openat(from, *part, PATH_DIR, Mode::empty()))?);
    }
    here.ok_or(Errno::INVAL)
}

const READ_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a subdirectory for reading; never a symbolic link, never out of the tree ([`super::boundary`]): not across a
/// mount, not even one of the same file system (SAFETY.md T6), and not into a snapshot of btrfs.
///
/// # Errors
/// `EXDEV` if something is mounted on it or it is a snapshot, `ELOOP` or `ENOTDIR` where it is no directory, and what openat2(2)
/// says.
pub fn open_child_dir(dir: impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    child_dir(dir, name, READ_DIR)
}

/// The same with `O_PATH`: for a directory whose mode keeps us out.
///
/// # Errors
/// As [`open_child_dir`]; `EXDEV` for every subvolume of btrfs, too, which takes a readable directory to be told.
pub fn find_child_dir(dir: impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    child_dir(dir, name, PATH_DIR)
}

fn child_dir(dir: impl AsFd, name: &std::ffi::CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let child = match openat2_retrying(dir.as_fd(), name.to_bytes(), flags, how) {
        Err(errno) if no_openat2(errno) => walk_child_dir(&dir, name, flags),
        other => other,
    }?;
    let same_device = rustix::fs::fstat(&dir)?.st_dev == rustix::fs::fstat(&child)?.st_dev;
    if same_device || boundary::is_inside(&child) { Ok(child) } else { Err(Errno::XDEV) }
}

fn walk_child_dir(dir: impl AsFd, name: &std::ffi::CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let child = rustix::io::retry_on_intr(|| openat(dir.as_fd(), name, flags, Mode::empty()))?;
    let (above, below) = (file_id::of_fd(dir.as_fd())?, file_id::of_fd(&child)?);
    if above.mount.same_mount(below.mount) { Ok(child) } else { Err(Errno::XDEV) }
}

/// The identities of an open directory and of all directories above it, nearest first, up to the root.
///
/// # Errors
/// What openat(2) or statx(2) says.
pub fn with_ancestors(dir: impl AsFd) -> io::Result<Vec<DevIno>> {
    let mut here = file_id::of_fd(dir.as_fd())?;
    let mut keys = vec![here.key];
    let mut fd = up(dir.as_fd())?;
    loop {
        let above = file_id::of_fd(&fd)?;
        if above.key == here.key && above.mount.same_mount(here.mount) {
            return Ok(keys);
        }
        keys.push(above.key);
        here = above;
        fd = up(&fd)?;
    }
}

/// The directory that an open directory is in; itself for the root.
///
/// # Errors
/// What openat(2) says.
pub fn up(dir: impl AsFd) -> io::Result<OwnedFd> {
    rustix::io::retry_on_intr(|| openat(dir.as_fd(), c"..", PATH_DIR, Mode::empty()))
}

/// Accounts and groups below this are the system's own, not people's (`SYS_UID_MAX` and `SYS_GID_MAX` of login.defs(5)
/// are 999 everywhere).
const PEOPLE: u32 = 1000;

/// Whether only the system's accounts, and we, can put another file in the place of one in this directory.
///
/// # Errors
/// Why not, as a sentence.
pub fn only_system_renames(dir: impl AsFd) -> Result<(), String> {
    let stat = rustix::fs::fstat(dir)
        .map_err(|errno| format!("the directory above it cannot be looked at: {errno}"))?;
    let system = |id: u32, ours: u32| id < PEOPLE || id == ours;
    let group_writes = stat.st_mode & 0o020 != 0;
    let trusted = system(stat.st_uid, rustix::process::geteuid().as_raw())
        && stat.st_mode & 0o002 == 0
        && (!group_writes || system(stat.st_gid, rustix::process::getegid().as_raw()));
    if trusted {
        return Ok(());
    }
    Err("other people can write to its directory and could put another file in its place; skipped".to_owned())
}

/// Whether nobody but us and root can change the entries of this directory.
pub fn is_exclusive(dir: impl AsFd) -> bool {
    // The group bits are the mask of an access control list where there is one (acl(5)), so they cover those.
    rustix::fs::fstat(dir).is_ok_and(|stat| {
        (stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw()) && stat.st_mode & 0o022 == 0
    })
}

/// Whether a file of this owner can be put back into a directory that it came from. Its owner may change the entries there, and
/// a group that the directory is shared with: they could do so before it was moved, too.
///
/// # Errors
/// Why not, as a sentence.
pub fn takes_back(dir: impl AsFd, owner: u32) -> Result<(), String> {
    let stat = rustix::fs::fstat(dir)
        .map_err(|errno| format!("the directory that it is from cannot be looked at: {errno}"))?;
    if ![0, rustix::process::geteuid().as_raw(), owner].contains(&stat.st_uid) {
        return Err("the directory that it is from belongs to somebody else than the file".to_owned());
    }
    // In a sticky directory nobody renames what is another user's (unlink(2)).
    if stat.st_mode & 0o002 != 0 && stat.st_mode & 0o1000 == 0 {
        return Err("everybody can write to the directory that it is from and could swap the copy".to_owned());
    }
    Ok(())
}

/// The bits of a mode that mean something for a file of this group in an open directory: those for others only if every
/// directory above lets others through, those for its group only if every one lets that through.
///
/// # Errors
/// What openat(2) or fstat(2) says.
pub fn reachable_bits(dir: impl AsFd, group: u32) -> io::Result<u32> {
    let mut bits = 0o7777;
    let mut here = openat(dir.as_fd(), c".", PATH_DIR, Mode::empty())?;
    loop {
        let stat = rustix::fs::fstat(&here)?;
        if stat.st_mode & 0o001 == 0 {
            bits &= !0o007;
        }
        let through = if stat.st_gid == group { 0o010 } else { 0o001 };
        if stat.st_mode & through == 0 {
            bits &= !0o070;
        }
        let above = up(&here)?;
        let next = rustix::fs::fstat(&above)?;
        if (next.st_dev, next.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(bits);
        }
        here = above;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures in a temporary directory")]
mod tests {
    use super::*;

    const BOTH: [OpenPiece; 2] = [open_piece, walk_piece];

    #[test]
    fn paths_that_are_not_normal_are_refused() {
        for bad in ["/", "", "a", "//a", "/a/", "/a//b", "/./a", "/a/..", "/..", "/a/./b", "/a\0b"] {
            assert!(
                matches!(open_parent(Path::new(bad)), Err(BeneathError::NotNormal { .. })),
                "{bad:?} was accepted"
            );
        }
    }

    #[test]
    fn the_parent_is_found_and_a_symlink_on_the_way_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/sub")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        for open in BOTH {
            let found = open_parent_with(&root.join("real/sub/x"), open).unwrap();
            assert_eq!(found.name.as_bytes(), b"x");
            let wanted = file_id::of_fd(std::fs::File::open(root.join("real/sub")).unwrap()).unwrap();
            assert_eq!(file_id::of_fd(&found.parent).unwrap().key, wanted.key);
            for bad in ["link/x", "link/sub/x", "absent/x"] {
                assert!(open_parent_with(&root.join(bad), open).is_err(), "{bad} was opened");
            }
        }
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened_in_pieces() {
        let temp = tempfile::tempdir().unwrap();
        let mut path = temp.path().canonicalize().unwrap();
        let name = "d".repeat(250);
        let mut dir: OwnedFd = std::fs::File::open(&path).unwrap().into();
        for _ in 0..40 {
            rustix::fs::mkdirat(&dir, &*name, Mode::RWXU).unwrap();
            dir = openat(&dir, &*name, READ_DIR, Mode::empty()).unwrap();
            path.push(&name);
        }
        path.push("leaf");
        assert!(path.as_os_str().len() > 8192);
        for open in BOTH {
            let found = open_parent_with(&path, open).unwrap();
            assert_eq!(
                file_id::of_fd(&found.parent).unwrap().key,
                file_id::of_fd(&dir).unwrap().key,
                "another directory was opened"
            );
        }
        assert!(with_ancestors(&dir).unwrap().len() > 41);
    }

    #[test]
    fn a_mount_is_not_entered_with_or_without_openat2() {
        let root = anchor().unwrap();
        assert_eq!(open_child_dir(&root, c"proc").unwrap_err(), Errno::XDEV);
        assert_eq!(walk_child_dir(&root, c"proc", READ_DIR).unwrap_err(), Errno::XDEV);
    }
}
