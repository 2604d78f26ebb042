//! The journal for people.
