//! The list of a sweep: switching names, and the way back to the plan.

use crate::actions::Request;
use crate::domain::reading::Reading;
use crate::domain::sweep::{Class, NameToKeep};
use crate::tui::effect::{Effect, Wish};
use crate::tui::layout;
use crate::tui::list_state;
use crate::tui::model::Model;
use crate::tui::overlay::{Body, Overlay};
use crate::tui::sweep_list::SweepList;

use super::actions;

/// The list, if it is on top.
pub fn on_top(model: &mut Model) -> Option<&mut SweepList> {
    match &mut model.overlays.last_mut()?.body {
        Body::SweepList(list) => Some(list),
        _ => None,
    }
}

/// Shows every name of the sweep in the dialog.
pub fn open(model: &mut Model) -> Vec<Effect> {
    if let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last()
        && let Some(dir) = dialog.listed()
        && let Some(list) = SweepList::new(dir, dialog.targets.clone())
    {
        model.overlays.push(Body::SweepList(Box::new(list)).into());
    }
    Vec::new()
}

/// Switches the row under the cursor and steps down.
pub fn switch(model: &mut Model) -> Vec<Effect> {
    let Some(list) = on_top(model) else { return Vec::new() };
    match list.switch() {
        Ok(()) => list.index = (list.index + 1).min(list.rows().saturating_sub(1)),
        Err(why) => model.notice = Some(why),
    }
    Vec::new()
}

/// Switches a class.
pub fn switch_class(model: &mut Model, class: Class) -> Vec<Effect> {
    if let Some(list) = on_top(model) {
        list.switch_class(class);
    }
    Vec::new()
}

/// Switches the directories of root.
pub fn switch_root(model: &mut Model) -> Vec<Effect> {
    if let Some(list) = on_top(model) {
        list.switch_root();
    }
    Vec::new()
}

/// Plans to keep the name under the cursor for good.
pub fn keep(model: &mut Model) -> Vec<Effect> {
    let Some(list) = on_top(model) else { return Vec::new() };
    let Some(name) = list.current().map(|one| one.name.clone()) else {
        model.notice = Some("What is listed here stays in any case.".to_owned());
        return Vec::new();
    };
    actions::ask(model, Wish::Other(Request::KeepName(NameToKeep { name, place: Reading::Pending })))
}

/// Back to the dialog; its plan is made anew if something was switched.
pub fn done(model: &mut Model) -> Vec<Effect> {
    let list = match model.overlays.pop() {
        Some(Overlay { body: Body::SweepList(list), .. }) => list,
        Some(other) => {
            model.overlays.push(other);
            return Vec::new();
        }
        None => return Vec::new(),
    };
    if !list.changed {
        return Vec::new();
    }
    // The dialog below is about what was on before.
    model.overlays.pop();
    let (dir, targets) = list.into_target();
    actions::ask(model, Wish::Sweep { dir: Box::new(dir), targets })
}

/// Brings the cursor into sight.
pub fn settle(model: &mut Model) {
    let height = layout::sweep_rows(model.size);
    if let Some(list) = on_top(model) {
        list.offset = list_state::reveal(list.offset, list.index, height, list.rows());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Risk;
    use crate::domain::receipt::Outcome;
    use crate::domain::sweep::{LeftOut, SweepTarget};
    use crate::tui::effect::Target;
    use crate::tui::event::{Event, Ticket};
    use crate::tui::key::Key;
    use crate::tui::keymap::Context;
    use crate::tui::test_models::{basket_receipt, planned, receipt, sweeping, swept, to_sweep};
    use crate::tui::update::update;

    fn press(model: &mut Model, keys: &[Key]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for key in keys {
            effects.extend(update(model, Event::Key(*key)));
            update(model, Event::Drawn);
        }
        effects
    }

    fn console() -> Model {
        sweeping((80, 24), &to_sweep())
    }

    /// Leaves the list and gives what is planned anew.
    fn planned_anew(model: &mut Model, key: Key) -> (Ticket, SweepTarget) {
        let mut effects = press(model, &[key]);
        let Some(Effect::Plan { ticket, wish: Wish::Sweep { dir, .. } }) = effects.pop() else {
            panic!("{effects:?}")
        };
        (ticket, *dir)
    }

    fn risk_and_count(model: &Model) -> (Risk, u64) {
        let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last() else { panic!() };
        let goes = dialog.sweeps[0].list.value().unwrap().all().count;
        (dialog.basket.risk(), goes)
    }

    #[test]
    fn the_list_opens_over_the_dialog_and_letters_still_go_into_the_answer() {
        let mut model = console();
        assert_eq!(model.context(), Context::ConfirmSweep);
        press(&mut model, &[Key::Char('y'), Key::Char('e'), Key::Tab]);
        assert_eq!(model.context(), Context::SweepList);
        for leave in [Key::Esc, Key::Enter, Key::Tab, Key::Char('q')] {
            assert!(press(&mut model, &[leave]).is_empty(), "nothing was switched");
            let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last() else { panic!() };
            assert_eq!(dialog.answer, "ye");
            press(&mut model, &[Key::Tab]);
        }
        press(&mut model, &[Key::Esc]);
        let effects = press(&mut model, &[Key::Char('s'), Key::Enter]);
        assert!(matches!(effects[..], [Effect::Run(_)]), "{effects:?}");
    }

    #[test]
    fn what_is_switched_makes_another_plan_and_a_precious_name_another_risk() {
        let mut model = console();
        let (before, goes) = risk_and_count(&model);
        assert_eq!((before, goes), (Risk::Disruptive, 19));
        // core.2231 is left out, id_rsa goes.
        press(&mut model, &[Key::Tab, Key::Char(' '), Key::Down, Key::Down, Key::Down, Key::Char(' ')]);
        let (ticket, dir) = planned_anew(&mut model, Key::Enter);
        assert!(matches!(model.overlays.last().unwrap().body, Body::Planning(_)));
        let list = dir.list.value().unwrap();
        assert_eq!(list.candidates[0].left_out, Some(LeftOut::SwitchedOff));
        assert_eq!(list.candidates[4].left_out, None);
        let event = swept(&model, ticket, &dir);
        update(&mut model, event);
        assert_eq!(risk_and_count(&model), (Risk::Destructive, 19));
        // What was typed was for another plan.
        let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last() else { panic!() };
        assert!(dialog.answer.is_empty() && !dialog.seen);
    }

    #[test]
    fn digits_switch_classes_and_those_of_root() {
        let count = |keys: &[char]| {
            let mut model = console();
            press(&mut model, &[Key::Tab]);
            press(&mut model, &keys.iter().map(|&key| Key::Char(key)).collect::<Vec<_>>());
            on_top(&mut model).unwrap().goes().count
        };
        assert_eq!(count(&[]), 19);
        assert_eq!(count(&['1']), 4);
        assert_eq!(count(&['2']), 17);
        assert_eq!(count(&['3']), 17);
        assert_eq!(count(&['0']), 21);
        assert_eq!(count(&['r']), 21);
        assert_eq!(count(&['1', '1', '0', '0']), 19);
    }

    #[test]
    fn one_of_root_is_not_switched_alone_and_what_stays_not_at_all() {
        let mut model = console();
        press(&mut model, &[Key::Tab, Key::Down, Key::Down, Key::Down, Key::Down, Key::Down, Key::Char(' ')]);
        assert!(model.notice.as_ref().unwrap().contains("0 switches"), "{:?}", model.notice);
        press(&mut model, &[Key::End, Key::Char(' ')]);
        assert!(model.notice.as_ref().unwrap().contains("stays in any case"), "{:?}", model.notice);
        assert!(press(&mut model, &[Key::Char('K')]).is_empty());
        assert!(model.notice.is_some());
        assert!(press(&mut model, &[Key::Esc]).is_empty());
    }

    #[test]
    fn a_name_is_kept_by_a_plan_of_its_own() {
        let mut model = console();
        let effects = press(&mut model, &[Key::Tab, Key::Down, Key::Char('K')]);
        let [Effect::Plan { ticket, wish: Wish::Other(Request::KeepName(wanted)) }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(wanted.name.to_string(), "pip-unpack-1x");
        let place = crate::domain::sweep::KeepPlace { file: "/c.toml".into(), new: false, list: Vec::new() };
        let request = Request::KeepName(NameToKeep { place: Reading::ready(place), ..wanted.clone() });
        let plan = crate::actions::plan(&request, &model.snapshot, &model.settings);
        update(&mut model, planned(*ticket, vec![plan.clone()], Vec::new()));
        update(&mut model, Event::Drawn);
        assert_eq!(model.context(), Context::ConfirmKey);
        press(&mut model, &[Key::Esc]);
        assert_eq!(model.context(), Context::SweepList, "back to the list");

        press(&mut model, &[Key::Char('K')]);
        let Some(Overlay { body: Body::Planning(ticket), .. }) = model.overlays.last() else { panic!() };
        let ticket = *ticket;
        update(&mut model, planned(ticket, vec![plan.clone()], Vec::new()));
        update(&mut model, Event::Drawn);
        let effects = press(&mut model, &[Key::Char('y')]);
        assert!(matches!(effects[..], [Effect::Run(_)]), "{effects:?}");
        let done = basket_receipt(vec![receipt(&plan, vec![Outcome::Done { count: 1 }])]);
        update(&mut model, Event::Ran(Box::new(done)));
        assert!(model.notice.as_ref().unwrap().contains("plan the sweep again"), "{:?}", model.notice);
    }

    #[test]
    fn where_nothing_goes_the_list_is_still_at_hand() {
        let mut dir = to_sweep();
        if let Reading::Ready { value } = &mut dir.list {
            value.candidates.retain(|one| one.of_root);
        }
        let mut model = sweeping((80, 24), &dir);
        assert_eq!(model.context(), Context::NoSweep);
        press(&mut model, &[Key::Tab, Key::Char('0')]);
        let (ticket, dir) = planned_anew(&mut model, Key::Esc);
        let event = swept(&model, ticket, &dir);
        update(&mut model, event);
        assert_eq!(model.context(), Context::ConfirmSweep);
        assert_eq!(risk_and_count(&model).1, 2);
    }

    #[test]
    fn a_long_list_is_made_row_by_row() {
        let mut dir = to_sweep();
        if let Reading::Ready { value } = &mut dir.list {
            let one = value.candidates[0].clone();
            value.candidates = vec![one; 100_000];
        }
        let mut model = sweeping((80, 24), &dir);
        press(&mut model, &[Key::Tab, Key::End, Key::PageUp]);
        let rows = layout::sweep_rows(model.size);
        let list = on_top(&mut model).unwrap();
        assert_eq!((list.index, list.rows()), (100_003 - rows, 100_004));
        assert!(list.offset <= list.index && list.index < list.offset + rows);
    }

    #[test]
    fn a_swept_row_of_the_tree_is_scanned_again() {
        let mut model = console();
        let pick = model.tree.pick(model.tree.current().unwrap()).unwrap();
        let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last_mut() else { panic!() };
        dialog.targets = vec![Target { path: "/tmp".into(), pick: pick.clone() }];
        let plan = dialog.basket.parts[0].clone();
        // They are still known when the plan is made anew.
        press(&mut model, &[Key::Tab, Key::Char(' ')]);
        let effects = press(&mut model, &[Key::Enter]);
        let [Effect::Plan { wish: Wish::Sweep { targets, .. }, .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(targets.len(), 1);

        let mut model = console();
        let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last_mut() else { panic!() };
        dialog.targets = vec![Target { path: "/tmp".into(), pick: pick.clone() }];
        press(&mut model, &"yes".chars().map(Key::Char).collect::<Vec<_>>());
        press(&mut model, &[Key::Enter]);
        let done = basket_receipt(vec![receipt(&plan, vec![Outcome::Done { count: 19 }])]);
        let effects = update(&mut model, Event::Ran(Box::new(done)));
        let again =
            effects.iter().any(|effect| matches!(effect, Effect::Rescan { dir, .. } if *dir == pick.node));
        assert!(again && !effects.iter().any(|effect| matches!(effect, Effect::Forget(_))), "{effects:?}");
    }
}
