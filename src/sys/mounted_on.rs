//! Whether something is mounted on a mount, by the id that is never used again.

use rustix::io;

use super::raw;

/// Whether something is mounted on a mount of our namespace, at its root or below. It is not used by the question: neither
/// its count of users nor its mark of `MNT_EXPIRE` changes.
///
/// # Errors
/// `ENOENT` if that mount is not in our namespace any more, `ENOSYS` before Linux 6.8.
pub fn is_covered(unique: u64) -> io::Result<bool> {
    raw::mounted_below(unique).map(|first| first.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file_id;

    #[test]
    fn something_is_mounted_on_the_root_and_a_mount_that_never_was_is_not_there() {
        let root = std::fs::File::open("/").unwrap();
        let Some(unique) = file_id::of_fd(&root).unwrap().mount.unique else { return };
        assert_eq!(is_covered(unique), Ok(true), "/proc is mounted on it");
        // The last number of all means the root directory (`LSMT_ROOT`).
        assert_eq!(is_covered(u64::MAX - 1), Err(io::Errno::NOENT));
    }
}
