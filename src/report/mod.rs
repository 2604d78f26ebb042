//! Faces without a terminal: text and JSON.
