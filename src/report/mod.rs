//! Faces without a terminal: text and JSON.

pub mod explain;
pub mod health;
pub mod history;
pub mod json;
pub mod scan;
pub mod table;
pub mod text;
