//! The unwedge binary: see the library.

fn main() {}
