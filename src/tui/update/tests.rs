//! Key scripts and properties of `update`.

use std::sync::Arc;

use proptest::prelude::*;

use super::update;
use crate::actions::Request;
use crate::domain::engines::{Content, Engine, EngineKind, Volume};
use crate::domain::finding::ActionId;
use crate::domain::receipt::Outcome;
use crate::domain::size::Bytes;
use crate::domain::snapshot::SnapshotPart;
use crate::domain::snapshot::{MountCensus, Usage, Verdict};
use crate::domain::text::HostPath;
use crate::domain::{identity::FileKind, reading::Reading};
use crate::scan::{Listing, NodeId, Page, Progress, SortKey};
use crate::tui::effect::{Effect, Exit, Pick, Target, Wish};
use crate::tui::event::{EndSignal, Event, Listed, Ticket};
use crate::tui::key::Key;
use crate::tui::keymap::Context;
use crate::tui::layout;
use crate::tui::menu::Choice;
use crate::tui::model::{Model, Pane};
use crate::tui::overlay::{Body, Overlay};
use crate::tui::test_models::{
    COLOUR, basket_receipt, delete_plan, fresh, inside, ledger, listing, mount, page, parts,
    planned as planned_event, protected, receipt, row, show, trouble, unmount_plan,
};

/// Presses keys, each with a frame drawn after it, and collects the effects.
fn press(model: &mut Model, keys: &[Key]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for key in keys {
        effects.extend(update(model, Event::Key(*key)));
        update(model, Event::Drawn);
    }
    effects
}

fn type_in(model: &mut Model, text: &str) -> Vec<Effect> {
    press(model, &text.chars().map(Key::Char).collect::<Vec<_>>())
}

fn console() -> Model {
    trouble((80, 24), COLOUR)
}

/// Presses `d` on what is chosen and answers with a plan whose targets are the picks.
fn planned(model: &mut Model) -> Vec<Pick> {
    let effects = press(model, &[Key::Char('d')]);
    let [Effect::Plan { ticket, wish: Wish::Delete(picks) }] = &effects[..] else { panic!("{effects:?}") };
    let targets = picks
        .iter()
        .map(|pick| Target {
            path: HostPath::from(format!("/var/lib/{}", pick.name).as_str()),
            pick: pick.clone(),
        })
        .collect();
    update(model, planned_event(*ticket, vec![delete_plan()], targets));
    picks.clone()
}

#[test]
fn d_takes_the_row_under_the_cursor_or_all_marked_ones() {
    let mut model = console();
    let picks = planned(&mut model);
    assert_eq!(picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [NodeId(1)]);

    let mut model = console();
    press(&mut model, &[Key::Down, Key::Char(' '), Key::Down, Key::Char(' ')]);
    let picks = planned(&mut model);
    assert_eq!(picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [NodeId(2), NodeId(4)]);
}

#[test]
fn x_in_the_tree_offers_to_delete_or_to_move_where_there_is_room() {
    let mut model = console();
    // A directory is not moved; nothing else has room for the file.
    let note = |model: &mut Model, keys: &[Key]| {
        assert!(press(model, keys).is_empty());
        let Some(Overlay { body: Body::Menu { choices, note, .. }, .. }) = model.overlays.pop() else {
            panic!()
        };
        (choices.len(), note.unwrap_or_default())
    };
    let (count, said) = note(&mut model, &[Key::Char('x')]);
    assert!(count == 2 && said.contains("Only files"), "{said}");
    let (count, said) = note(&mut model, &[Key::Down, Key::Down, Key::Char('x')]);
    assert!(count == 2 && said.contains("has room for 6.0 GiB"), "{said}");
    let mut filesystems = model.snapshot.filesystems.value().unwrap().clone();
    let mut data = filesystems[0].clone();
    data.mount_point = "/srv/data".into();
    data.dev.minor = 17;
    data.usage = Reading::ready(Usage {
        total: Bytes(90 << 30),
        free: Bytes(80 << 30),
        available: Bytes(80 << 30),
        ..Usage::default()
    });
    filesystems.push(data);
    update(&mut model, Event::Probed(Box::new(SnapshotPart::FileSystems(Reading::ready(filesystems)))));
    assert!(press(&mut model, &[Key::Char('x')]).is_empty());
    let effects = press(&mut model, &[Key::Down, Key::Enter]);
    let [Effect::Plan { wish: Wish::Evacuate { picks, to }, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [NodeId(3)]);
    assert_eq!(*to, HostPath::from("/srv/data"));
    // The first choice deletes.
    press(&mut model, &[Key::Esc]);
    let effects = press(&mut model, &[Key::Home, Key::Enter]);
    assert!(matches!(&effects[..], [Effect::Plan { wish: Wish::Delete(_), .. }]), "{effects:?}");
}

#[test]
fn a_directory_is_swept_by_an_age_and_a_file_cut_to_so_many_lines() {
    let mut model = console();
    assert!(press(&mut model, &[Key::Char('x'), Key::Down, Key::Enter]).is_empty());
    assert_eq!(model.context(), Context::Goal);
    type_in(&mut model, "1month");
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    let Some(Overlay { body: Body::Question { problem, .. }, .. }) = model.overlays.last() else { panic!() };
    assert!(problem.as_ref().unwrap().contains("no fixed length"), "{problem:?}");
    press(&mut model, &[Key::Backspace; 6]);
    type_in(&mut model, "12h");
    let effects = press(&mut model, &[Key::Enter]);
    let [Effect::Plan { wish: Wish::SweepRow { pick, secs: 43_200 }, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(pick.node, NodeId(1));
    // Enter alone takes seven days.
    press(&mut model, &[Key::Esc, Key::Esc]);
    let effects = press(&mut model, &[Key::Char('x'), Key::Down, Key::Enter, Key::Enter]);
    assert!(
        matches!(effects[..], [Effect::Plan { wish: Wish::SweepRow { secs: 604_800, .. }, .. }]),
        "{effects:?}"
    );

    let mut model = console();
    press(&mut model, &[Key::Down, Key::Down, Key::Char('x'), Key::Down, Key::Enter]);
    type_in(&mut model, "no");
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    press(&mut model, &[Key::Backspace; 2]);
    let effects = press(&mut model, &[Key::Enter]);
    let [Effect::Plan { wish: Wish::RotateRow { pick, keep_lines: 1000 }, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(pick.node, NodeId(3));
    // Several rows are neither swept nor cut.
    let mut model = console();
    press(&mut model, &[Key::Char(' '), Key::Char(' '), Key::Char('x')]);
    let Some(Overlay { body: Body::Menu { choices, .. }, .. }) = model.overlays.last() else { panic!() };
    assert_eq!(choices.len(), 1);
}

#[test]
fn volumes_are_chosen_one_by_one_and_never_by_a_mark() {
    let mut model = console();
    let volume = |name: &str, used_by, gib: u64| Volume {
        name: name.into(),
        size: Some(Bytes(gib << 30)),
        used_by,
        driver: Some("local".into()),
        created: Some(model.snapshot.taken_at),
    };
    let volumes = vec![volume("small", Some(0), 1), volume("used", Some(1), 9), volume("large", Some(0), 5)];
    let engine = Engine {
        kind: EngineKind::Docker,
        store: "/var/lib/docker".into(),
        store_size: Reading::Pending,
        content: Reading::ready(Content { volumes, ..Content::default() }),
        ..Engine::new(EngineKind::Docker, "".into())
    };
    update(&mut model, Event::Probed(Box::new(SnapshotPart::Engines(Reading::ready(vec![engine])))));
    let mut found = crate::rules::assess(&model.snapshot, &model.settings);
    found.retain(|finding| finding.rule == "volumes-unused");
    update(&mut model, Event::Found(found));
    press(&mut model, &[Key::Char('2'), Key::Char(' ')]);
    assert!(model.finding_list.marks.is_empty(), "each is named");
    assert!(press(&mut model, &[Key::Char('x')]).is_empty());
    let Some(Overlay { body: Body::Menu { choices, .. }, .. }) = model.overlays.last() else { panic!() };
    let offered: Vec<&str> = choices
        .iter()
        .map(|choice| match choice {
            Choice::Named { what, .. } => what.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        offered,
        [
            "remove volume large (5.0 GiB, made today, driver local)",
            "remove volume small (1.0 GiB, made today, driver local)"
        ]
    );
    let effects = press(&mut model, &[Key::Down, Key::Enter]);
    let [Effect::Plan { wish: Wish::Other(Request::RemoveVolume(_, chosen)), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(chosen.name, "small".into());
}

#[test]
fn nothing_runs_before_the_name_was_typed() {
    let mut model = console();
    planned(&mut model);
    update(&mut model, Event::Drawn);
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    assert!(type_in(&mut model, "2 item").is_empty());
    assert!(press(&mut model, &[Key::Enter]).is_empty(), "a wrong name must not run anything");
    let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last() else { panic!() };
    assert!(dialog.problem.as_ref().unwrap().contains("2 items"));
    assert!(type_in(&mut model, "2 items").is_empty());
    let effects = press(&mut model, &[Key::Enter]);
    assert!(matches!(&effects[..], [Effect::Run(_)]), "{effects:?}");
    assert!(matches!(model.overlays.last().unwrap().body, Body::Running { .. }));
}

#[test]
fn a_key_pressed_before_the_plan_was_on_the_screen_agrees_to_nothing() {
    let mut model = console();
    model.focus = Pane::Mounts;
    let effects = press(&mut model, &[Key::Char('x')]);
    let [Effect::Plan { ticket, wish: Wish::Other(Request::Unmount(mounts)) }] = &effects[..] else {
        panic!()
    };
    assert_eq!(mounts.len(), 1);
    // Typed ahead, while the plan was being made and before it was drawn.
    assert!(press(&mut model, &[Key::Char('y')]).is_empty());
    update(&mut model, planned_event(*ticket, vec![unmount_plan()], Vec::new()));
    assert!(update(&mut model, Event::Key(Key::Char('y'))).is_empty());
    update(&mut model, Event::Drawn);
    let effects = update(&mut model, Event::Key(Key::Char('y')));
    assert!(matches!(&effects[..], [Effect::Run(_)]), "{effects:?}");
}

/// The console in its first second: rows, but nothing that the probes say.
fn early() -> Model {
    let mut model = fresh((80, 24), COLOUR);
    let scan = model.tree.scan;
    update(&mut model, Event::ScanStarted { scan, root: NodeId(0) });
    show(&mut model, listing(), true);
    model
}

#[test]
fn a_plan_waits_until_it_is_known_what_must_never_be_touched() {
    let mut model = early();
    assert!(press(&mut model, &[Key::Char('d')]).is_empty());
    assert_eq!(model.context(), Context::Planning);
    assert!(matches!(model.overlays.last().unwrap().body, Body::Waiting(_)));
    let others = parts().into_iter().filter(|part| !matches!(part, SnapshotPart::Protect(_)));
    for part in others {
        let effects = update(&mut model, Event::Probed(Box::new(part)));
        assert!(matches!(&effects[..], [Effect::Assess]), "{effects:?}");
    }
    let effects = update(&mut model, Event::Probed(Box::new(protected())));
    let [Effect::Assess, Effect::Plan { ticket, wish: Wish::Delete(picks) }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [NodeId(1)]);
    update(&mut model, planned_event(*ticket, vec![delete_plan()], Vec::new()));
    assert_eq!(model.context(), Context::ConfirmTyped);
    // Esc: what comes later opens nothing.
    let mut model = early();
    press(&mut model, &[Key::Char('d'), Key::Esc]);
    assert!(model.overlays.is_empty());
    let effects = update(&mut model, Event::Probed(Box::new(protected())));
    assert!(matches!(&effects[..], [Effect::Assess]), "{effects:?}");
    // Where it cannot be found out, nobody waits for ever.
    let mut model = early();
    press(&mut model, &[Key::Char('d')]);
    update(&mut model, Event::ProbesEnded);
    let Some(Overlay { body: Body::Gaps(gaps), .. }) = model.overlays.last() else { panic!() };
    assert!(gaps[0].contains("could not be found out"), "{gaps:?}");
    // Asked again: the probes run again.
    let effects = press(&mut model, &[Key::Esc, Key::Char('d')]);
    assert!(matches!(&effects[..], [Effect::Probe]), "{effects:?}");
}

#[test]
fn a_goal_waits_for_all_probes_and_for_what_the_scan_tells() {
    let mut model = early();
    for part in parts() {
        update(&mut model, Event::Probed(Box::new(part)));
    }
    press(&mut model, &[Key::Char('R'), Key::Char('1'), Key::Char('G')]);
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    assert!(matches!(model.overlays.last().unwrap().body, Body::Waiting(_)));
    let effects = update(&mut model, Event::ProbesEnded);
    assert!(matches!(&effects[..], [Effect::Survey, ..]), "{effects:?}");
    assert!(matches!(model.overlays.last().unwrap().body, Body::Waiting(_)));
    let part = SnapshotPart::Scanned(Reading::Pending);
    let effects = update(&mut model, Event::Probed(Box::new(part)));
    let plans = |effect: &&Effect| matches!(effect, Effect::Plan { wish: Wish::Reclaim(_), .. });
    assert_eq!(effects.iter().filter(plans).count(), 1, "{effects:?}");
    assert!(matches!(model.overlays.last().unwrap().body, Body::Planning(_)));
}

#[test]
fn pasted_text_is_never_a_command() {
    let mut model = console();
    assert!(update(&mut model, Event::Paste("dy\rq".to_owned())).is_empty());
    assert!(model.overlays.is_empty());
    planned(&mut model);
    update(&mut model, Event::Drawn);
    assert!(update(&mut model, Event::Paste("2 items\n".to_owned())).is_empty());
    let Some(Overlay { body: Body::Confirm(dialog), .. }) = model.overlays.last() else { panic!() };
    assert_eq!(dialog.answer, "2 items");
}

#[test]
fn a_plan_nobody_waits_for_any_more_is_dropped() {
    let mut model = console();
    let effects = press(&mut model, &[Key::Char('d'), Key::Esc]);
    let [Effect::Plan { ticket, .. }] = &effects[..] else { panic!() };
    update(&mut model, planned_event(*ticket, vec![delete_plan()], Vec::new()));
    assert!(model.overlays.is_empty());
}

#[test]
fn what_was_deleted_leaves_the_tree_and_what_was_deleted_in_part_is_looked_at_again() {
    let mut model = console();
    press(&mut model, &[Key::Down, Key::Char(' '), Key::Down, Key::Char(' ')]);
    planned(&mut model);
    update(&mut model, Event::Drawn);
    type_in(&mut model, "2 items");
    press(&mut model, &[Key::Enter]);
    let outcomes = vec![Outcome::Done { count: 9 }, Outcome::Partly { count: 1, problems: Vec::new() }];
    let effects =
        update(&mut model, Event::Ran(Box::new(basket_receipt(vec![receipt(&delete_plan(), outcomes)]))));
    let forgotten = effects.iter().find_map(|effect| match effect {
        Effect::Forget(nodes) => Some(nodes.clone()),
        _ => None,
    });
    assert_eq!(forgotten, Some(vec![NodeId(2)]));
    let again =
        |effect: &&Effect| matches!(effect, Effect::Rescan { dir: NodeId(4), or_else: Some(NodeId(0)) });
    assert_eq!(effects.iter().filter(again).count(), 1, "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Probe)));
    assert!(matches!(model.overlays.last().unwrap().body, Body::Receipt(_)));
    assert_eq!(model.tree.list.marks.keys().copied().collect::<Vec<_>>(), [NodeId(4)]);
}

#[test]
fn marks_survive_a_refresh_by_identity_and_go_with_their_row() {
    let mut model = console();
    press(&mut model, &[Key::Down, Key::Char(' ')]);
    let mut turned = listing();
    turned.rows.reverse();
    turned.rows[10].allocated.0 += 4096;
    assert_eq!(turned.rows[10].node, NodeId(2));
    let grown = turned.rows[10].allocated;
    show(&mut model, turned, true);
    assert_eq!(model.tree.list.marks[&NodeId(2)].allocated, grown);
    // The cursor had gone on to node 3, and is still on it.
    assert_eq!(model.tree.current().unwrap().node, NodeId(3));
    let mut without = listing();
    without.rows.retain(|row| row.node != NodeId(2));
    show(&mut model, without, true);
    assert!(model.tree.list.marks.is_empty());
}

#[test]
fn a_rescan_gives_new_nodes_and_cursor_and_marks_find_their_names() {
    let mut model = console();
    press(&mut model, &[Key::Down, Key::Char(' ')]);
    // Row by row, as a rescan brings them, every one a new node.
    let renumber = |count: usize, scanning: bool| {
        let mut again = listing();
        for row in &mut again.rows {
            row.node = NodeId(row.node.0 + 500);
        }
        again.rows.truncate(count);
        again.dir.flags.scanning = scanning;
        again
    };
    show(&mut model, renumber(1, true), true);
    show(&mut model, renumber(12, true), true);
    assert_eq!(model.tree.current().unwrap().node, NodeId(503));
    show(&mut model, renumber(12, false), true);
    assert_eq!(model.tree.current().unwrap().node, NodeId(503));
    assert_eq!(model.tree.list.marks.keys().copied().collect::<Vec<_>>(), [NodeId(502)]);
    let picks = planned(&mut model);
    assert_eq!(picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [NodeId(502)]);
}

/// Some rows of a directory of a thousand.
fn part(rows: std::ops::Range<u32>) -> Page {
    let first = usize::try_from(rows.start).unwrap();
    let mut some = listing();
    some.rows = rows.map(|at| row(at + 100, &format!("entry-{at}"), FileKind::File, 4096, 1, 2)).collect();
    Page { first, total: 1000, ..page(some) }
}

fn show_page(model: &mut Model, page: Page) -> Vec<Effect> {
    let listed = Listed {
        scan: model.tree.scan,
        dir: page.listing.dir.node,
        page: Some(std::sync::Arc::new(page)),
        progress: model.tree.progress,
        reading: crate::scan::Reading::Calls,
        rescans: model.tree.rescans,
        now: 0,
    };
    update(model, Event::Listed(listed))
}

#[test]
fn rows_out_of_sight_are_asked_for_and_marks_among_them_stay() {
    let mut model = console();
    assert!(show_page(&mut model, part(0..300)).is_empty());
    assert_eq!(model.len(Pane::Tree), 1000);
    press(&mut model, &[Key::Home, Key::Char(' ')]);
    let effects = press(&mut model, &[Key::End]);
    let [Effect::List { window, now: true, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((window.index, window.node, &window.name), (999, None, &None));
    assert_eq!(window.names, ["entry-0".into()]);
    // Nobody can know what is on a row that was not made.
    assert!(model.tree.current().is_none());
    assert!(press(&mut model, &[Key::Char(' '), Key::Enter]).is_empty(), "asked once, and nothing is opened");
    assert_eq!(model.tree.list.marks.len(), 1);
    assert!(show_page(&mut model, part(500..1000)).is_empty());
    assert_eq!(model.tree.current().unwrap().node, NodeId(1099));
    assert_eq!(model.tree.list.marks.keys().copied().collect::<Vec<_>>(), [NodeId(100)], "not looked for");
    let mut looked_for = part(500..1000);
    looked_for.named.insert("entry-0".into(), Some(row(7000, "entry-0", FileKind::File, 8192, 1, 2)));
    show_page(&mut model, looked_for);
    assert_eq!(model.tree.list.marks[&NodeId(7000)].allocated.0, 8192);
    let mut gone = part(500..1000);
    gone.named.insert("entry-0".into(), None);
    show_page(&mut model, gone);
    assert!(model.tree.list.marks.is_empty());
}

#[test]
fn a_changed_directory_is_read_again_where_that_is_quick() {
    let mut model = console();
    let scan = model.tree.scan;
    press(&mut model, &[Key::Enter]);
    show(&mut model, inside(), true);
    let mut changed = |dir| update(&mut model, Event::Changed { scan, dir });
    assert!(changed(NodeId(0)).is_empty(), "it was left meanwhile");
    assert!(changed(NodeId(1)).is_empty(), "812,345 entries take long");
    assert!(model.notice.take().unwrap().contains("r scans it again"));
    let mut small = inside();
    small.dir.entries = 3;
    show(&mut model, small, true);
    let effects = update(&mut model, Event::Changed { scan, dir: NodeId(1) });
    assert!(matches!(&effects[..], [Effect::Rescan { dir: NodeId(1), or_else: None }]), "{effects:?}");

    // The old rows stay until all of the new ones are there, and keys are about what they show.
    let mut half = inside();
    half.dir.flags.scanning = true;
    half.rows.clear();
    show_page(&mut model, page(half));
    press(&mut model, &[Key::Down]);
    assert_eq!(model.tree.current().unwrap().name, "containers".into());
    assert!(press(&mut model, &[Key::Enter]).is_empty(), "its node may be gone");
    let mut done = inside();
    done.rows[1].node = NodeId(32);
    let listed = |model: &Model, listing| Listed {
        scan: model.tree.scan,
        dir: NodeId(1),
        page: Some(Arc::new(page(listing))),
        progress: model.tree.progress,
        reading: crate::scan::Reading::Calls,
        rescans: model.tree.rescans + 1,
        now: 0,
    };
    assert!(show_page(&mut model, page(inside())).is_empty(), "seen before it was scanned again");
    let listed = listed(&model, done);
    let effects = update(&mut model, Event::Listed(listed));
    assert!(matches!(&effects[..], [Effect::List { dir: NodeId(32), .. }]), "{effects:?}");
}

#[test]
fn marks_of_other_directories_are_kept() {
    let mut model = console();
    press(&mut model, &[Key::Down, Key::Char(' '), Key::Home]);
    let effects = press(&mut model, &[Key::Enter]);
    assert!(matches!(&effects[..], [Effect::List { dir: NodeId(1), .. }]), "{effects:?}");
    show(&mut model, inside(), true);
    assert_eq!(model.tree.current().unwrap().node, NodeId(21));
    assert_eq!(model.tree.list.marks.len(), 1);
    let effects = press(&mut model, &[Key::Left]);
    assert!(matches!(&effects[..], [Effect::List { dir: NodeId(0), .. }]), "{effects:?}");
    show(&mut model, listing(), true);
    assert_eq!(model.tree.current().unwrap().node, NodeId(1), "back on the directory we came from");
}

#[test]
fn rows_of_a_directory_that_is_being_left_cannot_be_acted_on() {
    let mut model = console();
    press(&mut model, &[Key::Enter]);
    assert!(press(&mut model, &[Key::Char('d'), Key::Char(' '), Key::Enter]).is_empty());
    assert!(model.tree.list.marks.is_empty() && model.overlays.is_empty());
}

#[test]
fn sorting_again_by_the_same_order_reverses() {
    let mut model = console();
    let wanted = |effects: &[Effect]| match effects {
        [Effect::List { sort, reverse, .. }] => (*sort, *reverse),
        other => panic!("{other:?}"),
    };
    assert_eq!(wanted(&press(&mut model, &[Key::Char('n')])), (SortKey::Name, false));
    assert_eq!(wanted(&press(&mut model, &[Key::Char('n')])), (SortKey::Name, true));
    assert_eq!(wanted(&press(&mut model, &[Key::Char('C')])), (SortKey::Entries, false));
    assert_eq!(wanted(&press(&mut model, &[Key::Char('M')])), (SortKey::Age, false));
    assert_eq!(wanted(&press(&mut model, &[Key::Char('s')])), (SortKey::Allocated, false));
    assert_eq!(wanted(&press(&mut model, &[Key::Char('a')])), (SortKey::Apparent, false));
}

#[test]
fn findings_lead_to_their_action() {
    let mut model = console();
    // The file system: its tree.
    let effects = press(&mut model, &[Key::Char('2'), Key::Char('x')]);
    assert!(matches!(&effects[..], [Effect::Scan { path, .. }] if path.as_path().to_str() == Some("/")));
    assert_eq!(model.focus, Pane::Tree);
    // The mounts: the exact commands at once, then the plan for exactly the mounts of the finding.
    let mut model = console();
    let effects = press(&mut model, &[Key::Char('2'), Key::Down, Key::Enter]);
    let [Effect::Plan { ticket, wish: Wish::Other(Request::Unmount(mounts)) }] = &effects[..] else {
        panic!()
    };
    assert_eq!(mounts.len(), 11);
    assert!(mounts.iter().all(|mount| mount.verdict == Verdict::Orphan));
    update(&mut model, planned_event(*ticket, vec![unmount_plan()], Vec::new()));
    assert!(matches!(&model.overlays.last().unwrap().body, Body::Finding { remedy: Some(_), .. }));
    let effects = press(&mut model, &[Key::Char('x')]);
    assert!(matches!(&effects[..], [Effect::Plan { .. }]));
    assert_eq!(model.context(), Context::Planning);
    // Where there are several things to do, a menu asks which.
    let mut model = console();
    model.findings[1].actions.push(ActionId::RepairBuilds);
    assert!(press(&mut model, &[Key::Char('2'), Key::Down, Key::Char('x')]).is_empty());
    assert_eq!(model.context(), Context::Menu);
    let effects = press(&mut model, &[Key::Enter]);
    assert!(matches!(&effects[..], [Effect::Plan { wish: Wish::Other(Request::Unmount(_)), .. }]));
    press(&mut model, &[Key::Esc]);
    assert_eq!(model.context(), Context::Menu, "a plan that was not wanted leads back to it");
    let effects = press(&mut model, &[Key::Char('j'), Key::Char('j'), Key::Char('x')]);
    assert!(matches!(&effects[..], [Effect::Plan { wish: Wish::Other(Request::RepairBuilds(_)), .. }]));
    // By hand, also where nothing is found.
    let mut model = console();
    model.findings.clear();
    let effects = press(&mut model, &[Key::Char('3'), Key::Char('B')]);
    assert!(matches!(&effects[..], [Effect::Plan { wish: Wish::Other(Request::RepairBuilds(_)), .. }]));
    // One that nothing can be done about says so.
    let mut model = console();
    assert!(press(&mut model, &[Key::Char('2'), Key::End, Key::Char('x')]).is_empty());
    assert!(model.notice.is_some());
}

#[test]
fn the_row_that_is_shown_in_full_is_the_one_acted_on() {
    let mut model = console();
    press(&mut model, &[Key::Char('3'), Key::Char(' '), Key::Enter]);
    let effects = press(&mut model, &[Key::Char('x')]);
    let [Effect::Plan { wish: Wish::Other(Request::Unmount(mounts)), .. }] = &effects[..] else { panic!() };
    assert_eq!(mounts.iter().map(|mount| mount.mount.id).collect::<Vec<_>>(), [101], "not the marked one");
    // A file that is mapped cannot be freed: nothing is offered.
    let mut model = console();
    assert!(press(&mut model, &[Key::Char('5'), Key::End, Key::Enter, Key::Char('x')]).is_empty());
}

#[test]
fn a_signal_or_ctrl_c_during_a_run_cancels_it_first() {
    let mut model = console();
    planned(&mut model);
    update(&mut model, Event::Drawn);
    type_in(&mut model, "2 items");
    press(&mut model, &[Key::Enter]);
    assert!(press(&mut model, &[Key::Char('q')]).is_empty(), "q asks");
    assert_eq!(model.context(), Context::QuitQuestion);
    press(&mut model, &[Key::Esc]);
    let effects = update(&mut model, Event::Signal(EndSignal::Terminate));
    assert!(matches!(&effects[..], [Effect::CancelRun]), "{effects:?}");
    let outcomes = vec![Outcome::Cancelled { count: 3 }; 2];
    let effects =
        update(&mut model, Event::Ran(Box::new(basket_receipt(vec![receipt(&delete_plan(), outcomes)]))));
    assert!(matches!(effects.last(), Some(Effect::Exit(exit)) if exit.code() == 143), "{effects:?}");
}

#[test]
fn a_run_is_cancelled_only_after_a_question_and_never_by_esc() {
    let mut model = console();
    planned(&mut model);
    update(&mut model, Event::Drawn);
    type_in(&mut model, "2 items");
    press(&mut model, &[Key::Enter]);
    assert!(press(&mut model, &[Key::Esc, Key::Esc]).is_empty());
    assert!(model.notice.as_deref().is_some_and(|notice| notice.contains("goes on")), "{:?}", model.notice);
    assert!(press(&mut model, &[Key::Char('c')]).is_empty(), "c asks");
    assert_eq!(model.context(), Context::CancelQuestion);
    assert!(press(&mut model, &[Key::Esc]).is_empty());
    assert_eq!(model.context(), Context::Running);
    let effects = press(&mut model, &[Key::Char('c'), Key::Char('y')]);
    assert!(matches!(&effects[..], [Effect::CancelRun]), "{effects:?}");
    assert_eq!(model.context(), Context::Running);
    assert!(press(&mut model, &[Key::Char('c')]).is_empty(), "it is cancelled already");
    assert_eq!(model.context(), Context::Running);
}

#[test]
fn without_a_run_everything_that_ends_ends_at_once() {
    for (event, code) in [
        (Event::Key(Key::Char('q')), 0),
        (Event::Key(Key::Ctrl('c')), 0),
        (Event::Signal(EndSignal::Terminate), 143),
        (Event::Signal(EndSignal::Hangup), 129),
        (Event::Signal(EndSignal::Interrupt), 130),
        (Event::Signal(EndSignal::Quit), 131),
        (Event::TerminalLost, 129),
        (Event::Crashed, 101),
    ] {
        let effects = update(&mut console(), event);
        assert!(matches!(&effects[..], [Effect::Exit(exit)] if exit.code() == code), "{effects:?}");
    }
    assert_eq!(Exit::Quit.code(), 0);
}

#[test]
fn on_a_screen_that_is_too_small_only_leaving_works() {
    let mut model = trouble((30, 8), COLOUR);
    assert!(press(&mut model, &[Key::Char('d'), Key::Char(' '), Key::Enter]).is_empty());
    assert!(model.overlays.is_empty() && model.tree.list.marks.is_empty());
    assert!(matches!(&press(&mut model, &[Key::Char('q')])[..], [Effect::Exit(Exit::Quit)]));
}

#[test]
fn a_scan_that_cannot_start_says_why_and_r_tries_again() {
    let mut model = fresh((80, 24), COLOUR);
    let scan = model.tree.scan;
    update(&mut model, Event::ScanFailed { scan, why: "cannot scan /x: no such directory".to_owned() });
    assert!(model.tree.problem.as_ref().unwrap().contains("/x"));
    let effects = press(&mut model, &[Key::Char('r')]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Scan { .. })), "{effects:?}");
    assert!(model.tree.problem.is_none());
}

#[test]
fn a_directory_that_is_gone_gives_way_to_the_one_above() {
    let mut model = console();
    press(&mut model, &[Key::Enter]);
    show(&mut model, inside(), true);
    let listed = Listed {
        scan: model.tree.scan,
        dir: NodeId(1),
        page: None,
        progress: model.tree.progress,
        reading: crate::scan::Reading::Calls,
        rescans: 0,
        now: 0,
    };
    let effects = update(&mut model, Event::Listed(listed));
    assert!(matches!(&effects[..], [Effect::List { dir: NodeId(0), .. }]), "{effects:?}");
}

#[test]
fn answers_of_a_scan_before_are_ignored() {
    let mut model = console();
    let stale = Listed {
        scan: Ticket(0),
        dir: NodeId(0),
        page: Some(std::sync::Arc::new(page(inside()))),
        progress: crate::scan::Progress::default(),
        reading: crate::scan::Reading::Calls,
        rescans: 0,
        now: 0,
    };
    update(&mut model, Event::Listed(stale));
    assert_eq!(model.tree.len(), listing().rows.len());
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => prop::sample::select(vec![
            Key::Enter, Key::Esc, Key::Tab, Key::BackTab, Key::Up, Key::Down, Key::Left, Key::Right,
            Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Backspace, Key::Delete, Key::Ctrl('l'),
        ]),
        8 => prop::sample::select("jkhlgGdxyqzansCMiruP?12345 cbR8".chars().collect::<Vec<_>>()).prop_map(Key::Char),
        1 => (b' '..=b'~').prop_map(|byte| Key::Char(char::from(byte))),
    ]
}

#[derive(Clone, Debug)]
enum Deed {
    Key(Key),
    Draw,
    Resize(u16, u16),
    Rows(Vec<u32>),
    Mounts(u32),
    Plan,
    Receipt,
}

fn any_deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        20 => any_key().prop_map(Deed::Key),
        5 => Just(Deed::Draw),
        2 => (1u16..200, 1u16..60).prop_map(|(columns, rows)| Deed::Resize(columns, rows)),
        3 => prop::collection::vec(1u32..60, 0..60).prop_map(Deed::Rows),
        1 => (0u32..40).prop_map(Deed::Mounts),
        3 => Just(Deed::Plan),
        1 => Just(Deed::Receipt),
    ]
}

fn any_listing(dir: NodeId, nodes: &[u32]) -> Listing {
    let mut seen = std::collections::BTreeSet::new();
    let rows = nodes
        .iter()
        .filter(|node| seen.insert(**node))
        .map(|&node| {
            let kind = if node % 3 == 0 { FileKind::File } else { FileKind::Directory };
            row(node, &format!("entry-{node}"), kind, u64::from(node) << 20, 3, 2)
        })
        .collect();
    Listing {
        dir: row(dir.0, "dir", FileKind::Directory, 1 << 30, 99, 0),
        path: "/var/lib".into(),
        parent: (dir != NodeId(0)).then_some(NodeId(0)),
        rows,
        folded: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens in whatever order, at whatever size: nothing panics, every cursor is in range and on
    /// the row it says, and the row is on the screen.
    #[test]
    fn any_sequence_keeps_cursors_in_range(deeds in prop::collection::vec(any_deed(), 1..120)) {
        let mut model = console();
        let mut asked: Option<(Ticket, Vec<Pick>)> = None;
        for deed in deeds {
            let effects = match deed {
                Deed::Key(key) => update(&mut model, Event::Key(key)),
                Deed::Draw => update(&mut model, Event::Drawn),
                Deed::Resize(columns, rows) => update(&mut model, Event::Resize(columns, rows)),
                Deed::Rows(nodes) => {
                    if let Some(dir) = model.tree.dir {
                        show(&mut model, any_listing(dir, &nodes), nodes.len() % 2 == 0);
                    }
                    Vec::new()
                }
                Deed::Mounts(count) => {
                    let build_mounts = (0..count).map(|number| mount(number, Verdict::Orphan, None)).collect();
                    let census = MountCensus { namespaces: 1, total: 9, build_mounts };
                    update(&mut model, Event::Probed(Box::new(SnapshotPart::Mounts(Reading::ready(census)))))
                }
                Deed::Plan => match asked.take() {
                    Some((ticket, picks)) => {
                        let targets = picks
                            .into_iter()
                            .map(|pick| Target { path: "/var/lib/buildkit".into(), pick })
                            .collect();
                        let plans = match ticket.0 % 3 {
                            0 => vec![delete_plan()],
                            1 => vec![unmount_plan()],
                            _ => vec![delete_plan(), unmount_plan()],
                        };
                        update(&mut model, planned_event(ticket, plans, targets))
                    }
                    None => Vec::new(),
                },
                Deed::Receipt => {
                    let outcomes = vec![Outcome::Done { count: 1 }, Outcome::Cancelled { count: 0 }];
                    update(&mut model, Event::Ran(Box::new(basket_receipt(vec![receipt(&delete_plan(), outcomes)]))))
                }
            };
            for effect in &effects {
                match effect {
                    Effect::Plan { ticket, wish: Wish::Delete(picks) } => asked = Some((*ticket, picks.clone())),
                    Effect::Plan { ticket, .. } => asked = Some((*ticket, Vec::new())),
                    Effect::Scan { scan, .. } => {
                        update(&mut model, Event::ScanStarted { scan: *scan, root: NodeId(0) });
                    }
                    Effect::Run(_) => prop_assert!(model.run.is_some()),
                    _ => {}
                }
            }
            check(&model)?;
            let mut terminal =
                ratatui::Terminal::new(ratatui::backend::TestBackend::new(model.size.0, model.size.1)).unwrap();
            terminal.draw(|frame| crate::tui::view::view(&model, frame)).unwrap();
        }
    }
}

fn check(model: &Model) -> Result<(), TestCaseError> {
    let places = [
        (Pane::Tree, model.tree.list.index, model.tree.list.offset),
        (Pane::Findings, model.finding_list.index, model.finding_list.offset),
        (Pane::Mounts, model.mount_list.index, model.mount_list.offset),
        (Pane::Processes, model.process_list.index, model.process_list.offset),
        (Pane::Deleted, model.deleted_list.index, model.deleted_list.offset),
    ];
    for (pane, index, _) in places {
        prop_assert!(index < model.len(pane).max(1), "{pane:?} {index} of {}", model.len(pane));
    }
    if let Some(row) = model.tree.current() {
        prop_assert_eq!(Some(row.node), model.tree.list.key);
    }
    if let Some(row) = model.mounts().get(model.mount_list.index) {
        prop_assert_eq!(Some(row.mount), model.mount_list.key);
    }
    let shown = layout::of(model).map_or(Vec::new(), |layout| layout.panes);
    for (pane, area) in shown {
        let height = layout::list_height(model, pane, area).max(1);
        for (of, index, offset) in places {
            if of == pane && model.len(pane) > 0 {
                prop_assert!(
                    (offset..offset + height).contains(&index),
                    "{pane:?} {index} not on the screen"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_scan_is_looked_through_once_it_and_the_probes_are_over() {
    let surveys =
        |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::Survey)).count();
    let mut model = fresh((80, 24), COLOUR);
    model.tree.root_node = Some(NodeId(0));
    model.tree.dir = Some(NodeId(0));
    model.probing = true;
    let listed = |model: &Model, finished| {
        let progress = crate::scan::Progress { finished, ..Default::default() };
        let page = Some(std::sync::Arc::new(page(listing())));
        let reading = crate::scan::Reading::Calls;
        Event::Listed(Listed {
            scan: model.tree.scan,
            dir: NodeId(0),
            page,
            progress,
            reading,
            rescans: 0,
            now: 0,
        })
    };
    let event = listed(&model, true);
    assert_eq!(surveys(&update(&mut model, event)), 0, "what is protected is not known yet");
    assert_eq!(surveys(&update(&mut model, Event::ProbesEnded)), 1);
    let event = listed(&model, true);
    assert_eq!(surveys(&update(&mut model, event)), 0, "nothing is new");
    let event = listed(&model, false);
    update(&mut model, event);
    let event = listed(&model, true);
    assert_eq!(surveys(&update(&mut model, event)), 1, "a rescan ended");
}

/// The machine in trouble, with a scan of its whole root file system that is over.
fn whole() -> (Model, Vec<Effect>) {
    let mut model = trouble((80, 24), COLOUR);
    update(&mut model, Event::Key(Key::Char('L')));
    let effects = update(&mut model, Event::Key(Key::Enter));
    assert!(
        matches!(&effects[..], [Effect::Scan { path, .. }] if path.as_path() == std::path::Path::new("/"))
    );
    let scan = model.tree.scan;
    update(&mut model, Event::ScanStarted { scan, root: NodeId(0) });
    let progress = Progress { finished: true, allocated: Bytes(7), ..Progress::default() };
    let page = Some(Arc::new(page(listing())));
    let listed = Listed {
        scan,
        dir: NodeId(0),
        page,
        progress,
        reading: crate::scan::Reading::Calls,
        rescans: 0,
        now: 0,
    };
    let effects = update(&mut model, Event::Listed(listed));
    (model, effects)
}

fn asks_for_ledger(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Account { .. }))
}

#[test]
fn a_scan_of_a_whole_file_system_is_accounted_for_once() {
    let mut part = trouble((80, 24), COLOUR);
    assert!(!asks_for_ledger(&update(&mut part, Event::ProbesEnded)), "/var/lib is a part of it only");

    let (mut model, effects) = whole();
    assert!(asks_for_ledger(&effects));
    let scan = model.tree.scan;
    assert!(!asks_for_ledger(&update(&mut model, Event::ProbesEnded)), "it is under way");
    let outcome = Some(Ok(Box::new(ledger())));
    let effects = update(&mut model, Event::Accounted { scan, outcome });
    assert!(matches!(&effects[..], [Effect::Assess]), "the rules look at it: {effects:?}");
    assert_eq!(model.snapshot.ledgers.len(), 1);
    assert!(!asks_for_ledger(&update(&mut model, Event::ProbesEnded)), "nothing has changed");
}

#[test]
fn a_ledger_that_cannot_be_made_says_why_and_all_file_systems_are_in_reach() {
    let (mut model, _) = whole();
    let scan = model.tree.scan;
    update(&mut model, Event::Accounted { scan, outcome: Some(Err("the disk is on fire".to_owned())) });
    assert_eq!(model.accounts.failed, Some(("/".into(), "the disk is on fire".to_owned())));
    let shown = |model: &Model| match &model.overlays.last().unwrap().body {
        Body::Ledger(place) => place.to_string(),
        other => panic!("{other:?}"),
    };
    let mut seen = vec![shown(&model)];
    for _ in 0..4 {
        update(&mut model, Event::Key(Key::Tab));
        seen.push(shown(&model));
    }
    assert_eq!(seen, ["/", "/tmp", "/boot/efi", "/mnt/nfs", "/"]);
    update(&mut model, Event::Key(Key::BackTab));
    assert!(update(&mut model, Event::Key(Key::Enter)).is_empty(), "a server's files are not scanned for it");
}

#[test]
fn what_is_marked_in_any_pane_makes_one_basket() {
    let mut model = console();
    assert!(press(&mut model, &[Key::Char('b')]).is_empty());
    assert!(model.notice.as_ref().unwrap().contains("Space marks"));
    press(
        &mut model,
        &[Key::Down, Key::Char(' '), Key::Char('3'), Key::Char(' '), Key::Char('5'), Key::Char(' ')],
    );
    // The second finding is about leaked mounts; the first is about a place, which must be chosen in the tree.
    press(&mut model, &[Key::Char('2'), Key::Char(' ')]);
    assert!(model.notice.as_ref().unwrap().contains("x goes there"));
    assert!(model.finding_list.marks.is_empty());
    press(&mut model, &[Key::Down, Key::Char(' ')]);
    assert_eq!(model.finding_list.marks.len(), 1);
    let effects = press(&mut model, &[Key::Char('b')]);
    let [Effect::Plan { ticket, wish: Wish::Basket { picks, requests } }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(picks.iter().map(|pick| pick.node).collect::<Vec<_>>(), [NodeId(2)]);
    let [Request::Unmount(one), Request::FreeDeleted(files), Request::Unmount(all)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!((one.len(), files.len(), all.len()), (1, 1, 11));
    // One question for all of it.
    update(&mut model, planned_event(*ticket, vec![unmount_plan(), delete_plan()], Vec::new()));
    update(&mut model, Event::Drawn);
    assert_eq!(model.context(), Context::ConfirmTyped);
    assert!(
        press(&mut model, &[Key::Char('y'), Key::Enter]).is_empty(),
        "a key is not enough for what is risky"
    );
    press(&mut model, &[Key::Backspace]);
    type_in(&mut model, "2 items");
    assert!(matches!(&press(&mut model, &[Key::Enter])[..], [Effect::Run(_)]));
}

#[test]
fn a_step_under_way_can_be_skipped_by_its_number() {
    let mut model = console();
    planned(&mut model);
    update(&mut model, Event::Drawn);
    type_in(&mut model, "2 items");
    press(&mut model, &[Key::Enter]);
    assert!(press(&mut model, &[Key::Char('s')]).is_empty(), "nothing is known to run yet");
    let progress = crate::exec::Progress {
        number: 1,
        step: 1,
        steps: 2,
        elapsed: crate::domain::reading::Millis(1),
        left: None,
        op: "rm".to_owned(),
        done: 0,
        expected: None,
        unit: crate::exec::Unit::Entries,
    };
    update(&mut model, Event::Running(progress));
    let effects = press(&mut model, &[Key::Char('s')]);
    assert!(matches!(&effects[..], [Effect::SkipStep(1)]), "{effects:?}");
}

#[test]
fn a_goal_is_typed_and_becomes_a_plan() {
    let mut model = console();
    assert!(press(&mut model, &[Key::Char('R')]).is_empty());
    assert_eq!(model.context(), Context::Goal);
    type_in(&mut model, "lots");
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    let Some(Overlay { body: Body::Question { problem, .. }, .. }) = model.overlays.last() else { panic!() };
    assert!(problem.as_ref().unwrap().contains("try 8G"));
    press(&mut model, &[Key::Backspace; 4]);
    type_in(&mut model, "8G");
    let effects = press(&mut model, &[Key::Enter]);
    let [Effect::Plan { wish: Wish::Reclaim(goal), .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((goal.bytes, goal.mount_point.to_string().as_str()), (Bytes(8 << 30), "/"));
    assert_eq!(model.context(), Context::Planning);
}
