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

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::size::Bytes;

/// A moment as clocks here show it, with the offset from UTC.
fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A change of size, with its sign.
fn signed(change: i64) -> String {
    let sign = match change {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", Bytes(change.unsigned_abs()))
}
