//! The real binary in a real pseudo-terminal: what it shows, what it deletes, and how it leaves the terminal.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test makes its own fixtures and may panic"
)]

#[path = "common/tui.rs"]
mod harness;

use std::fs;
use std::path::Path;

use harness::Console;
use rustix::process::Signal;
use tempfile::TempDir;

/// A directory with a tree to look at, and a place for the journal.
struct World {
    _dir: TempDir,
    tree: String,
    journal: String,
    home: std::path::PathBuf,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let tree = root.join("tree");
    fs::create_dir_all(tree.join("largest/inner")).unwrap();
    for (name, kib) in [
        ("largest/a", 400),
        ("largest/inner/b", 500),
        ("second.bin", 600),
        ("third.bin", 300),
        ("kept.txt", 8),
    ] {
        fs::write(tree.join(name), vec![1_u8; kib << 10]).unwrap();
    }
    let journal = root.join("journal");
    World {
        tree: tree.to_str().unwrap().to_owned(),
        journal: format!("journal.dir={}", journal.to_str().unwrap()),
        home: root,
        _dir: dir,
    }
}

/// The console on the tree of a world, scanned.
fn console(world: &World, columns: u16, rows: u16) -> Console {
    let mut console = Console::start(columns, rows, &world.home, &["--set", &world.journal, &world.tree]);
    console.see("largest/");
    console.wait("the end of the scan", |text| text.contains("scanned"));
    // Nothing is changed before it is known what must be protected.
    console.wait("the end of the probes", |text| !text.contains("looking"));
    console
}

/// What the dialog on the screen asks to be typed.
#[track_caller]
fn asked_for(console: &mut Console) -> String {
    // The last line of a screen that may be half drawn yet.
    console.see("and press Enter");
    let text = console.text();
    let (_, rest) = text.split_once("Type ").expect("nothing is asked for");
    rest.split_once(" and press Enter").expect("nothing is asked for").0.to_owned()
}

/// All text below a directory.
fn read_all(dir: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(dir).expect("there is no journal").map(Result::unwrap) {
        all.push_str(&fs::read_to_string(entry.path()).unwrap());
    }
    all
}

#[test]
fn two_marked_entries_are_deleted_and_nothing_else() {
    let world = world();
    let mut console = console(&world, 80, 24);
    assert!(console.raw());
    // largest/ stays; down to second.bin, mark it, mark third.bin below it.
    console.press("j  ");
    console.see("2 marked");
    console.press("d");
    console.see("What runs (2 steps)");
    console.see("and press Enter");
    let name = asked_for(&mut console);
    assert!(fs::exists(format!("{}/second.bin", world.tree)).unwrap(), "deleted before consent");
    // A wrong answer first.
    console.press("nonsense-");
    console.press("\r");
    console.see("not run");
    assert!(fs::exists(format!("{}/second.bin", world.tree)).unwrap(), "deleted against consent");
    console.press(&name);
    console.press("\r");
    console.see("Freed");
    console.see("2 done");
    let tree = Path::new(&world.tree);
    let mut left: Vec<_> = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["kept.txt", "largest"]);
    assert!(tree.join("largest/inner/b").exists());
    console.press("\x1b");
    console.wait("the rows to go", |text| !text.contains("second.bin") && text.contains("kept.txt"));
    let journal = read_all(&world.home.join("journal"));
    assert!(journal.contains("second.bin") && journal.contains("third.bin"), "{journal}");
    assert!(journal.lines().count() >= 2, "begin and end: {journal}");
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
}

#[test]
fn a_plan_asked_for_at_once_waits_for_the_probes_and_opens_by_itself() {
    let world = world();
    let mut console = Console::start(80, 24, &world.home, &["--set", &world.journal, &world.tree]);
    console.see("second.bin");
    // As early as a hand can: the probes may or may not be over.
    console.press("d");
    console.see("and press Enter");
    let name = asked_for(&mut console);
    console.press(&name);
    console.press("\r");
    console.see("Freed");
    console.see("1 done");
    assert!(!console.text().contains("not known yet"), "{}", console.text());
    let left = fs::read_dir(&world.tree).unwrap().count();
    assert_eq!(left, 3, "one row is deleted");
    console.press("\x1b");
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
}

/// A process that keeps a deleted file open until it is dropped.
struct Holder(std::process::Child);

impl Holder {
    fn of(path: &Path, kib: usize) -> Self {
        let script = format!(
            "exec 9>'{0}'; head -c {1} /dev/zero >&9; rm '{0}'; exec sleep 600",
            path.display(),
            kib << 10
        );
        let child = std::process::Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
        while path.exists()
            || fs::metadata(format!("/proc/{}/fd/9", child.id())).map_or(0, |meta| meta.len()) == 0
        {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self(child)
    }

    fn size(&self) -> u64 {
        fs::metadata(format!("/proc/{}/fd/9", self.0.id())).unwrap().len()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn marks_of_two_panes_run_as_one_basket() {
    let world = world();
    let holder = Holder::of(&world.home.join("held.log"), 900);
    let mut console = console(&world, 100, 30);
    console.press("b");
    console.see("The basket is empty");
    console.press("j ");
    console.see("1 marked");
    console.press("5");
    console.see("held.log");
    // There may be larger ones of others: down to ours.
    loop {
        console.press("\r");
        console.see("Kept open by");
        // Its whole path is in the text only; the list behind has it cut.
        let ours = console.text().contains(world.home.join("held.log").to_str().unwrap());
        console.press("\x1b");
        console.wait("the text to go", |text| !text.contains("Kept open by"));
        if ours {
            break;
        }
        console.press("j");
    }
    console.press(" ");
    console.see("b: 2 in the basket");
    console.press("b");
    console.see("Basket of 2 plans");
    console.see("In this order");
    let name = asked_for(&mut console);
    assert_eq!(name, "run 2", "both lose data: their number is typed");
    assert!(fs::exists(format!("{}/second.bin", world.tree)).unwrap() && holder.size() > 0);
    console.press(&name);
    console.press("\r");
    console.see("Before and after");
    console.see("2 plans");
    assert!(!fs::exists(format!("{}/second.bin", world.tree)).unwrap());
    assert_eq!(holder.size(), 0, "the deleted file is cut");
    assert!(fs::exists(format!("{}/third.bin", world.tree)).unwrap());
    console.press("\x1b");
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
    assert_eq!(read_all(&world.home.join("journal")).lines().count(), 4, "each plan begins and ends");
}

#[test]
fn a_directory_is_opened_and_a_tree_deleted_from_inside() {
    let world = world();
    let mut console = console(&world, 120, 40);
    console.press("\r");
    console.see("inner/");
    console.press("d");
    console.see("and press Enter");
    let name = asked_for(&mut console);
    console.press(&name);
    console.press("\r");
    console.see("Freed");
    assert!(!Path::new(&world.tree).join("largest/inner").exists(), "{}", console.text());
    assert!(Path::new(&world.tree).join("largest/a").exists());
    // Back to the parent: the cursor is on the directory we came from.
    console.press("\x1b");
    console.wait("the receipt to go", |text| !text.contains("Freed"));
    console.press("\x1b[D");
    console.see("second.bin");
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
}

/// Twelve bind mounts, as `BuildKit` leaves them, in a mount namespace of their own.
#[test]
fn leaked_mounts_are_found_and_unmounted_and_their_source_stays() {
    if !harness::is_root() {
        return;
    }
    let world = world();
    let script = "set -e; cd \"$1\"; mkdir mounts; \
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do \
            mkdir mounts/buildkit-mount$i; mount --bind tree/largest mounts/buildkit-mount$i; done; \
        shift; exec \"$@\"";
    let home = world.home.to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_unwedge");
    // Its own processes too: somebody else's process that cannot be looked into would make every verdict unknown.
    let unshare =
        ["/usr/bin/unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
    let command = [&unshare[..], &["--mount-proc", "sh", "-c", script, "sh", home]].concat();
    let arguments = [&command[..], &[program, "--set", &world.journal, &world.tree]].concat();
    let mut console = Console::run(120, 40, &world.home, &arguments);
    console.see("12 leaked of 12");
    // From the finding: what it is, what would run, the plan, consent.
    console.press("2");
    console.see("leaked");
    let at = console.text().lines().position(|line| line.contains("CRIT") && line.contains("mount"));
    let first = console.text().lines().position(|line| line.contains("Findings")).unwrap() + 1;
    for _ in first..at.expect("no critical finding about mounts") {
        console.press("j");
    }
    console.press("\r");
    console.see("x lets you choose: unmount these");
    // The exact commands are at the end of the text.
    console.press("G");
    console.see("unmount ");
    console.press("x");
    console.see("Repair builds");
    console.press("\r");
    console.see("What runs");
    console.wait("what is asked", |text| text.contains("Press y") || text.contains("and press Enter"));
    if console.text().contains("Press y") {
        console.press("y");
    } else {
        let answer = asked_for(&mut console);
        console.press(&answer);
        console.press("\r");
    }
    console.see("Steps: ");
    console.press("\x1b");
    console.see("No leftover build mounts");
    assert!(Path::new(&world.tree).join("largest/inner/b").exists());
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
}

#[test]
fn esc_in_the_dialog_deletes_nothing() {
    let world = world();
    let mut console = console(&world, 80, 24);
    console.press("d");
    console.see("and press Enter");
    console.press("\x1b");
    console.wait("the dialog to go", |text| !text.contains("and press Enter"));
    console.press("q");
    assert_eq!(console.ended(), 0);
    assert!(Path::new(&world.tree).join("largest/inner/b").exists());
    assert!(
        !world.home.join("journal").exists() || !read_all(&world.home.join("journal")).contains("largest")
    );
}

#[test]
fn signals_end_it_and_the_terminal_is_restored() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130), (Signal::QUIT, 131)] {
        let world = world();
        let mut console = console(&world, 80, 24);
        console.signal(signal);
        assert_eq!(console.ended(), code, "{signal:?}");
        console.restored();
    }
}

#[test]
fn a_console_that_is_killed_leaves_the_terminal_as_it_was() {
    for (signal, code) in [(Signal::KILL, 137), (Signal::ABORT, 134)] {
        let world = world();
        let mut console = console(&world, 80, 24);
        assert!(console.raw());
        rustix::process::kill_process(console.inner(), signal).unwrap();
        assert_eq!(console.ended(), code, "{signal:?}");
        console.restored();
        console.see("The terminal was restored");
    }
}

#[test]
fn the_console_ends_when_its_parent_is_killed() {
    let world = world();
    let mut console = console(&world, 80, 24);
    let inner = console.inner();
    console.signal(Signal::KILL);
    assert_ne!(console.ended(), 0);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while rustix::process::test_kill_process(inner).is_ok() {
        assert!(std::time::Instant::now() < end, "the console lives on without a parent");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_directory_that_changed_is_read_again_when_it_is_entered() {
    let world = world();
    let mut console = console(&world, 80, 24);
    // Mark a file that stays, so that the mark can be seen to stay.
    console.press("\r");
    console.see("inner/");
    console.press("j ");
    console.see("1 marked");
    console.press("\x1b[D");
    console.see("second.bin");
    fs::write(Path::new(&world.tree).join("largest/newcomer"), vec![1; 40 << 10]).unwrap();
    console.press("\r");
    console.see("newcomer");
    console.see("1 marked");
    // No key asked for it, and the file that came is where it belongs: last.
    console.press("G");
    console.press("i");
    console.see("largest/newcomer");
    console.press("\x1b");
    console.press("q");
    assert_eq!(console.ended(), 0);
}

#[test]
fn the_other_names_of_a_file_are_shown() {
    let world = world();
    let tree = Path::new(&world.tree);
    fs::hard_link(tree.join("second.bin"), tree.join("largest/inner/twin.bin")).unwrap();
    fs::hard_link(tree.join("second.bin"), world.home.join("outside.bin")).unwrap();
    let mut console = console(&world, 100, 40);
    // By name: kept.txt, largest/, second.bin, third.bin.
    console.press("n");
    console.wait("the order", |text| text.find("kept.txt") < text.find("largest/"));
    console.press("gjji");
    console.see("Its other names");
    console.see("largest/inner/twin.bin");
    console.see("1 outside this scan");
    console.press("\x1b");
    console.press("q");
    assert_eq!(console.ended(), 0);
}

#[test]
fn every_row_of_a_long_directory_can_be_reached() {
    let world = world();
    let many = Path::new(&world.tree).join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..3000 {
        fs::write(many.join(format!("file-{number:04}")), "").unwrap();
    }
    let mut console = console(&world, 80, 24);
    console.press("n");
    console.wait("the order", |text| text.find("kept.txt") < text.find("largest/"));
    console.press("gjj");
    console.press("\r");
    console.see("file-0000");
    console.press("G");
    console.see("file-2999");
    console.press(" ");
    console.see("1 marked");
    console.press("g");
    console.see("file-0000");
    for _ in 0..40 {
        console.press("\x1b[6~");
    }
    console.wait("a page in the middle", |text| text.contains("file-05") && !text.contains("file-0000"));
    // Reversed, the cursor stays on its entry.
    console.press("i");
    console.see("many/file-0");
    let under = |text: &str| text.split("many/file-").nth(1).map(|rest| rest[..4].to_owned());
    let before = under(&console.text()).unwrap();
    console.press("\x1b");
    console.press("n");
    console.wait("the other order", |text| !text.contains("Inode"));
    console.press("i");
    console.see(&format!("many/file-{before}"));
    console.press("\x1b");
    console.see("1 marked");
    console.press("q");
    assert_eq!(console.ended(), 0);
}

#[test]
fn a_signal_during_a_run_cancels_it_and_the_journal_has_its_end() {
    let world = world();
    let many = Path::new(&world.tree).join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..40_000 {
        // With content, so that it is the largest and the cursor is on it.
        fs::write(many.join(format!("file-{number}")), [1; 64]).unwrap();
    }
    let mut console = console(&world, 80, 24);
    console.press("d");
    console.see("and press Enter");
    console.see("tree/many");
    let name = asked_for(&mut console);
    console.press(&name);
    console.press("\r");
    console.see("Running");
    console.signal(Signal::TERM);
    assert_eq!(console.ended(), 143);
    console.restored();
    let journal = read_all(&world.home.join("journal"));
    let ends = journal.lines().filter(|line| line.contains("\"end\"")).count();
    assert_eq!(ends, 1, "{journal}");
    assert!(Path::new(&world.tree).join("largest/inner/b").exists());
}

#[test]
fn a_panic_restores_the_terminal_and_says_what_happened() {
    let world = world();
    let mut console = console(&world, 80, 24);
    console.press("\x1c");
    assert_eq!(console.ended(), 101);
    console.restored();
    console.see("unwedge crashed");
    console.see("terminal was restored");
}

#[test]
fn a_lost_terminal_ends_it() {
    let world = world();
    let mut console = console(&world, 80, 24);
    console.hang_up();
    assert_eq!(console.ended(), 129);
}

#[test]
fn a_stuck_terminal_keeps_no_signal_waiting() {
    let world = world();
    let mut console = console(&world, 200, 60);
    console.stuck(true);
    // Full redraws, far more than the kernel buffers for a terminal; the console must not block on them.
    for _ in 0..40 {
        console.press("\x0c");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    console.signal(Signal::TERM);
    assert_eq!(console.ended(), 143);
    assert!(!console.raw());
    console.stuck(false);
}

#[test]
fn r_looks_again() {
    let world = world();
    let mut console = console(&world, 80, 24);
    fs::write(Path::new(&world.tree).join("newcomer.bin"), vec![1; 2 << 20]).unwrap();
    fs::remove_file(Path::new(&world.tree).join("third.bin")).unwrap();
    // The cursor is on second.bin and stays on it, though all rows are read anew.
    console.press("jr");
    console.wait("the change", |text| text.contains("newcomer.bin") && !text.contains("third.bin"));
    console.press("i");
    console.see("tree/second.bin");
    console.see("Inode");
    console.press("\x1b");
    console.press("q");
    assert_eq!(console.ended(), 0);
}

#[test]
fn ctrl_z_gives_the_terminal_back_and_fg_takes_it_again() {
    let world = world();
    let mut console = console(&world, 80, 24);
    for stop in ["\x1a", ""] {
        if stop.is_empty() {
            console.signal(Signal::TSTP);
        } else {
            console.press(stop);
        }
        console.restored();
        while console.state() != 'T' {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        console.signal(Signal::CONT);
        console.see("largest/");
        console.wait("raw mode", |_| true);
        while !console.raw() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let world = world();
    let mut console = console(&world, 80, 24);
    assert!(!console.text().contains("Leaked mounts"));
    console.resize(130, 40);
    console.see("Leaked mounts");
    console.resize(30, 8);
    console.see("needs 40x12");
    console.resize(60, 15);
    console.see("largest/");
    console.press("q");
    assert_eq!(console.ended(), 0);
    console.restored();
}

#[test]
fn a_directory_that_cannot_be_scanned_is_said_so_and_the_console_stays_useful() {
    let world = world();
    let file = format!("{}/kept.txt", world.tree);
    let mut console = Console::start(80, 24, &world.home, &["--set", &world.journal, &world.tree]);
    console.see("largest/");
    drop(console);
    // A file is no directory: refused before the terminal is taken, or said in the tree.
    let mut console = Console::start(80, 24, &world.home, &["--set", &world.journal, &file]);
    console.wait("a reason", |text| text.contains("not a directory"));
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_unwedge"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(69));
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("--audit"), "{text}");
}
