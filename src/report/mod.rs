//! Faces without a terminal: text and JSON.

mod builds;
mod caches;
pub mod explain;
pub mod health;
pub mod history;
pub mod json;
pub mod ledger;
pub mod scan;
pub mod table;
pub mod text;
