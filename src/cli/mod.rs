//! Command line, dispatch, exit codes.
