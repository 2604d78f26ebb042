//! Data files embedded in the program.

/// The reference of all settings, with their defaults.
pub const CONFIG: &str = include_str!("../assets/config.toml");
