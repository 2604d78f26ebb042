//! `view(&Model, &mut Frame)`: draws the model, and nothing else.

mod alert;
mod deleted;
mod dialog;
mod explain;
mod findings;
mod footer;
mod header;
mod help;
mod info;
mod ledger;
mod menu;
mod mounts;
mod pane;
mod processes;
mod progress;
mod question;
mod receipt;
pub mod sheet;
#[cfg(test)]
mod snapshots;
mod status;
mod sweep;
mod sweep_list;
mod tabs;
mod text;
mod too_small;
mod tree;

use ratatui::Frame;

use super::layout;
use super::model::{Model, Pane};
use super::theme::Role;

/// Draws the console.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    // The terminal was resized and the model has not heard of it yet: the next frame is right.
    if (area.width, area.height) != model.size {
        return;
    }
    let buffer = frame.buffer_mut();
    let Some(places) = layout::of(model) else {
        too_small::draw(model, area, buffer);
        return;
    };
    header::draw(model, places.header, buffer);
    if let Some(line) = places.alert {
        alert::draw(model, line, buffer);
    }
    if let Some(line) = places.tabs {
        tabs::draw(model, line, buffer);
    }
    if let Some(line) = places.divider {
        for y in line.top()..line.bottom() {
            buffer.set_string(line.x, y, model.look.glyphs.vertical, model.look.style(Role::Dim));
        }
    }
    for (pane, area) in places.panes {
        match pane {
            Pane::Tree => tree::draw(model, area, buffer),
            Pane::Findings => findings::draw(model, area, buffer),
            Pane::Mounts => mounts::draw(model, area, buffer),
            Pane::Processes => processes::draw(model, area, buffer),
            Pane::Deleted => deleted::draw(model, area, buffer),
        }
    }
    status::draw(model, places.status, buffer);
    footer::draw(model, places.footer, buffer);
    // Only the top one: it is the one that takes the keys.
    if let Some(overlay) = model.overlays.last() {
        sheet::draw(model, overlay, buffer);
    }
}
