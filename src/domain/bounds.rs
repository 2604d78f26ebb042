//! How much a run may do that no person agreed to item by item (SAFETY.md T27).

/// Entries that one run takes at most.
pub const MOST_ENTRIES: u64 = 100_000;
/// The share of a file system that one run takes at most, in percent.
pub const MOST_PERCENT: u64 = 20;
/// How long one run takes at most, in seconds.
pub const MOST_SECS: u64 = 600;

/// What is left for a run on one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    entries: u64,
}

impl Budget {
    /// For a file system of this size in bytes; nothing if its size is not known.
    pub fn of(total: u64) -> Self {
        Self { bytes: total / 100 * MOST_PERCENT, entries: MOST_ENTRIES }
    }

    /// The same, where so much was asked for by a person: it is no runaway to reach that.
    #[must_use]
    pub fn or_at_least(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.max(bytes), ..self }
    }

    /// Takes something out of it.
    ///
    /// # Errors
    /// A sentence if it is more than what is left; nothing is taken then.
    pub fn take(&mut self, bytes: u64, entries: u64) -> Result<(), String> {
        if entries > self.entries {
            return Err(format!(
                "stopped: one run removes {MOST_ENTRIES} entries at most; run it again for the rest"
            ));
        }
        if bytes > self.bytes {
            return Err(format!(
                "stopped: one run removes {MOST_PERCENT} % of a file system at most; run it again for the rest"
            ));
        }
        self.bytes -= bytes;
        self.entries -= entries;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_never_takes_more_than_its_share(
            total in 0_u64..1 << 44,
            wanted in 0_u64..1 << 44,
            sizes in prop::collection::vec((0_u64..1 << 42, 1_u64..60_000), 1..200),
        ) {
            let mut budget = Budget::of(total).or_at_least(wanted);
            let (mut bytes, mut entries) = (0_u64, 0_u64);
            for (size, count) in sizes {
                let before = budget;
                if budget.take(size, count).is_ok() {
                    bytes += size;
                    entries += count;
                } else {
                    prop_assert_eq!(before, budget);
                }
            }
            prop_assert!(bytes <= (total / 5).max(wanted) && entries <= 100_000);
        }
    }
}
