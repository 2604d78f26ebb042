//! What is asked for before a plan can be made.

use crate::domain::text::HostPath;
use crate::tui::effect::Pick;
use crate::tui::model::Model;
use crate::tui::question::About;
use crate::tui::theme::Role;

use super::sheet::Sheet;
use super::text::Text;

/// The question.
pub fn sheet(model: &Model, about: &About, answer: (&str, Option<&str>), width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let title = match about {
        About::Goal(mount_point) => {
            goal(&mut text, model, mount_point);
            "Reclaim"
        }
        About::Older(pick) => {
            older(&mut text, pick);
            "Remove what is old"
        }
        About::LastLines { pick, usual } => {
            last_lines(&mut text, pick, *usual);
            "Keep the last lines"
        }
    };
    let prompt = super::dialog::typed(model, &about.example(), answer, width);
    Sheet { title: title.to_owned(), role: Role::Focus, lines: text.into_lines(), prompt }
}

/// How much space is wanted.
fn goal(text: &mut Text, model: &Model, mount_point: &HostPath) {
    text.para(&format!("How much space shall come back on {mount_point}?"), Role::Title).blank();
    let known = model.snapshot.filesystems.value().into_iter().flatten();
    if let Some(usage) = known.filter(|fs| fs.mount_point == *mount_point).find_map(|fs| fs.usage.value()) {
        text.field("Free", &format!("{} of {}", usage.available, usage.total), Role::Text).blank();
    }
    let how = "The safest steps that reach it are planned: what loses nothing first, of that what is cheapest to have \
               again. Nothing that loses data. You see them before anything runs.";
    text.para(how, Role::Text);
    if model.tree.root != *mount_point || model.tree.scanning() {
        let partly = format!(
            "Only what is scanned counts: for all of it scan {mount_point} to its end first (L, Enter)."
        );
        text.blank().para(&partly, Role::Warning);
    }
}

/// From which age on something is old.
fn older(text: &mut Text, pick: &Pick) {
    text.para(&format!("From which age on shall what is in {} go?", pick.name), Role::Title).blank();
    let how = "Enter alone takes 7 days. Files, empty directories and directories \
               with all in them go if the newest of all their times is older.";
    text.para(how, Role::Text).blank();
    text.para("What is in use, kept or precious stays. You see every name before anything runs.", Role::Text);
}

/// How many lines stay.
fn last_lines(text: &mut Text, pick: &Pick, usual: u64) {
    text.para(&format!("How many of the last lines of {} shall stay?", pick.name), Role::Title).blank();
    text.field("Takes", &pick.allocated.to_string(), Role::Text).blank();
    text.para(&format!("Enter alone takes {usual}."), Role::Text);
    let how = "The lines before them are gone for good. No line that is written meanwhile is lost: who writes to it \
               goes on undisturbed.";
    text.para(how, Role::Text);
}
