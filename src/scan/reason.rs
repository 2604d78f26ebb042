//! Why something cannot be read, in words for a tired person.

use std::io;

use rustix::io::Errno;

use super::tree::Trouble;

/// Why a scan cannot start at a path, and what to do.
pub(super) fn start(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "it does not exist: check the spelling, or scan the directory above it".into(),
        Some(Errno::NOTDIR) => "it is a file, not a directory: give its directory".into(),
        Some(Errno::ACCESS | Errno::PERM) => {
            "permission denied: run unwedge as root, or give a directory you may read".into()
        }
        Some(Errno::LOOP) => "its symbolic links go round in a circle: give the real directory".into(),
        Some(Errno::NAMETOOLONG) => "the path is too long: change into it, and scan \".\"".into(),
        Some(Errno::MFILE | Errno::NFILE) => {
            "too many files are open: raise the limit (ulimit -n), or end what holds them".into()
        }
        Some(Errno::XDEV) => "something else is mounted there now: scan that path by itself".into(),
        Some(Errno::STALE) => "the server does not know the directory any more: mount it again".into(),
        Some(Errno::IO) => "the disk or the server answers with an error: look at dmesg".into(),
        _ => format!("{error}"),
    }
}

/// Why a scanned directory cannot be read again when another one is in its place.
pub(super) fn replaced() -> String {
    "another directory is in its place now: start a new scan".into()
}

/// Why a directory cannot be read again that was taken out of the tree.
pub(super) fn forgotten() -> String {
    "it is no longer part of this scan: go to the directory above it and scan that again".into()
}

/// Why a path that is not a directory cannot be read again.
pub(super) fn not_a_directory() -> String {
    "it is not a directory: scan the directory it is in again".into()
}

/// Why a directory is not, or not completely, in the tree.
pub(super) fn trouble(trouble: Trouble) -> String {
    match trouble {
        Trouble::Kernel(Errno::ACCESS | Errno::PERM) => {
            "permission denied: run unwedge as root to see what it holds".into()
        }
        Trouble::Kernel(Errno::MFILE | Errno::NFILE) => {
            "too many files are open: raise the limit (ulimit -n) and scan it again".into()
        }
        Trouble::Kernel(Errno::IO) => {
            "the disk or the server answers with an error: look at dmesg for what is broken".into()
        }
        Trouble::Kernel(error) => {
            format!("{}: scan it again, or look at it with ls", io::Error::from(error))
        }
        Trouble::TreeFull => {
            "the scan has as many entries as it can keep: give it more memory (--max-memory, scan.max_memory), or scan \
             this directory by itself"
                .into()
        }
    }
}
