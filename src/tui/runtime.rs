//! The loop that drives the console: the only part of it that knows the engine.
//!
//! One thread waits for signals, then keys, then results, in this order of precedence; takes in all that is
//! queued; and draws when something changed, at most 60 times a second, never when idle. Whatever can take
//! time runs in threads of its own and answers with an [`Event`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::actions::Request;
use crate::domain::basket::{Basket, Goal};
use crate::domain::consent::ApprovedBasket;
use crate::domain::logs::{LogOwner, LogTarget};
use crate::domain::plan::{Plan, Refusal, Risk, When};
use crate::domain::reading::Reading;
use crate::domain::reclaim::Choice;
use crate::domain::snapshot::{ChosenFile, Snapshot, SnapshotPart};
use crate::domain::sweep::{Ages, SweepRule, SweepTarget};
use crate::domain::text::HostPath;
use crate::engine::Engine;
use crate::exec;
use crate::scan::{NodeId, Scan};
use crate::sys::stuck::Watch;

use super::effect::{Effect, Exit, Pick, Target, Wish};
use super::event::{Event, Listed, Ticket};
use super::lister::Lister;
use super::model::{Model, pick_of};
use super::output::Screen;
use super::overlay::Aim;
use super::workers::Workers;
use super::{input, signals, supervise, terminal, update};

/// Time between two frames: 60 a second.
const FRAME: Duration = Duration::from_micros(16_667);
/// How long a run that was cancelled is waited for when the program has to end. Every step can be taken up
/// again where it was left (SAFETY.md T12).
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The same where it has stopped a service for its time, which must start again.
const LAST_WAIT_RESTORING: Duration = Duration::from_mins(1);
/// How often it is looked whether a file system holds that run.
const LOOK: Duration = Duration::from_millis(100);
/// How long a directory that is being read again is waited for before a row of it counts as gone.
const READ_AGAIN: Duration = Duration::from_secs(2);
/// Results that may wait for the loop. Whoever has more waits.
const QUEUE: usize = 256;

/// Runs the console until the person quits.
///
/// # Errors
/// Where the terminal cannot be used.
pub fn run(engine: Engine, start: PathBuf) -> io::Result<ExitCode> {
    if !terminal::present() {
        return Err(io::Error::other(
            "the console needs a terminal, and standard input or output is none; \
             use --audit for a report that needs no terminal",
        ));
    }
    let loop_ = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = loop_.block_on(async {
        let signals = signals::listen()?;
        terminal::install_panic_hook();
        let hold = terminal::Hold;
        terminal::take()?;
        let mut console = Console::new(engine, start, signals)?;
        let exit = console.run().await?;
        drop(hold);
        console.leave_the_run_behind(exit).await;
        Ok(exit)
    });
    terminal::remove_panic_hook();
    // Threads that hang (a probe on a dead server) must not keep us.
    loop_.shutdown_background();
    outcome.map(|exit| ExitCode::from(exit.code()))
}

struct Console {
    engine: Arc<Engine>,
    model: Model,
    screen: Screen,
    signals: Receiver<Event>,
    keys: Receiver<Event>,
    results: Receiver<Event>,
    workers: Workers,
    /// Scans that were started, for the loop to take over.
    started: Sender<(Ticket, Scan)>,
    scans: Receiver<(Ticket, Scan)>,
    lister: Lister,
    listings: watch::Receiver<Option<Listed>>,
    scan: Option<Scan>,
    /// When the scan began, by the clock that files are stamped with.
    scan_began: SystemTime,
    /// When directories were scanned again.
    scanned_at: HashMap<NodeId, SystemTime>,
    cancel: Arc<AtomicBool>,
    skip: Arc<exec::Skip>,
    /// Whether something changed since the last frame.
    dirty: bool,
    /// The earliest time of the next frame.
    next_frame: Instant,
    /// How long the run under way is waited for when the program has to end.
    last_wait: Duration,
    /// When the program ends whatever happens.
    deadline: Option<Instant>,
    watch: Watch,
}

impl Console {
    fn new(engine: Engine, start: PathBuf, signals: Receiver<Event>) -> io::Result<Self> {
        // A relative path would change its meaning with the working directory, and has no parent to go to.
        let start = std::path::absolute(&start).unwrap_or(start);
        let (answers, results) = mpsc::channel(QUEUE);
        let (started, scans) = mpsc::channel(4);
        let (pressed, keys) = mpsc::channel(QUEUE);
        let size = terminal::size();
        let screen = Screen::new(size, answers.clone())?;
        input::start(pressed)?;
        let tell = answers.clone();
        let (lister, listings) = Lister::start(move |text| {
            let _ = tell.blocking_send(Event::Notice(text));
        })?;
        let (settings, traits) = (engine.settings().clone(), engine.environment().terminal);
        let mut model = Model::new(HostPath::new(start), settings, traits, Timestamp::now());
        model.size = size;
        Ok(Self {
            engine: Arc::new(engine),
            model,
            screen,
            signals,
            keys,
            results,
            workers: Workers::new(answers)?,
            started,
            scans,
            lister,
            listings,
            scan: None,
            scan_began: SystemTime::now(),
            scanned_at: HashMap::new(),
            cancel: Arc::new(AtomicBool::new(false)),
            skip: Arc::default(),
            last_wait: LAST_WAIT,
            dirty: true,
            next_frame: Instant::now(),
            deadline: None,
            watch: Watch::default(),
        })
    }

    /// A run that did not end in its time goes on without a terminal, and nobody waits for it.
    async fn leave_the_run_behind(&mut self, exit: Exit) {
        let goes_on = self.model.run.is_some() && exit != Exit::Crashed;
        if goes_on && supervise::leave_the_run_behind(exit.code()) {
            while let Some(event) = self.results.recv().await {
                if matches!(event, Event::Ran(_) | Event::Crashed) {
                    return;
                }
            }
        }
    }

    async fn run(&mut self) -> io::Result<Exit> {
        let effects = update::start(&mut self.model);
        if let Some(exit) = self.perform_all(effects)? {
            return Ok(exit);
        }
        loop {
            if self.dirty && self.screen.idle() && Instant::now() >= self.next_frame {
                self.draw()?;
            }
            let Some(event) = self.next().await else {
                return Ok(self.model.leaving.unwrap_or(Exit::Crashed));
            };
            if let Some(exit) = self.take_in(event)? {
                return Ok(exit);
            }
            // Drain, then draw. Keys of a paste or a held key are taken in together, but never so many that
            // a signal would wait.
            for _ in 0..QUEUE {
                let Some(event) = self.waiting() else { break };
                if let Some(exit) = self.take_in(event)? {
                    return Ok(exit);
                }
            }
        }
    }

    /// The next thing that happens; none when the deadline has passed, or a file system holds the run that is waited for.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let waits_for_terminal = self.dirty && !self.screen.idle();
            let waits_for_frame = self.dirty && !waits_for_terminal;
            let deadline = self.deadline;
            tokio::select! {
                biased;
                Some(event) = self.signals.recv() => return Some(event),
                Some(event) = self.keys.recv() => return Some(event),
                Some(event) = self.results.recv() => return Some(event),
                Some((ticket, scan)) = self.scans.recv() => {
                    if ticket == self.model.tree.scan {
                        let root = scan.root();
                        self.scan = Some(scan);
                        return Some(Event::ScanStarted { scan: ticket, root });
                    }
                    scan.cancel();
                }
                Ok(()) = self.listings.changed() => {
                    if let Some(listed) = self.listings.borrow_and_update().clone() {
                        return Some(Event::Listed(listed));
                    }
                }
                () = self.screen.drained(), if waits_for_terminal => {
                    return Some(Event::Drawn);
                }
                () = tokio::time::sleep_until(self.next_frame), if waits_for_frame => {
                    return Some(Event::Drawn);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or(self.next_frame)), if deadline.is_some() => {
                    return None;
                }
                () = tokio::time::sleep(LOOK), if deadline.is_some() => {
                    if self.watch.held() {
                        return None;
                    }
                }
            }
        }
    }

    /// What is queued already.
    fn waiting(&mut self) -> Option<Event> {
        self.signals.try_recv().or_else(|_| self.keys.try_recv()).or_else(|_| self.results.try_recv()).ok()
    }

    fn draw(&mut self) -> io::Result<()> {
        self.screen.draw(&self.model)?;
        self.dirty = false;
        self.next_frame = Instant::now() + FRAME;
        update::update(&mut self.model, Event::Drawn);
        Ok(())
    }

    fn take_in(&mut self, event: Event) -> io::Result<Option<Exit>> {
        let lost = matches!(event, Event::TerminalLost);
        if let Event::Resize(columns, rows) = event {
            self.screen.reset((columns, rows))?;
        }
        // The wake-up for a frame changes nothing itself.
        if matches!(event, Event::Drawn) {
            return Ok(None);
        }
        self.dirty = !lost;
        let effects = update::update(&mut self.model, event);
        if self.model.leaving.is_some() && self.deadline.is_none() {
            self.deadline = Some(Instant::now() + self.last_wait);
            supervise::wait_for_the_run();
        }
        self.perform_all(effects)
    }

    fn perform_all(&mut self, effects: Vec<Effect>) -> io::Result<Option<Exit>> {
        for effect in effects {
            if let Some(exit) = self.perform(effect)? {
                return Ok(Some(exit));
            }
        }
        Ok(None)
    }

    fn perform(&mut self, effect: Effect) -> io::Result<Option<Exit>> {
        match effect {
            Effect::Exit(exit) => return Ok(Some(exit)),
            Effect::Suspend => {
                terminal::give_back();
                terminal::stop_group();
                self.resume()?;
            }
            Effect::Resume => self.resume()?,
            Effect::Redraw => self.screen.reset(self.model.size)?,
            Effect::Probe => self.probe(),
            Effect::Assess => {
                let findings = self.engine.findings(&self.model.snapshot);
                let effects = update::update(&mut self.model, Event::Found(findings));
                return self.perform_all(effects);
            }
            Effect::Survey => self.survey(),
            Effect::Scan { scan, path } => self.start_scan(scan, path),
            Effect::List { dir, sort, reverse, window, now } => {
                if let Some(scan) = &self.scan {
                    self.lister.show((self.model.tree.scan, scan), dir, (sort, reverse), window, now);
                }
            }
            Effect::Check { dir } => self.check(dir),
            Effect::Rescan { dir, or_else } => {
                if let Some(scan) = &self.scan {
                    self.scanned_at.insert(dir, SystemTime::now());
                    self.lister.rescan(scan, dir, or_else);
                }
            }
            Effect::Forget(nodes) => {
                if let Some(scan) = &self.scan {
                    self.lister.forget(scan, nodes);
                }
            }
            Effect::Inspect { ticket, pick } => self.inspect(ticket, &pick),
            Effect::Plan { ticket, wish } => self.plan(ticket, wish),
            Effect::Account { scan } => self.account(scan),
            Effect::Run(approved) => self.start_run(*approved),
            Effect::CancelRun => self.cancel.store(true, Ordering::SeqCst),
            Effect::SkipStep(number) => self.skip.ask(number),
            Effect::Panic => self.panic_for_the_tests(),
        }
        Ok(None)
    }

    #[expect(
        clippy::panic,
        reason = "the tests press a key of debug builds that proves what a panic leaves behind"
    )]
    fn panic_for_the_tests(&self) {
        panic!("asked to by a key, with {} overlays open", self.model.overlays.len());
    }

    /// Takes the terminal (again) and draws everything at its present size.
    fn resume(&mut self) -> io::Result<()> {
        terminal::take()?;
        let (columns, rows) = terminal::size();
        self.screen.reset((columns, rows))?;
        update::update(&mut self.model, Event::Resize(columns, rows));
        self.dirty = true;
        Ok(())
    }

    fn probe(&self) {
        let engine = Arc::clone(&self.engine);
        self.workers.spawn("probes", move |answers| {
            let sender = answers.clone();
            engine.probe(&move |part| {
                let _ = sender.blocking_send(Event::Probed(Box::new(part)));
            });
            let _ = answers.blocking_send(Event::ProbesEnded);
        });
    }

    fn survey(&self) {
        let Some(scan) = self.scan.clone() else { return };
        let engine = Arc::clone(&self.engine);
        let snapshot = self.model.snapshot.clone();
        self.workers.spawn("survey", move |answers| {
            let scanned = engine.scanned(&[&scan], &snapshot);
            let _ = answers.blocking_send(Event::Probed(Box::new(SnapshotPart::Scanned(scanned))));
        });
    }

    fn start_scan(&mut self, ticket: Ticket, path: HostPath) {
        self.lister.drop_scan();
        self.scan_began = SystemTime::now();
        self.scanned_at.clear();
        if let Some(old) = self.scan.take() {
            old.cancel();
        }
        let engine = Arc::clone(&self.engine);
        let scans = self.started.clone();
        // Opening a directory on a dead server may never return.
        self.workers.spawn("scan", move |answers| match engine.scan(path.as_path()) {
            // Where nobody waits for it any more, it is dropped, which cancels it.
            Ok(scan) => drop(scans.blocking_send((ticket, scan))),
            Err(error) => {
                let _ = answers.blocking_send(Event::ScanFailed { scan: ticket, why: error.to_string() });
            }
        });
    }

    /// Looks whether a directory changed since it was scanned. Its server may be gone by now.
    fn check(&self, dir: NodeId) {
        let Some(scan) = self.scan.clone() else { return };
        let engine = Arc::clone(&self.engine);
        let ticket = self.model.tree.scan;
        let since = self.scanned_at.get(&dir).copied().unwrap_or(self.scan_began);
        self.workers.spawn("check", move |answers| {
            let path = scan.path(dir);
            let event = match engine.changed_since(path.as_path(), since) {
                Ok(true) => Event::Changed { scan: ticket, dir },
                Ok(false) => return,
                Err(why) => Event::Notice(why),
            };
            let _ = answers.blocking_send(event);
        });
    }

    fn inspect(&self, ticket: Ticket, pick: &Pick) {
        let Some(scan) = self.scan.clone() else { return };
        let engine = Arc::clone(&self.engine);
        let Pick { node, apparent, allocated, entries, .. } = *pick;
        self.workers.spawn("identity", move |answers| {
            let path = scan.path(node);
            let outcome = Box::new(engine.choose(path.as_path(), apparent, allocated, entries));
            let names = scan.other_names(node);
            let _ = answers.blocking_send(Event::Inspected { ticket, outcome, names });
        });
    }

    fn account(&self, ticket: Ticket) {
        let engine = Arc::clone(&self.engine);
        let snapshot = self.model.snapshot.clone();
        let scan = self.scan.clone();
        self.workers.spawn("ledger", move |answers| {
            let outcome = scan.and_then(|scan| engine.account(&scan, &snapshot));
            let outcome = outcome.map(|ledger| ledger.map(Box::new));
            let _ = answers.blocking_send(Event::Accounted { scan: ticket, outcome });
        });
    }

    fn plan(&self, ticket: Ticket, wish: Wish) {
        let engine = Arc::clone(&self.engine);
        let snapshot = self.model.snapshot.clone();
        let scan = self.scan.clone();
        self.workers.spawn("plan", move |answers| {
            let (picks, requests, mut targets, make): (_, Vec<Request>, Vec<Target>, Maker) = match wish {
                Wish::Other(request) => (Vec::new(), vec![request], Vec::new(), Box::new(Request::Delete)),
                Wish::Sweep { dir, targets } => {
                    (Vec::new(), vec![Request::Sweep(vec![*dir])], targets, Box::new(Request::Delete))
                }
                Wish::Delete(picks) => (picks, Vec::new(), Vec::new(), Box::new(Request::Delete)),
                Wish::Evacuate { picks, to } => {
                    let make = |files| Request::Evacuate { files, to, unfit: None, one_way: Vec::new() };
                    (picks, Vec::new(), Vec::new(), Box::new(make))
                }
                Wish::SweepRow { pick, secs } => {
                    let make = move |dirs: Vec<ChosenFile>| sweep_of(&dirs, secs);
                    (vec![pick], Vec::new(), Vec::new(), Box::new(make))
                }
                Wish::RotateRow { pick, keep_lines } => {
                    let make = move |files: Vec<ChosenFile>| last_lines_of(files, keep_lines);
                    (vec![pick], Vec::new(), Vec::new(), Box::new(make))
                }
                Wish::Basket { picks, requests } => (picks, requests, Vec::new(), Box::new(Request::Delete)),
                Wish::Reclaim(goal) => {
                    let (basket, aim) = reclaim(&engine, goal, &snapshot);
                    let (basket, aim) = (Box::new(basket), Some(Box::new(aim)));
                    let (targets, sweeps) = (Vec::new(), Vec::new());
                    let _ = answers.blocking_send(Event::Planned { ticket, basket, aim, targets, sweeps });
                    return;
                }
            };
            let mut maker = Plans { engine: &engine, snapshot: &snapshot, sweeps: Vec::new() };
            let mut plans: Vec<_> = requests.into_iter().map(|request| maker.plan(request)).collect();
            if !picks.is_empty() {
                let Some(scan) = scan else { return };
                let (chosen, refused, of_tree) = freeze(&engine, &scan, picks);
                let mut plan = maker.plan(make(chosen));
                plan.refused.extend(refused);
                plans.push(plan);
                targets = of_tree;
            }
            let sweeps = maker.sweeps;
            let basket = Box::new(engine.basket(plans, &snapshot));
            let _ = answers.blocking_send(Event::Planned { ticket, basket, aim: None, targets, sweeps });
        });
    }

    fn start_run(&mut self, approved: ApprovedBasket) {
        let engine = Arc::clone(&self.engine);
        // A new flag for each run: a cancel that comes late cannot hit the next one.
        self.cancel = Arc::new(AtomicBool::new(false));
        self.skip = Arc::default();
        let mut steps = approved.basket().parts.iter().flat_map(|plan| &plan.steps);
        let restores = steps.any(|step| step.when == When::Restores);
        self.last_wait = if restores { LAST_WAIT_RESTORING } else { LAST_WAIT };
        let (cancel, skip) = (Arc::clone(&self.cancel), Arc::clone(&self.skip));
        self.workers.spawn("run", move |answers| {
            let receipt = engine.run_all(approved, (&cancel, &skip), &|progress| {
                // Progress may be lost: the run never waits for the screen.
                let _ = answers.try_send(Event::Running(progress));
            });
            let _ = answers.blocking_send(Event::Ran(Box::new(receipt)));
        });
    }
}

/// Makes the request about rows of the tree, once they are frozen.
type Maker = Box<dyn FnOnce(Vec<ChosenFile>) -> Request>;

/// Makes plans, and keeps the lists of the sweeps among them.
struct Plans<'a> {
    engine: &'a Engine,
    snapshot: &'a Snapshot,
    sweeps: Vec<SweepTarget>,
}

impl Plans<'_> {
    fn plan(&mut self, request: Request) -> Plan {
        let request = match request {
            Request::Sweep(dirs) => {
                let dirs = self.engine.sweep_lists(&dirs, self.snapshot);
                self.sweeps.extend(dirs.iter().cloned());
                Request::Sweep(dirs)
            }
            Request::RotateLog(files) => return self.rotation(files),
            other => other,
        };
        self.engine.plan(&request, self.snapshot)
    }

    /// What the run would refuse is told before anybody types a name for it.
    fn rotation(&self, files: Vec<LogTarget>) -> Plan {
        let (mut fit, mut refused) = (Vec::new(), Vec::new());
        for file in files {
            match self.engine.unfit_for_rotation(file.path.as_path()) {
                Some(why) => refused.push(Refusal { what: file.path.to_string(), why }),
                None => fit.push(file),
            }
        }
        let mut plan = self.engine.plan(&Request::RotateLog(fit), self.snapshot);
        plan.refused.extend(refused);
        plan
    }
}

/// Removes what is older than this from a directory of the tree. Names that the settings keep stay in any case.
fn sweep_of(dirs: &[ChosenFile], secs: u64) -> Request {
    let ages = Ages { file_secs: secs, empty_dir_secs: secs, dir_secs: secs };
    let target = |dir: &ChosenFile| SweepTarget {
        path: dir.path.clone(),
        id: dir.id,
        rule: Some(SweepRule { ages, keep: Vec::new(), also: Vec::new(), own_root: false }),
        list: Reading::Pending,
    };
    Request::Sweep(dirs.iter().map(target).collect())
}

/// Drops all but the last lines of a file of the tree.
fn last_lines_of(files: Vec<ChosenFile>, keep_lines: u64) -> Request {
    let target = |file: ChosenFile| LogTarget {
        path: file.path,
        id: file.id,
        allocated: file.allocated,
        writers: file.open_by,
        owner: LogOwner::Program,
        keep_lines: Some(keep_lines),
    };
    Request::RotateLog(files.into_iter().map(target).collect())
}

/// The safest steps for a goal. The console may offer what interrupts: it asks for a typed word then.
fn reclaim(engine: &Engine, goal: Goal, snapshot: &Snapshot) -> (Basket, Aim) {
    let mut found = engine.choose_for(goal, Risk::Disruptive, snapshot);
    if found.needs_root {
        let why = format!("outside the console: {}", found.as_root());
        found.left_out.push(Refusal { what: "what only root can do".to_owned(), why });
    }
    let Choice { basket, promised, reaches, next } = found.choice;
    let aim =
        Aim { goal: found.goal, promised, reaches, next, left_out: found.left_out, missing: found.missing };
    (basket, aim)
}

/// A row that was picked, as it is in the tree now. While its directory is read again it has another node, or none yet:
/// it is found by its name then.
fn target(scan: &Scan, pick: Pick, until: Instant) -> Target {
    let path = scan.path(pick.node);
    if !path.as_bytes().is_empty() {
        return Target { path, pick };
    }
    loop {
        let dir = scan.path(pick.parent);
        let name: &OsStr = OsStrExt::from_bytes(pick.name.as_bytes());
        let there = HostPath::new(dir.as_path().join(name));
        let row = if dir.as_bytes().is_empty() { None } else { scan.find(there.as_path()) };
        if let Some(row) = row.filter(|row| !row.flags.scanning) {
            return Target { path: there, pick: pick_of(&row, pick.parent) };
        }
        if Instant::now() >= until {
            return Target { path: HostPath::default(), pick };
        }
        std::thread::sleep(FRAME);
    }
}

/// Freezes what was picked: paths and identities as they are now. What lies inside something that was picked
/// too goes with it and is not counted twice.
fn freeze(engine: &Engine, scan: &Scan, picks: Vec<Pick>) -> (Vec<ChosenFile>, Vec<Refusal>, Vec<Target>) {
    let until = Instant::now() + READ_AGAIN;
    let mut targets: Vec<Target> = picks.into_iter().map(|pick| target(scan, pick, until)).collect();
    targets.sort_by(|a, b| a.path.as_path().cmp(b.path.as_path()));
    let mut refused = Vec::new();
    // What was taken out of the tree since it was marked has no path any more.
    targets.retain(|target| {
        let there = !target.path.as_bytes().is_empty();
        if !there {
            let why = "it is not in the tree any more; r looks again".to_owned();
            refused.push(Refusal { what: target.pick.name.to_string(), why });
        }
        there
    });
    let (_, snapshots) = scan.left_out(usize::MAX);
    targets.retain(|target| {
        let inside = snapshots.iter().find(|snapshot| snapshot.as_path().starts_with(target.path.as_path()));
        if let Some(snapshot) = inside {
            let why = format!(
                "{snapshot} is a btrfs snapshot, which is not counted and never goes with a directory; remove it first: \
                 btrfs subvolume delete {}",
                snapshot.quoted()
            );
            refused.push(Refusal { what: target.path.to_string(), why });
        }
        inside.is_none()
    });
    let mut outer: Option<HostPath> = None;
    targets.retain(|target| {
        if let Some(dir) = &outer
            && target.path.as_path().starts_with(dir.as_path())
        {
            let why = format!("it goes with {dir}, which is marked too");
            refused.push(Refusal { what: target.path.to_string(), why });
            return false;
        }
        outer = Some(target.path.clone());
        true
    });
    let mut chosen = Vec::new();
    let around = engine.look_around();
    for target in &targets {
        let pick = &target.pick;
        match engine.choose_among(&around, target.path.as_path(), pick.apparent, pick.allocated, pick.entries)
        {
            Ok(file) => chosen.push(file),
            Err(why) => refused.push(Refusal { what: target.path.to_string(), why }),
        }
    }
    (chosen, refused, targets)
}
