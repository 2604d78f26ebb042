//! What a sweep would take, and what stays.

use std::io::{self, Write};

use jiff::Timestamp;

use super::table::{Align, Table};
use crate::domain::sweep::{Candidate, Class, LeftOut, Sweep};

/// Names that look precious and are told one by one.
const PRECIOUS: usize = 5;

/// Writes it by class, then what stays by reason. `whole` lists every name.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, sweep: &Sweep, whole: bool) -> io::Result<()> {
    let mut table = Table::new([
        ("goes", Align::Left),
        ("count", Align::Right),
        ("entries", Align::Right),
        ("space", Align::Right),
    ]);
    for class in Class::ALL {
        let tally = sweep.of(class);
        let cells =
            [class.to_string(), tally.count.to_string(), tally.entries.to_string(), tally.bytes.to_string()];
        table.row(cells);
    }
    table.write(out)?;
    for (what, one) in [("largest", sweep.largest()), ("oldest", sweep.oldest())] {
        if let Some(one) = one {
            writeln!(out, "  {what}: {} ({}, {})", one.name, one.bytes, age(one))?;
        }
    }
    writeln!(out, "\n  of {} entries stay:", sweep.entries)?;
    let mut table = Table::new([("", Align::Right), ("why", Align::Left), ("for example", Align::Left)]);
    for one in sweep.staying() {
        table.row([one.count.to_string(), one.why.to_string(), one.example.to_string()]);
    }
    table.write(out)?;
    hints(out, sweep)?;
    if whole { names(out, sweep) } else { Ok(()) }
}

/// What is left out unless somebody asks for it, and how to ask.
fn hints(out: &mut dyn Write, sweep: &Sweep) -> io::Result<()> {
    let left = |wanted: fn(&LeftOut) -> bool| {
        sweep.candidates.iter().filter(move |one| one.left_out.as_ref().is_some_and(wanted))
    };
    let precious: Vec<&Candidate> = left(|why| matches!(why, LeftOut::Precious { .. })).collect();
    if !precious.is_empty() {
        let shown: Vec<String> = precious.iter().take(PRECIOUS).map(|one| one.name.to_string()).collect();
        let more = if precious.len() > PRECIOUS { ", …" } else { "" };
        writeln!(out, "  --also NAME takes what looks precious: {}{more}", shown.join(", "))?;
    }
    let of_root = left(|why| *why == LeftOut::OfRoot).count();
    if of_root > 0 {
        writeln!(
            out,
            "  --own-root takes {of_root} of root too: old as a whole, unused and named by no keep list"
        )?;
    }
    Ok(())
}

/// Every name: what goes, then what is old and left out.
fn names(out: &mut dyn Write, sweep: &Sweep) -> io::Result<()> {
    let mut table = Table::new([
        ("what", Align::Left),
        ("age", Align::Right),
        ("entries", Align::Right),
        ("space", Align::Right),
        ("name", Align::Left),
    ]);
    for one in sweep.goes() {
        table.row(row(one.class.one(), one));
    }
    for one in &sweep.candidates {
        if let Some(why) = &one.left_out {
            table.row(row(&format!("stays, {}", left_out(why)), one));
        }
    }
    writeln!(out)?;
    table.write(out)
}

fn row(what: &str, one: &Candidate) -> [String; 5] {
    [what.to_owned(), age(one), one.entries.to_string(), one.bytes.to_string(), one.name.to_string()]
}

/// Why something old is left out, in a few words.
pub fn left_out(why: &LeftOut) -> String {
    match why {
        LeftOut::OfRoot => "of root".to_owned(),
        LeftOut::Precious { name } => format!("looks precious ({name})"),
        LeftOut::SwitchedOff => "left out by you".to_owned(),
    }
}

/// How long ago the newest of its times is: `3 d`.
pub fn age(one: &Candidate) -> String {
    let secs = Timestamp::now().as_second().saturating_sub(one.newest).max(0);
    match secs / 3600 {
        hours if hours < 48 => format!("{hours} h"),
        hours => format!("{} d", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::size::Bytes;
    use crate::domain::sweep::{Staying, Stays};
    use crate::domain::text::HostText;

    #[test]
    fn classes_reasons_and_every_name_are_told() {
        let candidate = |name: &str, left_out: Option<LeftOut>| Candidate {
            name: HostText::from(name),
            id: crate::domain::identity::FileId::default(),
            class: Class::OldFile,
            entries: 1,
            bytes: Bytes(2048),
            linked: Bytes::ZERO,
            newest: 0,
            precious: None,
            of_root: false,
            left_out,
        };
        let secret = LeftOut::Precious { name: HostText::from("a.key") };
        let sweep = Sweep {
            entries: 9,
            candidates: vec![
                candidate("old", None),
                candidate("a.key", Some(secret)),
                candidate("dir", Some(LeftOut::OfRoot)),
            ],
            stays: vec![Staying { why: Stays::Young, count: 6, example: HostText::from("new") }],
            ..Sweep::default()
        };
        let mut out = Vec::new();
        write(&mut out, &sweep, true).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "old files              1",
            "largest: old (2.0 KiB",
            "of 9 entries stay",
            "6  young",
            "--also NAME takes what looks precious: a.key",
            "--own-root takes 1 of root too",
            "stays, looks precious (a.key)",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }
}
