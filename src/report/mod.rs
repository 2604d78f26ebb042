//! Faces without a terminal: text and JSON.

mod builds;
mod caches;
pub mod change;
pub mod diff;
mod engines;
pub mod explain;
mod growth;
pub mod health;
pub mod history;
pub mod json;
pub mod ledger;
pub mod plan;
pub mod reclaim;
pub mod scan;
pub mod sweep;
pub mod table;
pub mod text;
pub mod undo;

use crate::domain::size::Bytes;

/// A change of size, with its sign.
fn signed(change: i64) -> String {
    let sign = match change {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", Bytes(change.unsigned_abs()))
}
