//! Appends one record to one file. The only writer of the journal.
#![expect(clippy::disallowed_methods, reason = "the one file that writes the journal")]

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::FILE_NAME;
use crate::domain::text::HostPath;

/// Appends a record (one line, with its newline) to the journal in `dir`, in one write(2).
///
/// # Errors
/// A sentence that says what could not be done where and why. A record that fitted only in part counts as not
/// written.
pub fn append(dir: &Path, line: &[u8]) -> Result<PathBuf, String> {
    let path = dir.join(FILE_NAME);
    let failed = |error: std::io::Error| {
        format!("the journal could not be written to {}: {error}", HostPath::from(path.as_path()))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(&path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.nlink() != 1 || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!(
            "the journal was not written to {}: it is not a plain file of ours with one name; look who made it",
            HostPath::from(path.as_path())
        ));
    }
    // A line torn by a full disk is closed first, so that it cannot spoil the next one.
    let torn = meta.len() > 0 && {
        let mut last = [0u8];
        file.read_exact_at(&mut last, meta.len() - 1).is_ok() && last != *b"\n"
    };
    let joined;
    let record = if torn {
        joined = [b"\n", line].concat();
        &joined
    } else {
        line
    };
    loop {
        // A plain write, not write_all: a record is one write or it is not written.
        match file.write(record) {
            Ok(count) if count == record.len() => return Ok(path),
            Ok(_) => return Err(failed(std::io::Error::from(ErrorKind::StorageFull))),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
