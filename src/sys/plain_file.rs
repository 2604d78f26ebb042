//! Reads files that other people can put in place of ours: settings, state, what builds keep. Only a regular file is read: a
//! fifo would be waited for, and a device never ends (SAFETY.md T37).

use std::fs::File;
use std::io::{Error, Read as _, Result};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

/// Opens a regular file for reading, links followed.
///
/// # Errors
/// What open(2) says, and that it is no regular file.
pub fn open(path: &Path) -> Result<File> {
    // A fifo is not waited for, and a terminal does not become ours.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(Error::other("it is not a regular file")) }
}

/// The first bytes of a regular file.
///
/// # Errors
/// As [`open`], and what read(2) says.
pub fn start(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A regular file as a whole.
///
/// # Errors
/// As [`start`], and that it has more bytes than `most`.
pub fn whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    let bytes = start(path, most.saturating_add(1))?;
    if bytes.len() as u64 > most {
        return Err(Error::other(format!("it is larger than {}", crate::domain::size::Bytes(most))));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures in a temporary directory")]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_not_more_of_it_than_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), b"12345").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(whole(&at("link"), 5).unwrap(), b"12345");
        assert_eq!(start(&at("file"), 2).unwrap(), b"12");
        assert!(whole(&at("file"), 4).unwrap_err().to_string().contains("larger"));
        for name in ["fifo", "endless", "."] {
            assert!(whole(&at(name), 100).unwrap_err().to_string().contains("regular"), "{name}");
        }
    }
}
