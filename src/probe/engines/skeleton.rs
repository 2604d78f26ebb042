//! Whether a store holds anything.

use std::path::Path;
use std::time::Duration;

use super::store;
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;

/// Less than this is what an engine makes before anything is put into it: directories and empty databases. Docker 28
/// begins with some 400 KiB.
const SKELETON: Bytes = Bytes(2 << 20);

/// Whether it is not there, or as an engine leaves it that has nothing. One that cannot be looked into holds something.
pub(super) fn is_empty(dir: &Path, deadline: Duration) -> bool {
    if !dir.is_dir() {
        return true;
    }
    match store::size(dir, deadline) {
        Reading::Ready { value } => value < SKELETON,
        Reading::Pending
        | Reading::Partial { .. }
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::NotHere { .. }
        | Reading::Unavailable { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test makes its own files")]
    fn a_store_is_empty_without_anything_large() {
        let dir = tempfile::tempdir().unwrap();
        let time = Duration::from_mins(1);
        assert!(is_empty(&dir.path().join("none"), time));
        std::fs::create_dir(dir.path().join("overlay2")).unwrap();
        std::fs::write(dir.path().join("local-kv.db"), vec![1; 65536]).unwrap();
        assert!(is_empty(dir.path(), time));
        std::fs::write(dir.path().join("overlay2/layer"), vec![1; 3 << 20]).unwrap();
        assert!(!is_empty(dir.path(), time));
    }
}
