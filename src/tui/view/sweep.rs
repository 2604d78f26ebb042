//! What a sweep takes and what stays, in the dialog before it runs.

use ratatui::text::Line;

use crate::domain::sweep::{Ages, Candidate, Class, LeftOut, Staying, Stays, Sweep, age_words};
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::sweep_list::reason;
use crate::tui::theme::Role;

use super::pane::span;
use super::text::Text;

/// Names that are told one by one.
const NAMED: usize = 4;
/// Columns that the table needs.
const TABLE: usize = 66;

/// A sweep of one directory.
pub fn about(text: &mut Text, model: &Model, sweep: &Sweep, width: usize) {
    text.blank();
    table(text, model, sweep, width);
    let now = model.snapshot.taken_at.as_second();
    let told = |one: &Candidate| format!("{}, {}, {} old", one.name, one.bytes, age_of(one, now));
    let (largest, oldest) = (sweep.largest(), sweep.oldest());
    if let Some(both) = largest.filter(|one| oldest.is_some_and(|other| other.name == one.name)) {
        text.field("Largest", &format!("{}; nothing is older", told(both)), Role::Text);
    } else {
        text.field("Largest", &largest.map(told).unwrap_or_default(), Role::Text);
        text.field("Oldest", &oldest.map(told).unwrap_or_default(), Role::Text);
    }
    precious(text, sweep);
    of_root(text, sweep);
    staying(text, sweep);
}

/// How old something is, in the unit that a person would use.
pub fn age_of(one: &Candidate, now: i64) -> String {
    format::age(u64::try_from(now.saturating_sub(one.newest)).unwrap_or(0))
}

/// From which age on a class is old, in seconds.
fn age(ages: &Ages, class: Class) -> u64 {
    match class {
        Class::OldFile => ages.file_secs,
        Class::EmptyDir => ages.empty_dir_secs,
        Class::OldDir => ages.dir_secs,
    }
}

/// How many go of each class, with what is in them and what they take; a class that has none is left out.
fn table(text: &mut Text, model: &Model, sweep: &Sweep, width: usize) {
    let look = &model.look;
    let narrow = width < TABLE;
    if narrow {
        text.para("What goes", Role::Title);
    } else {
        let head = format!("{:<20}{:>9}{:>10}{:>11}", "What goes", "count", "entries", "space");
        text.line(Line::from(span(look, Role::Title, head)));
    }
    for class in Class::ALL {
        let (offered, goes) = sweep.offered(class);
        if offered.count == 0 {
            continue;
        }
        let shown = if goes { sweep.of(class) } else { offered };
        let older = format!("older than {}", age_words(age(&sweep.ages, class)));
        let (role, note) = if goes { (Role::Text, older) } else { (Role::Dim, "left out".to_owned()) };
        let (count, entries) = (format::count(shown.count), format::count(shown.entries));
        let name = class.to_string();
        if narrow {
            text.bullet(&format!("{count} {name}, {entries} entries, {}, {note}", shown.bytes), role);
        } else {
            let row = format!("  {name:<18}{count:>9}{entries:>10}{:>11}  {note}", shown.bytes.to_string());
            text.line(Line::from(span(look, role, row)));
        }
    }
}

/// A name, and what looks precious in it.
pub fn shown_name(one: &Candidate) -> String {
    match &one.precious {
        Some(precious) if *precious != one.name => format!("{} ({precious} in it)", one.name),
        Some(_) | None => one.name.to_string(),
    }
}

/// The first few names.
fn names<'c>(all: impl Iterator<Item = &'c Candidate>) -> (u64, String) {
    let (mut count, mut shown) = (0, Vec::new());
    for one in all {
        count += 1;
        if shown.len() < NAMED {
            shown.push(shown_name(one));
        } else if shown.len() == NAMED {
            shown.push("...".to_owned());
        }
    }
    (count, shown.join(", "))
}

fn precious(text: &mut Text, sweep: &Sweep) {
    let (count, going) = names(sweep.goes().filter(|one| one.precious.is_some()));
    if count > 0 {
        let go = if count == 1 { "that looks precious GOES" } else { "that look precious GO" };
        text.field("Precious", &format!("{} {go}: {going}", format::count(count)), Role::Critical);
    }
    let left = |one: &&Candidate| matches!(one.left_out, Some(LeftOut::Precious { .. }));
    let (count, staying) = names(sweep.candidates.iter().filter(left));
    if count > 0 {
        let look = if count == 1 { "looks precious and stays" } else { "look precious and stay" };
        text.field("Precious", &format!("{} {look}: {staying}", format::count(count)), Role::Warning);
    }
}

fn of_root(text: &mut Text, sweep: &Sweep) {
    let left = sweep.candidates.iter().filter(|one| one.left_out == Some(LeftOut::OfRoot)).count();
    if left > 0 {
        let stay = format::plural(left, "directory of root stays", "directories of root stay");
        let line = format!("{} {stay}; 0 in the list takes them", format::count(left as u64));
        text.field("Of root", &line, Role::Text);
    } else if sweep.goes().any(|one| one.of_root) {
        text.field("Of root", "directories of root go too, as you chose", Role::Warning);
    }
}

/// What stays for which reason; what is told above is not told again.
fn staying(text: &mut Text, sweep: &Sweep) {
    let all: Vec<Staying> = sweep.staying();
    let count: u64 = all.iter().map(|one| one.count).sum();
    if count == 0 {
        return;
    }
    let (count, entries) = (format::count(count), format::count(sweep.entries));
    text.heading(&format!("What stays ({count} of {entries} entries)"));
    for one in all.iter().filter(|one| !matches!(one.why, Stays::OfRoot | Stays::Precious)) {
        text.bullet(&reason(one.why, one.count, &one.example), Role::Text);
    }
}
