//! What can be done about a finding or about rows of the tree, to choose from.

use crate::tui::menu::Choice;
use crate::tui::model::Model;
use crate::tui::theme::Role;

use super::explain;
use super::sheet::Sheet;
use super::text::Text;

/// The menu.
pub fn sheet(
    model: &Model,
    (title, note): (&str, Option<&str>),
    (choices, index): (&[Choice], usize),
    width: usize,
) -> Sheet {
    let mut text = Text::new(model.look, width);
    text.para(title, Role::Title).blank();
    for (at, choice) in choices.iter().enumerate() {
        let (sign, role) =
            if at == index { (model.look.glyphs.cursor, Role::Cursor) } else { (" ", Role::Text) };
        let line = explain::choice(choice);
        let (first, rest) = line.split_at_checked(1).unwrap_or(("", line));
        text.hang(&format!("{sign} "), Role::Focus, &format!("{}{rest}", first.to_uppercase()), role);
    }
    if let Some(note) = note {
        text.blank().para(note, Role::Warning);
    }
    text.blank().para("Nothing runs before you have seen the plan and agreed.", Role::Dim);
    Sheet { title: "What to do".to_owned(), role: Role::Focus, lines: text.into_lines(), prompt: Vec::new() }
}
