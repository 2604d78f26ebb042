//! Whole screens as text, for people to look at, and for changes to show.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Modifier;

use super::view;
use crate::actions::Request;
use crate::domain::basket::{Basket, Goal};
use crate::domain::catalogue::Again;
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::plan::Risk;
use crate::domain::reading::{Millis, Reading};
use crate::domain::receipt::Outcome;
use crate::domain::reclaim::Next;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{MountCensus, SnapshotPart, Usage};
use crate::domain::sweep::{KeepPlace, NameToKeep};
use crate::exec;
use crate::tui::event::Event;
use crate::tui::key::Key;
use crate::tui::model::{Model, Pane};
use crate::tui::overlay::{Aim, Body, Dialog, Overlay};
use crate::tui::test_models::{
    COLOUR, PLAIN, basket_receipt, delete_plan, findings, fresh, ledger, listing, parts, planned, receipt,
    show, sweeping, to_sweep, trouble, unmount_plan,
};
use crate::tui::update::update;

/// The screen as text, every line with its end marked.
fn screen(model: &Model) -> String {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    terminal.draw(|frame| view(model, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..model.size.1 {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..model.size.0 {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn press(model: &mut Model, keys: &[Key]) {
    for key in keys {
        update(model, Event::Key(*key));
        update(model, Event::Drawn);
    }
}

#[test]
fn waiting_for_what_must_never_be_touched() {
    let mut model = fresh((80, 24), COLOUR);
    let scan = model.tree.scan;
    update(&mut model, Event::ScanStarted { scan, root: crate::scan::NodeId(0) });
    show(&mut model, listing(), true);
    press(&mut model, &[Key::Char('d')]);
    insta::assert_snapshot!("waiting_80x24", screen(&model));
}

fn confirm(model: &mut Model, plan: crate::domain::plan::Plan) {
    let dialog = Dialog {
        basket: Box::new(Basket::new(vec![plan], &[])),
        aim: None,
        targets: Vec::new(),
        sweeps: Vec::new(),
        answer: String::new(),
        problem: None,
        seen: true,
    };
    model.overlays.push(Overlay::from(Body::Confirm(dialog)));
    update(model, Event::Drawn);
}

#[test]
fn trouble_at_every_size() {
    for size in [(40, 12), (60, 15), (80, 24), (120, 40), (160, 45)] {
        let name = format!("trouble_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, screen(&trouble(size, COLOUR)));
    }
}

#[test]
fn trouble_in_ascii_without_colour() {
    for size in [(40, 12), (80, 24), (120, 40)] {
        let model = trouble(size, PLAIN);
        let text = screen(&model);
        // The one name that is not ASCII is the machine's; a terminal that cannot show it is none of ours.
        let ours: String = text.lines().filter(|line| !line.contains('語')).collect();
        assert!(ours.is_ascii(), "{ours}");
        insta::assert_snapshot!(format!("ascii_{}x{}", size.0, size.1), text);
    }
}

#[test]
fn without_colour_only_attributes_are_used() {
    let mut model = trouble((120, 40), PLAIN);
    press(&mut model, &[Key::Char(' ')]);
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    terminal.draw(|frame| view(&model, frame)).unwrap();
    let cells = terminal.backend().buffer().content();
    assert!(
        cells.iter().all(|cell| {
            cell.fg == ratatui::style::Color::Reset && cell.bg == ratatui::style::Color::Reset
        })
    );
    assert!(cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn before_anything_answered() {
    insta::assert_snapshot!("fresh_80x24", screen(&fresh((80, 24), COLOUR)));
    insta::assert_snapshot!("fresh_120x40", screen(&fresh((120, 40), COLOUR)));
}

#[test]
fn while_scanning_with_marks() {
    let mut model = trouble((80, 24), COLOUR);
    let mut growing = listing();
    growing.rows[0].flags.scanning = true;
    growing.dir.flags.scanning = true;
    show(&mut model, growing, false);
    press(&mut model, &[Key::Down, Key::Char(' '), Key::Char(' ')]);
    insta::assert_snapshot!("scanning_80x24", screen(&model));
}

#[test]
fn each_pane_at_80x24() {
    for (key, name) in [('2', "findings"), ('3', "mounts"), ('4', "processes"), ('5', "deleted")] {
        let mut model = trouble((80, 24), COLOUR);
        press(&mut model, &[Key::Char(key), Key::Char(' '), Key::Down]);
        insta::assert_snapshot!(format!("pane_{name}_80x24"), screen(&model));
    }
}

#[test]
fn nothing_found_is_said_only_when_everything_was_read() {
    let mut model = trouble((120, 40), COLOUR);
    update(&mut model, Event::Found(Vec::new()));
    let none = MountCensus { namespaces: 3, total: 90, build_mounts: Vec::new() };
    update(&mut model, Event::Probed(Box::new(SnapshotPart::Mounts(Reading::ready(none)))));
    let hint = "run as root to see the files of other users".to_owned();
    update(&mut model, Event::Probed(Box::new(SnapshotPart::Deleted(Reading::Denied { hint }))));
    update(&mut model, Event::Probed(Box::new(SnapshotPart::Processes(Reading::ready(Vec::new())))));
    let text = screen(&model);
    assert!(!text.contains("Nothing found"), "{text}");
    assert!(text.contains("run as root"), "{text}");
    insta::assert_snapshot!("gaps_120x40", text);
    update(&mut model, Event::Probed(Box::new(SnapshotPart::Deleted(Reading::ready(Vec::new())))));
    assert!(screen(&model).contains("Nothing found"));
}

#[test]
fn overlays() {
    for size in [(80, 24), (40, 12)] {
        let tag = format!("{}x{}", size.0, size.1);
        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('?')]);
        insta::assert_snapshot!(format!("help_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('i')]);
        insta::assert_snapshot!(format!("info_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('L')]);
        insta::assert_snapshot!(format!("ledger_unknown_{tag}"), screen(&model));
        let scan = model.tree.scan;
        update(&mut model, Event::Accounted { scan, outcome: Some(Ok(Box::new(ledger()))) });
        insta::assert_snapshot!(format!("ledger_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('2'), Key::Down, Key::Enter]);
        let Some(Overlay { body: Body::Finding { ticket, .. }, .. }) = model.overlays.last() else {
            panic!()
        };
        let ticket = *ticket;
        update(&mut model, planned(ticket, vec![unmount_plan()], Vec::new()));
        insta::assert_snapshot!(format!("finding_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('4'), Key::Enter]);
        insta::assert_snapshot!(format!("process_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        confirm(&mut model, delete_plan());
        press(&mut model, &[Key::Char('2'), Key::Enter]);
        insta::assert_snapshot!(format!("confirm_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        confirm(&mut model, unmount_plan());
        press(&mut model, &[Key::PageDown]);
        insta::assert_snapshot!(format!("confirm_many_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        confirm(&mut model, delete_plan());
        press(&mut model, &"2 items".chars().map(Key::Char).collect::<Vec<_>>());
        press(&mut model, &[Key::Enter]);
        let progress = exec::Progress {
            number: 0,
            step: 0,
            steps: 2,
            elapsed: Millis(2_000),
            left: Some(Millis(64_000)),
            op: "delete /var/lib/buildkit and all in it".to_owned(),
            done: 99_000,
            expected: Some(312_004),
            unit: exec::Unit::Entries,
        };
        update(&mut model, Event::Running(progress));
        insta::assert_snapshot!(format!("running_{tag}"), screen(&model));
        press(&mut model, &[Key::Char('q')]);
        insta::assert_snapshot!(format!("quit_{tag}"), screen(&model));

        let outcomes = vec![
            Outcome::Done { count: 312_004 },
            Outcome::Skipped { why: "another file has that name now (inode 9, was 7)".to_owned() },
        ];
        update(&mut model, Event::Ran(Box::new(basket_receipt(vec![receipt(&delete_plan(), outcomes)]))));
        insta::assert_snapshot!(format!("receipt_{tag}"), screen(&model));
    }
}

#[test]
fn menus() {
    for size in [(80, 24), (100, 30)] {
        let mut model = trouble(size, COLOUR);
        model.findings[1].actions.push(ActionId::RepairBuilds);
        press(&mut model, &[Key::Char('2'), Key::Down, Key::Char('x'), Key::Down]);
        insta::assert_snapshot!(format!("menu_{}x{}", size.0, size.1), screen(&model));

        // A file that can go elsewhere.
        let mut model = trouble(size, COLOUR);
        let mut filesystems = model.snapshot.filesystems.value().unwrap().clone();
        let mut data = filesystems[0].clone();
        data.mount_point = "/srv/data".into();
        data.dev.minor = 17;
        data.usage = Reading::ready(Usage {
            available: Bytes(400 << 30),
            total: Bytes(500 << 30),
            ..Usage::default()
        });
        filesystems.push(data);
        update(&mut model, Event::Probed(Box::new(SnapshotPart::FileSystems(Reading::ready(filesystems)))));
        press(&mut model, &[Key::Down, Key::Down, Key::Char('x'), Key::Down]);
        insta::assert_snapshot!(format!("menu_rows_{}x{}", size.0, size.1), screen(&model));
    }
}

#[test]
fn sweeps() {
    for size in [(80, 24), (100, 30), (40, 12)] {
        let tag = format!("{}x{}", size.0, size.1);
        let mut model = sweeping(size, &to_sweep());
        insta::assert_snapshot!(format!("sweep_{tag}"), screen(&model));
        press(&mut model, &[Key::PageDown]);
        insta::assert_snapshot!(format!("sweep_end_{tag}"), screen(&model));
        press(&mut model, &[Key::Tab, Key::Char(' '), Key::Down, Key::Char(' '), Key::Char('3')]);
        insta::assert_snapshot!(format!("sweep_list_{tag}"), screen(&model));
        press(&mut model, &[Key::End]);
        insta::assert_snapshot!(format!("sweep_list_end_{tag}"), screen(&model));

        let mut nothing = to_sweep();
        if let Reading::Ready { value } = &mut nothing.list {
            value.candidates.retain(|one| one.left_out.is_some());
        }
        insta::assert_snapshot!(format!("sweep_nothing_{tag}"), screen(&sweeping(size, &nothing)));

        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('x')]);
        insta::assert_snapshot!(format!("menu_dir_{tag}"), screen(&model));
        press(&mut model, &[Key::Down, Key::Enter, Key::Char('1'), Key::Char('m'), Key::Enter]);
        insta::assert_snapshot!(format!("question_age_{tag}"), screen(&model));
        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Down, Key::Down, Key::Char('x'), Key::Down, Key::Enter]);
        insta::assert_snapshot!(format!("question_lines_{tag}"), screen(&model));

        let mut model = sweeping(size, &to_sweep());
        let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last() else { panic!() };
        let mut done = receipt(&dialog.basket.parts[0], vec![Outcome::Done { count: 13_174 }]);
        let list = dialog.sweeps[0].list.value().unwrap();
        done.steps[0].gone = list.goes().map(|one| one.name.clone()).collect();
        model.overlays.push(Overlay::from(Body::Receipt(Box::new(basket_receipt(vec![done])))));
        insta::assert_snapshot!(format!("sweep_receipt_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        let place =
            KeepPlace { file: "/etc/unwedge/config.toml".into(), new: false, list: vec!["go-*".to_owned()] };
        let wanted = NameToKeep { name: "a[1]*.tmp".into(), place: Reading::ready(place) };
        let plan = crate::actions::plan(&Request::KeepName(wanted), &model.snapshot, &model.settings);
        confirm(&mut model, plan);
        insta::assert_snapshot!(format!("keep_name_{tag}"), screen(&model));
    }
}

#[test]
fn baskets() {
    for size in [(80, 24), (100, 30)] {
        let tag = format!("{}x{}", size.0, size.1);
        let plans = vec![unmount_plan(), delete_plan()];
        let basket = || Box::new(Basket::new(plans.clone(), &[]));
        let dialog = |aim| Dialog {
            basket: basket(),
            aim,
            targets: Vec::new(),
            sweeps: Vec::new(),
            answer: String::new(),
            problem: None,
            seen: true,
        };
        let mut model = trouble(size, COLOUR);
        model.overlays.push(Overlay::from(Body::Confirm(dialog(None))));
        insta::assert_snapshot!(format!("basket_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        press(&mut model, &[Key::Char('R'), Key::Char('8')]);
        insta::assert_snapshot!(format!("goal_{tag}"), screen(&model));

        let aim = Aim {
            goal: Goal { mount_point: "/".into(), bytes: Bytes(20 << 30) },
            promised: basket().reclaim(),
            reaches: false,
            next: Some(Next {
                summary: "empty the trash of al".to_owned(),
                risk: Risk::Destructive,
                again: Again::Never,
                reclaim: Reclaim::exact(Bytes(9 << 30)),
            }),
            left_out: Vec::new(),
            missing: vec!["/root: permission denied".to_owned()],
        };
        let mut model = trouble(size, COLOUR);
        model.overlays.push(Overlay::from(Body::Confirm(dialog(Some(Box::new(aim))))));
        insta::assert_snapshot!(format!("goal_plan_{tag}"), screen(&model));

        let mut model = trouble(size, COLOUR);
        let failed = Outcome::Failed { why: "could not unmount it: Device or resource busy".to_owned() };
        let mut outcomes = vec![Outcome::Done { count: 1 }; 24];
        outcomes[7] = failed;
        let done = vec![Outcome::Done { count: 312_004 }, Outcome::Cancelled { count: 12 }];
        let parts = vec![receipt(&unmount_plan(), outcomes), receipt(&delete_plan(), done)];
        model.overlays.push(Overlay::from(Body::Receipt(Box::new(basket_receipt(parts)))));
        insta::assert_snapshot!(format!("basket_receipt_{tag}"), screen(&model));
    }
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    insta::assert_snapshot!("small_39x12", screen(&trouble((39, 12), COLOUR)));
    for size in [(1, 1), (3, 2), (12, 5), (39, 40), (200, 11)] {
        screen(&trouble(size, COLOUR));
    }
}

#[test]
fn nothing_from_the_machine_reaches_the_terminal_unescaped() {
    for pane in Pane::ALL {
        let mut model = trouble((120, 40), COLOUR);
        model.focus = pane;
        model.zoomed = true;
        assert!(screen(&model).chars().all(|c| c == '\n' || !c.is_control()));
    }
    let _ = (parts(), findings());
}
