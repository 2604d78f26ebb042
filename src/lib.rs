//! unwedge: a terminal triage console for Linux machines whose disk is full or whose builds are stuck.
//!
//! One spine carries everything; each arrow is a plain value:
//!
//! ```text
//! probe / scan ─▶ Snapshot ─▶ rules ─▶ Finding ─▶ actions ─▶ Plan ─▶ Consent ─▶ exec ─▶ verify ─▶ journal
//! ```

pub mod actions;
pub mod assets;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod exec;
pub mod journal;
pub mod ledger;
pub mod probe;
pub mod report;
pub mod rules;
pub mod scan;
pub mod sys;
pub mod tui;
