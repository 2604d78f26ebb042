//! Colour by role. Without colour, bold and reverse carry what matters.

use ratatui::style::{Color, Modifier, Style};

use crate::config::{Settings, TerminalTraits};
use crate::domain::finding::Severity;
use crate::domain::plan::Risk;
use crate::domain::size::Percent;
use crate::domain::snapshot::Verdict;

use super::glyphs::{ASCII, Glyphs, UNICODE};

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Plain text.
    Text,
    /// Less important.
    Dim,
    /// A heading.
    Title,
    /// The heading of the pane that has the keys.
    Focus,
    /// A directory's name.
    Directory,
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Breaks things.
    Critical,
    /// Not known.
    Unknown,
    /// A bar.
    Bar,
    /// The row under the cursor.
    Cursor,
    /// A marked row.
    Marked,
    /// A key.
    Key,
    /// A command that will run.
    Command,
}

/// How the console looks on this terminal.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The signs.
    pub glyphs: &'static Glyphs,
    colour: bool,
}

impl Look {
    /// The look for a terminal.
    pub fn new(terminal: TerminalTraits) -> Self {
        Self { glyphs: if terminal.unicode { &UNICODE } else { &ASCII }, colour: terminal.colour }
    }

    /// The style of a role. Only the 8 basic colours, so that the terminal's own palette decides.
    pub fn style(&self, role: Role) -> Style {
        let plain = Style::new();
        if self.colour {
            match role {
                Role::Text => plain,
                // Not "bright black": some palettes (Solarized) make that the background.
                Role::Dim => plain.add_modifier(Modifier::DIM),
                Role::Title => plain.add_modifier(Modifier::BOLD),
                Role::Focus => plain.fg(Color::Cyan).add_modifier(Modifier::BOLD),
                Role::Directory => plain.fg(Color::Blue).add_modifier(Modifier::BOLD),
                Role::Good => plain.fg(Color::Green),
                Role::Warning => plain.fg(Color::Yellow),
                Role::Critical => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
                Role::Unknown => plain.fg(Color::Magenta),
                Role::Bar | Role::Key | Role::Command => plain.fg(Color::Cyan),
                Role::Cursor => plain.add_modifier(Modifier::REVERSED),
                Role::Marked => plain.fg(Color::Yellow).add_modifier(Modifier::BOLD),
            }
        } else {
            match role {
                Role::Text | Role::Dim | Role::Good | Role::Bar | Role::Unknown | Role::Command => plain,
                Role::Title | Role::Focus | Role::Directory | Role::Warning | Role::Marked | Role::Key => {
                    plain.add_modifier(Modifier::BOLD)
                }
                Role::Critical => plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
                Role::Cursor => plain.add_modifier(Modifier::REVERSED),
            }
        }
    }
}

/// The role of a severity.
pub fn severity(severity: Severity) -> Role {
    match severity {
        Severity::Info => Role::Text,
        Severity::Unknown => Role::Unknown,
        Severity::Warning => Role::Warning,
        Severity::Critical => Role::Critical,
    }
}

/// The role of a risk.
pub fn risk(risk: Risk) -> Role {
    match risk {
        Risk::Routine => Role::Good,
        Risk::Disruptive => Role::Warning,
        Risk::Destructive => Role::Critical,
    }
}

/// The role of a verdict.
pub fn verdict(verdict: Verdict) -> Role {
    match verdict {
        Verdict::Orphan => Role::Warning,
        Verdict::InUse => Role::Good,
        Verdict::Service => Role::Dim,
        Verdict::Unknown => Role::Unknown,
    }
}

/// The role of a share of blocks in use.
pub fn blocks(share: Percent, settings: &Settings) -> Role {
    level(share, settings.filesystem.warn_percent, settings.filesystem.critical_percent)
}

/// The role of a share of inodes in use.
pub fn inodes(share: Percent, settings: &Settings) -> Role {
    level(share, settings.filesystem.inode_warn_percent, settings.filesystem.inode_critical_percent)
}

fn level(share: Percent, warn: u8, critical: u8) -> Role {
    if share.0 >= f64::from(critical) {
        Role::Critical
    } else if share.0 >= f64::from(warn) {
        Role::Warning
    } else {
        Role::Good
    }
}
