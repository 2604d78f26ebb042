//! Where the last lines of a file begin.

use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result, pread, retry_on_intr};

/// How much is read at once.
const PIECE: u64 = 64 << 10;
/// Lines that need more than this are not lines of a log.
const MOST: u64 = 256 << 20;
/// A hole ends at a block; what is left of the block before the first line is zeros. No file system has larger blocks.
const LARGEST_BLOCK: u64 = 1 << 20;

/// Where the last lines begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// At this offset.
    At(u64),
    /// It has no more lines.
    Short,
    /// It is no text, or its lines have no end.
    NotLines,
}

/// Finds where the last `lines` complete lines of the first `size` bytes begin (and a last one without its end yet).
/// A file whose head is a hole begins after the hole.
///
/// # Errors
/// What pread(2) says.
pub fn find(file: impl AsFd, size: u64, lines: u64) -> Result<Tail> {
    let file = file.as_fd();
    let begin = match rustix::fs::seek(file, SeekFrom::Data(0)) {
        Ok(offset) => offset,
        // Nothing but a hole.
        Err(Errno::NXIO) => return Ok(Tail::Short),
        // It cannot tell holes.
        Err(_) => 0,
    };
    let mut left = lines;
    let mut end = size;
    let mut piece = Vec::new();
    while end > begin {
        if size - end > MOST {
            return Ok(Tail::NotLines);
        }
        let start = end.saturating_sub(PIECE).max(begin);
        read(file, start, end, &mut piece)?;
        for (index, byte) in piece.iter().enumerate().rev() {
            let at = start + u64::try_from(index).unwrap_or(0);
            match byte {
                b'\n' if left == 0 => return Ok(Tail::At(at + 1)),
                b'\n' => left -= 1,
                // Zeros between the hole and the first line, or no text.
                0 => return zeros(file, begin, at).map(|all| if all { Tail::Short } else { Tail::NotLines }),
                _ => {}
            }
        }
        end = start;
    }
    Ok(Tail::Short)
}

/// Whether a file that a rotation left ends with what is in the log too. Of an old part the log has no more than the lines
/// that were kept.
///
/// # Errors
/// What pread(2) says.
pub fn is_in(left: impl AsFd, log: impl AsFd, keep_lines: u64) -> Result<bool> {
    const END: u64 = 4 << 10;
    const NEWEST: u64 = 64 << 20;
    let size = |file: &dyn AsFd| -> Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(file.as_fd())?.st_size).unwrap_or(0))
    };
    let (left_size, log_size) = (size(&left)?, size(&log)?);
    let kept = match find(&left, left_size, keep_lines)? {
        Tail::At(offset) => offset,
        Tail::Short | Tail::NotLines => 0,
    };
    let (mut end, mut newest) = (Vec::new(), Vec::new());
    read(&left, left_size.saturating_sub(END).max(kept), left_size, &mut end)?;
    if end.is_empty() {
        return Ok(true);
    }
    read(&log, log_size.saturating_sub(NEWEST), log_size, &mut newest)?;
    Ok(newest.windows(end.len()).any(|part| part == end))
}

fn read(file: impl AsFd, start: u64, end: u64, piece: &mut Vec<u8>) -> Result<()> {
    piece.resize(usize::try_from(end - start).unwrap_or(0), 0);
    let mut done = 0;
    while let Some(rest) = piece.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let offset = start + u64::try_from(done).unwrap_or(0);
        match retry_on_intr(|| pread(&file, &mut *rest, offset))? {
            // It was cut meanwhile.
            0 => break,
            count => done += count,
        }
    }
    piece.truncate(done);
    Ok(())
}

/// Whether there are only zeros from `begin` up to `at`, and few of them.
fn zeros(file: impl AsFd, begin: u64, at: u64) -> Result<bool> {
    if at - begin > LARGEST_BLOCK {
        return Ok(false);
    }
    let mut piece = Vec::new();
    read(file, begin, at, &mut piece)?;
    Ok(piece.iter().all(|&byte| byte == 0))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures in a temporary directory")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt as _;

    fn of(bytes: &[u8], lines: u64) -> Tail {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        find(&file, bytes.len() as u64, lines).unwrap()
    }

    #[test]
    fn what_is_short_binary_or_has_a_hole_is_told() {
        assert_eq!(of(b"a\nb\nc\n", 2), Tail::At(2));
        assert_eq!(of(b"a\nb\nc", 1), Tail::At(2), "b and what has no end yet");
        assert_eq!(of(b"a\nb\n", 2), Tail::Short);
        assert_eq!(of(b"", 2), Tail::Short);
        assert_eq!(of(b"x\0y\na\nb\n", 2), Tail::At(4), "what is dropped may be anything");
        assert_eq!(of(b"x\n\0\na\nb\n", 3), Tail::NotLines);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"a\nb\nc\n", (1 << 20) + 10).unwrap();
        let size = file.metadata().unwrap().len();
        assert_eq!(find(&file, size, 5).unwrap(), Tail::Short);
        assert_eq!(find(&file, size, 1).unwrap(), Tail::At(size - 2));
    }

    proptest! {
        #[test]
        fn the_same_as_by_lines(
            text in proptest::collection::vec("[a-z]{0,30}", 0..60),
            open in "[a-z]{0,10}",
            lines in 1_u64..70,
        ) {
            let mut bytes: Vec<u8> = text.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
            let drop = text.len().saturating_sub(usize::try_from(lines).unwrap());
            let head: usize = text.iter().take(drop).map(|line| line.len() + 1).sum();
            bytes.extend(open.as_bytes());
            let wanted = if drop == 0 { Tail::Short } else { Tail::At(head as u64) };
            prop_assert_eq!(of(&bytes, lines), wanted);
        }
    }
}
