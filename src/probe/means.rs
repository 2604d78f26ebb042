//! What a kind of cache can be cleaned with on this machine: the owner's program, its users, and what would be deleted
//! where the program is missing.

use std::path::Path;

use super::{Context, caches, chosen, host};
use crate::assets;
use crate::domain::caches::{CacheKind, CachePlace, FrozenPlace, Means};
use crate::domain::catalogue::{Entry, Remove};
use crate::domain::command::ToolUser;
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::snapshot::ChosenFile;
use crate::domain::text::HostPath;
use crate::sys::around::Around;
use crate::sys::tool;

/// Entries of one place that are frozen one by one.
const ENTRIES: usize = 2_000;

/// Looks at it.
pub fn look(context: &Context<'_>, kind: &CacheKind) -> Reading<Means> {
    let entry = match assets::catalogue() {
        Ok(catalogue) => catalogue.get(&kind.entry),
        Err(why) => return Reading::Unavailable { why },
    };
    let Some(entry) = entry else {
        return Reading::Unavailable { why: format!("the catalogue has no entry {}", kind.entry) };
    };
    let missing = missing(entry);
    let frozen = if missing.is_some() && entry.remove != Remove::Never {
        let around = chosen::around(context);
        kind.places.iter().map(|place| freeze(context, &around, entry, place)).collect()
    } else {
        Vec::new()
    };
    let mut busy = Vec::new();
    for place in &kind.places {
        let home = place.home.as_ref().map(HostPath::as_path);
        match caches::busy(context, &kind.entry, place.path.as_path(), home) {
            Ok(reasons) => busy.extend(reasons),
            Err(why) => return Reading::Unavailable { why },
        }
        // What runs is the same for all places; only locks differ.
        if !busy.is_empty() || entry.refuse.locks.is_empty() {
            break;
        }
    }
    Reading::ready(Means { missing, busy, users: users(context, kind), frozen })
}

/// Why the owner's commands cannot be run; none where they can.
fn missing(entry: &Entry) -> Option<String> {
    if entry.clean.is_empty() {
        return Some(format!("{} has no command that cleans it", entry.owner));
    }
    entry.clean.iter().find_map(|command| match tool::find(command.program()) {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("{} is not installed where root's programs are", command.program())),
        Err(why) => Some(why),
    })
}

fn users(context: &Context<'_>, kind: &CacheKind) -> Vec<ToolUser> {
    host::users(context)
        .into_iter()
        .filter(|user| kind.places.iter().any(|place| place.uid == user.uid))
        .map(|user| ToolUser {
            name: Some(user.name),
            uid: user.uid,
            gid: user.gid,
            home: HostPath::from_bytes(user.home),
        })
        .collect()
}

fn freeze(context: &Context<'_>, around: &Around, entry: &Entry, place: &CachePlace) -> FrozenPlace {
    let files = match (&place.protected, entry.remove) {
        (Some(why), _) => Err(why.clone()),
        (None, Remove::Never) => Err("nothing in it may be deleted by hand".to_owned()),
        (None, Remove::Tree) => {
            let size = place.size.unwrap_or_default();
            let path = place.path.as_path();
            chosen::freeze_among(context, around, path, size.apparent, size.allocated, size.entries)
                .map(|file| vec![file])
        }
        (None, Remove::Contents) => contents(context, around, place.path.as_path()),
    };
    // What is deleted must be what was found: not a directory that took its place.
    let files = files.and_then(|files| {
        let is_it = |file: &ChosenFile| match entry.remove {
            Remove::Tree | Remove::Never => file.id.key == place.key,
            Remove::Contents => file.above.first() == Some(&place.key),
        };
        if files.iter().all(is_it) {
            Ok(files)
        } else {
            Err("changed: another directory is there now".to_owned())
        }
    });
    FrozenPlace { place: place.path.clone(), files }
}

/// Everything in a directory; the sizes of single entries are not known.
fn contents(context: &Context<'_>, around: &Around, dir: &Path) -> Result<Vec<ChosenFile>, String> {
    super::answers(context, dir, super::Looking::Into)?;
    let shown = HostPath::from(dir);
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{shown} cannot be listed: {error}"))?;
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("{shown} cannot be listed: {error}"))?;
        if all.len() >= ENTRIES {
            return Err(format!(
                "{shown} has more than {ENTRIES} entries; delete the largest of them in the tree"
            ));
        }
        let allocated = entry.metadata().map_or(Bytes::ZERO, |meta| {
            Bytes(std::os::unix::fs::MetadataExt::blocks(&meta).saturating_mul(512))
        });
        all.push(chosen::freeze_among(context, around, &entry.path(), allocated, allocated, 1)?);
    }
    Ok(all)
}
