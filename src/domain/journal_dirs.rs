//! Where the journal is kept. In one place, because what writes it and what protects it must mean the same.

use std::path::{Path, PathBuf};

/// The directories that records may be in: where they belong, then where they go when they cannot be written there.
///
/// `root` stands for `/`, `uid` is the effective user, `state_home` is that user's `$XDG_STATE_HOME` and `configured` the
/// setting `journal.dir`, empty where it is not set.
pub fn journal_dirs(root: &Path, uid: u32, state_home: &Path, configured: &str) -> [PathBuf; 2] {
    let rooted = |path: &Path| {
        // A home that a test put below its own root is not put there twice.
        if path.starts_with(root) {
            path.to_path_buf()
        } else {
            root.join(path.strip_prefix("/").unwrap_or(path))
        }
    };
    let first = match (configured, uid) {
        ("", 0) => rooted(Path::new("/var/log/unwedge")),
        ("", _) => rooted(&state_home.join("unwedge")),
        (set, _) => rooted(Path::new(set)),
    };
    let second = match uid {
        0 => rooted(Path::new("/run/unwedge")),
        _ => rooted(Path::new(&format!("/run/user/{uid}/unwedge"))),
    };
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_a_person_have_their_own_places() {
        let of = |root: &str, uid, set| {
            journal_dirs(Path::new(root), uid, Path::new("/home/al/.local/state"), set)
                .map(|path| path.to_str().unwrap().to_owned())
        };
        assert_eq!(of("/", 0, ""), ["/var/log/unwedge", "/run/unwedge"]);
        assert_eq!(of("/", 7, ""), ["/home/al/.local/state/unwedge", "/run/user/7/unwedge"]);
        assert_eq!(of("/", 0, "/srv/j"), ["/srv/j", "/run/unwedge"]);
        assert_eq!(of("/fixture", 0, ""), ["/fixture/var/log/unwedge", "/fixture/run/unwedge"]);
        assert_eq!(of("/home", 7, "")[0], "/home/al/.local/state/unwedge");
    }
}
