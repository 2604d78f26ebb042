//! The dialog before a run: exactly what will run, what it frees, what it risks, what protects, what was
//! refused, and what to do to agree.

use std::collections::BTreeSet;

use ratatui::text::Line;

use crate::domain::basket::Basket;
use crate::domain::consent::ConsentRequest;
use crate::domain::finding::Reclaim;
use crate::domain::op::Op;
use crate::domain::own_command::OwnCommand;
use crate::domain::plan::{OnError, Plan, Refusal, Risk, Step, When};
use crate::domain::sweep::Sweep;
use crate::tui::format;
use crate::tui::model::Model;
use crate::tui::overlay::{Aim, Dialog};
use crate::tui::theme::{self, Role};

use super::pane::span;
use super::sheet::Sheet;
use super::sweep;
use super::text::Text;

/// The dialog.
pub fn sheet(model: &Model, dialog: &Dialog, width: usize) -> Sheet {
    let basket = &*dialog.basket;
    let mut text = Text::new(model.look, width);
    let swept = basket.parts.first().filter(|_| basket.parts.len() == 1).and_then(sweep_of);
    if let Some(aim) = &dialog.aim {
        goal(&mut text, aim);
    }
    if !basket.is_empty() || dialog.aim.is_none() {
        text.para(&summary(basket, swept.is_some()), Role::Title);
    }
    if !basket.is_empty() {
        text.blank();
        let risk = basket.risk();
        text.field("Risk", &format!("{risk}: {}", meaning(risk)), theme::risk(risk));
        frees(&mut text, basket);
        if let [only] = basket.parts.as_slice() {
            text.field("Undo", &only.undo.to_string(), Role::Text);
        }
    }
    if let Some(sweep) = swept.or_else(|| dialog.listed()?.list.value()) {
        sweep::about(&mut text, model, sweep, width);
    }
    // First what was asked for and will not happen: easily missed below a long list.
    refused(&mut text, dialog);
    if !basket.is_empty() {
        match basket.parts.as_slice() {
            [_] if swept.is_some() => {}
            [only] => {
                let count = only.steps.len();
                text.heading(&format!("What runs ({} {})", count, format::plural(count, "step", "steps")));
                commands(&mut text, only);
            }
            _ => parts(&mut text, model, basket, width),
        }
        if let [Plan { again: Some(line), .. }] = basket.parts.as_slice() {
            text.blank();
            again(&mut text, line);
        }
        text.heading("What protects you");
        let mut guards: Vec<_> = basket.parts.iter().flat_map(Plan::guards).collect();
        guards.sort_unstable();
        guards.dedup();
        for guard in guards {
            text.bullet(&guard.to_string(), Role::Text);
        }
        if basket.parts.iter().flat_map(|plan| &plan.steps).any(|step| step.on_error == OnError::Stop) {
            text.bullet("where a step fails on which others build, these are not run", Role::Text);
        }
    }
    let told: Vec<&String> = dialog.aim.iter().flat_map(|aim| &aim.missing).collect();
    let of_plans = basket.parts.iter().flat_map(|plan| &plan.unknown);
    gaps(&mut text, of_plans.filter(|gap| !told.contains(gap)));
    let role = if basket.is_empty() { Role::Title } else { theme::risk(basket.risk()) };
    Sheet { title: title(basket), role, lines: text.into_lines(), prompt: prompt(model, dialog, width) }
}

/// What it does; of a sweep the table below says how much.
fn summary(basket: &Basket, swept: bool) -> String {
    match basket.parts.first().and_then(|plan| plan.steps.first()).map(|step| &step.op) {
        Some(Op::Sweep { path, .. }) if swept => format!("sweep {path}"),
        Some(_) | None => basket.summary(),
    }
}

fn title(basket: &Basket) -> String {
    match basket.parts.as_slice() {
        [] => "Nothing to do".to_owned(),
        [only] => format!("Plan {}", super::explain::action(only.action)),
        many => format!("Basket of {} plans", many.len()),
    }
}

/// What a basket was chosen for, and whether it is enough.
fn goal(text: &mut Text, aim: &Aim) {
    let Aim { goal, promised, .. } = aim;
    text.para(&format!("{} wanted on {}", goal.bytes, goal.mount_point), Role::Title);
    let promised = if *promised == Reclaim::Nothing { "nothing".to_owned() } else { promised.to_string() };
    if aim.reaches {
        text.para(&format!("The safest steps that reach it give back {promised}."), Role::Good).blank();
        return;
    }
    let sure = "It is not sure to be reached without losing data";
    text.para(&format!("{sure}: what can be done gives back {promised}."), Role::Warning);
    if let Some(next) = &aim.next {
        let step = format!("The next step would be {}: {}, {}.", next.risk, next.summary, next.reclaim);
        text.para(&step, Role::Text);
    }
    text.blank();
}

/// What comes back where.
fn frees(text: &mut Text, basket: &Basket) {
    let mut label = "Frees";
    for total in basket.totals.iter().filter(|total| total.and_more || total.reclaim != Reclaim::Nothing) {
        let more = match (total.and_more, total.reclaim) {
            (true, Reclaim::Nothing) => "nobody can say how much".to_owned(),
            (true, known) => format!("{known}, and more that nobody can tell"),
            (false, known) => known.to_string(),
        };
        let place = total.mount_point.as_ref().map_or_else(String::new, |place| format!(" on {place}"));
        text.field(label, &format!("{more}{place}"), Role::Text);
        label = "";
    }
    if label == "Frees" {
        text.field(label, &basket.reclaim().to_string(), Role::Text);
    }
}

/// Every plan of a basket: first all of them in short, then each with its steps.
fn parts(text: &mut Text, model: &Model, basket: &Basket, width: usize) {
    text.heading("In this order");
    for (number, plan) in (1..).zip(&basket.parts) {
        let front = format!("{number:>2}  ");
        text.hang(&front, Role::Dim, &plan.summary, Role::Text);
        let about = format!("{}, frees {}", plan.risk, plan.reclaim);
        text.hang("    ", Role::Dim, &about, theme::risk(plan.risk));
    }
    if !basket.once.is_empty() {
        text.heading("Asked for more than once, done once");
        for once in &basket.once {
            text.bullet(&format!("{}: {}", once.what, once.why), Role::Text);
        }
    }
    for (number, plan) in (1..).zip(&basket.parts) {
        text.heading(&format!("{number}. {}", plan.summary));
        let about = format!("{}, frees {}; {}", plan.risk, plan.reclaim, plan.undo);
        text.para(&about, theme::risk(plan.risk));
        commands(text, plan);
        if let Some(sweep) = sweep_of(plan) {
            sweep::about(text, model, sweep, width);
        }
        if let Some(line) = &plan.again {
            again(text, line);
        }
    }
}

/// What a plan sweeps, if that is one directory and all it does.
fn sweep_of(plan: &Plan) -> Option<&Sweep> {
    match plan.steps.as_slice() {
        [Step { op: Op::Sweep { sweep, .. }, .. }] => Some(sweep),
        _ => None,
    }
}

/// The line that makes the same plan again.
pub fn again(text: &mut Text, line: &OwnCommand) {
    text.hang("From a shell: ", Role::Dim, &line.to_string(), Role::Command);
}

/// What a risk means for the person.
fn meaning(risk: Risk) -> &'static str {
    match risk {
        Risk::Routine => "nothing is lost, it regenerates itself",
        Risk::Disruptive => "interrupts work or costs a rebuild",
        Risk::Destructive => "data is gone for good",
    }
}

fn refused(text: &mut Text, dialog: &Dialog) {
    let of_plans = dialog.basket.parts.iter().flat_map(|plan| &plan.refused);
    let of_aim = dialog.aim.iter().flat_map(|aim| &aim.left_out);
    let all: Vec<&Refusal> = dialog.basket.refused.iter().chain(of_plans).chain(of_aim).collect();
    if !all.is_empty() {
        text.heading(&format!("Not done ({})", all.len()));
    }
    for refusal in all {
        text.bullet(&format!("{}: {}", refusal.what, refusal.why), Role::Warning);
    }
    gaps(text, dialog.aim.iter().flat_map(|aim| &aim.missing));
}

/// What could not be looked at, each once.
fn gaps<'g>(text: &mut Text, gaps: impl Iterator<Item = &'g String>) {
    let gaps: BTreeSet<&String> = gaps.collect();
    if !gaps.is_empty() {
        text.heading("Not known");
    }
    for gap in gaps {
        text.bullet(gap, Role::Unknown);
    }
}

/// Every step as `Display for Op` prints it, which is what the journal carries too.
pub fn commands(text: &mut Text, plan: &Plan) {
    let digits = plan.steps.len().to_string().len();
    let mut last_why = "";
    for (number, step) in (1..).zip(&plan.steps) {
        let front = format!("{number:>digits$}  ");
        text.hang(&front, Role::Dim, &step.op.words(), Role::Command);
        let indent = " ".repeat(digits + 2);
        if step.why != last_why {
            text.hang(&indent, Role::Dim, &step.why, Role::Dim);
            last_why = &step.why;
        }
        match step.when {
            When::Always => {}
            When::Restores => {
                let when = "also where the run is cancelled or a step fails, once its counterpart has begun";
                text.hang(&indent, Role::Dim, when, Role::Dim);
            }
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
    let mut lines = Vec::new();
    if dialog.listed().is_some() {
        lines.push(Line::from(vec![
            span(look, Role::Key, "Tab"),
            span(look, Role::Text, " lists every name, on or off"),
        ]));
    }
    if dialog.basket.is_empty() {
        return lines;
    }
    let expected = match dialog.basket.consent_request() {
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
    lines.extend(typed(model, &expected, (&dialog.answer, dialog.problem.as_deref()), width));
    lines
}

/// Asks for something typed.
pub fn typed(
    model: &Model,
    expected: &str,
    (answer, problem): (&str, Option<&str>),
    width: usize,
) -> Vec<Line<'static>> {
    let look = &model.look;
    let mut lines = Vec::new();
    if let Some(problem) = problem {
        for line in format::wrap(problem, width) {
            lines.push(Line::from(span(look, Role::Critical, line)));
        }
    }
    let mut question = Line::from(vec![
        span(look, Role::Text, "Type "),
        span(look, Role::Key, expected.to_owned()),
        span(look, Role::Text, " and press Enter: "),
    ]);
    // The answer may grow a little longer than what is expected before it is cut.
    let room = format::width(expected) + 4;
    let line = if question.width() + room <= width {
        &mut question
    } else {
        lines.push(question);
        question = Line::from(span(look, Role::Dim, format!("{} ", look.glyphs.cursor)));
        &mut question
    };
    let left = width.saturating_sub(line.width() + 1);
    let shown = format::cut(answer, left, look.glyphs.ellipsis);
    line.push_span(span(look, Role::Title, shown));
    line.push_span(span(look, Role::Cursor, " "));
    lines.push(question);
    lines
}
