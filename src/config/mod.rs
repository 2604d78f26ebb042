//! Settings in layers, and the surroundings of a run.

pub mod environment;
pub mod load;
pub mod settings;

pub use environment::{Environment, TerminalTraits};
pub use settings::{LogSettings, ScanMethod, Settings, SweepSettings};
