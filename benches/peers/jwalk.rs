//! jwalk, which is a library, with the least that makes it a du: sizes are looked at by its threads, and added up.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jwalk::WalkDirGeneric;

/// Makes this program jwalk instead of the bench.
pub const FLAG: &str = "--jwalk";

/// Its name in the tables. `Cargo.lock` has the version that takes part.
pub fn name() -> String {
    let version = include_str!("../../Cargo.lock")
        .split_once("name = \"jwalk\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next());
    format!("jwalk {}", version.unwrap_or_default())
}

/// What a thread finds out of an entry: the bytes allocated, and the inode of a file with several names.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    allocated: u64,
    linked: Option<u64>,
}

/// Prints what a tree takes. The exit code is 1 where something could not be read.
pub fn main(root: &Path) -> i32 {
    let device = match std::fs::symlink_metadata(root) {
        Ok(stat) => stat.dev(),
        Err(error) => {
            eprintln!("{}: {error}", root.display());
            return 2;
        }
    };
    let walk = WalkDirGeneric::<((), Option<Size>)>::new(root).skip_hidden(false).process_read_dir(
        move |_, _, (), children| {
            for child in children.iter_mut().flatten() {
                let Ok(stat) = child.metadata() else { continue };
                if stat.dev() == device {
                    let linked = (!stat.is_dir() && stat.nlink() > 1).then(|| stat.ino());
                    child.client_state = Some(Size { allocated: stat.blocks() * 512, linked });
                } else {
                    child.read_children_path = None;
                }
            }
        },
    );
    let (mut allocated, mut code, mut linked) = (0, 0, HashSet::new());
    for entry in walk {
        let Ok(entry) = entry else {
            code = 1;
            continue;
        };
        if let Some(size) = entry.client_state
            && size.linked.is_none_or(|inode| linked.insert(inode))
        {
            allocated += size.allocated;
        }
    }
    println!("{allocated}");
    code
}
