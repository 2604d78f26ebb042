//! All keys, from the command table, and all signs.

use std::collections::BTreeSet;

use crate::tui::keymap::{self, Context};
use crate::tui::model::Model;
use crate::tui::theme::Role;

use super::sheet::Sheet;
use super::text::Text;

/// Columns of the keys.
const KEYS: usize = 22;

/// The help, beginning with the pane that has the keys.
pub fn sheet(model: &Model, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let here = model.focus.context();
    let mut shown = BTreeSet::new();
    section(&mut text, here, &mut shown);
    signs(&mut text, model);
    for context in Context::ALL {
        if context != here {
            section(&mut text, context, &mut shown);
        }
    }
    Sheet {
        title: "Keys and signs".to_owned(),
        role: Role::Focus,
        lines: text.into_lines(),
        prompt: Vec::new(),
    }
}

/// The commands of a context that were not shown before.
fn section(text: &mut Text, context: Context, shown: &mut BTreeSet<&'static str>) {
    let new: Vec<_> = keymap::in_context(context).filter(|binding| shown.insert(binding.id)).collect();
    if new.is_empty() {
        return;
    }
    text.heading(context.title());
    for binding in new {
        let keys = binding.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        text.hang(&format!("  {keys:<KEYS$}"), Role::Key, binding.doc, Role::Text);
    }
}

fn signs(text: &mut Text, model: &Model) {
    let glyphs = model.look.glyphs;
    text.heading("Signs");
    let rows = [
        (glyphs.mark, "marked"),
        ("!", "could not be read: its size is too small"),
        (".", "something below it could not be read"),
        (">", "another file system is mounted there, or it is a btrfs snapshot; it is not counted"),
        ("H", "has more than one name (hard link); its size counts once"),
        ("@", "neither file nor directory"),
        (glyphs.ellipsis, "behind a name: still being scanned"),
        (glyphs.used, "in a gauge: in use"),
        (glyphs.reserved, "in a gauge: free, but kept for root"),
        (glyphs.free, "in a gauge: free"),
    ];
    for (sign, meaning) in rows {
        text.hang(&format!("  {sign:<KEYS$}"), Role::Key, meaning, Role::Text);
    }
}
