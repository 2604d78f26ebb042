//! Builds as text: what runs, contexts, locks, and where builds put their data.

use std::io::{self, Write};

use super::table::{Align, Table};
use crate::domain::builds::{BuildContext, BuildPlace, Builds, BuildxState, ContextReason, RunningBuild};
use crate::domain::engines::EngineKind;
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::text::HostPath;

/// Rows of a table; the JSON has all.
const ROWS: usize = 15;

/// Writes the section.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let Some(builds) = snapshot.builds.value() else { return super::text::gaps(out, &snapshot.builds) };
    if !builds.running.is_empty() {
        writeln!(out, "\nRunning builds")?;
        running(out, &builds.running)?;
    }
    for context in &builds.contexts {
        self::context(out, context)?;
    }
    locks(out, builds)?;
    writeln!(out, "\nWhere builds put their data")?;
    places(out, &builds.places)?;
    for state in &builds.buildx {
        buildx(out, state)?;
    }
    buildx_volumes(out, snapshot)?;
    beyond_prune(out, snapshot)?;
    super::text::gaps(out, &snapshot.builds)
}

fn running(out: &mut dyn Write, builds: &[RunningBuild]) -> io::Result<()> {
    let mut table = Table::new([
        ("pid", Align::Right),
        ("seconds", Align::Right),
        ("processes", Align::Right),
        ("cpu", Align::Right),
        ("tool", Align::Left),
        ("directory", Align::Left),
    ]);
    for build in builds.iter().take(ROWS) {
        table.row([
            build.root.pid.to_string(),
            build.age_secs.to_string(),
            build.processes.to_string(),
            if build.by_engine { "engine".to_owned() } else { build.cpu.to_string() },
            build.tool.to_string(),
            build.directory.as_ref().map_or_else(|| "not readable".to_owned(), HostPath::to_string),
        ]);
    }
    table.write(out)?;
    match builds.len().saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "  … and {more} more (all are in --format json)"),
    }
}

fn context(out: &mut dyn Write, context: &BuildContext) -> io::Result<()> {
    let because = match context.because {
        ContextReason::Running { build } => format!("pid {} builds it", build.pid),
        ContextReason::Asked => "asked for".to_owned(),
        ContextReason::Here => "the current directory".to_owned(),
    };
    writeln!(out, "\nBuild context {} ({because})", context.directory)?;
    if let Some(content) = context.content.value() {
        let rules = context
            .ignore_file
            .as_ref()
            .map_or_else(|| "no .dockerignore".to_owned(), |file| format!("by {file}"));
        writeln!(out, "  {} in {} files would be sent ({rules})", content.size, content.files)?;
        for dir in &content.unwanted {
            writeln!(out, "  in it: {} with {}", dir.path, dir.size)?;
        }
        for file in content.largest.iter().take(5) {
            writeln!(out, "  large: {} in {}", file.size, file.path)?;
        }
    }
    if let Some(file) = &context.dockerfile {
        for step in &context.uncached {
            writeln!(
                out,
                "  hint: {file}, line {}: {} without a cache mount ({})",
                step.line, step.manager, step.mount
            )?;
        }
    }
    super::text::gaps(out, &context.content)
}

fn locks(out: &mut dyn Write, builds: &Builds) -> io::Result<()> {
    if builds.locks.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nLocks of package managers")?;
    for lock in &builds.locks {
        match &lock.holder {
            Some(holder) => writeln!(
                out,
                "  {}: pid {} ({}), has run for {} s",
                lock.path, holder.process.pid, holder.command, holder.age_secs
            )?,
            None => writeln!(out, "  {}: a process that cannot be seen", lock.path)?,
        }
    }
    Ok(())
}

fn places(out: &mut dyn Write, places: &[BuildPlace]) -> io::Result<()> {
    let mut table = Table::new([
        ("avail", Align::Right),
        ("use%", Align::Right),
        ("inode%", Align::Right),
        ("mounted on", Align::Left),
        ("what", Align::Left),
        ("directory", Align::Left),
    ]);
    for place in places {
        let dash = || "-".to_owned();
        let (available, used, inodes) = place.usage.value().map_or_else(
            || (dash(), dash(), dash()),
            |usage| {
                let inodes = if usage.inodes == 0 { dash() } else { usage.inodes_share().to_string() };
                (usage.available.to_string(), usage.used_share().to_string(), inodes)
            },
        );
        table.row([
            available,
            used,
            inodes,
            place.mount_point.as_ref().map_or_else(dash, HostPath::to_string),
            place.what.clone(),
            place.path.to_string(),
        ]);
    }
    table.write(out)?;
    places.iter().try_for_each(|place| super::text::gaps(out, &place.usage))
}

fn buildx(out: &mut dyn Write, state: &BuildxState) -> io::Result<()> {
    writeln!(
        out,
        "  {}: {} builders defined, {} with a record of use",
        state.path,
        state.instances,
        state.activity.len()
    )?;
    for old in state.activity.iter().filter(|activity| !activity.exists) {
        let last = old
            .last
            .map_or_else(|| "an unknown time".to_owned(), |last| last.strftime("%Y-%m-%d").to_string());
        writeln!(out, "    activity/{}: last used {last}, its builder is gone", old.builder)?;
    }
    if state.half_written > 0 {
        writeln!(out, "    activity/.tmp-*: {} files half written", state.half_written)?;
    }
    if state.foreign > 0 {
        writeln!(
            out,
            "    activity: {} files belong to another user than the home directory: builds of its owner fail on them",
            state.foreign
        )?;
    }
    if let Some(why) = &state.not_writable {
        writeln!(out, "    nothing of it can be written: {why}")?;
    }
    for path in &state.damaged {
        writeln!(out, "    {path}: buildx cannot read it")?;
    }
    Ok(())
}

/// Volumes in which builders of the docker-container driver keep their cache. `docker system df` counts them as
/// volumes, `docker builder prune` of another builder does not reach them.
fn buildx_volumes(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    for engine in snapshot.engines.value().into_iter().flatten() {
        let volumes = engine.content.value().into_iter().flat_map(|content| &content.volumes);
        for volume in volumes {
            let name = volume.name.as_bytes();
            if name.starts_with(b"buildx_buildkit_") && name.ends_with(b"_state") {
                let size = volume.size.map_or_else(|| "size not known".to_owned(), |size| size.to_string());
                writeln!(out, "  buildx state volume {} of {}: {size}", volume.name, engine.kind)?;
            }
        }
    }
    Ok(())
}

/// What a scan found in docker's store beyond what docker sums up itself: layers and files that no prune removes.
fn beyond_prune(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let docker = snapshot
        .engines
        .value()
        .into_iter()
        .flatten()
        .find(|engine| engine.kind == EngineKind::Docker)
        .and_then(|engine| Some((&engine.store, engine.content.value()?)));
    let (Some((store, content)), Some(scanned)) = (docker, snapshot.scanned.value()) else { return Ok(()) };
    let mut places = scanned.caches.iter().flat_map(|kind| &kind.places);
    let Some(size) = places.find(|place| place.path == *store).and_then(|place| place.size) else {
        return Ok(());
    };
    let known = content.accounted_at_most();
    let beyond = size.allocated.saturating_sub(known);
    if beyond > Bytes(size.allocated.0 / 10) {
        writeln!(
            out,
            "  {store} takes {}, docker accounts for {known} at most: {beyond} or more are out of reach of docker system prune",
            size.allocated
        )?;
    }
    Ok(())
}
