//! The memory that a reading may keep. A hostile image cannot make it grow: everything that is kept in proportion to
//! what the image claims is paid for first.

use std::sync::atomic::{AtomicU64, Ordering};

use super::why::Why;
use crate::domain::size::Bytes;

/// Memory still to be spent.
pub(super) struct Budget {
    allowed: u64,
    spent: AtomicU64,
}

impl Budget {
    pub fn new(allowed: Bytes) -> Self {
        Self { allowed: allowed.0, spent: AtomicU64::new(0) }
    }

    /// Pays for `count` things of `size` bytes.
    ///
    /// # Errors
    /// [`Why::Memory`] where that is more than allowed.
    pub fn spend(&self, count: usize, size: usize) -> Result<(), Why> {
        let cost = u64::try_from(count.saturating_mul(size)).unwrap_or(u64::MAX);
        let before = self.spent.fetch_add(cost, Ordering::Relaxed);
        let need = before.saturating_add(cost);
        if need > self.allowed {
            return Err(Why::Memory { need: Bytes(need), allowed: Bytes(self.allowed) });
        }
        Ok(())
    }
}
