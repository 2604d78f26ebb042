//! What tmpfiles.d(5) says must stay in directories for temporary files: its `x` and `X` lines.

use std::path::{Path, PathBuf};

/// Where the configuration is; the first wins over a file of the same name in the others, but a line that keeps something
/// is believed wherever it is.
const DIRS: [&str; 4] =
    ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// Patterns of whole paths that stay. What cannot be read is not there.
pub fn kept_paths(rooted: impl Fn(&str) -> PathBuf) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    for dir in DIRS {
        let Ok(entries) = std::fs::read_dir(rooted(dir)) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "conf") {
                kept.extend(std::fs::read(&path).ok().into_iter().flat_map(|text| parse(&text)));
            }
        }
    }
    kept
}

fn parse(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|&byte| byte == b'\n').filter_map(kept).collect()
}

fn kept(line: &[u8]) -> Option<Vec<u8>> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    // Modifiers may follow the type: `x!`.
    let kind = words.next()?.first()?;
    let path = words.next()?;
    let path = path.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(path);
    let absolute = Path::new(std::str::from_utf8(path).unwrap_or("/")).is_absolute();
    (matches!(kind, b'x' | b'X') && absolute).then(|| path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_x_lines_are_taken() {
        let text = b"# comment x /no\nx /tmp/systemd-private-%b-*\nX! \"/var/tmp/keep\"\nd /tmp 1777 root root 10d\n\
                     x relative\nx\nR! /tmp/.X[0-9]*-lock\n";
        assert_eq!(parse(text), [b"/tmp/systemd-private-%b-*".to_vec(), b"/var/tmp/keep".to_vec()]);
    }
}
