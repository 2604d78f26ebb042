//! What is said on a screen too small for anything else.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::format;
use crate::tui::layout::SMALLEST;
use crate::tui::model::Model;
use crate::tui::theme::Role;

/// Draws one line in the middle, as much of it as fits.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let (columns, rows) = SMALLEST;
    let long = format!("unwedge needs {columns}x{rows}, this is {}x{}; q quits", area.width, area.height);
    let middle = format!("needs {columns}x{rows}; q quits");
    let short = format!("{columns}x{rows}!");
    let room = usize::from(area.width);
    let fits = |text: &String| format::width(text) <= room;
    let text = [long, middle].into_iter().find(fits).unwrap_or(short);
    let text = format::cut(&text, room, model.look.glyphs.ellipsis);
    let x = (room - format::width(&text)) / 2;
    let y = area.y + area.height / 2;
    buffer.set_string(u16::try_from(x).unwrap_or(0), y, text, model.look.style(Role::Title));
}
