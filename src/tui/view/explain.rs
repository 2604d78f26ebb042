//! The full text of a row of a right-hand pane: what, why, evidence with its sources, what to do.

use crate::actions::request_for;
use crate::domain::basket::Basket;
use crate::domain::finding::{ActionId, Finding, Reclaim};
use crate::domain::own_command::OwnCommand;
use crate::domain::snapshot::{BuildMount, BuildProcess, DeletedFile};
use crate::tui::format;
use crate::tui::menu::{self, Choice};
use crate::tui::model::{Model, Pane};
use crate::tui::theme::{self, Role};

use super::sheet::Sheet;
use super::text::Text;
use super::{dialog, mounts, processes};

/// An action as the end of a sentence.
pub fn action(action: ActionId) -> &'static str {
    match action {
        ActionId::Delete => "to delete",
        ActionId::EndProcess => "to end processes",
        ActionId::PutBack => "to put back",
        ActionId::EndGroup => "to end process groups",
        ActionId::Unmount => "to unmount",
        ActionId::Evacuate => "to move to another file system",
        ActionId::RotateLog => "to rotate the log",
        ActionId::RemoveRotated => "to remove rotated logs",
        ActionId::Sweep => "to sweep what is old",
        ActionId::VacuumJournal => "to vacuum the journal",
        ActionId::CleanCache => "to clean",
        ActionId::RepairBuilds => "to repair builds",
        ActionId::PruneConservative | ActionId::PruneStandard | ActionId::PruneEmergency => "to prune",
        ActionId::RemoveVolume => "to remove a volume",
        ActionId::KeepName => "to keep a name",
        ActionId::FreeDeleted => "to free deleted files",
    }
}

/// What an action does about a finding, as the rest of "x plans to".
pub fn what(action: ActionId) -> &'static str {
    match action {
        ActionId::Delete => "show what is largest there, to mark and delete",
        ActionId::EndProcess => "end these processes",
        ActionId::PutBack => "put these back",
        ActionId::EndGroup => "end these processes with all they started",
        ActionId::Unmount => "unmount these",
        ActionId::Evacuate => "show what is largest there, to mark and move to another file system",
        ActionId::RotateLog => "drop all but its last lines",
        ActionId::RemoveRotated => "remove them; the newest of each log stays",
        ActionId::Sweep => "remove what is old in it and not in use",
        ActionId::VacuumJournal => "remove the oldest of it",
        ActionId::RepairBuilds => "repair builds, step by step",
        ActionId::CleanCache => "let its owner clean it",
        ActionId::PruneConservative => "prune what is dangling or was not used for a day",
        ActionId::PruneStandard => "prune what nothing used for long",
        ActionId::PruneEmergency => "prune all that nothing uses",
        ActionId::RemoveVolume => "remove one volume, by its name",
        ActionId::KeepName => "keep it out of every sweep",
        ActionId::FreeDeleted => "give back their space",
    }
}

/// What a choice does, as the rest of "x plans to".
pub fn choice(choice: &Choice) -> &str {
    match choice {
        Choice::Plan(action, _) | Choice::Place(action, _) => what(*action),
        Choice::Named { what, .. } | Choice::Ask { what, .. } => what,
    }
}

/// What the action's key does about a finding, as a sentence.
fn offer(model: &Model, finding: &Finding) -> Option<String> {
    let choices = menu::choices(finding, &model.snapshot);
    let known: Vec<&str> = choices.iter().map(choice).collect();
    match known.as_slice() {
        [] => {
            let action = finding.actions.first()?;
            Some(if *action == ActionId::Delete {
                format!("x: {}.", what(*action))
            } else {
                format!("x plans to {}.", what(*action))
            })
        }
        [_, ..] if matches!(choices.first(), Some(Choice::Named { .. })) => {
            let action = finding.actions.first()?;
            Some(format!("x plans to {}; you choose which.", what(*action)))
        }
        [only] if matches!(choices.first(), Some(Choice::Place(..))) => Some(format!("x: {only}.")),
        [only] => Some(format!("x plans to {only}.")),
        many => Some(format!("x lets you choose: {}.", many.join("; or "))),
    }
}

/// The line of ours that does the first thing that a key does about a finding; none if that has to be chosen by hand.
fn from_a_shell(model: &Model, finding: &Finding) -> Option<OwnCommand> {
    let known = |action: &&ActionId| request_for(**action, finding, &model.snapshot).is_some();
    let action = *finding.actions.iter().find(known)?;
    Some(OwnCommand::Fix { finding: finding.id.clone(), action })
}

/// A finding.
pub fn finding(model: &Model, finding: &Finding, remedy: Option<&Basket>, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    let role = theme::severity(finding.severity);
    text.para(&finding.title, Role::Title);
    text.blank().para(finding.why, Role::Text);
    // Before the evidence, which can be long: this is what a tired person looks for.
    text.heading("What to do");
    if !finding.advice.is_empty() {
        text.para(&finding.advice, Role::Text);
    }
    if let Some(offer) = offer(model, finding) {
        text.para(&offer, Role::Key);
    }
    if let Some(line) = from_a_shell(model, finding) {
        dialog::again(&mut text, &line);
    }
    match finding.reclaim {
        Reclaim::Exact { .. } | Reclaim::Range { .. } => {
            text.blank().field("Frees", &finding.reclaim.to_string(), Role::Text);
        }
        Reclaim::Unknown | Reclaim::Nothing => {
            text.blank();
        }
    }
    // For `unwedge explain`, and for tickets.
    text.field("Id", &finding.id, Role::Dim);
    text.heading("Evidence").evidence(&finding.evidence);
    if let Some(basket) = remedy.filter(|basket| !basket.is_empty()) {
        text.heading("Exactly this would run");
        for plan in &basket.parts {
            dialog::commands(&mut text, plan);
        }
    }
    missing(&mut text, model, Pane::Findings);
    Sheet { title: finding.severity.to_string(), role, lines: text.into_lines(), prompt: Vec::new() }
}

/// A mount.
pub fn mount(model: &Model, mount: &BuildMount, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    text.para(&mount.mount_point.to_string(), Role::Title);
    text.blank();
    text.field("Verdict", mounts::word(mount.verdict), theme::verdict(mount.verdict));
    text.field("Mounted", &format!("{} of {}", mount.root, mount.source), Role::Text);
    text.field("Type", &format!("{}, device {}", mount.fs_type, mount.dev), Role::Text);
    let unique = mount.mount.unique.map_or_else(String::new, |id| format!(" (unique id {id})"));
    text.field("Mount id", &format!("{}{unique}", mount.mount.id), Role::Text);
    let via = match mount.via {
        Some(process) => format!("{}, reached through {process}", mount.namespace.0),
        None => format!("{} (our own)", mount.namespace.0),
    };
    text.field("Namespace", &via, Role::Text);
    text.heading("Why").evidence(&mount.evidence);
    text.heading("What to do").para("x plans to unmount it; nothing below its source is touched.", Role::Key);
    missing(&mut text, model, Pane::Mounts);
    Sheet { title: "Build mount".to_owned(), role: Role::Title, lines: text.into_lines(), prompt: Vec::new() }
}

/// A process.
pub fn process(model: &Model, process: &BuildProcess, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    text.para(&process.command.to_string(), Role::Title);
    text.blank();
    text.field("Verdict", processes::word(process.verdict), theme::verdict(process.verdict));
    text.field(
        "Process",
        &format!("{} ({}), parent {}", process.id.pid, process.tool, process.parent),
        Role::Text,
    );
    text.field("User", &process.uid.to_string(), Role::Text);
    text.field("Running", &format::age(process.age_secs), Role::Text);
    text.field("Uses", &format!("{} of a CPU, {} of memory", process.cpu, process.memory), Role::Text);
    text.field("Cgroup", &process.cgroup.to_string(), Role::Text);
    text.heading("Why").evidence(&process.evidence);
    text.heading("What to do").para("x plans to end it.", Role::Key);
    missing(&mut text, model, Pane::Processes);
    Sheet {
        title: "Build process".to_owned(),
        role: Role::Title,
        lines: text.into_lines(),
        prompt: Vec::new(),
    }
}

/// A deleted file.
pub fn deleted(model: &Model, file: &DeletedFile, width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    text.para(&file.last_path.to_string(), Role::Title);
    text.blank();
    text.field("Takes", &format!("{} ({} apparent)", file.allocated, file.apparent), Role::Text);
    text.field("File", &format!("inode {} on device {}", file.key.ino, file.key.dev), Role::Text);
    text.heading("Kept open by");
    for holder in &file.holders {
        let how = match (holder.fd, holder.mapped) {
            (Some(fd), false) => format!("descriptor {fd}"),
            (Some(fd), true) => format!("descriptor {fd}, and mapped into memory"),
            (None, _) => "mapped into memory".to_owned(),
        };
        text.bullet(&format!("{}, pid {}: {how}", holder.name, holder.process.pid), Role::Text);
    }
    text.heading("What to do");
    if file.holders.iter().any(|holder| holder.mapped) {
        let why = "It is mapped into memory: cutting it would kill the process. Restart the process instead.";
        text.para(why, Role::Warning);
    } else {
        let what = "x plans to cut it to nothing: its process goes on, what it wrote there is gone. \
                    Restarting the process frees it too.";
        text.para(what, Role::Key);
    }
    missing(&mut text, model, Pane::Deleted);
    Sheet {
        title: "Deleted but open".to_owned(),
        role: Role::Title,
        lines: text.into_lines(),
        prompt: Vec::new(),
    }
}

/// What is not known in the pane, at the end: the line in the pane itself may be too short for it.
fn missing(text: &mut Text, model: &Model, pane: Pane) {
    let gaps = model.gaps(pane);
    if gaps.is_empty() {
        return;
    }
    text.heading("Not known");
    for gap in gaps {
        text.bullet(&gap.to_string(), Role::Unknown);
    }
}

/// What a pane does not know.
pub fn gaps(model: &Model, gaps: &[String], width: usize) -> Sheet {
    let mut text = Text::new(model.look, width);
    for gap in gaps {
        text.bullet(gap, Role::Text);
    }
    Sheet { title: "Not known".to_owned(), role: Role::Unknown, lines: text.into_lines(), prompt: Vec::new() }
}
