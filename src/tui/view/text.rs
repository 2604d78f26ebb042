//! Builds the wrapped text of an overlay.

use ratatui::text::{Line, Span};

use crate::domain::snapshot::Evidence;
use crate::tui::format;
use crate::tui::theme::{Look, Role};

use super::pane::span;

/// Columns of the labels in front of fields.
const LABEL: usize = 10;

/// Lines of a given width.
pub struct Text {
    look: Look,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Text {
    /// An empty text of this width.
    pub fn new(look: Look, width: usize) -> Self {
        Self { look, width: width.max(8), lines: Vec::new() }
    }

    /// The lines.
    pub fn into_lines(mut self) -> Vec<Line<'static>> {
        while self.lines.last().is_some_and(|line| line.width() == 0) {
            self.lines.pop();
        }
        self.lines
    }

    /// An empty line, unless there is one already.
    pub fn blank(&mut self) -> &mut Self {
        if self.lines.last().is_some_and(|line| line.width() > 0) {
            self.lines.push(Line::default());
        }
        self
    }

    /// A heading with air above.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.blank();
        self.para(text, Role::Title)
    }

    /// A paragraph.
    pub fn para(&mut self, text: &str, role: Role) -> &mut Self {
        self.hang("", Role::Text, text, role)
    }

    /// A label and its value; nothing where there is no value.
    pub fn field(&mut self, label: &str, value: &str, role: Role) -> &mut Self {
        if value.is_empty() {
            return self;
        }
        let label = format!("{label:<LABEL$}");
        self.hang(&label, Role::Dim, value, role)
    }

    /// A point of a list.
    pub fn bullet(&mut self, text: &str, role: Role) -> &mut Self {
        let sign = format!("  {} ", self.look.glyphs.dot);
        self.hang(&sign, Role::Dim, text, role)
    }

    /// A fact and, below it, where it was read.
    pub fn evidence(&mut self, evidence: &[Evidence]) -> &mut Self {
        for one in evidence {
            self.bullet(&one.fact, Role::Text);
            if !one.source.is_empty() {
                self.hang("      ", Role::Dim, &one.source, Role::Dim);
            }
        }
        self
    }

    /// Text with something in front of its first line; further lines stay indented below it.
    pub fn hang(&mut self, front: &str, front_role: Role, text: &str, role: Role) -> &mut Self {
        if format::width(front) * 2 > self.width {
            // No room side by side: one above the other.
            self.lines.push(Line::from(span(&self.look, front_role, front.trim_end())));
            return self.hang("    ", Role::Text, text, role);
        }
        let indent = format::width(front);
        let mut front = span(&self.look, front_role, front);
        for line in format::wrap(text, self.width - indent) {
            let front = std::mem::replace(&mut front, Span::raw(" ".repeat(indent)));
            self.lines.push(Line::from(vec![front, span(&self.look, role, line)]));
        }
        self
    }

    /// A line as it is.
    pub fn line(&mut self, line: Line<'static>) -> &mut Self {
        self.lines.push(line);
        self
    }
}
