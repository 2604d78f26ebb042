//! Types and pure functions. Nothing here touches the machine.

pub mod baseline;
pub mod builds;
pub mod caches;
pub mod catalogue;
pub mod consent;
pub mod dockerfile;
pub mod dockerignore;
pub mod engines;
pub mod finding;
pub mod growth;
pub mod identity;
pub mod journal_dirs;
pub mod ledger;
pub mod limits;
pub mod logs;
pub mod op;
pub mod plan;
pub mod protect;
pub mod reading;
pub mod receipt;
pub mod redact;
pub mod scanned;
pub mod size;
pub mod snapshot;
pub mod text;
