//! The dialog before a run: exactly what will run, what it frees, what it risks, what protects, what was
//! refused, and what to do to agree.

use ratatui::text::Line;

use crate::domain::consent::ConsentRequest;
use crate::domain::plan::{OnError, Plan, Risk, When};
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::overlay::Dialog;
use crate::tui::theme::{self, Role};

use super::pane::span;
use super::sheet::Sheet;
use super::text::Text;

/// The dialog.
pub fn sheet(model: &Model, dialog: &Dialog, width: usize) -> Sheet {
    let plan = &*dialog.plan;
    let mut text = Text::new(model.look, width);
    text.para(&plan.summary, Role::Title);
    if !plan.is_empty() {
        text.blank();
        text.field("Risk", &format!("{}: {}", plan.risk, meaning(plan.risk)), theme::risk(plan.risk));
        text.field("Frees", &plan.reclaim.to_string(), Role::Text);
        text.field("Undo", &plan.undo.to_string(), Role::Text);
    }
    // First what was asked for and will not happen: easily missed below a long list.
    refused(&mut text, plan);
    if !plan.is_empty() {
        let count = plan.steps.len();
        text.heading(&format!("What runs ({} {})", count, format::plural(count, "step", "steps")));
        commands(&mut text, plan);
        text.heading("What protects you");
        for guard in plan.guards() {
            text.bullet(&guard.to_string(), Role::Text);
        }
        if plan.steps.iter().any(|step| step.on_error == OnError::Stop) {
            text.bullet("the rest is not run where a step fails", Role::Text);
        }
    }
    let role = if plan.is_empty() { Role::Title } else { theme::risk(plan.risk) };
    Sheet { title: title(plan), role, lines: text.into_lines(), prompt: prompt(model, dialog, width) }
}

fn title(plan: &Plan) -> String {
    if plan.is_empty() {
        "Nothing to do".to_owned()
    } else {
        format!("Plan {}", super::explain::action(plan.action))
    }
}

/// What a risk means for the person.
fn meaning(risk: Risk) -> &'static str {
    match risk {
        Risk::Routine => "nothing is lost, it regenerates itself",
        Risk::Disruptive => "interrupts work or costs a rebuild",
        Risk::Destructive => "data is gone for good",
    }
}

fn refused(text: &mut Text, plan: &Plan) {
    if plan.refused.is_empty() {
        return;
    }
    text.heading(&format!("Not done ({})", plan.refused.len()));
    for refusal in &plan.refused {
        text.bullet(&format!("{}: {}", refusal.what, refusal.why), Role::Warning);
    }
}

/// Every step as `Display for Op` prints it, which is what the journal carries too.
pub fn commands(text: &mut Text, plan: &Plan) {
    let digits = plan.steps.len().to_string().len();
    let mut last_why = "";
    for (number, step) in (1..).zip(&plan.steps) {
        let front = format!("{number:>digits$}  ");
        text.hang(&front, Role::Dim, &step.op.to_string(), Role::Command);
        let indent = " ".repeat(digits + 2);
        if step.why != last_why {
            text.hang(&indent, Role::Dim, &step.why, Role::Dim);
            last_why = &step.why;
        }
        match step.when {
            When::Always => {}
            When::IfPreviousFailed => {
                text.hang(&indent, Role::Dim, "only if the step before it did not do the job", Role::Dim);
            }
            When::IfPreviousWorked => {
                text.hang(&indent, Role::Dim, "only if the step before it worked", Role::Dim);
            }
        }
    }
}

fn prompt(model: &Model, dialog: &Dialog, width: usize) -> Vec<Line<'static>> {
    let look = &model.look;
    if dialog.plan.is_empty() {
        return Vec::new();
    }
    let expected = match dialog.plan.consent_request() {
        ConsentRequest::Key => {
            return vec![Line::from(vec![
                span(look, Role::Text, "Press "),
                span(look, Role::Key, "y"),
                span(look, Role::Text, " to run it."),
            ])];
        }
        ConsentRequest::Word(word) => word.to_owned(),
        ConsentRequest::Name(name) => name,
    };
    let mut lines = Vec::new();
    if let Some(problem) = &dialog.problem {
        for line in format::wrap(problem, width) {
            lines.push(Line::from(span(look, Role::Critical, line)));
        }
    }
    let mut question = Line::from(vec![
        span(look, Role::Text, "Type "),
        span(look, Role::Key, expected.clone()),
        span(look, Role::Text, " and press Enter: "),
    ]);
    // The answer may grow a little longer than what is expected before it is cut.
    let room = format::width(&expected) + 4;
    let answer = if question.width() + room <= width {
        &mut question
    } else {
        lines.push(question);
        question = Line::from(span(look, Role::Dim, format!("{} ", look.glyphs.cursor)));
        &mut question
    };
    let left = width.saturating_sub(answer.width() + 1);
    let shown = format::cut(&dialog.answer, left, look.glyphs.ellipsis);
    answer.push_span(span(look, Role::Title, shown));
    answer.push_span(span(look, Role::Cursor, " "));
    lines.push(question);
    lines
}
