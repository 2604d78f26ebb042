//! What tmpfiles.d(5) says must stay in directories for temporary files: its `x` and `X` lines.

use std::path::PathBuf;

use super::plain_file;
use crate::domain::sweep::KeptPath;

/// Where the configuration is; the first wins over a file of the same name in the others, but a line that keeps something
/// is believed wherever it is.
const DIRS: [&str; 4] =
    ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// Bytes of one such file at most; those of distributions have a few KiB.
const MOST: u64 = 1 << 20;

/// Patterns of whole paths that stay. What cannot be read is not there.
pub fn kept_paths(rooted: impl Fn(&str) -> PathBuf) -> Vec<KeptPath> {
    let mut kept = Vec::new();
    for dir in DIRS {
        let Ok(entries) = std::fs::read_dir(rooted(dir)) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "conf") {
                kept.extend(plain_file::whole(&path, MOST).ok().into_iter().flat_map(|text| parse(&text)));
            }
        }
    }
    kept
}

fn parse(text: &[u8]) -> Vec<KeptPath> {
    text.split(|&byte| byte == b'\n').filter_map(kept).collect()
}

/// What a line keeps; none where it keeps nothing.
fn kept(line: &[u8]) -> Option<KeptPath> {
    let line = line.trim_ascii();
    // Modifiers may follow the type (`x!`), and quotes may stand around it.
    let kind =
        line.iter().find(|byte| !matches!(byte, b'"' | b'\'')).filter(|byte| matches!(byte, b'x' | b'X'))?;
    let below = *kind == b'x';
    let mut rest = line;
    if word(&mut rest).is_none() {
        return Some(KeptPath::Anything);
    }
    if rest.trim_ascii().is_empty() {
        // Without a path it is no line that means anything.
        return None;
    }
    let glob = word(&mut rest).and_then(|path| without_specifiers(&path));
    Some(match glob {
        Some(glob) if glob.starts_with(b"/") => KeptPath::Pattern { glob, below },
        // systemd-tmpfiles(8) takes no other path.
        Some(_) => return None,
        None => KeptPath::Anything,
    })
}

/// Takes the next word off a line as systemd does (`extract_first_word`, with quotes and C escapes undone); none where that
/// cannot be done.
fn word(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut bytes = rest.trim_ascii_start().iter().copied();
    let (mut out, mut quote) = (Vec::new(), None);
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', _) => out.push(escape(&mut bytes)?),
            (_, Some(open)) if byte == open => quote = None,
            (b'"' | b'\'', None) => quote = Some(byte),
            (b' ' | b'\t', None) => break,
            (other, _) => out.push(other),
        }
    }
    let left = bytes.len();
    let from = rest.len().saturating_sub(left);
    *rest = rest.get(from..).unwrap_or_default();
    quote.is_none().then_some(out)
}

/// One C escape (`cunescape_one`, src/basic/escape.c), of those that make one byte.
fn escape(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let number = |digits: Vec<u8>, radix: u32| {
        let count = if radix == 16 { 2 } else { 3 };
        let text = std::str::from_utf8(&digits).ok().filter(|text| text.len() == count)?;
        u8::from_str_radix(text, radix).ok()
    };
    Some(match bytes.next()? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b's' => b' ',
        b't' => b'\t',
        b'v' => 11,
        same @ (b'\\' | b'"' | b'\'') => same,
        b'x' => number(bytes.take(2).collect(), 16)?,
        first @ b'0'..=b'3' => number(std::iter::once(first).chain(bytes.take(2)).collect(), 8)?,
        _ => return None,
    })
}

/// Undoes the specifiers of tmpfiles.d(5): those for a directory are what they are for the system's own instance, those for
/// one name may be any name. None where one is not known.
fn without_specifiers(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = path.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let stands_for: &[u8] = match bytes.next()? {
            b'%' => b"%",
            b'C' => b"/var/cache",
            b'L' => b"/var/log",
            b'S' => b"/var/lib",
            b'T' => b"/tmp",
            b'V' => b"/var/tmp",
            b'h' => b"/root",
            b't' => b"/run",
            b'a' | b'A' | b'b' | b'B' | b'g' | b'G' | b'H' | b'l' | b'm' | b'M' | b'o' | b'q' | b'u'
            | b'U' | b'v' | b'w' | b'W' => b"*",
            _ => return None,
        };
        out.extend(stands_for);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_x_lines_are_taken() {
        let text = b"# comment x /no\nx /tmp/systemd-private-%b-*\nX! \"/var/tmp/keep\"\nd /tmp 1777 root root 10d\n\
                     x relative\nx\nR! /tmp/.X[0-9]*-lock\n";
        let pattern = |glob: &str, below| KeptPath::Pattern { glob: glob.into(), below };
        assert_eq!(parse(text), [pattern("/tmp/systemd-private-*-*", true), pattern("/var/tmp/keep", false)]);
    }

    #[test]
    fn quotes_escapes_and_specifiers_are_undone_and_what_is_not_understood_keeps_everything() {
        let glob = |line: &str| match kept(line.as_bytes()) {
            Some(KeptPath::Pattern { glob, .. }) => String::from_utf8(glob).unwrap(),
            other => panic!("{line}: {other:?}"),
        };
        for (line, path) in [
            (r#"x "/tmp/in quotes""#, "/tmp/in quotes"),
            (r"x /tmp/c\x20escape", "/tmp/c escape"),
            (r"x /tmp/o\040ctal", "/tmp/o ctal"),
            ("X! '/tmp/X quoted' - - - -", "/tmp/X quoted"),
            (r#"x /tmp/"a b"c"#, "/tmp/a bc"),
            ("x %T/%m/50%%", "/tmp/*/50%"),
            ("\"x\"\t/tmp/tab", "/tmp/tab"),
        ] {
            assert_eq!(glob(line), path, "{line}");
        }
        for line in ["x \"/tmp/open", r"x /tmp/\q", "x %?/a", r"x /tmp/\x2"] {
            assert_eq!(kept(line.as_bytes()), Some(KeptPath::Anything), "{line}");
        }
    }
}
