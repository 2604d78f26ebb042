//! Limits that look like a full disk: what is used of them, and file systems that went read-only.

mod inotify;
mod kernel;
mod quota;
mod read_only;
mod tasks;
mod thin_pools;

use std::path::Path;

use super::Context;
use super::filesystems::own_mounts;
use crate::domain::limits::{Limit, Limits};
use crate::domain::reading::Reading;

/// Reads all limits, the fullest first.
pub fn look(context: &Context<'_>) -> Reading<Limits> {
    let (table, mut missing) = match own_mounts(context) {
        Ok(read) => read,
        Err(why) => return Reading::Unavailable { why },
    };
    let mut counts = kernel::look(context, &table);
    counts.extend(tasks::look(context));
    counts.extend(inotify::look(context, &mut missing));
    counts.extend(quota::look(context, &table, &mut missing));
    counts.extend(thin_pools::look(context, &mut missing));
    counts.sort_by(|a: &Limit, b: &Limit| b.share().0.total_cmp(&a.share().0));
    Reading::with_missing(Limits { counts, read_only: read_only::look(context, &table) }, missing)
}

/// A file that holds numbers, in the machine's tree.
fn numbers(context: &Context<'_>, path: &str) -> Option<Vec<u64>> {
    parse_numbers(&std::fs::read(context.environment.rooted(path)).ok()?)
}

/// A file that holds one number.
fn number(path: &Path) -> Option<u64> {
    parse_numbers(&std::fs::read(path).ok()?)?.first().copied()
}

fn parse_numbers(bytes: &[u8]) -> Option<Vec<u64>> {
    std::str::from_utf8(bytes).ok()?.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::LimitKind;
    use crate::probe::tests::Surroundings;

    #[test]
    fn this_machine_has_limits() {
        let surroundings = Surroundings::real();
        let reading = look(&surroundings.context());
        let limits = reading.value().unwrap();
        for kind in [LimitKind::Mounts, LimitKind::OpenFiles, LimitKind::Tasks] {
            let limit = limits.counts.iter().find(|limit| limit.kind == kind).unwrap();
            assert!(limit.used > 0 && limit.used <= limit.limit, "{limit:?}");
        }
        assert!(limits.counts.is_sorted_by(|a, b| a.share() >= b.share()));
    }

    #[test]
    fn numbers_are_numbers_or_nothing() {
        assert_eq!(parse_numbers(b"1 0\t99\n"), Some(vec![1, 0, 99]));
        assert_eq!(parse_numbers(b"max\n"), None);
        assert_eq!(parse_numbers(b"\xff"), None);
    }
}
