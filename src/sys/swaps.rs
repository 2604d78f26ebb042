//! Files that the kernel swaps to: `/proc/swaps` (`proc_swaps(5)`).

use crate::domain::ledger::SwapFile;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;

use super::mountinfo::unescape;

/// Parses `/proc/swaps`: the swap files in it, not the partitions. Names are escaped as in mountinfo (`swap_show` in
/// mm/swapfile.c); a file that was deleted has a mark behind its name that no path has.
pub fn files(bytes: &[u8]) -> Vec<SwapFile> {
    bytes.split(|&byte| byte == b'\n').skip(1).filter_map(file).collect()
}

fn file(line: &[u8]) -> Option<SwapFile> {
    let mut fields = line.split(|&byte| byte == b' ' || byte == b'\t').filter(|field| !field.is_empty());
    let path = unescape(fields.next()?).into_owned();
    if fields.next()? != b"file" {
        return None;
    }
    let kib: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some(SwapFile { path: HostPath::from_bytes(path), size: Bytes(kib.saturating_mul(1024)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_partitions() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/sda2                               partition\t2097148\t\t0\t\t-2\n\
            /swap\\040file                           file\t\t1048572\t\t12\t\t-3\n\
            nonsense\n";
        let found = files(text);
        assert_eq!(found, [SwapFile { path: "/swap file".into(), size: Bytes(1_048_572 * 1024) }]);
        assert_eq!(files(b""), []);
    }
}
