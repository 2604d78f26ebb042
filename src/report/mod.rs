//! Faces without a terminal: text and JSON.

pub mod history;
pub mod json;
pub mod table;
pub mod text;
