//! The `unwedge` binary: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    unwedge::cli::main(std::env::args_os())
}
