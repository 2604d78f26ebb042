//! Files that are made from the code and kept beside it. A test fails where one is out of date;
//! `UNWEDGE_BLESS=1 cargo test generated` writes them anew.

use clap::CommandFactory as _;

use super::args::Args;
use crate::engine::audit::Audit;

#[expect(clippy::disallowed_methods, reason = "a test that was asked to write a file of the source tree")]
fn up_to_date(path: &str, made: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UNWEDGE_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{} is out of date: run UNWEDGE_BLESS=1 cargo test generated", path.display());
}

#[test]
fn the_man_page_is_up_to_date() {
    let mut page = Vec::new();
    // Without a date: the page must not differ from one day to the next.
    clap_mangen::Man::new(Args::command()).date("").render(&mut page).unwrap();
    up_to_date("assets/man/unwedge.1", &String::from_utf8(page).unwrap());
}

#[test]
fn the_schema_of_the_audit_is_up_to_date() {
    let schema = schemars::schema_for!(Audit);
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    up_to_date("assets/schema/audit.json", &text);
}
