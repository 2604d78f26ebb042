//! Container engines, as text: what each keeps.

use std::io::{self, Write};

use super::text::gaps;
use crate::domain::engines::{Content, Engine, EngineKind};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;

/// Writes them; nothing where there are none.
///
/// # Errors
/// What writing says.
pub(super) fn write(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let engines = snapshot.engines.value().map(Vec::as_slice).unwrap_or_default();
    if engines.is_empty() && snapshot.engines.gaps().is_empty() {
        return Ok(());
    }
    writeln!(out, "\nContainer engines")?;
    for engine in engines {
        self::engine(out, engine)?;
    }
    gaps(out, &snapshot.engines)
}

fn engine(out: &mut dyn Write, engine: &Engine) -> io::Result<()> {
    // Of another machine's there is no place to name.
    if let Some(elsewhere) = &engine.elsewhere
        && engine.content.value().is_none()
        && engine.trouble.is_none()
    {
        return writeln!(out, "  {}: {elsewhere}", engine.kind);
    }
    let size = engine.store_size.value().map_or_else(String::new, |size| format!(", {size} on disk"));
    let images = engine.images_at.as_ref().map_or_else(String::new, |at| format!(", images in {at}"));
    writeln!(out, "  {} in {}{images}{size}", engine.kind, engine.store)?;
    if let Some(elsewhere) = engine.elsewhere.as_ref().filter(|_| engine.content.value().is_some()) {
        writeln!(out, "    {elsewhere}")?;
    }
    if let Some(content) = engine.content.value() {
        writeln!(out, "    {}", kept(engine.kind, content))?;
    }
    gaps(out, &engine.content)
}

fn kept(kind: EngineKind, content: &Content) -> String {
    let sum = |sizes: &mut dyn Iterator<Item = Bytes>| sizes.sum::<Bytes>();
    let images = sum(&mut content.images.iter().map(|image| image.size));
    // Of containerd only what was pulled is known, of others what the layers take.
    let as_what =
        if kind == EngineKind::Containerd { " as pulled" } else { ", shared layers counted for each" };
    let mut parts = vec![
        format!("{} images ({images}{as_what})", content.images.len()),
        format!("{} containers", content.containers.len()),
    ];
    if !content.volumes.is_empty() {
        let size = sum(&mut content.volumes.iter().filter_map(|volume| volume.size));
        parts.push(format!("{} volumes ({size})", content.volumes.len()));
    }
    if !content.cache.is_empty() {
        let size = sum(&mut content.cache.iter().map(|record| record.size));
        parts.push(format!("{} records of build cache ({size})", content.cache.len()));
    }
    parts.join(", ")
}
