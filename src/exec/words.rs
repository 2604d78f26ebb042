//! Sentences for what the kernel says: what, where, why, what next.

use rustix::io::Errno;

/// What to do about an error of the kernel, as the end of a sentence; the bare reason where nothing is known.
pub fn explain(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let next = match errno {
        Errno::ACCESS => "run unwedge as root, or as the owner",
        Errno::PERM => {
            "run unwedge as root; if you are root it may be immutable (lsattr shows it, chattr -i takes it off)"
        }
        Errno::ROFS => "the file system is read-only; look into the kernel log for why",
        Errno::BUSY => "something is mounted on it or it is in use in this namespace",
        Errno::NOTEMPTY | Errno::EXIST => "new entries came in meanwhile; try again",
        Errno::NOSPC | Errno::DQUOT => "even this change needs a free block here; free something else first",
        Errno::STALE => "the server lost the file; mount it again",
        Errno::IO => "the device or server failed; look into the kernel log",
        Errno::MFILE | Errno::NFILE => "too many files are open; raise ulimit -n",
        _ => return text.to_owned(),
    };
    format!("{text}; {next}")
}

/// "could not {what}: {why}".
pub fn could_not(what: &str, errno: Errno) -> String {
    format!("could not {what}: {}", explain(errno))
}
